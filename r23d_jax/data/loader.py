"""Streams of decoded batches for training and evaluation.

The content of a batch depends on the seed and the step only, not on workers, hosts, the layout of the shards or where
the stream was started; so a checkpoint only needs the step. Grain orders and prefetches the batches. All workers of a
pool decode the same batch together, which makes the first one available as early as possible.
"""

import dataclasses
import sys
import weakref
from collections.abc import Callable, Iterator

import grain
import numpy as np

from r23d_jax.data import order
from r23d_jax.data import sampling as data_sampling
from r23d_jax.data.dataset import Dataset, column
from r23d_jax.data.views import Views
from r23d_jax.data.workers import Job, Processes, Threads, cores
from r23d_jax.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """One clip of a batch: position of its video (-1 for padding), its frames, and other columns of the batch."""

    position: int
    indices: tuple[int, ...]
    columns: dict[str, int] = dataclasses.field(default_factory=dict)


def train_batches(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    frames: int,
    stride: int = 1,
    fps: float | None = None,
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
    """Streams one random clip of each training video per epoch, in a new order every epoch.

    Sample `s = step * batch_size + row` of the run is number `s % V` of epoch `s // V`: batches cross the boundaries
    of epochs, no video is left out, and a batch may be larger than an epoch.

    Args:
      dataset: to read from.
      positions: int [V], the videos to draw from, from `Dataset.subset`.
      frames, stride: of a clip; only "dense" has a stride.
      fps: frame rate to which every video is resampled before; None keeps the stored frames.
      sampling: "dense", "segments" or "linspace", see `data.sampling`.
      batch_size: clips per batch over all hosts.
      seed: at least 0.
      start_step: number of the first batch; the stream equals one from 0 without the batches before.
      num_steps: number of batches; None for an endless stream.
      process_index, process_count: select this host's block of rows of every batch.
      balanced: draw every class equally often: in every block of as many samples as there are classes, each class has
        one, in random order; the videos of a class take turns as above.
      threads: number of decoding threads; 0 for one per core.
      processes: number of decoding processes, used instead of threads if not 0; for hosts with more than about ten
        cores.
      prefetch: batches decoded ahead.

    Returns:
      An iterator of batches: frames uint8 [B, T, H, W, C] on the data set's canvas, size int32 [B, 2] (true
      height and width), label and video (position) int32 [B]; B is this host's share. Arrays are not reused while the
      caller holds a reference.

    Raises:
      UserError: the batch cannot be divided over the hosts; from the iterator: a shard is damaged.
    """
    if sampling not in data_sampling.SAMPLINGS:
        raise UserError(f"clip.sampling={sampling}: must be one of {', '.join(data_sampling.SAMPLINGS)}")
    local = _share(batch_size, process_count)
    lengths = column(dataset.videos, "num_frames")
    draw = order.balanced(dataset, positions, seed) if balanced else order.shuffled(positions, seed)

    def row(sample: int) -> ClipRow:
        position = draw(sample)
        stored = None if fps is None else data_sampling.axis(dataset.videos[position], fps)
        length = int(lengths[position]) if stored is None else len(stored)
        rng = order.clip_rng(seed, sample)
        if sampling == "dense":
            indices = data_sampling.dense(length, frames, stride, rng)
        elif sampling == "segments":
            indices = data_sampling.segments(length, frames, rng)
        else:
            indices = data_sampling.linspace(length, frames)
        return ClipRow(position, tuple((indices if stored is None else stored[indices]).tolist()))

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
    """Streams every view once, in order; the last batch is padded with black rows whose mask is 0.

    Args:
      dataset: to read from.
      views: the views, from `data.views`.
      batch_size, process_index, process_count, start_step, threads, processes, prefetch: as in `train_batches`.

    Returns:
      Batches as in `train_batches`, and also: mask float32 [B]; crop and view int32 [B]; index int32 [B], the row in
      `views`, -1 for padding.
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
    """An iterator of prefetched batches; `close` ends its workers.

    Args:
      dataset: to read from.
      rows: pure function from the number of a batch, counted from 0, to its rows.
      steps: number of batches.
      batch_size: rows of each.
      frames: of each clip.
      threads, processes: as in `train_batches`.
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
        self._iterator.start_prefetch()  # overlaps with the caller's compilation
        self._ended = False
        self._end = weakref.finalize(self, _end, self._iterator, workers)  # if nobody calls `close`

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._ended:
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:  # StopIteration too: after any exception the stream is over
            self.close()
            raise

    def close(self) -> None:
        """Stops decoding, waits for the workers to end, and ends the iteration. May be called more than once."""
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
        self._of_videos = {key: column(dataset.videos, key) for key in ("height", "width", "label")}

    def __len__(self) -> int:
        return self._steps

    def __repr__(self) -> str:
        return f"batches of {self._dataset.full_name}"

    def __getitem__(self, step: int) -> Batch:
        rows = self._rows(step)
        canvas = self._workers.buffers.take()
        alike = {}  # the crops of a clip share one decoding
        for number, row in enumerate(rows):
            alike.setdefault((row.position, row.indices), []).append(number)
        self._workers.decode(canvas, [Job(tuple(numbers), *clip) for clip, numbers in alike.items()])
        return {"frames": canvas, **self._columns(rows)}

    def _columns(self, rows: list[ClipRow]) -> Batch:
        video = np.asarray([row.position for row in rows], np.int32)
        padding = video < 0
        height, width, label = (self._of_videos[key][video].astype(np.int32) for key in ("height", "width", "label"))
        size = np.stack([height, width], axis=1)
        size[padding], label[padding] = self._dataset.canvas, 0
        columns = {"size": size, "label": label, "video": video}
        for name in rows[0].columns:
            values = [row.columns[name] for row in rows]
            columns[name] = np.asarray(values, np.float32 if name == "mask" else np.int32)
        return columns


def host_bytes(
    dataset: Dataset, *, frames: int, batch_size: int, threads: int = 0, processes: int = 0, prefetch: int = 2
) -> int:
    """Returns an upper bound of the host memory that a stream takes, in bytes, without the open data set.

    Counts `prefetch` batches and one that the caller holds; a frame and the largest record (three copies while its
    checksum is verified) per thread or process; and an index of 8 bytes per frame of the data set in every process.
    Every further batch that the caller or the device holds adds one. The interpreter, libraries and data set of
    additional processes are not counted.
    """
    height, width = dataset.canvas
    batch = batch_size * frames * height * width * dataset.num_channels
    lengths = column(dataset.videos, "num_frames")
    longest = int(lengths.max())
    per_worker = height * width * 3 * (1 + 3 * longest // 4)  # assumes that JPEG takes at most a quarter of the pixels
    table = 8 * int(lengths.sum(dtype=np.int64))
    return (prefetch + 1) * batch + (processes or threads or cores()) * per_worker + max(processes, 1) * table


def _share(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f"batch_size={batch_size} does not divide over {process_count} hosts")
    return batch_size // process_count
