"""The systemd unit: systemd accepts it, and its commands do to a real mount what its comments promise."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "systemd"
UNIT = FOLDER / "zipfs@.service"
EXAMPLE = FOLDER / "example.conf"
BIN = sysconfig.get_path("scripts")


def unit_settings() -> list[tuple[str, str]]:
    """Key and value of every line of the unit, in order."""
    lines = (line for line in UNIT.read_text().splitlines() if line and line[0] not in "#[")
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def values_of(key: str) -> list[str]:
    return [value for name, value in unit_settings() if name == key]


def example_settings() -> dict[str, str]:
    lines = (line for line in EXAMPLE.read_text().splitlines() if line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)


def expanded(command: str, environment: Mapping[str, str]) -> list[str]:
    """A command line of the unit as systemd runs it (systemd.service(5), "Command lines")."""
    arguments = []
    for word in shlex.split(command):
        if re.fullmatch(r"\$\w+", word):
            arguments += environment.get(word[1:], "").split()
        else:
            escaped = word.split("$$")
            filled = (re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match[1], ""), part) for part in escaped)
            arguments.append("$".join(filled))
    return arguments


def run_all(key: str, environment: Mapping[str, str]) -> None:
    for command in values_of(key):
        subprocess.run(expanded(command, environment), env=environment, check=True)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What the unit's commands find in their environment."""
    return {
        **example_settings(),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "STORE": str(tmp_path / "store"),
        "MOUNTPOINT": str(tmp_path / "models"),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }


def wait_until_ready(ready: socket.socket, service: subprocess.Popen[bytes]) -> None:
    ready.settimeout(0.2)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert service.poll() is None, f"the service ended with exit code {service.returncode}"
        with suppress(TimeoutError):
            if b"READY=1" in ready.recv(4096).split(b"\n"):
                return
    pytest.fail("the service did not say in time that it was ready")


@contextmanager
def started(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The service from the moment at which it says that it is ready; its mount is gone afterwards."""
    run_all("ExecStartPre", environment)
    Path(environment["NOTIFY_SOCKET"]).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(environment["NOTIFY_SOCKET"])
        (command,) = values_of("ExecStart")
        with subprocess.Popen(expanded(command, environment), env=environment) as service:
            try:
                wait_until_ready(ready, service)
                yield service
            finally:
                service.kill()
                service.wait()
                subprocess.run(["fusermount3", "-u", "-z", "-q", environment["MOUNTPOINT"]], check=False)


def test_systemd_accepts_the_unit() -> None:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(UNIT)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_example_sets_what_the_unit_asks_for() -> None:
    commands = " ".join(value for key, value in unit_settings() if key.startswith("Exec"))
    asked = set(re.findall(r"\$\{?([A-Z_]+)", commands)) - {"SERVICE_RESULT"}
    assert asked == set(example_settings())


def test_nothing_hides_the_mount_or_its_kernel_settings() -> None:
    keys = {key for key, _ in unit_settings()}
    assert not [key for key in keys if key.startswith(("Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible"))]
    assert "NoNewPrivileges" not in keys


def test_every_option_is_one_that_the_command_knows(environment: dict[str, str]) -> None:
    (command,) = values_of("ExecStart")
    program, name, *arguments = expanded(command, environment)[1:]
    assert (program, name) == ("zipfs", "mount")
    shown = subprocess.run(
        [program, name, "--help"],
        env=environment,
        executable=f"{BIN}/zipfs",
        capture_output=True,
        text=True,
        check=True,
    )
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.stdout))
    options = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    assert {"-f", "--allow-other"} <= options
    assert options <= known


@pytest.mark.mount
def test_the_service_is_ready_when_the_mount_answers_and_ends_cleanly(environment: dict[str, str]) -> None:
    mountpoint = Path(environment["MOUNTPOINT"])
    with started(environment) as service:
        assert mountpoint.is_mount()
        assert (mountpoint / "ingest").is_dir()
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0
        run_all("ExecStopPost", {**environment, "SERVICE_RESULT": "success"})
        assert not mountpoint.is_mount()


@pytest.mark.mount
@pytest.mark.crash
def test_a_crashed_mount_refuses_access_until_the_restart_clears_it(environment: dict[str, str]) -> None:
    mountpoint = Path(environment["MOUNTPOINT"])
    with started(environment) as service:
        service.kill()
        service.wait()
        run_all("ExecStopPost", {**environment, "SERVICE_RESULT": "signal"})
        with pytest.raises(OSError) as refused:
            os.listdir(mountpoint)
        assert refused.value.errno == errno.ENOTCONN
        with started(environment):
            assert (mountpoint / "ingest").is_dir()


@pytest.mark.mount
def test_starting_leaves_a_living_mount_alone(environment: dict[str, str]) -> None:
    mountpoint = Path(environment["MOUNTPOINT"])
    with started(environment):
        run_all("ExecStartPre", environment)
        assert (mountpoint / "ingest").is_dir()
