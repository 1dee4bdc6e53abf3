"""Packs in memory: the smallest backend that a store can use."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence

from zipfs.errors import PackDamaged
from zipfs.store.objects.values import PackName
from zipfs.store.packs.file import PackFile, ReadRange, ends_early


class MemoryPackFile(PackFile):
    __slots__ = ("content",)

    def __init__(self, name: PackName, where: str, content: bytearray) -> None:
        super().__init__(name, where)
        self.content = content

    @property
    def nbytes(self) -> int:
        return len(self.content)

    def read(self, offset: int, nbytes: int) -> bytes:
        data = bytes(self.content[offset : offset + nbytes])
        if len(data) < nbytes:
            raise PackDamaged(self.where, offset, ends_early(nbytes - len(data)))
        return data

    @staticmethod
    def read_ranges(ranges: Sequence[ReadRange], resident: Sequence[memoryview] = ()) -> None:
        for pack, offset, into in ranges:
            into[:] = pack.read(offset, len(into))

    def forget_cached(self) -> None:
        return


class MemoryPart:
    def __init__(self, packs: MemoryPacks, name: PackName) -> None:
        self._packs = packs
        self._name = name
        self._content = bytearray()

    @property
    def file(self) -> PackFile:
        return MemoryPackFile(self._name, f"{self._packs.where(self._name)} (unfinished)", self._content)

    @property
    def nbytes(self) -> int:
        return len(self._content)

    @property
    def on_disk_nbytes(self) -> int:
        return len(self._content)

    def append(self, data: bytes | memoryview) -> None:
        self._content += data

    def truncate(self, nbytes: int) -> None:
        del self._content[nbytes:]

    def sync(self) -> None:
        return

    def finish(self, named: Callable[[], None]) -> None:
        self._packs.put(self._name, self._content)
        named()
        self.discard()

    def discard(self) -> None:
        self._packs.drop_part(self._name)


class MemoryPacks:
    """Packs as long as this object lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packs: dict[PackName, bytearray] = {}
        self._parts: set[PackName] = set()

    def put(self, name: PackName, content: bytearray) -> None:
        """Create a pack unless there is one of that name. Raises FileExistsError."""
        with self._lock:
            if self._packs.setdefault(name, content) is not content:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.where(name))

    def drop_part(self, name: PackName) -> None:
        with self._lock:
            self._parts.discard(name)

    def where(self, name: PackName) -> str:
        return f"memory:{name.hex()}"

    def names(self) -> list[PackName]:
        with self._lock:
            return list(self._packs)

    def exists(self, name: PackName) -> bool:
        return name in self._packs

    def nbytes(self, name: PackName) -> int:
        return self.open(name).nbytes

    def open(self, name: PackName) -> PackFile:
        with self._lock:
            content = self._packs.get(name)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.where(name))
        return MemoryPackFile(name, self.where(name), content)

    def begin(self, name: PackName) -> MemoryPart:
        with self._lock:
            if name in self._parts:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.where(name))
            self._parts.add(name)
        return MemoryPart(self, name)

    def delete(self, name: PackName) -> None:
        with self._lock:
            self._packs.pop(name, None)

    def release_deleted(self) -> None:
        return

    def unfinished(self) -> list[str]:
        with self._lock:
            return [self.where(name) for name in self._parts]

    def clear_unfinished(self) -> None:
        with self._lock:
            self._parts.clear()
