"""A decoder of `standalone` payloads that is written to be read beside README.md, not to be fast.  It trusts its input.

What it does not follow from the document is nothing: it shares no code with the native codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ITEM_NBYTES = {1: 2, 2: 2, 3: 4, 4: 8, 5: 1, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8}
TURN_BITS = {1: 1, 2: 1, 3: 1, 4: 4}
BLOCK_ITEMS = 65_536
ONE_STREAM_BELOW = 4096
STREAMS = 4


@dataclass(slots=True)
class Reader:
    payload: bytes
    position: int = 0

    def take(self, nbytes: int) -> bytes:
        taken = self.payload[self.position : self.position + nbytes]
        assert len(taken) == nbytes, "the payload is cut short"
        self.position += nbytes
        return taken


def decode_standalone(payload: bytes, nbytes: int) -> bytes:
    """The `nbytes` raw bytes of a payload."""
    reader = Reader(payload)
    (first,) = reader.take(1)
    layout, sparse = first & 0x7F, bool(first & 0x80)
    width = ITEM_NBYTES[layout]
    count, tail_nbytes = divmod(nbytes, width)
    if sparse:
        mask = decode_items(reader, 7, count).astype(bool)
        items = np.zeros(count, np.uint64)
        items[mask] = decode_items(reader, layout, int(mask.sum()))
    else:
        items = decode_items(reader, layout, count)
    raw = items.astype(f"<u{width}").tobytes() + reader.take(tail_nbytes)
    assert reader.position == len(payload), "bytes are left over"
    return raw


def decode_items(reader: Reader, layout: int, count: int) -> NDArray[np.uint64]:
    width = ITEM_NBYTES[layout]
    modes = reader.take(width)
    turned = np.zeros(count, np.uint64)
    for plane, mode in enumerate(modes):
        turned |= decode_plane(reader, mode, count).astype(np.uint64) << np.uint64(8 * plane)
    return turn_back(turned, 8 * width, TURN_BITS.get(layout, 0))


def turn_back(turned: NDArray[np.uint64], item_bits: int, turn: int) -> NDArray[np.uint64]:
    """B A C to A B C, where A has `turn` bits, B has 8 and C the rest."""
    rest_bits = item_bits - 8 - turn
    b = turned >> np.uint64(item_bits - 8)
    a = turned >> np.uint64(rest_bits) & np.uint64((1 << turn) - 1)
    c = turned & np.uint64((1 << rest_bits) - 1)
    return a << np.uint64(rest_bits + 8) | b << np.uint64(rest_bits) | c if turn else turned


def decode_plane(reader: Reader, mode: int, count: int) -> Bytes:
    coding, packing = mode & 3, mode >> 2
    if coding == 0:
        return np.full(count, reader.take(1)[0], np.uint8)
    bits = {0: 8, 1: 1, 2: 2, 3: 4}[packing]
    alphabet = np.frombuffer(reader.take(1 << bits), np.uint8) if packing else np.arange(256, dtype=np.uint8)
    run_nbytes = -(-count * bits // 8)
    run = reader.take(run_nbytes) if coding == 1 else decode_huffman(reader, count, bits)
    assert len(run) == run_nbytes
    if not packing:
        return np.frombuffer(run, np.uint8)
    single_bits = np.unpackbits(np.frombuffer(run, np.uint8), bitorder="little").reshape(-1, bits)
    return alphabet[single_bits @ (1 << np.arange(bits))][:count]


def decode_huffman(reader: Reader, count: int, bits: int) -> bytes:
    symbols = {word: symbol for symbol, word in code_words(read_lengths(reader)).items()}
    stream_symbols = list(streams_of(count, bits))
    lengths = np.frombuffer(reader.take(2 * len(stream_symbols)), "<u2")
    return b"".join(
        decode_stream(reader.take(int(nbytes)), symbols, n) for nbytes, n in zip(lengths, stream_symbols, strict=True)
    )


def streams_of(count: int, bits: int) -> Iterator[int]:
    """How many bytes of the run each stream holds."""
    for start in range(0, count, BLOCK_ITEMS):
        run_nbytes = -(-min(BLOCK_ITEMS, count - start) * bits // 8)
        if run_nbytes < ONE_STREAM_BELOW:
            yield run_nbytes
        else:
            quarter = -(-run_nbytes // STREAMS)
            yield from (quarter, quarter, quarter, run_nbytes - 3 * quarter)


def read_lengths(reader: Reader) -> list[int]:
    """The length of each of 256 code words, 0 for a byte value that does not occur."""
    nibbles = nibbles_of(reader)
    lengths: list[int] = []
    while len(lengths) < 256:
        nibble = next(nibbles)
        if nibble <= 11:
            lengths.append(nibble)
        elif nibble == 12:
            lengths += [0] * (next(nibbles) + 2)
        else:
            lengths += [0] * (16 * next(nibbles) + next(nibbles) + 18)
    assert len(lengths) == 256
    return lengths


def nibbles_of(reader: Reader) -> Iterator[int]:
    while True:
        (byte,) = reader.take(1)
        yield byte & 15
        yield byte >> 4


def code_words(lengths: list[int]) -> dict[int, tuple[int, int]]:
    """Byte value -> (length, code word), canonical: in the order of length, then value."""
    words: dict[int, tuple[int, int]] = {}
    word, previous = -1, 0
    for symbol in sorted((symbol for symbol in range(256) if lengths[symbol]), key=lambda symbol: lengths[symbol]):
        word = word + 1 << lengths[symbol] - previous
        previous = lengths[symbol]
        words[symbol] = (previous, word)
    assert sum(2.0**-length for length, _ in words.values()) == 1.0
    return words


def decode_stream(stream: bytes, symbols: dict[tuple[int, int], int], count: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little").tolist()
    out = bytearray()
    position = 0
    for _ in range(count):
        length, word = 0, 0
        while (length, word) not in symbols:
            word = word << 1 | bits[position]
            length += 1
            position += 1
        out.append(symbols[length, word])
    assert len(bits) - position < 8 and not any(bits[position:])
    return bytes(out)
