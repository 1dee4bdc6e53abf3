"""The HDF5 container: a graph of groups and datasets, of h5py, Keras (`.h5`, `.weights.h5`) and others.

Takes contiguous datasets of integers and floats that are not big-endian, in groups of either kind: those of symbol
tables, and those of link messages. Plain bytes are: chunked and compact datasets, other types, and datasets in other
files. Of an object that is damaged nothing is taken; the rest is.
Objects are found from the root, each once, so that no circle of links is walked twice. Source: "HDF5 File Format
Specification Version 3.0".

Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, NamedTuple

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.hdf5_heap import links_of_heap
from zipfs.formats.hdf5_messages import (
    ADDRESS_NBYTES,
    UNDEFINED,
    address,
    parse_dtype,
    parse_layout,
    parse_link,
    parse_shape,
)
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile

FORMAT: Final = "hdf5"
SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS: Final = 1 << 16
MAX_STEPS: Final = 1 << 20
"""Messages, links and nodes in all, each of 64 bytes at most. Beyond that, what was found is taken and the rest is
plain bytes."""
MAX_DEPTH: Final = 64
MAX_CHUNK_NBYTES: Final = 1 << 20
"""Of an object header in one piece; attributes of 64 KiB at most lie in it."""
MAX_PATH_LENGTH: Final = 1 << 12

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT, _CONTINUATION, _SYMBOL_TABLE = 1, 2, 3, 6, 7, 8, 16, 17
_KEPT: Final = (_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT, _CONTINUATION, _SYMBOL_TABLE)
_IS_SHARED: Final = 2
_SYMBOL_NBYTES: Final = 40
_NODE_HEAD_NBYTES: Final = 8 + 2 * ADDRESS_NBYTES
_HEAP_NBYTES: Final = 8 + 3 * ADDRESS_NBYTES
_STEP_NBYTES: Final = 64
_NAME_NBYTES: Final = 256
"""How much is read of a name; a longer one is cut."""
_SUPERBLOCK_NBYTES: Final = 96
"""At most, of any version, the root's symbol table entry included."""


class _Message(NamedTuple):
    kind: int
    content: bytes


