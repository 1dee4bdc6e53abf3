"""Stores and mount points with any name, in any locale: mounted, told of, unmounted; no name is taken for an option."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, run
from zipfs.host import mount_option, read_mount_option

NAMES = [
    b"s\xc3\xbc \xe6\xa8\xa1",
    b"not utf-8 \xff\xfe",
    b"my,store",
    b"inj,allow_other,suid,dev",
    b"st,ro",
    b"back\\slash",
    b"back\\,comma",
    b"with space\tand tab",
    b"new\nline",
    b"percent%2C%",
    b"#hash",
    b"sep\xe2\x80\xa8\x0c\x1c",
    b"x" * 200,
]
MOUNTED = [
    "sü,模".encode(),
    b"not-utf8-\xff",
    b"inj,allow_other,suid,dev",
    b"st,ro",
    b"back\\,comma new\nline\ttab percent%2C #\xe2\x80\xa8\x0c\x1c",
    b"x" * 200,
]
"""Each takes a mount."""
ZIPFS = Path(sys.executable).with_name("zipfs")


def options_and_source(point: Path) -> tuple[set[bytes], bytes]:
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > 4 and fields[4] == os.fsencode(point):
            return {*fields[5].split(b","), *fields[-1].split(b",")}, fields[-2]
    raise AssertionError(f"nothing is mounted at {point}")


@pytest.mark.mount
@pytest.mark.parametrize("name", MOUNTED, ids=ascii)
def test_a_store_of_that_name(mounts: Callable[..., Mount], name: bytes) -> None:
    mount = mounts()
    mount.store = mount.store.with_name(os.fsdecode(name))
    mount.start()
    options, source = options_and_source(mount.point)
    assert {b"rw", b"nosuid", b"nodev"} <= options
    assert b"allow_other" not in options
    assert source.isascii()
    assert read_mount_option(source.decode()) == str(mount.store)
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    for place in (mount.point, mount.store):
        assert "store  " in run(ZIPFS, "status", place, env={**os.environ, "LC_ALL": "C"})
    mount.umount()
    assert not mount.is_mounted()


@pytest.mark.mount
def test_mount_points_of_those_names(tmp_path: Path) -> None:
    """In a mount namespace of their own: other programs of this machine read the list of mounts, too."""
    script = """
set -e
mount --make-rprivate /
umount -a -l -t fuse.zipfs || true  # copies of mounts of other tests
zipfs=$1 store=$2; shift 2
for point; do
    mkdir -- "$point"
    "$zipfs" mount "$store" "$point" --quiet 0.1 2>/dev/null
    "$zipfs" mount "$store" "$point" 2>/dev/null && exit 1
    LC_ALL=C "$zipfs" status "$point/ingest" >/dev/null
    "$zipfs" wait "$point"
    "$zipfs" umount "$point"
    rmdir -- "$point"
done
"""
    points = [os.fsencode(tmp_path) + b"/" + name for name in MOUNTED]
    run("unshare", "--mount", "bash", "-c", script, "-", ZIPFS, tmp_path / "store", *points)


@pytest.mark.mount
@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1", "nonsense"])
def test_a_mount_in_any_locale(mounts: Callable[..., Mount], locale: str) -> None:
    mount = mounts(name="sü,模")
    mount.guard()
    run(ZIPFS, "mount", mount.store, mount.point, *mount.options, env={**os.environ, "LC_ALL": locale})
    mount.pid = mount.status()["pid"]
    assert mount.status()["store"] == str(mount.store)
    (mount.ingest / "größe").write_bytes(b"content")
    mount.stored("größe")
    assert "größe" in mount.log()


@pytest.mark.parametrize("name", [*NAMES, b"/", b"", b"\x00\x01\x7f"], ids=ascii)
def test_an_option_is_one_ascii_word_and_can_be_read_back(name: bytes) -> None:
    option = mount_option("fsname", name)
    assert option.isascii()
    assert option.isprintable()
    assert not set(option) & set(", \\\"'")
    assert os.fsencode(read_mount_option(option.removeprefix("fsname="))) == name


def test_of_a_long_name_the_end_is_kept() -> None:
    option = mount_option("fsname", b"/\xff" * 2000 + b"/store")
    assert len(option) < 1100
    assert option.endswith("/store")
