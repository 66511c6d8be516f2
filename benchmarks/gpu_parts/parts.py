"""What is measured, part by part, and what is left out where a process fails or time runs out."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpu_parts import children, combinations, sizes
from gpu_parts.combinations import Combination
from gpu_parts.machine import warnings
from gpu_parts.results import Results
from r23d_jax.errors import UserError

# Seconds; the most valuable part first. Together they may be more than a call has: the last ones then get the rest.
LIMITS = {"machine": 60, "step": 180, "torch": 180, "loop": 120, "numerics": 120}


class Call:
    """One call of the benchmark.

    Args:
      results: where everything goes.
      small: whether sizes are small.
      ends: of all parts, by the clock.
      cache: folder of compiled programs and autotuning results.
      clock: of seconds.
    """

    def __init__(
        self, results: Results, small: bool, ends: float, cache: Path, clock: Callable[[], float] = time.monotonic
    ):
        self.results, self.small, self.size = results, small, sizes.of(small)
        self._cache, self._clock = cache, clock
        self._ends, self._part, self._part_ends = ends, "", 0.0

    def begin(self, part: str) -> None:
        """Starts the clock of a part."""
        self._part, self._part_ends = part, min(self._clock() + LIMITS[part], self._ends)
        self.results.say(f"\n== {part}: {self.left():.0f} s of {self._ends - self._clock():.0f} s that are left")

    def left(self) -> float:
        """Returns the seconds that the part may still take."""
        return self._part_ends - self._clock()

    def measure(self, module: str, what: str, **settings: Any) -> Iterator[dict[str, Any]]:
        """Runs a process of the part, keeps its records and failures, and yields all its events.

        Args:
          module: of `gpu_parts`.
          what: it measures, for the lines that are printed.
        """
        seconds, least = self.left(), 2 if self.small else 12
        if seconds < least:  # less than a process takes to start
            self.results.leave(what)
            self.results.say(f"-- {what}: no time left")
            return
        settings |= {"small": self.small}
        environment = {"JAX_COMPILATION_CACHE_DIR": str(self._cache)}
        for event in children.events(f"gpu_parts.{module}", settings, seconds, self.results.log, environment):
            if "machine" in event:
                self.results.add("machine", event["machine"])
            elif "record" in event:
                self.results.add(self._part, event["record"])
                self.results.say(_line(event["record"]))
            elif "failed" in event:
                self.fail(**event["failed"])
            elif "late" in event:
                self.results.leave(f"{what}: {event['ended']}")
                self.results.say(f"-- {what}: {event['ended']}")
            elif "ended" in event:
                self.fail(what, event["ended"])
            yield event

    def fail(self, name: str, why: str) -> None:
        """Notes why something was not measured."""
        self.results.fail(name, why)
        self.results.say(f"-- {name} FAILED: {why}")


def _line(record: dict[str, Any]) -> str:
    """Returns a record in short."""

    def word(value: Any) -> str:
        if isinstance(value, list):
            return "[" + " ".join(map(word, value)) + "]"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {word(value)}" for name, value in record.items() if value not in (False, None))


def machine(call: Call) -> None:
    """Versions, and the rate of a matrix product."""
    before = dict(call.results.content["machine"])
    for _ in call.measure("machine", "machine"):
        pass
    now = call.results.content["machine"]
    same = ("device", "jaxlib", "cudnn")
    changed = [f"{name} {before[name]}" for name in same if name in before and before[name] != now[name]]
    if changed:
        raise UserError(f"the earlier call had {', '.join(changed)}: its figures cannot be continued on this machine")
    if (why := now.get("against_bfloat16")) and not call.small:
        raise UserError(f"{now['device']}, and this measures bfloat16: {why}")
    for warning in warnings(now):
        call.results.say(f"warning: {warning}")


def step(call: Call) -> None:
    """Training steps in all combinations, as many as there is time for."""
    known = {Combination.of(record) for record in call.results.content["step"]}
    wide = 2 if len(os.sched_getaffinity(0)) >= 8 else 1  # programs that are compiled side by side
    planned = combinations.waves(call.size.archs, wide, **({"rounds": 1} if call.small else {}))
    waves = [rest for wave in planned if (rest := [way for way in wave if way not in known])]
    _run_waves(call, waves)
    for arch, record in winners(call.results.content).items():
        call.results.say(f"fastest for {arch}: {Combination.of(record)}: {record['clips_per_s']:.1f} clips/s")


def _run_waves(call: Call, waves: list[list[Combination]]) -> None:
    """Runs waves, again and again where the process dies, without what killed it."""
    while waves:
        at, finished, ended = -1, set(), {"late": True}
        for event in call.measure("step", "training steps", waves=waves):
            at = event.get("begin", at)
            if "record" in event:
                finished.add(str(Combination.of(event["record"])))
            finished.add(event.get("failed", {}).get("name"))
            ended = event
        rest = [[way for way in wave if str(way) not in finished] for wave in waves]
        if "done" in ended or "late" in ended or at < 0:
            for way in itertools.chain(*rest):
                call.results.leave(str(way))
            return
        # Alone, each of the wave shows whether it was the one.
        waves = rest[at + 1 :] + ([[way] for way in rest[at]] if len(waves[at]) > 1 else [])


def winners(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the fastest record of every network, among those whose first step agrees with the others'."""
    best: dict[str, dict[str, Any]] = {}
    for record in content["step"]:
        if record["deterministic"] or record["compiling_beside"] or not agrees(record, content["step"]):
            continue
        if record["clips_per_s"] > best.get(record["arch"], {"clips_per_s": 0})["clips_per_s"]:
            best[record["arch"]] = record
    return best


