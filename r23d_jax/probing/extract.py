"""Features of videos by a frozen network: computed once, and kept by the content of the video.

A video's features lie in a file of the cache that is named by what they depend on: the weights, the clips and their
preprocessing, the stages, and what the video shows. Whatever it is called and wherever it lies, it is computed once.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from r23d_jax.data.dataset import VideoRecord
from r23d_jax.data.index import DAMAGES
from r23d_jax.errors import UserError
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference import runner
from r23d_jax.inference.classifier import Classifier
from r23d_jax.inference.clips import Scanned
from r23d_jax.models.head import VIEWS, HeadSpec
from r23d_jax.probing.data import LabelledVideos
from r23d_jax.probing.dataset import record_of
from r23d_jax.probing.samples import PARTS, Samples, by_network, in_parts
from r23d_jax.runtime.files import cache_dir, locked, open_arrays, write_arrays

_FORMAT = 2  # of the files; another number computes all anew
_STAGES = 4  # the deepest ones are kept


@dataclasses.dataclass(frozen=True)
class VideoFeatures:
    """Features of one video.

    Attributes:
      averages: view -> stage -> float32 [clips, PARTS, C].
      grids: view -> float32 [clips, positions, C] of the extractor's `grid_of`; None without.
      count, fps, height, width, times: of the video at the decoded size, as in `VideoRecord`.
    """

    averages: dict[str, dict[str, np.ndarray]]
    grids: dict[str, np.ndarray] | None
    count: int
    fps: float
    height: int
    width: int
    times: np.ndarray | None


class Extractor:
    """Computes and keeps the features of videos by one network.

    Args:
      clf: the network, whose card says clips and preprocessing.
      folder: of the cache.
      say: called with lines for the user.
      with_grid: whether the averages over a grid, for an attentive head, are computed too; they take more room.
    """

    def __init__(self, clf: Classifier, folder: Path | None, say: Callable[[str], None], with_grid: bool = False):
        self._clf, self._say = clf, say
        self.stages = stages_of(clf)
        self.grid_of = self.stages[-2:][0] if with_grid else ""  # the last has little left that is not in its mean
        key = {
            "format": _FORMAT,
            "weights": clf.card.tensors_sha256,
            "network": [clf.card.model, clf.card.bn_epsilon],
            "preprocessing": clf.card.preprocessing.to_dict(),
            "stages": self.stages,
            "parts": PARTS,
            "dtype": clf.dtype,
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = (folder or cache_dir() / "features") / f"{clf.card.arch}-{name}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.seconds = 0.0  # of computing, and
        self.computed = 0  # how many videos it was

    def run(
        self, data: LabelledVideos, videos: Sequence[int], views: Sequence[str], batch_size: int = 0
    ) -> tuple[dict[int, VideoFeatures], dict[int, Exception]]:
        """Returns the features of videos, and the errors of those that cannot be read.

        What was computed is kept as soon as it is: after an interruption the same call goes on.

        Args:
          data: the videos.
          videos: places in `data.videos`.
          views: of `VIEWS`.
          batch_size: clips per batch; 0 to choose by the device.
        """
        failed: dict[int, Exception] = {}
        contents = self._contents(data, videos, failed)
        found = {index: self._read(sha, views) for index, sha in contents.items()}
        missing = [index for index, features in found.items() if features is None]
        if missing:
            self._say(f"{len(videos) - len(missing) - len(failed):,} of {len(videos):,} videos are computed already")
            with locked(self._folder, wait=True):  # another process may be computing the same
                self._fill(data, {index: contents[index] for index in missing}, views, batch_size, found, failed)
        return {index: features for index, features in found.items() if features is not None}, failed

    def _fill(self, data, contents: dict[int, str], views, batch_size, found, failed) -> None:
        """Adds to `found` or `failed` those that are not there."""
        start = time.monotonic()
        found |= {index: self._read(sha, views) for index, sha in contents.items()}
        missing = [index for index in contents if found[index] is None]
        first = {contents[index]: index for index in reversed(missing)}  # of each content one video
        new = tuple(view for view in views if any(self._read(sha, (view,)) is None for sha in first))
        for index, features in self._compute(data, list(first.values()), new, failed, batch_size):
            self._write(contents[index], features)
            found[index] = features if new == tuple(views) else self._read(contents[index], views)
            self.computed += 1
        for index in missing:
            same = first[contents[index]]
            if same in failed:
                failed.setdefault(index, failed[same])
            else:
                found[index] = found[same]
        self.seconds += time.monotonic() - start

    def _contents(self, data, videos, failed) -> dict[int, str]:
        def content(index: int) -> str | Exception:
            try:
                return data.content_sha256(index)
            except (UserError, OSError) as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = dict(zip(videos, pool.map(content, videos), strict=True))
        failed.update({index: value for index, value in found.items() if isinstance(value, Exception)})
        return {index: value for index, value in found.items() if isinstance(value, str)}

    def _compute(self, data, videos, views, failed, batch_size) -> Iterator[tuple[int, VideoFeatures]]:
        if not videos:
            return
        spec, size = self._clf.card.preprocessing, video_clips.stored_size(self._clf.card)
        scanned = _ahead(lambda index: data.scan(index, size, spec.flow), videos)
        results = runner.run_scanned(
            self._clf,
            self._clf.averages(self.stages, views, self.grid_of, HeadSpec.grid),
            scanned,
            lambda video: video_clips.plan(video, spec),
            failed.__setitem__,
            batch_size,
            in_order=False,
        )
        with tqdm(results, total=len(videos), unit="video", desc="features", disable=None) as bar:
            for result in bar:
                yield result.source, _features(result, views, self.stages)

    def _path(self, sha: str, view: str, with_grid: bool) -> Path:
        return self._folder / sha[:2] / f"{sha}.{view}{'.grid' if with_grid else ''}.npz"

    def _read(self, sha: str, views: Sequence[str]) -> VideoFeatures | None:
        """Returns kept features; None where they are not, or damaged."""
        averages, grids, meta = {}, {}, {}
        for view in views:
            path = self._path(sha, view, False)
            if self.grid_of or not path.exists():
                path = self._path(sha, view, True)  # has all that the other has
            try:
                with open_arrays(path) as arrays:
                    averages[view] = {stage: arrays[stage] for stage in self.stages}
                    if self.grid_of:
                        grids[view] = arrays["grid"]
                    meta = {key: arrays[f"video/{key}"] for key in ("count", "fps", "height", "width", "times")}
            except DAMAGES:
                return None
        sizes = {key: int(meta[key]) for key in ("count", "height", "width")}
        times = meta["times"] if meta["times"].size else None
        return VideoFeatures(averages, grids or None, **sizes, fps=float(meta["fps"]), times=times)

    def _write(self, sha: str, features: VideoFeatures) -> None:
        times = np.zeros(0) if features.times is None else features.times
        meta = {"count": features.count, "fps": features.fps, "height": features.height, "width": features.width}
        meta = {f"video/{key}": np.asarray(value) for key, value in (meta | {"times": times}).items()}
        for view, averages in features.averages.items():
            grid = {"grid": features.grids[view]} if features.grids else {}
            write_arrays(self._path(sha, view, bool(grid)), {**averages, **grid, **meta})


def stages_of(clf: Classifier) -> tuple[str, ...]:
    """Returns the deepest stages with weights of a network, in order of depth; of several networks those of each."""
    return tuple(stage for stages in by_network(clf.model.channels()) for stage in stages[-_STAGES:])


def samples_of(
    data: LabelledVideos, features: dict[int, VideoFeatures], videos: Sequence[int], grid_of: str = ""
) -> Samples:
    """Returns the features of videos as arrays; `labels` and `groups` are in the order of `videos`."""
    some, some_grids = features[videos[0]].averages, features[videos[0]].grids
    averages = {
        view: {stage: np.concatenate([features[i].averages[view][stage] for i in videos]) for stage in of}
        for view, of in some.items()
    }
    grids = some_grids and {view: np.concatenate([features[i].grids[view] for i in videos]) for view in some_grids}
    counts = [len(next(iter(features[i].averages[VIEWS[0]].values()))) for i in videos]
    chosen = [data.videos[i] for i in videos]
    return Samples(
        averages,
        np.repeat(np.arange(len(videos)), counts),
        np.asarray([video.label for video in chosen]),
        np.asarray([video.group or f"/{video.name}" for video in chosen]),
        grids,
        grid_of,
    )


def records_of(data: LabelledVideos, features: dict[int, VideoFeatures]) -> list[VideoRecord]:
    """Returns the records of all videos; those without features, which are not used, are on neither side."""
    records, known = [], next(iter(features.values()))
    for index in range(len(data.videos)):
        one = features.get(index)
        if one is None:
            unused = record_of(data, index, Scanned(Path(), 1, 0.0, (known.height, known.width), None))
            records.append(dataclasses.replace(unused, splits={data.split: "neither"}))
        else:
            scanned = Scanned(Path(), one.count, one.fps, (one.height, one.width), None, frame_times=one.times)
            records.append(record_of(data, index, scanned))
    return records


def _features(result: runner.VideoResult, views: Sequence[str], stages: Sequence[str]) -> VideoFeatures:
    scanned = result.scanned
    averages = {
        view: {stage: in_parts(result.outputs[stage][:, number]) for stage in stages}
        for number, view in enumerate(views)
    }
    grid = result.outputs.get("grid")
    grids = None if grid is None else {view: grid[:, number] for number, view in enumerate(views)}
    return VideoFeatures(averages, grids, scanned.count, scanned.fps, *scanned.size, scanned.times)


def _ahead(function: Callable[[int], Any], items: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Yields (item, result or error) in order, computed by threads a few items ahead."""

    def caught(item: int) -> Any:
        try:
            return function(item)
        except (UserError, OSError) as error:
            return error

    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, concurrent.futures.Future]] = deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(caught, item)))
            if len(waiting) > workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
