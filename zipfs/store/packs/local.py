"""Packs in a local directory, one file each.

A pack is written to `<name>.pack.part`, which no reader looks at, and renamed once its bytes are on the disk. An open
pack holds the file and not the name: so it stays readable when the pack is deleted, and its space is freed when nobody
holds it any more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zipfs.store.disk.files import open_file
from zipfs.store.objects.values import PackName
from zipfs.store.packs.file import PackFile
from zipfs.store.packs.local_file import LocalPackFile, LocalPart

_SUFFIX: Final = ".pack"
_PART_SUFFIX: Final = ".pack.part"
_IDLE_FILES: Final = 128
"""Packs that are kept open, at most, beside those that somebody reads from."""


class LocalPacks:
    """The packs in one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: OrderedDict[PackName, LocalPackFile] = OrderedDict()

    def _path_of(self, name: PackName) -> Path:
        return self._path / (name.hex() + _SUFFIX)

    def where(self, name: PackName) -> str:
        return str(self._path_of(name))

    def names(self) -> Iterator[PackName]:
        for path in self._path.iterdir():
            if path.name.endswith(_SUFFIX):
                try:
                    name = bytes.fromhex(path.name.removesuffix(_SUFFIX))
                except ValueError:
                    continue
                if len(name) == 16:
                    yield PackName(name)

    def exists(self, name: PackName) -> bool:
        return self._path_of(name).exists()

    def nbytes(self, name: PackName) -> int:
        return self._path_of(name).stat().st_size

    def open(self, name: PackName) -> PackFile:
        with self._lock:
            file = self._open.get(name)
            if file is not None and file.deleted:
                del self._open[name]  # or the space of a collected pack would not be freed
                file = None
            if file is not None:
                self._open.move_to_end(name)
                return file
            path = self._path_of(name)
            file = self._open[name] = LocalPackFile(name, open_file(path), str(path))
            while len(self._open) > _IDLE_FILES:
                self._open.popitem(last=False)
            return file

    def begin(self, name: PackName) -> LocalPart:
        return LocalPart(self._path / (name.hex() + _PART_SUFFIX), self._path_of(name), name)

    def delete(self, name: PackName) -> None:
        with self._lock:
            self._open.pop(name, None)
        self._path_of(name).unlink(missing_ok=True)

    def release_deleted(self) -> None:
        with self._lock:
            for name in [name for name, file in self._open.items() if file.deleted]:
                del self._open[name]

    def unfinished(self) -> Iterator[str]:
        return (str(path) for path in self._parts())

    def clear_unfinished(self) -> None:
        for path in self._parts():
            path.unlink(missing_ok=True)

    def _parts(self) -> Iterator[Path]:
        return (path for path in self._path.iterdir() if path.name.endswith(_PART_SUFFIX))
