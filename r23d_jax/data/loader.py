"""Streams of decoded batches for training and evaluation.

What is in a batch is a function of the seed and the step alone: not of workers, hosts, the layout of the
shards, or where the stream was started. So the step is all there is to save of a stream. Grain keeps batches
in order and ahead of the consumer; the frames are decoded by one pool of workers that share each batch, so
that the first is there as soon as it can be.
"""

import dataclasses
import sys
import weakref
from collections.abc import Callable, Iterator

import grain
import numpy as np

from r23d_jax.data import order
from r23d_jax.data import sampling as data_sampling
from r23d_jax.data.dataset import Dataset
from r23d_jax.data.views import Views
from r23d_jax.data.workers import Job, Processes, Threads, cores
from r23d_jax.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """One clip of a batch: position of its video (-1 pads), its frames, and other columns of the batch."""

    position: int
    indices: tuple[int, ...]
    columns: dict[str, int] = dataclasses.field(default_factory=dict)


def train_batches(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    frames: int,
    stride: int = 1,
    sampling: str = "dense",
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_steps: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    balanced: bool = False,
    threads: int = 0,
    processes: int = 0,
    prefetch: int = 2,
) -> "BatchStream":
    """One random clip of each training video an epoch, in a new order every epoch, without end or gaps.

    Sample `step * batch_size + row` of the run is number `sample % V` of epoch `sample // V`: batches run on
    across epochs, no video is left out, and a batch may be larger than an epoch.

    Args:
      dataset: open.
      positions: int [V], the videos to draw from, as `Dataset.subset` gives them.
      frames, stride: of a clip; the stride plays no part in "segments".
      sampling: "dense" or "segments", see `data.clips`.
      batch_size: clips of all hosts together.
      seed: any number from 0 on.
      start_step: the first batch's number: the batches are those a stream from 0 has from there on.
      num_steps: batches; None for no end.
      process_index, process_count: this host gets its block of rows of every batch.
      balanced: every class equally often: each run of as many samples as there are classes has every class
        once, in random order; within a class its videos take turns as above.
      threads: that decode; 0 for one a core.
      processes: that decode, if not 0, instead of threads: for hosts of more than about ten cores.
      prefetch: batches decoded ahead.

    Returns:
      An iterator of batches: frames uint8 [B, T, H, W, C] on the data set's canvas, size int32 [B, 2] (true
      height and width), label and video (position) int32 [B]; B is this host's share. The arrays are the
      caller's as long as it holds them.

    Raises:
      UserError: the batch does not divide over the hosts; from the iterator: a shard is damaged.
    """
    if sampling not in ("dense", "segments"):
        raise UserError(f'clip.sampling={sampling}: must be "dense" or "segments"')
    local = _share(batch_size, process_count)
    draw = order.balanced(dataset, positions, seed) if balanced else order.shuffled(positions, seed)

    def row(sample: int) -> ClipRow:
        position = draw(sample)
        length, rng = dataset.videos[position].num_frames, order.clip_rng(seed, sample)
        if sampling == "dense":
            indices = data_sampling.dense(length, frames, stride, rng)
        else:
            indices = data_sampling.segments(length, frames, rng)
        return ClipRow(position, tuple(indices.tolist()))

    def rows(step: int) -> list[ClipRow]:
        first = (start_step + step) * batch_size + process_index * local
        return [row(sample) for sample in range(first, first + local)]

    steps = sys.maxsize if num_steps is None else num_steps
    return BatchStream(dataset, rows, steps, local, frames, threads, processes, prefetch)


