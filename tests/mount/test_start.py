"""How daemon and worker start: nothing of the shell, the directory or the environment that started them gets in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, is_alive, noise, poll, run, zipfs

pytestmark = pytest.mark.mount

ZIPFS = Path(sys.executable).with_name("zipfs")
TRAPS = ("random", "click", "trio", "json", "numpy", "sqlite_utils", "queue", "calendar", "token", "types", "secrets")
TRAPS_FOR_ALL = tuple(name for name in TRAPS if name not in ("types", "token"))
"""Python itself imports the others before a program of ours is found, with `python -m`."""


def set_traps(directory: Path, names: tuple[str, ...] = TRAPS) -> Path:
    """Modules that tell when they are executed; returns the file in which they do."""
    told = directory / "executed"
    for name in names:
        (directory / f"{name}.py").write_text(f"open({str(told)!r}, 'a').write(__file__)\nraise SystemExit(99)\n")
    return told


def start(
    mount: Mount, *command: object, cwd: Path, env: dict[str, str] | None = None, **kwargs: object
) -> subprocess.CompletedProcess[str]:
    """Mount with the program that users call."""
    mount.guard()
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [*map(str, command or (ZIPFS, "mount", mount.store, mount.point)), *map(str, mount.options)],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False, **kwargs,
    )  # fmt: skip
    if done.returncode == 0:
        mount.pid = int(mount.status()["pid"])
    return done


def both(mount: Mount) -> tuple[int, int]:
    """Daemon and worker."""
    return mount.pid, int(poll(lambda: mount.status()["worker_pid"]))


def test_python_files_in_the_directory_and_on_python_variables_are_not_executed(
    mounts: Callable[..., Mount], tmp_path: Path
) -> None:
    told = set_traps(tmp_path)
    mount = mounts()
    assert start(mount, cwd=tmp_path).returncode == 0
    for pid in both(mount):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert not [line for line in environment if line.startswith((b"PYTHON", b"LD_PRELOAD", b"HOME="))]
    mount.umount()
    (tmp_path / "usercustomize.py").write_text(f"open({str(told)!r}, 'a').write('usercustomize')\n")
    script = "import os, sys; sys.path.pop(0); os.environ['PYTHONPATH'] = sys.argv[1]; sys.argv[:2] = ['zipfs']; "
    script += "from zipfs.cli.main import main; main()"  # so that only what it starts can see the variable
    command = (sys.executable, "-c", script, tmp_path, "mount", mount.store, mount.point)
    assert start(mount, *command, cwd=REPOSITORY).returncode == 0
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    assert not told.exists()


def test_python_m_does_not_execute_them_either(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    told = set_traps(tmp_path, TRAPS_FOR_ALL)
    mount = mounts()
    command = (sys.executable, "-m", "zipfs.cli", "mount", mount.store, mount.point)
    assert start(mount, *command, cwd=tmp_path).returncode == 0
    assert mount.is_mounted()
    assert not told.exists()


@pytest.mark.expected_log("the worker ended with code -9; it is started again")
def test_a_worker_that_is_started_again_does_not_execute_what_is_served(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    assert start(mount, ZIPFS, "mount", mount.store, ".", cwd=mount.point).returncode == 0
    told = mount.store.with_name("executed")
    (mount.ingest / "random.py").write_text(f"open({str(told)!r}, 'w').write('executed')")
    mount.stored("random.py")
    daemon, worker = both(mount)
    os.kill(worker, signal.SIGKILL)
    poll(lambda: mount.status()["worker_pid"] not in (None, worker))
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    assert not told.exists()
    assert is_alive(daemon)


@pytest.mark.parametrize("in_front", [False, True])
def test_a_daemon_inherits_nothing(mounts: Callable[..., Mount], tmp_path: Path, in_front: bool) -> None:
    mount = mounts()
    (tmp_path / "secret").write_bytes(b"secret")
    shell = 'exec 7<"$0" 9<"$0"; umask 000; trap "" CHLD USR1; exec "$@"'
    command = ["sh", "-c", shell, str(tmp_path / "secret"), str(ZIPFS), "mount", str(mount.store), str(mount.point)]
    environment = {**os.environ, "LC_ALL": "tlh_QO.ISO-8859-1", "PATH": f".:/usr/bin:/bin::{os.environ['PATH']}"}
    process: subprocess.Popen[bytes] | None = None
    if in_front:
        mount.guard()
        process = subprocess.Popen([*command, "-f", *map(str, mount.options)], cwd=tmp_path, env=environment)
        mount.pid = process.pid
        poll((mount.point / ".zipfs" / "status.json").exists)
    else:
        assert start(mount, *command, cwd=tmp_path, env=environment).returncode == 0
    try:
        for pid in both(mount):
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert str(tmp_path / "secret") not in targets
            status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            assert status["Umask"] == "0077"
            assert int(status["SigBlk"], 16) == 0
            assert not int(status["SigIgn"], 16) & (1 << signal.SIGCHLD - 1 | 1 << signal.SIGUSR1 - 1)
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            (path,) = [line for line in environ if line.startswith(b"PATH=")]
            assert all(part.startswith(b"/") for part in path[5:].split(b":"))
        (mount.ingest / "file").write_bytes(b"content")
        mount.stored("file")
        mount.umount()
    finally:
        if process is not None:
            process.kill()
            process.wait()


def test_the_directory_in_which_it_was_started_is_not_kept_busy(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts()
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "none", disk)
    try:
        relative = Path(os.path.relpath(mount.store, disk)), Path(os.path.relpath(mount.point, disk))
        assert start(mount, ZIPFS, "mount", *relative, cwd=disk).returncode == 0
        both(mount)
    finally:
        run("umount", disk)
    assert mount.is_mounted()


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_not_taken_by_the_store(mounts: Callable[..., Mount], closed: str) -> None:
    mount = mounts()
    shell = f'exec "$0" "$@" {closed}'
    done = start(mount, "sh", "-c", shell, ZIPFS, "mount", mount.store, mount.point, cwd=REPOSITORY)
    assert done.returncode == 0
    for pid in both(mount):
        standard = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        inside = {target for target in standard if target.startswith(str(mount.store))}
        assert inside <= {str(mount.store / "log" / "zipfs.log")}  # which standard error is to go to
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    mount.umount()
    mount.fsck()


@pytest.mark.expected_log(r"RLIMIT_FSIZE is \d+", r"compressing pauses for \d+ s: .*File too large")
def test_limits_of_the_shell(mounts: Callable[..., Mount]) -> None:
    """Soft limits are raised; under hard ones a mount serves, and says so."""
    mount = mounts()
    data = noise(3_000_000, 1)
    soft = 'ulimit -S -n 300; ulimit -S -f 1000; exec "$@"'
    command = ["bash", "-c", soft, "-", ZIPFS, "mount", mount.store, mount.point]
    assert start(mount, *command, cwd=REPOSITORY).returncode == 0
    (mount.ingest / "file").write_bytes(data)
    assert mount.stored("file").read_bytes() == data
    mount.umount()
    hard = 'ulimit -n 300; ulimit -f 1000; exec "$@"'
    assert start(mount, "bash", "-c", hard, "-", *command[4:], cwd=REPOSITORY).returncode == 0
    assert "RLIMIT_FSIZE" in mount.log()
    with pytest.raises(OSError, match="too large"):
        (mount.ingest / "large").write_bytes(data)
    assert (mount.point / "file").read_bytes() == data
    (mount.ingest / "small").write_bytes(b"small")
    assert mount.served("small").read_bytes() == b"small"
    assert is_alive(mount.pid)


def test_signals_to_the_terminal(mounts: Callable[..., Mount]) -> None:
    """A mount in the background has a session of its own; one in front under nohup outlives the hang-up."""
    mount = mounts().start()
    assert os.getsid(mount.pid) == mount.pid
    for pid in both(mount):
        os.kill(pid, signal.SIGPIPE)
    assert (mount.point / "ingest").is_dir()
    mount.umount()
    mount.guard()
    command = ["nohup", str(ZIPFS), "mount", "-f", str(mount.store), str(mount.point)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mount.pid = process.pid
    try:
        poll((mount.point / ".zipfs" / "status.json").exists)
        process.send_signal(signal.SIGHUP)
        (mount.ingest / "file").write_bytes(b"content")
        mount.stored("file")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_worker_has_no_kernel_interface(mount: Mount) -> None:
    """It compresses; what it does not need cannot fail in it, and takes no memory."""
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    maps = Path(f"/proc/{both(mount)[1]}/maps").read_text()
    assert "zipfs/codec" in maps
    assert "pyfuse3" not in maps


def test_a_mount_that_fails_says_why(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts()
    empty = tmp_path / "empty"
    empty.mkdir()
    swapped = zipfs("mount", mount.point, mount.start().store)
    assert swapped.returncode == 6
    assert "store is named first" in swapped.stderr
    far = zipfs("mount", tmp_path / "not" / "there" / "store", empty)
    assert far.returncode == 3
    assert "is its disk there?" in far.stderr
    assert os.listdir(tmp_path) == ["empty"]


def test_a_new_store_is_told_of(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    made = mount.try_start()
    assert f"made a new store at {mount.store}" in made.stderr
    mount.umount()
    assert mount.try_start().stderr == ""


def test_daemon_and_worker_run_the_package_that_started_them(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    """Also where that is not the installed one: they are told where it is."""
    shutil.copytree(REPOSITORY / "zipfs", tmp_path / "zipfs", ignore=shutil.ignore_patterns("native", "__pycache__"))
    mount = mounts()
    command = (sys.executable, "-m", "zipfs.cli", "mount", mount.store, mount.point)
    assert start(mount, *command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}).returncode == 0
    (mount.ingest / "file").write_bytes(b"content")
    mount.stored("file")
    for pid in both(mount):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert f"{tmp_path}/zipfs/codec" in maps
        assert f"{REPOSITORY}/zipfs" not in maps
