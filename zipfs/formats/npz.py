"""The .npz container of NumPy: a zip archive whose entries are .npy files.

Takes the entries that are stored; deflated ones, and those that are no array, are plain bytes. So does MLX write its
weights. Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.npy import find_array
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile
from zipfs.formats.zip_directory import Entry, locate, read_directory

FORMAT: Final = "npz"
MAX_ARRAYS: Final = 1 << 16
"""Of those in one archive; what lies behind them is plain bytes."""
_SUFFIX: Final = ".npy"


def parse_npz(read: Read, nbytes: int) -> Layout:
    """Lay out an .npz file of `nbytes`: the items of each array, and what lies between them.

    Raises NotThisFormat, with the reason, if no entry is an array, and whatever `read` raises.
    """
    directory = read_directory(read, nbytes)
    if directory.start:
        raise NotThisFormat("an archive behind something else")
    arrays = list(islice(_arrays(read, locate(read, directory)), MAX_ARRAYS))
    if not arrays:
        raise NotThisFormat("an archive without a stored array")
    return tile(FORMAT, arrays, nbytes)


def _arrays(read: Read, entries: tuple[Entry, ...]) -> Iterator[Span]:
    for entry in entries:
        if entry.is_stored and entry.name.endswith(_SUFFIX):
            try:
                yield find_array(Source(read, entry.nbytes, entry.offset), 0, entry.name.removesuffix(_SUFFIX))
            except NotThisFormat:
                continue
