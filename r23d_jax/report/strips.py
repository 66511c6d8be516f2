"""Frames of chosen videos as the network saw them, with class activation maps below each."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import simplejpeg

from r23d_jax.data import loader, records
from r23d_jax.data.dataset import Dataset
from r23d_jax.data.views import Views, plans
from r23d_jax.errors import UserError
from r23d_jax.evaluation.metrics import softmax
from r23d_jax.inference import cam
from r23d_jax.report.run import Run
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.viz import sheet
from r23d_jax.weights import checkpoint, loading
from r23d_jax.weights.card import Card

FRAMES = 8
_SIDE = 128  # pixels of a tile's frame at most
_BUDGET = 1_900_000  # characters of all tiles of a report together
_QUALITIES = (85, 75, 60, 45, 30)


@dataclasses.dataclass(frozen=True)
class Strip:
    """One video's clip.

    Attributes:
      row: of the predictions.
      tiles: JPEG data URIs, one a frame shown: the frame, under it the maps of `classes`.
      size: (width, height) of a tile.
      classes: whose maps they are.
      peaks: the highest evidence for each, in logits above the mean class.
      places: where that is, in words.
      own: float [C], the clip's own softmax.
    """

    row: int
    tiles: list[str]
    size: tuple[int, int]
    classes: list[int]
    peaks: list[float]
    places: list[str]
    own: np.ndarray


def evaluated_dataset(run: Run, data_dir: str | None = None) -> records.VideoDataset:
    """Opens the data set a run was evaluated on, in its folder then or in `data_dir`."""
    name = run.results.get("dataset") or run.dataset.get("name")
    data_dir = data_dir or run.config.get("dataset.data_dir")
    if not name or not data_dir:
        raise UserError("the workdir does not say where its data set is (--data_dir DIR does)")
    return records.VideoDataset.open(data_dir, name)


def evaluated_weights(run: Run) -> tuple[Mapping[str, Any], Card]:
    """Returns flat weights and card of the checkpoint that `results.json` is about."""
    root = run.workdir / "checkpoints"
    found = {path.name: path for path in root.glob("[0-9]*")} if root.is_dir() else {}
    wanted = f"{run.results.get('step', 0):08d}"
    if wanted not in found:
        raise UserError(f"the checkpoint that was evaluated (step {int(wanted)}) is not in the workdir")
    return checkpoint.load_weights(found[wanted])


def collect(run: Run, dataset: Dataset, weights: tuple[Mapping[str, Any], Card], rows: np.ndarray) -> list[Strip]:
    """Returns the strips of some videos, each from the middle clip of its video.

    Args:
      run: with predictions.
      dataset: the one they were made on.
      weights: flat weights and their card.
      rows: int, of the predictions.

    Raises:
      UserError: another data set, a video that is not in it, or a network without activation maps.
    """
    known = run.results.get("dataset_fingerprint", dataset.fingerprint)
    if dataset.fingerprint != known:
        raise UserError(f"{dataset.full_name} as it is now is another build than the one that was evaluated")
    flat, card = weights
    flat = {name: np.asarray(jax.device_get(value)) for name, value in flat.items()}
    network = cam.ActivationMapper(loading.build(card, flat))
    place = {video.name: position for position, video in enumerate(dataset.videos)}
    missing = [name for name in run.scores.names[rows] if name not in place]
    if missing:
        raise UserError(f"{dataset.full_name}: has no video {missing[0]}")
    positions = np.array([place[name] for name in run.scores.names[rows]], np.int64)
    clips = _clips(dataset, positions, card.preprocessing)
    drawn = [_draw(run, row, network, clip, card.preprocessing) for row, clip in zip(rows, clips, strict=True)]
    return _encode(drawn)


def _clips(dataset: Dataset, positions: np.ndarray, spec: Preprocessing) -> list[np.ndarray]:
    """The network's input [T, H, W, C] for each video, made by the evaluation's own code."""
    clips: dict[int, np.ndarray] = {}
    transform = jax.jit(clip_transforms.eval_transform(spec, 1, "float32"))
    for plan in _plans(dataset, positions, spec):
        stream = loader.eval_batches(
            dataset, plan, batch_size=1, process_index=0, process_count=1, threads=0, prefetch=2
        )
        middle = np.bincount(plan.video)[plan.video] // 2 == plan.view
        for batch in stream:
            video = np.asarray(transform(batch["frames"], batch["size"], batch["crop"]))
            clips |= {int(plan.video[i]): video[n] for n, i in enumerate(batch["index"]) if i >= 0 and middle[i]}
    return [clips[n] for n in range(len(positions))]


def _plans(dataset: Dataset, positions: np.ndarray, spec: Preprocessing) -> list[Views]:
    """The middle clip of each video, or, of whole videos in few lengths, all of its clips."""
    views = 1 if spec.sampling == "dense" else spec.sampling
    frames = spec.frames or 64  # of a whole video, enough to look at
    return plans(
        dataset, positions, frames=frames, stride=spec.stride, fps=spec.fps, max_frames=spec.max_frames, views=views
    )


def _draw(
    run: Run, row: int, network: cam.ActivationMapper, clip: np.ndarray, spec: Preprocessing
) -> tuple[Strip, np.ndarray]:
    """Returns the strip without its tiles, and the tiles as uint8 [F, rows * H, W, 3]."""
    predicted, true = int(run.scores.scores[row].argmax()), int(run.scores.labels[row])
    classes = [predicted] if predicted == true else [predicted, true]
    seen = network(clip[None])
    maps = seen.maps(np.array([classes]), relative=True)
    frames = to_rgb(clip, spec)
    shown = sheet.spread(len(frames), FRAMES)
    heat = cam.normalise(cam.upsample(maps, *frames.shape[:3], offset=seen.offset))[0][:, shown]
    rows = [frames[shown], *(cam.overlay(frames[shown], one) for one in heat)]
    step = max(1, -(-max(frames.shape[1:3]) // _SIDE))
    tiles = np.concatenate([one[:, ::step, ::step] for one in rows], axis=1)
    strip = Strip(
        row=int(row),
        tiles=[],
        size=(tiles.shape[2], tiles.shape[1]),
        classes=classes,
        peaks=[float(one.max()) for one in maps[0]],
        places=[_place(one) for one in heat],
        own=softmax(seen.logits)[0],
    )
    return strip, tiles


def to_rgb(clip: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Returns a normalised clip as frames to look at.

    Args:
      clip: float [T, H, W, C], C 3 for RGB or 2 for optical flow.
      spec: how it was normalised.

    Returns:
      uint8 [T, H, W, 3]; of flow red is the horizontal and green the vertical part, both mid-grey at rest.
    """
    pixels = sheet.to_uint8(clip, spec)
    if pixels.shape[-1] == 2:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 128)], axis=-1)
    return pixels


def _place(heat: np.ndarray) -> str:
    """Where a map [F, H, W] is highest, in words."""
    if not heat.max():
        return "nowhere"
    frame, y, x = np.unravel_index(heat.argmax(), heat.shape)
    down = ("top", "middle", "bottom")[3 * int(y) // heat.shape[1]]
    across = ("left", "centre", "right")[3 * int(x) // heat.shape[2]]
    return f"frame {frame + 1} of {len(heat)}, {down} {across}"


def _encode(drawn: list[tuple[Strip, np.ndarray]]) -> list[Strip]:
    """Encodes the tiles at the best JPEG quality that keeps the page small enough to send."""
    tiles = []
    for quality in _QUALITIES:
        tiles = [[_data_uri(tile, quality) for tile in images] for _, images in drawn]
        if sum(len(uri) for uris in tiles for uri in uris) <= _BUDGET:
            break
    return [dataclasses.replace(strip, tiles=uris) for (strip, _), uris in zip(drawn, tiles, strict=True)]


def _data_uri(image: np.ndarray, quality: int) -> str:
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling="420")
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
