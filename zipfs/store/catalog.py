"""The catalog: what can be asked of it.

The catalog is a view of the manifest log and the packs, kept in SQLite for its queries: it can be lost and made anew.
A `Catalog` is used by one thread at a time; open one per thread. `Transaction` in `transaction.py` is the only way to
change it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from zipfs.codec import Cast
from zipfs.errors import CatalogDamaged, Damaged, NotFound
from zipfs.store import record
from zipfs.store.database import Database, rows_made_values
from zipfs.store.rows import (
    Area,
    BaseRef,
    Blob,
    BlobId,
    Entry,
    Extent,
    Inode,
    InodeId,
    Kind,
    PackName,
    State,
    frame_count,
    is_name,
    is_possible,
    is_size,
    layout_sum,
    row_sum,
)
from zipfs.store.stopping import Stop
from zipfs.store.view import View

T = TypeVar("T")

_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in State}
INODE_COLUMNS = (
    "id, kind, state, mode, uid, gid, nbytes, mtime_ns, ctime_ns, target, stored_nbytes, sha256, layout_sum, atime_ns,"
    " sum"
)
_SUM_COLUMN = 14
_ENTRY_COLUMNS = "parent_id, name, inode_id, area, sum"
_JOINED_COLUMNS = ", ".join(
    [f"entries.{column}" for column in _ENTRY_COLUMNS.split(", ")]
    + [f"inodes.{column}" for column in INODE_COLUMNS.split(", ")]
)
# An index alone answers how many names an inode has in both trees; which of them are in one, the rows must tell.
_NAMES = "(SELECT count(*) FROM entries AS names WHERE names.inode_id = inodes.id)"
NAMES_AT_ONCE = 32
_USER_XATTR = b"user."
# SQLite takes a partial index only for a query that repeats its condition; without, it reads the whole table.
_IN_AREA = "area <> 0 AND area = ?1"
_IN_SPOOL = "state IN ('open', 'sealed') AND state = ?1"
_SELECT_INODE = f"SELECT {INODE_COLUMNS} FROM inodes WHERE id = ?"
_SELECT_INODE_AND_NAMES = f"SELECT {INODE_COLUMNS}, {_NAMES} FROM inodes WHERE id = ?"
_SELECT_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE parent_id = ? AND name = ?"
_SELECT_ENTRIES_OF = f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE inode_id = ?"
_ON_SIDE = {False: "area = 0", True: "area > 0"}
_SELECT_NEXT_PARENT = (
    "SELECT min(parent_id) FROM entries WHERE inode_id = ?1 AND area = ?2 AND parent_id > ?3"  # one step in the index
)
_SELECT_CHILDREN = (
    f"SELECT {_JOINED_COLUMNS} FROM entries JOIN inodes ON inodes.id = inode_id WHERE parent_id = ? ORDER BY name"
)
_SELECT_NAMED = (
    f"SELECT {_JOINED_COLUMNS}, {_NAMES} FROM entries JOIN inodes ON inodes.id = inode_id WHERE parent_id = ?"
)
_SELECT_ONE_NAMED = f"{_SELECT_NAMED} AND name = ?"
# SQLite keeps the plan of each: one with room for more names than are asked for takes as long as if they were.
_SELECT_SOME_NAMED = [f"{_SELECT_NAMED} AND name IN ({', '.join('?' * n)})" for n in range(NAMES_AT_ONCE + 1)]
_SELECT_BLOBS = (
    "SELECT blobs.id, blobs.nbytes, fingerprint, dtype, shape, base_id, base_offset, {view}, packs.name, pack_offset,"
    " frames, stored_nbytes FROM blobs JOIN packs ON packs.id = pack_id"
)
_PACK_COLUMN = 9
_PRELOADED_ROWS = 1 << 14
# What is looked at is what SQLite reads the pages for.
_PRELOAD_NAMES = (
    "SELECT max(part) FROM (SELECT inodes.mtime_ns + entries.sum AS part FROM inodes JOIN entries"
    " ON entries.inode_id = inodes.id ORDER BY inodes.id DESC LIMIT ?)"
)
_PRELOAD_CONTENTS = (
    "SELECT max(part) FROM (SELECT own.pack_offset + packs.nbytes + coalesce(bases.pack_offset, 0) AS part FROM extents"
    " JOIN blobs AS own ON own.id = blob_id JOIN packs ON packs.id = own.pack_id"
    " LEFT JOIN blobs AS bases ON bases.id = own.base_id ORDER BY inode_id DESC LIMIT ?)"
)
_SELECT_NEWEST_MEMBER = (
    "SELECT inode_id FROM extents WHERE blob_id ="
    " (SELECT id FROM blobs NOT INDEXED WHERE base_id IS NOT NULL ORDER BY id DESC LIMIT 1) LIMIT 1"
)
_SELECT_NEWEST_STORED = "SELECT inode_id FROM extents ORDER BY inode_id DESC LIMIT 1"
WHOLE_VIEW = "base_offset = 0 AND base_nbytes = blobs.nbytes AND base_cast = ''"
"""Of a blob with a base: whether each byte is coded against the byte of the base at the same place."""
SOUND_SIGNATURE = "typeof(signature) = 'blob' AND length(signature) = 32"
"""SQLite keeps the type of a value beside it; after a flipped bit it may be another one."""
_VIEW_COLUMNS = "base_nbytes, base_cast"
_VIEW_BEFORE_VIEWS = "blobs.nbytes, ''"
"""The same of a catalog that was opened read-only and lacks the migration `0002-views`."""


class Position(NamedTuple):
    """How far into the manifest log a catalog has come."""

    segment: int
    offset: int
    seq: int


def _blob_column(value: object) -> bytes:
    """SQLite keeps the type of a value beside it; after a flipped bit it may be another one."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value


