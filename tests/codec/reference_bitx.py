"""A decoder of `bitx` payloads that is written to be read beside README.md, not to be fast.  It trusts its input.

What can be said of all items at once is said in NumPy; only the steps of the lanes follow each other.  It shares no
code with the native codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.codec.reference_cast import cast

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]

# Layout code -> bytes of an item, bits of its exponent, bits of its mantissa.
LAYOUTS: Final = {
    1: (2, 8, 7),
    2: (2, 5, 10),
    3: (4, 8, 23),
    4: (8, 11, 52),
    5: (1, 4, 3),
    6: (1, 5, 2),
    7: (1, 0, 0),
    8: (2, 0, 0),
    9: (4, 0, 0),
    10: (8, 0, 0),
}
BLOCK_ITEMS: Final = 64
GROUP_ITEMS: Final = 16
SYMBOLS: Final = 16
SCALE: Final = 2048
BUCKET: Final = SCALE // SYMBOLS
LEAST_STATE: Final = 1 << 16
LITERAL, ZERO, EXTENDED = 0, 8, 15


def decode_bitx(payload: bytes, base: bytes) -> bytes:
    """The bytes that `payload` stands for against `base`, which is as long as they are."""
    layout, mode = payload[0] & 15, payload[0] >> 4
    item_nbytes = LAYOUTS[layout][0]
    if mode == 0:
        return base[: len(base) // item_nbytes * item_nbytes] + payload[1:]
    if mode == 1:
        return decode_coded(payload[1:], base, layout)
    if mode == 3:
        narrow = payload[1] & 15
        return cast(decode_bitx(payload[1:], cast(base, layout, narrow)), narrow, layout)
    halves = np.frombuffer(decode_coded(payload[1:], np.frombuffer(base, "<u2")[1::2].tobytes(), 1), "<u2")
    return (halves.astype("<u4") << 16).tobytes()


@dataclass(slots=True)
class Reader:
    data: bytes
    position: int = 0

    def take(self, nbytes: int) -> bytes:
        taken = self.data[self.position : self.position + nbytes]
        assert len(taken) == nbytes, "the payload is cut short"
        self.position += nbytes
        return taken

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.position)


@dataclass(slots=True)
class BitReader:
    """Fields of bits, the first in the lowest bit; they end at a whole byte of `source`."""

    source: Reader
    position: int = 0

    def take(self, bits: int) -> int:
        first, last = self.position // 8, (self.position + bits + 7) // 8
        start = self.source.position
        value = int.from_bytes(self.source.data[start + first : start + last], "little") >> self.position % 8
        self.position += bits
        return value & (1 << bits) - 1

    def number(self) -> int:
        bits = self.take(6)
        return self.take(bits - 1) | 1 << bits - 1 if bits else 0

    def gamma(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return 1 << zeros | self.take(zeros)

    def table(self) -> Table:
        occurs = self.take(SYMBOLS)
        symbols = [symbol for symbol in range(SYMBOLS) if occurs >> symbol & 1]
        frequency = np.zeros(SYMBOLS, np.uint64)
        for symbol in symbols[:-1]:
            frequency[symbol] = self.gamma()
        frequency[symbols[-1]] = SCALE - int(frequency.sum())
        return make_table(frequency)

    def end(self) -> None:
        self.source.take(-(-self.position // 8))


@dataclass(frozen=True, slots=True)
class Table:
    """Of every slot its symbol, that symbol's frequency, and which of its slots this is."""

    symbol: Words
    frequency: Words
    offset: Words


def make_table(frequency: Words) -> Table:
    """Vose's alias method in integers: a bucket's first slots are its own symbol's, the others those of one other."""
    rest = [int(n) for n in frequency]
    own, other = [BUCKET] * SYMBOLS, list(range(SYMBOLS))
    small = [symbol for symbol in range(SYMBOLS) if rest[symbol] < BUCKET]
    large = [symbol for symbol in range(SYMBOLS) if rest[symbol] >= BUCKET]
    while small and large:
        poor, rich = small.pop(), large[-1]
        own[poor], other[poor] = rest[poor], rich
        rest[rich] -= BUCKET - rest[poor]
        if rest[rich] < BUCKET:
            small.append(large.pop())
    slot = np.arange(SCALE)
    bucket, place = slot // BUCKET, slot % BUCKET
    is_own = place < np.array(own)[bucket]
    symbol = np.where(is_own, bucket, np.array(other)[bucket])
    offset = np.zeros(SCALE, np.uint64)
    for each in range(SYMBOLS):
        # Its own bucket first, then the others in order.
        mine = np.concatenate([slot[is_own & (symbol == each)], slot[~is_own & (symbol == each)]])
        offset[mine] = np.arange(mine.size)
    return Table(symbol.astype(np.uint64), frequency[symbol], offset)


