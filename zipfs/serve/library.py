"""The served tree as a library: list, look at and read files of a store with no mount at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zipfs.errors import IsADirectory, NotADirectory, NotFound, PathError
from zipfs.serve.content import Content, open_content
from zipfs.serve.reader import Reader
from zipfs.store import tree
from zipfs.store.attributes import Attributes, attributes_of
from zipfs.store.rows import ROOT, Inode, Kind, State
from zipfs.store.store import Store, open_store

_MAX_LINKS = 40
BLOCK_NBYTES = 512


@dataclass(frozen=True, slots=True)
class Node:
    """A file, directory or symlink at a path of the served tree (bytes, no leading slash). Sizes in bytes."""

    path: bytes
    inode: Inode
    nbytes: int
    stored_nbytes: int

    @property
    def mode(self) -> int:
        """Type and permission bits as in stat(2)."""
        return file_type(self.inode) | self.inode.mode


def file_type(inode: Inode) -> int:
    match inode.kind:
        case Kind.DIRECTORY:
            return stat.S_IFDIR
        case Kind.SYMLINK:
            return stat.S_IFLNK
        case Kind.FILE:
            return stat.S_IFREG


def sizes(store: Store, inode: Inode) -> tuple[int, int]:
    """(apparent, stored) bytes of a file; what is still in the spool is stored as it is."""
    if inode.state in (State.OPEN, State.SEALED):
        try:
            found = os.stat(store.spool_path(inode.id))
        except FileNotFoundError:
            return inode.nbytes, inode.stored_nbytes
        return found.st_size, found.st_blocks * BLOCK_NBYTES
    return inode.nbytes, inode.stored_nbytes


class Library:
    """A store opened for reading. Used by one thread; contents that it opens may be read by any."""

    def __init__(self, path: str | Path, *, cache_nbytes: int = 256 << 20) -> None:
        self._store = open_store(Path(path), read_only=True, cache_nbytes=cache_nbytes)
        self._reader = Reader(self._store.frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._store.close()

    @property
    def store(self) -> Store:
        """The store, for what its catalog tells beyond the tree."""
        return self._store

    def node(self, path: str | bytes, *, follow: bool = True) -> Node:
        """What is at a path. Symlinks within the tree are followed, the last one only with `follow`.

        Raises NotFound, NotADirectory.
        """
        where = os.fsencode(path)
        for _ in range(_MAX_LINKS):
            inode, target = self._step(where, follow=follow)
            if target is None:
                return self._node(b"/".join(tree.components(where)), inode)
            where = target
        raise PathError(path, "too many symbolic links")

    def _step(self, path: bytes, *, follow: bool) -> tuple[Inode, bytes | None]:
        """The inode at a path; or that of the first symlink on the way, and the path with its target put in."""
        parts = tree.components(path)
        inode = self._store.catalog.inode(ROOT)
        for at, name in enumerate(parts, start=1):
            if not inode.is_directory:
                raise NotADirectory(path)
            entry = self._store.catalog.entry(inode.id, name)
            if entry is None:
                raise NotFound(path)
            inode = self._store.catalog.inode(entry.inode_id)
            if inode.target is not None and (follow or at < len(parts)):
                if inode.target.startswith(b"/"):
                    raise NotFound(path + b" -> " + inode.target)
                return inode, os.path.normpath(os.path.join(*parts[: at - 1], inode.target, *parts[at:]))
        return inode, None

    def _node(self, path: bytes, inode: Inode) -> Node:
        return Node(path, inode, *sizes(self._store, inode))

    def children(self, node: Node) -> list[Node]:
        """What a directory holds, in order of name."""
        if not node.inode.is_directory:
            raise NotADirectory(node.path)
        prefix = node.path + b"/" if node.path else b""
        return [self._node(prefix + entry.name, child) for entry, child in self._store.catalog.children(node.inode.id)]

    def walk(self, node: Node) -> Iterator[Node]:
        """A node and everything below it, parents first, in order of name."""
        for path, inode in tree.walk(self._store.catalog, node.inode, node.path):
            yield self._node(path, inode)

    def attributes(self, node: Node) -> Attributes:
        """Mode, owner, times and extended attributes."""
        return attributes_of(self._store.catalog, node.inode)

    def xattrs(self, node: Node) -> dict[bytes, bytes]:
        return self._store.catalog.xattrs(node.inode.id)

    def open(self, node: Node) -> Content:
        """The content of a file. Raises IsADirectory, Damaged."""
        if node.inode.kind is not Kind.FILE:
            raise IsADirectory(node.path)
        return open_content(self._store, self._reader, node.inode)

    def read(self, path: str | bytes) -> bytes:
        """A whole file."""
        content = self.open(self.node(path))
        try:
            return bytes(content.read(0, content.nbytes))
        finally:
            content.close()
