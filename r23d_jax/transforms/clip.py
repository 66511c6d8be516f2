"""From decoded uint8 clips to the network's input, on the device, inside the jitted step.

Resize, crop and flip are a single resampling: two small matrices per clip, one for rows and one for columns, map a box
of the frame to the network's input. They use the triangle kernel that Pillow and torchvision call antialiased
bilinear; a box of whole pixels that has the size of the output is copied exactly. All randomness is a function of
(key, row of the global batch).
"""

import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.transforms import mixing
from r23d_jax.transforms.boxes import Augmentation, eval_box, train_box
from r23d_jax.transforms.colour import AUGMENTATIONS, colour_jitter
from r23d_jax.transforms.spec import Preprocessing

TrainTransform = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
EvalTransform = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

_FRAMES_AT_ONCE = 16  # bounds the memory of the float32 copy of the frames


def train_transform(
    spec: Preprocessing,
    augmentation: Augmentation,
    class_names: Sequence[str],
    dtype: str = "float32",
    whole_pixels: bool = False,
) -> TrainTransform:
    """Builds the transform of training clips.

    Args:
      spec: size, crop and normalisation.
      augmentation: the random part.
      class_names: in the order of the labels.
      dtype: of the result and of the matrices; sums and colours are computed in float32.
      whole_pixels: as in `resample`.

    Returns:
      `transform(key, frames, size, labels) -> (video, targets)`. In: a key, uint8 [B, T, Hc, Wc, C],
      int32 [B, 2] (true height and width), int32 [B]. Out: [B, T, S, S, C] normalised in `dtype`; float32
      [B, classes], one-hot before mixing. Pure, for use under jit; rows may be sharded in any way.
    """
    side = spec.crop
    if side is None:
        raise UserError("clip.size: training needs a size of the network's input")
    unknown = [name for name in augmentation.flip_sensitive if name not in class_names]
    if unknown:
        raise UserError(
            f"config.augment.flip_sensitive: no class {unknown[0]!r} in this data set; classes are "
            f"{', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''}"
        )
    flow = spec.channels == "flow"
    jitter = [getattr(augmentation, name) for name in ("brightness", "contrast", "saturation", "hue")]
    extra = {name: augmentation.extra[name] for name in AUGMENTATIONS if augmentation.extra.get(name)}
    if flow and (any(jitter) or extra):
        names = ", ".join(["brightness, contrast, saturation, hue", *extra])
        raise UserError(f"config.augment: {names} mean nothing for optical flow")
    _check_size(spec)
    sensitive = np.asarray([name in augmentation.flip_sensitive for name in class_names])

    def transform(key, frames, size, labels):
        rows_key, mix_key = jax.random.split(key)
        keys = jax.vmap(lambda row: jax.random.fold_in(rows_key, row))(jnp.arange(frames.shape[0]))
        keys = jax.vmap(lambda row_key: jax.random.split(row_key, 3))(keys)
        boxes = jax.vmap(lambda k, hw: train_box(k, hw, spec, augmentation))(keys[:, 0], size)
        draw = jax.vmap(lambda k: jax.random.bernoulli(k, augmentation.flip))(keys[:, 1])
        flips = draw & ~jnp.asarray(sensitive)[labels]
        video = resample(frames, size, boxes, flips, (side, side), dtype, whole_pixels)
        if flow:
            video = video.at[..., 0].set(jnp.where(flips[:, None, None, None], 255 - video[..., 0], video[..., 0]))
        if any(jitter):
            video = colour_jitter(keys[:, 2], video, *jitter)
        for name, strength in extra.items():
            # The key depends on the name alone, so that one more augmentation leaves the draws of the others.
            own = jax.vmap(jax.random.fold_in, (0, None))(keys[:, 2], zlib.crc32(name.encode()))
            video = jnp.clip(AUGMENTATIONS[name](own, video, strength), 0, 255)
        video = normalise(video, spec)
        targets = jax.nn.one_hot(labels, len(class_names), dtype=jnp.float32)
        if augmentation.mixup or augmentation.cutmix:
            video, targets = mixing.mix(mix_key, video, targets, augmentation.mixup, augmentation.cutmix)
        return video.astype(dtype), targets

    return transform


def eval_transform(
    spec: Preprocessing, crops: int = 1, dtype: str = "float32", whole_pixels: bool = False
) -> EvalTransform:
    """Builds the transform of evaluated clips: resize, then a centre crop or one of three.

    Args:
      spec: size, crop and normalisation. If `crop` is None the whole frame is the input, at the size of `resize`
        (height and width), or of the canvas if that is None too.
      crops: 1, or 3 for squares at the start, middle and end of the frame's longer side.
      dtype: as in `train_transform`.
      whole_pixels: as in `resample`.

    Returns:
      `transform(frames, size, crop) -> video`; frames, size and video as in `train_transform`, crop int32 [B],
      the number of the crop.
    """
    if crops not in (1, 3):
        raise UserError(f"config.eval.crops={crops}: must be 1 or 3")
    if spec.crop is None and isinstance(spec.resize, int):
        raise UserError("preprocessing: a short side alone, without a crop, leaves the input's size open")
    _check_size(spec)

    def transform(frames, size, crop):
        boxes = jax.vmap(lambda hw, which: eval_box(hw, which, spec, crops))(size, crop)
        shape = (spec.crop, spec.crop) if spec.crop else spec.resize or frames.shape[2:4]
        video = resample(frames, size, boxes, jnp.zeros(frames.shape[0], bool), shape, dtype, whole_pixels)
        return normalise(video, spec).astype(dtype)

    return transform


