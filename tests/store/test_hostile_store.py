"""A store that somebody made who means ill, opened by somebody else: clear errors, no hang, nothing written elsewhere.

Such a store has sound checksums: whoever makes one can compute them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import CliRunner

from tests.support.mounts import zipfs
from tests.support.stores import make_store, put_file, run
from tests.support.sums import entry_sum, inode_sum
from zipfs.cli.extraction import Extraction
from zipfs.cli.main import cli
from zipfs.errors import ManifestDamaged, ZipfsError
from zipfs.ingest.import_tree import find
from zipfs.library import Library, Node
from zipfs.store.catalog import log_record
from zipfs.store.catalog.log_record import Changes
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, Area, Entry, Inode, InodeId, Kind, State
from zipfs.store.store import open_store

pytestmark = pytest.mark.slow

TIMEOUT_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = make_store(tmp_path, {b"d/file": b"content"})
    with open_store(path) as opened:
        put_file(opened, tmp_path, b"other", b"more")
    return path


def catalog(store: Path) -> sqlite3.Connection:
    return sqlite3.connect(store / "catalog.db", isolation_level=None)


def put_inode(db: sqlite3.Connection, inode: Inode) -> None:
    columns = ("id", "kind", "state", "mode", "uid", "gid", "nbytes", "mtime_ns", "ctime_ns", "target")
    values = [getattr(inode, name) for name in columns]
    db.execute(
        "INSERT OR REPLACE INTO inodes (id, kind, state, mode, uid, gid, nbytes, mtime_ns, ctime_ns, target,"
        " stored_nbytes, sha256, layout_sum, atime_ns, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *[str(value) if isinstance(value, Kind | State) else value for value in values],
            inode.stored_nbytes,
            inode.sha256,
            inode.layout_sum,
            inode.atime_ns,
            inode_sum(inode),
        ),
    )


def put_entry(db: sqlite3.Connection, entry: Entry) -> None:
    db.execute(
        "INSERT OR REPLACE INTO entries (parent_id, name, inode_id, area, sum) VALUES (?, ?, ?, ?, ?)",
        (entry.parent_id, entry.name, entry.inode_id, int(entry.area), entry_sum(entry)),
    )


def inode_of(store: Path, path: bytes) -> Inode:
    with open_store(store, read_only=True) as opened:
        return tree.resolve(opened.catalog, path)


def refused(*command: object) -> str:
    """The one line with which a command ends that nothing was done by."""
    done = zipfs(*command, timeout_s=TIMEOUT_S)
    assert done.returncode in (1, 3, 5), (command, done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("zipfs: "), done.stderr
    return done.stderr


# Names and attributes


@pytest.mark.parametrize("name", [b"..", b".", b"../../planted", b"/etc/planted", b"a/b", b"nul\0"])
def test_a_name_that_leads_out_of_the_tree(store: Path, tmp_path: Path, name: bytes) -> None:
    with closing(catalog(store)) as db:
        put_entry(db, Entry(inode_of(store, b"d").id, name, inode_of(store, b"other").id, Area.SERVED))
    for command in (("extract", store, "d", tmp_path / "out"), ("ls", "-r", store), ("report", store, "-o", "-")):
        assert "name that no file can have" in refused(*command)
    assert zipfs("fsck", store).returncode == 5
    assert not (tmp_path / "planted").exists()
    assert zipfs("cat", store, "other").stdout == "more"


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 0o020666},  # added to that of a file it is that of a link
        {"mode": -1},
        {"uid": -1},
        {"gid": 1 << 32},
        {"mtime_ns": "soon"},
        {"atime_ns": 1.5},
        {"nbytes": "many"},
    ],
)
def test_attributes_that_no_file_can_have(store: Path, tmp_path: Path, change: dict[str, object]) -> None:
    inode = replace(inode_of(store, b"other"), **change)  # type: ignore[arg-type]
    with closing(catalog(store)) as db:
        put_inode(db, inode)
    assert str(inode.id) in refused("extract", store, "other", tmp_path / "out")
    assert "Traceback" not in zipfs("ls", "-l", store).stderr


@pytest.mark.parametrize("target", [b"", b"nul\0", b"x" * 5000])
def test_a_link_to_what_cannot_be_linked_to(store: Path, tmp_path: Path, target: bytes) -> None:
    link = replace(inode_of(store, b"other"), kind=Kind.SYMLINK, state=State.NONE, target=target)
    with closing(catalog(store)) as db:
        put_inode(db, link)
    refused("extract", store, "", tmp_path / "out")


def loop(db: sqlite3.Connection, directory: InodeId) -> None:
    put_entry(db, Entry(directory, b"again", directory, Area.SERVED))


def test_a_directory_in_itself(store: Path, tmp_path: Path) -> None:
    with closing(catalog(store)) as db:
        loop(db, inode_of(store, b"d").id)
    for command in (("extract", store, "", tmp_path / "out"), ("ls", "-r", store), ("rm", "-r", store, "d")):
        assert "damaged" in refused(*command)
    assert zipfs("fsck", store, timeout_s=TIMEOUT_S).returncode == 5


def test_directories_that_hold_each_other(store: Path) -> None:
    """No path leads to them from the top, yet files in them have names."""
    directory = inode_of(store, b"d")
    one, other = InodeId(901), InodeId(902)
    with closing(catalog(store)) as db:
        for inode_id in (one, other):
            put_inode(db, replace(directory, id=inode_id))
        put_entry(db, Entry(one, b"x", other, Area.SERVED))
        put_entry(db, Entry(other, b"y", one, Area.SERVED))
        put_entry(db, Entry(one, b"file", inode_of(store, b"other").id, Area.SERVED))
        db.execute("DELETE FROM entries WHERE name = x'6f74686572'")
    for command in (("fsck", store, "--read-data"), ("stat", store), ("gc", store), ("families", store)):
        done = zipfs(*command, timeout_s=TIMEOUT_S)
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", [b"..", b"a/b", b""])
def test_a_manifest_log_with_such_names(name: bytes) -> None:
    entry = Entry(ROOT, name, InodeId(5), Area.SERVED)
    data = log_record.encode(Changes(entries={(ROOT, name): entry}), 1)
    with pytest.raises(ManifestDamaged):
        list(log_record.decode(data, "segment", 0))


# Extracting


def test_extracting_gives_no_rights_that_the_store_grants_itself(store: Path, tmp_path: Path) -> None:
    """No set-user-id program, and no capabilities."""
    inode = inode_of(store, b"other")
    with closing(catalog(store)) as db:
        put_inode(db, replace(inode, mode=0o6755, uid=os.getuid(), gid=os.getgid()))
        capability = bytes.fromhex("0100000280000000000000000000000000000000")  # cap_setuid, effective
        for name in (b"security.capability", b"trusted.x", b"user.kept"):
            db.execute("INSERT INTO xattrs (inode_id, name, value) VALUES (?, ?, ?)", (inode.id, name, capability))
    out = tmp_path / "out"
    done = zipfs("extract", store, "other", out)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert os.listxattr(out) == ["user.kept"]


def test_what_is_extracted_is_for_its_owner_until_it_is_complete(store: Path, tmp_path: Path) -> None:
    """Somebody could open it before it is closed to him, and read the rest of it later."""
    secret = replace(inode_of(store, b"d/file"), mode=0o600)
    with closing(catalog(store)) as db:
        put_inode(db, secret)
    modes: list[int] = []

    def copy(node: Node, file: BinaryIO) -> None:
        modes.extend((os.fstat(file.fileno()).st_mode, (tmp_path / "out").stat().st_mode))

    before = os.umask(0)
    try:
        with Library(store) as library, Extraction(library, tmp_path / "out", copy) as extraction:
            for node in library.walk(library.node("d")):
                extraction.put(node)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(mode) for mode in modes] == [0o600, 0o700]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == inode_of(store, b"d").mode


def test_nothing_is_extracted_through_a_link_that_somebody_puts_there_meanwhile(store: Path, tmp_path: Path) -> None:
    """Whoever may write to the destination swaps a directory for a link while it is being filled."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Library(store) as library:
        nodes = list(library.walk(library.node("d")))
        with Extraction(library, out, lambda node, file: file.write(b"content")) as extraction:
            extraction.put(nodes[0])
            out.rename(tmp_path / "aside")
            out.symlink_to(elsewhere)
            extraction.put(nodes[1])
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "aside" / "file").read_bytes() == b"content"


