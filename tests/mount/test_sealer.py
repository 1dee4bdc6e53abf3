"""What the sealer tells of what it cannot seal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from tests.support.stores import copy_in, noise
from zipfs.ingest.seal_plan import Held, Pending
from zipfs.ingest.spool import Spool
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.sealer import Sealer
from zipfs.store.namespace import tree
from zipfs.store.namespace.unfinished import STANDARD
from zipfs.store.objects.values import INGEST_ROOT
from zipfs.store.store import open_store


def test_a_file_that_was_opened_while_it_was_looked_at_is_not_told_to_be_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A plan that meets a file between its opening and its first byte takes it for one that a kill has cut off."""
    with open_store(tmp_path / "store", create=True) as store:
        inode = copy_in(store, b"file", noise(100))
        entry = tree.require(store.catalog, INGEST_ROOT, b"file")
        item = Pending(entry, inode, b"file", interrupted=True)
        held = Held((item,), (), (item,))
        change_log = ChangeLog(store)
        sealer = Sealer(change_log, Spool(store, 0), STANDARD, quiet_s=1, linger_s=1)

        async def note(*, opened: bool) -> None:
            change_log.unexamined = {INGEST_ROOT} if opened else set()
            await sealer._note_interrupted(held)

        with caplog.at_level(logging.WARNING):
            trio.run(lambda: note(opened=True))
            assert caplog.messages == []
            assert not store.catalog.has_failure(inode.id)
            for _ in range(2):
                trio.run(lambda: note(opened=False))
            assert len(caplog.messages) == 1
            assert "was being written when the mount ended" in caplog.messages[0]
            assert store.catalog.has_failure(inode.id)
        change_log.close()
