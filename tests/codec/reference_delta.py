"""The payload of `bitx` decoded as zipfs/codec/README.md specifies it, one item after the other.  Trusts its input."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

# Layout code -> bytes of an item, bits of its exponent, bits of its mantissa.
LAYOUTS = {
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
_LOW = 1 << 16
_SCALE = 1 << 11
_BUCKET = _SCALE // 16
_ESCAPE, _ZERO, _FAR = 0, 8, 15


class _Bits:
    """Bits of a header, least significant first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> int:
        value = 0
        for k in range(count):
            value |= (self._data[self.position >> 3] >> (self.position & 7) & 1) << k
            self.position += 1
        return value

    def number(self) -> int:
        bits = self.take(6)
        return self.take(bits - 1) | 1 << (bits - 1) if bits else 0

    def table(self) -> list[int]:
        present = [k for k, bit in enumerate(f"{self.take(16):016b}"[::-1]) if bit == "1"]
        frequency = [0] * 16
        for k in present[:-1]:
            bits = next(n for n in itertools.count() if self.take(1))
            frequency[k] = 1 << bits | self.take(bits)
        frequency[present[-1]] = _SCALE - sum(frequency)
        return frequency


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        assert self.position <= len(self._data)
        return self._data[self.position - count : self.position]

    def unsigned(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.position)


def slots_of(frequency: list[int]) -> list[tuple[int, int, int]]:
    """Slot -> symbol, its frequency, and which of its slots this is: Vose's alias method in integers."""
    rest, own, other = list(frequency), [_BUCKET] * 16, list(range(16))
    small = [k for k in range(16) if rest[k] < _BUCKET]
    large = [k for k in range(16) if rest[k] >= _BUCKET]
    while small and large:
        poor, rich = small.pop(), large[-1]
        own[poor], other[poor] = rest[poor], rich
        rest[rich] -= _BUCKET - rest[poor]
        if rest[rich] < _BUCKET:
            small.append(large.pop())
    used = list(own)
    slots = []
    for bucket in range(16):
        slots += [(bucket, frequency[bucket], k) for k in range(own[bucket])]
        symbol = other[bucket]
        for _ in range(own[bucket], _BUCKET):
            slots.append((symbol, frequency[symbol], used[symbol]))
            used[symbol] += 1
    return slots


