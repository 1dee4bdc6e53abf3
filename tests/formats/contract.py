"""What every parser of a container must do, as checks on one file.

`tests/contracts/test_container_parser.py` makes them on listed and on generated files, the fuzzer on what it finds.
"""

from __future__ import annotations

from collections.abc import Callable

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, Parser, Read
from zipfs.formats.registry import HEAD_NBYTES

Tensors = dict[str | None, tuple[str, tuple[int, ...], bytes]]


def reader(content: bytes, asked: list[int] | None = None) -> Callable[[int, int], bytes]:
    """A file of this content; lengths that are asked for go to `asked`."""

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        if asked is not None:
            asked.append(length)
        return content[offset : offset + length]

    return read


def parsed(parser: Parser, content: bytes) -> Layout | None:
    """Return the layout, or None if the file is none of this format; anything else that is raised is a fault."""
    try:
        return parser.parse(reader(content), len(content))
    except NotThisFormat as error:
        assert str(error)
        return None


def tensors_in(parse: Callable[[Read, int], Layout], content: bytes) -> Tensors:
    """Return (dtype, shape, bytes) of every tensor that a parser finds, by its name."""
    layout = parse(reader(content), len(content))
    assert sum(span.nbytes for span in layout.spans) == len(content)
    return {s.name: (s.dtype, s.shape, content[s.offset : s.offset + s.nbytes]) for s in layout.spans if s.dtype}


def check(parser: Parser, content: bytes) -> None:
    """Fail unless the file is laid out whole and twice alike, or is refused."""
    layout = parsed(parser, content)
    assert parsed(parser, content) == layout
    if layout is None:
        return
    assert parser.recognises(content[:HEAD_NBYTES], len(content))
    assert layout.format == parser.format
    end = 0
    for span in layout.spans:
        assert span.offset == end
        assert span.nbytes > 0
        assert span.dtype in DTYPES or not span.dtype
        end = span.offset + span.nbytes
    assert end == len(content)
    names = [span.name for span in layout.spans if span.name is not None]
    assert len(names) == len(set(names))