def agrees(record: dict[str, Any], records: list[dict[str, Any]]) -> bool:
    """Returns whether loss and gradient of a record's first step are near the median of its network's combinations."""
    same = [other for other in records if other["arch"] == record["arch"]]
    for name, tolerance in (("loss", 0.02), ("grad_norm", 0.25)):
        middle = statistics.median(other[name] for other in same)
        if not abs(record[name] - middle) <= tolerance * abs(middle):
            return False
    return True


def torch(call: Call) -> None:
    """torchvision's networks in PyTorch; the eager ones first, which take no time to compile."""
    if call.results.content["machine"].get("torch") == "none":
        call.fail("torchvision", "PyTorch is not installed")
        return
    known = {(record["arch"], record["mode"]) for record in call.results.content["torch"]}
    pairs = [(arch, mode) for mode in ("eager", "compiled") for arch in call.size.theirs if (arch, mode) not in known]
    while pairs:
        begun, ended = None, {"late": True}
        for event in call.measure("theirs", "torchvision", pairs=pairs):
            begun, ended = tuple(event.get("begin", begun or ())), event
        if "done" in ended or "late" in ended or not begun:
            return
        pairs = pairs[pairs.index(begun) + 1 :]  # the process died of this one


def loop(call: Call) -> None:
    """The whole loop, in the way that is fastest for the first network, with decoding processes and with threads."""
    arch = call.size.archs[0]
    best = winners(call.results.content).get(arch)
    way = Combination.of(best) if best else combinations.waves((arch,), 1)[0][0]
    known = {record["decoding"] for record in call.results.content["loop"]}
    ways = ("processes", "threads") if len(os.sched_getaffinity(0)) > 10 else ("threads", "processes")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for decoding in ways:
            if decoding not in known:
                settings = {"way": way, "decoding": decoding, "folder": folder}
                for _ in call.measure("loop", f"whole loop, {decoding}", **settings):
                    pass


def numerics(call: Call) -> None:
    """Losses in float32 and bfloat16, and the cost of deterministic operations."""
    known = [record.get("dtype") for record in call.results.content["numerics"]]
    if dtypes := [dtype for dtype in ("float32", "bfloat16") if dtype not in known]:
        for _ in call.measure("numerics", f"loss in {' and '.join(dtypes)}", dtypes=dtypes):
            pass
    best = winners(call.results.content).get(call.size.archs[0])
    if best and not any("deterministic" in record for record in call.results.content["numerics"]):
        way = Combination.of(best)._replace(deterministic=True)
        for _ in call.measure("step", "deterministic operations", waves=[[way]]):
            pass


PARTS: dict[str, Callable[[Call], None]] = {
    "machine": machine,
    "step": step,
    "torch": torch,
    "loop": loop,
    "numerics": numerics,
}
