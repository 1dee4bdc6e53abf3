"""Owns the state of a machine that reads a pickle, and the limits on what a pickle may make it hold.

The opcodes are in `pickle_reader.py`. Pure; a machine belongs to one thread.
"""

from __future__ import annotations

from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.pickle_values import Record, Symbol

MAX_OBJECTS: Final = 1 << 19
"""Containers, symbols, records and marks that a pickle may make. A symbol with a long name counts as several."""
MAX_LINE_NBYTES: Final = 1 << 16
MAX_SYMBOL_LENGTH: Final = 1024

_COUNTED_LENGTH: Final = 64


class CutOff(NotThisFormat):
    """The bytes end before the pickle does."""


class Machine:
    """The state of a pickle machine: a stack, the marks on it, and what was put aside."""

    __slots__ = ("at", "content", "made", "marks", "memo", "stack", "symbols")

    def __init__(self, content: bytes, at: int) -> None:
        self.content = content
        self.at = at
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.symbols: dict[str, Symbol] = {}
        self.made = 0

    def take(self, nbytes: int) -> bytes:
        at = self.at
        self.at = end = at + nbytes
        if end > len(self.content):
            raise CutOff(f"a pickle wants {nbytes} bytes more than there are")
        return self.content[at:end]

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.at, self.at + MAX_LINE_NBYTES)
        if end < 0:
            if self.at + MAX_LINE_NBYTES > len(self.content):
                raise CutOff("a line that does not end")
            raise NotThisFormat(f"a line of more than {MAX_LINE_NBYTES} bytes in a pickle")
        line = self.content[self.at : end]
        self.at = end + 1
        return line

    def count(self) -> None:
        """Count something that is about to be made."""
        self.made += 1
        if self.made > MAX_OBJECTS:
            raise NotThisFormat(f"more than {MAX_OBJECTS} objects in a pickle")

    def push(self, value: object) -> None:
        self.made += 1
        if self.made > MAX_OBJECTS:
            self.count()
        self.stack.append(value)

    def marked(self) -> list[object]:
        """Take what was pushed since the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def symbol(self, module: str, name: str) -> Symbol:
        if len(module) + len(name) > MAX_SYMBOL_LENGTH:
            raise NotThisFormat(f"a name of more than {MAX_SYMBOL_LENGTH} characters in a pickle")
        name = f"{module}.{name}"
        found = self.symbols.get(name)
        if found is None:
            self.made += len(name) // _COUNTED_LENGTH
            self.count()
            found = self.symbols[name] = Symbol(name)
        return found

    def call(self, function: object, arguments: object) -> None:
        self.push(Record(function, arguments))