def resample(
    frames: jax.Array,
    size: jax.Array,
    boxes: jax.Array,
    flips: jax.Array,
    shape: tuple[int, int],
    dtype: str,
    whole_pixels: bool = False,
) -> jax.Array:
    """Resamples a box of every clip, the same in all its frames, to `shape`.

    The kernel may reach pixels around the box, but never beyond the true frame, whose border pixels are repeated.

    Args:
      frames: uint8 [B, T, Hc, Wc, C].
      size: int32 [B, 2], true height and width.
      boxes: float32 [B, 4]: top, left, height, width.
      flips: bool [B], mirror left and right.
      shape: height and width of the result.
      dtype: "float32", or "bfloat16" or "float16" for faster products (their sums are float32).
      whole_pixels: whether the matrix of the columns has a row and column for each colour of a pixel. That multiplies
        its arithmetic by C, but nothing has to be transposed for the matrix products.

    Returns:
      float32 [B, T, height, width, C], 0..255.
    """
    rows = _matrix(boxes[:, 0], boxes[:, 2], size[:, 0], frames.shape[2], shape[0])
    columns = _matrix(boxes[:, 1], boxes[:, 3], size[:, 1], frames.shape[3], shape[1])
    columns = jnp.where(flips[:, None, None], columns[:, ::-1], columns)
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    precision = jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
    # XLA's CPU compiler in JAX 0.7 has no product of bfloat16 numbers with float32 sums.
    factors = jnp.float32 if jax.__version_info__ < (0, 8) else dtype

    def part(some):  # [B, t, Hc, Wc, C]
        some = some.astype(dtype)
        if whole_pixels:
            return by_pixels(some)
        some = jnp.einsum("byh,bthwc->btywc", rows, some, precision=precision, preferred_element_type=dtype)
        across, some = columns.astype(factors), some.astype(factors)
        return jnp.einsum("bxw,btywc->btyxc", across, some, precision=precision, preferred_element_type=jnp.float32)

    def by_pixels(some):
        batch, length, height, width, colours = some.shape
        each = jnp.einsum("bxw,cd->bxcwd", columns, jnp.eye(colours, dtype=dtype))
        each = each.reshape(batch, shape[1] * colours, width * colours)
        some = some.reshape(batch, length * height, width * colours)
        some = jnp.einsum("bxw,bnw->bnx", each, some, precision=precision, preferred_element_type=dtype)
        some = some.reshape(batch, length, height, -1).astype(factors)
        down = jnp.broadcast_to(rows[:, None], (batch, length, *rows.shape[1:])).astype(factors)
        some = jnp.einsum("btyh,bthx->btyx", down, some, precision=precision, preferred_element_type=jnp.float32)
        return some.reshape(batch, length, *shape, colours)

    batch, length = frames.shape[:2]
    at_once = max(n for n in range(1, min(length, _FRAMES_AT_ONCE) + 1) if length % n == 0)
    if at_once == length:
        return part(frames)
    parts = jnp.swapaxes(frames.reshape(batch, length // at_once, at_once, *frames.shape[2:]), 0, 1)
    done = jnp.swapaxes(jax.lax.map(part, parts), 0, 1)
    return done.reshape(batch, length, *done.shape[3:])


def normalise(video: jax.Array, spec: Preprocessing) -> jax.Array:
    """Returns `(video / 255 - mean) / std` in float32, per channel."""
    channels = video.shape[-1]
    if not len(spec.mean) == len(spec.std) == channels:
        raise UserError(
            f"clip.mean and clip.std have {len(spec.mean)} and {len(spec.std)} numbers, the frames {channels} channels"
        )
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    return video * np.float32(1 / 255 / std) - (mean / std).astype(np.float32)


def denormalise(video: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Inverts `normalise`; returns float32 0..255."""
    std, mean = np.asarray(spec.std, np.float32), np.asarray(spec.mean, np.float32)
    return (np.asarray(video, np.float32) * std + mean) * np.float32(255)


def to_pixels(video: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Returns normalised clips as frames for display.

    Args:
      video: float [..., H, W, C], C 3 for RGB or 2 for optical flow.
      spec: with its normalisation.

    Returns:
      uint8 [..., H, W, 3]; for flow, red is the horizontal and green the vertical component, mid-grey for none.
    """
    pixels = np.clip(np.rint(denormalise(video, spec)), 0, 255).astype(np.uint8)
    if pixels.shape[-1] == 2:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 128)], axis=-1)
    return pixels


def _matrix(start: jax.Array, length: jax.Array, limit: jax.Array, stored: int, wanted: int) -> jax.Array:
    """Returns float32 [B, wanted, stored], weights that map stored pixels to wanted ones along one axis.

    The triangle's half width is one pixel of the coarser grid; each row sums to one.
    """
    scale = (length / wanted)[:, None]
    centre = start[:, None] + (jnp.arange(wanted) + 0.5) * scale
    last = limit.astype(jnp.float32)[:, None]
    centre = jnp.clip(centre, 0.5, last - 0.5)[..., None]
    pixel = jnp.arange(stored) + 0.5
    weights = jnp.maximum(1 - jnp.abs(pixel - centre) / jnp.maximum(scale, 1)[..., None], 0)
    weights = jnp.where(pixel < last[..., None], weights, 0)
    return weights / jnp.sum(weights, -1, keepdims=True)


def _check_size(spec: Preprocessing) -> None:
    if spec.resize is None or spec.crop is None:
        return
    if spec.short_side < spec.crop:
        raise UserError(f"clip.resize={spec.resize}: smaller than clip.size={spec.crop}, the crop taken of it")
