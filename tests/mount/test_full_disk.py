"""A store whose disk runs full while it is mounted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, on_disk_of_its_own, poll, run, sha256, zipfs

pytestmark = pytest.mark.mount

_DISK_NBYTES = 64 << 20


@pytest.fixture
def small(mounts: Callable[..., Mount]) -> Iterator[Mount]:
    """A mount of a store on a disk of its own, of 64 MiB."""
    mount = mounts("--quiet", "0.2", "--ingest-memory", "64M")
    with on_disk_of_its_own(mount, _DISK_NBYTES):
        yield mount


def _fill(directory: Path, seed: int) -> tuple[dict[str, bytes], OSError]:
    """Write files until that is refused: those that were taken, and the refusal."""
    taken: dict[str, bytes] = {}
    for i in range(200):
        data = noise(3_000_000, seed + i)
        try:
            with open(directory / f"file-{seed + i}", "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        except OSError as error:
            return taken, error
        taken[f"file-{seed + i}"] = data
    raise AssertionError("the disk never was full")


def _is_taken(path: Path, data: bytes) -> bool:
    """Whether a file can be written. Space that was collected is there once all processes have let go of it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        path.unlink(missing_ok=True)
        return False
    return True


def test_nothing_is_lost_and_it_goes_on(small: Mount) -> None:
    (small.ingest / "set").mkdir()
    taken, refusal = _fill(small.ingest / "set", 0)
    assert refusal.errno == errno.ENOSPC
    assert len(taken) >= 5
    found = os.statvfs(small.store)
    assert found.f_bavail * found.f_frsize > 3 << 20, "refused before the disk is full to the last byte"
    for name, data in taken.items():
        path = small.ingest / "set" / name
        assert path.read_bytes() == data
    for path in (small.ingest / "set").iterdir():
        if path.name not in taken:
            path.unlink()
    small.wait()
    for name, data in taken.items():
        assert (small.point / "set" / name).read_bytes() == data
    # More until nothing goes in any more, not even what was compressed meanwhile.
    more, refusal = _fill(small.ingest / "set", 1000)
    assert refusal.errno == errno.ENOSPC
    names = sorted({**taken, **more})
    small.point.joinpath("set").stat()
    for name in names[: len(names) // 2]:
        path = small.point / "set" / name
        path.unlink() if path.exists() else (small.ingest / "set" / name).unlink()
    for path in (small.ingest / "set").iterdir():
        if path.name not in names:
            path.unlink()
    done = zipfs("gc", small.store)
    assert done.returncode == 0, done.stderr
    small.wait()
    poll(lambda: _is_taken(small.ingest / "after", noise(2_000_000, 9)), what="room for one file more")
    assert small.stored("after").read_bytes() == noise(2_000_000, 9)
    for name in names[len(names) // 2 :]:
        assert (small.point / "set" / name).read_bytes() == {**taken, **more}[name]
    small.remount()
    for name in names[len(names) // 2 :]:
        assert (small.point / "set" / name).read_bytes() == {**taken, **more}[name]
    small.umount()
    small.fsck()


def test_a_disk_that_somebody_else_fills(small: Mount) -> None:
    """Even metadata does not fit; what is there can still be read, removed and collected."""
    (small.ingest / "first").write_bytes(noise(8_000_000, 1))
    first = small.stored("first")
    before = sha256(first)
    hog = small.store.parent / "hog"
    run("sh", "-c", f"head -c {2 * _DISK_NBYTES} /dev/zero > {hog} || true")
    with pytest.raises(OSError, match="No space left"), open(small.ingest / "second", "wb", buffering=0) as file:
        file.writelines(noise(100_000, 2) for _ in range(100))
    assert sha256(first) == before
    assert small.status()["stored_files"] == 1
    hog.unlink()
    (small.ingest / "third").write_bytes(noise(1_000_000, 3))
    assert small.stored("third").read_bytes() == noise(1_000_000, 3)
    assert sha256(first) == before
    assert "Traceback" not in small.log()


def test_truncating_to_a_huge_size_is_sparse(small: Mount) -> None:
    """A size says nothing of what is written: holes take no space."""
    with open(small.ingest / "sparse", "wb") as file:
        file.truncate(32 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    served = small.stored("sparse")
    assert served.stat().st_size == (32 << 20) + 3
    assert served.read_bytes() == bytes(32 << 20) + b"end"
