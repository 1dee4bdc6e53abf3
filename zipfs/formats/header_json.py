"""A cursor over JSON bytes that takes exactly what serde_json takes, in bounded time and memory.

Python's own json module differs from serde_json (NaN, lone surrogates, `-0`, depth, numbers out of range, duplicate
keys) and builds a tree that can be thirty times the size of its text. This cursor builds nothing: its caller asks for
the next thing that it expects, gets that, or NotThisFormat. What is skipped is checked as strictly as what is kept.

Source of the rules: serde_json 1 with its default features, `de.rs` and `read.rs`. Pure; a cursor belongs to one
thread.
"""

from __future__ import annotations

import json
import re

from zipfs.errors import NotThisFormat

MAX_DEPTH = 127
"""Containers inside one another, the outermost included: serde_json gives up at 128."""

MAX_SKIPPED_NBYTES = 1 << 18
"""JSON, spaces not counted, that a cursor may skip in all. serde_json knows no such limit; here each skipped token
costs about a microsecond, which a header of 100 MB would turn into a minute."""

MAX_NUMBER = 1e308
"""serde_json refuses a number that overflows an f64, after rounding in ways of its own in the last decade."""

MAX_NUMBERS = 64
"""Items in an array of unsigned integers. serde_json knows no such limit; two bytes of text become eight in a tuple."""

_U64_END = 1 << 64

# Only single characters are repeated possessively: up to CPython 3.11.4 a possessive group can match what it must not
# (gh-106052). Repeated groups are bounded instead, because every round leaves a trace on the heap of the matcher.
_SPACE = rb"[ \t\n\r]*+"
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_HEX = rb"[0-9a-fA-F]"
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F]' + _HEX + rb"{3}|[dD][0-7]" + _HEX + rb"{2}"
    rb"|[dD][89abAB]" + _HEX + rb"{2}\\u[dD][c-fC-F]" + _HEX + rb"{2}))"
)
_SHORT_STRING = rb'"' + _PLAIN + rb"(?:" + _ESCAPE + _PLAIN + rb'){0,64}"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_UNSIGNED = rb"(?:0|[1-9][0-9]{0,19}+)" + _SPACE

_SPACES = re.compile(_SPACE)
_MARKS = {mark: re.compile(re.escape(mark) + _SPACE) for mark in (b"{", b"}", b"[", b"]", b",", b":", b'"')}
_PLAIN_TOKEN = re.compile(rb'("' + _PLAIN + rb'")' + _SPACE)
_STRING_PIECES = re.compile(_PLAIN + rb"(?:" + _ESCAPE + _PLAIN + rb"){0,1024}")
_NUMBER_TOKEN = re.compile(rb"(" + _NUMBER + rb")" + _SPACE)
_LITERAL_TOKEN = re.compile(rb"(true|false|null)" + _SPACE)
_NULL_TOKEN = re.compile(rb"null" + _SPACE)
_UNSIGNEDS = re.compile(
    rb"\[" + _SPACE + rb"(" + _UNSIGNED + rb"(?:," + _SPACE + _UNSIGNED + rb"){0,%d})?\]" % (MAX_NUMBERS - 1) + _SPACE
)
_STRING_MEMBERS = re.compile(
    rb"(?:" + _SHORT_STRING + _SPACE + rb":" + _SPACE + _SHORT_STRING + _SPACE + rb"," + _SPACE + rb"){0,1024}"
)


