"""Lists, looks at and reads files of a store, with no mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zipfs.errors import IsADirectory, NotADirectory, NotFound, PathError
from zipfs.library.os_errors import as_os_errors
from zipfs.reading.content import Content, open_content
from zipfs.reading.reader import Reader
from zipfs.store.namespace import tree
from zipfs.store.namespace.attributes import Attributes, attributes_of
from zipfs.store.objects.values import ROOT, Inode, Kind
from zipfs.store.store import Store, open_store

_MAX_LINKS = 40
BLOCK_NBYTES = 512


@dataclass(frozen=True, slots=True)
class Node:
    """A file, directory or symlink. Sizes in bytes.

    `path` is its path in the served tree as the file system has it: bytes, with no leading slash. `str(node)` and
    `os.fspath(node)` are the same as text, from which `os.fsencode` makes those bytes again, whatever they are.
    """

    path: bytes
    inode: Inode
    nbytes: int
    stored_nbytes: int

    @property
    def name(self) -> str:
        """Return the last part of its path; "" of the top."""
        return os.path.basename(os.fsdecode(self.path))

    @property
    def mode(self) -> int:
        """Return type and permission bits as in stat(2)."""
        return file_type(self.inode) | self.inode.mode

    @property
    def is_directory(self) -> bool:
        return self.inode.is_directory

    def __str__(self) -> str:
        return os.fsdecode(self.path)

    def __fspath__(self) -> str:
        return os.fsdecode(self.path)


Named = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path of the served tree; a `Node` is one."""


def file_type(inode: Inode) -> int:
    match inode.kind:
        case Kind.DIRECTORY:
            return stat.S_IFDIR
        case Kind.SYMLINK:
            return stat.S_IFLNK
        case Kind.FILE:
            return stat.S_IFREG


def sizes(store: Store, inode: Inode) -> tuple[int, int]:
    """Return (apparent, stored) bytes of a file; what is still in the spool is stored as it is."""
    if inode.is_spooled:
        try:
            found = os.stat(store.spool_path(inode))
        except FileNotFoundError:
            return inode.nbytes, inode.stored_nbytes
        return found.st_size, inode.stored_nbytes + found.st_blocks * BLOCK_NBYTES
    return inode.nbytes, inode.stored_nbytes


class Library:
    """A store opened for reading. Used by one thread; contents that it opens may be read by any.

    Where it is asked for a path, a `Node` will do, and what is there is taken as it was then. Symlinks within the tree
    are followed. Its errors are those of `zipfs.errors`, and OSErrors as well: FileNotFoundError, NotADirectoryError,
    IsADirectoryError.
    """

    def __init__(self, path: str | os.PathLike[str], *, cache_nbytes: int = 256 << 20) -> None:
        with as_os_errors():
            self._store = open_store(Path(path), read_only=True, cache_nbytes=cache_nbytes)
        self._reader = Reader(self._store.frames)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; nothing may be read any more. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            self._store.frames.close()
            self._store.close()

    @property
    def store(self) -> Store:
        """Return the store, for what its catalog has beyond the tree."""
        return self._store

    def node(self, path: Named = "", *, follow: bool = True) -> Node:
        """Return what is at a path; the last symlink is followed only with `follow`.

        Raises NotFound, NotADirectory.
        """
        with as_os_errors():
            return self._find(os.fsencode(path), follow=follow)

    def _find(self, path: bytes, *, follow: bool) -> Node:
        above: list[tuple[bytes, Inode]] = []
        name, inode = b"", self._store.catalog.inode(ROOT)
        pending = _parts(path)
        links = 0
        while pending:
            part = pending.pop(0)
            if not inode.is_directory:
                raise NotADirectory(path)
            if part == b"..":
                if not above:
                    raise NotFound(path)  # above the top there is nothing
                name, inode = above.pop()
                continue
            entry = self._store.catalog.entry(inode.id, part)
            if entry is None:
                raise NotFound(path)
            found = self._store.catalog.inode(entry.inode_id)
            if found.target is None or not (follow or pending):
                above.append((name, inode))
                name, inode = part, found
                continue
            links += 1
            if links > _MAX_LINKS:
                raise PathError(path, "too many symbolic links")
            if found.target.startswith(b"/"):
                raise NotFound(path + b" -> " + found.target)
            pending = _parts(found.target) + pending
        return self._node(b"/".join([part for part, _ in above[1:]] + [name]), inode)

    def _node(self, path: bytes, inode: Inode) -> Node:
        return Node(path, inode, *sizes(self._store, inode))

    def _at(self, where: Named | Node) -> Node:
        return where if isinstance(where, Node) else self._find(os.fsencode(where), follow=True)

    def children(self, directory: Named | Node = "") -> list[Node]:
        """Return what a directory holds, in order of name. Raises NotFound, NotADirectory."""
        with as_os_errors():
            top = self._at(directory)
            if not top.inode.is_directory:
                raise NotADirectory(top.path)
            prefix = top.path + b"/" if top.path else b""
            found = self._store.catalog.children(top.inode.id)
            return [self._node(prefix + entry.name, child) for entry, child in found]

    def walk(self, top: Named | Node = "") -> Iterator[Node]:
        """Yield a node and everything below it, parents first, in order of name. Raises NotFound."""
        with as_os_errors():
            start = self._at(top)
            for path, inode in tree.walk(self._store.catalog, start.inode, start.path):
                yield self._node(path, inode)

    def attributes(self, where: Named | Node) -> Attributes:
        """Return mode, owner, times and extended attributes. Raises NotFound."""
        with as_os_errors():
            return attributes_of(self._store.catalog, self._at(where).inode)

    def xattrs(self, where: Named | Node) -> dict[bytes, bytes]:
        """Return the extended attributes, by name. Raises NotFound."""
        with as_os_errors():
            return self._store.catalog.xattrs(self._at(where).inode.id)

    def open(self, file: Named | Node) -> Content:
        """Open the content of a file, which the caller closes. Raises NotFound, IsADirectory, Damaged."""
        with as_os_errors():
            node = self._at(file)
            if node.inode.kind is not Kind.FILE:
                raise IsADirectory(node.path)
            return open_content(self._store, self._reader, node.inode)

    def read(self, file: Named | Node) -> bytes:
        """Return a whole file. Raises NotFound, IsADirectory, Damaged."""
        content = self.open(file)
        try:
            with as_os_errors():
                return bytes(content.read(0, content.nbytes))
        finally:
            content.close()


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
