"""The classifier: a network with labels and preprocessing, applied to video files and arrays."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.evaluation import metrics
from r23d_jax.inference import cam, protocol, runner, sources
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference.runner import VideoResult
from r23d_jax.inference.sources import VideoSource
from r23d_jax.models import head as heads
from r23d_jax.models.functional import Functional
from r23d_jax.models.ops import formulations, hardware
from r23d_jax.runtime import accelerators, precision
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.weights import architecture, loading
from r23d_jax.weights.card import Card

Videos = str | Path | np.ndarray | Sequence[str | Path | np.ndarray]
Failed = Callable[[VideoSource, Exception], None]


def load(
    source: str | Path,
    *,
    which: str = "best",
    arch: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    dtype: str = "float32",
) -> "Classifier":
    """Loads a network with its labels and preprocessing, ready to use.

    Args:
      source: a published name, a weights file of another project, `hf://OWNER/REPO[/FILE][@REVISION]`, an address, a
        checkpoint folder or a run's workdir.
      which: "best" or "last" checkpoint of a workdir.
      arch, labels: as in `weights.loading.load`, if the file does not contain them.
      dtype: "float32", "bfloat16" or "float16", to compute in.

    Raises:
      UserError: the source is missing, damaged or of no known network, or this hardware has a better dtype.
    """
    precision.check(dtype, *precision.hardware())
    return Classifier(*loading.load_flat(source, arch, labels, which=which), dtype)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The scores of one video.

    Attributes:
      video: its path, or "array".
      top: `{"label", "score"}`, highest first; scores are softmax probabilities, averaged over the clips.
      scores: float64 [classes], in the order of the labels.
      clip_scores: float64 [clips, classes].
      protocol: describes how the scores were computed.
      result: the clips and their positions in the video.
    """

    video: str
    top: list[dict[str, Any]]
    scores: np.ndarray
    clip_scores: np.ndarray
    protocol: str
    result: VideoResult

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that `predict --json` writes."""
        return {"video": self.video, "top": self.top, "clips": len(self.clip_scores), "protocol": self.protocol}

    def windows(self) -> tuple[list[tuple[float, float]], np.ndarray]:
        """Returns `(start, end)` of each window in seconds, and float64 [windows, classes], its scores."""
        windows = self.result.plan.windows
        spans = [(start, end) for start, end, _ in windows]
        return spans, np.stack([self.clip_scores[rows].mean(axis=0) for _, _, rows in windows])


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of one video's clips.

    Attributes:
      video: its path, or "array".
      features: float32 [clips, D], or [clips, T', H', W', D] without pooling.
      start_seconds: float64 [clips], time of each clip's first frame.
      fps: of the video.
      protocol: describes how the features were computed.
      source: the video.
      notes: what the user should know of the file, each what follows its name in a sentence.
    """

    video: str
    features: np.ndarray
    start_seconds: np.ndarray
    fps: float
    protocol: str
    source: VideoSource
    notes: tuple[str, ...] = ()


