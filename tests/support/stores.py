"""Small stores for tests: content to put into them, and ways to look at what became of it.

Everything goes through the entry points that the product itself uses, with no mount.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.formats.hostile import container, entry
from zipfs.bases.planning.planner import Prices
from zipfs.errors import ZipfsError
from zipfs.ingest.import_tree import Import, find, put_directories
from zipfs.ingest.optimize.run import NO_LIMITS, Limits, Optimized, optimize
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import drain, seal_everything
from zipfs.ingest.spool import Spool
from zipfs.library import Library
from zipfs.reading import Reader, open_content
from zipfs.reading.content import open_older
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance import remove as removal
from zipfs.store.maintenance.check import check
from zipfs.store.maintenance.collect import Collected, collect
from zipfs.store.maintenance.problem import Problem
from zipfs.store.namespace import ingest_side, tree, writing
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Area, Inode, InodeId, Kind, State
from zipfs.store.store import Store, open_store
from zipfs.vfs.writable_files import Beginning, Reopening

Tensor = tuple[str, Sequence[int], bytes]
"""dtype, shape, raw bytes."""


@dataclass(slots=True)
class Listener:
    """A Progress that remembers what it was told."""

    waited: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def waiting(self, why: str) -> None:
        self.waited.append(why)

    def began(self, shown: str, nbytes: int) -> None:
        return

    def advanced(self, nbytes: int) -> None:
        return

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None:
        self.files.append(shown)

    def failed(self, shown: str, message: str) -> None:
        self.failures.append(message)


# Content


def noise(nbytes: int, seed: int = 0) -> bytes:
    """Bytes that no codec makes smaller."""
    return np.random.default_rng(seed).bytes(nbytes)


def weights(items: int, seed: int = 0) -> bytes:
    """BF16 items as a model has them."""
    values = np.random.default_rng(seed).normal(0, 0.05, items).astype("<f4")
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def tuned(base: bytes, seed: int = 1) -> bytes:
    """BF16 items that differ from `base` in their last bits."""
    items = np.frombuffer(base, "<u2")
    change = np.random.default_rng(seed).integers(0, 3, items.size, dtype="<u2")
    return (items ^ change).tobytes()


def changed(base: bytes, bits: int, share: float, seed: int) -> bytes:
    """BF16 items of which a share differs from `base` in its last bits."""
    items = np.frombuffer(base, "<u2")
    rng = np.random.default_rng(seed)
    change = rng.integers(0, 1 << bits, items.size, dtype="<u2") * (rng.random(items.size) < share)
    turned: bytes = (items ^ change.astype("<u2")).tobytes()
    return turned


def badly_based_family(items: int, members: int = 7) -> dict[bytes, bytes]:
    """Models of which the first, against which the others are coded as they come, is farther from them than they are
    from each other.
    """
    outlier = weights(items, 77)  # recorded plans hold the bytes of these models, the name of the tensor among them
    centre = changed(outlier, 4, 1.0, 78)
    others = {f"run/{n}".encode(): model(changed(centre, 2, 0.1, 80 + n), "kin") for n in range(1, members)}
    return {b"run/0": model(outlier, "kin"), **others}


def widened(raw: bytes) -> bytes:
    """F32 items that `raw`, BF16, might have been rounded from."""
    low = np.random.default_rng(2).integers(0, 0x8000, len(raw) // 2, dtype="<u4")
    return ((np.frombuffer(raw, "<u2").astype("<u4") << 16) | low).tobytes()


def tensor_file(tensors: Mapping[str, Tensor], pad: int = 0) -> bytes:
    """A safetensors file; `pad` spaces make its header longer."""
    header: dict[str, object] = {}
    end = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = entry(dtype, shape, end, end + len(raw))
        end += len(raw)
    return container(json.dumps(header) + " " * pad, b"".join(raw for _, _, raw in tensors.values()))


def model(raw: bytes, name: str = "w") -> bytes:
    """A safetensors file of one BF16 tensor."""
    return tensor_file({name: ("BF16", [len(raw) // 2], raw)})


def write_tree(root: Path, files: Mapping[bytes, bytes]) -> Path:
    """Files on the host, with the directories that they need."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


# Putting it in


