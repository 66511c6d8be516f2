"""What a call leaves: `gpu.json`, `gpu.log` and `autotune.tar`, few files that are easily carried away.

`gpu.json` is written anew whenever something was measured, so a call that is killed leaves all it had.
"""

import io
import lzma
import os
import tarfile
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import write_bytes, write_json

# JAX keeps the compiler's autotuning results there, below the folder of its cache of programs.
AUTOTUNE = "xla_gpu_per_fusion_autotune_cache_dir"
_LOG_BYTES = 4 << 20


class Results:
    """The results of one call, and of an earlier one that it continues.

    Args:
      out: folder of the files.
      before: content of the earlier call's `gpu.json`.
      facts: about this call.
    """

    def __init__(self, out: Path, before: dict[str, Any] | None = None, **facts: Any):
        self.out, self.log = out, out / "gpu.log"
        parts = ("step", "torch", "loop", "numerics", "failures", "left")
        self.content: dict[str, Any] = {"calls": [], "machine": {}, **{part: [] for part in parts}}
        if before:
            self.content |= before | {"failures": [], "left": []}
        self.content["calls"].append(facts)
        self._save()

    def add(self, part: str, record: dict[str, Any]) -> None:
        """Keeps what was measured; of the machine there is one record, to which this one is added."""
        record = record | {"call": len(self.content["calls"])}
        if part == "machine":
            self.content[part] |= record
        else:
            self.content[part].append(record)
        self._save()

    def fail(self, name: str, why: str) -> None:
        """Keeps that something could not be measured."""
        self.content["failures"].append({"name": name, "why": why})
        self._save()

    def leave(self, name: str) -> None:
        """Keeps that there was no time left for something."""
        self.content["left"].append(name)
        self._save()

    def say(self, line: str) -> None:
        """Prints a line, also to the log."""
        print(line, flush=True)
        with self.log.open("a") as log:
            log.write(line + "\n")

    def tidy(self, cache: Path) -> None:
        """Keeps the autotuning results of the cache, and the end of a long log."""
        if (cache / AUTOTUNE).is_dir():
            data = io.BytesIO()
            with tarfile.open(fileobj=data, mode="w:xz") as archive:
                archive.add(cache / AUTOTUNE, AUTOTUNE)
            write_bytes(self.out / "autotune.tar", data.getvalue())
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            with self.log.open("rb") as log:
                log.seek(-_LOG_BYTES // 2, os.SEEK_END)
                write_bytes(self.log, log.read())

    def _save(self) -> None:
        write_json(self.out / "gpu.json", self.content)


def restore_autotune(before: Path, cache: Path) -> bool:
    """Unpacks the autotuning results of an earlier call into a cache; whether there were any.

    Raises:
      UserError: the file is damaged.
    """
    path = before / "autotune.tar"
    if not path.is_file():
        return False
    try:
        with tarfile.open(path) as archive:
            archive.extractall(cache, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        why = f"damaged ({one_line(error)}); move it away, and the compiler chooses its kernels again"
        raise UserError(f"--after {path}: {why}") from None
    return True