def top_labels(scores: np.ndarray, labels: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Returns `{"label", "score"}` of the top-k labels, highest first; ties in the order of the labels."""
    best = np.argsort(-scores, kind="stable")[:top]
    return [{"label": labels[index], "score": float(scores[index])} for index in best]


class Classifier:
    """A checkpoint's network, labels and preprocessing.

    Args:
      weights: flat, `{path: array}`.
      card: of the weights; it determines network and preprocessing.
      dtype: "float32", "bfloat16" or "float16", to compute in.

    Attributes:
      card: of the weights.
      labels: class names in the order of the logits; "class 0" and so on if the source has none.
      model: the network's structure, without values.
    """

    def __init__(self, weights: dict[str, np.ndarray], card: Card, dtype: str = "float32"):
        accelerators.warn_if_unused()
        self.card, self.dtype = card, dtype
        self.labels = tuple(card.labels) or tuple(f"class {index}" for index in range(card.model["num_classes"]))
        # Only shapes: drawing initial weights takes seconds, and they would not be used.
        self.model = nnx.eval_shape(lambda: models.from_card(card, dtype=dtype))
        architecture.check(card.arch, self.model, weights)
        self._weights = jax.device_put(weights)
        self._functional = Functional(self.model)
        self._activations: cam.ActivationMapper | None = None
        whole_pixels = hardware.policy().whole_pixels
        self._transform = jax.jit(clip_transforms.eval_transform(card.preprocessing, 1, dtype, whole_pixels))
        self._logits = self._bind(self._functional.eval)

    # --- videos in, answers out

    def predict(
        self,
        videos: Videos,
        *,
        top: int = 5,
        clips: str | int | None = None,
        fps: float | None = None,
        batch_size: int = 0,
    ) -> Prediction | list[Prediction]:
        """Classifies videos.

        Args:
          videos: a file or frames uint8 [T, H, W, 3], which return one prediction; or a folder, a glob pattern or a
            list of any of these, which return a list.
          top: labels per video.
          clips: "dense" for every non-overlapping clip, or a number of uniformly spread ones; None, the default, as the
            card says, which is "dense" but for weights trained on clips spread over the whole video.
          fps: frame rate of arrays.
          batch_size: clips per batch; 0 to choose by the device.

        Raises:
          UserError: a video cannot be read.
        """
        found, single = self._find(videos, fps)
        predictions = list(self.iter_predictions(found, top=top, clips=clips, batch_size=batch_size))
        return predictions[0] if single else predictions

    def features(
        self,
        videos: Videos,
        *,
        layer: str = "pool",
        pool: bool = True,
        clips: str | int | None = None,
        fps: float | None = None,
        batch_size: int = 0,
    ) -> Features | list[Features]:
        """Returns a stage's output for every clip of videos.

        Args:
          videos, clips, fps, batch_size: as in `predict`.
          layer: one of `layers()`.
          pool: whether to average maps over time and space.

        Raises:
          UserError: a video cannot be read, or there is no such layer.
        """
        found, single = self._find(videos, fps)
        features = list(self.iter_features(found, layer=layer, pool=pool, clips=clips, batch_size=batch_size))
        return features[0] if single else features

    def fit(self, data: str | Path, out: str | Path, **options: Any) -> "Classifier":
        """Returns a classifier for labelled videos on the frozen features of this one; see `r23d_jax.fit`."""
        import r23d_jax  # the front door, which is above this module

        return r23d_jax.fit(self, data, out, **{"dtype": self.dtype, **options})

    def iter_predictions(
        self,
        found: Iterable[VideoSource],
        *,
        top: int = 5,
        clips: str | int | None = None,
        sliding: tuple[float, float] | None = None,
        failed: Failed | None = None,
        batch_size: int = 0,
    ) -> Iterator[Prediction]:
        """Yields predictions one at a time, in the order of the videos.

        Args:
          found: from `sources.find`.
          top, clips, batch_size: as in `predict`.
          sliding: (window, step) in seconds for sliding windows over a long video, 0 for the defaults.
          failed: called with each video that cannot be read and its error; by default the error is raised.
        """
        if self.card.source.get("classifier") == "none":
            raise UserError(
                f"{self.card.source.get('published') or self.card.source['file']}: has no classifier, so it predicts "
                "nothing: extract features, or fine-tune it (init_from)"
            )
        spec = self.card.preprocessing

        def plan(scanned):
            return video_clips.sliding(scanned, spec, *sliding) if sliding else video_clips.plan(scanned, spec, clips)

        sentence = protocol.describe(self.card, clips, self.dtype, sliding)
        for result in runner.run(self, self._logits, found, plan, failed or _raise, batch_size):
            clip_scores = metrics.softmax(result.outputs)
            scores = clip_scores.mean(axis=0)
            best = top_labels(scores, self.labels, top)
            yield Prediction(str(result.source.path), best, scores, clip_scores, sentence, result)

    def iter_features(
        self,
        found: Iterable[VideoSource],
        *,
        layer: str = "pool",
        pool: bool = True,
        clips: str | int | None = None,
        failed: Failed | None = None,
        batch_size: int = 0,
    ) -> Iterator[Features]:
        """Yields features one at a time; arguments as in `features` and `iter_predictions`."""
        spec, sentence = self.card.preprocessing, self.feature_protocol(layer, pool, clips)
        stage = self.stage(layer, pool)
        plan = functools.partial(video_clips.plan, spec=spec, views=clips)
        for result in runner.run(self, stage, found, plan, failed or _raise, batch_size):
            starts, scanned = result.plan.start_seconds, result.scanned
            path, source = str(result.source.path), result.source
            yield Features(path, result.outputs, starts, scanned.fps, sentence, source, scanned.notes)

    def feature_protocol(self, layer: str, pool: bool, clips: str | int | None) -> str:
        """Returns one sentence that describes how features are computed."""
        what = f"mean of {layer}" if pool and layer != "pool" else layer
        return protocol.describe(self.card, clips, self.dtype, aggregate=what)

    # --- arrays in, arrays out

    @property
    def weights(self) -> dict[str, jax.Array]:
        """The weights by path; see `models.flatten`."""
        return dict(self._weights)

    def transform(self, frames: np.ndarray) -> jax.Array:
        """Returns the network's input: resized, cropped and normalised as in training.

        Args:
          frames: uint8 [T, H, W, 3] or [B, T, H, W, 3], RGB as decoded.

        Returns:
          [B, T, S, S, C] in the classifier's dtype; B is 1 for a single clip.
        """
        frames = np.asarray(frames)
        sources.check_frames(frames[None] if frames.ndim == 4 else frames, axes=5)
        batch = frames[None] if frames.ndim == 4 else frames
        size, flow = video_clips.stored_size(self.card), self.card.preprocessing.flow
        clips = np.stack([video_clips.scale(clip, size, flow) for clip in batch])
        return self.prepare(clips, np.tile(np.int32(clips.shape[2:4]), (len(clips), 1)))

    def __call__(self, clips: jax.Array | np.ndarray) -> jax.Array:
        """Returns float32 [B, classes], the logits of clips from `transform`."""
        return self._logits(clips)

    def layers(self) -> tuple[str, ...]:
        """Returns the names of the stages, in order of depth."""
        spec, model = self.card.preprocessing, self.card.model
        side = spec.crop or 112
        clip = (1, spec.frames or 16, side, side, model.get("in_channels", 3))
        names = []

        def trace(weights, video):
            names.extend(self._functional.features(weights, weights, video))  # a returned dict would be sorted

        jax.eval_shape(trace, self._weights, jax.ShapeDtypeStruct(clip, np.float32))
        return tuple(names)

    def stage(self, layer: str, pool: bool) -> Callable[[jax.Array], jax.Array]:
        """Returns a function from normalised clips to one stage's output, float32 [B, D] or [B, T', H', W', D].

        Args:
          layer: one of `layers()`.
          pool: whether to average maps over time and space.

        Raises:
          UserError: there is no such layer.
        """
        if layer not in self.layers():
            raise UserError(f"--layer {layer}: {self.card.arch} has {', '.join(self.layers())}")

        def output(params, stats, video):
            value = self._functional.features(params, stats, video)[layer].astype(np.float32)
            return value.mean(axis=tuple(range(1, value.ndim - 1))) if pool and value.ndim > 2 else value

        return self._bind(output)

    def averages(
        self, layers: Sequence[str], views: Sequence[str], grid_of: str = "", grid: tuple[int, int, int] = (1, 1, 1)
    ) -> Callable[[jax.Array], dict[str, jax.Array]]:
        """Returns a function from normalised clips to averages of their maps.

        Args:
          layers: of `layers()`, maps over time and space; averaged over space, float32 [B, views, T', C] each.
          views: "plain" for the clips, "mirrored" for their mirror images, or both.
          grid_of: one that is averaged over the parts of a grid too, "grid", float32 [B, views, parts, C].
          grid: number of parts along time, height and width.
        """

        def output(params, stats, video):
            found = self._functional.features(params, stats, heads.views_of(video, views))
            averages = {layer: heads.over_space(found[layer]) for layer in layers}
            if grid_of:
                averages["grid"] = heads.positions(found[grid_of], grid)
            return {name: jnp.stack(jnp.split(x, len(views)), axis=1) for name, x in averages.items()}

        return self._bind(output)

    def prepare(self, frames: np.ndarray, size: np.ndarray) -> jax.Array:
        """Transforms uint8 [B, T, H, W, C] on a canvas, with true sizes int32 [B, 2], as in evaluation."""
        return self._transform(frames, size, np.zeros(len(frames), np.int32))

    def activations(self, clips: jax.Array | np.ndarray) -> cam.Activation:
        """Returns logits, last feature map and head for class activation maps of clips from `transform`."""
        if self._activations is None:
            models.assign(self.model, self._weights)
            self._activations = cam.ActivationMapper(self.model)
        return self._activations(clips)

    def to_pixels(self, clip: np.ndarray) -> np.ndarray:
        """Returns a normalised clip [T, S, S, C] as uint8 [T, S, S, 3] for display; see `transforms.clip`."""
        return clip_transforms.to_pixels(clip, self.card.preprocessing)

    def class_maps(self, label: int) -> Callable[[jax.Array], np.ndarray]:
        """Returns a function from normalised clips to a class's activation maps, float32 [B, T', H', W'].

        The maps are in logits, relative to the mean over all classes.
        """

        def maps(video):
            seen = self.activations(video)
            counts = seen.weights * len(seen.weights)  # below 1 for I3D's first and last time steps
            return seen.maps(np.full(len(video), label), relative=True) * counts[:, None, None]

        return maps

    def _bind(self, function):
        def run(weights, video):
            with formulations.quick_compilation():  # the program runs for a few videos only
                return function(weights, weights, video)

        compiled = jax.jit(run, compiler_options=hardware.compiler_options(self.dtype))
        return lambda video: compiled(self._weights, video)

    def _find(self, videos: Videos, fps: float | None) -> tuple[list[VideoSource], bool]:
        """Returns the videos, and whether a single one was asked for."""
        if isinstance(videos, np.ndarray):
            return [sources.of_array(videos, fps)], True
        if not isinstance(videos, str | Path):
            return [source for video in videos for source in self._find(video, fps)[0]], False
        found, problems = sources.find([str(videos)])
        if problems:
            raise UserError(problems[0])
        return found, len(found) == 1 and found[0].path == Path(videos)


def _raise(source: VideoSource, error: Exception) -> None:
    raise error
