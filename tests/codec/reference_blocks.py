"""A decoder of `blocks` payloads that is written to be read beside README.md, not to be fast.  It trusts its input.

What it does not follow from the document is nothing: it shares no code with the native codec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.codec.reference_standalone import ITEM_NBYTES, Bytes, Reader, decode_items

F16, F32, BYTE, I16, I32, I64 = 2, 3, 7, 8, 9, 10
Keys = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Field:
    """`count` items at `offset` of a block; what is packed there takes `packed_nbytes`."""

    layout: int
    count: int
    offset: int
    pack: Callable[[Bytes], Bytes] | None = None


def _bits(values: Bytes, low: int, width: int) -> Bytes:
    return (values >> low & (1 << width) - 1).astype(np.uint8)


def pack_k4_scales(scales: Bytes) -> Bytes:
    """8 scales and 8 offsets of 6 bits to 12 bytes."""
    first, second, third, fourth = (scales[:, start : start + 4] for start in (0, 4, 8, 12))
    return np.concatenate(
        [
            _bits(first, 0, 6) | _bits(second, 4, 2) << 6,
            _bits(third, 0, 6) | _bits(fourth, 4, 2) << 6,
            _bits(second, 0, 4) | _bits(fourth, 0, 4) << 4,
        ],
        axis=1,
    )


def pack_k3_scales(scales: Bytes) -> Bytes:
    """16 scales of 6 bits to 12 bytes: 8 of low halves, 4 of high bits."""
    high = np.zeros((len(scales), 4), np.uint8)
    for group in range(4):
        high |= _bits(scales[:, 4 * group : 4 * group + 4], 4, 2) << 2 * group
    return np.concatenate([_bits(scales[:, :8], 0, 4) | _bits(scales[:, 8:], 0, 4) << 4, high], axis=1)


def pack_xs_scales(scales: Bytes) -> Bytes:
    """8 scales of 6 bits to 6 bytes: a word of high bits, 4 bytes of low halves."""
    high = (_bits(scales, 4, 2).astype(np.uint16) << 2 * np.arange(8)).sum(axis=1).astype("<u2")
    return np.concatenate(
        [high[:, None].view(np.uint8), _bits(scales[:, ::2], 0, 4) | _bits(scales[:, 1::2], 0, 4) << 4], axis=1
    )


def _magnitudes(halves: Bytes) -> NDArray[np.float32]:
    """Of items of F16, whose exponent of all ones counts like another."""
    words = halves.view("<u2").astype(np.int64)
    exponents, mantissas = words >> 10 & 31, words & 1023
    return np.where(exponents > 0, (mantissas + 1024) * 2.0 ** (exponents - 25.0), mantissas * 2.0**-24).astype("f4")


def _ratio(offsets: NDArray[np.float32], steps: NDArray[np.float32]) -> Keys:
    quotients = np.divide(offsets, steps, out=np.zeros_like(offsets), where=steps > 0)
    return np.minimum(quotients * np.float32(256), np.float32(65535)).astype(np.int64)


def key_scale(fields: list[Bytes]) -> Keys:
    return fields[0].view("<u2").astype(np.int64) & 0x7FFF


def key_byte(fields: list[Bytes]) -> Keys:
    return fields[0].astype(np.int64)


def key_signed(fields: list[Bytes]) -> Keys:
    return np.abs(fields[0].view(np.int8).astype(np.int64))


def key_off_32(fields: list[Bytes]) -> Keys:
    return np.abs(_bits(fields[0], 0, 6).astype(np.int64) - 32)


def key_ratio(fields: list[Bytes]) -> Keys:
    return _ratio(_magnitudes(fields[1]), _magnitudes(fields[0]))


def key_ratio_k2(fields: list[Bytes]) -> Keys:
    scales = fields[2].reshape(-1, 16)
    steps = _magnitudes(fields[0])[:, None] * _bits(scales, 0, 4).astype("f4")
    return _ratio(_magnitudes(fields[1])[:, None] * _bits(scales, 4, 4).astype("f4"), steps).ravel()


def key_ratio_k4(fields: list[Bytes]) -> Keys:
    scales = _bits(fields[2], 0, 6).reshape(-1, 2, 8).astype("f4")
    steps = _magnitudes(fields[0])[:, None] * scales[:, 0]
    return _ratio(_magnitudes(fields[1])[:, None] * scales[:, 1], steps).ravel()


def _halves(codes: Bytes) -> Bytes:
    """(n, 2, 4, 32) of 2 bits each to (n, 64): two halves, in which four groups share bytes."""
    joined = codes[:, :, 0] | codes[:, :, 1] << 2 | codes[:, :, 2] << 4 | codes[:, :, 3] << 6
    return joined.reshape(-1, 64).astype(np.uint8)


def _pairs(low: Bytes, high: Bytes) -> Bytes:
    """Of four bits each."""
    return (_bits(low, 0, 4) | _bits(high, 0, 4) << 4).astype(np.uint8)


def codes_plain(units: Bytes) -> dict[int, Bytes]:
    return {0: units}


def codes_k2(units: Bytes) -> dict[int, Bytes]:
    codes = np.concatenate([_bits(units, shift, 2) for shift in (0, 2, 4, 6)], axis=2)
    return {0: _halves(codes.reshape(-1, 2, 4, 32))}


def codes_k3(units: Bytes) -> dict[int, Bytes]:
    codes = np.concatenate([_bits(units, 0, 3), _bits(units, 3, 3)], axis=2).reshape(-1, 8, 32)
    high = np.packbits(_bits(codes, 2, 1).transpose(0, 2, 1), axis=2, bitorder="little")
    return {0: _halves(_bits(codes, 0, 2).reshape(-1, 2, 4, 32)), 1: high}


def codes_k4(units: Bytes) -> dict[int, Bytes]:
    codes = np.concatenate([_bits(units, 0, 4), _bits(units, 4, 4)], axis=2).reshape(-1, 4, 2, 32)
    return {0: codes[:, :, 0] | codes[:, :, 1] << 4}


def codes_high_bits(units: Bytes) -> dict[int, Bytes]:
    units = units.reshape(-1, 32)
    return {
        0: _pairs(units[:, :16], units[:, 16:]),
        1: np.packbits(_bits(units, 4, 1), axis=1, bitorder="little"),
    }


def codes_k5(units: Bytes) -> dict[int, Bytes]:
    codes = units.reshape(-1, 4, 2, 32)
    high = np.packbits(_bits(units, 4, 1).transpose(0, 2, 1), axis=2, bitorder="little")
    return {0: _pairs(codes[:, :, 0], codes[:, :, 1]), 1: high}


def codes_k6(units: Bytes) -> dict[int, Bytes]:
    codes = units.reshape(-1, 2, 4, 32)
    low = _bits(codes, 0, 4)
    return {
        0: np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2),
        1: _halves(_bits(codes, 4, 2)),
    }


@dataclass(frozen=True, slots=True)
class BlockType:
    """What the tables of README.md say of a type; `places` are those of the codes and of their high bits."""

    nbytes: int
    fields: tuple[Field, ...]
    units: int = 0
    unit_nbytes: int = 0
    key: Callable[[list[Bytes]], Keys] | None = None
    codes: Callable[[Bytes], dict[int, Bytes]] = codes_plain
    places: tuple[int, int] = (0, 0)


def _f16(*offsets: int) -> tuple[Field, ...]:
    return tuple(Field(F16, 1, offset) for offset in offsets)


def _bytes(*runs: tuple[int, int]) -> tuple[Field, ...]:
    return tuple(Field(BYTE, count, offset) for offset, count in runs)


TYPES = {
    1: BlockType(18, _f16(0), 1, 16, key_scale, places=(2, 0)),
    2: BlockType(18, _f16(0), 1, 16, key_scale, places=(2, 0)),
    3: BlockType(18, _f16(0), 1, 16, key_scale, places=(2, 0)),
    4: BlockType(20, _f16(0, 2), 1, 16, key_ratio, places=(4, 0)),
    5: BlockType(22, _f16(0), 1, 32, key_scale, codes_high_bits, (6, 2)),
    6: BlockType(24, _f16(0, 2), 1, 32, key_ratio, codes_high_bits, (8, 4)),
    7: BlockType(34, _f16(0), 1, 32, key_scale, places=(2, 0)),
    8: BlockType(36, _f16(0, 2), 1, 32, key_scale, places=(4, 0)),
    9: BlockType(84, _f16(80, 82) + _bytes((0, 16)), 16, 4, key_ratio_k2, codes_k2, (16, 0)),
    10: BlockType(110, (Field(BYTE, 16, 96, pack_k3_scales), Field(F16, 1, 108)), 16, 8, key_off_32, codes_k3, (32, 0)),
    11: BlockType(144, (*_f16(0, 2), Field(BYTE, 16, 4, pack_k4_scales)), 8, 16, key_ratio_k4, codes_k4, (16, 0)),
    12: BlockType(176, (*_f16(0, 2), Field(BYTE, 16, 4, pack_k4_scales)), 8, 32, key_ratio_k4, codes_k5, (48, 16)),
    13: BlockType(210, _bytes((192, 16)) + _f16(208), 16, 16, key_signed, codes_k6, (0, 128)),
    14: BlockType(292, (Field(F32, 1, 0), Field(I16, 16, 260)), 8, 32, None, places=(4, 0)),
    15: BlockType(50, (*_f16(0), *_bytes((2, 32)), Field(I16, 8, 34))),
    16: BlockType(56, _bytes((0, 32), (32, 16), (48, 8))),
    17: BlockType(66, (*_f16(0), Field(I64, 8, 2))),
    18: BlockType(74, (*_f16(0), Field(I16, 32, 2), *_bytes((66, 8)))),
    19: BlockType(82, _f16(0) + _bytes((2, 32), (34, 32), (66, 8), (74, 8))),
    20: BlockType(98, (*_f16(0), *_bytes((2, 64)), Field(I32, 8, 66))),
    21: BlockType(110, _f16(0) + _bytes((2, 64), (66, 8), (74, 32), (106, 4))),
    22: BlockType(18, _f16(0), 1, 16, key_scale, places=(2, 0)),
    23: BlockType(136, (Field(BYTE, 8, 2, pack_xs_scales), *_f16(0)), 8, 16, key_off_32, places=(8, 0)),
    24: BlockType(54, _bytes((0, 48), (48, 4)) + _f16(52)),
    25: BlockType(66, _bytes((0, 64)) + _f16(64)),
    26: BlockType(17, _bytes((0, 1)), 1, 16, key_byte, places=(1, 0)),
    27: BlockType(36, _bytes((0, 4)), 4, 8, key_byte, places=(4, 0)),
}


def decode_blocks(payload: bytes, nbytes: int) -> bytes:
    """The `nbytes` raw bytes of a payload."""
    reader = Reader(payload)
    block_type = TYPES[reader.take(1)[0]]
    count, tail_nbytes = divmod(nbytes, block_type.nbytes)
    blocks = np.zeros((count, block_type.nbytes), np.uint8)
    fields = [_decode_field(reader, field, count) for field in block_type.fields]
    for field, items in zip(block_type.fields, fields, strict=True):
        rows = items.reshape(count, -1)
        _put(blocks, field.offset, rows if field.pack is None else field.pack(rows))
    if block_type.units:
        _decode_codes(reader, block_type, fields, blocks)
    raw = blocks.tobytes() + reader.take(tail_nbytes)
    assert reader.position == len(payload), "bytes are left over"
    return raw


def _decode_field(reader: Reader, field: Field, count: int) -> Bytes:
    items = decode_items(reader, field.layout, count * field.count)
    return items.astype(f"<u{ITEM_NBYTES[field.layout]}").view(np.uint8)


def _put(blocks: Bytes, offset: int, rows: Bytes) -> None:
    rows = rows.reshape(len(blocks), -1)
    blocks[:, offset : offset + rows.shape[1]] = rows


def _decode_codes(reader: Reader, block_type: BlockType, fields: list[Bytes], blocks: Bytes) -> None:
    (head,) = reader.take(1)
    peaks_out, classes = head & 0x10, head & 15
    thresholds = np.frombuffer(reader.take(2 * (classes - 1)), "<u2").astype(np.int64)
    keys = np.zeros(len(blocks) * block_type.units, np.int64)
    if block_type.key is not None:
        keys = block_type.key(fields)
    class_of_unit = (keys[:, None] >= thresholds).sum(axis=1)
    units = np.zeros((len(keys), 15 if peaks_out else block_type.unit_nbytes), np.uint8)
    for number in range(classes):
        chosen = class_of_unit == number
        if chosen.any():
            run = decode_items(reader, BYTE, int(chosen.sum()) * units.shape[1]).astype(np.uint8)
            units[chosen] = run.reshape(-1, units.shape[1])
    if peaks_out:
        beside = decode_items(reader, BYTE, len(blocks)).astype(np.uint8)
        low = decode_items(reader, BYTE, 16 * len(blocks)).astype(np.uint8).reshape(-1, 16)
        _put(blocks, block_type.places[0], _put_peaks_back(np.column_stack([units, beside]), low))
        return
    for which, rows in block_type.codes(units.reshape(len(blocks), block_type.units, -1)).items():
        _put(blocks, block_type.places[which], rows)


def _put_peaks_back(high: Bytes, low: Bytes) -> Bytes:
    both = np.concatenate([high << 4 | low & 15, high & 0xF0 | low >> 4], axis=1)
    codes = np.empty_like(both)
    for row, out in zip(both, codes, strict=True):
        told = int(row[31])
        out[:] = np.insert(row[:31] - np.uint8(136), told & 31, (127, 129, 0, 128)[told >> 5 & 3])
    return codes
