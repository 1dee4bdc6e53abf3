"""Owns the queries for the tree: inodes, their names, attributes and extents.

Every row that leads from a path to bytes is checked against its checksum here. Used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from zipfs.errors import CatalogDamaged, NotFound
from zipfs.store.catalog.database import Database, rows_made_values
from zipfs.store.catalog.statements import column_list, joined_column_list
from zipfs.store.objects.columns import ENTRIES, EXTENTS, INODES, inode_row_sum, layout_row_sum, row_sum
from zipfs.store.objects.values import (
    Area,
    Entry,
    Extent,
    Inode,
    InodeId,
    State,
    is_size,
)

_INODE_COLUMNS = column_list(INODES)
_INODE_SUM = len(INODES.columns)
_ENTRY_COLUMNS = column_list(ENTRIES)
_ENTRY_SUM = len(ENTRIES.columns)
_INODE = _ENTRY_SUM + 1
"""Where in a row of `_JOINED_COLUMNS` those of the inode begin."""
_JOINED_COLUMNS = f"{joined_column_list(ENTRIES)}, {joined_column_list(INODES)}"
# An index suffices for how many names an inode has in both trees; for those in one the rows have to be read.
_NAMES = "(SELECT count(*) FROM entries AS names WHERE names.inode_id = inodes.id)"
NAMES_AT_ONCE = 32
_MARKS = "name BETWEEN x'7a697066732e' AND x'7a697066732f'"
"""Names of marks begin with `zipfs.`."""
# SQLite takes a partial index only for a query that repeats its condition; without, it reads the whole table.
_IN_AREA = "area <> 0 AND area = ?"
_IN_SPOOL = "state IN ('open', 'sealed') AND state = ?"
_SELECT_INODE = f"SELECT {_INODE_COLUMNS} FROM inodes WHERE id = ?"
_SELECT_INODE_AND_NAMES = f"SELECT {_INODE_COLUMNS}, {_NAMES} FROM inodes WHERE id = ?"
_SELECT_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE parent_id = ? AND name = ?"
_SELECT_ENTRIES_OF = f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE inode_id = ?"
_ON_SIDE = {False: "area = 0", True: "area > 0"}
# One step in the index.
_SELECT_NEXT_PARENT = "SELECT min(parent_id) FROM entries WHERE inode_id = ? AND area = ? AND parent_id > ?"
_SELECT_CHILDREN = (
    f"SELECT {_JOINED_COLUMNS} FROM entries JOIN inodes ON inodes.id = inode_id WHERE parent_id = ? ORDER BY name"
)
_SELECT_NAMED = (
    f"SELECT {_JOINED_COLUMNS}, {_NAMES} FROM entries JOIN inodes ON inodes.id = inode_id WHERE parent_id = ?"
)
_SELECT_ONE_NAMED = f"{_SELECT_NAMED} AND name = ?"
_SELECT_EXTENTS = (
    f"SELECT {', '.join(column.name for column in EXTENTS.parts)} FROM extents WHERE inode_id = ? ORDER BY offset"
)
# SQLite keeps the plan of each: one with room for more names than are asked for takes as long as if they were.
_SELECT_SOME_NAMED = [f"{_SELECT_NAMED} AND name IN ({', '.join('?' * n)})" for n in range(NAMES_AT_ONCE + 1)]


def blob_column(value: object) -> bytes:
    """Return a value that has to be bytes. Raises TypeError: a flipped bit may give it another type in SQLite."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value


def check_integers(*values: object) -> None:
    """Raise TypeError unless all values are sizes or offsets."""
    if not is_size(*values):
        raise TypeError(f"{values} where sizes and offsets belong")


