"""What a mount tells of its own work: an attribute, a file for Prometheus, `zipfs status --perf` and `zipfs top`."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio

from tests.support import prometheus
from tests.support.mounts import REPOSITORY, Mount, noise, poll, run, zipfs
from zipfs.errors import Damaged
from zipfs.metrics.counters import Counters
from zipfs.mount.errors import guarded
from zipfs.mount.reading_operations import ReadingOperations
from zipfs.mount.writing_operations import WritingOperations

pytestmark = pytest.mark.mount


def perf(mount: Mount) -> Any:
    return json.loads(os.getxattr(mount.point, "user.zipfs.perf"))


def metrics(mount: Mount) -> dict[str, prometheus.Family]:
    return prometheus.parse((mount.point / ".zipfs" / "metrics").read_text())


# Handlers


class Handlers:
    """Handlers as a mount has them."""

    def __init__(self) -> None:
        self.counters = Counters()

    @guarded
    async def read(self, answer: bytes | memoryview | Exception) -> bytes | memoryview:
        if isinstance(answer, Exception):
            raise answer
        return answer

    @guarded
    async def write(self, nbytes: int) -> int:
        return nbytes

    @guarded
    async def readlink(self) -> bytes:
        return b"no content"


def test_requests_are_counted_with_their_bytes() -> None:
    handlers = Handlers()
    assert trio.run(handlers.read, b"123") == b"123"
    assert trio.run(handlers.read, memoryview(b"12345")) == b"12345"
    trio.run(handlers.write, 7)
    trio.run(handlers.readlink)
    found = handlers.counters.snapshot().operations
    assert {name: (item.count, item.nbytes, item.failed) for name, item in found.items()} == {
        "read": (2, 8, 0),
        "write": (1, 7, 0),
        "readlink": (1, 0, 0),
    }


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (pyfuse3.FUSEError(errno.ENOENT), errno.ENOENT),
        (Damaged("pack 1", "rotten"), errno.EIO),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (ZeroDivisionError(), errno.EIO),
    ],
)
def test_errors_are_counted_by_name(error: Exception, number: int) -> None:
    handlers = Handlers()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        trio.run(handlers.read, error)
    assert caught.value.errno == number
    found = handlers.counters.snapshot().operations["read"]
    assert (found.count, found.nbytes, found.failures) == (1, 0, {errno.errorcode[number]: 1})


@pytest.mark.parametrize("operations", [ReadingOperations, WritingOperations])
def test_every_handler_is_counted(operations: type[pyfuse3.Operations]) -> None:
    ours = {
        name
        for name, handler in vars(pyfuse3.Operations).items()
        if not name.startswith("_") and getattr(operations, name) is not handler and callable(handler)
    }
    assert ours >= {"lookup", "read", "readdir", "forget"}
    assert {name for name in ours if not hasattr(getattr(operations, name), "__wrapped__")} == {"init"}


# A mount


def test_the_attribute_of_the_root_counts_requests(shared: Mount) -> None:
    before = perf(shared)
    data = noise(300_000, 1)
    (shared.ingest / "counted").write_bytes(data)
    assert shared.served("counted").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        os.stat(shared.point / "not there")
    with pytest.raises(FileNotFoundError):
        os.stat(shared.point / "nor this")
    after = perf(shared)

    def more(operation: str, what: str) -> int:
        return int(after["operations"][operation][what] - before["operations"].get(operation, {what: 0})[what])

    assert more("write", "nbytes") == len(data)
    assert more("read", "nbytes") >= len(data)
    assert more("create", "count") == 1
    assert more("open", "count") >= 1
    assert after["operations"]["lookup"]["failures"]["ENOENT"] >= 2
    for item in after["operations"].values():
        assert 0 < item["p50_s"] <= item["p90_s"] <= item["p99_s"]
        assert sum(item["failures"].values()) <= item["count"]
    assert after["process"]["pid"] == shared.pid
    assert after["process"]["cpu_s"] > 0
    assert 10 << 20 < after["process"]["resident_nbytes"] <= after["process"]["peak_resident_nbytes"]
    assert set(after["stages"]) == {"fetch", "decode"}
    assert after["elapsed_s"] > before["elapsed_s"] > 0


def test_open_files_are_shown_while_they_are_open(shared: Mount) -> None:
    (shared.ingest / "held").write_bytes(b"held")
    path = shared.stored("held")
    before = perf(shared)["gauges"]["open_files"]
    with open(path, "rb"), open(path, "rb"):
        assert perf(shared)["gauges"]["open_files"] == before + 2
    poll(lambda: perf(shared)["gauges"]["open_files"] == before, what="both to be released")


def test_only_the_root_has_the_attribute_and_nobody_lists_or_sets_it(shared: Mount) -> None:
    (shared.ingest / "plain").write_bytes(b"plain")
    for path in (shared.ingest, shared.served("plain"), shared.point / ".zipfs"):
        with pytest.raises(OSError, match="No data"):
            os.getxattr(path, "user.zipfs.perf")
    assert os.listxattr(shared.point) == []
    with pytest.raises(PermissionError):
        os.setxattr(shared.point, "user.zipfs.perf", b"{}")


def test_the_attribute_is_read_by_getfattr_which_asks_for_its_length_first(shared: Mount) -> None:
    command = ("getfattr", "--only-values", "--absolute-names", "-n", "user.zipfs.perf", shared.point)
    lengths = set()
    for _ in range(20):
        text = run(*command)
        assert json.loads(text)["format"] == 1
        lengths.add(len(text))
    assert len(lengths) <= 2  # a length that changed in between would be an error


def test_the_metrics_are_what_prometheus_reads(shared: Mount, tmp_path: Path) -> None:
    data = noise(200_000, 2)
    (shared.ingest / "measured").write_bytes(data)
    assert shared.served("measured").read_bytes() == data
    first = metrics(shared)
    times = first["zipfs_operation_duration_seconds"]
    assert times.value("_count", operation="write") >= 1
    assert first["zipfs_operation_bytes_total"].value(operation="write") >= len(data)
    assert first["process_resident_memory_bytes"].value() > 10 << 20
    assert first["zipfs_open_files"].value() >= 0
    second = metrics(shared)
    for name, family in first.items():
        if family.kind == "counter":
            for key, value in family.samples.items():
                assert second[name].samples[key] >= value, name
    assert second["zipfs_operation_duration_seconds"].value("_count", operation="open") > times.value(
        "_count", operation="open"
    )
    run("cp", shared.point / ".zipfs" / "metrics", tmp_path)
    assert set(prometheus.parse((tmp_path / "metrics").read_text())) == set(second)


def test_a_mount_that_is_read_only_counts_too(mount: Mount) -> None:
    (mount.ingest / "file").write_bytes(b"content")
    mount.wait()
    mount.remount("--read-only")
    assert (mount.point / "file").read_bytes() == b"content"
    assert perf(mount)["operations"]["read"]["nbytes"] >= len(b"content")
    assert metrics(mount)["zipfs_operation_bytes_total"].value(operation="read") >= len(b"content")


def test_reading_is_counted_through_the_packs_the_decoder_and_the_cache(mount: Mount) -> None:
    data = noise(24 << 20, 3)
    (mount.ingest / "large").write_bytes(data)
    mount.wait()
    mount.remount()
    with open(mount.point / "large", "rb") as file:
        before = perf(mount)
        assert file.read() == data
        after = perf(mount)
    fetched, decoded = after["stages"]["fetch"], after["stages"]["decode"]
    assert fetched["nbytes"] >= len(data)  # it cannot be made smaller
    assert decoded["nbytes"] == len(data)
    assert fetched["seconds"] > 0 < decoded["seconds"]
    tallies = after["tallies"]
    answered = sum(tallies[name]["nbytes"] for name in ("hits", "misses", "waits"))
    assert answered == after["operations"]["read"]["nbytes"] - before["operations"].get("read", {"nbytes": 0})["nbytes"]
    ahead, used, wasted = (tallies[name]["nbytes"] for name in ("prefetched", "prefetch_used", "prefetch_wasted"))
    assert used + wasted <= ahead <= len(data)
    assert used > len(data) // 2
    assert after["gauges"]["streams"] >= 1
    assert after["gauges"]["cache_bytes"] > 0


# Commands


def test_status_shows_figures_when_asked_to(shared: Mount) -> None:
    os.listdir(shared.point)
    done = zipfs("status", shared.point, "--perf")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert rows["operation"][1:] == ["count", "errors", "bytes", "p50", "p90", "p99"]
    assert int(rows["readdir"][1]) >= 1
    assert {"store", "decode", "cache", "ahead", "now", "process"} <= set(rows)
    assert max(map(len, done.stdout.splitlines()[-20:])) <= 80
    plain = zipfs("status", shared.point).stdout
    assert "operation" not in plain
    document = json.loads(zipfs("status", shared.point, "--perf", "--json").stdout)
    assert document["pid"] == document["perf"]["process"]["pid"] == shared.pid
    assert document["perf"]["operations"]["readdir"]["count"] >= 1
    assert "perf" not in json.loads(zipfs("status", shared.point, "--json").stdout)


@contextmanager
def top(*arguments: object, terminal: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`zipfs top`, which ends with the block at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zipfs.cli", "top", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=terminal or subprocess.PIPE, stderr=terminal or subprocess.PIPE, text=True,
        cwd=REPOSITORY,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def picture(process: subprocess.Popen[str]) -> list[str]:
    """The lines of the next picture, up to the last one."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("process "):
            return lines
    pytest.fail(f"no picture came: {lines}")


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=180)
    return process.returncode, said


