"""Owns the layout of files that `torch.save` wrote before PyTorch 1.6, and still writes when it is told to.

Five pickles follow each other: a magic number, a protocol, facts about the machine, the object, and the keys of its
storages. Then comes each storage, in the order of these keys: eight bytes with the number of its items, and the items.
The still older tar archives are not taken apart.

Source: PyTorch 2.13, `torch/serialization.py`, `_legacy_save` and `_legacy_load`. Pure; any thread may call it.
"""

from __future__ import annotations

from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.pickle_machine import CutOff
from zipfs.formats.pickle_reader import read_pickle
from zipfs.formats.pickle_values import Pairs
from zipfs.formats.tiling import tile
from zipfs.formats.torch_storage import Storage, cut_storage
from zipfs.formats.torch_tensors import Found, Tensor, find_tensors

FORMAT: Final = "torch-legacy"
MAX_PICKLES_NBYTES: Final = 1 << 26

_MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES: Final = _MAGIC_NUMBER.to_bytes(10, "little")
_MAGIC_END: Final = 32
"""Where the magic number has ended whatever protocol the pickle has."""
_PROTOCOL: Final = 1001
_FIRST_NBYTES: Final = 1 << 16
_GROWTH: Final = 8
_COUNT_NBYTES: Final = 8


def looks_like_torch_legacy(head: bytes, nbytes: int) -> bool:
    """Return whether a file that begins with `head` can be one of these: the magic number is within its first bytes."""
    return head.startswith(b"\x80") and head.find(_MAGIC_BYTES, 0, _MAGIC_END) > 0 and nbytes > _MAGIC_END


def parse_torch_legacy(read: Read, nbytes: int) -> Layout:
    """Lay out a legacy file. Raises NotThisFormat, and what `read` raises."""
    values, offset = _read_head(read, nbytes)
    magic_number, protocol, machine, value, keys = values
    if magic_number != _MAGIC_NUMBER or protocol != _PROTOCOL or not isinstance(keys, list):
        raise NotThisFormat("a magic number of torch, and then something else")
    found = find_tensors(value)
    return tile(FORMAT, _storages(read, offset, nbytes, found, keys, _is_big_endian(machine)), nbytes)


def _read_head(read: Read, nbytes: int) -> tuple[list[object], int]:
    """Read the five pickles; return them, and where they end.

    How long they are is not told: they are read with ever more bytes, at most MAX_PICKLES_NBYTES.
    """
    most_nbytes = min(nbytes, MAX_PICKLES_NBYTES)
    wanted = min(_FIRST_NBYTES, most_nbytes)
    while True:
        content = read(0, wanted)
        if not looks_like_torch_legacy(content[:64], nbytes):
            raise NotThisFormat("no magic number of torch")
        try:
            return _read_pickles(content)
        except CutOff:
            if wanted == most_nbytes:
                raise
            wanted = min(wanted * _GROWTH, most_nbytes)


def _read_pickles(content: bytes) -> tuple[list[object], int]:
    values: list[object] = []
    at = 0
    for _ in range(5):
        value, at = read_pickle(content, at)
        values.append(value)
    return values, at


def _is_big_endian(machine: object) -> bool:
    if not isinstance(machine, Pairs):
        raise NotThisFormat("no facts about a machine")
    return any(
        key == "little_endian" and not value for key, value in zip(machine.flat[::2], machine.flat[1::2], strict=False)
    )


def _storages(
    read: Read, offset: int, nbytes: int, found: Found, keys: list[object], is_big_endian: bool
) -> list[Span]:
    """Return the tensors of all storages, which fill the file from `offset` on."""
    views: dict[str, list[Tensor]] = {}
    for tensor in found.tensors:
        views.setdefault(tensor.storage.key, []).append(tensor)
    spans: list[Span] = []
    for key in keys:
        use = found.storages.get(str(key)) if isinstance(key, (str, int)) else None
        if use is None:
            raise NotThisFormat("a storage that no tensor has")
        item_nbytes, dtype = (use.items.nbytes, use.items.dtype) if use.items is not None else (1, "")
        count = int.from_bytes(read(offset, _COUNT_NBYTES), "big" if is_big_endian else "little")
        offset += _COUNT_NBYTES
        storage_nbytes = count * item_nbytes
        if count != use.count or offset + storage_nbytes > nbytes:
            raise NotThisFormat("a storage that is larger than was said, or than the file")
        name = f"data/{use.key}"
        storage = Storage(name, offset, storage_nbytes, dtype, is_big_endian)
        spans.extend(cut_storage(storage, views.get(use.key, ())))
        offset += storage_nbytes
    if offset != nbytes:
        raise NotThisFormat("more bytes than storages")
    return spans
