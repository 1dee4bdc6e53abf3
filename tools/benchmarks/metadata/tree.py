"""The tree that tools/bench metadata measures: what it holds, put into a store and onto a disk.

A plausible hub: many models with a few files each, some directories of a thousand checkpoints, and one that holds half
of all files. A file of the store is one extent of a blob that all files share, so that a hundred thousand of them are
made in seconds, by the store's own transactions, and `zipfs fsck` finds nothing wrong with them. Its twin on a disk is
a sparse file of the same size.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tools.benchmarks.put_files import ingest
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.columns import layout_sum
from zipfs.store.objects.values import INGEST_ROOT, Area, Entry, Extent, Inode, InodeId, Kind, State
from zipfs.store.store import Store

CONTENT_NBYTES = 1 << 16
_MODEL_FILES = (
    b"config.json", b"generation_config.json", b"model-00001-of-00003.safetensors", b"model-00002-of-00003.safetensors",
    b"model-00003-of-00003.safetensors", b"model.safetensors.index.json", b"tokenizer.json", b"tokenizer_config.json",
    b"README.md", b".gitattributes",
)  # fmt: skip
_MODELS_OF_AN_ORGANISATION = 40
_CHECKPOINTS = 1000
_ROWS_AT_ONCE = 5000
_EPOCH_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class File:
    """A file of the tree; `number` tells its size and time."""

    directory: bytes
    name: bytes
    number: int

    @property
    def nbytes(self) -> int:
        return 1 + self.number * 7919 % CONTENT_NBYTES

    @property
    def mtime_ns(self) -> int:
        return _EPOCH_NS + self.number * 1_000_000_007

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name


def plan_tree(files: int) -> list[File]:
    """So many files: half in one directory, some hundredths in directories of checkpoints, the others in models."""
    huge = files // 2
    runs = files * 3 // 100 // _CHECKPOINTS
    places = [(b"datasets/one-huge-directory", b"shard-%06d.safetensors" % i) for i in range(huge)]
    places += [(b"runs/run-%03d" % i, b"step-%07d.safetensors" % j) for i in range(runs) for j in range(_CHECKPOINTS)]
    places += list(islice(_models(), files - len(places)))
    return [File(directory, name, number) for number, (directory, name) in enumerate(places)]


def _models() -> Iterator[tuple[bytes, bytes]]:
    chance = random.Random(1)
    model = 0
    while True:
        directory = b"organisation-%03d/model-%05d" % (model // _MODELS_OF_AN_ORGANISATION, model)
        for name in _MODEL_FILES[: chance.randint(5, len(_MODEL_FILES))]:
            yield directory, name
        model += 1


def fill_store(store: Store, files: list[File], scratch: Path, advance: Callable[[int], None]) -> None:
    """Put the tree into a store that has nothing at its paths. `scratch` is a directory for one small file."""
    content = scratch / "content"
    content.write_bytes(random.Random(2).randbytes(CONTENT_NBYTES))
    ingest(store, content, "content")
    (whole,) = store.catalog.extents(tree.resolve(store.catalog, b"content"))
    directories: dict[bytes, InodeId] = {}
    for start in range(0, len(files), _ROWS_AT_ONCE):
        with store.transaction() as txn:
            group = files[start : start + _ROWS_AT_ONCE]
            for file in group:
                if file.directory not in directories:
                    directories[file.directory] = tree.make_directories(txn, file.directory)
                _put_stored(txn, directories[file.directory], file, whole)
        advance(len(group))


def _put_stored(txn: Transaction, parent_id: InodeId, file: File, whole: Extent) -> None:
    extents = (Extent(0, file.nbytes, whole.blob_id, 0),)
    inode = Inode(
        txn.new_inode_id(), Kind.FILE, State.STORED, 0o644, 0, 0, file.nbytes, file.mtime_ns, file.mtime_ns,
        layout_sum=layout_sum(extents),
    )  # fmt: skip
    txn.put_inode(inode)
    txn.put_extents(inode.id, extents)
    txn.put_entry(Entry(parent_id, file.name, inode.id, Area.SERVED))


def fill_ingest(store: Store, files: int, advance: Callable[[int], None]) -> None:
    """Put files below `ingest/` whose names say that they are not finished: they wait there, whatever a mount does."""
    parent_id = INGEST_ROOT
    for start in range(0, files, _ROWS_AT_ONCE):
        with store.transaction() as txn:
            if parent_id == INGEST_ROOT:
                parent_id = ingest_side.create(txn, INGEST_ROOT, b"arriving", Kind.DIRECTORY, 0o755, 0, 0).id
            numbers = range(start, min(files, start + _ROWS_AT_ONCE))
            for number in numbers:
                name = b"shard-%06d.safetensors.incomplete" % number
                inode = tree.new_inode(txn, Kind.FILE, Event.CREATE, 0o644, 0, 0)
                txn.put_entry(Entry(parent_id, name, inode.id, Area.PENDING))
                store.spool_path(inode).write_bytes(b"%d" % number)
        advance(len(numbers))


def fill_disk(top: Path, files: list[File], advance: Callable[[int], None]) -> None:
    """The same tree as sparse files."""
    made: set[bytes] = set()
    for at, file in enumerate(files, start=1):
        directory = os.path.join(os.fsencode(top), file.directory)
        if file.directory not in made:
            os.makedirs(directory, exist_ok=True)
            made.add(file.directory)
        path = os.path.join(directory, file.name)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        os.truncate(fd, file.nbytes)
        os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))
        os.close(fd)
        if at % 1000 == 0 or at == len(files):
            advance((at - 1) % 1000 + 1)
