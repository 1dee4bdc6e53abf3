"""A layout tiles its file whatever the file holds, and its spans are the tensors that the file declares."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.hostile import container, costly_headers, entry, hostile_files, pattern, valid_files
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, Parser, Refusal, Span, lay_out, parse_safetensors, registry

VALID = dict(valid_files())
HOSTILE = dict(hostile_files())
COSTLY_NBYTES = 2_000_000
deserialize: Callable[[bytes], list[tuple[str, Any]]] = safetensors.deserialize
COSTLY = [name for name, _ in costly_headers(64)]


def reader(content: bytes) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        return content[offset : offset + length]

    return read


def assert_tiles(layout: Layout, nbytes: int) -> None:
    offset = 0
    for span in layout.spans:
        assert span.offset == offset
        assert span.nbytes > 0
        offset += span.nbytes
    assert offset == nbytes


@pytest.mark.parametrize("name", VALID)
def test_spans_hold_the_bytes_that_the_package_returns(name: str) -> None:
    content = VALID[name]
    layout = lay_out(b"model.safetensors", reader(content), len(content))
    assert layout.format == "safetensors"
    assert_tiles(layout, len(content))
    header, *tensors = layout.spans
    assert header == Span(0, 8 + int.from_bytes(content[:8], "little"), "", (), None)
    found = {s.name: (s.dtype, s.shape, content[s.offset : s.offset + s.nbytes]) for s in tensors}
    assert found == {
        tensor: (info["dtype"], tuple(info["shape"]), bytes(info["data"]))
        for tensor, info in deserialize(content)
        if info["data"]
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_any_file_is_laid_out_without_an_error(name: str) -> None:
    content = HOSTILE[name]
    layout = lay_out(b"model.safetensors", reader(content), len(content))
    assert layout.format in (*(parser.format for parser in registry.PARSERS), "opaque")
    assert_tiles(layout, len(content))


@given(st.binary(max_size=200))
def test_random_bytes_are_laid_out_without_an_error(content: bytes) -> None:
    assert_tiles(lay_out(b"", reader(content), len(content)), len(content))


def test_an_empty_file_has_no_spans() -> None:
    assert lay_out(b"empty", reader(b""), 0) == Layout("opaque", ())


def test_a_file_of_one_byte_is_one_span() -> None:
    assert lay_out(b"x", reader(b"x"), 1) == Layout("opaque", (Span(0, 1, "", (), None),))


def test_tensors_follow_each_other_in_file_order_under_a_header_of_any_length() -> None:
    for padding in range(17):
        header = json.dumps({"b": entry("U8", [3], 4, 7), "a": entry("F32", [1], 0, 4)}) + " " * padding
        content = container(header, pattern(7))
        data = 8 + len(header)
        assert lay_out(b"x", reader(content), len(content)).spans == (
            Span(0, data, "", (), None),
            Span(data, 4, "F32", (1,), "a"),
            Span(data + 4, 3, "U8", (3,), "b"),
        )


def test_content_decides_not_the_name() -> None:
    content = VALID["odd-sizes"]
    layouts = {lay_out(name, reader(content), len(content)) for name in (b"a.safetensors", b"a.bin", b"\xff", b"")}
    assert [layout.format for layout in layouts] == ["safetensors"]
    text = b"not a model\n" * 100
    assert lay_out(b"a.safetensors", reader(text), len(text)).format == "opaque"


@pytest.mark.parametrize("name", ["text", "json"])
def test_an_opaque_file_costs_one_small_read(name: str) -> None:
    content, reads = HOSTILE[name], []

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return content[offset : offset + length]

    assert lay_out(b"model", read, len(content)).format == "opaque"
    assert reads == [(0, min(len(content), registry.HEAD_NBYTES))]


@pytest.mark.parametrize("available", [0, 4, 8, 20])
def test_a_file_that_is_shorter_than_was_said_is_opaque(available: int) -> None:
    content = VALID["odd-sizes"]
    assert lay_out(b"x", reader(content[:available]), len(content)) == Layout(
        "opaque", (Span(0, len(content), "", (), None),)
    )


def test_a_header_that_is_cut_is_not_read_as_a_shorter_one() -> None:
    content = container("{}" + " " * 20)
    assert lay_out(b"x", reader(content), len(content)).format == "safetensors"
    assert lay_out(b"x", reader(content[:12]), len(content)).format == "opaque"


def test_sizes_beyond_64_bits_are_refused_however_large_the_file() -> None:
    nbytes = 2**61
    for dtype, length in (("U8", nbytes), ("U8", nbytes - 1), ("F64", nbytes)):
        content = container(json.dumps({"a": entry(dtype, [length], 0, length)}))
        layout = lay_out(b"x", reader(content), len(content) + length)
        assert layout.format == ("safetensors" if length < nbytes else "opaque")


def test_what_the_reader_raises_is_not_swallowed() -> None:
    def read(offset: int, length: int) -> bytes:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        lay_out(b"x", read, 100)


def test_a_format_joins_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(read: Callable[[int, int], bytes], nbytes: int) -> Layout:
        if read(4, 1) != b"!":
            raise NotThisFormat("no mark")
        return Layout("marked", (Span(0, 5, "", (), None), Span(5, nbytes - 5, "U8", (nbytes - 5,), "rest")))

    marked = Parser("marked", lambda head, nbytes: head.startswith(b"MARK"), parse)
    monkeypatch.setattr(registry, "PARSERS", (marked, *registry.PARSERS))
    assert lay_out(b"x", reader(b"MARK!abc"), 8).format == "marked"
    assert lay_out(b"x", reader(b"MARK?abc"), 8).format == "opaque"
    assert lay_out(b"x", reader(VALID["scalar"]), len(VALID["scalar"])).format == "safetensors"


def marked(monkeypatch: pytest.MonkeyPatch, parse: Callable[[Callable[[int, int], bytes], int], Layout]) -> None:
    """Have a file that begins with MARK be parsed so, and no other."""
    monkeypatch.setattr(registry, "PARSERS", (Parser("marked", lambda head, _: head.startswith(b"MARK"), parse),))


def test_an_opaque_file_says_what_it_looked_like() -> None:
    content = container('{"a":{"dtype":"F1"}}')
    assert lay_out(b"x", reader(content), len(content)).refusals == (Refusal("safetensors", "unknown dtype F1"),)
    assert lay_out(b"x", reader(b"text"), 4).refusals == ()


@pytest.mark.parametrize("error", [AttributeError("x"), zlib.error("x"), struct.error("x"), MemoryError()])
def test_a_parser_that_fails_costs_no_more_than_the_format(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def parse(read: Callable[[int, int], bytes], nbytes: int) -> Layout:
        raise error

    marked(monkeypatch, parse)
    layout = lay_out(b"x", reader(b"MARK"), 4)
    assert layout == Layout("opaque", (Span(0, 4, "", (), None),))
    assert layout.refusals == (Refusal("marked", f"its parser failed: {type(error).__name__}"),)
    assert "the parser of marked failed" in caplog.text


def test_an_error_of_the_reader_is_raised_whatever_a_parser_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(offset: int, length: int) -> bytes:
        if offset:
            raise OSError("disk")
        return b"MARK"

    def parse(read: Callable[[int, int], bytes], nbytes: int) -> Layout:
        try:
            read(4, 4)
        except OSError as error:
            raise NotThisFormat("odd") from error
        raise AssertionError

    marked(monkeypatch, parse)
    with pytest.raises(OSError, match="disk"):
        lay_out(b"x", read, 8)


@pytest.mark.parametrize("spans", [(), ((0, 7),), ((0, 9),), ((1, 7),), ((0, 5), (4, 4)), ((0, 8), (8, 0))])
def test_spans_that_leave_a_hole_or_overlap_are_no_layout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spans: tuple[tuple[int, int], ...]
) -> None:
    """They would be stored as they are, and something else served."""
    marked(monkeypatch, lambda read, nbytes: Layout("marked", tuple(Span(*span, "", (), None) for span in spans)))
    assert lay_out(b"x", reader(b"MARKMARK"), 8).format == "opaque"
    assert "the parser of marked failed" in caplog.text


def test_a_refusal_says_why() -> None:
    content = container('{"a{0}":{"dtype":"F{1}"}}')
    with pytest.raises(NotThisFormat, match=r"unknown dtype F\{1\}"):
        parse_safetensors(reader(content), len(content))


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_header_takes_little_more_than_its_own_memory(name: str) -> None:
    header = dict(costly_headers(COSTLY_NBYTES))[name]
    content_nbytes = 8 + len(header)

    def read(offset: int, length: int) -> bytes:
        if offset == 8:
            return header[:length]
        return (len(header).to_bytes(8, "little") + header[:64])[offset : offset + length]

    tracemalloc.start()
    try:
        layout = lay_out(b"x", read, content_nbytes)
        _, peak_nbytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_tiles(layout, content_nbytes)
    assert peak_nbytes < 2 * len(header) + 32_000_000
