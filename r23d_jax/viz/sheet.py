"""A contact sheet: one row for each clip, from the very arrays that the network is fed."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from r23d_jax.runtime.files import write_bytes
from r23d_jax.training.preview import Clip
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.viz.lettering import font, shorten, wrap

ENDINGS = (".png", ".jpg", ".jpeg")
_TILE = 112  # pixels at least: smaller clips are enlarged a whole number of times, pixel by pixel
_TEXT, _GAP, _ROW_GAP, _MARGIN, _HEAD = 240, 3, 12, 18, 78
_PAPER, _INK, _PALE, _RULE = (255, 255, 255), (26, 26, 26), (110, 110, 110), (225, 225, 225)
_FAST = 0.98  # quantile of the speeds of optical flow that gets the full colour


@dataclasses.dataclass(frozen=True)
class _Paint:
    """How pixels are shown: `stored` from uint8 [H, W, C], `video` from the network's input [T, S, S, C].

    Both give uint8 RGB; `note` says what the colours mean, and `key` shows it, where that needs saying.
    """

    stored: Callable[[np.ndarray], np.ndarray]
    video: Callable[[np.ndarray], np.ndarray]
    note: str = ""
    key: np.ndarray | None = None


def draw(clips: Sequence[Clip], spec: Preprocessing, title: str, note: str, columns: int = 8) -> Image.Image:
    """Draws a row for each clip: labels and name, its first frame as stored, and evenly chosen frames of the clip.

    Args:
      clips: at least one.
      spec: how they were normalised.
      title: the first line.
      note: of the second, after the size of the clips.
      columns: frames of a clip at most.
    """
    height, width = clips[0].video.shape[1:3]
    lengths = sorted({len(clip.video) for clip in clips})  # whole videos differ in it
    places = min(columns, lengths[-1])
    scale = max(1, round(_TILE / min(height, width)))
    tile = (width * scale, height * scale)
    before = [round(tile[1] * clip.stored.shape[1] / clip.stored.shape[0]) for clip in clips]
    stored_left = _MARGIN + _TEXT
    left = stored_left + max(before) + 5 * _GAP
    size = (left + places * (tile[0] + _GAP) - _GAP + _MARGIN, _HEAD + len(clips) * (tile[1] + _ROW_GAP) + _MARGIN)
    paint = _optical_flow(clips, spec) if spec.channels == "flow" else _rgb(spec)

    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    room = size[0] - 2 * _MARGIN - (0 if paint.key is None else paint.key.shape[1] + _MARGIN)
    enlarged = f", shown {scale} times as large" if scale > 1 else ""
    every = f", {spec.stride} frames of the video apart," if spec.stride > 1 else ""
    frames = " to ".join(map(str, lengths[:: max(1, len(lengths) - 1)]))
    notes = f"Clips of {frames} frames{every} of {width}x{height}{enlarged}. {note} {paint.note}"
    pen.text((_MARGIN, 12), shorten(pen, title, font(15, bold=True), room), _INK, font(15, bold=True))
    pen.text((_MARGIN, 34), shorten(pen, notes, font(12), room), _PALE, font(12))
    pen.text((stored_left, _HEAD - 18), "as stored", _PALE, font(11))
    for place, frame in enumerate(spread(lengths[0], places) if len(lengths) == 1 else [0]):
        name = f"frame {frame + 1}" if place == 0 else f"{frame + 1}"
        pen.text((left + place * (tile[0] + _GAP), _HEAD - 18), name, _PALE, font(11))
    for row, clip in enumerate(clips):
        y = _HEAD + row * (tile[1] + _ROW_GAP)
        if row:
            pen.line((_MARGIN, y - _ROW_GAP // 2, size[0] - _MARGIN, y - _ROW_GAP // 2), _RULE)
        _write_names(pen, clip, (_MARGIN, y), tile[1])
        stored = Image.fromarray(paint.stored(clip.stored)).resize((before[row], tile[1]), Image.Resampling.LANCZOS)
        _paste(sheet, pen, stored, (stored_left, y))
        for place, picture in enumerate(paint.video(clip.video[spread(len(clip.video), places)])):
            large = Image.fromarray(picture).resize(tile, Image.Resampling.NEAREST)
            _paste(sheet, pen, large, (left + place * (tile[0] + _GAP), y))
    if paint.key is not None:
        sheet.paste(Image.fromarray(paint.key), (size[0] - _MARGIN - paint.key.shape[1], 6))
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Writes the picture in the format that its ending names, one of `ENDINGS`, whole or not at all."""
    data = io.BytesIO()
    sheet.save(data, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=92)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data.getvalue())


