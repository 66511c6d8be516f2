"""The Beam pipeline: every element is a shard, which one worker decodes, encodes and writes.

What is in which shard is settled before the pipeline starts, by a hash of the names, so that no frame ever
passes from one process to another and the result does not depend on the workers.
"""

import errno
import hashlib
import json
import logging
import math
import os
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from tensorflow_datasets.core import file_adapters
from tensorflow_datasets.core.writer import ExampleWriter

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import frames, progress, records
from tfds_ucf101.sources import Source
from tfds_ucf101.stored import FrameOptions, StoredVideo
from tfds_ucf101.unfinished import Unfinished

# A shard is what an interrupted build loses a part of, and a mended video computes again.
_VIDEOS_PER_SHARD, _FLOW_VIDEOS_PER_SHARD = 100, 10
_LEAST_SHARDS = 16
# These are the machine's, not the program's: told in one line.
_MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)
# Beam finds this runner by its full name only.
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"


@dataclass(frozen=True)
class Shard:
    """One file to be written. Its videos stand in a file that `pack` wrote, not in the pipeline, which copies them.

    Attributes:
      index: its place among the shards of the data set.
      key: of `unfinished.shard_key`.
      start, length: of its videos in the file, in bytes.
      digest: SHA-256 of these bytes, which may be trusted if they have it.
    """

    index: int
    key: str
    start: int
    length: int
    digest: str


def pack(path: Path, parts: Iterable[tuple[int, str, Sequence[Source], Mapping[str, str]]]) -> list[Shard]:
    """Writes the videos of all shards to be written, for `unpack`.

    Args:
      path: a file on a file system of all workers.
      parts: of each shard: index, key, videos in the order of their records, and of those that cannot be read the name
        and the reason.
    """
    shards, at = [], 0
    with open(path, "wb") as file:
        for index, key, sources, known in parts:
            data = zlib.compress(pickle.dumps((tuple(sources), dict(known))), 1)
            file.write(data)
            shards.append(Shard(index, key, at, len(data), hashlib.sha256(data).hexdigest()))
            at += len(data)
    return shards


def unpack(path: Path, shard: Shard) -> tuple[tuple[Source, ...], dict[str, str]]:
    """Reads a shard's videos, and the reasons of those that cannot be read."""
    with open(path, "rb") as file:
        file.seek(shard.start)
        data = file.read(shard.length)
    if hashlib.sha256(data).hexdigest() != shard.digest:  # pickled bytes of somebody else are not to be loaded
        raise UserError(f"{path}: changed since it was written; start the build again")
    return pickle.loads(zlib.decompress(data))


def in_record_order(sources: Sequence[Source]) -> list[Source]:
    """The videos in an order that mixes the classes and follows from the names alone."""
    return sorted(sources, key=lambda source: _digest(source.name))


def shard_count(videos: int, asked: int | None, flow: bool = False) -> int:
    """How many shards: some for every core also where videos are few, about 100 videos each where many.

    Where flow is computed, a shard has 10 videos. The count is a power of two, so that a few videos more or less
    do not change it, which would change all shards. There are fewer where a shard would have no video.
    """
    wanted = max(1, videos / (_FLOW_VIDEOS_PER_SHARD if flow else _VIDEOS_PER_SHARD))
    return asked or max(_LEAST_SHARDS, 1 << round(math.log2(wanted)))


def parts(ordered: Sequence[Source], count: int) -> list[tuple[Source, ...]]:
    """Divides the videos, in record order, over `count` ranges of the hashes of their names; without the empty ones.

    So a video's shard does not depend on the other videos, and the order of all records not on `count`.
    """
    found: dict[int, list[Source]] = {}
    for source in ordered:
        found.setdefault(int.from_bytes(_digest(source.name)[:8]) * count >> 64, []).append(source)
    return [tuple(found[place]) for place in sorted(found)]


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


class _Stopped(Exception):
    """The build is over for another reason than this shard's."""


