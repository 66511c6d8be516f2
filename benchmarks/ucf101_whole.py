"""Builds a folder of UCF101's shape with `tfds build`, kills and repeats the build if asked, and opens the result.

    python benchmarks/ucf101_whole.py [--kill-after 60] [--folder DIR] [--json FILE]
    python benchmarks/ucf101_whole.py [--videos 808] [--video FILE ...]

The folder has a file for every one of UCF101's 13,320 names, each a hard link to one of a few clips: rendered AVIs of
320x240 whose lengths make 2.5 million frames in all, or copies of the files of --video. The builder itself checks the
names and the counts of UCF101's splits. With --videos fewer names are taken, spread over classes and groups. The whole
takes about 25 GB where --folder lies.

With --kill-after, every process of the build gets SIGKILL so many seconds after its start, and the same command is
given again. Memory is the sum over the build's processes, pages that they share counted once; it needs Linux.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from build import bare_decode, make_video  # noqa: E402

from r23d_jax.data import loader  # noqa: E402
from r23d_jax.data.records import VideoDataset  # noqa: E402
from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from tfds_ucf101.layouts import ucf101  # noqa: E402

_LENGTHS = (90, 120, 150, 180, 215, 245, 306)  # frames of the rendered clips; their mean is UCF101's
_SHARD = re.compile(r"array_record-\d{5}-of-\d{5}$")
_OPEN = "from benchmarks import ucf101_whole as whole; whole.print_opened({folder!r})"


def spread(names: Sequence[str], count: int) -> list[str]:
    """About `count` of the names, as many of each class, evenly over its groups; at least 4 of each."""
    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(name.split("/")[0], []).append(name)
    each = max(4, count // len(classes))
    found = []
    for group in classes.values():
        taken = min(each, len(group))
        found += [group[round(i * (len(group) - 1) / (taken - 1))] for i in range(taken)]
    return found


def lay_out(root: Path, names: Sequence[str], clips: Sequence[Path]) -> None:
    """Fills an empty folder with links to the clips, in turn."""
    for place, name in enumerate(names):
        path = root / "UCF-101" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(clips[place % len(clips)], path)


class Build:
    """`tfds build` in a session of its own, watched from outside.

    Attributes:
      seconds: from the start to the end, or to the kill.
      memory: the most bytes that its processes had at once; 0 where /proc does not tell.
      parent, worker: the most resident bytes of the first process and of any other.
    """

    def __init__(self, root: Path, data_dir: Path, config: dict | None, log: Path):
        command = [str(Path(sys.executable).with_name("tfds")), "build", "tfds_ucf101"]
        command += [f"--manual_dir={root}", f"--data_dir={data_dir}"]
        command += [f"--config={json.dumps(config)}"] if config else []
        self.seconds, self.memory, self.parent, self.worker = 0.0, 0, 0, 0
        self._log = log
        with log.open("a") as file:
            self._began = time.monotonic()
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)

    def run(self, until: float | None = None) -> bool:
        """Waits for its end, or kills it after `until` seconds; whether it came to its end."""
        while self._process.poll() is None:
            if until is not None and time.monotonic() > self._began + until:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self.seconds = time.monotonic() - self._began
                return False
            self._look()
            time.sleep(0.5)
        self.seconds = time.monotonic() - self._began
        if self._process.returncode:
            raise UserError(f"tfds build ended with {self._process.returncode}: {self._log.read_text()[-2000:]}")
        return True

    def _look(self) -> None:
        total = 0
        for process in _session(self._process.pid):
            try:
                shared = _kilobytes(Path(f"/proc/{process}/smaps_rollup"), "Pss:")
                most = _kilobytes(Path(f"/proc/{process}/status"), "VmHWM:")
            except OSError:  # it has just ended
                continue
            total += shared
            if process == self._process.pid:
                self.parent = max(self.parent, most)
            else:
                self.worker = max(self.worker, most)
        self.memory = max(self.memory, total)


def _session(leader: int) -> list[int]:
    """The processes of a session; none where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(path.parent.name))
    return found


def _kilobytes(path: Path, key: str) -> int:
    """Bytes, of a line "key 123 kB"."""
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith(key)]
    return int(lines[0][1]) * 1024 if lines else 0


def files(folder: Path) -> dict[tuple[int, int], str]:
    """The name of every file below a folder, by inode and time of change, which a rename or a link keeps."""
    stats = {path: path.lstat() for path in folder.rglob("*") if path.is_file()}
    return {(stat.st_ino, stat.st_mtime_ns): path.name for path, stat in stats.items()}


def disk(folder: Path) -> int:
    """Bytes that the files below a folder take, a file of several names counted once."""
    stats = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum({stat.st_ino: stat.st_blocks * 512 for stat in stats}.values())