def looks_like_hdf5(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be HDF5; cheap, and never wrongly False."""
    return nbytes > len(SIGNATURE) and head.startswith(SIGNATURE)


def parse_hdf5(read: Read, nbytes: int) -> Layout:
    """Lay out an HDF5 file of `nbytes`: the items of each dataset that is taken, and what lies between them.

    Raises NotThisFormat, with the reason, if there is none, and whatever `read` raises. Memory: some hundred bytes for
    each object.
    """
    datasets = find_datasets(Source(read, nbytes))
    if not datasets:
        raise NotThisFormat("no contiguous dataset of a known type")
    return tile(FORMAT, datasets, nbytes)


def find_datasets(source: Source) -> list[Span]:
    """Return where in the file the items of datasets lie of the HDF5 file that `source` is.

    Raises NotThisFormat if it is none.
    """
    finder = _Finder(source)
    finder.walk(finder.root())
    return finder.datasets


class _Finder:
    """Collects the datasets of one file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.datasets: list[Span] = []
        self._base = 0
        self._steps = 0
        self._seen: set[int] = set()

    def root(self) -> int:
        """Return the address of the root group's object header."""
        block = self.source.take(0, min(_SUPERBLOCK_NBYTES, self.source.nbytes))
        if not block.startswith(SIGNATURE) or len(block) < 48:
            raise NotThisFormat("no superblock of HDF5")
        version = block[8]
        if version in (0, 1):
            widths, base_at = block[13:15], 24 if version == 0 else 28
            root_at = base_at + 5 * ADDRESS_NBYTES
        elif version in (2, 3):
            widths, base_at = block[9:11], 12
            root_at = base_at + 3 * ADDRESS_NBYTES
        else:
            raise NotThisFormat(f"a superblock of version {version}")
        if widths != bytes((ADDRESS_NBYTES, ADDRESS_NBYTES)):
            raise NotThisFormat("addresses of another width")
        self._base = address(block, base_at)
        return address(block, root_at)

    def walk(self, root: int) -> None:
        """Take all datasets that can be reached from `root`, until the steps are used up."""
        pending = [(root, "", 0)]
        try:
            while pending and len(self._seen) < MAX_OBJECTS:
                at, path, depth = pending.pop()
                if at in self._seen:
                    continue
                self._seen.add(at)
                for name, to in reversed(self._look_into(at, path)):
                    path_to = f"{path}/{name}" if path else name
                    self._spend(len(path_to))
                    if depth < MAX_DEPTH and len(path_to) <= MAX_PATH_LENGTH:
                        pending.append((to, path_to, depth + 1))
        except _OutOfStepsError:
            return

    def _look_into(self, at: int, path: str) -> list[tuple[str, int]]:
        """Take the object at `at` if it is a dataset; if it is a group, return its links as far as they are read."""
        links: list[tuple[str, int]] = []
        found: dict[int, bytes] = {}
        try:
            for message in self._messages(at):
                if message.kind == _LINK:
                    link = parse_link(message.content, 0)
                    if link is not None and link.address is not None:
                        links.append((link.name, link.address))
                elif message.kind == _LINK_INFO:
                    links += self._dense_links(message.content)
                elif message.kind == _SYMBOL_TABLE:
                    links += self._symbols(message.content)
                else:
                    found[message.kind] = message.content
            if _LAYOUT in found and _EXTERNAL not in found:
                self._take_dataset(found, path)
        except NotThisFormat:
            pass
        return links

    def _take_dataset(self, found: dict[int, bytes], path: str) -> None:
        dtype = parse_dtype(found.get(_DATATYPE, b""))
        shape = parse_shape(found.get(_DATASPACE, b""))
        extent = parse_layout(found[_LAYOUT])
        if dtype is None or shape is None or extent is None:
            return
        nbytes = prod(shape) * DTYPES[dtype].block_nbytes
        offset = self._base + extent.address
        if extent.nbytes in (None, nbytes) and offset + nbytes <= self.source.nbytes:
            self.datasets.append(Span(self.source.start + offset, nbytes, dtype, shape, path))

    def _spend(self, nbytes: int) -> None:
        self._steps += 1 + nbytes // _STEP_NBYTES
        if self._steps > MAX_STEPS:
            raise _OutOfStepsError

    def _take(self, at: int, nbytes: int) -> bytes:
        self._spend(nbytes)
        return self.source.take(self._base + at, nbytes)

    def _messages(self, at: int) -> Iterator[_Message]:
        """Yield the messages of the object header at `at`."""
        head = self._take(at, 16)
        if head.startswith(b"OHDR"):
            flags = head[5]
            width_at = 6 + 16 * bool(flags & 32) + 4 * bool(flags & 16)
            width = 1 << (flags & 3)
            nbytes = int.from_bytes(self._take(at + width_at, width), "little")
            yield from self._chunks(at + width_at + width, nbytes, 6 if flags & 4 else 4)
        elif head[0] == 1:
            yield from self._chunks(at + 16, int.from_bytes(head[8:12], "little"), 8)
        else:
            raise NotThisFormat(f"an object header of version {head[0]}")

    def _chunks(self, at: int, nbytes: int, head_nbytes: int) -> Iterator[_Message]:
        """Yield the messages of a piece of an object header, and of those that continue it."""
        chunks = [(at, nbytes)]
        seen: set[int] = set()
        while chunks:
            at, nbytes = chunks.pop()
            if nbytes > MAX_CHUNK_NBYTES or at in seen:
                raise NotThisFormat("an object header that is too long, or continues itself")
            seen.add(at)
            for message in self._split(self._take(at, nbytes), head_nbytes):
                if message.kind == _CONTINUATION:
                    chunks.append(self._continuation(message.content, head_nbytes))
                else:
                    yield message

    def _split(self, chunk: bytes, head_nbytes: int) -> Iterator[_Message]:
        is_first_version = head_nbytes == 8
        position = 0
        while position + head_nbytes <= len(chunk):
            self._spend(0)
            if is_first_version:
                kind, flags = chunk[position] | chunk[position + 1] << 8, chunk[position + 4]
                nbytes = chunk[position + 2] | chunk[position + 3] << 8
            else:
                kind, flags = chunk[position], chunk[position + 3]
                nbytes = chunk[position + 1] | chunk[position + 2] << 8
            position += head_nbytes
            if position + nbytes > len(chunk):
                raise NotThisFormat("a message that is longer than its header")
            if kind in _KEPT and not flags & _IS_SHARED:
                yield _Message(kind, chunk[position : position + nbytes])
            position += nbytes

    def _continuation(self, content: bytes, head_nbytes: int) -> tuple[int, int]:
        at, nbytes = address(content, 0), address(content, ADDRESS_NBYTES)
        if head_nbytes == 8:
            return at, nbytes
        if nbytes < 8 or self._take(at, 4) != b"OCHK":
            raise NotThisFormat("no continuation of an object header")
        return at + 4, nbytes - 8

    def _dense_links(self, content: bytes) -> list[tuple[str, int]]:
        """Return the links of a group that has them in a heap, if it does."""
        if len(content) < 2 or content[0] != 0:
            return []
        heap_at = address(content, 2 + 8 * (content[1] & 1))
        if heap_at == UNDEFINED:
            return []
        links: list[tuple[str, int]] = []
        for link in links_of_heap(self._take, heap_at):
            self._spend(len(link.name))
            if link.address is not None:
                links.append((link.name, link.address))
        return links

    def _symbols(self, content: bytes) -> list[tuple[str, int]]:
        """Return the links of a group that is a symbol table: a tree of nodes, and a heap of names."""
        heap_at = address(content, ADDRESS_NBYTES)
        heap = self._take(heap_at, _HEAP_NBYTES)
        if not heap.startswith(b"HEAP"):
            raise NotThisFormat("no heap of names")
        names_nbytes, names_at = address(heap, 8), address(heap, 8 + 2 * ADDRESS_NBYTES)
        links: list[tuple[str, int]] = []
        for name_at, to in self._leaves(address(content, 0)):
            if name_at < names_nbytes and to != UNDEFINED:
                links.append((self._name(names_at + name_at, names_nbytes - name_at), to))
        return links

    def _leaves(self, root: int) -> Iterator[tuple[int, int]]:
        """Yield where the name is of each entry below a node, and where its object header is."""
        nodes = [root]
        seen: set[int] = set()
        while nodes:
            at = nodes.pop()
            if at in seen:
                raise NotThisFormat("a tree with a circle in it")
            seen.add(at)
            head = self._take(at, 8)
            count = int.from_bytes(head[6:8], "little")
            if head.startswith(b"TREE\0"):
                body = self._take(at + _NODE_HEAD_NBYTES, 2 * ADDRESS_NBYTES * count)
                nodes += [
                    address(body, 2 * ADDRESS_NBYTES * child + ADDRESS_NBYTES) for child in reversed(range(count))
                ]
            elif head.startswith(b"SNOD\1"):
                body = self._take(at + 8, _SYMBOL_NBYTES * count)
                for start in range(0, len(body), _SYMBOL_NBYTES):
                    yield address(body, start), address(body, start + ADDRESS_NBYTES)
            else:
                raise NotThisFormat("a node of no group")

    def _name(self, at: int, nbytes: int) -> str:
        piece = self._take(at, min(nbytes, _NAME_NBYTES))
        return piece.split(b"\0", 1)[0].decode("utf-8", "replace")


class _OutOfStepsError(Exception):
    """The file has more in it than is looked at."""