def eval_batches(
    dataset: Dataset,
    views: Views,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    start_step: int = 0,
    threads: int = 0,
    processes: int = 0,
    prefetch: int = 2,
) -> "BatchStream":
    """Every view once, in order; the last batch is filled up with black rows whose mask is 0.

    Returns:
      As `train_batches`, and also: mask float32 [B]; crop and view int32 [B]; index int32 [B], the row of
      `views`, -1 where padded.
    """
    local = _share(batch_size, process_count)
    steps = max(-(-len(views) // batch_size) - start_step, 0)
    padding = ClipRow(-1, (), {"mask": 0, "crop": 0, "view": 0, "index": -1})

    def row(index: int) -> ClipRow:
        if index >= len(views):
            return padding
        crop, view = int(views.crop[index]), int(views.view[index])
        columns = {"mask": 1, "crop": crop, "view": view, "index": index}
        return ClipRow(int(views.position[index]), tuple(views.indices[index].tolist()), columns)

    def rows(step: int) -> list[ClipRow]:
        first = (start_step + step) * batch_size + process_index * local
        return [row(index) for index in range(first, first + local)]

    return BatchStream(dataset, rows, steps, local, views.indices.shape[1], threads, processes, prefetch)


class BatchStream:
    """An iterator of batches that are decoded ahead; `close` ends its workers.

    Args:
      dataset: open.
      rows: of a batch, by its number counted from 0: a pure function.
      steps: number of batches.
      batch_size: rows of each.
      frames: of each clip.
      threads: that decode; 0 for one a core.
      processes: that decode, instead of threads, if not 0.
      prefetch: batches decoded ahead, at least 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Callable[[int], list[ClipRow]],
        steps: int,
        batch_size: int,
        frames: int,
        threads: int = 0,
        processes: int = 0,
        prefetch: int = 2,
    ):
        shape = (batch_size, frames, *dataset.canvas, dataset.num_channels)
        workers = Processes(dataset, shape, processes) if processes else Threads(dataset, shape, threads or cores())
        options = grain.ReadOptions(num_threads=max(prefetch, 1), prefetch_buffer_size=max(prefetch, 1))
        source = _Source(dataset, rows, steps, workers)
        self._iterator = iter(grain.MapDataset.source(source).to_iter_dataset(options))
        self._iterator.start_prefetch()  # while the caller still compiles
        self._ended = False
        self._end = weakref.finalize(self, _end, self._iterator, workers)  # where nobody calls `close`

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._ended:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:  # the end as well: what raised will not go on
            self.close()
            raise

    def close(self) -> None:
        """Stops decoding, waits for the workers to end, and ends the iteration. Can be called again."""
        self._ended = True
        self._end()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _end(iterator: grain.DatasetIterator, workers: Threads | Processes) -> None:
    iterator.close()
    workers.stop()


class _Source:
    """Batches by number, for Grain."""

    def __init__(
        self,
        dataset: Dataset,
        rows: Callable[[int], list[ClipRow]],
        steps: int,
        workers: Threads | Processes,
    ):
        self._dataset, self._rows, self._steps, self._workers = dataset, rows, steps, workers

    def __len__(self) -> int:
        return self._steps

    def __repr__(self) -> str:
        return f"batches of {self._dataset.full_name}"

    def __getitem__(self, step: int) -> Batch:
        rows = self._rows(step)
        canvas = self._workers.buffers.take()
        alike = {}  # crops of a clip are decoded once
        for number, row in enumerate(rows):
            alike.setdefault((row.position, row.indices), []).append(number)
        self._workers.decode(canvas, [Job(tuple(numbers), *clip) for clip, numbers in alike.items()])
        return {"frames": canvas, **self._columns(rows)}

    def _columns(self, rows: list[ClipRow]) -> Batch:
        videos = [self._dataset.videos[row.position] if row.position >= 0 else None for row in rows]
        sizes = [(v.height, v.width) if v else self._dataset.canvas for v in videos]
        columns = {
            "size": np.asarray(sizes, np.int32),
            "label": np.asarray([v.label if v else 0 for v in videos], np.int32),
            "video": np.asarray([row.position for row in rows], np.int32),
        }
        for name in rows[0].columns:
            values = [row.columns[name] for row in rows]
            columns[name] = np.asarray(values, np.float32 if name == "mask" else np.int32)
        return columns


def host_bytes(
    dataset: Dataset, *, frames: int, batch_size: int, threads: int = 0, processes: int = 0, prefetch: int = 2
) -> int:
    """The most host memory a stream takes, in bytes, beside the data set itself.

    `prefetch` batches decoded ahead and one in the caller's hands, a frame and the largest record for every
    thread or process (the record three times over while its checksum is verified), and 8 bytes for every frame of
    the data set (where it lies), in every process. Every further batch that the caller or the device holds at a time
    adds one, and that memory is given back when the stream ends. A process also has an interpreter, its libraries and
    the data set's index of its own, which are not counted.
    """
    height, width = dataset.canvas
    batch = batch_size * frames * height * width * dataset.num_channels
    longest = max(video.num_frames for video in dataset.videos)
    per_worker = height * width * 3 * (1 + 3 * longest // 4)  # JPEG: a quarter of the pixels' bytes at most
    table = 8 * sum(video.num_frames for video in dataset.videos)
    return (prefetch + 1) * batch + (processes or threads or cores()) * per_worker + max(processes, 1) * table


def _share(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"batch_size={batch_size} does not divide over {process_count} hosts")
    return batch_size // process_count
