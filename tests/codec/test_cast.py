"""Casts round as IEEE 754 says, to the last bit, by every instruction set."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codec import reference_cast
from zipfs.codec import FLOATS, Cast, _native, cast_exactly, item_nbytes
from zipfs.dtypes import float_fields, layout_code

Words = NDArray[np.uint32]

ISAS = _native.isas()
PAIRS = [(source, target) for source in FLOATS for target in FLOATS if source != target]


def _cast(words: Words, source: str, target: str, isa: _native.Isa | None = None) -> Words:
    items = words.astype(f"<u{item_nbytes(source)}").view(np.uint8)
    out = np.full(words.size * item_nbytes(target), 0xA5, np.uint8)
    _native.cast(items, layout_code(source), out, layout_code(target), isa=isa)
    return out.view(f"<u{item_nbytes(target)}").astype(np.uint32)


def _every(dtype: str) -> Words:
    """Every item of a type; of F32 some of every exponent and all that are half way between items of the others."""
    if dtype != "F32":
        return np.arange(1 << 8 * item_nbytes(dtype), dtype=np.uint32)
    tops = np.arange(1 << 16, dtype=np.uint32)[:, None] << np.uint32(16)
    lows = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x1000, 0x0FFF, 0x1001, 0x2000, 0x3000], np.uint32)
    return (tops | lows).ravel()


def _special(words: Words, dtype: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items are NaN, and which are infinite."""
    exponent_bits, mantissa_bits = float_fields(dtype)
    magnitude = words & np.uint32((1 << (exponent_bits + mantissa_bits)) - 1)
    if dtype == "F8_E4M3":
        return magnitude == 0x7F, np.zeros(words.size, np.bool_)
    infinity = ((1 << exponent_bits) - 1) << mantissa_bits
    return magnitude > infinity, magnitude == infinity


