"""An open store: what lies in its directory, opened together, and the ways to look into it and to change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from zipfs.errors import NotAStore, StoreBusy
from zipfs.store.catalog.creation import migrate_catalog
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog, retrying
from zipfs.store.catalog.transaction import transaction
from zipfs.store.catalog.writes import Transaction
from zipfs.store.directory import CATALOG, RESERVE, admit, create_store
from zipfs.store.disk.locks import FileLock
from zipfs.store.disk.reserve import Reserve
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob, OpenBlobs, open_blob
from zipfs.store.marker import is_store, read_marker, write_marker
from zipfs.store.objects.values import BlobId, Inode, InodeId, State
from zipfs.store.packs.backend import PackBackend
from zipfs.store.packs.local import LocalPacks

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
        frames: FrameCache,
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
        self.frames = frames
        self.reserve = Reserve(path / RESERVE)
        self.manifests = ManifestLog(path / "manifests", store_id, read_only=read_only)
        self.catalog = Catalog(path / CATALOG, read_only=read_only, stop=self.stop)

    @property
    def spool_directory(self) -> Path:
        """Return the directory of the spool files."""
        return self.path / "spool"

    def spool_path(self, inode: Inode) -> Path:
        """Return the path of the spool file of a file that has one."""
        return self.spool_directory / str(inode.spool_number)

    def content_nbytes(self, inode: Inode) -> int:
        """Return how many bytes a file has: of content that may still change, its spool file knows."""
        if inode.state is State.OPEN:
            with suppress(FileNotFoundError):  # it has just been compressed
                return self.spool_path(inode).stat().st_size
        return inode.nbytes

    def lock(self, name: str) -> FileLock:
        """Return one of the locks that `disk/locks.py` lists."""
        return FileLock(self.path / "locks" / name)

    @contextmanager
    def transaction(self, *, durable: bool = False, fault: str = "") -> Iterator[Transaction]:
        """Begin a transaction of this store; see `catalog/transaction.py`."""
        with transaction(self.catalog, self.manifests, self.packs, durable=durable, fault=fault) as txn:
            yield txn

    def sync(self) -> None:
        """Make every committed transaction safe from a power cut."""
        # A segment that is gone was replaced by a snapshot, which was on the disk before.
        with suppress(FileNotFoundError):
            self.manifests.sync(self.catalog.position().segment)

    def reserve_blob_id(self) -> BlobId:
        """Return an id that no other blob will ever have."""
        return BlobId(self.catalog.next_id("blob"))

    def reserve_inode_id(self) -> InodeId:
        """Return an id that no other inode will ever have."""
        return InodeId(self.catalog.next_id("inode"))

    def open_blob(self, blob_id: BlobId) -> OpenBlob:
        """Open a blob in its present form, for a thread that is in no transaction. Raises CatalogDamaged, Damaged."""

        def attempt() -> OpenBlob:
            # Of one moment: a blob and its base may change places.
            with self.catalog.snapshot():
                return open_blob(self.packs.open, self.catalog.blob(blob_id), self.catalog.blob)

        return retrying(attempt)

    def open_blobs(self, blob_ids: Sequence[BlobId]) -> OpenBlobs:
        """Open some blobs in their present forms, for a thread that is in no transaction; those that are gone are not
        in it. Raises CatalogDamaged, Damaged; `OpenBlobs` says what it raises when one is asked for.
        """

        def attempt() -> OpenBlobs:
            with self.catalog.snapshot():
                rows = self.catalog.blobs_with_bases(blob_ids)
                return OpenBlobs(rows, {name: self.packs.open(name) for name in rows.packs})

        return retrying(attempt)

    def recover(self) -> None:
        """Apply what a killed process had logged and not committed."""
        position = self.catalog.position()
        if self.manifests.nbytes(position.segment) != position.offset:
            with self.transaction():
                pass  # applies what is in the log

    def session(self) -> Store:
        """Open this store for another thread, with its own catalog and log; packs and decoded frames are shared."""
        use = FileLock(self.path / "locks" / "use")
        other = Store(
            self.path,
            self.id,
            read_only=self.read_only,
            frames=self.frames,
            use=use,
            packs=self.packs,
            stop=self.stop,
        )
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


def open_store(
    path: Path,
    *,
    create: bool = False,
    read_only: bool = False,
    cache_nbytes: int = _DEFAULT_CACHE_NBYTES,
    packs: PackBackend | None = None,
    stop: Stop | None = None,
) -> Store:
    """Open the store at `path`; it cannot be rebuilt as long as it is open. Work in it ends soon once `stop` is set.

    With `create`, a missing or empty directory becomes a store. Its packs lie in its directory `packs`, unless another
    backend is given. Only its owner and root may open it for writing, which closes it to all others.

    Raises NotAStore, NotAllowed, StoreBusy, UnknownVersion, Damaged.
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
            migrate_catalog(path / CATALOG, lambda: write_marker(path, store_id))
        frames = FrameCache(cache_nbytes)
        store = Store(path, store_id, read_only=read_only, frames=frames, use=use, packs=packs, stop=stop)
    except BaseException:
        use.release()
        raise
    try:
        store.catalog.check_belongs(store_id)
        if not read_only:
            store.recover()
    except BaseException:
        store.close()
        raise
    return store