# The catalog


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON counters BEGIN DELETE FROM inodes; END",
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
    ],
)
def test_a_catalog_that_brings_along_what_runs(store: Path, tmp_path: Path, statement: str) -> None:
    with closing(catalog(store)) as db:
        db.execute(statement)
    for command in (("cat", store, "other"), ("ingest", store, "/etc/hostname"), ("gc", store)):
        assert "none of ZipFS's" in refused(*command)
    assert zipfs("rebuild", store).returncode == 0
    assert zipfs("cat", store, "other").stdout == "more"


def test_a_catalog_whose_table_is_a_view_without_an_end(store: Path) -> None:
    with closing(catalog(store)) as db:
        db.execute("ALTER TABLE position RENAME TO p")
        db.execute(
            "CREATE VIEW position AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT i AS segment, i AS offset, i AS seq FROM n ORDER BY i DESC"
        )
    assert "none of ZipFS's" in refused("cat", store, "other")


def test_a_journal_that_would_have_files_deleted(store: Path) -> None:
    """SQLite deletes what a rollback journal names as the journal above it."""
    (store / "catalog.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    assert "never leaves behind" in refused("gc", store)


# Links and pipes in the place of files and directories


def plant_link(path: Path, elsewhere: Path) -> None:
    target = elsewhere / path.name
    path.rename(target) if path.exists() else target.write_bytes(b"")
    path.symlink_to(target)


def plant_pipe(path: Path, elsewhere: Path) -> None:
    if path.exists():
        path.rename(elsewhere / path.name)
    os.mkfifo(path)


@pytest.mark.parametrize("plant", [plant_link, plant_pipe])
@pytest.mark.parametrize(
    "name", ["catalog.db", "catalog.db-wal", "catalog.db-shm", "ZIPFS", "locks/use", "packs/*.pack", "manifests/*.log"]
)
def test_a_link_or_a_pipe_in_the_place_of_a_file(
    store: Path, tmp_path: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    """Opening a pipe waits until somebody writes to it: for good."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = sorted(store.glob(name)) or [store / name]
    for path in found:
        plant(path, elsewhere)
    reading = zipfs("fsck", store, timeout_s=TIMEOUT_S)
    assert reading.returncode in (3, 5), reading.stdout + reading.stderr
    for command in (("cat", store, "other"), ("gc", store), ("rebuild", store), ("ingest", store)):
        done = zipfs(*command, timeout_s=TIMEOUT_S)
        assert "Traceback" not in done.stderr, done.stderr
    assert {path.name for path in elsewhere.iterdir()} <= {path.name for path in found}


@pytest.mark.parametrize("name", ["packs", "manifests", "spool", "locks", "log"])
def test_a_link_in_the_place_of_a_directory(store: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (store / name).rename(elsewhere)
    (store / name).symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    for command in (("cat", store, "other"), ("gc", store), ("ingest", store, "/etc/hostname"), ("rebuild", store)):
        assert "bind mount" in refused(*command)
    assert sorted(elsewhere.iterdir()) == before


def test_a_marker_that_is_no_marker(tmp_path: Path) -> None:
    for content in (b"[" * 100_000, b'{"format": 2, "id": "' + b"0" * 1_000_000, b'{"format": 1e999, "id": ""}'):
        (tmp_path / "ZIPFS").write_bytes(content)
        with pytest.raises(ZipfsError):
            open_store(tmp_path, read_only=True)


# Whoever may write where `zipfs ingest` reads


def test_a_file_that_is_swapped_for_a_link_keeps_the_rights_of_what_was_read(store: Path, tmp_path: Path) -> None:
    """Between the look at a directory and the reading, its owner puts a link to a secret in the place of a file."""
    mine, secret = tmp_path / "mine", tmp_path / "secret"
    mine.mkdir()
    (mine / "file").write_bytes(b"harmless")
    (mine / "file").chmod(0o644)
    secret.write_bytes(b"a secret")
    secret.chmod(0o600)
    with open_store(store) as opened:
        found = find(opened, mine, b"mine")
        (mine / "file").unlink()
        (mine / "file").symlink_to(secret)
        run(opened, found)
        inode = tree.resolve(opened.catalog, b"mine/file")
        assert inode.mode == 0o600


def test_a_file_that_is_swapped_for_a_pipe_is_told_and_not_waited_for(store: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_bytes(b"harmless")
    with open_store(store) as opened:
        found = find(opened, mine, b"mine")
        (mine / "file").unlink()
        os.mkfifo(mine / "file")
        listener = run(opened, found)
    assert "not a regular file" in listener.failures[0]


def test_a_report_is_not_written_through_a_link(store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / f".zipfs-{os.getpid()}.html").symlink_to(victim)
    done = CliRunner().invoke(cli, ["report", str(store), "-o", str(shared / "report.html")])
    assert done.exit_code == 0, done.output
    assert victim.read_bytes() == b"mine"
    assert (shared / "report.html").is_file()


def test_rebuilding_makes_no_file_elsewhere(store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for suffix in ("", "-wal", "-shm", "-journal"):
        (store / f"catalog.db.new{suffix}").symlink_to(victim)
    rebuild(store)
    assert victim.read_bytes() == b"mine"
