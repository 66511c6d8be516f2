"""Opens the input folder, with the archives in it as if they were folders."""

import re
from collections.abc import Mapping
from pathlib import Path

from tfds_ucf101.errors import libraries_for
from tfds_ucf101.layouts.archives import Zip, ZipFolder
from tfds_ucf101.layouts.tree import Folder, depth

_ENDINGS = (".zip", ".rar")
_OF_LISTS = re.compile(r"train.?test|test.?train|split|annotation", re.IGNORECASE)
_LATER_PART = re.compile(r"\.part0*([2-9]|\d\d+)\.rar", re.IGNORECASE)


class _WithArchives(Folder):
    """A folder in which some archives are folders, called as the archives are, without their ending.

    An archive keeps its ending where its name would be that of another.

    Args:
      folder: itself.
      archives: what is in them, by their names.
    """

    def __init__(self, folder: Folder, archives: Mapping[str, Folder]):
        super().__init__(folder.path, folder.shown)
        self._packed = frozenset(archives)
        self._archives: dict[str, Folder] = {}
        for name, archive in archives.items():
            stem = name.rpartition(".")[0]
            archive.name = stem if stem not in {*super().folders, *self._archives} else name
            self._archives[archive.name] = archive

    @property
    def folders(self) -> Mapping[str, Folder]:
        return dict(sorted({**super().folders, **self._archives}.items()))

    @property
    def files(self) -> list[str]:
        return [name for name in super().files if name not in self._packed]


def open_input(root: Path, scratch: Path) -> Folder:
    """Opens a folder: all archives in it where no videos lie beside them, and those of lists in any case.

    Args:
      root: what the user gave.
      scratch: a folder that a rar file may be unpacked into, once; a zip file is read as it is.

    Raises:
      UserError: an archive is damaged, or nothing here unpacks it.
    """
    folder = Folder(root)
    archives = [name for name in folder.files if name.casefold().endswith(_ENDINGS) and not _LATER_PART.search(name)]
    if archives and depth(folder) is not None:
        archives = [name for name in archives if _OF_LISTS.search(name)]
    if not archives:
        return folder
    return _WithArchives(folder, {name: _open(root / name, scratch) for name in archives})


def _open(archive: Path, scratch: Path) -> Folder:
    if archive.suffix.casefold() == ".zip":
        return ZipFolder(Zip(archive), archive.name)
    with libraries_for(f"{archive}: a rar file"):
        from tfds_ucf101.layouts import rar
    return Folder(rar.unpack(archive, scratch / archive.stem), archive.name)
