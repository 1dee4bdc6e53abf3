"""Listings of a mount: every name once, as it is, whatever others change meanwhile."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, poll, poll_equal, python, run, zipfs
from tests.support.sql import sql
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import Area, Entry, Kind
from zipfs.store.store import open_store

pytestmark = pytest.mark.mount

ODD_NAMES = [
    *(bytes([byte]) for byte in range(1, 256) if byte not in b"/."),
    "ä中🎉".encode(), b"\xff\xfe\xc0", b"-rf", b"new\nline", b"  ", b"...", b"x" * 255, b"\xff" * 255,
]  # fmt: skip


def put_links(store: Path, directory: bytes, links: dict[bytes, bytes]) -> None:
    """Symlinks in the served tree, put there by another process than the mount; what has the name is replaced."""
    with open_store(store) as opened, opened.transaction() as txn:
        parent_id = tree.make_directories(txn, directory)
        for name, target in links.items():
            if txn.catalog.entry(parent_id, name) is not None:
                tree.unlink(txn, parent_id, name)
            inode = tree.new_inode(txn, Kind.SYMLINK, Event.MAKE_SERVED, 0o777, 0, 0, target)
            txn.put_entry(Entry(parent_id, name, inode.id, Area.SERVED))
        tree.touch_directory(txn, parent_id)


def test_odd_names(mount: Mount) -> None:
    put_links(mount.store, b"odd", {name: b"to " + name[:200] for name in ODD_NAMES})
    odd = os.fsencode(mount.point) + b"/odd"
    poll(lambda: os.path.isdir(odd))
    found = {entry.name: entry for entry in os.scandir(odd)}
    assert sorted(found) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        path = os.path.join(odd, name)
        assert os.readlink(path) == b"to " + name[:200]
        assert os.lstat(path).st_size == found[name].stat(follow_symlinks=False).st_size == len(b"to " + name[:200])
        assert os.lstat(path).st_ino == found[name].inode()
    assert len(run("find", odd, "-mindepth", "1", "-printf", ".")) == len(ODD_NAMES)


def test_names_below_ingest_may_be_as_odd(shared: Mount) -> None:
    odd = os.fsencode(shared.ingest) + b"/odd"
    os.mkdir(odd)
    names = sorted(name for name in ODD_NAMES if name != b"~")  # which says that it is not finished
    for name in names:
        os.symlink(b"aim", os.path.join(odd, name))
    assert sorted(os.listdir(odd)) == names
    served = os.fsencode(shared.point) + b"/odd"
    poll_equal(lambda: sorted(os.listdir(served)) if os.path.isdir(served) else [], names)


def test_a_large_directory_is_listed_whole(mount: Mount) -> None:
    """More names than are read in one go, some of them new or removed by others since it was listed first."""
    names = {b"file-%05d" % number: b"x" * (1 + number % 50) for number in range(9000)}
    put_links(mount.store, b"large", names)
    large = os.fsencode(mount.point) + b"/large"
    poll(lambda: os.path.isdir(large))
    assert sorted(os.listdir(large)) == sorted(names)
    sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in os.scandir(large)}
    assert sizes == {name: len(target) for name, target in names.items()}
    changed = {b"file-%05d" % number: b"y" * 100 for number in range(0, 9000, 7)}
    put_links(mount.store, b"large", {**changed, b"added": b"z"})
    poll_equal(
        lambda: {entry.name: entry.stat(follow_symlinks=False).st_size for entry in os.scandir(large)},
        sizes | dict.fromkeys(changed, 100) | {b"added": 1},
    )


_CHANGER = """
import os, random, sys
from pathlib import Path
from tests.mount.test_listing import put_links
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT
from zipfs.store.store import open_store

store, stop = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(3)
while True:
    # Replaced in one transaction: at no time is such a name gone.
    put_links(store, b"busy", {b"replaced-%03d" % chance.randrange(300): b"r" * chance.randint(1, 60) for _ in "many"})
    coming = [b"coming-%03d" % chance.randrange(300) for _ in range(20)]
    with open_store(store) as opened:
        busy = tree.resolve(opened.catalog, b"busy").id
        with opened.transaction() as txn:
            for name in set(coming):
                if txn.catalog.entry(busy, name) is not None:
                    tree.unlink(txn, busy, name)
    put_links(store, b"busy", dict.fromkeys(coming[:10], b"c"))
    if os.path.exists(stop):
        break
