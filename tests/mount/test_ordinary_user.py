"""A mount by somebody who is not root, through fusermount3."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, run, temporary_mounts, zipfs

pytestmark = pytest.mark.mount

_UID = pwd.getpwnam("nobody").pw_uid  # fusermount3 wants a user with a name


def _as_user() -> tuple[str, ...]:
    """What runs a command as nobody in particular; nothing if that is who runs the tests."""
    if os.geteuid() != 0:
        return ()
    # The one capability lets Python be read wherever it is installed; it grants nothing that a mount asks for.
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return ("setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", *reading, "env", "HOME=/nonexistent")


@pytest.fixture(scope="module", autouse=True)
def _device_for_everyone() -> Iterator[None]:
    """As udev sets it up; bare containers leave it to root."""
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if os.geteuid() == 0:
        os.chmod("/dev/fuse", 0o666)  # noqa: S103  # the mode that it has elsewhere
    yield
    if os.geteuid() == 0:
        os.chmod("/dev/fuse", mode)


def _user_run(*command: object, check: bool = True) -> str:
    return run(*_as_user(), *command, check=check)


@pytest.fixture
def mine() -> Iterator[Mount]:
    """A mount of the user's own, in a directory of the user's own."""
    directory = Path(tempfile.mkdtemp(prefix="zipfs-user-"))
    directory.chmod(0o755)
    with temporary_mounts(directory) as make:
        mount = make()
        mount.prefix = _as_user()
        if os.geteuid() == 0:
            os.chown(directory, _UID, _UID)
            os.chown(mount.point, _UID, _UID)
        yield mount


def test_the_user_can_run_python() -> None:
    """Otherwise the rest of this says nothing of mounts."""
    assert _user_run(sys.executable, "-c", "import zipfs.cli.main; print('fine')").strip() == "fine"


def test_copy_in_read_back_and_unmount(mine: Mount, tmp_path: Path) -> None:
    source = mine.store.with_name("source")
    (source / "sub").mkdir(parents=True)
    data = noise(3_000_000, 1)
    (source / "sub" / "weights").write_bytes(data)
    (source / "config").write_bytes(b"{}")
    started = mine.try_start()
    assert started.returncode == 0, started.stderr
    served = mine.point / "source"
    _user_run("cp", "-r", source, mine.ingest)
    waited = zipfs("wait", mine.point, prefix=mine.prefix)
    assert waited.returncode == 0, waited.stderr
    _user_run("diff", "-r", source, served)
    assert _user_run("stat", "-c", "%u:%g", served / "config").strip() == f"{_uid()}:{_uid(group=True)}"
    _user_run("mv", served, mine.point / "moved")
    _user_run("chmod", "600", mine.point / "moved" / "config")
    _user_run("cat", mine.point / ".zipfs" / "status.json")
    assert "ermitted" in _user_run("sh", "-c", f"chown 0 {mine.point}/moved/config 2>&1 || true")
    done = zipfs("umount", mine.point, prefix=mine.prefix)
    assert done.returncode == 0, done.stderr
    assert not mine.is_mounted()
    again = mine.try_start()
    assert again.returncode == 0, again.stderr
    _user_run("diff", source / "sub" / "weights", mine.point / "moved" / "sub" / "weights")
    assert zipfs("umount", mine.point, prefix=mine.prefix).returncode == 0
    mine.fsck()


def _uid(*, group: bool = False) -> int:
    if os.geteuid() == 0:
        return _UID
    return os.getgid() if group else os.getuid()


def test_a_killed_mount_of_a_user_is_cleared(mine: Mount) -> None:
    assert mine.try_start().returncode == 0
    pid = int(_user_run("python3", "-c", "import json,sys; print(json.load(open(sys.argv[1]))['pid'])",
                        mine.point / ".zipfs" / "status.json"))  # fmt: skip
    mine.pid = pid
    os.kill(pid, signal.SIGKILL)
    poll(lambda: "not connected" in _user_run("sh", "-c", f"ls {mine.point} 2>&1 || true"), what="the mount to be dead")
    again = mine.try_start()
    assert again.returncode == 0, again.stderr
    assert _user_run("ls", mine.point).split() == ["ingest"]
    assert zipfs("umount", mine.point, prefix=mine.prefix).returncode == 0


def test_a_mount_point_that_the_user_may_not_use(mine: Mount, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    directory = Path(tempfile.mkdtemp(prefix="zipfs-root-"))
    try:
        directory.chmod(0o555)
        refused = zipfs("mount", mine.store, directory, prefix=mine.prefix)
        assert refused.returncode == 6
        assert "you may not write to that directory" in refused.stderr
        assert "Traceback" not in refused.stderr
        store = zipfs("mount", directory / "store", mine.point, prefix=mine.prefix)
        assert store.returncode == 3
        assert "ermission" in store.stderr
        assert "Traceback" not in store.stderr
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", ["inj,allow_other,suid,dev", "sü\\, store", "new\nline"])
def test_a_store_of_any_name(mine: Mount, name: str) -> None:
    mine.store = mine.store.with_name(name)
    assert mine.try_start().returncode == 0
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    (options,) = [fields[3].split(",") for fields in lines if fields[1] == str(mine.point)]
    assert {"nosuid", "nodev"} <= set(options)
    assert "allow_other" not in options
    _user_run("cp", "/etc/hostname", mine.ingest)
    assert zipfs("wait", mine.point, prefix=mine.prefix).returncode == 0
    mine.umount()


def test_a_store_of_somebody_else(mine: Mount, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    directory = Path(tempfile.mkdtemp(prefix="zipfs-root-"))
    try:
        assert zipfs("mount", directory / "store", tmp_path).returncode == 0
        assert zipfs("umount", tmp_path).returncode == 0
        directory.chmod(0o755)
        for path in [directory / "store", *(directory / "store").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        refused = zipfs("mount", directory / "store", mine.point, prefix=mine.prefix)
        assert refused.returncode == 6
        assert "--read-only" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        shutil.rmtree(directory)


def test_a_system_that_keeps_the_device_to_root(mine: Mount, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    device = tmp_path / "fuse"
    device.touch(0o600)
    script = 'mount --make-rprivate / && umount -a -l -t fuse.zipfs; mount --bind "$1" /dev/fuse && shift && exec "$@"'
    refused = zipfs(
        "mount", mine.store, mine.point,
        prefix=("unshare", "--mount", "sh", "-c", script, "-", str(device), *mine.prefix),
    )  # fmt: skip
    assert refused.returncode == 6
    assert "you may not open /dev/fuse" in refused.stderr
    assert "chmod 666 /dev/fuse" in refused.stderr
    assert "Traceback" not in refused.stderr
