"""Owns the pipeline: batches of sources become packs; raw content is freed once its pack is published.

The pack lock is held for the time of a batch, so that one process writes packs at a time and no collection runs
meanwhile.

What is wrong with one file is noted as its failure, and the others go on. A disk that is full or fails and a catalog
that cannot be written concern all of them, and end the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from zipfs.bases import CandidateSearch
from zipfs.errors import CatalogUnreadable, NoSpace, NotWritable, Stopped, StoreBusy, ZipfsError
from zipfs.ingest.batch import Batch
from zipfs.ingest.execute import PackExecution
from zipfs.ingest.optimize.after_ingest import rebase_after_ingest
from zipfs.ingest.optimize.rebase import Rebased
from zipfs.ingest.progress import Progress
from zipfs.ingest.source import NotWanted, Source, SourceError
from zipfs.ingest.verify import SourcesChanged
from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.disk.files import full_disk_told
from zipfs.store.disk.space import free_nbytes
from zipfs.store.objects.values import BlobId
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.store import Store

log = logging.getLogger(__name__)

BATCH_NBYTES = 1 << 30
_BATCH_FILES = 256
_REOPENS_S = 0.2
_SPACE_MARGIN_NBYTES = 4 << 20
"""For index, manifests and catalog, beyond the frames of a pack."""


class Pipeline:
    """Stores sources into one store. Run by one thread; `stop`, that of the store, may be set from any."""

    def __init__(self, store: Store, progress: Progress, *, threads: int = 2) -> None:
        self._store = store
        self._progress = progress
        self._search = CandidateSearch(store)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self.stop = store.stop
        self._joined: set[BlobId] = set()
        self._joined_nbytes = 0
        """Bases that got members since the last `rebase`, and the raw bytes of these."""

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def run(self, sources: Iterable[Source]) -> None:
        """Store each source. One that fails is told of through its `failed`.

        Raises NoSpace, NotWritable, CatalogUnreadable, StoreBusy, Stopped, OSError.
        """
        for group in self._batches(sources):
            self.stop.check()
            try:
                self._store_batch(group)
            except Exception as error:  # a smaller pack may still fit; all else concerns one of them
                if not _may_concern_one(error):
                    raise
                for source in group:
                    self._store_by_itself(source, error if len(group) == 1 else None)

    def rebase(self) -> Rebased:
        """Change over to better bases where families that have grown since the last time are still small.

        Raises StoreBusy, Stopped.
        """
        bases, joined_nbytes = self._joined, self._joined_nbytes
        self._joined, self._joined_nbytes = set(), 0
        return rebase_after_ingest(self._store, self._search.reader, self._executor, bases, joined_nbytes, self.stop)

    def _store_by_itself(self, source: Source, error: Exception | None) -> None:
        """Store one file, unless that has ended in `error` already. Raises NoSpace: the next would not fit either."""
        try:
            if error is not None:
                raise error
            self._store_batch([source])
        except Exception as failure:
            if not _may_concern_one(failure):
                raise
            self._fail(source, failure)
            if isinstance(failure, NoSpace):
                raise

    def _fail(self, source: Source, error: Exception) -> None:
        """Note why a file was not stored. One that was removed or opened for writing meanwhile is none that failed."""
        if isinstance(error, NotWanted) or (isinstance(error, SourceError) and not _stays_wanted(source)):
            log.info("%s", error)
            return
        if not isinstance(error, ZipfsError):
            log.error("%s could not be stored; that is a bug in ZipFS", source.shown, exc_info=error)
            error = SourceError(source.shown, f"could not be stored: a bug in ZipFS, {type(error).__name__}: {error}")
        try:
            source.failed(error)
        except (ZipfsError, OSError) as other:
            log.error("%s: its failure could not be noted: %s", source.shown, other)
        told = str(error) if isinstance(error, SourceError) else f"{source.shown}: {error}"
        self._progress.failed(source.shown, told)

    def _batches(self, sources: Iterable[Source]) -> Iterator[list[Source]]:
        batch: list[Source] = []
        nbytes = 0
        for source in sources:
            limit = min(BATCH_NBYTES, free_nbytes(self._store.path) // 2)
            if batch and (nbytes + source.nbytes > limit or len(batch) >= _BATCH_FILES):
                yield batch
                batch, nbytes = [], 0
            batch.append(source)
            nbytes += source.nbytes
        if batch:
            yield batch

    def _store_batch(self, sources: list[Source]) -> None:
        faults.point("ingest.begin")
        lock = self._store.lock("pack")
        changed: list[Source] = []
        with (
            full_disk_told(self._store.path),
            lock.held(
                "another process is compressing or collecting",
                waiting=lambda: self._progress.waiting("another process is compressing or collecting in this store"),
                stop=self.stop,
            ),
        ):
            self._clear_unfinished()
            self._search.begin()
            execution = PackExecution(self._store, self._executor, self._search)
            batch = Batch(execution, self._search, self._executor, self._progress, self.stop)
            try:
                for source in sources:
                    self._add(batch, source)
                execution.close()
                changed = self._publish(batch, execution)
            except BaseException:
                execution.abandon()
                raise
            finally:
                for source in sources:
                    source.close()
        if changed:
            # Blobs of theirs may be shared by others of the batch, so it is made once more without them.
            self._store_batch([source for source, _ in batch.files if not any(source is other for other in changed)])

    def _add(self, batch: Batch, source: Source) -> None:
        self.stop.check()
        try:
            source.open()
            if free_nbytes(self._store.path) < _SPACE_MARGIN_NBYTES:
                raise NoSpace(self._store.path, f"{free_nbytes(self._store.path) >> 10} KiB free")
            self._add_somehow(batch, source)
        except SourceError as error:
            self._fail(source, error)
        except (ZipfsError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  # a bug that one file brings to light keeps no other waiting
            self._fail(source, error)

    def _add_somehow(self, batch: Batch, source: Source) -> None:
        """Add a file to a batch: as plain bytes, if a bug in what finds tensors and their relatives is in the way."""
        self._progress.began(source.shown, source.nbytes)
        try:
            batch.add(source)
        except (ZipfsError, OSError):
            raise
        except Exception:
            log.exception("%s is stored as plain bytes, because of a bug in ZipFS", source.shown)
            self._progress.began(source.shown, source.nbytes)
            batch.add(source, plainly=True)

    def _publish(self, batch: Batch, execution: PackExecution) -> list[Source]:
        """Commit a batch; returns the sources that changed meanwhile, and nothing of it is committed if there are."""

        def write(txn: Transaction) -> None:
            if execution.pack is not None:
                self._search.write(txn)
            for source, stored in batch.files:
                source.commit(txn, stored)

        if execution.pack is None:
            with self._store.transaction(durable=True, fault="ingest") as txn:
                write(txn)
        else:
            try:
                published = execution.pack.publish(execution.verify, write)
            except SourcesChanged as error:
                for source, failure in error.changed:
                    self._fail(source, failure)
                return [source for source, _ in error.changed]
            self._note_joined(published.blobs)
        self._tell_stored(batch)
        return []

    def _note_joined(self, blobs: Iterable[PackedBlob]) -> None:
        for packed in blobs:
            if packed.blob.base is not None:
                self._joined.add(packed.blob.base.blob_id)
                self._joined_nbytes += packed.blob.nbytes

    def _tell_stored(self, batch: Batch) -> None:
        for source, _ in batch.files:
            try:
                source.done()
            except OSError as error:  # the next mount deletes what belongs to no file
                log.error("%s is stored, but its raw content could not be removed: %s", source.shown, error)
        for source, stored in batch.files:
            self._progress.stored(source.shown, stored.nbytes, stored.stored_nbytes)

    def _clear_unfinished(self) -> None:
        """Delete packs of a killed process: nothing refers to them, and the lock says that nobody is writing them."""
        self._store.packs.clear_unfinished()


def _stays_wanted(source: Source) -> bool:
    """Return whether a file that could not be read is to be stored still.

    One that is opened for writing again is another on the disk a moment before its row says so.
    """
    if source.wanted() and source.final:
        time.sleep(_REOPENS_S)
    return source.wanted()


def _may_concern_one(error: Exception) -> bool:
    """Return whether others can still be stored after an error. Of a full disk that is so where they are smaller."""
    return isinstance(error, NoSpace) or not isinstance(
        error, StoreBusy | Stopped | NotWritable | CatalogUnreadable | OSError
    )
