"""`motion`: a rendered data set of eight classes that only the order of the frames can tell apart.

The classes come in four pairs, each the time reversal of the other: left and right, up and down, clockwise
and counter-clockwise, zoom in and zoom out. A video is rendered once and its twin is the same frames in
reverse, so every single frame, and every set of frames without its order, is equally likely under both
labels. A network that is blind to order is right about the pair at most, and in half of the cases about
the class.

Everything moves without end (the canvas of a translation is a torus, a zoom is a nest of shapes that grow
out of one another), so every few consecutive frames show the motion, at a pixel or two a frame at a quarter
of the resolution, where a network with late 3D stages looks. Speed, start state, shapes, textures,
background, and the clutter before and behind it are drawn for every video from a generator of its own.

Frames are JPEG images in an AVI container (MJPEG), each encoded by itself at a fixed quality: the twin holds
the very same packets in reverse, and nothing of one frame is found in another.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from r23d_jax.errors import UserError

# The second class of a pair is the first one played backwards.
PAIRS = (
    ("MoveLeft", "MoveRight"),
    ("MoveUp", "MoveDown"),
    ("RotateClockwise", "RotateCounterclockwise"),
    ("ZoomIn", "ZoomOut"),
)
CLASSES = tuple(sorted(name for pair in PAIRS for name in pair))
# A horizontal flip turns each of these into its twin: no flip when training on them.
FLIP_SENSITIVE = ("MoveLeft", "MoveRight", "RotateClockwise", "RotateCounterclockwise")

GROUPS = 25  # as UCF101's, so that its folds by group apply
CLIPS = 4
FRAMES = 32  # a multiple of the clips of 8 and of 16 frames: no evaluation pads
SIZE = 64  # pixels, height and width
FPS = 16
_JPEG_QUALITY = 95
_TEXELS = 128  # the side of a sprite at its largest
_SUPER = 2  # samples a pixel along each axis


class _Pose(NamedTuple):
    """A sprite in one frame: pixels and radians; y points down, so a growing angle turns clockwise."""

    sprite: int
    x: float
    y: float
    angle: float
    radius: float
    opacity: float = 1.0


# Textures and shapes


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """uint8 [count, 3]: colours far apart, each the farthest from those before it among a few drawn."""
    colours = [rng.integers(0, 256, 3)]
    while len(colours) < count:
        drawn = rng.integers(0, 256, (8, 3))
        distance = np.abs(drawn[:, None] - np.stack(colours)[None]).sum(-1).min(1)
        colours.append(drawn[distance.argmax()])
    return np.stack(colours).astype(np.uint8)


def _cells(rng: np.random.Generator, side: int, sites: int, colours: np.ndarray) -> np.ndarray:
    """uint8 [side, side, 3]: random cells, each point in the colour of its nearest site."""
    at = rng.integers(0, side, (sites, 2)).astype(np.int32)
    grid = np.arange(side, dtype=np.int32)
    dy = np.abs(grid[None, :] - at[:, :1])[:, :, None]
    dx = np.abs(grid[None, :] - at[:, 1:])[:, None, :]
    metric = rng.integers(3)
    distance = (dy * dy + dx * dx, dy + dx, np.maximum(dy, dx))[metric]
    return colours[np.arange(sites) % len(colours)][distance.argmin(0)]


def _clouds(rng: np.random.Generator, side: int, grid: int, colours: np.ndarray) -> np.ndarray:
    """uint8 [side, side, 3]: smooth random blobs, cut at the median into two colours."""
    noise = rng.integers(0, 256, (grid, grid)).astype(np.uint8)
    noise = cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    return colours[(noise > np.median(noise)).astype(np.intp)]


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """uint8 [side, side, 3]: a coarse pattern of high contrast, which survives two halvings of the frame."""
    if rng.integers(3):
        return _cells(rng, side, int(rng.integers(14, 25)), _palette(rng, 4))
    return _clouds(rng, side, int(rng.integers(5, 8)), _palette(rng, 2))


def _outline(rng: np.random.Generator) -> np.ndarray:
    """float64 [points, 2]: a random outline within the unit circle: disc, polygon, star, ellipse or blob."""
    kind = rng.integers(5)
    if kind == 0:
        radii = np.ones(48)
    elif kind == 1:
        radii = np.ones(rng.integers(4, 7))
    elif kind == 2:
        radii = np.tile([1.0, 0.62], rng.integers(5, 8))
    elif kind == 3:
        radii = np.ones(48)
    else:
        radii = np.repeat(rng.uniform(0.7, 1.0, 6), 4)
        radii = sum(np.roll(radii, shift) for shift in range(-2, 3)) / 5
    angle = np.arange(len(radii)) * (2 * math.pi / len(radii))
    points = radii[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points * [1.0, 0.7] if kind == 3 else points


def _sprite(rng: np.random.Generator, side: int = _TEXELS) -> list[np.ndarray]:
    """A textured shape: uint8 RGBA, colour times coverage, [side, side, 4] and halvings of it down to 16."""
    mask = np.zeros((side, side), np.uint8)
    points = np.rint((_outline(rng) * 0.96 + 1) * (side / 2) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, shift=4)
    colour = np.where(mask[..., None] > 0, _texture(rng, side), 0).astype(np.uint8)
    levels = [np.dstack([colour, mask])]
    while len(levels[-1]) > 16:
        half = len(levels[-1]) // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    return levels


# Placing them in a frame. In integers from the rounded pose on: the same pixels on every machine.


def _offsets(centre: float, size: int, wrap: bool) -> np.ndarray:
    """int64 [_SUPER * size]: every sample's distance from the centre along one axis, in 1/256 pixel."""
    step = 256 // _SUPER
    offsets = np.arange(_SUPER * size, dtype=np.int64) * step + step // 2 - round(centre * 256)
    if wrap:
        offsets = (offsets + 128 * size) % (256 * size) - 128 * size
    return offsets


