"""Owns the segments of the manifest log on disk.

Only the holder of the catalog's write transaction appends, so there is one writer across all processes. What the
catalog has not counted as applied lies beyond its `position`; `Catalog` decides what to do with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from zipfs.errors import ManifestDamaged, UnknownVersion
from zipfs.store.catalog import log_record
from zipfs.store.catalog.log_record import Record
from zipfs.store.disk import faults
from zipfs.store.disk.files import open_file, replace_file, sync_directory

SUFFIX = ".log"


class ManifestLog:
    """The `manifests/` directory of one store. Used by one thread at a time."""

    def __init__(self, directory: Path, store_id: bytes, *, read_only: bool = False) -> None:
        self.directory = directory
        self._store_id = store_id
        self._flags = os.O_RDONLY if read_only else os.O_RDWR
        self._segment = 0
        self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._segment = 0

    def path_of(self, segment: int) -> Path:
        return self.directory / f"{segment:020d}{SUFFIX}"

    def segments(self) -> list[int]:
        """Return the numbers of the segments on disk, oldest first."""
        stems = (path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _open(self, segment: int) -> int:
        if self._fd < 0 or segment != self._segment:
            self.close()
            self._fd = open_file(self.path_of(segment), self._flags)
            self._segment = segment
        return self._fd

    def nbytes(self, segment: int) -> int:
        """Return the length of a segment, 0 if it is missing."""
        try:
            return os.fstat(self._open(segment)).st_size
        except FileNotFoundError:
            return 0

    def append(self, segment: int, offset: int, data: bytes) -> None:
        """Write at the end of the log, which the caller knows to be `offset`. In the page cache on return."""
        fd = self._open(segment)
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]

    def truncate(self, segment: int, offset: int) -> None:
        os.ftruncate(self._open(segment), offset)

    def sync(self, segment: int) -> None:
        """Wait until every record appended so far is on disk, by whichever process."""
        os.fdatasync(self._open(segment))

    def read(self, segment: int, offset: int, end: int | None = None) -> Iterator[Record]:
        """Yield the records from `offset` (0: the start) on; raises ManifestDamaged at the first bad one."""
        where = str(self.path_of(segment))
        fd = self._open(segment)
        nbytes = os.fstat(fd).st_size if end is None else end
        if offset < log_record.SEGMENT_HEADER.size:
            self._check_header(os.pread(fd, log_record.SEGMENT_HEADER.size, 0), where)
            offset = log_record.SEGMENT_HEADER.size
        data = bytearray()
        at = offset
        while at < nbytes:
            chunk = os.pread(fd, min(nbytes - at, 1 << 24), at)
            if not chunk:
                break
            data += chunk
            at += len(chunk)
        return log_record.decode(bytes(data), where, offset)

    def _check_header(self, data: bytes, where: str) -> None:
        if len(data) != log_record.SEGMENT_HEADER.size:
            raise ManifestDamaged(where, 0, "shorter than a header")
        magic, version, reserved, store_id = log_record.SEGMENT_HEADER.unpack(data)
        if magic != log_record.SEGMENT_MAGIC or reserved != 0:
            raise ManifestDamaged(where, 0, "does not begin like a manifest log")
        if version > log_record.SEGMENT_VERSION:
            raise UnknownVersion(f"manifest log {where}", version, log_record.SEGMENT_VERSION)
        if version != log_record.SEGMENT_VERSION or store_id != self._store_id:
            raise ManifestDamaged(where, 0, "belongs to another store")

    def create(self, segment: int, records: Iterable[bytes]) -> int:
        """Start a segment with a snapshot, durably; returns its length in bytes."""
        path = self.path_of(segment)
        part = path.with_suffix(".part")
        try:
            with open(replace_file(part), "wb") as file:
                file.write(log_record.segment_header(self._store_id))
                file.writelines(records)
                file.flush()
                os.fsync(file.fileno())
                nbytes = file.tell()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        faults.point("gc.snapshot-synced")
        if segment == self._segment:
            self.close()
        os.rename(part, path)
        sync_directory(self.directory)
        faults.point("gc.snapshot-renamed")
        return nbytes

    def drop_except(self, segment: int) -> None:
        """Delete every other segment and what is left of interrupted snapshots."""
        for other in self.segments():
            if other != segment:
                self.path_of(other).unlink(missing_ok=True)
        for part in self.directory.glob("*.part"):
            part.unlink(missing_ok=True)
