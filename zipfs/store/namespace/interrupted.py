"""Owns the notes on models that cannot be sealed, which `status` and `wait` pass on.

A note says what a look at a model has found. What happens to a file that has one makes all notes of its model old:
they go in the same transaction, so that whoever waits from then on waits for the next look, which notes what is still
so.
"""

from __future__ import annotations

from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace.models import Units
from zipfs.store.namespace.unfinished import STANDARD
from zipfs.store.objects.values import InodeId, State


def forget(txn: Transaction, inode_id: InodeId) -> None:
    """Drop the notes of the models that a file below `ingest/` belongs to, if it has one itself."""
    catalog = txn.catalog
    if not catalog.has_failure(inode_id) or not _waits_for_its_seal(catalog, inode_id):
        return
    # The names of a mount's own say no more of which directories are one model.
    units = Units(catalog, STANDARD)
    models = {units.leader(directory) for directory in catalog.ingest_parents(inode_id)}
    for noted in catalog.failures():
        if _waits_for_its_seal(catalog, noted) and any(
            units.leader(directory) in models for directory in catalog.ingest_parents(noted)
        ):
            txn.clear_failure(noted)


def _waits_for_its_seal(catalog: Catalog, inode_id: InodeId) -> bool:
    """And not for being compressed, which what happens below `ingest/` does not change."""
    return catalog.inode(inode_id).state in (State.OPEN, State.NONE)