def spread(length: int, count: int) -> np.ndarray:
    """Returns the indices of at most `count` of `length` frames, evenly chosen, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, corner: tuple[int, int]) -> None:
    """The picture in a thin frame: optical flow is white at its edges."""
    (x, y), (width, height) = corner, picture.size
    pen.rectangle((x - 1, y - 1, x + width, y + height), outline=_RULE)
    sheet.paste(picture, corner)


def _write_names(pen: ImageDraw.ImageDraw, clip: Clip, corner: tuple[int, int], height: int) -> None:
    """Labels, with their shares where clips are mixed, and below them the video's name."""
    x, y = corner
    width, end = _TEXT - 2 * _GAP, y + height
    for label, share in clip.shares[:3]:
        text = label if len(clip.shares) == 1 else f"{100 * share:.0f} % {label}"
        pen.text((x, y), shorten(pen, text, font(13, bold=True), width), _INK, font(13, bold=True))
        y += 18
    y += 3
    for name in (clip.name, f"mixed with {clip.partner}") if clip.partner else (clip.name,):
        for line in wrap(pen, name, font(11), width, 2 if clip.partner else max(1, (end - y) // 15)):
            pen.text((x, y), line, _PALE, font(11))
            y += 15


def to_uint8(clip: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Returns a normalised clip, float [T, H, W, C], as the stored values: uint8 of the same shape."""
    return np.clip(np.rint(clip_transforms.denormalise(clip, spec)), 0, 255).astype(np.uint8)


def _rgb(spec: Preprocessing) -> _Paint:
    return _Paint(stored=lambda frame: frame, video=lambda clip: to_uint8(clip, spec))


def _optical_flow(clips: Sequence[Clip], spec: Preprocessing) -> _Paint:
    """Direction as hue, speed as saturation, on one scale for the whole sheet."""
    from r23d_jax.data import flow  # OpenCV, which nothing else here needs

    def field(clip):
        return flow.dequantise(clip_transforms.denormalise(clip, spec))

    speeds = np.concatenate([np.linalg.norm(field(clip.video), axis=-1).ravel() for clip in clips])
    full = max(float(np.quantile(speeds, _FAST)), 0.5)
    y, x = np.mgrid[-1:1:44j, -1:1:44j]
    key = np.where((np.hypot(x, y) <= 1)[..., None], flow_colours(np.stack([x, y], -1), 1), 255).astype(np.uint8)
    return _Paint(
        stored=lambda frame: flow_colours(flow.dequantise(frame), full),
        video=lambda clip: flow_colours(field(clip), full),
        note=f"Optical flow ({spec.flow}): hue is the direction of motion, full colour {full:.1f} pixels a frame.",
        key=key,
    )


def flow_colours(field: np.ndarray, full: float) -> np.ndarray:
    """Returns motion as colours: direction as hue (right is red), speed as saturation, white at rest.

    Args:
      field: float [..., 2], x to the right and y down.
      full: speed from which on the colour is fully saturated.

    Returns:
      uint8 [..., 3].
    """
    hue = np.arctan2(field[..., 1], field[..., 0])
    saturation = np.minimum(np.linalg.norm(field, axis=-1) / full, 1)
    # Cosines a third of a turn apart: a wheel of colours of about the same brightness.
    pure = 0.5 + 0.5 * np.cos(hue[..., None] - np.array([0, 2, 4]) * np.pi / 3)
    return np.rint(255 * (1 - saturation[..., None] * (1 - pure))).astype(np.uint8)
