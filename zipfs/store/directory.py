"""The directory of a store: what lies in it, how it is made, and what is checked before it is opened.

ZIPFS           marks the directory as a store and names its format and id
catalog.db      SQLite; can be rebuilt
manifests/      the log of everything in the tree
packs/          frames
spool/          raw content that is not compressed yet, one file per inode id
reserve         space for removals on a full disk
locks/  log/
"""

from __future__ import annotations

import os
import uuid
from contextlib import closing
from pathlib import Path
from typing import Final

from zipfs.errors import Damaged, NotAStore
from zipfs.store.catalog import log_record
from zipfs.store.catalog.creation import create_catalog
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.log_segments import ManifestLog
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.transaction import transaction
from zipfs.store.disk.access import close_to_others, require_ours
from zipfs.store.disk.files import check_directory, make_directory
from zipfs.store.marker import MARKER, write_marker
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Inode, Kind, State
from zipfs.store.packs.local import LocalPacks

CATALOG: Final = "catalog.db"
RESERVE: Final = "reserve"
_DIRECTORIES: Final = ("manifests", "packs", "spool", "locks", "log")


def create_store(path: Path) -> None:
    """Make `path` a store. Run again after a kill it completes what was begun.

    Raises NotAStore if it holds something else, and NotAllowed.
    """
    try:
        if not path.is_dir():  # a link to a directory elsewhere is fine: whoever names the store may name that
            make_directory(path)
    except FileNotFoundError:
        raise NotAStore(path, f"there is no directory {path.parent} to make it in; is its disk there?") from None
    except (FileExistsError, NotADirectoryError, Damaged):
        raise NotAStore(path, "it is a file, or would lie below one") from None
    require_ours(path)
    leftovers = {*_DIRECTORIES, f"{MARKER}.part"}
    others = sorted(set(os.listdir(path)) - leftovers - {name for name in os.listdir(path) if name.startswith(CATALOG)})
    if others and others != ["lost+found"]:
        raise NotAStore(path, f"it holds other files ({others[0]}), so no new store is made in it")
    for name in _DIRECTORIES:
        make_directory(path / name)
    close_to_others(path)
    store_id = uuid.uuid4().bytes
    _create_records(path, store_id)
    write_marker(path, store_id)


def _create_records(path: Path, store_id: bytes) -> None:
    """Make the manifest log of an empty store, and its catalog."""
    with closing(ManifestLog(path / "manifests", store_id)) as manifests:
        manifests.create(1, [_roots()])
        create_catalog(path / CATALOG, store_id)
        with closing(Catalog(path / CATALOG)) as catalog, transaction(catalog, manifests, LocalPacks(path / "packs")):
            pass  # applies the record


def _roots() -> bytes:
    """Return the first record of the log, with the two directories that are always there."""
    now = tree.now_ns()
    changes = Changes(next_inode=INGEST_ROOT + 1, next_blob=1)
    for inode_id in (ROOT, INGEST_ROOT):
        changes.inodes[inode_id] = Inode(
            inode_id, Kind.DIRECTORY, State.NONE, 0o755, os.getuid(), os.getgid(), 0, now, now
        )
    return log_record.encode(changes, 1, log_record.SNAPSHOT | log_record.SNAPSHOT_END)


def admit(path: Path, *, read_only: bool) -> None:
    """Check the directory of a store before anything in it is opened, and close it to others if we may change it.

    Raises Damaged, NotAllowed.
    """
    for name in _DIRECTORIES:
        check_directory(path / name)
    if not read_only:
        require_ours(path)
        close_to_others(path)
