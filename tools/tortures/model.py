"""What a directory has to hold, kept in memory: files, their names, and what was not acknowledged yet.

A change that is under way is *loose* until the call returns. Should the file system die meanwhile, each byte may be the
one before or the one after; once it is settled there is one answer only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

Names = dict[str, "Body"]
"""Path -> what it leads to."""


class Difference(Exception):
    """Something is not as it has to be; the message says what."""


class Short(Difference):
    """What is seen is right, but ends early or is old, as it is where the file system dies meanwhile."""


@dataclass(frozen=True, slots=True)
class Undo:
    """What a loose change has replaced: bytes at an offset, and the size before."""

    offset: int
    old: bytes
    nbytes: int


@dataclass(slots=True, eq=False)
class Body:
    """What one inode holds."""

    number: int
    mode: int
    """-1: it is being changed."""
    data: bytearray = field(default_factory=bytearray)
    inode: int = 0
    """0: not looked at yet."""
    mtime_ns: int | None = None
    """What it has to be exactly; None: see `changed_s`."""
    changed_s: float = 0.0
    """When it was changed last, by the clock of the wall."""
    loose: list[Undo] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    """What was done to it, in words, since it was last seen to be right as a whole."""

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def __str__(self) -> str:
        return f"file {self.number} ({self.nbytes} bytes)"

    def write(self, offset: int, data: bytes) -> None:
        old = bytes(self.data[offset : offset + len(data)])
        self.loose.append(Undo(offset, old, self.nbytes))
        if offset > self.nbytes:
            self.data.extend(bytes(offset - self.nbytes))
        self.data[offset : offset + len(data)] = data

    def resize(self, nbytes: int) -> None:
        self.loose.append(Undo(nbytes, bytes(self.data[nbytes:]), self.nbytes))
        if nbytes < self.nbytes:
            del self.data[nbytes:]
        else:
            self.data.extend(bytes(nbytes - self.nbytes))

    def settle(self) -> None:
        self.loose.clear()

    def allows(self, found: bytes) -> str:
        """Return why it may not be `found` after a kill, or nothing."""
        sizes = [self.nbytes, *(undo.nbytes for undo in self.loose)]
        if not min(sizes) <= len(found) <= max(sizes):
            return f"has {len(found)} bytes instead of {' or '.join(map(str, sorted(set(sizes))))}"
        array = np.frombuffer(found, np.uint8)
        right = np.zeros(array.size, bool)
        for offset, data in [(0, bytes(self.data)), *((undo.offset, undo.old) for undo in self.loose)]:
            known = np.frombuffer(data, np.uint8)[: max(0, array.size - offset)]
            right[offset : offset + known.size] |= array[offset : offset + known.size] == known
        right[min(sizes) :] |= array[min(sizes) :] == 0
        wrong = np.flatnonzero(~right)
        if not wrong.size:
            return ""
        return f"{wrong.size} bytes are wrong: {span(wrong)}; {sample(found, bytes(self.data), int(wrong[0]))}"


@dataclass(slots=True)
class Tree:
    """All names, and the names as they will be if what is under way is done."""

    names: Names = field(default_factory=dict)
    loose: Names | None = None

    def begin(self, changes: Mapping[str, Body | None]) -> None:
        """Note that names are about to lead elsewhere, or nowhere, all of them in one step."""
        after = {**self.names, **{name: body for name, body in changes.items() if body is not None}}
        self.loose = {name: body for name, body in after.items() if changes.get(name, body) is not None}

    def begin_all(self, after: Names) -> None:
        self.loose = after

    def settle(self) -> None:
        if self.loose is not None:
            self.names, self.loose = self.loose, None

    def forget(self) -> None:
        """What was begun was refused."""
        self.loose = None

    def possible(self) -> Iterator[Names]:
        yield self.names
        if self.loose is not None:
            yield self.loose

    def names_of(self, body: Body) -> list[str]:
        return [name for name, found in self.names.items() if found is body]

    def bodies(self) -> list[Body]:
        return list(dict.fromkeys(self.names.values()))


def compare(found: bytes, expected: bytes | bytearray, offset: int) -> None:
    """Raise Difference where what was read at an offset is not as expected."""
    if found == expected:
        return
    if len(found) != len(expected):
        kind = Short if found == expected[: len(found)] else Difference
        raise kind(f"{len(found)} bytes read at {offset} instead of {len(expected)}")
    wrong = np.flatnonzero(np.frombuffer(found, np.uint8) != np.frombuffer(bytes(expected), np.uint8))
    first = int(wrong[0])
    raise Difference(f"{wrong.size} bytes are wrong: {span(wrong + offset)}; {sample(found, bytes(expected), first)}")


def span(wrong: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """Where bytes are wrong, as ranges; those that are near each other as one."""
    cuts = np.flatnonzero(np.diff(wrong) > 64)
    begins, ends = [0, *(cuts + 1)], [*cuts, wrong.size - 1]
    ranges = [f"{wrong[begin]}..{wrong[end] + 1}" for begin, end in zip(begins, ends, strict=True)]
    return ", ".join([*ranges[:6], *(["..."] if len(ranges) > 6 else [])])


def sample(found: bytes, expected: bytes, at: int) -> str:
    """The first bytes that differ, on both sides, and whether the wrong ones are zeros."""
    part = found[at : at + 4096]
    zeros = " (zeros)" if not any(part) else ""
    return f"{found[at : at + 16].hex()}{zeros} instead of {expected[at : at + 16].hex()}"


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
