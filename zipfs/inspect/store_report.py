"""All that is known of how a store is filled, of one moment: its inventory, its families, its sizes."""

from __future__ import annotations

from dataclasses import dataclass

from zipfs.inspect.families import FamilyReport, find_families
from zipfs.inspect.inventory import Inventory, read_inventory
from zipfs.store.catalog.sizes import StoreSizes
from zipfs.store.disk.progress import Report
from zipfs.store.maintenance.collect import freeable_nbytes
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What `zipfs families` and `zipfs report` show."""

    inventory: Inventory
    families: FamilyReport
    sizes: StoreSizes


def report_store(store: Store, report: Report) -> StoreReport:
    """Read the catalog in one snapshot, so that every sum agrees with every other. Raises CatalogDamaged."""
    with store.catalog.snapshot():
        inventory = read_inventory(store, report)
        sizes = store.catalog.store_sizes(freeable_nbytes(store))
    return StoreReport(inventory, find_families(inventory), sizes)
