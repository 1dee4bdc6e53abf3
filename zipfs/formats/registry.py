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
from zipfs.formats.coreml import FORMAT as COREML
from zipfs.formats.coreml import looks_like_coreml, parse_coreml
from zipfs.formats.ctranslate2 import FORMAT as CTRANSLATE2
from zipfs.formats.ctranslate2 import looks_like_ctranslate2, parse_ctranslate2
from zipfs.formats.flax import FORMAT as FLAX
from zipfs.formats.flax import looks_like_flax, parse_flax
from zipfs.formats.gguf import FORMAT as GGUF
from zipfs.formats.gguf import looks_like_gguf, parse_gguf
from zipfs.formats.hdf5 import FORMAT as HDF5
from zipfs.formats.hdf5 import looks_like_hdf5, parse_hdf5
from zipfs.formats.keras import FORMAT as KERAS
from zipfs.formats.keras import parse_keras
from zipfs.formats.layout import Layout, Read, Refusal, check_tiles, opaque
from zipfs.formats.npy import FORMAT as NPY
from zipfs.formats.npy import looks_like_npy, parse_npy
from zipfs.formats.npz import FORMAT as NPZ
from zipfs.formats.npz import parse_npz
from zipfs.formats.onnx import FORMAT as ONNX
from zipfs.formats.onnx import looks_like_onnx, parse_onnx
from zipfs.formats.runs import find_runs
from zipfs.formats.safetensors import FORMAT as SAFETENSORS
from zipfs.formats.safetensors import looks_like_safetensors, parse_safetensors
from zipfs.formats.torch_legacy import FORMAT as TORCH_LEGACY
from zipfs.formats.torch_legacy import looks_like_torch_legacy, parse_torch_legacy
from zipfs.formats.torch_zip import FORMAT as TORCH
from zipfs.formats.torch_zip import RUN_FORMAT as TORCH_RUN
from zipfs.formats.torch_zip import parse_torch, parse_torch_run
from zipfs.formats.zip_directory import looks_like_zip

log = logging.getLogger(__name__)

HEAD_NBYTES: Final = 64
"""How much of a file decides which parsers are tried."""


@dataclass(frozen=True, slots=True)
class Parser:
    """A container format.

    `recognises(head, nbytes)` is given the first HEAD_NBYTES of the file, fewer if it is shorter, and its size in
    bytes; False means that `parse` cannot succeed. `parse(read, nbytes)` returns a Layout or raises NotThisFormat with
    a reason that people are shown.
    """

    format: str
    recognises: Callable[[bytes, int], bool]
    parse: Callable[[Read, int], Layout]


# In this order: those first that have a mark of their own, as several may recognise a file.
PARSERS: Final[tuple[Parser, ...]] = (
    Parser(SAFETENSORS, looks_like_safetensors, parse_safetensors),
    Parser(GGUF, looks_like_gguf, parse_gguf),
    Parser(NPY, looks_like_npy, parse_npy),
    Parser(HDF5, looks_like_hdf5, parse_hdf5),
    Parser(TORCH_LEGACY, looks_like_torch_legacy, parse_torch_legacy),
    Parser(TORCH, looks_like_zip, parse_torch),
    Parser(TORCH_RUN, looks_like_zip, parse_torch_run),
    Parser(NPZ, looks_like_zip, parse_npz),
    Parser(KERAS, looks_like_zip, parse_keras),
    Parser(ONNX, looks_like_onnx, parse_onnx),
    Parser(COREML, looks_like_coreml, parse_coreml),
    Parser(CTRANSLATE2, looks_like_ctranslate2, parse_ctranslate2),
    Parser(FLAX, looks_like_flax, parse_flax),
)


class _Reader:
    """Reads for parsers, and knows what went wrong: that is no fault of theirs, whatever they make of it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.error: Exception | None = None

    def read(self, offset: int, length: int) -> bytes:
        try:
            return self._read(offset, length)
        except Exception as error:
            self.error = error
            raise


def lay_out(name: bytes, read: Read, nbytes: int) -> Layout:
    """Lay out a file of `nbytes` bytes whatever it holds; what no parser takes is one opaque span.

    Decides by content alone; `name` is for the log. A file that no parser recognises costs one read of HEAD_NBYTES.
    Raises only what `read` raises.
    """
    head = read(0, min(nbytes, HEAD_NBYTES))
    refusals: list[Refusal] = []
    for parser in PARSERS:
        if parser.recognises(head, nbytes):
            found = _parse(parser, name, _Reader(read), nbytes)
            if isinstance(found, Layout):
                return found
            refusals.append(Refusal(parser.format, found))
    return opaque(nbytes, tuple(refusals))


def cut_runs(name: bytes, layout: Layout, read: Read, nbytes: int) -> Layout:
    """Cut the large plain spans of a layout into runs of floats and what lies between (runs.py).

    Where that fails, they stay as they are; `name` is for the log. Raises only what `read` raises.
    """
    reader = _Reader(read)
    try:
        cut = find_runs(layout, reader.read)
        check_tiles(cut, nbytes)
    except Exception:
        if reader.error is not None:
            raise reader.error from None
        log.warning("%r: the search for floats failed; its plain bytes are kept as they are", name, exc_info=True)
        return layout
    return cut


def _parse(parser: Parser, name: bytes, reader: _Reader, nbytes: int) -> Layout | str:
    """Return the layout, or why there is none. A parser that fails in any other way costs no more than that, either."""
    try:
        layout = parser.parse(reader.read, nbytes)
        check_tiles(layout, nbytes)
    except Exception as error:
        if reader.error is not None:
            raise reader.error from None
        if isinstance(error, NotThisFormat):
            return str(error)
        log.warning("%r: the parser of %s failed; the file is kept as it is", name, parser.format, exc_info=True)
        return f"its parser failed: {type(error).__name__}"
    return layout
