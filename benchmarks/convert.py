"""How long the converter takes, and how much memory: `python benchmarks/convert.py [--source FILE] [--back]`.

Without a source it writes an R3D-18 of random weights in the published size (134 MB) first. The conversion
runs in a process of its own, so that time and memory include the imports; what the imports alone take is
measured in another.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_IMPORTS = "import safetensors, orbax.checkpoint, r23d_jax.convert\n"
# Not getrusage, whose peak a process inherits from the one that started it.
_PEAK = "print('peak', 1024 * int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))\n"


def measure(code: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a Python process that runs this code."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code + _PEAK], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return seconds, int(result.stdout.rsplit("peak", 1)[1])


def synthetic(path: Path) -> None:
    """A torchvision-named R3D-18 with random weights."""
    import numpy as np

    from r23d_jax import models
    from r23d_jax.weights import architecture, exporting
    from r23d_jax.weights import card as cards
    from r23d_jax.weights.families import torchvision

    arguments = {"num_classes": 400, "in_channels": 3, "frames": 16}
    leaves = models.flatten(architecture.abstract("r3d_18", arguments))
    rng = np.random.default_rng(0)
    values = {name: rng.random(leaf.shape, np.float32) for name, leaf in leaves.items()}
    state, _ = exporting.to_state_dict(values, cards.Card("r3d_18", arguments, (), torchvision.preprocessing()))
    exporting.write(state, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="a weights file; by default a synthetic R3D-18")
    parser.add_argument("--back", action="store_true", help="measure the way back to .pth too")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source = args.source or folder / "r3d_18.pth"
        if args.source is None:
            synthetic(source)
        size = source.stat().st_size
        idle_seconds, idle = measure(_IMPORTS)
        runs = {"convert": [str(source), str(folder / "ours")]}
        if args.back:
            runs["back"] = [str(folder / "ours"), str(folder / "back.pth")]
        figures = {"file_bytes": size, "imports_seconds": round(idle_seconds, 2), "imports_bytes": idle}
        for name, arguments in runs.items():
            code = f"{_IMPORTS}from r23d_jax import convert\nconvert.main({arguments!r})\n"
            seconds, peak = measure(code)
            figures[name] = {
                "seconds": round(seconds, 2),
                "peak_bytes": peak,
                "files_above_imports": round((peak - idle) / size, 2),
            }
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
