"""A mount with nothing else to do makes its store smaller, and nobody who reads from it notices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, poll
from tests.support.stores import badly_based_family

pytestmark = pytest.mark.mount

FAMILY = {os.fsdecode(name): content for name, content in badly_based_family(20_000).items()}


def _put(mount: Mount) -> None:
    """One after the other, so that each is coded against what came before."""
    for name, content in FAMILY.items():
        target = mount.ingest / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        mount.stored(name)


def _packs_nbytes(store: Path) -> int:
    return sum(pack.stat().st_size for pack in (store / "packs").iterdir())


def test_an_idle_mount_finds_better_bases(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.1", "--no-optimize").start()
    _put(mount)
    before = _packs_nbytes(mount.store)
    assert "optimized: " not in mount.log()
    mount.options = ("--quiet", "0.1", "--optimize-after", "0.1")
    mount.remount()
    with open(mount.point / "run" / "0", "rb", buffering=0) as held:
        first = held.read(1000)
        poll(lambda: "optimized: " in mount.log(), what="the idle worker to optimize")
        assert _packs_nbytes(mount.store) < 0.8 * before
        assert first + held.readall() == FAMILY["run/0"]
    for name, content in FAMILY.items():
        assert (mount.point / name).read_bytes() == content
    poll(lambda: mount.status()["worker"].get("optimizing", "") is None, what="the worker to be idle")
    (mount.ingest / "late").write_bytes(b"still takes files")
    mount.stored("late")
    mount.umount()
    mount.fsck()


def test_a_mount_can_be_told_to_leave_bases_as_they_are(mounts: Callable[..., Mount]) -> None:
    """It merges small packs all the same."""
    mount = mounts("--quiet", "0.1", "--optimize-after", "0", "--no-optimize").start()
    _put(mount)
    before = _packs_nbytes(mount.store)
    for name in ("late", "later"):  # between the two the worker has nothing to do
        (mount.ingest / name).write_bytes(name.encode())
        mount.stored(name)
    poll(lambda: mount.status()["packs"] < len(FAMILY), what="small packs to be merged")
    assert _packs_nbytes(mount.store) > 0.95 * before
    assert "optimized: " not in mount.log()