def _place(levels: list[np.ndarray], pose: _Pose, size: int, wrap: bool) -> np.ndarray:
    """uint8 RGBA [size, size, 4], colour times coverage: the sprite in its pose, on a torus if `wrap`."""
    level = levels[0]
    for level in levels:
        if len(level) < 4 * _SUPER * pose.radius:  # below two texels a sample: fine enough
            break
    scale = len(level) / 2 / pose.radius * 1024
    cosine, sine = round(math.cos(pose.angle) * scale), round(math.sin(pose.angle) * scale)
    dx, dy = _offsets(pose.x, size, wrap), _offsets(pose.y, size, wrap)
    middle = len(level) // 2
    texels = np.empty((len(dy), len(dx), 2), np.int16)
    texels[..., 0] = ((dx * cosine)[None, :] + (dy * sine)[:, None] >> 18) + middle
    texels[..., 1] = ((dy * cosine)[:, None] - (dx * sine)[None, :] >> 18) + middle
    samples = cv2.remap(level, texels, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.resize(samples, (size, size), interpolation=cv2.INTER_AREA)


def _over(frame: np.ndarray, layer: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    """int32 [size, size, 3]: the layer of `_place` laid over the frame."""
    part = round(opacity * 256)
    layer = layer.astype(np.int32) * part >> 8
    return layer[..., :3] + (frame * (255 - layer[..., 3:]) + 127) // 255


# Motions: the poses of every frame. `sign` +1 shows the pair's first class, -1 its second.


def _steps(rng: np.random.Generator, frames: int, low: float, high: float) -> np.ndarray:
    """float64 [frames]: how far the motion has come at each frame, at a speed that is never quite even."""
    steps = rng.uniform(low, high) * rng.uniform(0.85, 1.15, frames)
    return np.cumsum(steps)


def _translation(rng: np.random.Generator, frames: int, size: int, sign: int, axis: int) -> list[list[_Pose]]:
    """One large shape crossing the torus towards lower x (axis 0) or y (axis 1) for sign +1."""
    way = -sign * _steps(rng, frames, 0.07, 0.10) * size
    slant = rng.uniform(-0.2, 0.2)
    start, radius = rng.uniform(0, size, 2), rng.uniform(0.28, 0.40) * size
    angle = rng.uniform(0, 2 * math.pi)
    along, across = start[0] + way, start[1] + way * slant
    x, y = (along, across) if axis == 0 else (across, along)
    return [[_Pose(0, x[t] % size, y[t] % size, angle, radius)] for t in range(frames)]


def _rotation(rng: np.random.Generator, frames: int, size: int, sign: int) -> list[list[_Pose]]:
    """One large shape turning about a point near the middle, by 12 to 20 degrees a frame."""
    angle = rng.uniform(0, 2 * math.pi) + sign * np.radians(_steps(rng, frames, 14, 18))
    x, y = rng.uniform(0.42, 0.58, 2) * size
    radius = rng.uniform(0.36, 0.48) * size
    return [[_Pose(0, x, y, angle[t], radius)] for t in range(frames)]


def _zoom(rng: np.random.Generator, frames: int, size: int, sign: int) -> list[list[_Pose]]:
    """Shapes nested in one another, all growing for sign +1; the outermost fades as it outgrows the frame."""
    largest, smallest, spacing = 0.66 * size, 0.03 * size, rng.uniform(0.8, 1.0)
    way = sign * _steps(rng, frames, 0.13, 0.18)
    way += rng.uniform(0, spacing) - way.min()
    angle = rng.uniform(0, 2 * math.pi)
    x, y = rng.uniform(0.42, 0.58, 2) * size
    poses = []
    for t in range(frames):
        # Shape k is k spacings smaller than shape 0; the large ones are painted first.
        first = math.ceil(way[t] / spacing)
        last = math.floor((way[t] + math.log(largest / smallest)) / spacing)
        radii = {k: largest * math.exp(way[t] - k * spacing) for k in range(first, last + 1)}
        poses.append([_Pose(k, x, y, angle, r, min(1.0, (1 - r / largest) * 5)) for k, r in radii.items()])
    return poses


def _poses(pair: int, rng: np.random.Generator, frames: int, size: int, sign: int) -> list[list[_Pose]]:
    if pair in (0, 1):
        return _translation(rng, frames, size, sign, axis=pair)
    return (_rotation if pair == 2 else _zoom)(rng, frames, size, sign)


# Videos


def _clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """uint8 RGBA [size, size, 4]: one small shape anywhere, which never moves."""
    x, y = rng.uniform(0, size, 2)
    pose = _Pose(0, x, y, rng.uniform(0, 2 * math.pi), rng.uniform(0.06, 0.11) * size)
    return _place(_sprite(rng, _TEXELS // 4), pose, size, wrap=False)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """int32 [size, size, 3]: a blurred random scene with a few static shapes in it."""
    scene = rng.integers(20, 236, (4, 4, 3)).astype(np.uint8)
    scene = cv2.resize(scene, (size, size), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int32)
    cells = _cells(rng, size, int(rng.integers(10, 30)), _palette(rng, 3)).astype(np.int32)
    frame = (3 * scene + cells) // 4
    for _ in range(rng.integers(1, 4)):
        frame = _over(frame, _clutter(rng, size))
    return frame


def render_clip(pair: int, rng: np.random.Generator, frames: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """Renders one video of a pair.

    Whether the motion is rendered in this direction or rendered in the other and then reversed is drawn
    at random, so that nothing about the rendering can go with the label.

    Args:
      pair: index into `PAIRS`.
      rng: the only source of chance.
      frames: how many frames.
      size: height and width in pixels.

    Returns:
      uint8 [frames, size, size, 3], RGB. In this order it shows `PAIRS[pair][0]`, reversed `PAIRS[pair][1]`.
    """
    sign = 1 - 2 * int(rng.integers(2))
    background = _background(rng, size)
    front = [_clutter(rng, size) for _ in range(rng.integers(0, 3))]
    poses = _poses(pair, rng, frames, size, sign)
    used = sorted({pose.sprite for frame in poses for pose in frame})
    sprites = {key: _sprite(rng) for key in used}
    noise = rng.integers(-5, 6, (frames, size, size, 3), dtype=np.int8)
    video = np.empty((frames, size, size, 3), np.uint8)
    for t, shown in enumerate(poses):
        frame = background
        for pose in shown:
            frame = _over(frame, _place(sprites[pose.sprite], pose, size, wrap=pair in (0, 1)), pose.opacity)
        for layer in front:
            frame = _over(frame, layer)
        video[t] = np.clip(frame + noise[t], 0, 255)
    return video if sign == 1 else np.ascontiguousarray(video[::-1])


def _write_video(path: Path, packets: list[bytes], size: int) -> None:
    """Writes JPEG images as they are, one packet a frame, as the MJPEG stream of an AVI file."""
    import av  # here, since rendering clips does without it

    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.width = stream.height = size
        stream.pix_fmt = "yuvj420p"
        for index, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = Fraction(1, FPS)
            packet.pts = packet.dts = index
            packet.duration = 1
            packet.is_keyframe = True
            container.mux(packet)
    os.utime(path, (0, 0))  # the order of writing would be a hint of the label


def render(
    out_dir: Path,
    *,
    seed: int = 0,
    groups: int = GROUPS,
    clips: int = CLIPS,
    frames: int = FRAMES,
    size: int = SIZE,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Renders the whole data set as `out_dir/videos/<Class>/v_<Class>_gNN_cNN.avi`.

    A video and its twin carry the same group and clip number: no split by groups parts them. Every video
    depends on the seed and on its own pair, group and clip only: neither the number of workers nor that of
    groups and clips changes it.

    Args:
      out_dir: made where it is missing; files of the same names are overwritten.
      seed: from 0 on.
      groups: groups a class, numbered from 1.
      clips: videos a group and class, numbered from 1.
      frames: frames a video.
      size: height and width of the videos in pixels, even.
      workers: threads; one per core by default.
      progress: called with the number of videos written since the last call (`tqdm.update`, for example),
        in the caller's thread.

    Raises:
      UserError: a number is out of its range.
    """
    limits = {"seed": (seed, 0, 2**63 - 1), "groups": (groups, 1, 99), "clips": (clips, 1, 99)}
    limits |= {"frames": (frames, 2, 4096), "size": (size, 32, 512)}
    for name, (value, low, high) in limits.items():
        if not isinstance(value, int) or not low <= value <= high:
            raise UserError(f"motion: {name} is {value!r}; give a whole number from {low} to {high}")
    if size % 2:
        raise UserError(f"motion: size is {size}; give an even number of pixels")
    videos = Path(out_dir) / "videos"
    for name in CLASSES:
        (videos / name).mkdir(parents=True, exist_ok=True)

    def pair_of_videos(key: tuple[int, int, int]) -> None:
        pair, group, clip = key
        video = render_clip(pair, np.random.default_rng([seed, pair, group, clip]), frames, size)
        packets = [simplejpeg.encode_jpeg(f, _JPEG_QUALITY, "RGB", "420", fastdct=False) for f in video]
        for name, order in zip(PAIRS[pair], (packets, packets[::-1]), strict=True):
            _write_video(videos / name / f"v_{name}_g{group:02d}_c{clip:02d}.avi", order, size)

    keys = list(product(range(len(PAIRS)), range(1, groups + 1), range(1, clips + 1)))
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for _ in pool.map(pair_of_videos, keys):
            if progress is not None:
                progress(2)
