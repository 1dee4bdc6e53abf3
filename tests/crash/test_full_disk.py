"""A disk that is full is told clearly, nothing is lost by it, and everything goes on once there is space again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.stores import (
    collect_garbage,
    compress,
    contents,
    copy_in,
    import_path,
    model,
    noise,
    problems,
    put_file,
    remove,
    spooled,
    tuned,
    weights,
    write_tree,
)
from zipfs.errors import NoSpace, NotFound, ZipfsError
from zipfs.ingest.queue import seal_everything
from zipfs.ingest.spool import Spool
from zipfs.library import Library
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.objects.values import INGEST_ROOT, Kind
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.crash

DISK_NBYTES = 48 << 20
ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_NBYTES}", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def free_nbytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def leave_free(disk: Path, nbytes: int) -> Path:
    """Let somebody else fill the disk but for `nbytes`."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free_nbytes(disk) - nbytes))
    return ballast


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zipfs.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)


BASE = weights(100_000)
FILES = {b"m/base": model(BASE), b"m/tuned": model(tuned(BASE)), b"m/noise": noise(300_000, 1)}


@pytest.fixture
def path(disk: Path, tmp_path: Path) -> Path:
    path = disk / "store"
    with open_store(path, create=True) as store:
        import_path(store, write_tree(tmp_path / "m", {name[2:]: content for name, content in FILES.items()}), b"m")
    return path


def test_a_model_that_does_not_fit_is_refused_and_fits_when_there_is_space(path: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(noise(30 << 20, 2))
    ballast = leave_free(path.parent, 20 << 20)
    done = run("ingest", path, tmp_path / "large")
    assert done.returncode == 4
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 2
    assert contents(path) == FILES
    with open_store(path) as store:
        assert problems(store) == []
    assert list((path / "packs").glob("*.part")) == []
    ballast.unlink()
    assert run("ingest", path, tmp_path / "large").returncode == 0
    assert contents(path) == {**FILES, b"large": (tmp_path / "large").read_bytes()}


def test_small_files_still_fit_when_one_of_a_batch_does_not(path: Path, tmp_path: Path) -> None:
    files = {b"a": noise(1 << 20, 3), b"huge": noise(30 << 20, 4), b"z": noise(1 << 20, 5)}
    leave_free(path.parent, 20 << 20)
    done = run("ingest", path, write_tree(tmp_path / "n", files))
    assert done.returncode == 4
    assert "huge" in done.stderr or "no space left" in done.stderr
    found = contents(path)
    assert found[b"n/a"] == files[b"a"]
    assert b"n/huge" not in found


def test_a_write_is_refused_before_the_disk_is_full_to_the_last_byte(path: Path) -> None:
    with open_store(path) as store:
        reserve = 5 << 20
        spool = Spool(store, reserve)
        with store.transaction() as txn:
            inode = ingest_side.create(txn, INGEST_ROOT, b"big", Kind.FILE, 0o644, 0, 0)
        chunk = noise(1 << 20, 6)
        written = 0
        spool.acquire(inode, writing=True, fresh=True)
        refused = False
        while not refused:
            try:
                written += spool.write(inode, written, chunk)
            except NoSpace:
                refused = True
        assert written > 20 << 20
        assert free_nbytes(path.parent) > reserve // 2
        with store.transaction() as txn:
            gone = tree.unlink(txn, INGEST_ROOT, b"big")
        assert gone is not None
        spool.release(inode, writing=True)
        store.spool_path(inode).unlink()
        copy_in(store, b"small", b"fits")
        compress(store)
        assert problems(store) == []
    assert contents(path) == {**FILES, b"small": b"fits"}


def test_what_waits_in_the_spool_stays_there_until_there_is_space_to_compress_it(path: Path) -> None:
    waiting = {b"late/a": noise(6 << 20, 7), b"late/b": noise(6 << 20, 8)}
    with open_store(path) as store:
        for name, content in waiting.items():
            copy_in(store, name, content)
        ballast = leave_free(path.parent, 5 << 20)
        with pytest.raises(NoSpace):
            compress(store)
        assert contents(path) == {**FILES, **waiting}
        assert problems(store) == []
        ballast.unlink()
        _forget_failures(store)
        compress(store)
        assert contents(path) == {**FILES, **waiting}
        assert list((path / "spool").iterdir()) == []
        assert problems(store) == []


def _forget_failures(store: Store) -> None:
    """What failed is not tried again at once; a person who has freed space need not wait in a test."""
    with store.transaction() as txn:
        for inode_id in store.catalog.failures():
            txn.clear_failure(inode_id)


def _ingest(path: Path, scratch: Path) -> None:
    with open_store(path) as store:
        put_file(store, scratch, b"new/one", noise(400_000, 9))


def _copy(path: Path, scratch: Path) -> None:
    with open_store(path) as store:
        copy_in(store, b"new/two", noise(200_000, 10))
        seal_everything(store)
        compress(store)


def _move(path: Path, scratch: Path) -> None:
    with open_store(path) as store:
        for name in (b"moved-1", b"moved-2"):
            with store.transaction() as txn:
                tree.make_directories(txn, name)


def _collect(path: Path, scratch: Path) -> None:
    with open_store(path) as store:
        collect_garbage(store)


def _remove(path: Path, scratch: Path) -> None:
    with open_store(path) as store, suppress(NotFound):
        remove(store, b"dead")


def _rebuild(path: Path, scratch: Path) -> None:
    rebuild(path)


def _read(path: Path, scratch: Path) -> None:
    with Library(path) as library:
        library.read("m/base")


@pytest.mark.parametrize("free_kib", [0, 4, 8, 16, 32, 48, 64, 100, 160, 256, 400, 700, 1200, 4096, 4200, 4800])
@pytest.mark.parametrize("act", [_ingest, _copy, _move, _collect, _remove, _rebuild, _read])
def test_nothing_is_lost_however_little_is_free(
    free_kib: int, act: Callable[[Path, Path], None], path: Path, tmp_path: Path
) -> None:
    """Either it works or it says that there is no space; then everything is as it was, and works later."""
    dead = noise(500_000, 11)
    with open_store(path) as store:
        put_file(store, tmp_path, b"dead", dead)
        copy_in(store, b"waiting", b"in the spool")
        seal_everything(store)
    if act is _collect:
        with open_store(path) as store:
            remove(store, b"dead")
    ballast = leave_free(path.parent, free_kib << 10)
    try:
        act(path, tmp_path / "scratch")
    except NoSpace as error:
        assert str(path) in str(error)
    except ZipfsError as error:
        pytest.fail(f"not told as a full disk: {type(error).__name__}: {error}")
    ballast.unlink()

    expected = {**FILES, b"waiting": b"in the spool"}
    found = contents(path)
    assert {name: found[name] for name in expected} == expected
    with open_store(path) as store:
        assert problems(store) == []
        below = spooled(store)
        for name, content in ((b"new/one", noise(400_000, 9)), (b"new/two", noise(200_000, 10))):
            assert found.get(name) in (None, content)
            # A copy that was told of the full disk while it wrote may be cut short, as on any file system.
            assert content.startswith(below.get(name, b""))
    act(path, tmp_path / "scratch")
    with open_store(path) as store:
        _forget_failures(store)
        compress(store)
        collect_garbage(store)
        assert problems(store) == []
    found = contents(path)
    assert {name: found[name] for name in expected} == expected
    assert (act is _ingest) == (b"new/one" in found)
    assert (act is _copy) == (b"new/two" in found)
    assert (act in (_remove, _collect)) == (b"dead" not in found)
