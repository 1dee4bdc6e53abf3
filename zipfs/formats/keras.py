"""The .keras container: a zip archive with the weights of a model in it as an HDF5 file.

Takes each entry that is stored and is HDF5 with datasets that are taken there. Pure; any thread may call it.
"""

from __future__ import annotations

from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.hdf5 import find_datasets
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Source
from zipfs.formats.tiling import tile
from zipfs.formats.zip_directory import locate, read_directory

FORMAT: Final = "keras"
MAX_FILES: Final = 64
_SUFFIX: Final = ".h5"


def parse_keras(read: Read, nbytes: int) -> Layout:
    """Lay out a .keras file of `nbytes`: the items of each dataset, and what lies between them.

    Raises NotThisFormat, with the reason, if no entry has datasets, and whatever `read` raises.
    """
    directory = read_directory(read, nbytes)
    files = [member for member in directory.members if member.is_stored and member.name.endswith(_SUFFIX)]
    if directory.start or not 0 < len(files) <= MAX_FILES:
        raise NotThisFormat("an archive without a stored HDF5 file")
    names = {member.name for member in files}
    datasets: list[Span] = []
    for entry in locate(read, directory):
        if entry.name in names:
            try:
                datasets += find_datasets(Source(read, entry.nbytes, entry.offset))
            except NotThisFormat:
                continue
    if not datasets:
        raise NotThisFormat("an archive without a dataset")
    return tile(FORMAT, datasets, nbytes)
