"""Copy files of a store into a directory of the host. Neither is trusted.

Everything is made new, by name in a directory that is held open, so that no link leads elsewhere: neither one that the
store holds, nor one that whoever else may write to the destination puts there meanwhile. Until a file is complete, only
its maker can read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Self

from zipfs.cli.render.messages import message
from zipfs.host import printable

if TYPE_CHECKING:
    from zipfs.library import Library, Node

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_NBYTES: Final = 4 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_content(library: Library, node: Node, write: Callable[[bytes | memoryview], object]) -> None:
    """Hand the content of a file to `write`, piece by piece. Raises OSError, ZipfsError."""
    content = library.open(node)
    try:
        for offset in range(0, content.nbytes, _CHUNK_NBYTES):
            write(content.read(offset, _CHUNK_NBYTES))
    finally:
        content.close()


class _Directory(NamedTuple):
    """A directory that is being filled."""

    node: Node
    fd: int


class Extraction:
    """Puts the nodes of a tree, which come parents first, at and below `dest`."""

    def __init__(self, library: Library, dest: Path, copy: Callable[[Node, BinaryIO], object]) -> None:
        self._library = library
        self._dest = dest
        self._copy = copy
        self._above = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: list[_Directory] = []
        self._top: Node | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Set the attributes of directories that are complete; what an error left half done keeps its maker's."""
        try:
            self._leave(0, complete=error is None)
        finally:
            os.close(self._above)

    def put(self, node: Node) -> None:
        """Copy a node. Raises OSError, ZipfsError."""
        if self._top is None:
            self._top, name, parent = node, os.fsencode(self._dest.name), self._above
        else:
            depth = len(node.path[len(self._top.path) :].strip(b"/").split(b"/"))
            self._leave(depth, complete=True)
            name, parent = os.path.basename(node.path), self._open[-1].fd
        try:
            self._make(node, name, parent)
        except OSError as error:
            error.filename = self._destination(node)
            raise

    def _make(self, node: Node, name: bytes, parent: int) -> None:
        if node.inode.is_directory:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._open.append(_Directory(node, os.open(name, _DIRECTORY, dir_fd=parent)))
        elif node.inode.target is not None:
            from zipfs.store.namespace.attributes import write_attributes_of_symlink

            os.symlink(node.inode.target, name, dir_fd=parent)
            write_attributes_of_symlink(name, parent, self._library.attributes(node))
        else:
            with open(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as file:
                try:
                    self._copy(node, file)
                    file.flush()
                except BaseException:
                    os.unlink(name, dir_fd=parent)  # a file is there as a whole or not at all
                    raise
                self._set_attributes(node, file.fileno())

    def _leave(self, depth: int, *, complete: bool) -> None:
        """Close all but the first `depth` directories, and set their attributes.

        Sooner would be too soon: filling a directory changes its times, and its mode may forbid it.
        """
        while len(self._open) > depth:
            node, fd = self._open.pop()
            try:
                if complete:
                    self._set_attributes(node, fd)
            finally:
                os.close(fd)

    def _set_attributes(self, node: Node, fd: int) -> None:
        from zipfs.store.namespace.attributes import write_attributes

        def refused(name: bytes) -> None:
            message(f"{printable(self._destination(node))}: attribute {printable(name)} cannot be set there")

        write_attributes(fd, self._library.attributes(node), refused)

    def _destination(self, node: Node) -> str:
        """Return where a node goes, for messages."""
        below = b"" if self._top is None else node.path[len(self._top.path) :].strip(b"/")
        return os.fsdecode(os.path.join(os.fsencode(self._dest), below) if below else os.fsencode(self._dest))
