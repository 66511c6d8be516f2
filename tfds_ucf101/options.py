"""What a folder is read with. The builder's config has these options too; TFDS is not imported here."""

import dataclasses

MOST_SPLITS = 10
SIDES = (0.7, 0.15, 0.15)


@dataclasses.dataclass(eq=False)  # `config.VideoConfig` is compared by identity
class ScanOptions:
    """The options of `sources.scan`.

    Attributes:
      classes, subset, lists, flow_files, sides, folds, split_seed, validation, leak_check: the keys of
        `config.VideoConfig`.
      as_found: divide nothing by chance and expect nothing of the folder: where nothing says sides, every video is
        train; a split needs no test side; val stays val where there is none; and a part of UCF101 or HMDB51 is a note.
      table: name of the file in the folder that lists the videos, which may lie anywhere and need have no sides. It
        alone counts: other lists, and archives, are not looked for.
    """

    classes: tuple[str, ...] = ()
    subset: bool = False
    lists: str = "auto"
    flow_files: bool = False
    sides: tuple[float, float, float] = SIDES
    folds: int = 0
    split_seed: int = 0
    validation: float = 0.0
    leak_check: bool = True
    as_found: bool = False
    table: str = ""

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits that a video's roles tell of, whether they exist or not."""
        return tuple(str(number + 1) for number in range(MOST_SPLITS))