def _view(offset: int, nbytes: int, cast: str) -> View:
    _check_integers(offset, nbytes)
    return View(offset, nbytes, Cast.from_text(cast) if cast else None)


@lru_cache(4096)
def _shape(text: str) -> tuple[int, ...]:
    """Raises ValueError."""
    try:
        return tuple(json.loads(text))  # a model has few shapes and many tensors
    except RecursionError as error:
        raise ValueError("a shape that is nested without end") from error


def _check_integers(*values: object) -> None:
    if not is_size(*values):
        raise TypeError(f"{values} where sizes and offsets belong")


class BlobRows(Mapping[BlobId, Blob]):
    """Blobs by id. Each is made and checked when it is asked for, and raises CatalogDamaged then: a file has hundreds,
    and whoever opens it needs few of them soon. Any thread may call.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]], make: Callable[[Sequence[Any]], Blob]) -> None:
        self._rows = {BlobId(row[0]): row for row in rows}
        self._make = make

    def __getitem__(self, blob_id: BlobId) -> Blob:
        return self._make(self._rows[blob_id])

    def __contains__(self, blob_id: object) -> bool:
        return blob_id in self._rows

    def __iter__(self) -> Iterator[BlobId]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def packs(self) -> set[PackName]:
        """The packs that hold them. Raises CatalogDamaged."""
        names = {row[_PACK_COLUMN] for row in self._rows.values()}
        if not all(isinstance(name, bytes) for name in names):
            raise CatalogDamaged("the name of a pack is not bytes")
        return {PackName(name) for name in names}


class Catalog(Database):
    """`path` is catalog.db; once `stop` is set nobody is waited for. Raises NotAStore where the file is missing."""

    def __init__(self, path: Path, *, read_only: bool = False, stop: Stop | None = None) -> None:
        super().__init__(path, read_only=read_only, stop=stop)
        self.position()
        if read_only and not self._has_column("inodes", "atime_ns"):
            # Of a catalog that nobody has migrated yet. Once somebody does, the column of the table is the first of the
            # two of that name, and the one that is read.
            self.query("CREATE TEMP VIEW inodes AS SELECT *, NULL AS atime_ns FROM main.inodes")
        self._has_views = False

    def position(self) -> Position:
        row = self.row("SELECT segment, offset, seq FROM position")
        if row is None:
            raise CatalogDamaged(f"{self.path}: it does not say how far it has come")
        position = Position(*row)
        if not is_size(*position) or position.seq >= record.SEQ_LIMIT:
            raise CatalogDamaged(f"{self.path}: it has come to a place that no log has, {position}")
        return position

    def next_ids(self) -> tuple[int, int]:
        """The ids that the next inode and the next blob get. Raises CatalogDamaged."""
        found = dict(self.query("SELECT name, next FROM counters"))
        if not is_size(found.get("inode"), found.get("blob")):
            raise CatalogDamaged(f"{self.path}: its counters are none")
        return found["inode"], found["blob"]

    def preload(self) -> None:
        """Have SQLite keep in its memory what leads from names to bytes for the newest files, a few MiB of rows."""
        self.query(_PRELOAD_NAMES, (_PRELOADED_ROWS,))
        self.query(_PRELOAD_CONTENTS, (_PRELOADED_ROWS,))

    def newest_model(self) -> InodeId | None:
        """The newest file that has a blob with a base, or if none has, the newest that is stored."""
        row = self.row(_SELECT_NEWEST_MEMBER) or self.row(_SELECT_NEWEST_STORED)
        return None if row is None else InodeId(row[0])

    def next_id(self, counter: str) -> int:
        """Hand out an id of an "inode" or a "blob". A counter that was damaged gives no id that is in use."""
        row = self.row(
            f"UPDATE counters SET next = max(next, (SELECT coalesce(max(id), 0) + 1 FROM {counter}s)) + 1"
            " WHERE name = ? RETURNING next - 1",
            (counter,),
        )
        if row is None:
            raise CatalogDamaged(f"the counter of {counter}s is missing")
        if not is_size(row[0]):
            raise CatalogDamaged(f"the counter of {counter}s is none")
        return int(row[0])

    # Tree

    def inode(self, inode_id: InodeId) -> Inode:
        """Raises NotFound, or CatalogDamaged where the row's checksum does not match."""
        row = self.row(_SELECT_INODE, (inode_id,))
        if row is None:
            raise NotFound(f"inode {inode_id}")
        return self._inode(row)

    def inode_and_names(self, inode_id: InodeId) -> tuple[Inode, int]:
        """An inode and how many names it has in both trees. Raises as `inode` does."""
        row = self.row(_SELECT_INODE_AND_NAMES, (inode_id,))
        if row is None:
            raise NotFound(f"inode {inode_id}")
        return self._inode(row), row[_SUM_COLUMN + 1]

    def inodes_in(self, state: State) -> list[Inode]:
        """Files whose content is OPEN or SEALED, oldest first."""
        rows = self.query(f"SELECT {INODE_COLUMNS} FROM inodes WHERE {_IN_SPOOL} ORDER BY id", (state.value,))
        return [self._inode(row) for row in rows]

    def spooled(self) -> set[InodeId]:
        """Inodes whose content is in the spool."""
        return {InodeId(row[0]) for row in self.query("SELECT id FROM inodes WHERE state IN ('open', 'sealed')")}

    def _inode(self, row: Sequence[Any]) -> Inode:
        """Of a row that begins with `INODE_COLUMNS`."""
        columns = row[:_SUM_COLUMN]
        without_atime = columns[-1] is None
        if row_sum(columns[:-1] if without_atime else columns) != row[_SUM_COLUMN]:
            raise CatalogDamaged(f"row of inode {row[0]} does not match its checksum")
        try:
            inode = Inode(columns[0], _KINDS[columns[1]], _STATES[columns[2]], *columns[3:])
            if is_possible(inode):
                return inode
        except (KeyError, TypeError) as error:
            raise CatalogDamaged(f"{self.path}: inode {row[0]} is of an unknown kind, {error}") from error
        raise CatalogDamaged(f"{self.path}: inode {row[0]} has attributes that no file can have")

    def entry(self, parent_id: InodeId, name: bytes) -> Entry | None:
        row = self.row(_SELECT_ENTRY, (parent_id, name))
        return None if row is None else self._entry(row)

    def entries_of(self, inode_id: InodeId) -> list[Entry]:
        """The names of an inode."""
        return [self._entry(row) for row in self.query(_SELECT_ENTRIES_OF, (inode_id,))]

    def echoes_of(self, inode_id: InodeId) -> list[Entry]:
        """Those of them that `ingest/` shows of what is sealed."""
        rows = self.query(f"{_SELECT_ENTRIES_OF} AND area = ?", (inode_id, int(Area.ECHO)))
        return [self._entry(row) for row in rows]

    def has_name(self, inode_id: InodeId) -> bool:
        return self.row("SELECT 1 FROM entries WHERE inode_id = ? LIMIT 1", (inode_id,)) is not None

    def has_name_in(self, inode_id: InodeId, *, under_ingest: bool) -> bool:
        """Whether an inode has a name on one side."""
        among = _ON_SIDE[under_ingest]
        return self.row(f"SELECT 1 FROM entries WHERE inode_id = ? AND {among} LIMIT 1", (inode_id,)) is not None

    def ingest_parents(self, inode_id: InodeId) -> set[InodeId]:
        """The directories below `ingest/` in which an inode has a name; asked at each write, however many those are."""
        found: set[InodeId] = set()
        for area in (Area.PENDING, Area.ECHO):
            parent = InodeId(0)
            while (row := self.row(_SELECT_NEXT_PARENT, (inode_id, int(area), parent))) not in (None, (None,)):
                parent = InodeId(row[0])
                found.add(parent)
        return found

    def children(self, parent_id: InodeId) -> list[tuple[Entry, Inode]]:
        """What a directory holds, in order of name."""
        return [(self._entry(row), self._inode(row[5:])) for row in self.query(_SELECT_CHILDREN, (parent_id,))]

    def child(self, parent_id: InodeId, name: bytes) -> tuple[Inode, int] | None:
        """What a name of a directory leads to, and how many names that has in both trees."""
        row = self.row(_SELECT_ONE_NAMED, (parent_id, name))
        return None if row is None else self._named(row)

    def children_named(self, parent_id: InodeId, names: Sequence[bytes]) -> dict[bytes, tuple[Inode, int]]:
        """The same for at most `NAMES_AT_ONCE` names; one that is not there is left out."""
        rows = self.query(_SELECT_SOME_NAMED[len(names)], (parent_id, *names))
        return {row[1]: self._named(row) for row in rows}

    def _named(self, row: Sequence[Any]) -> tuple[Inode, int]:
        self._check_entry(row)
        return self._inode(row[5:]), row[-1]

    def names_after(self, parent_id: InodeId, name: bytes | None, at_most: int) -> list[bytes]:
        """The first names of a directory after `name`, or of all, in order. Raises CatalogDamaged where one is no name;
        else they are unchecked.
        """
        # What is not bytes any more comes before all that is.
        after, parameters = (
            ("", (parent_id, at_most)) if name is None else (" AND name > ?3", (parent_id, at_most, name))
        )
        rows = self.query(f"SELECT name FROM entries WHERE parent_id = ?1{after} ORDER BY name LIMIT ?2", parameters)
        with rows_made_values(self.path):
            names = [_blob_column(row[0]) for row in rows]
        if not all(map(is_name, names)):
            raise CatalogDamaged(f"directory {parent_id} holds a name that no file can have")
        return names

    def is_empty(self, parent_id: InodeId) -> bool:
        return self.row("SELECT 1 FROM entries WHERE parent_id = ? LIMIT 1", (parent_id,)) is None

    def _entry(self, row: Sequence[Any]) -> Entry:
        """Of a row that begins with `_ENTRY_COLUMNS`."""
        self._check_entry(row)
        try:
            return Entry(row[0], row[1], row[2], Area(row[3]))
        except ValueError as error:
            raise CatalogDamaged(f"{self.path}: {error}") from error

    def _check_entry(self, row: Sequence[Any]) -> None:
        if row_sum(row[:4]) != row[4] or not isinstance(row[1], bytes):
            raise CatalogDamaged(f"entry {row[1]!r} of directory {row[0]} does not match its checksum")
        if not is_name(row[1]) or not is_size(row[0], row[2]):
            raise CatalogDamaged(f"entry {row[1]!r} of directory {row[0]} has a name that no file can have")

    def pending(self, directory: InodeId | None = None) -> list[tuple[Entry, Inode]]:
        """What is PENDING, anywhere or in one directory."""
        rows = self.query(
            f"SELECT {_JOINED_COLUMNS} FROM entries JOIN inodes ON inodes.id = inode_id WHERE {_IN_AREA}"
            + ("" if directory is None else " AND parent_id = ?2"),
            (int(Area.PENDING),) if directory is None else (int(Area.PENDING), directory),
        )
        return [(self._entry(row), self._inode(row[5:])) for row in rows]

    def pending_directories(self) -> set[InodeId]:
        """Directories that are PENDING or hold what is."""
        rows = self.query(
            f"SELECT parent_id FROM entries WHERE {_IN_AREA}"
            f" UNION SELECT id FROM entries JOIN inodes ON id = inode_id WHERE {_IN_AREA} AND kind = 'dir'",
            (int(Area.PENDING),),
        )
        return {InodeId(row[0]) for row in rows}

    def link_count(self, inode_id: InodeId, *, under_ingest: bool) -> int:
        """How many names an inode has on one side."""
        rows = self.query(f"SELECT count(*) FROM entries WHERE inode_id = ? AND {_ON_SIDE[under_ingest]}", (inode_id,))
        return int(rows[0][0])

    def xattrs(self, inode_id: InodeId) -> dict[bytes, bytes]:
        """What a user has set, in order of name."""
        return {name: value for name, value in self.all_xattrs(inode_id).items() if name.startswith(_USER_XATTR)}

    def all_xattrs(self, inode_id: InodeId) -> dict[bytes, bytes]:
        """With the marks that ZipFS has set itself, which no user sees."""
        rows = self.query("SELECT name, value FROM xattrs WHERE inode_id = ? ORDER BY name", (inode_id,))
        with rows_made_values(self.path):
            return {_blob_column(name): _blob_column(value) for name, value in rows}

    def mark(self, inode_id: InodeId, name: bytes) -> bytes | None:
        """The value of a mark that ZipFS has set on an inode."""
        row = self.row("SELECT value FROM xattrs WHERE inode_id = ? AND name = ?", (inode_id, name))
        with rows_made_values(self.path):
            return None if row is None else _blob_column(row[0])

    def marks(self, inode_id: InodeId, prefix: bytes) -> dict[bytes, bytes]:
        """The marks of an inode whose names begin with `prefix`."""
        return {name: value for name, value in self.all_xattrs(inode_id).items() if name.startswith(prefix)}

    def extents(self, inode: Inode) -> tuple[Extent, ...]:
        """The extents of a STORED file, none of any other. Raises CatalogDamaged unless they are those that were
        written.
        """
        if inode.state is not State.STORED:
            return ()
        rows = self.query(
            "SELECT offset, nbytes, blob_id, blob_offset FROM extents WHERE inode_id = ? ORDER BY offset", (inode.id,)
        )
        with rows_made_values(self.path):
            _check_integers(*chain.from_iterable(rows))
            extents = tuple(Extent(*row) for row in rows)
            found = layout_sum(extents)
        if found != inode.layout_sum:
            raise CatalogDamaged(f"extents of inode {inode.id} do not match their checksum")
        return extents

    # Blobs

    def blob(self, blob_id: BlobId) -> Blob:
        row = self.row(f"{self._select_blobs()} WHERE blobs.id = ?", (blob_id,))
        if row is None:
            raise CatalogDamaged(f"blob {blob_id} is missing")
        return self._blob(row)

    def blobs_of(self, inode: Inode) -> BlobRows:
        """The blobs of a file and their bases."""
        rows = self.query(
            f"WITH own AS (SELECT DISTINCT blob_id FROM extents WHERE inode_id = ?1)"
            f" {self._select_blobs()} WHERE blobs.id IN"
            " (SELECT blob_id FROM own UNION SELECT base_id FROM blobs WHERE id IN own AND base_id IS NOT NULL)",
            (inode.id,),
        )
        return BlobRows(rows, self._blob)

    def blobs_by_fingerprint(self, fingerprint: bytes, nbytes: int) -> list[Blob]:
        rows = self.query(
            f"{self._select_blobs()} WHERE fingerprint = ? AND blobs.nbytes = ?",
            (fingerprint, nbytes),
        )
        return [self._blob(row) for row in rows]

    def anchored(self, hashes: Sequence[int], at_most: int) -> list[BlobId]:
        """The blobs that have most of these hashes as anchors, at most `at_most` of them."""
        rows = self.query(
            "SELECT blob_id FROM json_each(?) CROSS JOIN anchors ON hash = value"
            " GROUP BY blob_id ORDER BY count(*) DESC, blob_id DESC LIMIT ?",
            (json.dumps(hashes), at_most),
        )
        return [BlobId(row[0]) for row in rows]

    def landmarks(self, blob_ids: Sequence[BlobId]) -> list[tuple[BlobId, str, int, bytes]]:
        """(blob id, dtype, bytes, landmarks) of those of the blobs that are coded alone."""
        return self.query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM json_each(?) CROSS JOIN landmarks ON blob_id = value"
            " JOIN blobs ON blobs.id = blob_id WHERE base_id IS NULL AND typeof(landmarks) = 'blob'",
            (json.dumps(blob_ids),),
        )

    def landmarks_of_members(self, base_ids: Sequence[BlobId], at_most: int) -> list[tuple[BlobId, str, int, bytes]]:
        """The same of the newest blobs that are coded against each of some others."""
        return self.query(
            "SELECT blob_id, dtype, nbytes, landmarks FROM json_each(?) CROSS JOIN blobs ON blobs.id IN"
            " (SELECT id FROM blobs WHERE base_id = value ORDER BY id DESC LIMIT ?)"
            " JOIN landmarks ON blob_id = blobs.id WHERE typeof(landmarks) = 'blob'",
            (json.dumps(base_ids), at_most),
        )

    def _select_blobs(self) -> str:
        return _SELECT_BLOBS.format(view=self.view_columns())

    def view_columns(self) -> str:
        """What to select from blobs for how many bytes a view has, and its cast."""
        if not self._has_views:  # another process may have migrated the catalog meanwhile
            self._has_views = self._has_column("blobs", "base_cast")
        return _VIEW_COLUMNS if self._has_views else _VIEW_BEFORE_VIEWS

    def _has_column(self, table: str, column: str) -> bool:
        return any(row[1] == column for row in self.query(f"PRAGMA table_info({table})"))

    def _blob(self, row: Sequence[Any]) -> Blob:
        blob_id, nbytes, fingerprint, dtype, shape, base_id, *view, pack, pack_offset, frames, stored = row
        with rows_made_values(self.path):
            _check_integers(blob_id, nbytes, pack_offset)
            blob = Blob(
                BlobId(blob_id),
                nbytes,
                fingerprint,
                dtype,
                _shape(shape),
                None if base_id is None else BaseRef(BlobId(base_id), _view(*view)),
                PackName(_blob_column(pack)),
                pack_offset,
                np.frombuffer(frames, "<u4"),
            )
        ends = is_size(pack_offset + blob.stored_nbytes)
        if len(blob.frames) != frame_count(nbytes) or blob.stored_nbytes != stored or not ends:
            raise CatalogDamaged(f"row of blob {blob_id} contradicts itself")
        return blob

    def packs(self) -> dict[PackName, int]:
        """Size in bytes of every pack, in the order in which they were added."""
        rows = self.query("SELECT name, nbytes FROM packs ORDER BY id")
        with rows_made_values(self.path):
            _check_integers(*(nbytes for _, nbytes in rows))
            return {PackName(_blob_column(name)): nbytes for name, nbytes in rows}

    def failures(self) -> dict[InodeId, tuple[str, int, int]]:
        """(message, attempts, time in ns) of what could not be sealed or compressed."""
        return {
            InodeId(inode): (message, attempts, at_ns)
            for inode, message, attempts, at_ns in self.query("SELECT inode_id, message, attempts, at_ns FROM failures")
        }


def retrying(read: Callable[[], T], attempts: int = 5) -> T:
    """Run a reading that may meet a pack which a collection has just moved: what it looked up is then out of date."""
    for _ in range(attempts - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    try:
        return read()
    except FileNotFoundError as error:
        raise Damaged(error.filename, "it is missing; `zipfs fsck` tells what is lost with it") from error
