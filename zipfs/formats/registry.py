"""Which parser lays out which file.

Owns the list of parsers. A format joins by one entry here; nothing else asks what formats there are. A file that no
parser takes is opaque: that is never an error. Pure; any thread may call it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, opaque
from zipfs.formats.npy import FORMAT as NPY
from zipfs.formats.npy import looks_like_npy, parse_npy
from zipfs.formats.onnx import FORMAT as ONNX
from zipfs.formats.onnx import looks_like_onnx, parse_onnx
from zipfs.formats.safetensors import FORMAT as SAFETENSORS
from zipfs.formats.safetensors import looks_like_safetensors, parse_safetensors

log = logging.getLogger(__name__)

HEAD_NBYTES: Final = 64
"""How much of a file decides which parsers are tried."""


@dataclass(frozen=True, slots=True)
class Parser:
    """A container format.

    `recognises(head, nbytes)` is given the first HEAD_NBYTES of the file, fewer if it is shorter, and its size in
    bytes; False means that `parse` cannot succeed. `parse(read, nbytes)` returns a Layout or raises NotThisFormat.
    """

    format: str
    recognises: Callable[[bytes, int], bool]
    parse: Callable[[Read, int], Layout]


PARSERS: Final[tuple[Parser, ...]] = (
    Parser(SAFETENSORS, looks_like_safetensors, parse_safetensors),
    Parser(NPY, looks_like_npy, parse_npy),
    Parser(ONNX, looks_like_onnx, parse_onnx),
)


def lay_out(name: bytes, read: Read, nbytes: int) -> Layout:
    """Lay out a file of `nbytes` bytes whatever it holds; what no parser takes is one opaque span.

    Decides by content alone: `name` is there for formats that have no mark of their own. An opaque file costs one read
    of HEAD_NBYTES. Raises only what `read` raises.
    """
    head = read(0, min(nbytes, HEAD_NBYTES))
    for parser in PARSERS:
        if parser.recognises(head, nbytes):
            try:
                return parser.parse(read, nbytes)
            except NotThisFormat:
                continue
            except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
                log.warning(
                    "%r: the parser of %s failed; the file is kept as it is", name, parser.format, exc_info=True
                )
    return opaque(nbytes)
