"""The Beam pipeline: every element is a shard, which one worker decodes, encodes and writes.

What is in which shard is settled before the pipeline starts, by a hash of the names, so that no frame ever
passes from one process to another and the result does not depend on the workers.
"""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.core import file_adapters, utils
from tensorflow_datasets.core.writer import ExampleWriter

from r23d_jax.data.video import VideoError
from tfds_ucf101 import frames, progress, records
from tfds_ucf101.sources import Source
from tfds_ucf101.stored import FrameOptions

_VIDEOS_PER_SHARD = 100
_LEAST_SHARDS = 16
# Of the frames that the header claims. A file cut off in the middle decodes without an error.
_SUSPICIOUS = 0.9
# These are the machine's, not the program's: told in one line.
_MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


@dataclass(frozen=True)
class Shard:
    """One output file and the videos that go into it, in this order."""

    index: int
    path: str
    sources: tuple[Source, ...]


def in_record_order(sources: Sequence[Source]) -> list[Source]:
    """The videos in an order that mixes the classes and follows from the names alone."""
    return sorted(sources, key=lambda source: hashlib.sha256(source.name.encode()).digest())


def shard_count(videos: int, asked: int | None) -> int:
    """How many shards: some for every core also where videos are few, about 100 videos each where many."""
    return min(videos, asked or max(_LEAST_SHARDS, -(-videos // _VIDEOS_PER_SHARD)))


def parts(sources: Sequence[Source], count: int) -> list[tuple[Source, ...]]:
    """Cuts the videos into `count` runs of nearly equal length."""
    cuts = [len(sources) * i // count for i in range(count + 1)]
    return [tuple(sources[start:stop]) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]


class WriteShard(beam.DoFn):
    """Writes one shard and yields what the index needs of it: "index", "bytes", "videos", "unreadable", "short"."""

    def __init__(
        self,
        options: FrameOptions,
        splits: Sequence[str],
        file_format: str,
        progress_folder: str | None,
        cache_folder: str | None = None,
    ):
        self._cache_folder = cache_folder
        self._options = options
        self._splits = tuple(splits)
        self._file_format = file_format
        self._progress_folder = progress_folder

    def process(self, shard: Shard) -> Iterator[dict[str, Any]]:
        done = {"index": shard.index, "bytes": 0, "videos": [], "unreadable": [], "short": []}
        try:
            # A worker that dies or is doubled leaves no half file under the final name.
            with utils.incomplete_file(epath.Path(shard.path)) as partial:
                _write_records(os.fspath(partial), self._file_format, self._records(shard, done))
            if done["videos"]:
                done["bytes"] = os.stat(shard.path).st_size
            else:
                os.unlink(shard.path)
        except OSError as error:
            if error.errno not in _MACHINE_ERRORS:
                raise
            done["error"] = f"{shard.path} cannot be written: {error.strerror}"
        yield done

    def _records(self, shard: Shard, done: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        for position, source in enumerate(shard.sources):
            try:
                video = frames.encode(source.path, self._options, self._cache_folder)
            except VideoError as error:
                done["unreadable"].append({"path": source.shown, "reason": error.reason})
                progress.count_video(self._progress_folder, 0)
                continue
            if len(video.frames) < _SUSPICIOUS * video.header_frames:
                done["short"].append({"path": source.shown, "frames": len(video.frames), "header": video.header_frames})
            done["videos"].append(records.index_entry(source, video, self._splits))
            yield position, records.serialize(source, video)
            progress.count_video(self._progress_folder, len(video.frames))


def run(shards: Sequence[Shard], write: WriteShard, results: Path, options: PipelineOptions, runner: Any) -> list:
    """Runs the pipeline and waits for it.

    Args:
      shards: what to write.
      write: how.
      results: a file that the last worker writes and this process reads, on a file system of both.
      options: of the pipeline, from `default_options` or the user.
      runner: a Beam runner, or None for the one in the options.

    Returns:
      What `WriteShard` yields, in the order of the shards.
    """
    if isinstance(runner, FnApiRunner):
        # It tells of every channel it opens, between two updates of the progress bar.
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
    with _importable_by_workers(), beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(list(shards), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "WriteShard" >> beam.ParDo(write)
            | "Collect" >> beam.combiners.ToList()
            | "WriteResults" >> beam.Map(_write_json, path=os.fspath(results))
        )
    written = json.loads(results.read_text())
    results.unlink()
    return sorted(written, key=lambda done: done["index"])


def default_options() -> PipelineOptions:
    """One worker process a core; Beam's own default is one in all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return PipelineOptions(
        flags=[
            f"--direct_num_workers={cores}",
            "--direct_running_mode=multi_processing",
            "--default_sdk_harness_log_level=ERROR",
        ]
    )


def local_workers(options: PipelineOptions, runner: Any) -> int | None:
    """The number of workers if they run on this machine, else None."""
    name = options.view_as(StandardOptions).runner
    if runner is not None or (name and name.lower() not in ("directrunner", "direct", "fnapirunner")):
        return None
    return options.view_as(DirectOptions).direct_num_workers or os.cpu_count()


def local_runner(options: PipelineOptions) -> FnApiRunner:
    """What Beam's DirectRunner runs a batch pipeline on; by that name it may first download another runner."""
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(info))


@contextmanager
def _importable_by_workers() -> Iterator[None]:
    """Worker processes find this package also where it is not installed and the current folder is another."""
    root, before = str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if before is None else os.pathsep.join([root, before])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _write_records(path: str, file_format: str, keyed: Iterator[tuple[int, bytes]]) -> None:
    """As TFDS writes a shard, but ArrayRecord without zstd: 15 % of the build, for 10 % of the disk."""
    if file_format != file_adapters.FileFormat.ARRAY_RECORD.value:
        ExampleWriter(file_adapters.FileFormat.from_value(file_format)).write(path, keyed)
        return
    writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
    for _, record in keyed:
        writer.write(record)
    writer.close()


def _write_json(value: Any, path: str) -> None:
    Path(path).write_text(json.dumps(value))