@dataclass(slots=True)
class Lanes:
    """States of a rANS decoder, and the words that refill them."""

    states: Words
    words: Words
    position: int = 0

    def pop_bits(self, lanes: slice, bits: Words) -> Words:
        low: Words = self.states[lanes] & (np.uint64(1) << bits) - np.uint64(1)
        self.states[lanes] >>= bits
        return low

    def pop_symbols(self, lanes: slice, tables: list[Table], numbers: NDArray[np.intp]) -> Words:
        states, symbols = self.states[lanes], np.zeros(numbers.size, np.uint64)
        for number in np.unique(numbers):
            table, mine = tables[number], numbers == number
            slot, above = states[mine] % np.uint64(SCALE), states[mine] // np.uint64(SCALE)
            symbols[mine] = table.symbol[slot]
            states[mine] = table.frequency[slot] * above + table.offset[slot]
        return symbols

    def refill(self, lanes: slice) -> None:
        states = self.states[lanes]
        few = states < LEAST_STATE
        taken = self.words[self.position : self.position + np.count_nonzero(few)]
        states[few] = states[few] << np.uint64(16) | taken
        self.position += taken.size

    def assert_end(self) -> None:
        assert (self.states == LEAST_STATE).all()
        assert self.position == self.words.size


def read_lanes(source: Reader, count: int, words_count: int | None) -> Lanes:
    states = np.frombuffer(source.take(4 * count), "<u4").astype(np.uint64)
    words = source.rest() if words_count is None else source.take(2 * words_count)
    return Lanes(states, np.frombuffer(words, "<u2").astype(np.uint64))


def read_symbols(source: Reader, count: int) -> Words:
    """A field of symbols: four lanes that take turns."""
    bits = BitReader(source)
    table = bits.table()
    bits.end()
    lanes = read_lanes(Reader(source.data, source.position + 4), 4, int.from_bytes(source.take(4), "little"))
    source.take(16 + 2 * lanes.words.size)
    symbols = np.zeros(count, np.uint64)
    for first in range(0, count, 4):
        turn = slice(0, min(4, count - first))
        symbols[first : first + 4] = lanes.pop_symbols(turn, [table], np.zeros(turn.stop, np.intp))
        lanes.refill(turn)
    lanes.assert_end()
    return symbols


