"""Writes rar files, of files stored without compression: nothing else here can.

Format: https://www.rarlab.com/technote.htm; of version 4, technote.txt in the archive of WinRAR 4.
"""

import struct
import zlib
from pathlib import Path

_MAIN, _FILE, _END = 1, 2, 5
_HAS_EXTRA, _HAS_DATA = 1, 2
_IS_FOLDER, _HAS_CRC = 1, 4
_UNIX = 1


def write_rar(path: Path, files: dict[str, bytes], *, method=0, damage=(), encrypted=(), links=(), end=True) -> Path:
    """Writes an archive.

    Args:
      path: of the archive.
      files: content by name; a name that ends in a slash is a folder.
      method: 0 for stored, 1 to 5 for what claims to be compressed.
      damage: names whose content is changed after its checksum was taken.
      encrypted: names that claim to be.
      links: names that are symbolic links to their content.
      end: whether the archive's end is there.
    """
    blocks = [b"Rar!\x1a\x07\x01\x00", _block(_MAIN, _number(0))]
    for name, data in files.items():
        folder = name.endswith("/")
        flags, extra = (_IS_FOLDER, b"") if folder else (_HAS_CRC, b"")
        if name in encrypted:  # version, flags, rounds, salt, vector
            extra = _record(1, _number(0) + _number(0) + b"\0" + bytes(32))
        if name in links:  # kind, flags, target
            extra = _record(5, _number(1) + _number(0) + _number(len(data)) + data)
        head = _number(flags) + _number(len(data)) + _number(0o100644)
        head += b"" if folder else zlib.crc32(data).to_bytes(4, "little")
        stem = name.rstrip("/").encode()
        head += _number(method << 7) + _number(_UNIX) + _number(len(stem)) + stem
        stored = bytes(byte ^ 1 for byte in data) if name in damage else data
        blocks.append(_block(_FILE, head, extra, b"" if folder else stored))
    blocks.append(_block(_END, _number(0)) if end else b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(blocks))
    return path


def _number(value: int) -> bytes:
    """7 bits a byte, the lowest first, the highest bit set where more follow."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts + bytes([value]))


def _record(kind: int, content: bytes) -> bytes:
    content = _number(kind) + content
    return _number(len(content)) + content


def _block(kind: int, content: bytes, extra: bytes = b"", data: bytes | None = None) -> bytes:
    flags = (_HAS_EXTRA if extra else 0) | (_HAS_DATA if data is not None else 0)
    head = _number(kind) + _number(flags) + (_number(len(extra)) if extra else b"")
    head += (b"" if data is None else _number(len(data))) + content + extra
    sized = _number(len(head)) + head
    return zlib.crc32(sized).to_bytes(4, "little") + sized + (data or b"")


def write_old_rar(path: Path, files: dict[str, bytes], *, version=29, end=True) -> Path:
    """Writes an archive of version 4, such as UCF101.rar, with a comment that claims to be compressed.

    Args:
      path: of the archive.
      files: content by name.
      version: that it takes to unpack it, times 10.
      end: whether the archive's end is there.
    """
    blocks = [b"Rar!\x1a\x07\x00", _old_block(0x73, 0, bytes(6))]
    blocks.append(_old_block(0x7A, 0, _old_head("CMT", b"comment", version, method=0x33), b"comment"))
    blocks += [_old_block(0x74, 0, _old_head(name, data, version), data) for name, data in files.items()]
    blocks.append(_old_block(0x7B, 0x4000, b"") if end else b"")
    path.write_bytes(b"".join(blocks))
    return path


def _old_head(name: str, data: bytes, version: int, method: int = 0x30) -> bytes:
    date, unix, mode = 0x45000000, 3, 0o100644
    numbers = (len(data), len(data), unix, zlib.crc32(data), date, version, method, len(name), mode)
    return struct.pack("<LLBLLBBHL", *numbers) + name.encode()


def _old_block(kind: int, flags: int, content: bytes, data: bytes = b"") -> bytes:
    flags |= 0x8000 if kind in (0x74, 0x7A) else 0  # data follow the header
    head = struct.pack("<BHH", kind, flags, 7 + len(content)) + content
    return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data