def _pop_symbol(state: int, slots: list[tuple[int, int, int]]) -> tuple[int, int]:
    symbol, frequency, offset = slots[state % _SCALE]
    return symbol, frequency * (state // _SCALE) + offset


def _read_symbols(source: _Bytes, data: bytes, count: int) -> list[int]:
    bits = _Bits(data[source.position :])
    slots = slots_of(bits.table())
    source.take((bits.position + 7) // 8)
    words_count = source.unsigned(4)
    states = list(struct.unpack("<4I", source.take(16)))
    words = iter(struct.unpack(f"<{words_count}H", source.take(2 * words_count)))
    symbols = []
    for k in range(count):
        symbol, state = _pop_symbol(states[k % 4], slots)
        states[k % 4] = state << 16 | next(words) if state < _LOW else state
        symbols.append(symbol)
    return symbols


def _coded_blocks(kind: int, source: _Bytes, data: bytes, blocks: int, runs_nbytes: int) -> list[int]:
    if kind == 0:
        return list(range(blocks))
    if kind == 1:
        flags = source.take((blocks + 7) // 8)
        return [k for k in range(blocks) if not flags[k // 8] >> k % 8 & 1]
    if kind == 3:
        nibbles = _read_symbols(source, data, -(-blocks // 4))
        return [k for k in range(blocks) if not nibbles[k // 4] >> k % 4 & 1]
    stop = source.position + runs_nbytes
    coded: list[int] = []
    at = 0
    for turn in itertools.count():
        if source.position == stop:
            return coded
        run = shift = 0
        while True:
            byte = source.unsigned(1)
            run |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if turn % 2 == 0:
            coded += range(at, at + run)
        at += run
    raise AssertionError


@dataclass
class _Context:
    table: int
    direct: bool
    shift: int


def _restore(residual: int, base: int, width: int, is_float: bool) -> int:
    if not is_float:
        return (base + residual) % (1 << width)
    sign = base >> (width - 1) << (width - 1)
    ordered = (base - sign + residual) % (1 << width)
    if ordered >> (width - 1):
        ordered ^= (1 << (width - 1)) - 1
    return ordered ^ sign


def _order(item: int) -> list[int]:
    """Places of the 64 items of a block in the order of their steps."""
    if item > 2:
        return list(range(64))
    return [32 * half + 2 * k + odd for half in range(2) for odd in range(2) for k in range(16)]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _decode_coded(data: bytes, base: bytes, layout: int) -> bytes:
    item, exponent_bits, mantissa = LAYOUTS[layout]
    width, is_float = 8 * item, exponent_bits > 0
    items = len(base) // item
    blocks = -(-items // 64)
    bits = _Bits(data)
    zero_flags, has_octaves, lanes = bits.take(2), bits.take(1), 4 ** bits.take(2)
    tables, contexts_count, has_direct = 1 + bits.take(3), 1 + bits.take(4), bits.take(1)
    lowest = bits.take(11)
    top = bits.take(11) if has_direct else 0
    escapes_count, fars_count = bits.number(), bits.number()
    runs_nbytes = bits.number() if zero_flags == 2 else 0
    contexts = []
    shift = 0
    for _ in range(contexts_count):
        table = bits.take(3) if tables > 1 else 0
        direct = bool(bits.take(1)) if has_direct else False
        if not direct and bits.take(1):
            shift = bits.take(6)
        contexts.append(_Context(table, direct, mantissa + 1 if direct else shift))
    slots = [slots_of(bits.table()) for _ in range(tables)]
    extra_steps = max(max(0, -(-(context.shift - 5) // 16)) for context in contexts)

    source = _Bytes(data)
    source.take((bits.position + 7) // 8)
    tail = source.take(len(base) - items * item)
    coded = _coded_blocks(zero_flags, source, data, blocks, runs_nbytes)
    present = sorted({block // 2 for block in coded})
    octaves = dict.fromkeys(present, 10)
    if has_octaves:
        octaves = dict(zip(present, _read_symbols(source, data, len(present)), strict=True))
    escapes = _Bytes(source.take(escapes_count * item))
    fars = _Bytes(source.take(fars_count))
    states = list(struct.unpack(f"<{lanes}I", source.take(4 * lanes)))
    words = _Bytes(source.rest())

    def refilled(state: int) -> int:
        return state << 16 | words.unsigned(2) if state < _LOW else state

    out = bytearray(base[: items * item].ljust(blocks * 64 * item, b"\0"))
    order = _order(item)
    for block in coded:
        start = block * 64 * item
        level = max(0, lowest + octaves[block // 2] - 10)
        of_base = [int.from_bytes(out[start + k * item : start + (k + 1) * item], "little") for k in range(64)]
        chosen = []
        for value in of_base:
            exponent = value >> mantissa & ((1 << exponent_bits) - 1) if is_float else 8
            chosen.append(contexts[min(max(exponent - level, 0), contexts_count - 1)])
        symbols, lows = [0] * 64, [0] * 64
        for group in range(0, 64, 16):
            for step in range(group, group + 16):
                place, lane = order[step], step % lanes
                taken = min(chosen[place].shift, 5)
                lows[place] = states[lane] % (1 << taken)
                symbols[place], state = _pop_symbol(states[lane] >> taken, slots[chosen[place].table])
                states[lane] = refilled(state)
            for extra in range(extra_steps):
                for step in range(group, group + 16):
                    place, lane = order[step], step % lanes
                    done = 5 + 16 * extra
                    taken = min(max(chosen[place].shift - done, 0), 16)
                    lows[place] |= states[lane] % (1 << taken) << done
                    states[lane] = refilled(states[lane] >> taken)
        for place in range(64):
            context, symbol = chosen[place], symbols[place]
            if context.direct and symbol == _FAR:
                value = escapes.unsigned(item)
            elif context.direct:
                turned = ((top - symbol) << (mantissa + 1) | lows[place]) % (1 << width)
                value = turned >> 1 | (turned & 1) << (width - 1)
            else:
                if symbol == _ESCAPE:
                    residual = escapes.unsigned(item)
                else:
                    quotient = _signed(fars.unsigned(1), 8) if symbol == _FAR else symbol - _ZERO
                    residual = (quotient << context.shift) + lows[place]
                value = _restore(residual, of_base[place], width, is_float)
            out[start + place * item : start + (place + 1) * item] = value.to_bytes(item, "little")
    assert states == [_LOW] * lanes
    assert not words.rest() and not fars.rest() and not escapes.rest()
    return bytes(out[: items * item]) + tail


def decode_delta(payload: bytes, base: bytes) -> bytes:
    """The bytes that `payload` stands for against `base`, which is as long as they are."""
    layout, mode = payload[0] & 15, payload[0] >> 4
    item = LAYOUTS[layout][0]
    if mode == 0:
        return base[: len(base) // item * item] + payload[1:]
    if mode == 1:
        return _decode_coded(payload[1:], base, layout)
    upper = b"".join(base[k + 2 : k + 4] for k in range(0, len(base), 4))
    halves = _decode_coded(payload[1:], upper, 1)
    return b"".join(b"\0\0" + halves[k : k + 2] for k in range(0, len(halves), 2))
