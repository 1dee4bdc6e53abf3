"""Owns the SQL that is the same for every table: lists of columns, and how a row is put."""

from __future__ import annotations

from collections.abc import Sequence

from zipfs.store.objects.columns import Table


def column_list(table: Table) -> str:
    """Return the columns for a SELECT from one table."""
    return ", ".join(table.names)


def joined_column_list(table: Table) -> str:
    """Return the columns for a SELECT that joins a table with others."""
    return ", ".join(f"{table.name}.{name}" for name in table.names)


def insert(table: Table, conflict: str = "") -> str:
    """Return the statement that inserts a row, with what to do about one of the same key, like " OR REPLACE"."""
    return f"INSERT{conflict} INTO {table.name} ({column_list(table)}) VALUES ({', '.join('?' * len(table.names))})"


def upsert(table: Table, key: str, updated: Sequence[str] = ()) -> str:
    """Return the statement that inserts a row, or sets the `updated` columns, or all, of that with its key."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in updated or table.names if name != key)
    return f"{insert(table)} ON CONFLICT ({key}) DO UPDATE SET {changes}"
