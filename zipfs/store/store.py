"""A store on disk: its directory, and the ways to open, create and look into it.

ZIPFS           marks the directory as a store and names its format and id
catalog.db      SQLite; can be rebuilt
manifests/      the log of everything in the tree
packs/          frames
spool/          raw content that is not compressed yet, one file per inode id
reserve         room for removals on a full disk
locks/  log/
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from zipfs.errors import Damaged, NotAllowed, NotAStore, StoreBusy, UnknownVersion
from zipfs.store.catalog import log_record
from zipfs.store.catalog.creation import create_catalog, migrate_catalog
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog, retrying
from zipfs.store.catalog.transaction import redo, transaction
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk.access import close_to_others, require_ours, who_owns
from zipfs.store.disk.files import check_directory, make_directory, open_file, replace_file, sync_directory
from zipfs.store.disk.locks import FileLock
from zipfs.store.disk.reserve import Reserve
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.cache import FrameCache, OpenBlob, open_blob
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, BlobId, Inode, InodeId, Kind, State
from zipfs.store.packs.backend import PackBackend
from zipfs.store.packs.local import LocalPacks

FORMAT: Final = 3
MARKER: Final = "ZIPFS"
CATALOG: Final = "catalog.db"
RESERVE: Final = "reserve"
_MARKER_NBYTES_AT_MOST: Final = 4096
_DIRECTORIES: Final = ("manifests", "packs", "spool", "locks", "log")
_DEFAULT_CACHE_NBYTES: Final = 64 << 20


class Store:
    """An open store. `catalog` belongs to the thread that opened it; `session` gives another thread its own.

    Once `stop` is set, whatever takes long in it ends with Stopped.
    """

    def __init__(
        self,
        path: Path,
        store_id: bytes,
        *,
        read_only: bool,
        cache_nbytes: int,
        use: FileLock,
        packs: PackBackend | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._use = use
        self.stop = stop or Stop()
        self.path = path
        self.id = store_id
        self.read_only = read_only
        self.packs = packs or LocalPacks(path / "packs")
        self.frames = FrameCache(cache_nbytes)
        self.reserve = Reserve(path / RESERVE)
        self.manifests = ManifestLog(path / "manifests", store_id, read_only=read_only)
        self.catalog = Catalog(path / CATALOG, read_only=read_only, stop=self.stop)

    @property
    def log_path(self) -> Path:
        return self.path / "log" / "zipfs.log"

    def spool_path(self, inode_id: InodeId) -> Path:
        return self.path / "spool" / str(inode_id)

    def lock(self, name: str) -> FileLock:
        """One of the locks that `locks.py` lists."""
        return FileLock(self.path / "locks" / name)

    @contextmanager
    def transaction(self, *, durable: bool = False, fault: str = "") -> Iterator[Transaction]:
        """See `transaction.transaction`."""
        with transaction(self.catalog, self.manifests, self.packs, durable=durable, fault=fault) as txn:
            yield txn

    def sync(self) -> None:
        """On return every committed transaction is safe from a power cut."""
        # A segment that is gone was replaced by a snapshot, which was on the disk before.
        with suppress(FileNotFoundError):
            self.manifests.sync(self.catalog.position().segment)

    def reserve_blob_id(self) -> BlobId:
        """An id that no other blob will ever have."""
        return BlobId(self.catalog.next_id("blob"))

    def reserve_inode_id(self) -> InodeId:
        """An id that no other inode will ever have."""
        return InodeId(self.catalog.next_id("inode"))

    def open_blob(self, blob_id: BlobId) -> OpenBlob:
        """A blob in its present form, for a thread that is in no transaction. Raises CatalogDamaged, Damaged."""

        def attempt() -> OpenBlob:
            # Of one moment: a blob and its base may change places.
            with self.catalog.snapshot():
                return open_blob(self.packs.open, self.catalog.blob(blob_id), self.catalog.blob)

        return retrying(attempt)

    def recover(self) -> None:
        """Apply what a killed process had logged and not committed."""
        position = self.catalog.position()
        if self.manifests.nbytes(position.segment) != position.offset:
            with self.transaction():
                redo(self.catalog, self.manifests, self.packs)

    def session(self) -> Store:
        """The same store with a catalog and a log of its own, sharing packs and decoded frames: for another thread."""
        use = FileLock(self.path / "locks" / "use")
        other = Store(
            self.path,
            self.id,
            read_only=self.read_only,
            cache_nbytes=0,
            use=use,
            packs=self.packs,
            stop=self.stop,
        )
        other.frames = self.frames
        other.reserve = self.reserve
        return other

    def close(self) -> None:
        self.catalog.close()
        self.manifests.close()
        self._use.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_store(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path / MARKER, follow_symlinks=False).st_mode)
    except PermissionError as error:
        raise NotAllowed(path, f"it belongs to {who_owns(path)} and is closed to others") from error
    except OSError:
        return False


def read_marker(path: Path) -> bytes:
    """The id of the store at `path`; raises NotAStore or UnknownVersion."""
    try:
        with open(open_file(path / MARKER), "rb") as file:
            document = json.loads(file.read(_MARKER_NBYTES_AT_MOST))
        version, store_id = int(document["format"]), bytes.fromhex(document["id"])
    except FileNotFoundError:
        reason = "there is no such directory" if not path.exists() else "it has no file ZIPFS"
        raise NotAStore(path, reason) from None
    except NotADirectoryError:
        raise NotAStore(path, "it is a file") from None
    except NotAllowed as error:
        raise NotAllowed(path, f"it belongs to {who_owns(path)} and is closed to others") from error
    except (Damaged, ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
        raise NotAStore(path, f"its file ZIPFS cannot be read ({error})") from error
    if version > FORMAT:
        raise UnknownVersion(f"store {path}", version, FORMAT)
    if len(store_id) != 16:
        raise NotAStore(path, "its file ZIPFS holds no id")
    return store_id


def create_store(path: Path) -> None:
    """Make `path` a store. Raises NotAStore if it holds something else. Running it again after a kill completes it."""
    try:
        if not path.is_dir():  # a link to a directory elsewhere is fine: whoever names the store may name that
            make_directory(path)
    except FileNotFoundError:
        raise NotAStore(path, f"there is no directory {path.parent} to make it in; is its disk there?") from None
    except (FileExistsError, NotADirectoryError, Damaged):
        raise NotAStore(path, "it is a file, or would lie below one") from None
    require_ours(path)
    leftovers = {*_DIRECTORIES, f"{MARKER}.part"}
    others = sorted(
        set(os.listdir(path)) - leftovers - {name for name in os.listdir(path) if name.startswith("catalog.db")}
    )
    if others and others != ["lost+found"]:
        raise NotAStore(path, f"it holds other files ({others[0]}), so no new store is made in it")
    for name in _DIRECTORIES:
        make_directory(path / name)
    close_to_others(path)
    store_id = uuid.uuid4().bytes
    ManifestLog(path / "manifests", store_id).create(1, [_roots()])
    create_catalog(path / CATALOG, store_id)
    with Store(path, store_id, read_only=False, cache_nbytes=0, use=FileLock(path / "locks" / "use")) as store:
        store.recover()
    _write_marker(path, store_id)


def _write_marker(path: Path, store_id: bytes) -> None:
    part = path / f"{MARKER}.part"
    with open(replace_file(part), "w") as file:
        json.dump({"format": FORMAT, "id": store_id.hex()}, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path / MARKER)
    sync_directory(path)


def _roots() -> bytes:
    """The first record: the two directories that are always there."""
    now = tree.now_ns()
    changes = Changes(next_inode=INGEST_ROOT + 1, next_blob=1)
    for inode_id in (ROOT, INGEST_ROOT):
        changes.inodes[inode_id] = Inode(
            inode_id, Kind.DIRECTORY, State.NONE, 0o755, os.getuid(), os.getgid(), 0, now, now
        )
    return log_record.encode(changes, 1, log_record.SNAPSHOT | log_record.SNAPSHOT_END)


def open_store(
    path: Path,
    *,
    create: bool = False,
    read_only: bool = False,
    cache_nbytes: int = _DEFAULT_CACHE_NBYTES,
    packs: PackBackend | None = None,
    stop: Stop | None = None,
) -> Store:
    """The store at `path`, kept from being rebuilt as long as it is open. Work in it ends soon once `stop` is set.

    Its packs are in its directory `packs`, unless another backend is given.

    With `create`, a missing or empty directory becomes a store. Only its owner (and root) may open it for writing,
    which closes it to all others. Raises NotAStore, NotAllowed, StoreBusy, UnknownVersion, Damaged.
    """
    if create and not is_store(path):
        create_store(path)
    store_id = read_marker(path)
    admit(path, read_only=read_only)
    use = FileLock(path / "locks" / "use")
    if not use.try_acquire(shared=True, read_only=read_only):
        raise StoreBusy(path, "its catalog is being rebuilt; try again when that is done")
    try:
        if not read_only:
            if not (path / CATALOG).exists():
                raise NotAStore(path, "its catalog is missing; `zipfs rebuild` makes a new one")
            # The marker first: an older ZipFS would make a catalog of its own and take packs that it cannot read for
            # damaged.
            migrate_catalog(path / CATALOG, lambda: _write_marker(path, store_id))
        store = Store(path, store_id, read_only=read_only, cache_nbytes=cache_nbytes, use=use, packs=packs, stop=stop)
        store.catalog.check_belongs(store_id)
        if not read_only:
            store.recover()
    except BaseException:
        use.release()
        raise
    return store


def admit(path: Path, *, read_only: bool) -> None:
    """Look at a store before anything in it is opened. Raises Damaged, NotAllowed."""
    for name in _DIRECTORIES:
        check_directory(path / name)
    if not read_only:
        require_ours(path)
        close_to_others(path)
