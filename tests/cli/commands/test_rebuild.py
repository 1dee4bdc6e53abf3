"""`zipfs rebuild`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.stores import contents, noise
from zipfs.store.store import open_store


def test_rebuild_and_repair(run: Run, store: Path) -> None:
    (store / "catalog.db").unlink()
    assert_refused(run("ls", store), 3, str(store), "zipfs rebuild")
    assert_refused(run("ingest", store), 3, str(store), "zipfs rebuild")
    done = run("fsck", store)
    assert done.code == 5
    assert "catalog" in done.out.decode()
    assert run("rebuild", store).code == 0
    assert run("fsck", store).code == 0
    (store / "catalog.db").write_bytes(noise(5000))
    assert_refused(run("ls", store), 5, "catalog", "zipfs rebuild")
    done = run("fsck", store, "--repair", "--json")
    assert (done.code, done.json["problems"]) == (0, [])
    assert done.json["mended"] != []
    assert contents(store) == {b"m/" + name: content for name, content in FILES.items()}


def test_a_store_in_use_by_a_rebuild_is_busy(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        assert_refused(run("rebuild", store), 4, str(store))
        use = opened.lock("use")
    assert use.try_acquire()
    for command in (["ls", store], ["ingest", store], ["fsck", store]):
        assert_refused(run(*command), 4, str(store), "rebuilt")
    use.release()
    assert run("ls", store).code == 0