def print_opened(folder: str) -> None:
    """Opens a data set, takes one batch, and prints what it took as JSON; in a process of its own."""
    before, start = _peak(), time.perf_counter()
    dataset = VideoDataset.open(folder)
    sides = {split: [len(dataset.subset(split, part)) for part in ("train", "test")] for split in ("1", "2", "3")}
    opened = time.perf_counter() - start
    with loader.train_batches(dataset, dataset.subset("1", "train"), frames=16, batch_size=8, seed=0) as batches:
        next(batches)
    first = time.perf_counter() - start
    facts = {"videos": len(dataset.videos), "splits": sides, "open_s": opened, "first_batch_s": first}
    print(json.dumps(facts | {"memory": _peak() - before}))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_for_training(data_dir: Path) -> dict:
    """What `print_opened` prints."""
    command = [sys.executable, "-c", _OPEN.format(folder=str(data_dir))]
    environment = dict(
        os.environ, JAX_PLATFORMS="cpu", PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    )
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the data set cannot be opened: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, flags: argparse.Namespace) -> dict:
    """Lays the input out, builds, kills, builds and opens."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give an empty or a new folder")
    chosen = spread(ucf101.names(), flags.videos) if flags.videos else ucf101.names()
    whole = len(chosen) == ucf101.VIDEOS
    config = None if whole else {"name": "part", "subset": True}
    source = folder / "clips"
    source.mkdir()
    clips = [source / f"clip{place}.avi" for place in range(len(flags.video or _LENGTHS))]
    for place, clip in enumerate(clips):
        if flags.video:
            shutil.copyfile(flags.video[place], clip)
        else:
            make_video(clip, place, _LENGTHS[place])
    lengths = [bare_decode([clip]) for clip in clips]
    frames = sum(lengths[place % len(clips)] for place in range(len(chosen)))
    start = time.perf_counter()
    bare_decode(clips)
    bare = sum(lengths) / (time.perf_counter() - start)
    lay_out(folder / "input", chosen, clips)
    data_dir, log = folder / "data", folder / "build.log"
    builds, before = [], {}
    if flags.kill_after:
        builds.append(Build(folder / "input", data_dir, config, log))
        if builds[0].run(flags.kill_after):
            raise UserError(f"the build was over after {builds[0].seconds:.0f} s; give a smaller --kill-after")
        before = files(data_dir)
    builds.append(Build(folder / "input", data_dir, config, log))
    builds[-1].run()
    opened = open_for_training(data_dir)
    report = json.loads(next(data_dir.rglob("build_report.json")).read_text())
    if (report["frames"], opened["videos"]) != (frames, len(chosen)):
        raise UserError(f"{report['frames']} frames of {opened['videos']} videos, not {frames} of {len(chosen)}")
    if whole and {split: tuple(counts) for split, counts in opened["splits"].items()} != ucf101.COUNTS:
        raise UserError(f"train and test videos are {opened['splits']}, not {ucf101.COUNTS}")
    seconds = sum(build.seconds for build in builds)
    shards = {key for key, name in files(data_dir).items() if _SHARD.search(name)}
    return {
        "videos": len(chosen),
        "frames": frames,
        "splits": opened["splits"],
        "minutes": round(seconds / 60, 2),
        "frames_per_s": round(frames / seconds),
        "bare_decode_frames_per_s": round(bare),
        "killed_after_s": flags.kill_after,
        "shards": len(shards),
        "shards_kept_over_the_kill": len(shards & before.keys()),
        "peak_memory_mb": max(build.memory for build in builds) // 2**20,
        "peak_parent_mb": max(build.parent for build in builds) // 2**20,
        "peak_worker_mb": max(build.worker for build in builds) // 2**20,
        "disk_gb": round(disk(data_dir) / 1e9, 2),
        "open_s": round(opened["open_s"], 2),
        "first_batch_s": round(opened["first_batch_s"], 2),
        "open_memory_mb": opened["memory"] // 2**20,
        "fingerprint": json.loads(next(data_dir.rglob("videos.json")).read_text())["fingerprint"],
    }


def main() -> None:
    parser = Parser(
        prog="python benchmarks/ucf101_whole.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--video", nargs="+", type=Path, help="clips to take instead of rendered ones")
    parser.add_argument("--videos", type=int, help="only about so many; at least 4 of each class")
    parser.add_argument("--kill-after", type=float, metavar="SECONDS", help="kill the first build then")
    parser.add_argument("--folder", type=Path, help="where input and result stay; default: one that is removed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r23d_ucf101_") as temporary:
        found = measure((flags.folder or Path(temporary) / "whole").absolute(), flags)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    run_command(main)
