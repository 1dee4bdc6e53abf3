"""What every parser of a container must do; one that joins `zipfs.formats.PARSERS` is tried here on any file.

A format's own tests show that it takes what it should: add files of it to `FILES`, so that all parsers meet them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.contract import check, reader
from tests.formats.coreml_files import coreml_files
from tests.formats.ctranslate2_files import ctranslate2_files
from tests.formats.flax_files import flax_files
from tests.formats.gguf_files import gguf_files
from tests.formats.hdf5_files import hdf5_files
from tests.formats.hostile import hostile_files, valid_files
from tests.formats.npy_files import npy_files
from tests.formats.npz_files import npz_files
from tests.formats.onnx_files import onnx_files
from tests.formats.torch_files import torch_files
from zipfs.formats import PARSERS, Parser, lay_out
from zipfs.formats.registry import HEAD_NBYTES

FILES: Final = {
    **dict(valid_files()),
    **dict(hostile_files()),
    **dict(gguf_files()),
    **dict(coreml_files()),
    **dict(ctranslate2_files()),
    **dict(flax_files()),
    **dict(hdf5_files()),
    **dict(npy_files()),
    **dict(npz_files()),
    **dict(onnx_files()),
    **dict(torch_files()),
}


@pytest.fixture(scope="module", params=PARSERS, ids=lambda parser: parser.format)
def parser(request: pytest.FixtureRequest) -> Parser:
    found: Parser = request.param
    return found


def test_a_format_has_a_name_of_its_own(parser: Parser) -> None:
    assert [other.format for other in PARSERS].count(parser.format) == 1
    assert parser.format != "opaque"


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say of which file a check failed: as a test each, files and parsers would be 15,000 of them."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the file {name!r}")
        raise


def test_a_file_is_laid_out_whole_or_refused(parser: Parser) -> None:
    for name, content in FILES.items():
        with named(name):
            check(parser, content)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_laid_out_whole_or_refused(parser: Parser, content: bytes) -> None:
    check(parser, content)


@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_a_damaged_file_is_laid_out_whole_or_refused(parser: Parser, name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name][:4000])
    if content:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=3))
    check(parser, bytes(content))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_what_the_reader_raises_is_passed_on(parser: Parser, error: Exception) -> None:
    def read(offset: int, length: int) -> bytes:
        raise error

    with pytest.raises(type(error)):
        parser.parse(read, 1000)


def test_what_is_not_recognised_costs_one_small_read() -> None:
    for name, content in FILES.items():
        asked = list[int]()
        layout = lay_out(b"model", reader(content, asked), len(content))
        if not any(parser.recognises(content[:HEAD_NBYTES], len(content)) for parser in PARSERS):
            with named(name):
                assert layout.format == "opaque"
                assert asked == [min(len(content), HEAD_NBYTES)]
