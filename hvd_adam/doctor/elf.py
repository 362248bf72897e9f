"""Which libraries a compiled file asks for, and where the loader finds them: read from the file, nothing is loaded."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOAD, _DYNAMIC = 1, 2  # kinds of program header
_NEEDED, _STRTAB, _STRSZ, _RPATH, _RUNPATH = 1, 5, 10, 15, 29  # tags of the dynamic section
DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", f"/usr/lib/{os.uname().machine}-linux-gnu")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The dynamic section of a shared object: libraries by name, search path, names of its symbols."""

    needed: tuple[str, ...]
    rpath: str
    runpath: str
    names: bytes


def read_dynamic(path: Path) -> Dynamic:
    """Reads a 64-bit ELF file.

    Raises:
        ValueError: it is none, or it has no dynamic section.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02" or len(head) < 64:
            raise ValueError(f"{path} is no 64-bit ELF file")
        order = "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(order + "Q", head, 32)
        entry_size, count = struct.unpack_from(order + "HH", head, 54)
        file.seek(table)
        content = file.read(entry_size * count)
        segments = [struct.unpack_from(order + "IIQQQQQQ", content, entry_size * i) for i in range(count)]
        dynamic = next((segment for segment in segments if segment[0] == _DYNAMIC), None)
        if dynamic is None:
            raise ValueError(f"{path} has no dynamic section")
        file.seek(dynamic[2])
        section = file.read(dynamic[5])
        tags = [struct.unpack_from(order + "qQ", section, at) for at in range(0, len(section) - 15, 16)]
        single = dict(tags)
        file.seek(_offset(single[_STRTAB], segments))
        names = file.read(single[_STRSZ])
    return Dynamic(
        tuple(_text(names, value) for tag, value in tags if tag == _NEEDED),
        _text(names, single[_RPATH]) if _RPATH in single else "",
        _text(names, single[_RUNPATH]) if _RUNPATH in single else "",
        names,
    )


def find_library(name: str, wanted_by: Path, environ: Mapping[str, str], more: Sequence[str] = ()) -> Path | None:
    """The file that the loader would take for a needed library, in its order (man 8 ld.so).

    An executable's own RPATH is left out, and so is a library of the same name that is loaded already.

    Args:
        name: as it stands in the file, for example "libmpi.so.40".
        wanted_by: the file that needs it.
        environ: for LD_LIBRARY_PATH.
        more: folders to look in before the system's, such as those of the loader's cache.
    """
    dynamic = read_dynamic(wanted_by)
    origin = str(wanted_by.resolve().parent)
    chosen = environ.get("LD_LIBRARY_PATH", "")
    paths = [chosen, dynamic.runpath] if dynamic.runpath else [dynamic.rpath, chosen]
    folders = [part for path in paths for part in path.split(":") if part]
    for folder in (*folders, *more, *DEFAULT_FOLDERS):
        found = Path(folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)) / name
        if os.path.isfile(found):
            return found.resolve()
    return None


def _offset(address: int, segments: Sequence[tuple[int, ...]]) -> int:
    for kind, _, offset, start, _, size, *_ in segments:
        if kind == _LOAD and start <= address < start + size:
            return address - start + offset
    raise ValueError("an address lies outside the file")


def _text(names: bytes, start: int) -> str:
    return names[start : names.index(b"\0", start)].decode(errors="replace")
