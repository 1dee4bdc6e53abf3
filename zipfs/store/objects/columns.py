"""Owns the table of the catalog's columns: what each holds, how it is checked, summed, and written to the manifest log.

From it come the statements of `catalog/statements.py`, the checksums of rows, the JSON of the log, and values made of
rows. All of them are put together once, when the module is loaded: making a value of a row looks nothing up.

SQLite does not notice a flipped bit in a page. A wrong blob id or size would then serve wrong bytes whose frames are
all intact, so every row that leads from a path to bytes carries a checksum of its own columns and is checked whenever
it is read. Rows of blobs need none: the checksum of a frame is seeded with the blob's id and the frame's number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import xxhash

from zipfs.store.objects.values import SIZE_AT_MOST, Area, Blob, Entry, Extent, Inode, Kind, State, is_name, is_size

V = TypeVar("V")

Row = Sequence[Any]
"""Columns of one row as SQLite gives them."""

_MODE_AT_MOST: Final = 0o7777
_OWNER_AT_MOST: Final = (1 << 32) - 1
_TARGET_NBYTES_AT_MOST: Final = 4095
_SHA256_NBYTES: Final = 32
_ALWAYS: Final = object()
"""No value of a column: what has it as `omitted` is always in the log."""


def name_text(name: bytes) -> str:
    """Return a file name as text: what is not UTF-8 of it becomes lone surrogates U+DC80..U+DCFF (PEP 383)."""
    return name.decode("utf-8", "surrogateescape")


def name_bytes(text: str) -> bytes:
    """Return the file name of which `text` was made."""
    return text.encode("utf-8", "surrogateescape")


def size_of_json(value: Any) -> int:
    """Return a size or id of a log. Raises ValueError: a log may come from somebody else, and SQLite takes 64 bits."""
    if not is_size(value):
        raise ValueError(f"{value!r} is no size and no id")
    return int(value)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What values a column may hold, as SQLite has them, and how the log writes them.

    An integer lies from `lowest` to `highest`; for all else `is_valid` decides. `members` are the values that stand for
    those of SQLite, if they are not the same.
    """

    sql: str
    lowest: int | None = None
    highest: int | None = None
    is_valid: Callable[[Any], bool] | None = None
    members: Mapping[Any, Enum] | None = None
    to_json: Callable[[Any], Any] | None = None
    from_json: Callable[[Any], Any] = int


def _enumeration(kind: type[Enum], sql: str) -> ColumnType:
    return ColumnType(sql, members={member.value: member for member in kind}, from_json=_itself)


def _itself(value: Any) -> Any:
    return value


def _is_target(value: Any) -> bool:
    return 0 < len(value) <= _TARGET_NBYTES_AT_MOST and b"\0" not in value


