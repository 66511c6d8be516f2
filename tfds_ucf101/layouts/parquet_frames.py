"""One video's frames as rows of Parquet files; `parquet` finds them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError, one_line
from tfds_ucf101.media import Stills, stamp

_PICTURES = 64  # at a time
_AGAIN = "download it again"


@dataclass(frozen=True)
class ParquetFrames(Stills):
    """The frames of one video, in their order.

    Attributes:
      path: the first file.
      runs: file, first row and number of rows of each stretch of rows in the frames' order.
      column: of the pictures' bytes.
      missing: numbers left out between the first frame and the last.
    """

    path: str
    runs: tuple[tuple[str, int, int], ...]
    column: str
    missing: int

    def __len__(self) -> int:
        return sum(count for _, _, count in self.runs)

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Yields the rows' pictures; reads the row groups that hold them and no others.

        Raises:
          VideoError: a file is damaged, or a row has no picture.
        """
        found = {path: self._rows(path) for path in dict.fromkeys(path for path, _, _ in self.runs)}
        for path, first, count in self.runs:
            for row in range(first, first + count):
                picture = found[path][row]
                if picture is None:
                    raise VideoError(path, f"has no picture in row {row}: a data set with the pictures in it is due")
                yield f"row {row}" if path == self.path else f"row {row} of {os.path.basename(path)}", picture

    def missing_numbers(self) -> int:
        return self.missing

    def identity(self) -> list[Any]:
        paths = list(dict.fromkeys(path for path, _, _ in self.runs))
        places = [[paths.index(path), first, count] for path, first, count in self.runs]
        return [self.column, places, *stamp(*paths)]

    def _rows(self, path: str) -> dict[int, bytes | None]:
        """The pictures of this video's rows in one file, by row."""
        wanted = np.concatenate([np.arange(first, first + count) for at, first, count in self.runs if at == path])
        wanted.sort()
        found: dict[int, bytes | None] = {}
        with reading(path, VideoError) as file:
            starts = _group_starts(file)
            for group in np.unique(np.searchsorted(starts, wanted, side="right") - 1):
                at = int(starts[group])
                batches = file.iter_batches(_PICTURES, [int(group)], [self.column], use_threads=False)
                for batch in batches:
                    pictures = batch.column(0)
                    if pa.types.is_struct(pictures.type):
                        pictures = pc.struct_field(pictures, 0)
                    low, high = np.searchsorted(wanted, [at, at + len(pictures)])
                    for row in wanted[low:high].tolist():
                        found[row] = pictures[row - at].as_py()
                    at += len(pictures)
                    if high == len(wanted):
                        break
        if len(found) != len(wanted):
            raise VideoError(path, f"has fewer rows than it had; {_AGAIN}")
        return found


def _group_starts(file: pq.ParquetFile) -> np.ndarray:
    """The first row of each row group."""
    about = file.metadata
    counts = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


@contextlib.contextmanager
def reading(path: str | os.PathLike, kind: type[UserError] = UserError) -> Iterator[pq.ParquetFile]:
    """Opens a file; an error of the format becomes a `UserError` or a `VideoError`."""
    try:
        # Buffered: by default a column of a row group, which may be the whole file, is read in one piece.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = f"is damaged, or not a Parquet file ({one_line(error)[:200]}): {_AGAIN}"
        raise (VideoError(path, reason) if kind is VideoError else UserError(f"{path} {reason}")) from None