def _value(word: int, dtype: str) -> Fraction:
    """The magnitude of an item that is a number."""
    exponent_bits, mantissa_bits = float_fields(dtype)
    exponent, mantissa = word >> mantissa_bits & ((1 << exponent_bits) - 1), word & ((1 << mantissa_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    if not exponent:
        return Fraction(mantissa) * Fraction(2) ** (1 - bias - mantissa_bits)
    return (Fraction(mantissa) + (1 << mantissa_bits)) * Fraction(2) ** (exponent - bias - mantissa_bits)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_all_instruction_sets_give_the_same(source: str, target: str) -> None:
    words = _every(source)
    first, *others = (_cast(words, source, target, isa) for isa in ISAS)
    for other in others:
        assert np.array_equal(first, other)


@pytest.mark.parametrize("target", [name for name in FLOATS if name != "F32"])
def test_what_was_widened_is_narrowed_to_itself(target: str) -> None:
    words = _every(target)
    nan, _ = _special(words, target)
    again = _cast(_cast(words, target, "F32"), "F32", target)
    assert np.array_equal(again[~nan], words[~nan])
    assert _special(again, target)[0][nan].all()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_signs_and_nans_stay(source: str, target: str) -> None:
    words = _every(source)
    cast = _cast(words, source, target)
    assert np.array_equal(words >> (8 * item_nbytes(source) - 1), cast >> (8 * item_nbytes(target) - 1))
    assert _special(cast, target)[0][_special(words, source)[0]].all()


@pytest.mark.parametrize("target", ["F16", "F32"])
def test_numpy_agrees(target: str) -> None:
    """NumPy knows F16 and F32; NaNs differ in bits that nobody needs."""
    source = "F32" if target == "F16" else "F16"
    words = _every(source)
    values = words.astype(f"<u{item_nbytes(source)}").view(f"<f{item_nbytes(source)}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = values.astype(f"<f{item_nbytes(target)}").view(f"<u{item_nbytes(target)}")
    numbers = ~np.isnan(values)
    assert np.array_equal(_cast(words, source, target)[numbers], expected[numbers])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_reference_agrees(source: str, target: str) -> None:
    words = _every(source)
    items = words.astype(f"<u{item_nbytes(source)}").tobytes()
    expected = np.frombuffer(
        reference_cast.cast(items, layout_code(source), layout_code(target)), f"<u{item_nbytes(target)}"
    )
    assert np.array_equal(_cast(words, source, target), expected)


@settings(deadline=None, max_examples=300)
@given(word=st.integers(0, 0x7F7F_FFFF), target=st.sampled_from([name for name in FLOATS if name != "F32"]))
def test_the_nearest_item_is_taken_and_of_two_the_even_one(word: int, target: str) -> None:
    cast = int(_cast(np.array([word], np.uint32), "F32", target)[0])
    nan, infinite = _special(np.array([cast], np.uint32), target)
    exact = _value(word, "F32")
    # What comes after the largest number is as far away as if there were one more exponent.
    distance = abs(_value(cast, target) - exact)
    for other in (cast - 1, cast + 1):
        if other < 0 or (other > cast and (nan[0] or infinite[0])):
            continue
        further = abs(_value(other, target) - exact)
        assert distance < further or (distance == further and cast % 2 == 0)


@pytest.mark.parametrize("scale", [0.75, float(np.float32(0.1)), 448.0, 2.0**-126, 3.0e38, 1e-10])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_scale_is_a_product_of_float32(source: str, target: str, scale: float) -> None:
    words = _every(source)
    nan, _ = _special(words, source)
    wide = words if source == "F32" else _cast(words, source, "F32")
    values = wide.astype("<u4").view("<f4")
    with np.errstate(all="ignore"):
        products = values * np.float32(scale)
    exponents = (wide >> 23 & 0xFF).astype(np.int64) + (int(np.float32(scale).view("<u4")) >> 23)
    small = ((exponents < 127 + 2) | (wide >> 23 & 0xFF == 0)) & ~nan
    products[small] = np.copysign(0, values[small])
    expected = products.view("<u4").copy()
    expected[nan] = wide[nan]
    expected = expected if target == "F32" else _cast(expected, "F32", target)
    for isa in ISAS:
        out = np.full(words.size * item_nbytes(target), 0xA5, np.uint8)
        items = words.astype(f"<u{item_nbytes(source)}").view(np.uint8)
        _native.cast(items, layout_code(source), out, layout_code(target), scale, isa)
        assert np.array_equal(out.view(f"<u{item_nbytes(target)}"), expected)


def test_only_floats_that_differ_are_cast() -> None:
    for source, target in [("BF16", "BF16"), ("F64", "F32"), ("I8", "F32"), ("F32", "C64"), ("", ""), ("F32", "")]:
        with pytest.raises(ValueError, match="no cast"):
            Cast(source, target)
    for text in ["", ">", "F32", "F32>", "F32>F32", "BF16>F32>F16", "F32 > BF16", "f32>bf16"]:
        with pytest.raises(ValueError, match="no cast"):
            Cast.from_text(text)
    for scale in [0.0, -1.0, float("nan"), float("inf"), 0.1, 2.0**-127, 2.0**128]:
        with pytest.raises(ValueError, match="no cast"):
            Cast("BF16", "F8_E4M3", scale)
    for text in ["*", "*1", "*1.5", "*0x1p+0", "*0x0p+0", "*nan", "*inf", "*-0x1.8p+0", "*0x1.80000p+0", "*0x1.8p-130",
                 "*0x1.8000001p+0", "*0x1.8p+0*0x1.8p+0", "*0x1.8p+99999", "*rubbish"]:  # fmt: skip
        with pytest.raises(ValueError, match=r"no cast|hexadecimal|too large"):
            Cast.from_text("BF16>F32" + text)
    for (source, target), scale in product(PAIRS, [1.0, 1.5, 2.0**-126, float(np.float32(0.1))]):
        cast = Cast(source, target, scale)
        assert Cast.from_text(str(cast)) == cast


@pytest.mark.parametrize(("nbytes", "out_nbytes"), [(3, 6), (4, 4), (4, 6), (4, 12), (0, 4), (4, 0)])
def test_buffers_that_do_not_fit_are_refused(nbytes: int, out_nbytes: int) -> None:
    with pytest.raises(ValueError, match="whole items"):
        Cast("BF16", "F32").apply(bytes(nbytes), bytearray(out_nbytes))
    Cast("BF16", "F32").apply(b"", bytearray())


@pytest.mark.parametrize(
    ("dtype", "values", "narrow"),
    [
        ("F32", [0.0, -0.0, 1.5, -448.0, 2.0**-9], "F8_E4M3"),
        ("F32", [0.0, 1.5, 2.0**-16, np.inf], "F8_E5M2"),
        ("F32", [1.0078125, 2.0**126, np.nan], "BF16"),
        ("F32", [1.0009765625, 2.0**-24, -65504.0], "F16"),
        ("F32", [1.0009765625, 65536.0], None),
        ("F32", [1.00000011920929], None),
        ("F16", [480.0, 1.75], "BF16"),
        ("F16", [448.0, 1.75], "F8_E4M3"),
        ("F16", [5 * 2.0**-24, 1.0078125], "BF16"),
        ("F16", [448.0, 1.75, np.inf], "F8_E5M2"),
        ("F16", [2.0**-24, 1.00390625], None),
        ("F16", [2.0**-16, 1.5], "F8_E5M2"),
        ("F64", [1.0], None),
    ],
)
def test_the_narrowest_floats_that_hold_everything_are_found(
    dtype: str, values: list[float], narrow: str | None
) -> None:
    for count in (len(values), 5000):
        items = np.resize(np.array(values, f"<f{item_nbytes(dtype)}"), count).view(np.uint8)
        cast = cast_exactly(items.data, dtype)
        assert (cast and cast.target) == narrow
        assert cast is None or cast.source == dtype


def test_one_item_that_is_not_narrow_is_seen_wherever_it_stands() -> None:
    items = np.full(3000, 0x3F80, "<u2")
    for place in (0, 255, 256, 1024, 2999):
        odd = items.copy()
        odd[place] |= 1
        assert cast_exactly(odd.view(np.uint8).data, "BF16") is None
    assert cast_exactly(items.view(np.uint8).data, "BF16") == Cast("BF16", "F8_E4M3")
    assert cast_exactly(b"", "BF16") == Cast("BF16", "F8_E4M3")
    assert cast_exactly(b"123", "BF16") is None
    assert cast_exactly(b"1234", "I32") is None