"""


@contextmanager
def changing(mount: Mount, stop: Path) -> Iterator[None]:
    """A process that adds, removes and replaces names in `busy` for the time of the block."""
    command = [sys.executable, "-c", _CHANGER, str(mount.store), str(stop)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        yield
    finally:
        stop.touch()
        _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors


def test_a_listing_while_others_change_the_directory(mount: Mount, tmp_path: Path) -> None:
    """Names that are there all the time are in every listing, none is in one twice; in the end, all is as it is."""
    steady = {b"steady-%03d" % number: b"s" * (1 + number % 40) for number in range(300)}
    put_links(mount.store, b"busy", steady | {b"replaced-%03d" % number: b"r" for number in range(300)})
    busy = os.fsencode(mount.point) + b"/busy"
    poll(lambda: os.path.isdir(busy))
    staying = {*steady, *(b"replaced-%03d" % number for number in range(300))}
    with changing(mount, tmp_path / "stop"):
        for _ in range(12):
            names = []
            for entry in os.scandir(busy):
                names.append(entry.name)
                if entry.name in steady:
                    assert entry.stat(follow_symlinks=False).st_size == len(steady[entry.name])
                else:
                    try:
                        found = os.lstat(os.path.join(busy, entry.name))
                    except FileNotFoundError:
                        assert entry.name.startswith(b"coming-")
                        continue
                    assert stat.S_ISLNK(found.st_mode)
                    assert 1 <= found.st_size <= 60
            assert len(names) == len(set(names))
            assert staying <= set(names)
    with open_store(mount.store, read_only=True) as store:
        children = store.catalog.children(tree.resolve(store.catalog, b"busy").id)
        expected = {entry.name: inode.nbytes for entry, inode in children}
    poll_equal(lambda: {name: os.lstat(os.path.join(busy, name)).st_size for name in os.listdir(busy)}, expected)
    assert "Traceback" not in mount.log()


def test_a_listing_while_the_seal_replaces_files(mount: Mount) -> None:
    """A served name that a newer version takes over is in every listing, with the size of one of the versions."""
    sizes = [100_000 + number for number in range(12)]
    (mount.ingest / "model").mkdir()
    for name in ("a", "b"):
        (mount.ingest / "model" / name).write_bytes(bytes(sizes[0]))
        mount.served(f"model/{name}")
    for size in sizes[1:]:
        for name in ("a", "b"):
            (mount.ingest / "model" / name).write_bytes(bytes(size))

        def arrived(size: int = size) -> bool:
            found = {entry.name: entry.stat().st_size for entry in os.scandir(mount.point / "model")}
            assert set(found) == {"a", "b"}
            assert set(found.values()) <= set(sizes)
            return set(found.values()) == {size}

        poll(arrived, what="the next version")


def test_who_adds_a_name_for_each_that_is_read_comes_to_an_end(shared: Mount) -> None:
    many = shared.ingest / "endless"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03}.incomplete").touch()
    listed = 0
    for entry in os.scandir(many):
        os.rename(entry.path, f"{entry.path[:-11]}x.incomplete")
        (many / f"{entry.name[:3]}y{listed}.incomplete").touch()
        listed += 1
    assert listed == 300
    assert len(os.listdir(many)) == 600
    run("rm", "-r", many)


_SEEK = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.readdir.argtypes = libc.telldir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
directory = libc.opendir(os.fsencode(sys.argv[1]))

def read(count=None):
    names = []
    while (count is None or len(names) < count) and (found := libc.readdir(directory)):
        names.append(found.contents.name.decode())
    return names

first = read(100)
at = libc.telldir(directory)
rest = read()
libc.seekdir(directory, at)
again = read()
libc.rewinddir(directory)
print(json.dumps([first, rest, again, read()]))
"""


def test_a_reader_may_go_back_in_a_directory(mount: Mount) -> None:
    names = [f"{number:04}" for number in range(1000)]
    put_links(mount.store, b"sought", {name.encode(): b"aim" for name in names})
    poll((mount.point / "sought").is_dir)
    first, rest, again, whole = json.loads(python(_SEEK, mount.point / "sought"))
    assert rest == again
    assert first + rest == whole
    assert sorted(name for name in whole if name not in (".", "..")) == names


def test_hard_links_are_counted_in_listings(mount: Mount) -> None:
    (mount.ingest / "m").mkdir()
    (mount.ingest / "m" / "one").write_bytes(b"1")
    os.link(mount.ingest / "m" / "one", mount.ingest / "m" / "two")
    (mount.ingest / "m" / "alone").write_bytes(b"2")
    expected = {"one": 2, "two": 2, "alone": 1}

    def counts(directory: Path) -> dict[str, int]:
        lines = run("find", directory, "-type", "f", "-printf", "%f %n\n").splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}

    assert counts(mount.ingest / "m") == expected
    mount.wait()
    poll_equal(lambda: counts(mount.point / "m"), expected)
    mount.remount()
    assert counts(mount.point / "m") == expected
    assert counts(mount.ingest / "m") == expected
    (mount.point / "m" / "two").unlink()
    poll_equal(lambda: counts(mount.point / "m"), {"one": 1, "alone": 1})


def test_the_root_lists_what_it_holds(mount: Mount) -> None:
    put_links(mount.store, b"", {b"aaa": b"1", b"zzz": b"2"})
    poll_equal(lambda: sorted(os.listdir(mount.point)), ["aaa", "ingest", "zzz"])
    found = {entry.name: entry for entry in os.scandir(mount.point)}
    assert [name for name, entry in found.items() if entry.is_dir()] == ["ingest"]
    assert (mount.point / "ingest").stat().st_ino == found["ingest"].inode()