class TreeQueries(Database):
    """The part of a `Catalog` that knows of files and directories."""

    def inode(self, inode_id: InodeId) -> Inode:
        """Return an inode. Raises NotFound, or CatalogDamaged where the row's checksum does not match."""
        row = self._row(_SELECT_INODE, (inode_id,))
        if row is None:
            raise NotFound(f"inode {inode_id}")
        return self._inode(row)

    def inode_and_names(self, inode_id: InodeId) -> tuple[Inode, int]:
        """Return an inode and how many names it has in both trees. Raises as `inode` does."""
        row = self._row(_SELECT_INODE_AND_NAMES, (inode_id,))
        if row is None:
            raise NotFound(f"inode {inode_id}")
        return self._inode(row), row[_INODE_SUM + 1]

    def inodes_in(self, state: State) -> list[Inode]:
        """Return the files whose content is in this state, OPEN or SEALED, oldest first."""
        rows = self._query(f"SELECT {_INODE_COLUMNS} FROM inodes WHERE {_IN_SPOOL} ORDER BY id", (state.value,))
        return [self._inode(row) for row in rows]

    def ids_in(self, state: State) -> list[InodeId]:
        """Return the files whose content is in this state, OPEN or SEALED, oldest first; no row is checked."""
        rows = self._query(f"SELECT id FROM inodes WHERE {_IN_SPOOL} ORDER BY id", (state.value,))
        return [InodeId(row[0]) for row in rows]

    def spooled(self) -> set[InodeId]:
        """Return the numbers of the spool files that hold content."""
        rows = self._query("SELECT coalesce(spool_id, id) FROM inodes WHERE state IN ('open', 'sealed')")
        return {InodeId(row[0]) for row in rows}

    def _inode(self, row: Sequence[Any]) -> Inode:
        """Return the inode of a row that begins with `_INODE_COLUMNS`."""
        columns = row[:_INODE_SUM]
        if inode_row_sum(columns) != row[_INODE_SUM]:
            raise CatalogDamaged(f"row of inode {row[0]} does not match its checksum")
        try:
            return INODES.from_row(columns)
        except (KeyError, TypeError) as error:
            raise CatalogDamaged(f"{self.path}: inode {row[0]} is of an unknown kind, {error}") from error
        except ValueError as error:
            raise CatalogDamaged(f"{self.path}: inode {row[0]} has attributes that no file can have") from error

    def entry(self, parent_id: InodeId, name: bytes) -> Entry | None:
        """Return a name of a directory. Raises CatalogDamaged."""
        row = self._row(_SELECT_ENTRY, (parent_id, name))
        return None if row is None else self._entry(row)

    def entries_of(self, inode_id: InodeId) -> list[Entry]:
        """Return the names of an inode. Raises CatalogDamaged."""
        return [self._entry(row) for row in self._query(_SELECT_ENTRIES_OF, (inode_id,))]

    def lingering_entries_of(self, inode_id: InodeId) -> list[Entry]:
        """Return the names under `ingest/` of an inode that is sealed already. Raises CatalogDamaged."""
        rows = self._query(f"{_SELECT_ENTRIES_OF} AND area = ?", (inode_id, int(Area.LINGERING)))
        return [self._entry(row) for row in rows]

    def is_sealed(self, inode: Inode) -> bool:
        """Return whether the content of an inode is in the spool and final, and has not been written to since."""
        row = self._row("SELECT spool_id FROM inodes WHERE id = ? AND state = 'sealed'", (inode.id,))
        return row == (inode.spool_id,)

    def has_name(self, inode_id: InodeId) -> bool:
        """Return whether an inode has a name in either tree."""
        return self._row("SELECT 1 FROM entries WHERE inode_id = ? LIMIT 1", (inode_id,)) is not None

    def has_name_in(self, inode_id: InodeId, *, under_ingest: bool) -> bool:
        """Return whether an inode has a name in one of the trees."""
        among = _ON_SIDE[under_ingest]
        return self._row(f"SELECT 1 FROM entries WHERE inode_id = ? AND {among} LIMIT 1", (inode_id,)) is not None

    def ingest_parents(self, inode_id: InodeId) -> set[InodeId]:
        """Return the directories below `ingest/` in which an inode has a name. One index look-up for each of them."""
        found: set[InodeId] = set()
        for area in (Area.PENDING, Area.LINGERING):
            parent = InodeId(0)
            while (row := self._row(_SELECT_NEXT_PARENT, (inode_id, int(area), parent))) not in (None, (None,)):
                parent = InodeId(row[0])
                found.add(parent)
        return found

    def children(self, parent_id: InodeId) -> list[tuple[Entry, Inode]]:
        """Return what a directory holds, in order of name. Raises CatalogDamaged."""
        return [(self._entry(row), self._inode(row[_INODE:])) for row in self._query(_SELECT_CHILDREN, (parent_id,))]

    def child(self, parent_id: InodeId, name: bytes) -> tuple[Inode, int] | None:
        """Return what a name leads to, and how many names that has in both trees. Raises CatalogDamaged."""
        row = self._row(_SELECT_ONE_NAMED, (parent_id, name))
        return None if row is None else self._named(row)

    def children_named(self, parent_id: InodeId, names: Sequence[bytes]) -> dict[bytes, tuple[Inode, int]]:
        """Return what each of at most `NAMES_AT_ONCE` names leads to; one that is not there is left out."""
        rows = self._query(_SELECT_SOME_NAMED[len(names)], (parent_id, *names))
        return {row[1]: self._named(row) for row in rows}

    def _named(self, row: Sequence[Any]) -> tuple[Inode, int]:
        self._check_entry(row)
        return self._inode(row[_INODE:]), row[-1]

    def names_after(self, parent_id: InodeId, name: bytes | None, at_most: int) -> list[bytes]:
        """Return the first names of a directory after `name`, or of all, in order.

        Raises CatalogDamaged where one is not bytes; nothing else is checked.
        """
        # What is not bytes any more comes before all that is.
        after, parameters = (
            ("", (parent_id, at_most)) if name is None else (" AND name > ?", (parent_id, name, at_most))
        )
        rows = self._query(f"SELECT name FROM entries WHERE parent_id = ?{after} ORDER BY name LIMIT ?", parameters)
        with rows_made_values(self.path):
            return [blob_column(row[0]) for row in rows]

    def is_empty(self, parent_id: InodeId) -> bool:
        """Return whether a directory holds nothing."""
        return self._row("SELECT 1 FROM entries WHERE parent_id = ? LIMIT 1", (parent_id,)) is None

    def _entry(self, row: Sequence[Any]) -> Entry:
        """Return the entry of a row that begins with `_ENTRY_COLUMNS`."""
        columns = row[:_ENTRY_SUM]
        if row_sum(columns) != row[_ENTRY_SUM]:
            raise _mismatch(row)
        try:
            return ENTRIES.from_row(columns)
        except KeyError as error:
            raise CatalogDamaged(f"{self.path}: {error} is no area") from error
        except (ValueError, TypeError) as error:
            raise _no_name(row) from error

    def _check_entry(self, row: Sequence[Any]) -> None:
        """Check the entry of a row that begins with `_ENTRY_COLUMNS`, for whoever wants none."""
        columns = row[:_ENTRY_SUM]
        if row_sum(columns) != row[_ENTRY_SUM]:
            raise _mismatch(row)
        try:
            if ENTRIES.is_valid(columns):
                return
        except TypeError as error:
            raise _no_name(row) from error
        raise _no_name(row)

    def pending(self, directory: InodeId | None = None) -> list[tuple[Entry, Inode]]:
        """Return what is PENDING, anywhere or in one directory. Raises CatalogDamaged."""
        rows = self._query(
            f"SELECT {_JOINED_COLUMNS} FROM entries JOIN inodes ON inodes.id = inode_id WHERE {_IN_AREA}"
            + ("" if directory is None else " AND parent_id = ?"),
            (int(Area.PENDING),) if directory is None else (int(Area.PENDING), directory),
        )
        return [(self._entry(row), self._inode(row[_INODE:])) for row in rows]

    def pending_directories(self) -> set[InodeId]:
        """Return the directories that are PENDING or hold what is."""
        rows = self._query(
            f"SELECT parent_id FROM entries WHERE {_IN_AREA}"
            f" UNION SELECT id FROM entries JOIN inodes ON id = inode_id WHERE {_IN_AREA} AND kind = 'dir'",
            (int(Area.PENDING), int(Area.PENDING)),
        )
        return {InodeId(row[0]) for row in rows}

    def link_count(self, inode_id: InodeId, *, under_ingest: bool) -> int:
        """Return how many names an inode has in one of the trees."""
        rows = self._query(f"SELECT count(*) FROM entries WHERE inode_id = ? AND {_ON_SIDE[under_ingest]}", (inode_id,))
        return int(rows[0][0])

    def xattrs(self, inode_id: InodeId) -> dict[bytes, bytes]:
        """Return the attributes that a user has set, in order of name. Raises CatalogDamaged."""
        return self._xattrs(inode_id, f" AND NOT {_MARKS}")

    def all_xattrs(self, inode_id: InodeId) -> dict[bytes, bytes]:
        """Return the attributes that a user has set, and the marks that ZipFS has set itself, which no user sees."""
        return self._xattrs(inode_id)

    def marks(self, inode_id: InodeId, prefix: bytes) -> dict[bytes, bytes]:
        """Return the marks of an inode whose names begin with `prefix`, which begins with `zipfs.` itself."""
        found = self._xattrs(inode_id, f" AND {_MARKS}")
        return {name: value for name, value in found.items() if name.startswith(prefix)}

    def mark(self, inode_id: InodeId, name: bytes) -> bytes | None:
        """Return the value of a mark that ZipFS has set on an inode. Raises CatalogDamaged."""
        row = self._row("SELECT value FROM xattrs WHERE inode_id = ? AND name = ?", (inode_id, name))
        with rows_made_values(self.path):
            return None if row is None else blob_column(row[0])

    def _xattrs(self, inode_id: InodeId, which: str = "") -> dict[bytes, bytes]:
        rows = self._query(f"SELECT name, value FROM xattrs WHERE inode_id = ?{which} ORDER BY name", (inode_id,))
        with rows_made_values(self.path):
            return {blob_column(name): blob_column(value) for name, value in rows}

    def extents(self, inode: Inode) -> tuple[Extent, ...]:
        """Return the extents of a file: of one in the spool, those of the older version that shows through its holes.

        Raises CatalogDamaged unless they are those that were written.
        """
        if inode.state is not State.STORED and not inode.layout_sum:
            return ()
        rows = self._query(_SELECT_EXTENTS, (inode.id,))
        with rows_made_values(self.path):
            check_integers(*chain.from_iterable(rows))
            extents = tuple(Extent(*row) for row in rows)
        if layout_row_sum(rows) != inode.layout_sum:
            raise CatalogDamaged(f"extents of inode {inode.id} do not match their checksum")
        return extents


def _mismatch(row: Sequence[Any]) -> CatalogDamaged:
    return CatalogDamaged(f"entry {row[1]!r} of directory {row[0]} does not match its checksum")


def _no_name(row: Sequence[Any]) -> CatalogDamaged:
    return CatalogDamaged(f"entry {row[1]!r} of directory {row[0]} has a name that no file can have")