def test_top_once_shows_the_last_interval(shared: Mount) -> None:
    done = zipfs("top", "--once", "--interval", "0.2", shared.point)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(str(shared.point))
    assert "last 0." in lines[0]
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["operation"][1:] == ["per", "s", "errors/s", "bytes/s", "p50", "p90", "p99"]
    assert float(rows["open"][1]) > 0  # its own look, once in the interval
    assert "write" not in rows
    assert {"fetch", "decode", "cache", "bases", "ahead", "now", "process"} <= set(rows)
    assert "\x1b" not in done.stdout


def test_top_goes_on_until_it_is_interrupted(shared: Mount) -> None:
    with top("--interval", "0.1", shared.point) as process:
        for _ in range(3):
            assert picture(process)
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (0, "")


def test_top_on_a_terminal_draws_over_itself_and_ends_with_it_as_it_was(shared: Mount) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    try:
        with top("--interval", "0.1", shared.point, terminal=theirs) as process:
            os.close(theirs)
            while seen.count(b"operation") < 3:
                seen += os.read(ours, 1 << 16)
            process.send_signal(signal.SIGINT)
            with suppress(OSError):  # EIO: the other end is closed
                while part := os.read(ours, 1 << 16):
                    seen += part
            assert process.wait(timeout=180) == 0
    finally:
        os.close(ours)
    assert b"\x1b[?25l" in seen  # the cursor is hidden,
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")  # and comes back
    assert b"Traceback" not in seen


