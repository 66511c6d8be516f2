"""How soon an answer comes: imports, and a first prediction with an empty and with a filled compilation cache.

    python benchmarks/start.py [--checkpoint DIR | --weights FILE] [--video FILE] [--rounds 3] [--json FILE]

Every figure is the time of a whole process, from its start to its end, in seconds: the median of alternating rounds.
Without a checkpoint and a video it takes an untrained R(2+3)D-18 of the published size and a rendered video of 48
frames. With --weights the prediction is by the address of that file on a server of this machine: the first time it is
downloaded into an empty cache and converted, the second time the server is gone. A cold round has an empty cache of
compiled programs, a warm one the cache that a cold round has left. The files of Python and its packages have been read
before in either (a round is thrown away first).
"""

import argparse
import contextlib
import functools
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_PROCESSES = {  # what a process of its own does
    "python": ["-c", "pass"],
    "import r23d_jax": ["-c", "import r23d_jax"],
    "import jax": ["-c", "import jax"],
    "import r23d_jax.models": ["-c", "import r23d_jax.models"],
    "r23d --help": ["-m", "r23d_jax", "--help"],
}


def seconds(arguments: list[str], cache: Path) -> float:
    """Wall-clock time of a Python process; its compiled programs are in `cache`."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"R23D_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@contextlib.contextmanager
def served(file: Path) -> Iterator[str]:
    """Serves a file's folder on this machine while the block runs; yields the file's address."""
    handler = functools.partial(Quiet, directory=str(file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{file.name}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each on stderr."""

    def log_message(self, *args):
        del args


def synthetic(folder: Path) -> tuple[Path, Path]:
    """An untrained checkpoint and a rendered video, by processes of their own."""
    program = f"""
from pathlib import Path
import numpy as np
from r23d_jax import models
from r23d_jax.weights import checkpoint
from r23d_jax.weights.families import torchvision
from r23d_jax.weights.card import Card
from tfds_ucf101 import motion
folder = Path({str(folder)!r})
arguments = {{"num_classes": 400, "frames": 16, "in_channels": 3, "dropout": 0.0}}
model = models.create_from_arguments("r2plus3d_18", arguments)
values = {{name: np.asarray(value) for name, value in models.flatten(model).items()}}
checkpoint.save_weights(folder / "untrained", values, Card("r2plus3d_18", arguments, (), torchvision.preprocessing()))
motion.render(folder / "motion", groups=1, clips=1)
"""
    seconds(["-c", program], folder / "cache")
    return folder / "untrained", next((folder / "motion/videos").rglob("*.avi"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, help="predict with it instead of an untrained network")
    weights.add_argument("--weights", type=Path, help="predict by the address of this file, served on this machine")
    parser.add_argument("--video", type=Path, help="predict this one instead of a rendered one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    flags = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, video = flags.weights or flags.checkpoint, flags.video
        if not (checkpoint and video):
            made = synthetic(folder)
            checkpoint, video = checkpoint or made[0], video or made[1]
        for number in range(flags.rounds + 1):
            cache, found = folder / f"cache{number}", {}
            for key, arguments in _PROCESSES.items():
                found[key] = seconds(arguments, cache)
            with served(checkpoint) if flags.weights else contextlib.nullcontext(checkpoint) as source:
                predict = ["-m", "r23d_jax.predict", "--checkpoint", str(source), str(video)]
                found["predict, cache empty"] = seconds(predict, cache)
            found["predict, cache filled"] = seconds(predict, cache)
            for key, took in found.items() if number else ():  # the first round brings the files into memory
                times.setdefault(key, []).append(took)
    figures = {
        "checkpoint": checkpoint.name,
        "by": "address" if flags.weights else "folder",
        "video": video.name,
        "rounds": flags.rounds,
        "cores": os.cpu_count(),
        "seconds": {key: round(statistics.median(values), 2) for key, values in times.items()},
        "spread": {key: round(max(values) - min(values), 2) for key, values in times.items()},
    }
    print(json.dumps(figures, indent=1))
    if flags.json:
        flags.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
