"""The loader against what bounds it and against a loader like the R(2+3)D study's, in one run.

    python benchmarks/loader.py [--json FILE]

All decode the same synthetic videos: 128x171, 186 frames, JPEG files of 7.5 kB, clips of 16 frames.
- bare: libjpeg-turbo alone, one thread a core, files in memory, into one buffer a thread. The bound.
- ours: `batches.train_batches`, from shards to batches of uint8 frames in memory; the first epoch, in which
  every record is verified, apart from the ones after it.
- study: JPEG files in folders, opened with Pillow, scaled to a short side of 136, a random multi-scale
  crop resized to 112, a flip, to normalised float tensors; PyTorch's DataLoader with a process a core.
Rounds alternate; ratios are taken within a round, and the median over rounds is reported.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import fake_data  # noqa: E402

from r23d_jax.data import loader as data_loader  # noqa: E402
from r23d_jax.data.records import VideoDataset  # noqa: E402
from r23d_jax.data.workers import cores  # noqa: E402
from r23d_jax.errors import run_command  # noqa: E402

FRAMES, VIDEO_FRAMES, HEIGHT, WIDTH = 16, 186, 128, 171
AHEAD = 2  # batches decoded ahead


def bare(dataset: VideoDataset, workers: int, clips: int) -> Callable[[], None]:
    """Decodes `clips` clips with nothing but the decoder."""
    rng = np.random.default_rng(0)
    data = []
    for position in range(min(len(dataset.videos), clips)):
        start = int(rng.integers(VIDEO_FRAMES - FRAMES + 1))
        data.append([bytes(x) for x in dataset.shards.frames(position, range(start, start + FRAMES))])

    def work(number: int) -> None:
        out = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
        for clip in range(number, clips, workers):
            for t, frame in enumerate(data[clip % len(data)]):
                simplejpeg.decode_jpeg(frame, "RGB", buffer=out[t])

    def run() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))

    return run


class Ours:
    """A stream under way. A call takes `clips` clips from it as fast as they come.

    Args:
      dataset: freshly opened to measure the first epoch.
      clips: of a call.
      batch_size: clips of a batch.
      options: threads, processes.
    """

    def __init__(self, dataset: VideoDataset, clips: int, batch_size: int, **options: int):
        self._batches = clips // batch_size
        self._stream = data_loader.train_batches(
            dataset,
            np.arange(len(dataset.videos)),
            frames=FRAMES,
            batch_size=batch_size,
            seed=0,
            prefetch=AHEAD,
            **options,
        )

    def prepare(self) -> None:
        """Takes what has been decoded ahead, so that as much is under way at the start as at the end."""
        for _ in range(AHEAD + 1):
            next(self._stream)

    def __call__(self) -> None:
        for _ in range(self._batches):
            next(self._stream)

    def close(self) -> None:
        self._stream.close()


class StudyClips:
    """What the study's data set does, as a PyTorch data set; written anew."""

    SCALES = (1.0, 2**-0.25, 2**-0.5, 2**-0.75, 0.5)

    def __init__(self, folder: Path, clips: int):
        self._folders, self._clips = sorted(folder.iterdir()), clips

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, index: int):
        import torch
        from PIL import Image

        folder = self._folders[index % len(self._folders)]
        start, images = random.randint(1, VIDEO_FRAMES - FRAMES + 1), []
        for number in range(start, start + FRAMES):
            with open(folder / f"image_{number:05d}.jpg", "rb") as file, Image.open(file) as image:
                images.append(image.convert("RGB"))
        width, height = 136 * WIDTH // HEIGHT, 136
        images = [image.resize((width, height), Image.BILINEAR) for image in images]
        side = int(height * random.choice(self.SCALES))
        x, y = random.randint(0, width - side), random.randint(0, height - side)
        images = [image.crop((x, y, x + side, y + side)).resize((112, 112), Image.BILINEAR) for image in images]
        if random.random() < 0.5:
            images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
        tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image in images]
        return torch.stack([(tensor - 127.5) / 127.5 for tensor in tensors], 1), index