class Cursor:
    """A position in `text`, which the caller has found to be valid UTF-8; never before a space."""

    __slots__ = ("_position", "_skipped", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._skipped = 0
        spaces = _SPACES.match(text)
        self._position = spaces.end() if spaces is not None else 0

    def accept(self, mark: bytes) -> bool:
        """Step over `mark`, one of `{}[],:"`, and the spaces behind it, if it is next; tell whether it was."""
        match = _MARKS[mark].match(self._text, self._position)
        if match is None:
            return False
        self._position = match.end()
        return True

    def expect(self, mark: bytes) -> None:
        """Step over `mark`. Raises NotThisFormat if something else is next."""
        if not self.accept(mark):
            raise self._wrong(f"`{mark.decode()}`")

    def accept_null(self) -> bool:
        """Step over a `null` if it is next; tell whether it was."""
        match = _NULL_TOKEN.match(self._text, self._position)
        if match is None:
            return False
        self._position = match.end()
        return True

    def string(self, max_nbytes: int) -> str:
        """Take the next string, decoded. Raises NotThisFormat unless it is one spelled with at most `max_nbytes`."""
        token = self._take_string()
        if len(token) - 2 > max_nbytes:
            raise NotThisFormat(f"a string of more than {max_nbytes} bytes in the header")
        if b"\\" not in token:
            return token[1:-1].decode()
        text: str = json.loads(token)
        return text

    def key(self, max_nbytes: int) -> str:
        """Take the next string and the colon behind it."""
        text = self.string(max_nbytes)
        self.expect(b":")
        return text

    def unsigneds(self) -> tuple[int, ...]:
        """Take the next array, of at most MAX_NUMBERS integers in [0, 2**64).

        Fractions, exponents, signs (also `-0`) and leading zeros are refused.
        """
        match = _UNSIGNEDS.match(self._text, self._position)
        if match is None:
            raise self._wrong(f"an array of at most {MAX_NUMBERS} unsigned integers")
        self._position = match.end()
        if match[1] is None:
            return ()
        numbers = tuple(map(int, match[1].split(b",")))
        if max(numbers) >= _U64_END:
            raise NotThisFormat("a number of more than 64 bits in the header")
        return numbers

    def skip_strings(self) -> None:
        """Step over an object all of whose values are strings; its keys may repeat."""
        self.expect(b"{")
        if self.accept(b"}"):
            return
        while True:
            members = _STRING_MEMBERS.match(self._text, self._position)
            if members is not None:
                self._position = members.end()
            self._take_string()
            self.expect(b":")
            self._take_string()
            if self.accept(b"}"):
                return
            self.expect(b",")

    def skip(self, depth: int) -> None:
        """Step over any one value, of which `depth` containers are around."""
        closers: list[bytes] = []
        while True:
            closer = b"}" if self.accept(b"{") else b"]" if self.accept(b"[") else b""
            if not closer:
                self._skip_scalar()
            else:
                self._spend(len(closer))
                if depth + len(closers) + 1 > MAX_DEPTH:
                    raise NotThisFormat(f"more than {MAX_DEPTH} levels in the header")
                if not self.accept(closer):
                    closers.append(closer)
                    if closer == b"}":
                        self._skip_key()
                    continue
            while closers:
                if self.accept(b","):
                    if closers[-1] == b"}":
                        self._skip_key()
                    break
                self.expect(closers.pop())
            else:
                return

    def finish(self) -> None:
        """Raise NotThisFormat unless nothing but spaces is left."""
        if self._position != len(self._text):
            raise self._wrong("the end of the header")

    def _skip_key(self) -> None:
        self._spend(len(self._take_string()))
        self.expect(b":")

    def _skip_scalar(self) -> None:
        if self._text.startswith(b'"', self._position):
            self._spend(len(self._take_string()))
        elif self._text[self._position : self._position + 1].isalpha():
            self._spend(len(self._take(_LITERAL_TOKEN, "a value")))
        else:
            number = self._take(_NUMBER_TOKEN, "a value")
            self._spend(len(number))
            if abs(float(number)) >= MAX_NUMBER:
                raise NotThisFormat("a number out of range in the header")

    def _spend(self, nbytes: int) -> None:
        self._skipped += nbytes
        if self._skipped > MAX_SKIPPED_NBYTES:
            raise NotThisFormat(f"more than {MAX_SKIPPED_NBYTES} bytes of unknown fields in the header")

    def _take_string(self) -> bytes:
        """Take the next string as it is spelled, quotes included."""
        if (match := _PLAIN_TOKEN.match(self._text, self._position)) is not None:
            self._position = match.end()
            return match[1]
        start = self._position
        if not self._text.startswith(b'"', start):
            raise self._wrong("a string")
        end = start + 1
        while (pieces := _STRING_PIECES.match(self._text, end)) is not None and pieces.end() > end:
            end = pieces.end()
        self._position = end
        self.expect(b'"')
        return self._text[start : end + 1]

    def _take(self, pattern: re.Pattern[bytes], wanted: str) -> bytes:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise self._wrong(wanted)
        self._position = match.end()
        return match[1]

    def _wrong(self, wanted: str) -> NotThisFormat:
        return NotThisFormat(f"byte {self._position} of the header is not {wanted}")
