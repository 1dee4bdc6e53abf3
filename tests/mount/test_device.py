"""How requests are read and answered: INIT, the data of large writes, and what a request says of itself."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import fake_kernel
from tests.support.fake_kernel import BIG_WRITES, DO_READDIRPLUS, INIT_EXT, KILLPRIV_V2, MAX_PAGES, kernel
from tests.support.mounts import Mount, noise, run

LARGE_NBYTES = 64 << 10
OFFERED = DO_READDIRPLUS | BIG_WRITES | MAX_PAGES


def test_set_id_bits_are_taken_over_where_the_kernel_offers_it() -> None:
    with kernel() as asking:
        flags, _ = asking.init(OFFERED | KILLPRIV_V2)
    assert flags & KILLPRIV_V2
    assert flags & BIG_WRITES


@pytest.mark.parametrize("more", [0, INIT_EXT])
def test_nothing_is_taken_over_that_the_kernel_does_not_offer(more: int) -> None:
    with kernel() as asking:
        flags, flags2 = asking.init(OFFERED | more, 1 << 31 if more else 0)
    assert not flags & KILLPRIV_V2
    assert flags2 == 0


@pytest.mark.parametrize("nbytes", [1, 4096, LARGE_NBYTES - 1, LARGE_NBYTES, LARGE_NBYTES + 1, 150_001])
def test_what_is_written_arrives(nbytes: int) -> None:
    with kernel() as asking:
        asking.init(OFFERED)
        for number in range(3):  # buffers are used again
            data = noise(nbytes, number)
            assert asking.write(7, number, data) == (0, nbytes)
            kind = "bytes" if nbytes < LARGE_NBYTES else "memoryview"
            assert asking.heard() == ["write", 7, number, kind, nbytes, zlib.crc32(data)]


def test_large_and_small_requests_take_turns() -> None:
    value = noise(40_000, 1)
    with kernel() as asking:
        asking.init(OFFERED)
        for number in range(4):
            data = noise(LARGE_NBYTES << (number % 2), number)
            assert asking.write(number, 0, data) == (0, len(data))
            assert asking.heard() == ["write", number, 0, "memoryview", len(data), zlib.crc32(data)]
            body = len(value).to_bytes(4, "little") + bytes(4) + b"user.name\0" + value
            assert asking.ask(fake_kernel.SETXATTR, body) == (0, b"")
            assert asking.heard() == ["setxattr", "user.name", "bytes", len(value), zlib.crc32(value)]


@pytest.mark.parametrize("said", [LARGE_NBYTES + 1, LARGE_NBYTES + 81, 1 << 31, (1 << 32) - 1])
def test_a_write_that_says_more_than_it_holds_is_refused(said: int) -> None:
    with kernel() as asking:
        asking.init(OFFERED)
        assert asking.write(1, 0, noise(LARGE_NBYTES, 1), said=said) == (errno.EIO, 0)
        assert asking.write(1, 0, noise(LARGE_NBYTES, 2)) == (0, LARGE_NBYTES)  # it goes on


@pytest.mark.parametrize("said", [0, 1, 4096, LARGE_NBYTES - 1])
def test_a_write_that_says_less_than_it_holds_has_written_that(said: int) -> None:
    data = noise(LARGE_NBYTES, 1)
    with kernel() as asking:
        asking.init(OFFERED)
        error, count = asking.write(1, 0, data, said=said)
        if said == 0:
            assert error == errno.EIO  # no kernel sends it; there are no data to be asked for
        else:
            assert (error, count) == (0, said)
            assert asking.heard() == ["write", 1, 0, "bytes", said, zlib.crc32(data[:said])]


@pytest.mark.parametrize("length", [0, 40, 80, 81, (1 << 32) - 1])
def test_a_length_that_lies_leads_nowhere_else(length: int) -> None:
    data = noise(LARGE_NBYTES, 1)
    with kernel() as asking:
        asking.init(OFFERED)
        body = fake_kernel.WRITE_IN.pack(1, 0, len(data), 0, 0, 0, 0) + data
        error, _ = asking.ask(fake_kernel.WRITE, body, nbytes=length)
        assert error == 0
        assert asking.heard() == ["write", 1, 0, "bytes", len(data), zlib.crc32(data)]


def test_without_our_functions_all_comes_as_bytes() -> None:
    data = noise(LARGE_NBYTES, 1)
    with kernel(bound=False) as asking:
        flags, _ = asking.init(OFFERED | KILLPRIV_V2)
        assert not flags & KILLPRIV_V2
        assert asking.write(1, 0, data) == (0, len(data))
        assert asking.heard() == ["write", 1, 0, "bytes", len(data), zlib.crc32(data)]


# A mount


@pytest.mark.mount
def test_large_writes_arrive_a_mib_at_a_time_and_no_write_asks_for_an_attribute(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "3600").start()
    big = noise(8 << 20, 1)
    (mount.store.parent / "big").write_bytes(big)
    run("cp", mount.store.parent / "big", mount.ingest / "big")
    found = _requests(mount)
    assert (found["write"]["count"], found["write"]["nbytes"]) == (8, 8 << 20)
    with open(mount.ingest / "small", "wb", buffering=0) as file:
        file.writelines(big[number * 4096 : (number + 1) * 4096] for number in range(100))
    after = _requests(mount)
    assert after["write"]["count"] - found["write"]["count"] == 100
    assert (mount.ingest / "small").read_bytes() == big[: 100 * 4096]
    assert (mount.ingest / "big").read_bytes() == big
    if not _takes_set_ids_over():
        pytest.skip("this kernel, or this libfuse, does not leave set-id bits to a file system")
    asked = after["getxattr"]["count"] - found.get("getxattr", {"count": 0})["count"]
    assert asked < 20  # when attributes were asked for anew, and by this test; not for each write


def _requests(mount: Mount) -> Any:
    return json.loads(os.getxattr(mount.point, "user.zipfs.perf"))["operations"]


def _takes_set_ids_over() -> bool:
    """Linux 5.12 and later offer it, and libfuse 3.13 and later let it be taken."""
    kernel_version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    library = ctypes.CDLL("libfuse3.so.3")
    library.fuse_pkgversion.restype = ctypes.c_char_p
    fuse_version = tuple(int(part) for part in re.findall(r"\d+", library.fuse_pkgversion().decode())[:2])
    return kernel_version >= (5, 12) and fuse_version >= (3, 13)
