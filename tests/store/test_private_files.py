"""A store is its owner's alone: whatever the umask, whoever made it, whatever was done to it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, noise, run, temporary_mounts, zipfs
from tests.support.stores import contents, make_store, model, put_file, weights, write_tree
from zipfs.errors import Damaged, NotAllowed
from zipfs.store.directory import create_store
from zipfs.store.disk.locks import FileLock
from zipfs.store.disk.reserve import Reserve
from zipfs.store.marker import MARKER
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.slow

NOBODY = 65534


def wider(path: Path) -> dict[str, str]:
    """Everything of a store that gives others any right, with its mode."""
    found = [path, *path.rglob("*")]
    return {
        str(item.relative_to(path.parent)): stat.filemode(item.lstat().st_mode)
        for item in found
        if item.lstat().st_mode & 0o077
    }


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
    return zipfs(*arguments, prefix=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"))


@pytest.fixture
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: only root can be several users")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may look into and write to."""
    with tempfile.TemporaryDirectory(prefix="zipfs-private-") as made:
        path = Path(made)
        path.chmod(0o777)
        yield path


@pytest.mark.mount
def test_nothing_in_a_store_is_open_to_others_whatever_is_done_to_it(tmp_path: Path) -> None:
    """A mount that takes files in, rotates its log and optimizes; then every command that writes."""
    directory = Path(tempfile.mkdtemp(prefix="zipfs-private-"))
    with umask(0), temporary_mounts(directory) as make:
        mount = make("--quiet", "0.1", "--optimize-after", "0.1").start()
        write_tree(mount.ingest / "m", {b"config.json": b"{}", b"a.safetensors": model(weights(400_000))})
        (mount.ingest / "later").write_bytes(noise(10_000, 1))
        assert wider(mount.store) == {}
        mount.wait()
        store = mount.store
        mount.umount()
        assert wider(store) == {}
        for command in (
            ("ingest", store, write_tree(tmp_path / "n", {b"b.safetensors": model(weights(400_000, 2))})),
            ("rm", store, "later"),
            ("gc", store),
            ("optimize", store),
            ("rebuild", store),
        ):
            done = zipfs(*command)
            assert done.returncode == 0, done.stderr
            assert wider(store) == {}, command[0]
        with open(max((store / "manifests").glob("*.log")), "ab") as log:
            log.write(b"what a power cut leaves")
        (store / "catalog.db").unlink()
        mended = zipfs("fsck", store, "--repair")
        assert "catalog rebuilt" in mended.stdout, mended.stderr
        assert list((store / "lost+found").iterdir())
        assert wider(store) == {}


