"""Build speed in frames a second beside PyAV's bare decode speed of the same files.

    python benchmarks/build.py [--config rgb] [--video FILE...] [--workers 1 2] [--rounds 3] [--json FILE]
    python benchmarks/build.py --config flow --frames 1200

Without --video it makes a 320x240 MPEG-4 AVI of a moving scene. The build is the real one: the pipeline of
`tfds build`, with worker processes, JPEG frames (by default 128x171 at quality 90) or optical flow, and shards on
disk. A build's time
is that of many copies of the files less that of one copy, so that the start of the processes, which a data
set of UCF101's size does not notice, is told apart. Rounds alternate; the figures are medians.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import simplejpeg
from apache_beam.options.pipeline_options import PipelineOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from r23d_jax.data.scaling import Scaler  # noqa: E402
from r23d_jax.data.video import Video, open_container  # noqa: E402
from r23d_jax.errors import UserError, run_command  # noqa: E402
from tfds_ucf101 import frames, media, pipeline, sources, unfinished  # noqa: E402
from tfds_ucf101.config import NAMED  # noqa: E402
from tfds_ucf101.stored import FrameOptions  # noqa: E402

_SECONDS = 6.0
_FPS = 25
_BITS = 400_000  # a second, about UCF101's


def make_video(path: Path, seed: int, count: int = int(_SECONDS * _FPS)) -> None:
    """A camera that pans over a textured ground with two shapes moving on it, a little noise on top; `count` frames."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (960, 720), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", _BITS
        for t in range(count):
            x, y = 2 * t % 640, t % 480
            picture = ground[y : y + 240, x : x + 320].copy()
            cv2.circle(picture, (40 + 2 * t % 240, 120), 30, (200, 40, 60), -1)
            cv2.rectangle(picture, (250 - t % 250, 30), (290 - t % 250, 90), (30, 180, 90), -1)
            noise = rng.integers(-3, 4, picture.shape, np.int16)
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


def bare_decode(paths: Sequence[Path]) -> int:
    """Decodes with PyAV on one thread and looks at nothing; the number of frames."""
    count = 0
    for path in paths:
        with open_container(path) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            stream.thread_type = "NONE"
            for _ in container.decode(stream):
                count += 1
    return count


def build(paths: Sequence[Path], workers: int, out: Path, options: FrameOptions) -> int:
    """Runs the pipeline over the files with so many worker processes; the number of frames written."""
    videos = [
        sources.Source(f"A/{i:06d}", media.VideoFile(os.path.abspath(path)), path.name, 0, 1, 1, (1, 2, 1))
        for i, path in enumerate(paths)
    ]
    work = unfinished.Unfinished(out)
    parts = pipeline.parts(pipeline.in_record_order(videos), min(len(videos), 8 * workers))
    beam_options = PipelineOptions(
        [
            f"--direct_num_workers={workers}",
            "--direct_running_mode=multi_processing",
            "--default_sdk_harness_log_level=ERROR",
        ]
    )
    write = pipeline.WriteShard(options, ("1", "2", "3"), "array_record", work, 0, None)
    with work.at_work({}):
        shards = pipeline.pack(work.videos, [(i, f"shard{i}", part, {}) for i, part in enumerate(parts)])
        pipeline.run(shards, write, out / "results.json", beam_options, pipeline.local_runner(beam_options))
        done = [work.facts(shard.key) for shard in shards]
        lost = work.unreadable()
    shutil.rmtree(out)
    if lost:
        raise UserError(f"{lost[0]['path']} {lost[0]['reason']}")
    return sum(video["num_frames"] for shard in done for video in shard["videos"])


class Timed(NamedTuple):
    """A number of frames, and the wall-clock and CPU seconds they took in this process and its children."""

    frames: int
    wall: float
    cpu: float

    def less(self, other: "Timed") -> "Timed":
        """What is left without the other."""
        return Timed(self.frames - other.frames, self.wall - other.wall, self.cpu - other.cpu)


