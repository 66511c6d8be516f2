"""What can be built: the named configs, and the keys of `--config '{"name": ..., ...}'`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from r23d_jax.data import flow as optical_flow
from r23d_jax.errors import UserError
from tfds_ucf101.options import SIDES, ScanOptions
from tfds_ucf101.stored import FrameOptions

_DEFAULT_SIZE = (128, 171)
_MOTION_KEYS = ("seed", "groups", "clips", "frames", "size")
_LISTS = ("auto", "required", "ignore", "folders")


@dataclasses.dataclass(eq=False, init=False)
class VideoConfig(tfds.core.BuilderConfig, ScanOptions):
    """One way to build the data set. Every key but `name` has a default.

    Keys:
      name: names the folder of the result; not that of a named config.
      size: [height, width] of the stored frames, or "native"; [128, 171] without `short_side`.
      short_side: length of the stored frames' short side, the aspect kept; instead of `size`.
      quality: of the JPEG frames, 1 to 100.
      fps: frame rate of extracted frames (`frames/`), whose files do not say it.
      min_frames: a video with fewer frames counts as unreadable.
      max_unreadable: so many unreadable videos are left out and reported; with more the build fails.
      classes: names of the classes to build; all of them if empty.
      subset: true if only a part of UCF101's, HMDB51's, or of the listed videos is there.
      lists: "auto" (UCF101's, HMDB51's or tables where they are there, else the folders' own sides, groups or chance),
        "required", "ignore", or "folders" for the folders' own sides of UCF101, too.
      motion: render the `motion` data set instead of reading a folder; {} or any of seed, groups, clips,
        frames and size; see `tfds_ucf101/motion.py`.
      flow: store the optical flow between the frames and not the frames: "tvl1", "farneback" or "dis", as
        `r23d_jax/data/flow.py` has them; N-1 fields of N frames, without loss.
      flow_files: store the flow pictures that lie beside the frames (`flow_x_*`, `flow_y_*`), made by the algorithm
        `flow` with a bound of 20 pixels, instead of computing it.
      sides: shares of [train, val, test] videos where neither lists nor folders nor groups say them.
      folds: instead of `sides`, so many splits, each of which tests another part; 0 for none.
      split_seed: of `sides`, `folds` and `validation`.
      validation: share of every split's train videos that become its val side, by whole groups and class by class.
      leak_check: false to let a source video be on both sides of a split; every result then says so.

    Raises:
      UserError: an unknown key, or a value that its key does not take.
    """

    size: tuple[int, int] | str | None
    short_side: int | None
    quality: int
    fps: float
    min_frames: int
    max_unreadable: int
    motion: dict[str, int] | None
    flow: str | None

    def __init__(
        self,
        *,
        name: str = "",
        description: str = "",
        size: Sequence[int] | str | None = None,
        short_side: int | None = None,
        quality: int = 90,
        fps: float = 25.0,
        min_frames: int = 1,
        max_unreadable: int = 0,
        classes: Sequence[str] = (),
        subset: bool = False,
        lists: str = "auto",
        motion: dict[str, int] | None = None,
        flow: str | None = None,
        flow_files: bool = False,
        sides: Sequence[float] = SIDES,
        folds: int = 0,
        split_seed: int = 0,
        validation: float = 0.0,
        leak_check: bool = True,
        **unknown: Any,
    ):
        if unknown:
            raise UserError(f"config key {sorted(unknown)[0]!r} is unknown; the keys are {', '.join(KEYS)}")
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"config key name is {name!r}; give one of letters, digits, '_' and '-'")
        super().__init__(name=name, description=description)
        if size is None and short_side is None:
            size = "native" if motion is not None else _DEFAULT_SIZE
        self.size = _size(size)
        self.short_side = _number("short_side", short_side, 1, 8192) if short_side is not None else None
        if self.size is not None and self.short_side is not None:
            raise UserError("config keys size and short_side exclude each other; give one of them")
        self.quality = _number("quality", quality, 1, 100)
        self.fps = float(_number("fps", fps, 0.01, 1000, whole=False))
        self.min_frames = _number("min_frames", min_frames, 1, 10**6)
        self.max_unreadable = _number("max_unreadable", max_unreadable, 0, 10**9)
        self.classes = _names("classes", classes)
        self.subset = _flag("subset", subset)
        if lists not in _LISTS:
            raise UserError(f"config key lists is {lists!r}; give one of {', '.join(_LISTS)}")
        self.lists = lists
        self.motion = _motion(motion)
        if flow is not None and flow not in optical_flow.ALGORITHMS:
            raise UserError(f"config key flow is {flow!r}; give one of {', '.join(optical_flow.ALGORITHMS)}")
        self.flow = flow
        self.flow_files = _flag("flow_files", flow_files)
        if self.flow_files and flow is None:
            raise UserError("config key flow_files is true; say in the key flow which algorithm made the flow pictures")
        self.sides = _sides(sides)
        self.folds = _number("folds", folds, 0, 10)
        if self.folds == 1:
            raise UserError("config key folds is 1; give 2 to 10, or 0 for none")
        self.split_seed = _number("split_seed", split_seed, 0, 2**32 - 1)
        self.validation = float(_number("validation", validation, 0, 0.9, whole=False))
        self.leak_check = _flag("leak_check", leak_check)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits that a record can tell of, whether they exist or not."""
        return tuple(str(number + 1) for number in range(max(3, self.folds)))

    def frame_options(self) -> FrameOptions:
        """The part of the config that the workers need."""
        resize = self.short_side if self.size is None else None if self.size == "native" else self.size
        return FrameOptions(resize, self.quality, self.min_frames, self.fps, self.flow, self.flow_files)

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON values, which give the same config again."""
        values = {key: getattr(self, key) for key in KEYS}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


KEYS = (
    "name",
    "size",
    "short_side",
    "quality",
    "fps",
    "min_frames",
    "max_unreadable",
    "classes",
    "subset",
    "lists",
    "motion",
    "flow",
    "flow_files",
    "sides",
    "folds",
    "split_seed",
    "validation",
    "leak_check",
)


def _size(value: Any) -> tuple[int, int] | str | None:
    if value is None or value == "native":
        return value
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise UserError(f'config key size is {value!r}; give [height, width] or "native"')
    return tuple(_number("size", side, 1, 8192) for side in value)


def _number(key: str, value: Any, low: float, high: float, whole: bool = True) -> Any:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise UserError(f"config key {key} is {value!r}; give {kind} from {low} to {high}")
    return value


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"config key {key} is {value!r}; give true or false")
    return value


def _sides(value: Any) -> tuple[float, float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise UserError(f"config key sides is {value!r}; give the shares of [train, val, test]")
    train, val, test = (float(_number("sides", share, 0, 1, whole=False)) for share in value)
    if abs(train + val + test - 1) > 1e-6 or not train or not test:
        raise UserError(f"config key sides is {list(value)}; train and test need a share each, and all add up to 1")
    return train, val, test


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise UserError(f"config key {key} is {value!r}; give a list of names")
    return tuple(value)


def _motion(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UserError(f"config key motion is {value!r}; give {{}} or any of {', '.join(_MOTION_KEYS)}")
    unknown = sorted(set(value) - set(_MOTION_KEYS))
    if unknown:
        raise UserError(f"config key motion has the key {unknown[0]!r}; its keys are {', '.join(_MOTION_KEYS)}")
    return {key: _number(f"motion.{key}", number, 0, 2**63 - 1) for key, number in value.items()}


NAMED = {
    config.name: config
    for config in (
        VideoConfig(name="rgb", description="RGB, 128x171, as torchvision's weights expect."),
        VideoConfig(name="rgb128", description="RGB, 128x128, as the R(2+3)D study has it.", size=(128, 128)),
        VideoConfig(name="rgb256", description="RGB, short side 256, as I3D expects.", short_side=256),
        VideoConfig(name="flow", description="TV-L1 optical flow, 128x171.", flow="tvl1"),
        VideoConfig(
            name="flow256",
            description="TV-L1 optical flow, short side 256, as I3D expects.",
            short_side=256,
            flow="tvl1",
        ),
        VideoConfig(
            name="flow_farneback",
            description="Farneback's optical flow, 128x171, as VMZ's weights expect.",
            flow="farneback",
        ),
        VideoConfig(name="motion", description="Rendered: eight motions that only time tells apart.", motion={}),
    )
}
DEFAULT = NAMED["rgb"]
