"""Files that try to confuse a reader of GGUF, and valid ones to compare with.

Owns the making of such files as bytes, of either byte order and any version; says nothing of what should come of them.
Names are unique and fit a file name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.formats.hostile import pattern

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
CODES: Final = {
    UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?", UINT64: "Q",
    INT64: "q", FLOAT64: "d",
}  # fmt: skip
"""Type of a value of one length -> what the struct module calls it."""
ORDERS: Final = {"<": "little", ">": "big"}
F32: Final = 0
Q4_0: Final = 2
I8: Final = 24
ALIGNMENT: Final = 32


@dataclass(frozen=True, slots=True)
class Array:
    """A metadata value: items of one type."""

    kind: int
    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Described:
    """What a header says of a tensor; axes as in the file, the fastest first."""

    name: bytes
    axes: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class Made:
    """A header to be written. `tensors` and `keys` are the counts that it claims, the truth by default."""

    metadata: Sequence[tuple[bytes, int, Any]] = ()
    described: Sequence[Described] = ()
    version: int = 3
    order: str = "<"
    counts: tuple[int, int] | None = None
    data: bytes = b""
    alignment: int = ALIGNMENT
    magic: bytes = field(default=b"GGUF")

    def content(self) -> bytes:
        """The file, its data padded to the alignment unless there is none."""
        tensors, keys = self.counts or (len(self.described), len(self.metadata))
        parts = [self.magic, self._packed("I", self.version), self._length(tensors), self._length(keys)]
        for key, kind, value in self.metadata:
            parts += [self._string(key), self._packed("I", kind), self._value(kind, value)]
        for tensor in self.described:
            parts += [self._string(tensor.name), self._packed("I", len(tensor.axes)), *map(self._length, tensor.axes)]
            parts += [self._packed("I", tensor.kind), self._packed("Q", tensor.offset)]
        header = b"".join(parts)
        return header + (bytes(-len(header) % self.alignment) + self.data if self.data else b"")

    def _packed(self, code: str, value: Any) -> bytes:
        return struct.pack(self.order + code, value)

    def _length(self, value: int) -> bytes:
        return self._packed("I" if self.version == 1 else "Q", value)

    def _string(self, text: bytes) -> bytes:
        return self._length(len(text)) + text

    def _value(self, kind: int, value: Any) -> bytes:
        if kind == STRING:
            return self._string(value)
        if kind == ARRAY:
            items = (self._value(value.kind, item) for item in value.items)
            return self._packed("I", value.kind) + self._length(len(value.items)) + b"".join(items)
        return self._packed(CODES[kind], value) if kind in CODES else bytes(value)


def words(count: int) -> list[bytes]:
    """Different strings, as a vocabulary has them."""
    return [b"word" * (number % 9) + str(number).encode() for number in range(count)]


def one(**changes: Any) -> bytes:
    """A file of one tensor of 8 bytes."""
    return Made(**{"described": [Described(b"w", (2,), F32, 0)], "data": pattern(8), **changes}).content()


def valid_files() -> Iterator[tuple[str, bytes]]:
    """Files that a reader should take."""
    for order, version in (("<", 1), ("<", 2), ("<", 3), (">", 2), (">", 3)):
        yield f"gguf-{ORDERS[order]}-{version}", one(version=version, order=order)
    yield "gguf-nothing", Made().content()
    yield "gguf-metadata-alone", Made([(b"general.name", STRING, b"x")]).content()
    yield "gguf-scalar", one(described=[Described(b"w", (), F32, 0)], data=pattern(4))
    yield "gguf-blocks", one(described=[Described(b"w", (64, 3), Q4_0, 0)], data=pattern(108))
    yield "gguf-empty-tensor", one(described=[Described(b"e", (0, 3), F32, 0), Described(b"w", (2,), F32, 0)])
    yield "gguf-trailing", one(data=pattern(100))
    yield (
        "gguf-any-order",
        one(
            described=[
                Described(b"c", (5,), I8, 64),
                Described(b"a", (2, 1), F32, 0),
                Described(b"b", (1, 7), F32, 32),
            ],
            data=pattern(69),
        ),
    )
    yield (
        "gguf-unknown-types",
        one(
            described=[
                Described(b"b", (2,), 999, 32),
                Described(b"a", (3,), F32, 0),
                Described(b"c", (33,), Q4_0, 64),
                Described(b"d", (0,), 1000, 64),
            ],
            data=pattern(100),
        ),
    )
    every = [(b"of.%d" % kind, kind, 1) for kind in CODES]
    arrays = [(b"of.%d.many" % kind, ARRAY, Array(kind, [0, 1, 1])) for kind in CODES]
    nested = Array(ARRAY, [Array(STRING, words(3)), Array(ARRAY, [Array(UINT8, [7])]), Array(FLOAT64, [])])
    for order in ORDERS:
        yield (
            f"gguf-metadata-{ORDERS[order]}",
            one(metadata=[*every, *arrays, (b"nested", ARRAY, nested), (b"", STRING, b"\xff")], order=order),
        )
        vocabulary = [*words(3000), b"long" * 100, b"", *words(500), b"\0" * 9, *words(300)]
        yield (
            f"gguf-vocabulary-{ORDERS[order]}",
            one(metadata=[(b"tokenizer.ggml.tokens", ARRAY, Array(STRING, vocabulary))], order=order),
        )
    for alignment in (1, 8, 4096):
        metadata = [(b"general.alignment", UINT32, alignment)]
        yield f"gguf-alignment-{alignment}", one(metadata=metadata, alignment=alignment)


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Small files, malformed, contradictory or of lengths that nothing holds."""
    whole = one(metadata=[(b"k", ARRAY, Array(STRING, words(3))), (b"n", UINT8, 1)])
    for end in (3, 4, 7, 8, 12, 23, 24, 30, len(whole) - 40, len(whole) - 1):
        yield f"gguf-cut-{end}", whole[:end]
    for version in (0, 4, 0x30000, 2**32 - 1):
        yield f"gguf-version-{version}", one(version=version)
    yield "gguf-magic", one(magic=b"GGML")
    yield "gguf-magic-reversed", one(magic=b"FUGG")
    huge = (2**16 + 1, 2**18 + 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
    for number in huge:
        yield f"gguf-tensors-{number}", one(counts=(number, 0))
        yield f"gguf-keys-{number}", one(counts=(0, number))
        yield f"gguf-offset-{number}", one(described=[Described(b"w", (2,), F32, number)])
        yield f"gguf-axis-{number}", one(described=[Described(b"w", (number,), F32, 0)])
        yield f"gguf-axes-that-overflow-{number}", one(described=[Described(b"w", (number, 2**62, 4), F32, 0)])
        yield f"gguf-axis-of-nothing-{number}", one(described=[Described(b"w", (number, 0), F32, 0)])
        length = struct.pack("<Q", number)
        for kind in (UINT8, FLOAT64, STRING, ARRAY):
            body = struct.pack("<I", kind) + length
            yield (
                f"gguf-array-of-{kind}-long-{number}",
                one(metadata=[(b"k", 99, 0)]).replace(b"\x63\0\0\0", b"\x09\0\0\0" + body),
            )
        text = one(metadata=[(b"k", STRING, b"TEXT")])
        yield f"gguf-string-long-{number}", text.replace(b"\4" + bytes(7) + b"TEXT", length + b"TEXT")
        listed = one(metadata=[(b"k", ARRAY, Array(STRING, [*words(400), b"TEXT"]))])
        yield f"gguf-item-long-{number}", listed.replace(b"\4" + bytes(7) + b"TEXT", length + b"TEXT")
    for kind in (13, 99, 2**32 - 1):
        yield f"gguf-value-of-{kind}", one(metadata=[(b"k", kind, 8)])
        yield f"gguf-array-of-{kind}", one(metadata=[(b"k", ARRAY, Array(kind, [8]))])
    for alignment in (0, 3, 48, 2**31):
        yield f"gguf-alignment-is-{alignment}", one(metadata=[(b"general.alignment", UINT32, alignment)])
    for kind in (UINT8, UINT64, INT32):
        yield f"gguf-alignment-of-{kind}", one(metadata=[(b"general.alignment", kind, 32)])
    yield "gguf-alignment-of-text", one(metadata=[(b"general.alignment", STRING, b"32")])
    yield "gguf-key-twice", one(metadata=[(b"k", UINT8, 1), (b"k", UINT8, 1)])
    yield "gguf-name-twice", one(described=[Described(b"w", (1,), F32, 0), Described(b"w", (1,), F32, 4)])
    yield "gguf-name-not-text", one(described=[Described(b"\xff", (2,), F32, 0)])
    yield "gguf-name-empty", one(described=[Described(b"", (2,), F32, 0)])
    for naxes in (63, 64, 65):
        yield f"gguf-of-{naxes}-axes", one(described=[Described(b"w", (1,) * naxes, F32, 0)])
    for number, (first, second) in enumerate([(0, 0), (0, 4), (4, 0), (0, 8), (1, 9), (8, 4), (0, 16)]):
        pair = [Described(b"a", (2,), F32, first), Described(b"b", (1,), F32, second)]
        yield f"gguf-pair-{number}", one(described=pair, data=pattern(16))
        unknown = [Described(b"a", (2,), 77, first), Described(b"b", (1,), F32, second)]
        yield f"gguf-pair-unknown-{number}", one(described=unknown, data=pattern(16))
    yield "gguf-unknown-behind-end", one(described=[Described(b"w", (2,), 77, 8)])
    yield "gguf-empty-behind-end", one(described=[Described(b"w", (0,), F32, 10**9)])
    for depth in (2, 15, 16, 17, 200):
        value = Array(UINT8, [1])
        for _ in range(depth - 1):
            value = Array(ARRAY, [value])
        yield f"gguf-deep-{depth}", one(metadata=[(b"k", ARRAY, value)])


def gguf_files() -> Iterator[tuple[str, bytes]]:
    """All of them."""
    yield from valid_files()
    yield from hostile_files()