def run(store: Store, found: Import, listener: Listener | None = None) -> Listener:
    """Store what was found, as `zipfs ingest` does."""
    listener = listener or Listener()
    pipeline = Pipeline(store, listener)
    try:
        pipeline.run(found.sources)
        put_directories(store, found)
    finally:
        pipeline.close()
    return listener


def import_path(store: Store, path: Path, served: bytes, listener: Listener | None = None) -> Listener:
    """`zipfs ingest STORE PATH --as SERVED`."""
    return run(store, find(store, path, served), listener)


def put_file(store: Store, scratch: Path, served: bytes, content: bytes) -> Listener:
    """Store one file; `scratch` is a directory for the host's copy of it."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "content"
    path.write_bytes(content)
    try:
        return import_path(store, path, served)
    finally:
        path.unlink()


def make_store(root: Path, files: Mapping[bytes, bytes]) -> Path:
    """A store below `root` with some files, put in one after the other."""
    root.mkdir(exist_ok=True)
    path = root / "store"
    with open_store(path, create=True) as store:
        for name, content in files.items():
            put_file(store, root, name, content)
    return path


def ingest_directory(store: Store, path: bytes) -> InodeId:
    """The directory `path` below `ingest/`, made where it is missing."""
    parent = INGEST_ROOT
    for name in tree.components(path):
        with store.transaction() as txn:
            found = txn.catalog.entry(parent, name)
            if found is None:
                inode = ingest_side.create(txn, parent, name, Kind.DIRECTORY, 0o755, 0, 0)
                parent = inode.id
            else:
                parent = found.inode_id
    return parent


def copy_in(store: Store, served: bytes, content: bytes, *, durable: bool = False) -> Inode:
    """What a `cp` to `ingest/SERVED` does through a mount: a pending file, not sealed."""
    parent = ingest_directory(store, os.path.dirname(served))
    name = os.path.basename(served)
    spool = Spool(store, 0)
    existing = store.catalog.entry(parent, name)
    if existing is not None:
        inode = store.catalog.inode(existing.inode_id)
        if inode.state is not State.OPEN:
            inode = open_again(store, inode, under_ingest=True, emptied=True)
    else:
        with store.transaction() as txn:
            inode = ingest_side.create(txn, parent, name, Kind.FILE, 0o644, 0, 0)
    write_open(spool, inode, 0, content, emptied=True)
    if durable:
        spool.acquire(inode, writing=False)
        spool.sync(inode)
        spool.release(inode, writing=False)
        store.sync()
    return inode


def write_open(spool: Spool, inode: Inode, offset: int, content: bytes, *, emptied: bool = False) -> None:
    """Open a file in the spool through which nothing shows, write to it, and close it."""
    spool.acquire(inode, writing=True, fresh=True)
    if emptied:
        spool.truncate(inode, 0)
    if content:
        spool.write(inode, offset, content)
    spool.release(inode, writing=True)


def open_again(store: Store, inode: Inode, *, under_ingest: bool, emptied: bool, apart: bool | None = None) -> Inode:
    """What opening finished content for writing does through a mount; returns the inode that is open now."""
    is_apart = under_ingest if apart is None else apart
    if emptied:
        begins = Beginning.EMPTY
    elif inode.state is State.STORED:
        begins = Beginning.HOLE
    else:
        begins = Beginning.COPY if is_apart else Beginning.SAME
    with Reader(store.frames) as reader:
        content = open_content(store, reader, inode) if begins is Beginning.COPY else None
        number = store.reserve_inode_id()
        reopening = Reopening(store, Spool(store, 0), inode, number, under_ingest, is_apart, begins, content)
        reopening.prepare()
        with store.transaction(fault="reopen") as txn:
            change = reopening.make(txn)
        reopening.close()
    assert change.inode is not None
    removal.free_spool(store, change.gone)
    return change.inode


def write_over(store: Store, inode: Inode, offset: int, content: bytes) -> None:
    """What writing to a file that is open does through a mount, also where something stored shows through it."""
    spool = Spool(store, 0)
    with Reader(store.frames) as reader:
        spool.acquire(inode, writing=True, open_older=lambda: open_older(store, reader, inode))
        spool.write(inode, offset, content)
        spool.release(inode, writing=True)


def cut_off(store: Store, inode: Inode, nbytes: int) -> None:
    """What truncating a file that is open does through a mount."""
    spool = Spool(store, 0)
    with Reader(store.frames) as reader:
        spool.acquire(inode, writing=True, open_older=lambda: open_older(store, reader, inode))
        shown_nbytes = spool.truncate(inode, nbytes)
        if shown_nbytes is not None:
            with store.transaction(fault="clip") as txn:
                writing.clip(txn, inode.id, shown_nbytes)
            spool.clip_recorded(inode, shown_nbytes)
        spool.release(inode, writing=True)


def create_served(store: Store, name: bytes, content: bytes) -> Inode:
    """What making a file at the top of the served tree does through a mount."""
    with store.transaction() as txn:
        inode = tree.make(txn, ROOT, name, Kind.FILE, Event.CREATE_SERVED, 0o644, 0, 0)
    write_open(Spool(store, 0), inode, 0, content)
    return inode


def compress(store: Store) -> Listener:
    """Seal what is pending and compress what is sealed."""
    seal_everything(store)
    listener = Listener()
    pipeline = Pipeline(store, listener)
    try:
        drain(store, pipeline)
    finally:
        pipeline.close()
    return listener


def remove(store: Store, path: bytes) -> None:
    removal.remove(store, path)


def collect_garbage(store: Store) -> Collected:
    with store.lock("pack").held("", waiting=None):
        return collect(store)


FREE = Prices(member=0.0, base=0.0, moved=0.0, run=0.0)
"""With these every byte that can be saved is."""


def optimize_all(store: Store, *, limits: Limits = NO_LIMITS, prices: Prices = FREE) -> Optimized:
    """`zipfs optimize STORE`, which by default does not shy at the work for a few bytes here."""
    return optimize(store, lambda what, done, total: None, limits=limits, stop=Stop(), prices=prices)


# Looking at it


def contents(path: Path) -> dict[bytes, bytes]:
    """Every served file of the store at `path`, read by a library that has nothing cached."""
    with Library(path) as library:
        nodes = list(library.walk(library.node("")))
        return {node.path: library.read(node.path) for node in nodes if node.inode.kind is Kind.FILE}


def spooled(store: Store) -> dict[bytes, bytes]:
    """Every file below `ingest/`, at the path where it is to be served."""
    found = {}
    for path, inode in tree.walk(store.catalog, store.catalog.inode(INGEST_ROOT)):
        if inode.state is State.OPEN and not store.spool_path(inode).exists():
            found[path] = b""  # nothing was written yet
        elif inode.kind is Kind.FILE:
            with Reader(store.frames) as reader:
                content = open_content(store, reader, inode)
                found[path] = bytes(content.read(0, content.nbytes))
                content.close()
    return found


def served_inode(store: Store, path: bytes) -> Inode:
    return tree.resolve(store.catalog, path, ROOT)


def problems(store: Store) -> list[Problem]:
    """What a full check finds, but for what a kill leaves over."""
    return [problem for problem in check(store, read_data=True) if not problem.harmless]


def all_problems(path: Path) -> list[Problem]:
    """What `fsck --read-data` finds, leftovers included, as a reader that changes nothing."""
    with open_store(path, read_only=True) as store:
        return list(check(store, read_data=True))


def outcome(library: Library, path: bytes) -> bytes | ZipfsError:
    """The content of a file, or why it cannot be read; any other exception is a bug."""
    try:
        return library.read(path)
    except ZipfsError as error:
        return error


def pending_names(store: Store) -> set[tuple[bytes, Area]]:
    """Path and area of every entry below `ingest/` that is no directory."""
    found = set()
    pending: list[tuple[bytes, InodeId]] = [(b"", INGEST_ROOT)]
    while pending:
        prefix, directory = pending.pop()
        for item, inode in store.catalog.children(directory):
            path = prefix + b"/" + item.name if prefix else item.name
            if inode.is_directory:
                pending.append((path, inode.id))
            else:
                found.add((path, item.area))
    return found


def base_of(store: Store, path: bytes) -> list[int | None]:
    """For each extent of a file the id of its blob's base."""
    extents = store.catalog.extents(served_inode(store, path))
    bases = (store.catalog.blob(extent.blob_id).base for extent in extents)
    return [None if base is None else int(base.blob_id) for base in bases]


def blob_ids(store: Store, path: bytes) -> list[int]:
    """For each extent of a file the id of its blob."""
    return [int(extent.blob_id) for extent in store.catalog.extents(served_inode(store, path))]
