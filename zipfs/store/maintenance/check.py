"""The check of a whole store: catalog, manifest log, packs and spool have to say the same.

It names problems and changes nothing. Without `read_data` it reads the catalog, the log and the indexes of the packs;
with it also every frame, which it decodes and compares with its checksums. Others may change the store meanwhile: rows
are compared within one snapshot, and what is missing on the disk is looked up again before it is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from zipfs.errors import Damaged
from zipfs.store.disk.files import open_file
from zipfs.store.disk.progress import Report, report_nothing
from zipfs.store.frames.overlay import check_holes
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
    yield from _check_shown_through(store)
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


def _check_shown_through(store: Store) -> Iterator[Problem]:
    """Check the spool files of which the holes stand for older versions."""
    for inode in (*store.catalog.inodes_in(State.OPEN), *store.catalog.inodes_in(State.SEALED)):
        if not inode.layout_sum:
            continue
        path, paths = store.spool_path(inode), paths_of(store.catalog, [inode.id])
        try:
            fd = open_file(path)
            try:
                check_holes(fd, path)
            finally:
                os.close(fd)
        except FileNotFoundError:
            if inode.spool_number in store.catalog.spooled():
                yield Problem("spool", str(path), "is missing, and what was changed of a file with it", paths)
        except Damaged as error:
            yield Problem("spool", str(path), str(error.args[1]), paths)