class WriteShard(beam.DoFn):
    """Writes one shard into the folder of unfinished work and yields "index", and "error" if it cannot be written.

    The videos are those that `pack` wrote to `Unfinished.videos`.

    Args:
      options: how frames are stored.
      splits: those that exist.
      file_format: of TFDS.
      work: the folder, on a file system of all workers.
      max_unreadable: with more noted there the build stops.
      progress_folder: see `progress`; None for none.
    """

    def __init__(
        self,
        options: FrameOptions,
        splits: Sequence[str],
        file_format: str,
        work: Unfinished,
        max_unreadable: int,
        progress_folder: str | None,
    ):
        self._options = options
        self._splits = tuple(splits)
        self._file_format = file_format
        self._work = work
        self._max_unreadable = max_unreadable
        self._progress_folder = progress_folder

    def process(self, shard: Shard) -> Iterator[dict[str, Any]]:
        done: dict[str, Any] = {"index": shard.index}
        facts: dict[str, Any] = {"videos": [], "unreadable": [], "findings": []}
        try:
            self._work.write(
                shard.key,
                lambda path: _write_records(path, self._file_format, self._records(shard, facts)),
                facts,
            )
        except (_Stopped, FileNotFoundError):
            # The folder is gone, or another build has it and cleared it: not for this worker to stop.
            done["stopped"] = True
        except OSError as error:
            self._work.stop()
            if error.errno not in _MACHINE_ERRORS:
                raise
            done["error"] = f"{self._work.path} cannot be written to: {error.strerror}"
        yield done

    def _records(self, shard: Shard, facts: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        sources, known = unpack(self._work.videos, shard)
        for position, source in enumerate(sources):
            if self._work.stopped():
                raise _Stopped
            try:
                video = self._encode(source, known)
            except VideoError as error:
                lost = {"path": source.shown, "reason": error.reason}
                facts["unreadable"].append(lost)
                if self._work.note_unreadable(lost) > self._max_unreadable:
                    self._work.stop()
                progress.count_video(self._progress_folder, 0)
                continue
            if video.findings:
                facts["findings"].append({"path": source.shown, **video.findings})
            facts["videos"].append(records.index_entry(source, video, self._splits))
            yield position, records.serialize(source, video)
            progress.count_video(self._progress_folder, len(video.frames))

    def _encode(self, source: Source, known: Mapping[str, str]) -> StoredVideo:
        """Raises a VideoError also for what the file system says of the video's files."""
        if source.name in known:
            raise VideoError(source.shown, known[source.name])
        try:
            return frames.encode(source.media, self._options)
        except OSError as error:
            raise VideoError(source.shown, f"cannot be read ({error.strerror or error})") from error


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


def fit_to_runner(options: PipelineOptions) -> None:
    """Changes options of Dask so that `runner=DaskRunner` is known, and a task is one shard; its default is 128.

    Raises:
      UserError: Dask is asked for and not installed.
    """
    standard = options.view_as(StandardOptions)
    if (standard.runner or "").rpartition(".")[2].lower() != "daskrunner":
        return
    try:
        from apache_beam.runners.dask.dask_runner import DaskOptions
    except ImportError as error:
        raise UserError(f"DaskRunner needs Dask: pip install dask distributed ({error})") from error
    standard.runner = _DASK
    chosen = options.view_as(DaskOptions)
    if chosen.npartitions is None and chosen.partition_size is None:
        chosen.partition_size = 1


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
    with _disk_errors(path):
        writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
    for _, record in keyed:
        with _disk_errors(path):
            writer.write(record)
    with _disk_errors(path):
        writer.close()


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    """Makes an OSError of the library's RuntimeError, which is about the disk and says so in its text."""
    try:
        yield
    except RuntimeError as error:
        number = next((code for code in (*_MACHINE_ERRORS, errno.ENOENT) if os.strerror(code) in str(error)), errno.EIO)
        raise OSError(number, os.strerror(number), path) from error


def _write_json(value: Any, path: str) -> None:
    Path(path).write_text(json.dumps(value))
