"""What `r23d probe` reaches on labelled videos, and in which time; with few labels, too.

    PYTHONPATH=. python benchmarks/probe.py WEIGHTS DATA [--splits 1 2 3] [--shots 1 5 10] [--seeds 5]

For every split: a probe from video files to its report in a fresh cache, in a process of its own, with minutes, the
test top1 with its 95 % interval (Wilson) and the cross-validated one; and what it takes again, with all features kept.
For every number of shots: mean and standard deviation of the test top1 over the seeds, which draw the training videos;
and the interval of the mean, as if draws were independent.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from r23d_jax.evaluation import metrics
from r23d_jax.probing import network
from r23d_jax.probing.choose import choose, video_scores
from r23d_jax.probing.data import open_data
from r23d_jax.probing.extract import Extractor, samples_of
from r23d_jax.probing.fit import Options, sides
from r23d_jax.report.numbers import wilson_interval
from r23d_jax.runtime.compile import enable_cache
from r23d_jax.weights import loading


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    command.add_argument("weights")
    command.add_argument("data")
    command.add_argument("--splits", nargs="+", default=["1"])
    command.add_argument("--shots", nargs="*", type=int, default=[1, 5, 10])
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--rest", nargs="*", default=[], help="further arguments of `probe`, without their dashes")
    flags = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["R23D_CACHE"] = folder
        for split in flags.splits:
            for run in ("first", "again"):
                _whole(flags, Path(folder), split, run)
        if flags.shots:
            _few(flags, Path(folder) / f"features{flags.splits[0]}")


def _whole(flags, folder: Path, split: str, run: str) -> None:
    out = folder / f"{run}{split}"
    features = folder / f"features{split}"
    more = [f"--{word}" for word in flags.rest]
    call = [sys.executable, "-m", "r23d_jax.probe", "--weights", flags.weights, flags.data, "--out", str(out)]
    start = time.monotonic()
    subprocess.run(
        [*call, "--split", split, "--features", str(features), *more],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    minutes = (time.monotonic() - start) / 60
    results, probe = (json.loads((out / name).read_text()) for name in ("results.json", "probe.json"))
    count = results["videos_evaluated"]
    low, high = wilson_interval(round(results["top1"] * count), count)
    cross = probe["cross_validation"]
    print(
        f"split {split}, {run}: {minutes:.1f} minutes, {probe['videos_computed']} videos computed; top1 "
        f"{results['top1']:.3f} ({low:.2f} to {high:.2f}), {count}/{results['videos_expected']} {results['part']} "
        f"videos; cross-validated {cross['top1']:.3f} ± {cross['spread']:.3f}; {probe['chosen']}",
        flush=True,
    )


def _few(flags, folder: Path) -> None:
    enable_cache()
    values, card = loading.load_flat(flags.weights, say=lambda line: None)
    extractor = Extractor(network.frozen(values, card, "float32"), folder, print)
    data = open_data(flags.data, flags.splits[0])
    training, test = sides(data, Options())
    features, _ = extractor.run(data, [*training, *test], ("plain", "mirrored"))
    held_out = samples_of(data, features, test)
    for shots in flags.shots:
        found = []
        for seed in range(flags.seeds):
            drawn, _ = sides(data, Options(shots=shots, seed=seed))
            choice = choose(samples_of(data, features, drawn), len(data.class_names), seed)
            scores = video_scores(choice, held_out)
            found.append(np.mean(metrics.ranks(scores, held_out.labels) < 1))
        half = 1.96 * np.std(found, ddof=1) / np.sqrt(len(found))
        print(
            f"{shots} videos a class: top1 {np.mean(found):.3f} ± {np.std(found, ddof=1):.3f} over {len(found)} draws "
            f"(mean {np.mean(found) - half:.2f} to {np.mean(found) + half:.2f}), {len(test)} test videos; each: "
            + " ".join(f"{one:.3f}" for one in found),
            flush=True,
        )


if __name__ == "__main__":
    main()
