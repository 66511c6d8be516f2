"""Measures the whole training loop, fed from shards by all cores: `python -m r23d_jax.main`, in this process."""

import dataclasses
import os
import threading
import time
from pathlib import Path

from gpu_parts import sizes
from gpu_parts.children import Reporter

# The rest is imported below: the decoding processes import this module, too, and none of it.


def report(reporter: Reporter, workdir: Path, steps: int, facts: dict) -> None:
    """Sends the figures once the log has all steps, or what it has shortly before the end, and ends the process."""
    import training

    from r23d_jax.errors import UserError
    from r23d_jax.training.log import read_metrics

    lines = []
    while not (lines and lines[-1]["step"] >= steps) and reporter.left() > 3:
        time.sleep(0.2)
        if (workdir / "metrics.jsonl").is_file():
            lines = [line for line in read_metrics(workdir) if "clips_per_second" in line]
    try:
        reporter.send(record=facts | training.figures(lines))
    except UserError:
        why = f"{lines[-1]['step'] if lines else 0} steps in its time, too few"
        reporter.send(failed={"name": f"whole loop, {facts['decoding']}", "why": why})
    reporter.end()


def main() -> None:
    import training

    from gpu_parts.combinations import Combination
    from r23d_jax import config as configs
    from r23d_jax.models.ops import hardware
    from r23d_jax.training.loop import train_and_evaluate

    reporter = Reporter()
    settings, size = reporter.settings, sizes.of(reporter.settings["small"])
    folder, cores = Path(settings["folder"]), len(os.sched_getaffinity(0))
    way = Combination(*settings["way"])
    if not (folder / "data").exists():
        training.write_data(folder / "data", size.videos, size.video_frames)
    flags = {"arch": way.arch, "batch": size.batch, "clip": size.clip, "dtype": "bfloat16", "width": size.width}
    flags |= {"steps": size.steps, "log_every": size.log_every}
    flags |= {"processes": cores if settings["decoding"] == "processes" else 0}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    overrides = training.overrides(training.parse(words), folder / "data")
    config, workdir = configs.load("common", [*overrides, f"model.layers={size.layers}"]), folder / settings["decoding"]
    facts = way._asdict() | {"decoding": settings["decoding"], "cores": cores, "batch": size.batch, "clip": size.clip}
    reporting = threading.Thread(target=report, args=(reporter, workdir, size.steps, facts), daemon=True)
    reporting.start()
    with hardware.use(dataclasses.replace(way.policy(), options=way.compiler_options())):
        train_and_evaluate(config, workdir)
    reporting.join()


if __name__ == "__main__":
    main()
