"""A container for tests: each tensor has a header of its own before it, and the file a directory at its end.

So there are plain bytes between tensors, as in the archives of torch, and what lays a file out stands behind them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.support.stores import Tensor
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, Parser, Read, Span, registry

FORMAT = "chunks"
_MAGIC = b"CHNK"


def chunks(tensors: Mapping[str, Tensor], *, header: bytes = bytes(12)) -> bytes:
    """A file of some tensors; each has `header` before it."""
    data, directory = _MAGIC, []
    for name, (dtype, shape, raw) in tensors.items():
        data += header
        directory.append([name, dtype, list(shape), len(data), len(raw)])
        data += raw
    listed = json.dumps(directory).encode()
    return data + listed + len(listed).to_bytes(8, "little")


def _parse(read: Read, nbytes: int) -> Layout:
    length = int.from_bytes(read(max(nbytes - 8, 0), 8), "little")
    if length > nbytes - 8:
        raise NotThisFormat("no directory")
    spans: list[Span] = []
    at = 0
    for name, dtype, shape, offset, size in json.loads(read(nbytes - 8 - length, length)):
        if at < offset:
            spans.append(Span(at, offset - at, "", (), None))
        spans.append(Span(offset, size, dtype, tuple(shape), name))
        at = offset + size
    return Layout(FORMAT, (*spans, Span(at, nbytes - at, "", (), None)))


def use(patch: pytest.MonkeyPatch) -> None:
    """Have such files taken apart."""
    parser = Parser(FORMAT, lambda head, nbytes: head.startswith(_MAGIC), _parse)
    patch.setattr(registry, "PARSERS", (*registry.PARSERS, parser))