def read_coded_blocks(source: Reader, kind: int, blocks: int, runs_nbytes: int) -> NDArray[np.intp]:
    """The numbers of the blocks that do not equal the base."""
    if kind == 0:
        return np.arange(blocks)
    if kind == 1:
        flags = np.unpackbits(np.frombuffer(source.take(-(-blocks // 8)), np.uint8), bitorder="little")
    elif kind == 2:
        runs = read_runs(source.take(runs_nbytes))
        flags = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    else:
        nibbles = read_symbols(source, -(-blocks // 4)).astype(np.uint8)
        flags = np.unpackbits(nibbles.reshape(-1, 1), axis=1, bitorder="little")[:, :4].reshape(-1)
    return np.flatnonzero(flags[:blocks] == 0)


def read_runs(leb128: bytes) -> list[int]:
    runs, run, bits = [], 0, 0
    for byte in leb128:
        run |= (byte & 127) << bits
        bits += 7
        if byte < 128:
            runs.append(run)
            run = bits = 0
    return runs


@dataclass(frozen=True, slots=True)
class Contexts:
    """By number: its table, how many low bits are uncoded, and whether the item's own exponent is coded."""

    table: NDArray[np.intp]
    shift: Words
    direct: Flags


def read_contexts(bits: BitReader, count: int, tables: int, may_be_direct: bool, mantissa: int) -> Contexts:
    table, shifts, direct = np.zeros(count, np.intp), np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    shift = 0
    for number in range(count):
        table[number] = bits.take(3) if tables > 1 else 0
        direct[number] = bits.take(1) if may_be_direct else 0
        if not direct[number] and bits.take(1):
            shift = bits.take(6)
        shifts[number] = mantissa + 1 if direct[number] else shift
    return Contexts(table, shifts, direct)


def steps_of_block(item_nbytes: int) -> NDArray[np.intp]:
    """The places of a block's items in the order of their steps."""
    places = np.arange(BLOCK_ITEMS)
    if item_nbytes > 2:
        return places
    return places.reshape(2, GROUP_ITEMS, 2).transpose(0, 2, 1).reshape(-1)  # the even ones of 32, then the odd ones


def decode_steps(
    lanes: Lanes, tables: list[Table], contexts: Contexts, number: NDArray[np.intp]
) -> tuple[NDArray[np.int64], Words]:
    """Symbols and low bits of the items whose contexts have these numbers: (blocks, 64), in the order of steps."""
    symbols, lows = np.zeros(number.shape, np.int64), np.zeros(number.shape, np.uint64)
    table, shift = contexts.table[number], contexts.shift[number]
    extra_steps = max(0, -(-(int(contexts.shift.max()) - 5) // 16))
    turn = min(lanes.states.size, GROUP_ITEMS)
    for block in range(number.shape[0]):
        for group in range(0, BLOCK_ITEMS, GROUP_ITEMS):
            turns = [slice(first, first + turn) for first in range(group, group + GROUP_ITEMS, turn)]
            for items in turns:
                mine = slice(items.start % lanes.states.size, items.start % lanes.states.size + turn)
                bits = np.minimum(shift[block, items], 5)
                lows[block, items] = lanes.pop_bits(mine, bits)
                symbols[block, items] = lanes.pop_symbols(mine, tables, table[block, items])
                lanes.refill(mine)
            for done in range(5, 5 + 16 * extra_steps, 16):
                for items in turns:
                    mine = slice(items.start % lanes.states.size, items.start % lanes.states.size + turn)
                    bits = np.clip(shift[block, items].astype(np.int64) - done, 0, 16).astype(np.uint64)
                    lows[block, items] |= lanes.pop_bits(mine, bits) << np.uint64(done)
                    lanes.refill(mine)
    return symbols, lows


def add_residual(residual: Words, base: Words, width: int, is_float: bool) -> Words:
    """Items of `width` bits, all modulo 2^width: for floats in the order of their values, turned by the base's sign."""
    most, top = np.uint64((1 << width) - 1), np.uint64(width - 1)
    sign = base >> top << top if is_float else np.zeros_like(base)
    added: Words = (base ^ sign) + residual & most
    if is_float:
        added[added >> top != 0] ^= most >> np.uint64(1)
    return added ^ sign


def decode_coded(data: bytes, base: bytes, layout: int) -> bytes:
    item_nbytes, exponent_bits, mantissa = LAYOUTS[layout]
    width, is_float = 8 * item_nbytes, exponent_bits > 0
    count = len(base) // item_nbytes
    blocks = -(-count // BLOCK_ITEMS)

    source = Reader(data)
    bits = BitReader(source)
    zero_flags, has_scale_offsets, lanes_count = bits.take(2), bits.take(1), 4 ** bits.take(2)
    tables_count, contexts_count, may_be_direct = 1 + bits.take(3), 1 + bits.take(4), bool(bits.take(1))
    lowest_exponent = bits.take(11)
    top_exponent = bits.take(11) if may_be_direct else 0
    literals_count, extended_count = bits.number(), bits.number()
    runs_nbytes = bits.number() if zero_flags == 2 else 0
    contexts = read_contexts(bits, contexts_count, tables_count, may_be_direct, mantissa)
    tables = [bits.table() for _ in range(tables_count)]
    bits.end()
    tail = source.take(len(base) - count * item_nbytes)
    coded = read_coded_blocks(source, zero_flags, blocks, runs_nbytes)
    of_block = coded // 2
    scale_offsets = np.full(of_block.size, 10)
    if has_scale_offsets:
        present, where = np.unique(of_block, return_inverse=True)
        scale_offsets = read_symbols(source, present.size).astype(np.int64)[where]
    literals = np.frombuffer(source.take(literals_count * item_nbytes), f"<u{item_nbytes}").astype(np.uint64)
    extended_literals = np.frombuffer(source.take(extended_count), np.int8)
    lanes = read_lanes(source, lanes_count, None)

    out = np.zeros(blocks * BLOCK_ITEMS, f"<u{item_nbytes}")
    out[:count] = np.frombuffer(base, out.dtype, count)
    items = out.reshape(blocks, BLOCK_ITEMS)
    of_base = items[coded].astype(np.uint64)
    level = np.maximum(lowest_exponent + scale_offsets - 10, 0)[:, np.newaxis]
    exponent = np.full(of_base.shape, 8)
    if is_float:
        exponent = (of_base >> np.uint64(mantissa) & np.uint64((1 << exponent_bits) - 1)).astype(np.int64)
    number = np.clip(exponent - level, 0, contexts_count - 1)
    order = steps_of_block(item_nbytes)
    symbol, low = np.zeros(number.shape, np.int64), np.zeros(number.shape, np.uint64)
    symbol[:, order], low[:, order] = decode_steps(lanes, tables, contexts, number[:, order])

    direct, shift = contexts.direct[number], contexts.shift[number]
    is_far = ~direct & (symbol == EXTENDED)
    symbol_is_literal = np.where(direct, symbol == EXTENDED, symbol == LITERAL)
    quotient = symbol - ZERO
    quotient[is_far] = extended_literals
    residual = (quotient.astype(np.uint64) << shift) + low
    residual[symbol_is_literal] = literals
    value = add_residual(residual, of_base, width, is_float)
    turned = (np.uint64(top_exponent) - symbol.astype(np.uint64) << np.uint64(mantissa + 1)) + low
    turned &= np.uint64((1 << width) - 1)
    own = turned >> np.uint64(1) | (turned & np.uint64(1)) << np.uint64(width - 1)
    items[coded] = np.where(direct, np.where(symbol_is_literal, residual, own), value)

    lanes.assert_end()
    return out[:count].tobytes() + tail
