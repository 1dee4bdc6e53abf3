"""SQL on the catalog of an open store, for tests that look behind its methods or damage it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zipfs.store.catalog.queries import Catalog


def sql(catalog: Catalog, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run a statement on the connection of the catalog, with its errors translated; returns all rows."""
    return catalog._query(statement, parameters)