@pytest.mark.parametrize("how", ["umount", "kill"])
def test_top_ends_with_its_mount_and_says_so(mount: Mount, how: str) -> None:
    def umount() -> None:
        poll(lambda: zipfs("umount", mount.point).returncode == 0, what="a moment between two looks of top")

    ends: dict[str, Callable[[], None]] = {"umount": umount, "kill": mount.kill}
    with top("--interval", "0.1", mount.point) as process:
        picture(process)
        ends[how]()
        code, said = end_of(process)
    assert code == 3
    assert said.startswith(f"zipfs: {mount.point}: ")
    assert said.count("\n") == 1
    assert {"umount": "no ZipFS store is mounted there now", "kill": "Mount it again"}[how] in said


def test_top_is_interrupted_also_while_the_mount_hangs(mount: Mount) -> None:
    with top("--interval", "0.1", mount.point) as process:
        picture(process)
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            poll(children.read_text, what="the next question")
            process.send_signal(signal.SIGINT)
            assert end_of(process) == (0, "")
        finally:
            os.kill(mount.pid, signal.SIGCONT)


def test_figures_are_those_of_mounts_only(tmp_path: Path, shared: Mount) -> None:
    for path in (tmp_path, tmp_path / "missing", shared.store):
        done = zipfs("top", "--once", path)
        assert (done.returncode, done.stdout) == (3, "")
        assert str(path) in done.stderr
        assert done.stderr.count("\n") == 1
    (tmp_path / ".zipfs").mkdir()
    (tmp_path / ".zipfs" / "perf.json").write_text('{"format": 99}')
    done = zipfs("top", "--once", tmp_path)
    assert done.returncode == 3
    assert "another version" in done.stderr
    done = zipfs("status", "--perf", shared.store)
    assert done.returncode == 3
    assert "no ZipFS store is mounted" in done.stderr
