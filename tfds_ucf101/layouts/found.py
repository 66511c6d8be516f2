"""What a reader of a layout returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfds_ucf101.media import Media


@dataclass(frozen=True)
class Found:
    """The videos of a folder, before lists, groups or chance divide them.

    A video's key is "<Class>/<file stem>", whatever container or folder it lies in, so that lists written for UCF101's
    .avi files fit all of them.

    Attributes:
      where: the folder or file, for messages.
      layout: what it is, as the build says it: "UCF101 as frames by Kaggle's pevogam/ucf101-frames".
      media: key -> the video's data.
      shown: key -> its path from the input folder, for messages.
      class_names: in label order where the layout says it; None for alphabetical order.
      sides: split -> key -> `lists.TRAIN`, `VAL`, `TEST` or `NEITHER`, where the layout says it. A layout with one
        division into sides calls it split "1".
      notes: what the user should know, a line each.
    """

    where: str
    layout: str
    media: Mapping[str, Media]
    shown: Mapping[str, str]
    class_names: tuple[str, ...] | None = None
    sides: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