@pytest.mark.parametrize("name", ["system.posix_acl_access", "security.selinux", "trusted.x"])
def test_labels_and_acls_are_not_to_be_had(shared: Mount, name: str) -> None:
    """Not "this file has none": ls(1) would ask for those of the next one."""
    (shared.ingest / "unlabelled").touch()
    for path in (shared.ingest / "unlabelled", shared.point, shared.point / ".zipfs" / "status.json"):
        with pytest.raises(OSError) as refused:
            os.getxattr(path, name)
        assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as refused:
        os.getxattr(shared.ingest / "unlabelled", "user.absent")
    assert refused.value.errno == errno.ENODATA


@pytest.mark.expected_log("row of inode [0-9]+ does not match its checksum")
def test_a_damaged_row_is_an_error_of_its_directory(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start()
    put_links(mount.store, b"hurt", {b"%d" % number: b"aim" for number in range(100)})
    put_links(mount.store, b"well", {b"%d" % number: b"aim" for number in range(100)})
    mount.umount()
    with open_store(mount.store) as store:
        hurt = tree.resolve(store.catalog, b"hurt/50")
        sql(store.catalog, "UPDATE inodes SET mtime_ns = mtime_ns + 1 WHERE id = ?", (hurt.id,))
    mount.start()
    assert len(os.listdir(mount.point / "well")) == 100
    with pytest.raises(OSError) as refused:
        os.listdir(mount.point / "hurt")
    assert refused.value.errno == errno.EIO
    with pytest.raises(OSError) as refused:
        os.lstat(mount.point / "hurt" / "50")
    assert refused.value.errno == errno.EIO
    assert os.readlink(mount.point / "hurt" / "51") == "aim"
    assert "Traceback" not in mount.log()


# What is sealed when


def test_many_directories_are_sealed_and_their_attributes_arrive(mount: Mount) -> None:
    for number in range(40):
        directory = mount.ingest / f"org-{number % 4}" / f"model-{number}"
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"%d" % number)
        directory.chmod(0o710)
        os.utime(directory, ns=(10**18, 10**18 + number))
    for number in range(40):
        served = mount.stored(f"org-{number % 4}/model-{number}/file").parent
        poll_equal(lambda served=served: stat.S_IMODE(served.stat().st_mode), 0o710)  # type: ignore[misc]
        assert served.stat().st_mtime_ns == 10**18 + number
    assert mount.status()["unsealed_files"] == 0


def test_a_removed_tree_stays_away(mount: Mount) -> None:
    """Directories below `ingest/` that outlive it do not bring it back."""
    deep = mount.ingest.joinpath("deep", *(f"level-{number}" for number in range(20)))
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"bottom")
    mount.stored(os.fspath(deep.relative_to(mount.ingest) / "bottom"))
    run("rm", "-r", mount.point / "deep")
    (mount.ingest / "later").write_bytes(b"later")
    mount.stored("later")
    (mount.ingest / "last").write_bytes(b"last")
    mount.stored("last")
    assert sorted(os.listdir(mount.point)) == ["ingest", "last", "later"]


def test_what_could_not_be_sealed_is_tried_again(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2", "--linger", "0").start()
    put_links(mount.store, b"taken", {b"link": b"aim"})
    poll((mount.point / "taken").is_dir)
    (mount.ingest / "taken").write_bytes(b"a file of that name")
    poll(lambda: [failure["path"] for failure in mount.status()["errors"]] == ["taken"])
    assert zipfs("rm", "-r", mount.store, "taken").returncode == 0
    poll((mount.point / "taken").is_file)
    assert (mount.point / "taken").read_bytes() == b"a file of that name"
    poll_equal(lambda: mount.status()["errors"], [])


def test_a_writer_keeps_its_directory_back_until_it_closes(mount: Mount) -> None:
    (mount.ingest / "m").mkdir()
    with open(mount.ingest / "m" / "slow", "wb", buffering=0) as slow:
        slow.write(b"1")
        (mount.ingest / "m" / "quick").write_bytes(b"2")
        (mount.ingest / "other").write_bytes(b"3")
        mount.stored("other")
        assert not (mount.point / "m").exists()
    assert mount.stored("m/slow").read_bytes() == b"1"
    assert mount.stored("m/quick").read_bytes() == b"2"


def test_pending_files_of_a_killed_mount_are_sealed_by_the_next(mount: Mount) -> None:
    (mount.ingest / "many").mkdir()
    for number in range(200):
        (mount.ingest / "many" / f"{number:03}").write_bytes(b"%d" % number)
    (mount.ingest / "many" / "half.incomplete").write_bytes(b"half")
    mount.kill()
    spare = mount.store / "spool" / "999999999"
    spare.write_bytes(b"of a file that was unlinked while it was open")
    mount.start()
    assert sorted(os.listdir(mount.ingest / "many")) == [*(f"{number:03}" for number in range(200)), "half.incomplete"]
    mount.stored("many/199")
    assert len(os.listdir(mount.point / "many")) == 200
    assert mount.status()["unfinished_files"] == ["many/half.incomplete"]
    assert not spare.exists()
    mount.umount()
    mount.fsck()