def study(dataset: VideoDataset, folder: Path, workers: int, clips: int, batch_size: int):
    """`clips` clips from a DataLoader whose processes are running already; None without PyTorch or Pillow."""
    try:
        import PIL  # noqa: F401
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    for position in range(min(len(dataset.videos), clips)):
        target = folder / f"video_{position:04d}"
        target.mkdir()
        for number, frame in enumerate(dataset.shards.frames(position, range(VIDEO_FRAMES)), 1):
            (target / f"image_{number:05d}.jpg").write_bytes(frame)
    loader = DataLoader(
        StudyClips(folder, clips), batch_size, shuffle=True, num_workers=workers, persistent_workers=True
    )

    def run() -> None:
        for batch in loader:
            del batch

    run()  # starts the processes
    return run


def seconds(run: Callable[[], None]) -> float:
    """Times one call, with nothing of the one before still running."""
    time.sleep(0.3)
    if isinstance(run, Ours):
        run.prepare()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def first_epoch(folder: Path, workers: int) -> float:
    """Clips a second while every record is read for the first time."""
    dataset, size = VideoDataset.open(folder), 8
    clips = (len(dataset.videos) // size - 2 * (AHEAD + 1)) * size
    run = Ours(dataset, clips, size, threads=workers)
    rate = clips / seconds(run)
    run.close()
    return rate


def benchmark(options: argparse.Namespace, folder: Path) -> dict:
    """The whole comparison; see `main` for the options."""
    fake_data.write(
        folder, classes=10, groups=-(-options.videos // 10), frames=VIDEO_FRAMES, height=HEIGHT, width=WIDTH, noise=1
    )
    dataset = VideoDataset.open(folder)
    for position in range(len(dataset.videos)):
        dataset.shards.frames(position, [0])
    contestants = {
        "bare": bare(dataset, options.workers, options.clips),
        "ours": Ours(dataset, options.clips, options.batch, threads=options.workers),
    }
    counts = dict.fromkeys(contestants, options.clips // options.batch * options.batch) | {"bare": options.clips}
    if options.processes:
        contestants["processes"] = Ours(dataset, options.clips, options.batch, processes=options.processes)
        counts["processes"] = counts["ours"]
    (folder / "frames").mkdir()
    few = max(options.clips // 8, 2 * options.batch)
    slow = study(dataset, folder / "frames", options.workers, few, options.batch)
    if slow:
        contestants["study"], counts["study"] = slow, few
    for run in contestants.values():
        seconds(run)
    rates = {name: [] for name in (*contestants, "first epoch")}
    for _ in tqdm(range(options.rounds), desc="rounds", disable=None):
        for name, run in contestants.items():
            rates[name].append(counts[name] / seconds(run))
        rates["first epoch"].append(first_epoch(folder, options.workers))
    for run in contestants.values():
        if isinstance(run, Ours):
            run.close()
    sample = [len(x) for x in dataset.shards.frames(0, range(VIDEO_FRAMES))]
    return {
        "workers": options.workers,
        "clip": f"{FRAMES}x{HEIGHT}x{WIDTH}",
        "video_frames": VIDEO_FRAMES,
        "jpeg_bytes": round(statistics.mean(sample)),
        "rounds": options.rounds,
        "clips_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "spread": {name: [round(min(values), 1), round(max(values), 1)] for name, values in rates.items()},
        "over_bare": {name: ratio(values, rates["bare"]) for name, values in rates.items() if name != "bare"},
        "ours_over_study": ratio(rates["ours"], rates["study"]) if slow else None,
    }


def ratio(values: list[float], reference: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(values, reference, strict=True)), 3)


def main() -> None:
    """Runs the benchmark and prints what it measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=640, help="clips a round; the study's loader gets an eighth")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=cores(), help="threads, or the study's processes")
    parser.add_argument("--processes", type=int, default=0, help="measure decoding in so many processes, too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = benchmark(options, Path(folder))
    figures["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(figures, indent=1))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
