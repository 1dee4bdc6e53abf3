"""Options of `zipfs mount`: as mount(8) gives them, beside names that look like options, and numbers that are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, poll, run, zipfs

pytestmark = pytest.mark.mount

ZIPFS = Path(sys.executable).with_name("zipfs")
REFUSED = [
    ("mount", "--quiet", "nan"), ("mount", "--quiet", "inf"), ("mount", "--quiet", "-1"), ("mount", "--quiet", "1e300"),
    ("mount", "--linger", "nan"), ("mount", "--optimize-after", "nan"), ("mount", "--reserve", "1000T"),
    ("mount", "--cache-size", "1000T"), ("mount", "--ingest-memory", "9" * 400 + "P"), ("mount", "--threads", "0"),
    ("mount", "-o", "quiet=nan"), ("mount", "-o", "bogus"), ("mount", "-o", "allow_other=1"), ("mount", "-o", "linger"),
    ("mount", "-o", "ready_fd=1"), ("mount", "-o"),
]  # fmt: skip


def options_of(point: Path) -> set[str]:
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return set(next(fields[3] for fields in lines if fields[1] == str(point)).split(","))


def daemon_options(mount: Mount) -> list[str]:
    return Path(f"/proc/{mount.pid}/cmdline").read_text().split("\0")


def mounted(mount: Mount, *command: object) -> None:
    mount.guard()
    run(*command)
    mount.pid = int(mount.status()["pid"])


@pytest.mark.parametrize("form", ["#", "fuse.zipfs"])
def test_mount_8_mounts_it(mounts: Callable[..., Mount], form: str) -> None:
    """`#` names the program by its path; by its type it is looked for where the system's own programs are."""
    mount = mounts()
    options = (
        "noexec,allow_other,quiet=0.2,cache_size=64M,linger=inf,no_optimize,_netdev,nofail,noauto,x-systemd.after=x"
    )
    if form == "#":
        mounted(mount, "mount", "-t", "fuse", f"{ZIPFS}#{mount.store}", mount.point, "-o", options)
    else:
        helper = shutil.which("mount.fuse3") or "/sbin/mount.fuse3"
        path = f"PATH={ZIPFS.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        mounted(
            mount, "env", path, helper, mount.store, mount.point, "-t", "fuse.zipfs", "-o", f"rw,suid,dev,{options}"
        )
    assert {"noexec", "nosuid", "nodev", "allow_other", "default_permissions", "rw"} <= options_of(mount.point)
    assert {"--quiet=0.2", "--linger=inf", "--cache-size=67108864", "--no-optimize"} <= set(daemon_options(mount))
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    run("umount", mount.point)
    poll(lambda: not Path(f"/proc/{mount.pid}").exists(), what="the daemon to end")
    mounted(mount, ZIPFS, mount.store, mount.point, "-oro,user,exec")
    assert {"ro", "nosuid", "nodev"} <= options_of(mount.point)
    assert (mount.point / "file").read_bytes() == b"content"


def test_names_that_begin_with_a_dash(mounts: Callable[..., Mount]) -> None:
    mount = mounts(name="-m")
    done = subprocess.run(
        [ZIPFS, "mount", "--quiet=0.2", "--", "-s", "-m"],
        cwd=mount.point.parent, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(mount.point.parent / "-s") in done.stderr
    assert mount.is_mounted()
    assert run(ZIPFS, "status", "--", "-m", cwd=mount.point.parent)
    assert run(ZIPFS, "umount", "--", "-m", cwd=mount.point.parent) == ""
    assert not mount.is_mounted()


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "point").mkdir()
    name, *options = command
    done = zipfs(name, tmp_path / "store", tmp_path / "point", *[option[:300] for option in options])
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "command",
    [("wait", "--timeout", "nan", "X"), ("top", "--interval", "nan", "X"), ("top", "--interval", "inf", "X"),
     ("ingest", "X", "--memory", "1000T"), ("ingest", "X", "--threads", "1e9"), ("optimize", "X", "--rate", "0"),
     ("optimize", "X", "--limit-bytes", "99999999P"), ("optimize", "X", "--memory", "nan")],
    ids=" ".join,
)  # fmt: skip
def test_so_are_those_of_other_commands(command: tuple[str, ...]) -> None:
    done = zipfs(*command)
    assert done.returncode == 2, done.stderr
    assert "Invalid value" in done.stderr


def test_a_store_that_was_never_opened_for_writing(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    mount.start()
    mount.umount()
    for lock in (mount.store / "locks").iterdir():
        lock.unlink()
    mount.start("--read-only")
    assert not list((mount.store / "locks").iterdir())
