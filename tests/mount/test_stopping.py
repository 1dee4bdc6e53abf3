"""Compressing can be broken off: by an unmount, and by removing what is being compressed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll

pytestmark = pytest.mark.mount

MIB = 1 << 20
SOON_S = 15.0
"""Seconds are promised; a machine that others load gets more. Before, it took 20 and a SIGKILL."""


def put_large(mount: Mount, name: str, nbytes: int = 512 * MIB) -> Path:
    """A file that takes long to compress, and no long time to make; it is being compressed on return."""
    block = noise(4 * MIB, 1)
    with open(mount.ingest / name, "wb") as file:
        file.writelines(number.to_bytes(8, "little") + block[8:] for number in range(nbytes // len(block)))
    poll(lambda: mount.status()["worker"].get("file") == name, what="the worker to be at it")
    return mount.point / name


def parts(mount: Mount) -> list[Path]:
    return list((mount.store / "packs").glob("*.part"))


def test_an_unmount_does_not_wait_for_a_file_that_is_being_compressed(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.1").start()
    put_large(mount, "large")
    began_s = time.monotonic()
    mount.umount()
    assert time.monotonic() - began_s < SOON_S
    assert parts(mount) == []
    assert "Traceback" not in mount.log()
    assert "SIGKILL" not in mount.log()
    mount.fsck()


def test_what_is_removed_while_it_is_compressed_makes_room_for_what_is_behind(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.1").start()
    served = put_large(mount, "large")
    (mount.ingest / "behind").write_bytes(b"x")
    (mount.ingest / "large").unlink()
    served.unlink()
    began_s = time.monotonic()
    mount.stored("behind")
    assert time.monotonic() - began_s < SOON_S
    poll(lambda: not parts(mount), what="nothing of it to be left")
    assert mount.status()["errors"] == []
    mount.umount()
    mount.fsck()


def test_a_file_that_is_all_hole_is_stored_at_once(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.1").start()
    nbytes = 300 << 30
    with open(mount.ingest / "lmdb.mdb", "wb") as file:
        file.write(b"head")
        file.truncate(nbytes)
    served = mount.stored("lmdb.mdb")
    assert served.stat().st_size == nbytes
    with open(served, "rb") as file:
        assert file.read(8) == b"head\0\0\0\0"
        assert os.pread(file.fileno(), 10, nbytes - 5) == bytes(5)
        assert os.pread(file.fileno(), 4096, nbytes // 3) == bytes(4096)
    mount.umount()
    mount.fsck()


def test_a_log_that_grows_every_now_and_then_does_not_make_a_pack_each_time(mounts: Callable[..., Mount]) -> None:
    """Also with --no-optimize: it is done in passing."""
    mount = mounts("--quiet", "0.05", "--no-optimize").start()
    for number in range(20):
        name = f"line-{number}"
        (mount.ingest / name).write_bytes(noise(250, number))
        mount.stored(name)
    poll(lambda: mount.status()["packs"] < 12, what="small packs to be merged")
    for number in range(20):
        assert (mount.point / f"line-{number}").read_bytes() == noise(250, number)
    mount.umount()
    mount.fsck()
