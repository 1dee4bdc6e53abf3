"""Files of the served tree are written in place: everybody sees what is written; it is compressed when it is quiet."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.support.mounts import Mount, exchange, noise, on_disk_of_its_own, poll, poll_equal, run, zipfs
from tests.support.stores import model, tuned, weights

pytestmark = pytest.mark.mount

DATA = noise(300_001, 1)
"""It does not end with a block."""


def put(mount: Mount, name: str, data: bytes = DATA) -> Path:
    """A file that is compressed."""
    (mount.point / name).write_bytes(data)
    return mount.stored(name)


def spooled_nbytes(mount: Mount) -> int:
    """What the spool takes on the disk, holes left out."""
    return sum(path.stat().st_blocks * 512 for path in (mount.store / "spool").iterdir())


@contextmanager
def sleeping_worker(mount: Mount) -> Iterator[None]:
    """Nothing is compressed meanwhile."""
    pid = poll(lambda: mount.status()["worker_pid"], what="a worker")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_new_file_is_served_from_its_first_byte(shared: Mount) -> None:
    path = shared.point / "new"
    with open(path, "wb", buffering=0) as file:
        file.write(DATA)
        assert path.read_bytes() == DATA
        assert shared.state(path) == "open"
        file.write(b"more")
        assert path.read_bytes() == DATA + b"more"
        assert path.stat().st_size == len(DATA) + 4
    assert shared.stored("new").read_bytes() == DATA + b"more"


def _overwrite(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(5000)
        file.write(b"changed")


def _append(path: Path) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(b"appended")


def _cut(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.truncate(7001)


def _cut_by_path(path: Path) -> None:
    os.truncate(path, 7001)


def _cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def _cut_and_grow(path: Path) -> None:
    os.truncate(path, 7001)
    os.truncate(path, 20_000)


def _grow(path: Path) -> None:
    os.truncate(path, len(DATA) + 9000)


def _leave_a_hole(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(len(DATA) + 10_000)
        file.write(b"beyond")


def _map(path: Path) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[4090:4100] = b"0123456789"


CHANGES: dict[Callable[[Path], None], bytes] = {
    _overwrite: DATA[:5000] + b"changed" + DATA[5007:],
    _append: DATA + b"appended",
    _cut: DATA[:7001],
    _cut_by_path: DATA[:7001],
    _cut_to_nothing: b"",
    _cut_and_grow: DATA[:7001] + bytes(12_999),
    _grow: DATA + bytes(9000),
    _leave_a_hole: DATA + bytes(10_000) + b"beyond",
    _map: DATA[:4090] + b"0123456789" + DATA[4100:],
}


@pytest.mark.parametrize("state", ["sealed", "stored"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_change_is_seen_by_all_who_have_it_open(shared: Mount, change: Callable[[Path], None], state: str) -> None:
    """Also through a descriptor and a mapping that were there before; and it is compressed once more."""
    path, expected = shared.point / f"{change.__name__}-{state}", CHANGES[change]
    with sleeping_worker(shared) if state == "sealed" else nullcontext():
        path.write_bytes(DATA)
        poll_equal(lambda: shared.state(path), state)
        inode = path.stat().st_ino
        with open(path, "rb", buffering=0) as reader, mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert bytes(view) == DATA
            change(path)
            assert os.pread(reader.fileno(), len(DATA) * 2, 0) == expected
            shown = min(len(DATA), len(expected))
            assert view[:shown] == expected[:shown]
            assert path.read_bytes() == expected
            assert os.fstat(reader.fileno()).st_size == len(expected)
            assert path.stat().st_ino == inode
    assert shared.stored(path.name).read_bytes() == expected
    assert path.stat().st_ino == inode


def test_an_empty_file_that_is_opened_for_writing_is_no_damage(mount: Mount) -> None:
    """Nothing shows through it: its spool file says nothing of holes."""
    path = put(mount, "empty", b"")
    with open(path, "ab", buffering=0):
        assert mount.state(path) == "open"
        mount.fsck()


@pytest.mark.parametrize("state", ["sealed", "stored"])
def test_opening_for_writing_is_no_change_yet(shared: Mount, state: str) -> None:
    path = shared.point / f"untouched-{state}"
    with sleeping_worker(shared) if state == "sealed" else nullcontext():
        path.write_bytes(DATA)
        poll_equal(lambda: shared.state(path), state)
        os.utime(path, ns=(10**18, 10**18 + 123))
        before = path.stat()
        with open(path, "r+b", buffering=0) as file:
            assert shared.state(path) == "open"
            assert file.read() == DATA
            assert os.fstat(file.fileno()).st_mtime_ns == before.st_mtime_ns
    found = shared.stored(path.name).stat()
    assert (found.st_mtime_ns, found.st_ino, found.st_mode) == (before.st_mtime_ns, before.st_ino, before.st_mode)
    assert path.read_bytes() == DATA


def test_the_time_of_the_last_change_never_goes_back(shared: Mount) -> None:
    """Whoever looks for what has changed since a time would miss what was written after it."""
    path = shared.point / "times"
    with open(path, "wb", buffering=0) as file:
        file.write(b"1")
        time.sleep(0.05)
        file.write(b"2")
    written = path.stat()
    shared.stored("times")
    stored = path.stat()
    assert stored.st_mtime_ns == written.st_mtime_ns
    assert stored.st_ctime_ns >= written.st_ctime_ns


def test_attributes_do_not_open_content(shared: Mount) -> None:
    path = put(shared, "attributes")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 5))
    os.setxattr(path, "user.note", b"kept")
    assert shared.state(path) == "stored"
    _overwrite(path)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert os.getxattr(path, "user.note") == b"kept"
    assert path.stat().st_mtime_ns > 10**18 + 5
    assert shared.stored("attributes").read_bytes() == CHANGES[_overwrite]
    assert os.getxattr(path, "user.note") == b"kept"


def test_what_is_changed_counts_as_stored_meanwhile(mount: Mount) -> None:
    """Or a small change of a large file would look as if all the rest of the store took many times its size."""
    path = put(mount, "large")
    stored = [mount.status()[key] for key in ("stored_files", "stored_raw_nbytes")]
    assert stored == [1, len(DATA)]
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")
        assert [mount.status()[key] for key in ("stored_files", "stored_raw_nbytes")] == stored
        assert mount.status()["unsealed_files"] == 1


def test_what_is_being_written_is_told_of_at_its_size(mount: Mount) -> None:
    with open(mount.point / "new.bin", "wb", buffering=0) as file:
        file.write(DATA)
        assert json.loads(zipfs("explain", "--json", mount.point / "new.bin").stdout)["nbytes"] == len(DATA)
        (summary,) = json.loads(zipfs("explain", "--json", mount.point).stdout)["files"]
        assert summary["nbytes"] == len(DATA)


def test_changing_a_part_copies_no_more_than_that(mount: Mount) -> None:
    """The rest is read from what is stored: the spool takes the blocks that were written, and little is decoded."""
    data = bytearray(noise(24 << 20, 2))
    path = put(mount, "large", bytes(data))
    mount.remount()
    before = json.loads(os.getxattr(mount.point, "user.zipfs.perf"))["stages"]["decode"]["nbytes"]
    part = noise(1_000_000, 3)
    with open(path, "r+b", buffering=0) as file:
        assert os.pwrite(file.fileno(), part, 5_000_001) == len(part)
        decoded = json.loads(os.getxattr(mount.point, "user.zipfs.perf"))["stages"]["decode"]["nbytes"] - before
        assert spooled_nbytes(mount) <= len(part) + (64 << 10)
        assert decoded <= 6 << 20, "the blocks at both edges, and the frames around them"
        data[5_000_001 : 5_000_001 + len(part)] = part
        assert path.read_bytes() == data
    assert mount.stored("large").read_bytes() == data
    poll(lambda: not spooled_nbytes(mount), what="the spool to be empty")


def test_many_small_changes_of_what_is_stored(mount: Mount) -> None:
    """At edges of blocks and of tensors, by two descriptors, with looks between."""
    raw = model(weights(400_000, 1))
    data = bytearray(raw)
    path = put(mount, "small-changes.safetensors", raw)
    with open(path, "r+b", buffering=0) as one, open(path, "r+b", buffering=0) as other:
        for step in range(200):
            at = (step * 4099 + step % 3 - 1) % (len(data) - 100)
            piece = noise(1 + step % 90, step)
            os.pwrite((one, other)[step % 2].fileno(), piece, at)
            data[at : at + len(piece)] = piece
            near = max(0, at - 5000)
            assert os.pread((other, one)[step % 2].fileno(), 12_000, near) == data[near : near + 12_000]
    assert path.read_bytes() == data
    assert mount.stored(path.name).read_bytes() == data
    mount.umount()
    mount.fsck()


@pytest.mark.parametrize("state", ["sealed", "stored"])
def test_what_is_emptied_as_it_is_opened_stays_with_its_readers(shared: Mount, state: str) -> None:
    path = shared.point / f"emptied-{state}"
    with sleeping_worker(shared) if state == "sealed" else nullcontext():
        path.write_bytes(DATA)
        poll_equal(lambda: shared.state(path), state)
        with open(path, "rb", buffering=0) as reader:
            path.write_bytes(b"a new version")
            assert path.read_bytes() == b"a new version"
            assert os.pread(reader.fileno(), len(DATA) + 1, 0) == DATA
            assert os.fstat(reader.fileno()).st_size == len(DATA)
            assert path.stat().st_ino != os.fstat(reader.fileno()).st_ino
        assert path.read_bytes() == b"a new version"
    assert shared.stored(path.name).read_bytes() == b"a new version"


def test_the_version_that_is_left_to_its_readers_keeps_its_attributes(mount: Mount) -> None:
    """As it was when it was left, not when they opened it; and they can change them."""
    path = mount.point / "attributes"
    path.write_bytes(DATA)
    first = os.open(path, os.O_RDONLY)
    mount.stored("attributes")
    second = os.open(path, os.O_RDONLY)
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    path.write_bytes(b"a new version")
    assert [os.fstat(fd).st_mode & 0o7777 for fd in (first, second)] == [0o640, 0o640]
    os.close(first)
    assert os.getxattr(second, "user.note") == b"kept"
    os.utime(second, ns=(10**18, 10**18 + 7))
    os.fchmod(second, 0o600)
    assert (os.fstat(second).st_mtime_ns, os.fstat(second).st_mode & 0o7777) == (10**18 + 7, 0o600)
    assert os.pread(second, len(DATA) + 1, 0) == DATA
    os.close(second)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_what_is_emptied_and_not_finished_is_empty_for_all(shared: Mount) -> None:
    path = shared.point / "emptied-open"
    with open(path, "w+b", buffering=0) as first:
        first.write(DATA)
        path.write_bytes(b"shorter")
        assert os.pread(first.fileno(), 100, 0) == b"shorter"
    assert shared.stored("emptied-open").read_bytes() == b"shorter"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_what_is_renamed_over_or_unlinked_stays_open(shared: Mount, flags: int) -> None:
    over, gone = put(shared, f"over-{flags}"), put(shared, f"gone-{flags}")
    with open(os.open(over, flags), "rb") as first, open(os.open(gone, flags), "rb") as second:
        new = shared.point / f"new-{flags}"
        new.write_bytes(b"new")
        new.rename(over)
        gone.unlink()
        for file in (first, second):
            fd = file.fileno()
            assert os.fstat(fd).st_nlink == 0
            assert os.pread(fd, len(DATA) + 1, 0) == DATA
            if flags == os.O_RDWR:
                os.pwrite(fd, b"still", 100)
                os.ftruncate(fd, 50_000)
                assert os.pread(fd, len(DATA), 0) == DATA[:100] + b"still" + DATA[105:50_000]
        assert over.read_bytes() == b"new"
        assert not gone.exists()
    assert shared.stored(over.name).read_bytes() == b"new"
    poll(lambda: not spooled_nbytes(shared), what="the spool to be empty")


def test_hard_links_share_what_is_written(shared: Mount) -> None:
    one = put(shared, "link-1")
    other = shared.point / "link-2"
    os.link(one, other)
    _overwrite(one)
    assert other.read_bytes() == CHANGES[_overwrite]
    with open(other, "ab", buffering=0) as file:
        file.write(b"end")
    assert one.read_bytes() == CHANGES[_overwrite] + b"end"
    assert one.stat().st_nlink == 2
    one.unlink()
    assert shared.stored("link-2").read_bytes() == CHANGES[_overwrite] + b"end"


def test_exchanged_while_one_is_written(shared: Mount) -> None:
    stored, written = put(shared, "exchanged-1"), shared.point / "exchanged-2"
    with open(written, "w+b", buffering=0) as file:
        file.write(b"first")
        exchange(stored, written)
        file.write(b" second")
        assert stored.read_bytes() == b"first second"
        assert written.read_bytes() == DATA
        _overwrite(written)
    assert shared.stored("exchanged-1").read_bytes() == b"first second"
    assert shared.stored("exchanged-2").read_bytes() == CHANGES[_overwrite]


def test_a_new_version_is_coded_against_the_one_before(mount: Mount) -> None:
    """A trainer that writes weights in place pays for what has changed of them, where the ones before are kept."""
    before = model(weights(500_000, 4))
    put(mount, "kept.safetensors", before)
    path = put(mount, "trained.safetensors", before)
    new = model(tuned(weights(500_000, 4), 5))
    with open(path, "r+b", buffering=0) as file:
        file.seek(200)
        file.write(new[200:])
    expected = before[:200] + new[200:]
    assert path.read_bytes() == expected
    assert mount.stored(path.name).read_bytes() == expected
    assert os.getxattr(path, "user.zipfs.bases") == b"kept.safetensors"
    assert float(os.getxattr(path, "user.zipfs.ratio")) < 0.3


@pytest.mark.expected_log("other: files were refused here")
@pytest.mark.parametrize("option", ["--no-write", "--read-only"])
def test_writing_is_refused_where_that_was_asked_for(mount: Mount, option: str) -> None:
    path = put(mount, "kept")
    os.utime(path, ns=(10**18, 10**18))
    mount.remount(option)
    for call in (
        lambda: path.open("r+b"),
        lambda: path.open("wb"),
        lambda: os.truncate(path, 5),
        lambda: (mount.point / "other").open("xb"),
    ):
        with pytest.raises(OSError, match="Read-only file system") as refused:
            call()
        assert refused.value.errno == errno.EROFS
    assert path.read_bytes() == DATA
    assert path.stat().st_mtime_ns == 10**18
    assert mount.state(path) == "stored"
    assert sorted(os.listdir(mount.point)) in (["ingest", "kept"], ["kept"])


def test_content_that_is_open_outlives_the_mount(mounts: Callable[..., Mount]) -> None:
    """It is as it was, can be written on, and is compressed by the next mount."""
    mount = mounts("--quiet", "0.2").start()
    changed = put(mount, "changed")
    mount.umount()
    mount.options = ("--quiet", "300")
    mount.start()
    new = mount.point / "new"
    new.write_bytes(DATA)
    _overwrite(changed)
    os.truncate(changed, 100_000)
    os.utime(new, ns=(10**18, 10**18))
    mount.remount()
    assert (mount.state(new), mount.state(changed)) == ("open", "open")
    assert new.read_bytes() == DATA
    assert new.stat().st_mtime_ns == 10**18
    assert changed.read_bytes() == CHANGES[_overwrite][:100_000]
    _append(new)
    os.truncate(changed, 150_000)
    mount.umount()
    mount.fsck()
    mount.options = ("--quiet", "0.2")
    mount.start()
    assert mount.stored("new").read_bytes() == DATA + b"appended"
    assert mount.stored("changed").read_bytes() == CHANGES[_overwrite][:100_000] + bytes(50_000)
    mount.umount()
    mount.fsck()


def test_what_was_written_outlives_a_kill(mount: Mount) -> None:
    """Of what is open, too, over the older version of it; and nothing is left in the spool of what was unlinked."""
    changed, gone = put(mount, "changed"), put(mount, "gone")
    new = mount.point / "new"
    descriptors = [os.open(path, os.O_RDWR | os.O_CREAT) for path in (changed, new, gone)]
    os.pwrite(descriptors[0], b"changed", 5000)
    os.ftruncate(descriptors[0], 200_000)
    os.ftruncate(descriptors[0], 210_000)
    os.write(descriptors[1], DATA)
    gone.unlink()
    os.write(descriptors[2], b"x")
    mount.kill()
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
    run("umount", "-l", mount.point)
    mount.start()
    expected = CHANGES[_overwrite][:200_000] + bytes(10_000)
    assert changed.read_bytes() == expected
    assert new.read_bytes() == DATA
    assert not gone.exists()
    assert mount.stored("changed").read_bytes() == expected
    assert mount.stored("new").read_bytes() == DATA
    poll(lambda: not os.listdir(mount.store / "spool"), what="the spool to be empty")
    mount.umount()
    mount.fsck()


def test_opened_again_while_it_is_compressed(mount: Mount) -> None:
    """What the worker makes of the version before is dropped, and nobody is told of a failure."""
    data = bytearray(weights(16 << 20, 6))
    path = mount.point / "busy"
    path.write_bytes(data)
    poll(lambda: (mount.status()["worker"] or {}).get("file"), what="the worker to begin")
    with open(path, "r+b", buffering=0) as file:
        assert mount.state(path) == "open"
        file.write(b"changed")
        file.truncate(20 << 20)
        time.sleep(0.5)
        assert os.pread(file.fileno(), 100, 0) == b"changed" + data[7:100]
    expected = b"changed" + data[7 : 20 << 20]
    assert mount.stored("busy").read_bytes() == expected
    mount.umount()
    mount.fsck()


def test_a_mapping_writes_after_the_descriptor_is_closed(shared: Mount) -> None:
    path = put(shared, "outlived")
    with open(path, "r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
    view[5000:5007] = b"changed"
    assert path.read_bytes() == CHANGES[_overwrite]
    assert shared.state(path) == "open"
    view.close()
    assert shared.stored("outlived").read_bytes() == CHANGES[_overwrite]


def test_past_the_page_cache(shared: Mount) -> None:
    """O_DIRECT, beside a descriptor that reads through the page cache."""
    path = put(shared, "direct")
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    with open(descriptor, "r+b", buffering=0) as direct, open(path, "rb", buffering=0) as reader:
        assert reader.read() == DATA
        with mmap.mmap(-1, 8192) as block:
            block[:] = noise(8192, 7)
            assert os.pwrite(direct.fileno(), block, 8192) == 8192
            expected = DATA[:8192] + block[:] + DATA[16384:]
            assert os.pread(reader.fileno(), len(DATA) + 1, 0) == expected
            with open(path, "r+b", buffering=0) as other:
                os.pwrite(other.fileno(), b"cached", 20_000)
            assert os.preadv(direct.fileno(), [block], 16384) == 8192
            assert block[20_000 - 16384 : 20_006 - 16384] == b"cached"
    assert shared.stored("direct").read_bytes() == expected[:20_000] + b"cached" + expected[20_006:]


@pytest.fixture
def small(mounts: Callable[..., Mount]) -> Iterator[Mount]:
    """A mount of a store on a disk of its own, of 48 MiB."""
    mount = mounts("--quiet", "0.2", "--ingest-memory", "64M")
    with on_disk_of_its_own(mount, 48 << 20):
        yield mount


def test_a_full_disk_refuses_the_write_and_loses_nothing(small: Mount) -> None:
    """What was taken is there, also of stored content that is changed; and it goes on when there is space."""
    kept = put(small, "kept")
    taken = bytearray()
    chunk = noise(1 << 20, 8)
    with open(small.point / "big", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left") as refused:  # noqa: PT012  # how many it takes is the disk's
            while True:
                taken += chunk[: file.write(chunk)]
        assert refused.value.errno == errno.ENOSPC
        assert len(taken) >= 10 << 20
        assert (small.point / "big").read_bytes() == taken
        assert kept.read_bytes() == DATA
    (small.point / "big").unlink()
    poll(lambda: _takes(kept), what="room again")
    assert small.stored("kept").read_bytes() == CHANGES[_overwrite]
    small.remount()
    assert kept.read_bytes() == CHANGES[_overwrite]
    small.umount()
    small.fsck()


def _takes(path: Path) -> bool:
    """Whether a change is taken. Space is there once all processes have let go of it."""
    try:
        _overwrite(path)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return False
    return True


def test_a_name_that_is_written_in_both_ways(shared: Mount) -> None:
    """What is copied to `ingest/` over what was written in place, and the other way round."""
    path = put(shared, "both")
    (shared.ingest / "both").write_bytes(b"by ingest")
    poll_equal(path.read_bytes, b"by ingest")
    shared.stored("both")
    with open(path, "ab", buffering=0) as file:
        file.write(b", in place")
    assert shared.stored("both").read_bytes() == b"by ingest, in place"