def test_a_umask_that_takes_the_owners_own_rights(tmp_path: Path) -> None:
    with umask(0o777):
        create_store(tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        put_file(store, tmp_path / "scratch", b"file", b"content")
    for item in (tmp_path / "store").rglob("*"):
        assert stat.S_IMODE(item.stat().st_mode) == (0o700 if item.is_dir() else 0o600), item


def open_up(store: Path) -> None:
    subprocess.run(["chmod", "-R", "go=rX", store], check=True)


def test_a_store_that_was_open_is_closed_by_whoever_writes_and_told_of_once(tmp_path: Path) -> None:
    store = make_store(tmp_path, {b"file": b"content"})
    open_up(store)
    assert "closed" not in zipfs("cat", store, "file").stderr
    assert wider(store)  # reading changes nothing
    told = zipfs("gc", store)
    assert told.returncode == 0
    assert [line for line in told.stderr.splitlines() if "drwxr-xr-x" in line and str(store) in line], told.stderr
    assert wider(store) == {}
    assert "open to other" not in zipfs("gc", store).stderr


def test_closing_a_store_that_was_broken_off_is_done_the_next_time(tmp_path: Path) -> None:
    store = make_store(tmp_path, {b"file": b"content"})
    open_up(store)
    store.chmod(0o700)  # the first step of it
    open_store(store).close()
    assert wider(store) == {}


def test_a_file_with_a_name_elsewhere_keeps_its_mode(tmp_path: Path) -> None:
    """It could be anybody's: whoever could write to an open store could link to what is ours."""
    store = make_store(tmp_path, {b"file": b"content"})
    other = tmp_path / "other"
    other.write_bytes(b"")
    other.chmod(0o644)
    os.link(other, store / "log" / "planted")
    open_up(store)
    other.chmod(0o644)
    open_store(store).close()
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    assert stat.S_IMODE(store.stat().st_mode) == 0o700


def test_bits_that_a_team_set_are_kept_and_its_rights_are_not(tmp_path: Path) -> None:
    """A directory that is set-group-id stays that; to share what is stored there is a mount."""
    store = make_store(tmp_path, {b"file": b"content"})
    store.chmod(0o2770)
    open_store(store).close()
    assert stat.S_IMODE(store.stat().st_mode) == 0o2700


def test_an_empty_directory_that_becomes_a_store_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(0o777)
    create_store(path)
    assert wider(path) == {}


@pytest.mark.usefixtures("root_only")
def test_what_root_makes_in_the_store_of_a_user_belongs_to_the_user(open_directory: Path) -> None:
    source = write_tree(open_directory / "source", {b"a": noise(5000, 1), b"b": noise(5000, 2)})
    store = open_directory / "store"
    made = as_nobody("ingest", store, source / "a")
    assert made.returncode == 0, made.stderr
    for command in (("ingest", store, source / "b"), ("rm", store, "a"), ("gc", store), ("rebuild", store)):
        done = zipfs(*command)
        assert done.returncode == 0, done.stderr
    assert {item.lstat().st_uid for item in [store, *store.rglob("*")]} == {NOBODY}
    after = as_nobody("fsck", store, "--read-data")
    assert after.returncode == 0, after.stdout + after.stderr
    assert as_nobody("gc", store).returncode == 0


@pytest.mark.usefixtures("root_only")
def test_nobody_but_the_owner_writes_to_a_store_even_where_modes_would_let_him(open_directory: Path) -> None:
    store = make_store(open_directory, {b"file": b"content"})
    subprocess.run(["chmod", "-R", "a+rwX", store], check=True)
    before = sorted((store / "packs").iterdir())
    for command in (("gc", store), ("ingest", store, "/etc/hostname"), ("rebuild", store), ("rm", store, "file")):
        done = as_nobody(*command)
        assert done.returncode == 3
        assert "belongs to root" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert as_nobody("cat", store, "file").stdout == "content"
    assert sorted((store / "packs").iterdir()) == before
    assert contents(store) == {b"file": b"content"}


@pytest.mark.usefixtures("root_only")
def test_no_store_is_made_in_the_directory_of_somebody_else(open_directory: Path) -> None:
    shared = open_directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = as_nobody("ingest", shared, "/etc/hostname")
    assert done.returncode == 3
    assert "belongs to root" in done.stderr
    assert list(shared.iterdir()) == []


@pytest.mark.usefixtures("root_only")
def test_a_closed_store_says_whose_it_is(open_directory: Path) -> None:
    store = make_store(open_directory, {b"file": b"content"})
    for command in (("cat", store, "file"), ("stat", store), ("fsck", store), ("ingest", store), ("status", store)):
        done = as_nobody(*command)
        assert done.returncode == 3, command
        assert "belongs to root and is closed to others" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("root_only")
def test_the_store_of_a_file_system_without_owners_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT, and on some network drives, all files belong to one user, whoever made them."""
    store = make_store(tmp_path, {b"file": b"content"})
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with open_store(store) as opened:
        assert isinstance(opened, Store)
    os.chown(store, 4712, 4712)
    with pytest.raises(NotAllowed):
        open_store(store)


@pytest.mark.parametrize("name", ["locks/use", "spool/7", "log/zipfs.log", MARKER])
def test_no_link_in_a_store_is_written_through(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path, {b"file": b"content"})
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    planted = store / name
    planted.unlink(missing_ok=True)
    planted.symlink_to(victim)
    for command in (("ingest", store, "/etc/hostname"), ("gc", store)):
        done = zipfs(*command)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or str(store) in done.stderr
    code = (
        "import pathlib, sys; from zipfs.mount.daemon import log_to; import logging;"
        " log_to(pathlib.Path(sys.argv[1]), also_stderr=False); logging.warning('through')"
    )
    run(sys.executable, "-c", code, store / "log" / "zipfs.log", cwd=REPOSITORY, check=False)
    assert victim.read_bytes() == b"mine"


def test_a_lock_is_made_for_its_owner(tmp_path: Path) -> None:
    with umask(0):
        lock = FileLock(tmp_path / "lock")
        assert lock.try_acquire()
        lock.release()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_room_for_removals_is_not_taken_from_what_a_link_leads_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "reserve").symlink_to(victim)
    reserve = Reserve(tmp_path / "reserve")
    reserve.fill()
    with pytest.raises(Damaged):
        reserve.spend()
    assert victim.read_bytes() == b"mine"