def timed(act: Callable[[], int]) -> Timed:
    """Runs it once."""
    start, cpu = time.perf_counter(), _cpu_seconds()
    count = act()
    return Timed(count, time.perf_counter() - start, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def steps(path: Path, options: FrameOptions) -> dict[str, float]:
    """CPU milliseconds a frame for decoding, scaling and JPEG, each by itself, and for all; the best of five."""
    with Video(path, threads=1) as video:
        decoded = list(video.frames())
    scaler = Scaler()
    planes = [[plane.copy() for plane in scaler.planes(frame, *options.resize)] for frame in decoded]

    def scale() -> int:
        return len([scaler.planes(frame, *options.resize) for frame in decoded])

    def compress() -> int:
        return len([simplejpeg.encode_jpeg_yuv_planes(*p, quality=options.quality) for p in planes])

    acts = {
        "decode": lambda: bare_decode([path]),
        "scale": scale,
        "jpeg": compress,
        "all": lambda: len(frames.encode(media.VideoFile(str(path)), options).frames),
    }
    return {name: min(timed(act).cpu for _ in range(5)) / len(decoded) * 1e3 for name, act in acts.items()}


def measure(
    paths: Sequence[Path], options: FrameOptions, workers: Sequence[int], rounds: int, copies: int, scratch: Path
) -> dict:
    """Alternating rounds of bare decoding and of builds with each number of workers."""
    many = list(paths) * copies
    bare: list[Timed] = []
    starts: dict[int, list[Timed]] = {number: [] for number in workers}
    builds: dict[int, list[Timed]] = {number: [] for number in workers}
    for _ in range(rounds):
        bare.append(timed(lambda: bare_decode(many)))
        for number in workers:
            starts[number].append(timed(lambda n=number: build(paths, n, scratch / "few", options)))
            whole = timed(lambda n=number: build(many, n, scratch / "many", options))
            builds[number].append(whole.less(starts[number][-1]))
    bare_rate = statistics.median(one.frames / one.wall for one in bare)
    bare_cpu = statistics.median(one.frames / one.cpu for one in bare)
    result = {"bare_decode_frames_per_s": round(bare_rate), "builds": []}
    for number in workers:
        rate = statistics.median(one.frames / one.wall for one in builds[number])
        cpu = statistics.median(one.frames / one.cpu for one in builds[number])
        result["builds"].append(
            {
                "workers": number,
                "frames_per_s": round(rate),
                "share_of_bare_per_core": round(rate / number / bare_rate, 3),
                "share_of_bare_in_cpu_time": round(cpu / bare_cpu, 3),
                "start_s": round(statistics.median(one.wall for one in starts[number]), 2),
            }
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", nargs="+", type=Path, help="measure on these files")
    parser.add_argument("--config", default="rgb", choices=sorted(NAMED), help="what to build (default: rgb)")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="numbers of processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=20000, help="about so many in a build")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark_build_") as folder:
        scratch = Path(folder)
        paths = arguments.video
        if not paths:
            # Flow takes so much longer that one copy of one file has to do for the start.
            count = 1 if NAMED[arguments.config].flow else 4
            paths = [scratch / f"synthetic{seed}.avi" for seed in range(count)]
            for seed, path in enumerate(paths):
                make_video(path, seed)
        for path in paths:
            with Video(path, threads=1) as video:  # a missing file is told before anything is measured
                next(video.frames())
        once = bare_decode(paths)
        copies = max(2, arguments.frames // once)
        options = NAMED[arguments.config].frame_options()
        per_frame = {} if options.flow else steps(paths[0], options)
        result = measure(paths, options, arguments.workers, arguments.rounds, copies, scratch)
    result |= {
        "config": arguments.config,
        "files": [path.name for path in paths],
        "frames": once * copies,
        "rounds": arguments.rounds,
        "cpu_milliseconds_per_frame": {name: round(value, 4) for name, value in per_frame.items()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, PyAV {av.__version__}",
    }
    report(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def report(result: dict) -> None:
    """Prints the figures."""
    bare = result["bare_decode_frames_per_s"]
    print(f"{result['config']}: {', '.join(result['files'])}; {result['frames']:,} frames a build; {result['machine']}")
    print(f"PyAV bare decode, one thread   {bare:>9,} frames/s")
    for built in result["builds"]:
        print(
            f"build, {built['workers']} worker(s)             {built['frames_per_s']:>9,} frames/s, "
            f"{built['share_of_bare_per_core']:.0%} of bare decode per core "
            f"({built['share_of_bare_in_cpu_time']:.0%} in CPU time); start {built['start_s']:.1f} s"
        )
    parts = result["cpu_milliseconds_per_frame"]
    if parts:
        each = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        print(f"one process, CPU ms a frame    {each}")


if __name__ == "__main__":
    run_command(main)
