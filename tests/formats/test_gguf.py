"""A GGUF file is laid out as the `gguf` package reads it, and costs little however it is made."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.gguf_files import (
    ARRAY,
    CODES,
    F32,
    STRING,
    UINT8,
    Array,
    Described,
    Made,
    hostile_files,
    one,
    valid_files,
    words,
)
from tests.formats.hostile import pattern
from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, Span, lay_out
from zipfs.formats.gguf import (
    MAX_ITEMS,
    MAX_KEYS,
    MAX_METADATA_NBYTES,
    MAX_NAME_NBYTES,
    MAX_TENSORS,
    looks_like_gguf,
    parse_gguf,
)

VALID: Final = dict(valid_files())
HOSTILE: Final = dict(hostile_files())
SIZES: Final = {kind.value: size for kind, size in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
"""Blocks of Q8_1 have 36 bytes in ggml; the package counts 40, as they had once. No file has any."""

Read = Callable[[int, int], bytes]


def reader(content: bytes) -> Read:
    return lambda offset, length: content[offset : offset + length]


def ours(content: bytes) -> Layout | None:
    try:
        layout = parse_gguf(reader(content), len(content))
    except NotThisFormat:
        return None
    assert looks_like_gguf(content[:64], len(content))
    return layout


def theirs(content: bytes, path: Path) -> dict[str, tuple[int, int, tuple[int, ...], bytes]] | None:
    """Name -> number of the type, offset, shape and bytes of each tensor that is not empty."""
    path.write_bytes(content)
    try:
        tensors = gguf.GGUFReader(path).tensors
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, RuntimeWarning):
        return None
    return {
        tensor.name: (
            tensor.tensor_type.value,
            tensor.data_offset,
            tuple(reversed(tensor.shape.tolist())),
            content[tensor.data_offset : tensor.data_offset + tensor.n_bytes],
        )
        for tensor in tensors
        if tensor.n_bytes
    }


def assert_same(content: bytes, path: Path) -> bool:
    """Where both take a file, they find the same tensors. Returns whether both do."""
    layout, expected = ours(content), theirs(content, path)
    if layout is None or expected is None:
        return False
    spans = {span.name: span for span in layout.spans if span.name is not None}
    assert set(spans) <= set(expected)
    for name, (kind, offset, shape, raw) in expected.items():
        if name not in spans:
            # What overlaps is bytes, and so is what the file has not all of.
            assert len(spans) < len(expected)
            continue
        span = spans[name]
        assert (span.offset, content[span.offset : span.offset + span.nbytes]) == (offset, raw)
        if span.dtype == gguf.GGMLQuantizationType(kind).name:
            assert span.shape == shape
        else:
            assert (span.dtype, span.shape) == ("U8", (span.nbytes,))
    return True


@pytest.mark.parametrize("name", VALID)
def test_files_that_a_reader_should_take_are_laid_out(name: str, tmp_path: Path) -> None:
    assert ours(VALID[name]) is not None
    is_read = assert_same(VALID[name], tmp_path / "file")
    # The package knows neither version 1 nor types of the future.
    assert is_read or name in ("gguf-little-1", "gguf-unknown-types")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_hold_the_same_tensors_or_are_refused(name: str, tmp_path: Path) -> None:
    if not name.startswith(("gguf-tensors-", "gguf-keys-", "gguf-array-of-")):
        assert_same(HOSTILE[name], tmp_path / "file")
    assert lay_out(b"x", reader(HOSTILE[name]), len(HOSTILE[name])).format in ("gguf", "opaque")


def test_the_list_of_hostile_files_has_both_kinds() -> None:
    verdicts = [ours(content) is not None for content in HOSTILE.values()]
    assert verdicts.count(True) >= 50
    assert verdicts.count(False) >= 80


def test_types_are_those_of_the_package_with_its_names_and_sizes() -> None:
    for kind, (block_weights, block_nbytes) in SIZES.items():
        content = one(described=[Described(b"w", (block_weights * 2, 3), kind, 0)], data=pattern(block_nbytes * 6))
        layout = ours(content)
        assert layout is not None
        name = gguf.GGMLQuantizationType(kind).name
        assert layout.spans[1:] == (
            Span(len(content) - block_nbytes * 6, block_nbytes * 6, name, (3, block_weights * 2), "w"),
        )
        assert name in DTYPES


@pytest.mark.parametrize(
    ("kind", "block_weights", "block_nbytes"), [(4, 16, 10), (5, 16, 12), (31, 32, 18), (38, 32, 18)]
)
def test_a_tensor_of_a_type_that_was_removed_is_bytes(kind: int, block_weights: int, block_nbytes: int) -> None:
    described = [Described(b"w", (block_weights * 2, 3), kind, 0)]
    layout = ours(one(described=described, data=pattern(block_nbytes * 6 + 5)))
    assert layout is not None
    assert [(span.dtype, span.nbytes) for span in layout.spans[1:]] == [("U8", block_nbytes * 6), ("", 5)]


def test_axes_are_told_slowest_first_and_what_is_no_tensor_has_no_name() -> None:
    content = VALID["gguf-any-order"]
    layout = ours(content)
    assert layout is not None
    data = len(content) - 69
    assert layout.spans == (
        Span(0, data, "", (), None),
        Span(data, 8, "F32", (1, 2), "a"),
        Span(data + 8, 24, "", (), None),
        Span(data + 32, 28, "F32", (7, 1), "b"),
        Span(data + 60, 4, "", (), None),
        Span(data + 64, 5, "I8", (5,), "c"),
    )


def test_a_tensor_of_an_unknown_size_goes_on_to_the_next() -> None:
    content = VALID["gguf-unknown-types"]
    layout = ours(content)
    assert layout is not None
    data = len(content) - 100
    assert layout.spans == (
        Span(0, data, "", (), None),
        Span(data, 12, "F32", (3,), "a"),
        Span(data + 12, 20, "", (), None),
        Span(data + 32, 32, "U8", (32,), "b"),
        Span(data + 64, 36, "U8", (36,), "c"),
    )


@pytest.mark.parametrize(("version", "order", "dtype"), [(1, "<", "F32"), (3, "<", "F32"), (3, ">", "U8")])
def test_big_endian_items_of_several_bytes_are_bytes(version: int, order: str, dtype: str) -> None:
    described = [Described(b"w", (2,), F32, 0), Described(b"i", (3,), 24, 32)]
    layout = ours(one(version=version, order=order, described=described, data=pattern(35)))
    assert layout is not None
    found = {span.name: (span.dtype, span.shape) for span in layout.spans if span.name}
    assert found == {"w": (dtype, (2,) if dtype == "F32" else (8,)), "i": ("I8", (3,))}


def test_a_part_of_a_split_model_is_laid_out_like_any_file(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    for number in range(5):
        writer.add_tensor(f"blk.{number}", np.full((3, 4), number, np.float32))
    finish(writer)
    parts = sorted(tmp_path.glob("m-*-of-00003.gguf"))
    assert len(parts) == 3
    names = [span.name for path in parts for span in (ours(path.read_bytes()) or Layout("", ())).spans if span.name]
    assert names == [f"blk.{number}" for number in range(5)]


def finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES: Final = st.one_of(
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32),
    TEXTS,
    st.lists(st.integers(-100, 100), min_size=1, max_size=500),
    st.lists(TEXTS, min_size=1, max_size=4),
    st.lists(st.text("ab", max_size=5), min_size=300, max_size=600),
)
KINDS: Final = st.sampled_from(sorted(SIZES))


@given(
    values=st.dictionaries(st.text("ab.", min_size=1, max_size=20), VALUES, max_size=5),
    kinds=st.lists(st.tuples(KINDS, st.integers(1, 3), st.lists(st.integers(1, 3), max_size=3)), max_size=5),
    alignment=st.sampled_from([None, 8, 32, 256]),
    big=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_package_writes_is_laid_out_as_it_reads_it(
    tmp_path: Path, values: dict[str, Any], kinds: list[tuple[int, int, list[int]]], alignment: int | None, big: bool
) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in values.items():
        adders: dict[type, Callable[[str, Any], None]] = {
            bool: writer.add_bool,
            int: writer.add_int32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        adders[type(value)](key, value)
    for number, (kind, blocks, axes) in enumerate(kinds):
        raw = np.frombuffer(pattern(int(np.prod(axes)) * blocks * SIZES[kind][1]), np.uint8).copy()
        shape = (*axes, blocks * SIZES[kind][1])
        writer.add_tensor(f"tensor.{number}", raw.reshape(shape), raw_dtype=gguf.GGMLQuantizationType(kind))
    finish(writer)
    assert assert_same(path.read_bytes(), tmp_path / "copy")


@given(name=st.sampled_from(sorted({**VALID, **HOSTILE})), data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_with_altered_bytes_hold_the_same_tensors_or_are_refused(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray({**VALID, **HOSTILE}[name][:8000])
    for _ in range(data.draw(st.integers(1, 3)) if content else 0):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.sampled_from([b"", b"\0", b"\1", b"\4", b"\xff", b"\0\0"]))
    ours(bytes(content))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=700), st.sampled_from([(1, "<"), (3, "<"), (3, ">")]))
def test_strings_of_any_bytes_are_stepped_over_exactly(strings: list[bytes], kind: tuple[int, str]) -> None:
    version, order = kind
    many = [*strings, *words(300), *strings]
    made = Made([(b"k", ARRAY, Array(STRING, many)), (b"n", UINT8, 1)], [], version, order).content()
    assert parse_gguf(reader(made), len(made)).spans == (Span(0, len(made), "", (), None),)
    with pytest.raises(NotThisFormat):
        parse_gguf(reader(made[:-1]), len(made) - 1)


def test_a_vocabulary_is_read_in_pieces_and_arrays_of_numbers_are_not_read() -> None:
    made = Made(
        [(b"words", ARRAY, Array(STRING, words(60_000))), (b"numbers", ARRAY, Array(UINT8, bytes(3_000_000)))],
        [Described(b"w", (2,), F32, 0)],
        data=pattern(8),
    ).content()
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return made[offset : offset + length]

    assert [span.name for span in parse_gguf(read, len(made)).spans] == [None, "w"]
    assert max(asked) < 1_000_000
    assert sum(asked) < len(made) - 1_500_000


LIMITS: Final[dict[str, Callable[[int], bytes]]] = {
    "tensors": lambda over: Made(counts=(MAX_TENSORS + over, 0)).content(),
    "keys": lambda over: Made([(b"%d" % key, UINT8, 1) for key in range(MAX_KEYS + over)]).content(),
    "name": lambda over: one(described=[Described(b"n" * (MAX_NAME_NBYTES + over), (2,), F32, 0)]),
    "strings": lambda over: one(metadata=[(b"k", ARRAY, Array(STRING, [b""] * (MAX_ITEMS + over)))]),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_is_where_it_is_said_to_be(what: str) -> None:
    within, beyond = LIMITS[what](0), LIMITS[what](1)
    if what != "tensors":
        assert ours(within) is not None
    with pytest.raises(NotThisFormat, match="over the limits" if what in ("tensors", "keys") else "more than"):
        parse_gguf(reader(beyond), len(beyond))


def test_a_header_of_more_than_the_limit_is_refused_without_reading_it() -> None:
    for kind, item_nbytes in ((UINT8, 1), (12, 8)):
        count = MAX_METADATA_NBYTES // item_nbytes
        head = Made([(b"k", ARRAY, Array(kind, []))]).content()[:-8] + struct.pack("<Q", count)

        def read(offset: int, length: int, head: bytes = head) -> bytes:
            return head[offset : offset + length]

        with pytest.raises(NotThisFormat, match="over the limit"):
            parse_gguf(read, 1 << 40)


def test_a_file_that_is_shorter_than_was_said_is_refused() -> None:
    content = VALID["gguf-metadata-little"]
    for available in range(0, len(content), 7):
        if available < 400:
            with pytest.raises(NotThisFormat):
                parse_gguf(reader(content[:available]), len(content))


@pytest.mark.slow
def test_a_costly_header_takes_little_memory() -> None:
    for strings in ([b""] * 1_000_000, [b"\0" * 3] * 500_000, [b"x" * 254] * 100_000):
        content = Made([(b"k", ARRAY, Array(STRING, strings))]).content()
        tracemalloc.start()
        try:
            assert ours(content) is not None
            _, peak_nbytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_nbytes < 16_000_000


def test_every_number_of_a_value_type_is_known_to_the_package() -> None:
    assert {kind.value for kind in gguf.GGUFValueType} == {*CODES, STRING, ARRAY}
