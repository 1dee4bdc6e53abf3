"""Removing where somebody else has filled the store's disk to the last byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, on_disk_of_its_own, run, sha256, zipfs

pytestmark = pytest.mark.mount

_DISK_NBYTES = 48 << 20
_BLOCK_NBYTES = 4096


@pytest.fixture
def small(mounts: Callable[..., Mount]) -> Iterator[Mount]:
    """A mount of a store on a disk of its own, in which nothing is sealed."""
    mount = mounts("--quiet", "3600", "--ingest-memory", "64M")
    with on_disk_of_its_own(mount, _DISK_NBYTES):
        yield mount


def _fill_up(hog: Path) -> None:
    with open(hog, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(_BLOCK_NBYTES))
    found = os.statvfs(hog.parent)
    assert found.f_bavail == 0


def test_what_is_in_ingest_can_be_removed_to_make_room(small: Mount) -> None:
    (small.ingest / "run" / "deep").mkdir(parents=True)
    for name in ("one", "two", "deep/three"):
        (small.ingest / "run" / name).write_bytes(noise(1_000_000, len(name)))
    kept = small.ingest / "kept"
    kept.write_bytes(noise(500_000, 9))
    before = sha256(kept)
    hog = small.store.parent / "hog"
    _fill_up(hog)
    (small.ingest / "run" / "one").unlink()
    assert os.statvfs(small.store).f_bavail * _BLOCK_NBYTES >= 400_000, "the room is there at once"
    _fill_up(small.store.parent / "hog-2")
    run("rm", "-r", small.ingest / "run")
    assert os.listdir(small.ingest) == ["kept"]
    hog.unlink()
    (small.ingest / "after").write_bytes(noise(100_000, 5))
    assert sha256(kept) == before
    assert "damaged" not in small.log()
    small.remount()
    assert sorted(os.listdir(small.ingest)) == ["after", "kept"]
    small.umount()
    small.fsck()


def test_what_is_served_can_be_removed_with_no_mount(small: Mount) -> None:
    (small.ingest / "file").write_bytes(b"text" * 1000)
    small.remount("--quiet", "0.1")
    small.stored("file")
    small.umount()
    hog = small.store.parent / "hog"
    _fill_up(hog)
    done = zipfs("rm", small.store, "file")
    assert done.returncode == 0, done.stderr
    done = zipfs("gc", small.store)
    assert done.returncode == 0, done.stderr
    hog.unlink()
    assert zipfs("ls", small.store).stdout == ""
    small.fsck()
