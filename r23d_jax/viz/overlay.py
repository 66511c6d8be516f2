"""Copies of videos annotated with predictions: labels with bars, and class activation maps."""

import bisect
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from r23d_jax.data import timing
from r23d_jax.data.scaling import Scaler, target_size
from r23d_jax.data.video import Video
from r23d_jax.errors import UserError
from r23d_jax.inference import cam, runner
from r23d_jax.inference.classifier import Classifier, Prediction, top_labels
from r23d_jax.inference.runner import VideoResult
from r23d_jax.viz import lettering
from r23d_jax.viz.timeline import edges_of

ENDINGS = (".mp4", ".gif")
_LABELS = 3
_SHORT_SIDE = (240, 480)  # small enough to encode quickly, large enough for the labels to be read
_GIF_SHORT_SIDE, _GIF_FPS, _GIF_FRAMES = 200, 12.5, 1500
_GIF_GAP = 0.064  # seconds at least between frames of a variable rate: up to 15 a second, as of a constant one
_TICKS = 90_000  # a second, of time stamps in an MP4 of variable rate


@dataclasses.dataclass(frozen=True)
class Segment:
    """The labels to show for a part of the video.

    Attributes:
      start, end: seconds; `end` is not part of it.
      top: `(label, score)`, highest first.
    """

    start: float
    end: float
    top: Sequence[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Heat:
    """A class activation map over time.

    Attributes:
      at: frame of the file to float [h, w] in 0..1, or None where no clip saw that frame.
      box: (top, left, bottom, right) of what the network saw, as shares of the frame's height and width.
    """

    at: Callable[[int], np.ndarray | None]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def write(
    path: Path,
    video: Path,
    fps: float,
    segments: Sequence[Segment],
    heat: Heat | None = None,
    times: np.ndarray | None = None,
) -> None:
    """Writes the annotated copy, without sound, whole or not at all.

    Args:
      path: `.mp4` (H.264) or `.gif` (short videos: about 12.5 frames a second at most and 1500 frames).
      video: the file to annotate.
      fps: its average frame rate.
      segments: in order; the last one that has begun is shown.
      heat: drawn over the frames, under the labels.
      times: seconds from the first frame to each, float [frames], ascending; None where the rate is constant.

    Raises:
      UserError: another ending, the video itself, a video too long for a GIF, or a `VideoError`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: annotated videos are written as {' or '.join(ENDINGS)}")
    if path.exists() and path.samefile(video):
        raise UserError(f"{path}: is the video itself; give the annotated copy another name")
    gif = path.suffix.lower() == ".gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix.lower()}")
    times = _Times(fps, times)
    frames = _annotated(video, times, segments, heat, (_GIF_SHORT_SIDE,) * 2 if gif else _SHORT_SIDE, gif)
    try:
        if gif:
            _write_gif(temporary, frames, times, path)
        else:
            _write_mp4(temporary, frames, times)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_prediction(path: Path, prediction: Prediction, clf: Classifier, with_heat: bool = False) -> None:
    """Writes a video's annotated copy; `with_heat` with class activation maps of its first label under the labels."""
    spans, scores = prediction.windows()
    edges = edges_of(spans)
    segments = [
        Segment(start, end, [(row["label"], row["score"]) for row in top_labels(mean, clf.labels, _LABELS)])
        for start, end, mean in zip(edges[:-1], edges[1:], scores, strict=True)
    ]
    result = prediction.result
    heat = class_heat(clf, result, int(np.argmax(prediction.scores))) if with_heat else None
    scanned = result.scanned
    write(path, result.source.path, scanned.fps, segments, heat, scanned.frame_times)


def class_heat(network: Classifier, result: VideoResult, label: int) -> Heat:
    """Returns the class activation map of a class over a video.

    Brightness is the square root of a frame's highest evidence over the video's: on a linear scale one strong moment
    would leave all others dark. The clips are run a second time, as the maps of all classes of a long video would not
    fit into memory.

    Args:
      network: the result is its.
      result: of the video.
      label: index of the class.
    """

    def failed(_, error):
        raise error

    (again,) = runner.run(network, network.class_maps(label), [result.source], lambda _: result.plan, failed)
    maps = cam.normalise(again.outputs)
    peaks = maps.max(axis=(2, 3), keepdims=True)
    maps = np.divide(maps, np.sqrt(peaks), out=np.zeros_like(maps), where=peaks > 0)
    spec, fps = network.card.preprocessing, result.scanned.fps
    step = None if result.scanned.times is not None else max(1, round(spec.stride * fps / (spec.fps or fps)))
    clip_of, place_of = _clips_by_frame(result.plan.indices, result.scanned.count, step)
    offset = tuple(getattr(network.model, "map_offset", (0.0, 0.0, 0.0)))
    # In pixels after the card's resize, which may differ from those decoded.
    height, width = target_size(*result.scanned.size, spec.resize)
    inside = (min(height, spec.crop or height), min(width, spec.crop or width))

    @functools.lru_cache(1)
    def enlarged(row):
        return cam.upsample(maps[row], result.plan.indices.shape[1], *inside, offset)

    def at(frame):
        known = frame < len(clip_of) and clip_of[frame] >= 0
        return enlarged(int(clip_of[frame]))[place_of[frame]] if known else None

    top, left = (height - inside[0]) / 2 / height, (width - inside[1]) / 2 / width
    return Heat(at, (top, left, 1 - top, 1 - left))


def blend(frame: np.ndarray, heat: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Lays a map over the part of a frame that the network saw; the frame turns grey, and dark outside that part.

    Args:
      frame: uint8 [H, W, 3].
      heat: float [h, w] in 0..1, brought to the size of the box.
      box: as in `Heat`.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = frame.shape[:2]
    top, bottom = round(box[0] * height), round(box[2] * height)
    left, right = round(box[1] * width), round(box[3] * width)
    fitted = Image.fromarray(np.asarray(heat, np.float32)).resize((right - left, bottom - top))
    result = cam.overlay(frame, np.zeros((height, width), np.float32)) // 2
    result[top:bottom, left:right] = cam.overlay(frame[top:bottom, left:right], np.clip(np.asarray(fitted), 0, 1))
    return result


def _clips_by_frame(indices: np.ndarray, count: int, step: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each frame of the file a clip with it and its place in the clip, -1 where there is none.

    Args:
      indices: int [clips, T], frames of the file.
      count: frames of the file.
      step: frames of the file that a clip's last frame stands for; the others stand for all up to the next one. None
        for as many as the one before it, where the rate varies.
    """
    clip_of, place_of = np.full(count, -1), np.full(count, -1)
    for row, clip in enumerate(indices):
        falls = np.flatnonzero(np.diff(clip) < 0)
        clip = clip[: falls[0] + 1] if len(falls) else clip  # a short video that is looped: its first round
        last = step or max(1, clip[-1] - clip[-2] if len(clip) > 1 else 1)
        ends = np.append(clip[1:], clip[-1] + last)
        for place, (first, end) in enumerate(zip(clip, ends, strict=True)):
            clip_of[first:end], place_of[first:end] = row, place
    return clip_of, place_of


class _Times:
    """When the frames of a video are shown, in seconds: by their number, or by their times where the rate varies."""

    def __init__(self, fps: float, times: np.ndarray | None):
        self.fps, self._times = fps, times
        self._every = max(1, round(fps / _GIF_FPS))  # frame of a constant rate is shown in a GIF

    @property
    def vary(self) -> bool:
        return self._times is not None

    def __getitem__(self, number: int) -> float:
        if self._times is None:
            return number / self.fps
        count = len(self._times)  # a file that has grown goes on at its average rate
        end = timing.end_of(self._times, self.fps)
        return float(self._times[number]) if number < count else end + (number - count) / self.fps

    def end_of_thinned(self, last: int) -> float:
        """Returns when the last frame shown in a GIF is over."""
        return max(self[last + 1], timing.end_of(self._times, self.fps)) if self.vary else self[last + self._every]

    def thinned(self) -> Callable[[int], bool]:
        """Returns which frames, asked for in order, are shown in a GIF."""
        shown = -np.inf

        def is_shown(number):
            nonlocal shown
            if not self.vary:
                return number % self._every == 0
            due = self[number] - shown >= _GIF_GAP
            shown = self[number] if due else shown
            return due

        return is_shown


def _annotated(video, times, segments, heat, short_sides, thin) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the frames' numbers and annotated pictures, uint8 [H, W, 3] of even height and width; all, or fewer."""
    scaler, size, panels = Scaler(), None, {}
    is_shown = times.thinned() if thin else lambda number: True
    with Video(video) as opened:
        for number, decoded in enumerate(opened.frames()):
            if not is_shown(number):
                continue
            size = size or _shown_size(*opened.display_size(decoded), *short_sides)
            frame = scaler.rgb(decoded, *size, opened.orientation(decoded))
            found = heat.at(number) if heat else None
            if found is not None:
                frame = blend(frame, found, heat.box)
            index = _segment_at(segments, times[number])
            if index not in panels:
                panels = {index: _panel(segments[index], *size)}  # segments come in order: one is enough
            yield number, np.concatenate([frame, panels[index]])


def _shown_size(height: int, width: int, smallest: int, largest: int) -> tuple[int, int]:
    short = min(height, width)
    scale = min(max(short, smallest), largest) / short
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def _segment_at(segments: Sequence[Segment], seconds: float) -> int:
    return max(0, bisect.bisect_right(segments, seconds + 1e-6, key=lambda segment: segment.start) - 1)


def _panel(segment: Segment, height: int, width: int) -> np.ndarray:
    """Draws the labels for below a frame of that size: uint8 [h, width, 3], h even."""
    size = max(11, min(height, width) // 20)
    font, line, margin = lettering.font(size), round(size * 1.45), size // 2
    # Always the same height, so that every frame of the video has the same size.
    panel_height = line * _LABELS + 2 * margin
    panel = Image.new("RGB", (width, panel_height + panel_height % 2), (24, 24, 24))
    draw = ImageDraw.Draw(panel)
    bar_left, bar_right = round(width * 0.55), round(width - 2 * margin - draw.textlength("100 %", font))
    for row, (label, score) in enumerate(segment.top[:_LABELS]):
        y = margin + row * line
        text, bar = ("#FFFFFF", "#FFB020") if row == 0 else ("#C8C8C8", "#A0A0A0")
        draw.text((margin, y), lettering.shorten(draw, label, font, bar_left - 2 * margin), fill=text, font=font)
        draw.rectangle((bar_left, y + size * 0.2, bar_right, y + size), fill="#3A3A3A")
        end = bar_left + (bar_right - bar_left) * min(max(score, 0.0), 1.0)
        draw.rectangle((bar_left, y + size * 0.2, end, y + size), fill=bar)
        draw.text((width - margin, y), f"{100 * score:.0f} %", fill=text, font=font, anchor="ra")
    return np.asarray(panel)


def _write_mp4(path: Path, frames: Iterator[tuple[int, np.ndarray]], times: _Times) -> None:
    rate = Fraction(min(max(times.fps, 1.0), 240.0)).limit_denominator(10_000)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for number, picture in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                if times.vary:
                    stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times.vary:
                frame.time_base, frame.pts = Fraction(1, _TICKS), round(times[number] * _TICKS)
                frame.duration = round(times[number + 1] * _TICKS) - frame.pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_gif(path: Path, frames: Iterator[tuple[int, np.ndarray]], times: _Times, wanted: Path) -> None:
    images, starts = [], []
    for number, frame in frames:
        if len(images) == _GIF_FRAMES:
            raise UserError(
                f"{wanted}: the video is longer than the {times[number]:.0f} s that a GIF is good for; "
                f"write {wanted.with_suffix('.mp4').name}"
            )
        # The fastest method: the others take longer than decoding and drawing.
        images.append(Image.fromarray(frame).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
        starts.append(times[number])
        last = number
    # GIF counts in hundredths of a second, so the frames differ by one of them to keep the time.
    moments = [10 * round(100 * moment) for moment in (*starts, times.end_of_thinned(last))]
    durations = [max(20, after - before) for before, after in zip(moments[:-1], moments[1:], strict=True)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
