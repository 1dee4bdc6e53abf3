"""Owns the layout of archives that PyTorch writes: `torch.save`, `torch.jit.save`, `torch.export.save`, and `.distcp`.

Each is a zip with one folder at its root. Storages are stored entries `data/0`, `data/1`, ...; `data.pkl` says which
tensors are views of them. TorchScript has constants besides. `.pt2` keeps a tensor an entry, described by JSON, and
archives of torch.save as entries. A `.distcp` file of torch.distributed.checkpoint is a run of archives, one after the
other, a tensor each. Where no description is understood, the types of items are guessed from the bytes.

Source: PyTorch 2.13, `torch/serialization.py`, `caffe2/serialize/inline_container.cc`, `torch/export/pt2_archive`,
`torch/distributed/checkpoint/filesystem.py`. Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.guess import guess_dtype
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.pickle_reader import MAX_OPCODES, read_pickle
from zipfs.formats.pt2_config import PAYLOAD_FOLDERS, parse_config
from zipfs.formats.tiling import tile
from zipfs.formats.torch_storage import Storage, cut_storage
from zipfs.formats.torch_tensors import Tensor, find_tensors
from zipfs.formats.zip_directory import Directory, Entry, locate, read_directory

FORMAT: Final = "torch"
RUN_FORMAT: Final = "torch-distcp"
MAX_DESCRIPTION_NBYTES: Final = 1 << 25
"""How long a pickle may be, and JSON."""
MAX_ARCHIVES: Final = 1 << 15
"""How many archives a file may be a run of: of one with the state of an optimizer, a tensor has three."""
MAX_RUN_ENTRIES: Final = 1 << 18

_MARKS: Final = ("data.pkl", ".data/serialization_id", "byteorder", "archive_format")
_PICKLES: Final = (("data.pkl", "data/"), ("constants.pkl", "constants/"))
_STORAGE_FOLDERS: Final = ("data/", "constants/", "tensors/")
_NO_STORAGES: Final = (".json", ".pkl", ".py", ".txt", ".debug_pkl")
_ARCHIVES: Final = (".pt", ".pt2")


def parse_torch(read: Read, nbytes: int) -> Layout:
    """Lay out one archive of PyTorch that is a whole file. Raises NotThisFormat, and what `read` raises."""
    directory = read_directory(read, nbytes)
    if directory.start:
        raise NotThisFormat("an archive that does not begin where the file does")
    return tile(FORMAT, _Archive(read, directory, _Budget(nested=4)).spans(""), nbytes)


def parse_torch_run(read: Read, nbytes: int) -> Layout:
    """Lay out a file that is a run of at least two archives. Tensors are called by the number of their archive.

    The run is read from its end: what lies before an archive ends where the archive begins, so that no byte of a tensor
    is looked at. Raises NotThisFormat, and what `read` raises.
    """
    directories: list[Directory] = []
    end, entry_count = nbytes, 0
    while end:
        directory = read_directory(read, end)
        entry_count += len(directory.members)
        if len(directories) >= MAX_ARCHIVES or entry_count > MAX_RUN_ENTRIES or directory.start == end:
            raise NotThisFormat("too many archives in a row")
        directories.append(directory)
        end = directory.start
    if len(directories) < 2:
        raise NotThisFormat("one archive is no run of them")
    spans: list[Span] = []
    budget = _Budget(nested=0)
    for number, directory in enumerate(reversed(directories)):
        spans.extend(_Archive(read, directory, budget).spans(str(number)))
    return tile(RUN_FORMAT, spans, nbytes)


@dataclass(slots=True)
class _Budget:
    """What may still be spent on a file: beyond it, what could be known is not looked for."""

    nested: int
    """Entries that are archives themselves and are taken apart."""
    opcodes: int = 3 * MAX_OPCODES
    """Opcodes of pickles, each of which takes a byte at least."""
    guesses: int = 1 << 10


class _Archive:
    """One archive, its entries by their names below its root folder."""

    def __init__(self, read: Read, directory: Directory, budget: _Budget) -> None:
        names = [member.name for member in directory.members]
        root = names[0].partition("/")[0] + "/" if names else ""
        if not any(root + mark in names for mark in _MARKS):
            raise NotThisFormat("a zip that PyTorch did not write")
        self._read = read
        self._budget = budget
        self._entries = {
            entry.name.removeprefix(root): entry
            for entry in locate(read, directory)
            if entry.is_stored and entry.name.startswith(root) and entry.nbytes
        }
        self._is_big_endian = self._description("byteorder") == b"big"

    def spans(self, root_name: str) -> Iterator[Span]:
        """Yield the tensors of the archive, in any order."""
        taken: dict[str, list[Span]] = {}
        for pickle_name, folder in _PICKLES:
            for name, spans in self._pickled(pickle_name, folder, root_name):
                taken.setdefault(name, spans)
        for name, spans in self._configured():
            taken.setdefault(name, spans)
        for spans in taken.values():
            yield from spans
        rest = [item for item in self._entries.items() if item[0] not in taken]
        for name, entry in sorted(rest, key=lambda item: item[1].nbytes, reverse=True):
            if name.endswith(_ARCHIVES):
                yield from self._nested(name, entry)
            elif name.startswith(_STORAGE_FOLDERS) and not name.endswith(_NO_STORAGES) and self._budget.guesses:
                self._budget.guesses -= 1
                yield from self._guessed(name, entry, root_name)

    def _description(self, name: str) -> bytes:
        """Read an entry that says what others are; return nothing if there is none, or if it is too long."""
        entry = self._entries.get(name)
        if entry is None or entry.nbytes > MAX_DESCRIPTION_NBYTES:
            return b""
        opcodes = min(entry.nbytes, MAX_OPCODES)
        if opcodes > self._budget.opcodes:
            return b""
        self._budget.opcodes -= opcodes
        return self._read(entry.offset, entry.nbytes)

    def _pickled(self, pickle_name: str, folder: str, root_name: str) -> Iterator[tuple[str, list[Span]]]:
        """Yield each storage that a pickle names, cut by the views of it; none of a pickle that cannot be read."""
        content = self._description(pickle_name)
        if not content:
            return
        try:
            value, _ = read_pickle(content)
            found = find_tensors(value, root_name)
        except NotThisFormat:
            return
        views: dict[str, list[Tensor]] = {}
        for tensor in found.tensors:
            views.setdefault(tensor.storage.key, []).append(tensor)
        for key, use in found.storages.items():
            name = folder + key
            entry = self._entries.get(name)
            if entry is None or (use.items is None and key not in views):
                continue
            dtype = use.items.dtype if use.items is not None else ""
            storage = Storage(_joined(root_name, name), entry.offset, entry.nbytes, dtype, self._is_big_endian)
            yield name, cut_storage(storage, views.get(key, ()))

    def _configured(self) -> Iterator[tuple[str, list[Span]]]:
        for folder, config_name in PAYLOAD_FOLDERS:
            content = self._description(folder + config_name)
            for payload, tensor in parse_config(content) if content else ():
                entry = self._entries.get(folder + payload)
                if entry is not None:
                    storage = Storage(
                        folder + payload, entry.offset, entry.nbytes, tensor.items.dtype, self._is_big_endian
                    )
                    yield folder + payload, cut_storage(storage, (tensor,))

    def _nested(self, name: str, entry: Entry) -> Iterator[Span]:
        """Yield the tensors of an entry that is an archive itself; none if it is not."""
        if not self._budget.nested:
            return
        self._budget.nested -= 1
        try:
            directory = read_directory(self._read, entry.offset + entry.nbytes)
            if directory.start != entry.offset:
                return
            yield from _Archive(self._read, directory, self._budget).spans(name)
        except NotThisFormat:
            return

    def _guessed(self, name: str, entry: Entry, root_name: str) -> Iterator[Span]:
        dtype = "" if self._is_big_endian else guess_dtype(self._read, entry.offset, entry.nbytes)
        yield from cut_storage(Storage(_joined(root_name, name), entry.offset, entry.nbytes, dtype), ())


def _joined(root_name: str, name: str) -> str:
    return f"{root_name}.{name}" if root_name else name
