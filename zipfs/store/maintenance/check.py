"""The check of a whole store: catalog, manifest log, packs and spool have to say the same.

It names problems and changes nothing. Without `read_data` it reads the catalog, the log and the indexes of the packs;
with it also every frame, which it decodes and compares with its checksums. Others may change the store meanwhile: rows
are compared within one snapshot, and what is missing on the disk is looked up again before it is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.maintenance.check_catalog import check_database, check_rows
from zipfs.store.maintenance.check_packs import check_data, check_packs
from zipfs.store.maintenance.problem import Problem, paths_of
from zipfs.store.objects.values import State
from zipfs.store.store import Store


def check(store: Store, *, read_data: bool = False, report: Report = report_nothing) -> Iterator[Problem]:
    """Yield every problem of a store, the most basic first."""
    catalog_problems = list(check_database(store.catalog))
    yield from catalog_problems
    if catalog_problems:
        return  # what else is read from it would only repeat the damage
    yield from check_rows(store)
    yield from check_packs(store, report)
    yield from _check_spool(store)
    if read_data:
        yield from check_data(store, report)


def _check_spool(store: Store) -> Iterator[Problem]:
    for inode in store.catalog.inodes_in(State.SEALED):
        path = store.spool_path(inode)
        paths = paths_of(store.catalog, [inode.id])
        try:
            nbytes = path.stat().st_size
        except FileNotFoundError:
            if not store.catalog.is_sealed(inode):
                continue
            yield Problem("spool", str(path), "is missing, and its content was not compressed yet", paths)
            continue
        if nbytes != inode.nbytes:
            yield Problem("spool", str(path), f"has {nbytes} bytes instead of {inode.nbytes}", paths)
    known = store.catalog.spooled()
    for path in store.spool_directory.iterdir():
        if not path.name.isdecimal() or int(path.name) not in known:
            yield Problem("spool", str(path), "belongs to no file; the next mount deletes it", harmless=True)
