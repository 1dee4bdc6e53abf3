"""Does what the first reader of a store would wait for, before there is one."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from zipfs.errors import ZipfsError
from zipfs.reading.content import open_content
from zipfs.reading.reader import Reader
from zipfs.store.objects.values import Inode
from zipfs.store.store import Store

_FIRST_NBYTES: Final = 16 << 10
"""What the kernel asks for where one byte is read."""

_PACKS: Final = 64
"""So many of the newest are open from the start: the disk would first be asked where they are."""

log = logging.getLogger(__name__)


def warm_up(store: Store) -> None:
    """Have what leads to the newest files in memory, and the program's code, by reading a little of one of them.

    Where either was not used yet it comes from the disk page by page, which takes several times as long as reading that
    little. Nothing is kept of the file. Whoever reads what is damaged gets the error.
    """
    try:
        store.catalog.preload()
        for name in list(store.catalog.packs())[-_PACKS:]:
            with suppress(FileNotFoundError):
                store.packs.open(name)
        newest = store.catalog.newest_model()
        if newest is not None:
            _read_a_little(store, store.catalog.inode(newest))
    except (ZipfsError, OSError) as error:
        log.info("not warmed up: %s", error)
    while store.frames.drop_one():
        pass


def _read_a_little(store: Store, inode: Inode) -> None:
    """Read the beginning of a file, and of its largest tensor."""
    largest = max(store.catalog.extents(inode), key=lambda extent: extent.nbytes, default=None)
    if largest is None:
        return
    with Reader(store.frames) as reader:
        content = open_content(store, reader, inode)
        for at in (0, largest.offset):
            content.submit(at, _FIRST_NBYTES).result()
        content.close()