def _is_sha256(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == _SHA256_NBYTES


ID: Final = ColumnType("INTEGER", 1, SIZE_AT_MOST, from_json=size_of_json)
INODE_ID: Final = ColumnType("INTEGER", 1, SIZE_AT_MOST)
SIZE: Final = ColumnType("INTEGER", 0, SIZE_AT_MOST, from_json=size_of_json)
COUNT: Final = ColumnType("INTEGER", 0, SIZE_AT_MOST)
MODE: Final = ColumnType("INTEGER", 0, _MODE_AT_MOST)
OWNER: Final = ColumnType("INTEGER", 0, _OWNER_AT_MOST)
TIME_NS: Final = ColumnType("INTEGER", -SIZE_AT_MOST, SIZE_AT_MOST)
KIND: Final = _enumeration(Kind, "TEXT")
STATE: Final = _enumeration(State, "TEXT")
AREA: Final = _enumeration(Area, "INTEGER")
NAME: Final = ColumnType("BLOB", is_valid=is_name, to_json=name_text, from_json=name_bytes)
TARGET: Final = ColumnType("BLOB", is_valid=_is_target, to_json=name_text, from_json=name_bytes)
SHA256: Final = ColumnType("BLOB", is_valid=_is_sha256, to_json=bytes.hex, from_json=bytes.fromhex)
BYTES: Final = ColumnType("BLOB")
TEXT: Final = ColumnType("TEXT")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. An `optional` one may be NULL; one that equals `omitted` has no key in the log."""

    name: str
    type: ColumnType
    optional: bool = False
    omitted: object = _ALWAYS


class Table:
    """The columns of a table. A row that is `summed` has a checksum of the others as its last column."""

    def __init__(self, name: str, columns: Sequence[Column], *, summed: bool = False) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.names = (*(column.name for column in columns), *(("sum",) if summed else ()))


class ValueTable(Table, Generic[V]):
    """A table of which each row stands for a value that has its columns as attributes, in their order.

    `owner` is a column that precedes them in the table, and is no part of the value.
    """

    def __init__(
        self, name: str, made: type[V], columns: Sequence[Column], *, owner: Column | None, summed: bool
    ) -> None:
        super().__init__(name, columns if owner is None else (owner, *columns), summed=summed)
        self.parts = tuple(columns)
        """The columns of a value."""
        self.row_of: Callable[[V], tuple[Any, ...]] = attrgetter(*map(_attribute, columns))
        """Return the columns of a value as SQLite takes them."""
        self.is_valid, self.from_row = _compiled(made, columns)
        """Return whether a row holds what its columns may hold, and the value that it stands for.

        Both raise TypeError for some that it may not hold; the second ValueError, and KeyError for an unknown member of
        an enumeration.
        """

    def to_json(self, value: V) -> dict[str, Any]:
        """Return the columns of a value by name, without those that need not be said."""
        return {
            column.name: _json(column.type, part)
            for column, part in zip(self.parts, self.row_of(value), strict=True)
            if part != column.omitted
        }

    def from_json(self, document: Any) -> V:
        """Return the value of a `to_json`. Raises ValueError, LookupError, TypeError, AttributeError, OverflowError."""
        return self.from_json_list(
            [
                document[column.name] if column.omitted is _ALWAYS else document.get(column.name, column.omitted)
                for column in self.parts
            ]
        )

    def to_json_list(self, value: V) -> list[Any]:
        """Return the columns of a value in order."""
        return [_json(column.type, part) for column, part in zip(self.parts, self.row_of(value), strict=True)]

    def from_json_list(self, parts: Sequence[Any]) -> V:
        """Return the value of a `to_json_list`. Raises as `from_json` does."""
        row = [
            None if part is None and column.optional else column.type.from_json(part)
            for column, part in zip(self.parts, parts, strict=True)
        ]
        return self.from_row(row)


def _attribute(column: Column) -> str:
    return column.name if column.type.members is None else f"{column.name}.value"


def _json(type_: ColumnType, value: Any) -> Any:
    return value if value is None or type_.to_json is None else type_.to_json(value)


def _compiled(made: type[V], columns: Sequence[Column]) -> tuple[Callable[[Row], bool], Callable[[Row], V]]:
    """Return a function that checks rows and one that makes values of them.

    Their source is put together of the table, as `dataclasses` does it, because they run for each name that is listed.
    """
    row = ", ".join(column.name for column in columns)
    conditions = " and ".join(_conditions(columns))
    parts = ", ".join(f"{c.name}_members[{c.name}]" if c.type.members is not None else c.name for c in columns)
    source = (
        f"def is_valid(row):\n {row} = row\n return {conditions}\n"
        f"def from_row(row):\n {row} = row\n if {conditions}:\n"
        f"  value = Draft({parts})\n  value.__class__ = made\n  return value\n raise ValueError(row)\n"
    )
    scope: dict[str, Any] = {"made": made, "Draft": _draft_of(made)}
    for column in columns:
        scope |= {f"{column.name}_members": column.type.members, f"is_{column.name}": column.type.is_valid}
    exec(source, scope)  # noqa: S102  # it holds constants only
    return scope["is_valid"], scope["from_row"]


def _draft_of(made: type) -> type:
    """Return a class of the same slots as a frozen dataclass, which is not frozen.

    Python fills a frozen object five times as slowly. What is made as a draft becomes the other by its class alone.
    """
    own = [(field.name, object, field) for field in fields(made)]
    return make_dataclass(f"{made.__name__}Draft", own, slots=True)


def _conditions(columns: Sequence[Column]) -> Iterator[str]:
    """Yield what has to be true of the columns, as Python. Members of enumerations are looked up when a value is made.

    One sum suffices to check that all integers are some.
    """
    required = [column.name for column in columns if column.type.lowest is not None and not column.optional]
    yield f"type({' + '.join(required)}) is int"
    for column in columns:
        name, type_ = column.name, column.type
        if type_.lowest is not None:
            condition = f"{type_.lowest} <= {name} <= {type_.highest}"
            yield f"({name} is None or type({name}) is int and {condition})" if column.optional else condition
        elif type_.is_valid is not None:
            yield f"({name} is None or is_{name}({name}))" if column.optional else f"is_{name}({name})"


def row_sum(row: Row) -> int:
    """Return the 63-bit checksum (SQLite's integers are signed) of a row's columns, a tuple as SQLite gives it: what is
    stored as another type than it was written with does not match either.
    """
    return xxhash.xxh3_64_intdigest(repr(row).encode()) >> 1


INODES: Final = ValueTable(
    "inodes",
    Inode,
    (
        Column("id", INODE_ID),
        Column("kind", KIND),
        Column("state", STATE),
        Column("mode", MODE),
        Column("uid", OWNER),
        Column("gid", OWNER),
        Column("nbytes", COUNT),
        Column("mtime_ns", TIME_NS),
        Column("ctime_ns", TIME_NS),
        Column("target", TARGET, optional=True, omitted=None),
        Column("stored_nbytes", COUNT, omitted=0),
        Column("sha256", SHA256, optional=True, omitted=None),
        Column("layout_sum", COUNT, omitted=0),
        Column("atime_ns", TIME_NS, optional=True, omitted=None),
        Column("spool_id", INODE_ID, optional=True, omitted=None),
    ),
    owner=None,
    summed=True,
)
ENTRIES: Final = ValueTable(
    "entries",
    Entry,
    (Column("parent_id", ID), Column("name", NAME), Column("inode_id", ID), Column("area", AREA)),
    owner=None,
    summed=True,
)
EXTENTS: Final = ValueTable(
    "extents",
    Extent,
    (Column("offset", SIZE), Column("nbytes", SIZE), Column("blob_id", SIZE), Column("blob_offset", SIZE)),
    owner=Column("inode_id", ID),
    summed=False,
)
XATTRS: Final = Table("xattrs", (Column("inode_id", ID), Column("name", BYTES), Column("value", BYTES)))
PACKS: Final = Table("packs", (Column("name", BYTES), Column("nbytes", SIZE)))
BLOBS: Final = Table(
    "blobs",
    (
        Column("id", ID),
        Column("nbytes", SIZE),
        Column("fingerprint", BYTES),
        Column("dtype", TEXT),
        Column("shape", TEXT),
        Column("base_id", ID, optional=True),
        Column("base_offset", SIZE),
        Column("base_nbytes", SIZE, optional=True),
        Column("base_cast", TEXT),
        Column("pack_id", ID),
        Column("pack_offset", SIZE),
        Column("stored_nbytes", SIZE),
        Column("frames", BYTES),
    ),
)


def inode_row_sum(row: Row) -> int:
    """Return the checksum of the columns of an inode.

    A row without the last column or the last two has that of before there were any.
    """
    if row[-1] is None:
        row = row[:-2] if row[-2] is None else row[:-1]
    return xxhash.xxh3_64_intdigest(repr(row).encode()) >> 1


def layout_sum(extents: Sequence[Extent]) -> int:
    """Return the checksum of all extents of a file."""
    return layout_row_sum([EXTENTS.row_of(extent) for extent in extents])


def layout_row_sum(rows: Sequence[Row]) -> int:
    """Return the checksum of the rows of all extents of a file: a list of tuples, in their order."""
    return row_sum((rows,))


def blob_row(blob: Blob, pack_id: int) -> tuple[object, ...]:
    """Return the row of a blob in a pack."""
    view = None if blob.base is None else blob.base.view
    return (
        blob.id,
        blob.nbytes,
        blob.fingerprint,
        blob.dtype,
        json.dumps(list(blob.shape), separators=(",", ":")),
        None if blob.base is None else blob.base.blob_id,
        0 if view is None else view.offset,
        None if view is None else view.nbytes,
        "" if view is None or view.cast is None else str(view.cast),
        pack_id,
        blob.pack_offset,
        blob.stored_nbytes,
        blob.frames.astype("<u4").tobytes(),
    )
