"""`python -m r23d_jax.features --checkpoint DIR --out DIR VIDEO... [--layer NAME]`

Extracts the output of one stage of the network for every clip, one .npz per video: `features` float32 [clips, D],
`start_seconds` [clips], `fps`, `checkpoint_sha256`, `layer` and `protocol`. Maps over time and space are averaged;
with --no-pool they are kept, [clips, time, height, width, D]. Folders are mirrored below --out. Files are written
atomically and finished ones are skipped, so the same command resumes.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.inference import classifier, sources
from r23d_jax.runtime.compile import enable_cache
from r23d_jax.runtime.console import Reporter, add_shared_arguments
from r23d_jax.runtime.files import open_arrays, write_arrays


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    description = __doc__.split("\n\n")[1]
    command = Parser(prog="python -m r23d_jax.features", description=description)
    add_shared_arguments(command)
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the .npz files")
    command.add_argument("--layer", default="pool", help="stem, layer1 and so on; pool, the last, is the default")
    command.add_argument("--no-pool", action="store_true", help="do not average maps over time and space")
    return command


def main() -> int:
    flags = parser().parse_args()
    if flags.out.exists() and not flags.out.is_dir():
        raise UserError(f"--out {flags.out}: is a file")
    reporter = Reporter()
    found, problems = sources.find(flags.videos)
    for problem in problems:
        reporter.problem(problem)
    if not found:
        return 1
    targets = dict(zip(found, sources.outputs(found, flags.out, ".npz"), strict=True))
    enable_cache()
    clf = classifier.load(flags.checkpoint, which=flags.which, dtype=flags.dtype)
    options = {"layer": flags.layer, "pool": not flags.no_pool, "clips": flags.clips}
    clf.stage(flags.layer, True)  # reports an unknown layer before any video is read
    fixed = {
        "checkpoint_sha256": clf.card.tensors_sha256,
        "layer": flags.layer,
        "protocol": clf.feature_protocol(**options),
    }
    to_do = [source for source in found if not is_finished(targets[source], fixed)]
    skipped = len(found) - len(to_do)
    written = 0
    with reporter.bar(to_do) as videos:
        for features in clf.iter_features(videos, failed=reporter.failed, batch_size=flags.batch, **options):
            path, fps = targets[features.source], np.float64(features.fps)
            found = {"features": features.features, "start_seconds": features.start_seconds, "fps": fps}
            write_arrays(path, {**found, **fixed})
            reporter.notes(features.source, features.notes)
            written += 1
            if len(found) == 1:
                reporter.say(f"{path}: features {list(features.features.shape)}")
    finished = f", {skipped} finished before" if skipped else ""
    if len(found) > 1 or skipped:
        reporter.say(f"{written} of {len(to_do)} videos written below {flags.out}{finished}")
    return 1 if reporter.problems else 0


def is_finished(path: Path, fixed: dict[str, str]) -> bool:
    """Returns whether the file is intact and of the same checkpoint, layer and protocol."""
    try:
        with open_arrays(path) as saved:
            arrays = {name: saved[name] for name in saved}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return False
    clips = arrays.get("features", np.zeros(0)).shape[:1]
    return (
        all(str(arrays.get(name)) == value for name, value in fixed.items())
        and {"features", "start_seconds", "fps"} <= arrays.keys()
        and clips == arrays["start_seconds"].shape
    )


if __name__ == "__main__":
    run_command(main)
