"""The trees that a suite of try_suites runs in: two of a mount of ZipFS, and the floors that they are compared with.

`served` is a mount outside of `ingest/`, `ingest` what lies below that; `passthrough` is libfuse's passthrough_ll on a
directory of the disk, `disk` that directory. All of it happens in a mount and a process namespace of its own, which
tools/try_suites makes: what is mounted or started here is gone when that ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon_logs import entries_of, is_trouble
from tools.suites.outcome import FAIL, PASS, Done, Outcome, Trouble, run, shorten

ROOT = Path(__file__).resolve().parents[2]
ZIPFS = ROOT / ".venv" / "bin" / "zipfs"
TREES = ("served", "ingest")
FLOORS = ("passthrough", "disk")
PASSTHROUGH_OPTIONS = "allow_other,default_permissions,xattr,cache=auto"
COMMAND_S = 300.0
WAIT_S = 600
CHECKS = "afterwards"


@dataclass(frozen=True, slots=True)
class Place:
    """A tree, and a new folder for all that it needs."""

    tree: str
    folder: Path
    options: tuple[str, ...]
    """Of `zipfs mount`."""
    passthrough: Path
    """The program."""

    @property
    def is_zipfs(self) -> bool:
        return self.tree in TREES

    @property
    def source(self) -> Path:
        return self.folder / ("store" if self.is_zipfs else "files")

    @property
    def point(self) -> Path:
        return self.folder / "mnt"

    @property
    def directory(self) -> Path:
        """Where the suite writes; everybody may."""
        return {
            "served": self.point / "suite",
            "ingest": self.point / "ingest" / "suite",
            "passthrough": self.point / "suite",
            "disk": self.source / "suite",
        }[self.tree]

    def command(self, name: str, *arguments: str | Path, timeout_s: float = COMMAND_S) -> Done:
        """Run a program. Raises Trouble if it fails."""
        done = self.try_command(name, *arguments, timeout_s=timeout_s)
        if done.code != 0:
            raise Trouble(f"{Path(name).name} {arguments[0]} ended with {done.code}: {done.last()}")
        return done

    def try_command(self, name: str, *arguments: str | Path, timeout_s: float = COMMAND_S) -> Done:
        return run(
            (name, *arguments), cwd=ROOT, timeout_s=timeout_s, output=self.folder / f"{Path(name).name}.out"
        )  # fmt: skip

    def mount(self) -> None:
        if self.is_zipfs:
            self.command(str(ZIPFS), "mount", *self.options, self.source, self.point)
        elif self.tree == "passthrough":
            self.source.mkdir(exist_ok=True)
            options = f"source={self.source},fsname={self.source},{PASSTHROUGH_OPTIONS}"
            self.command(str(self.passthrough), "-o", options, self.point)

    def unmount(self) -> None:
        if self.is_zipfs:
            self.command(str(ZIPFS), "umount", self.point)
        elif self.tree == "passthrough":
            self.command("umount", self.point)

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The directory to write into, mounted. Whatever happens there, the mount is gone in the end."""
        self.point.mkdir()
        try:
            self.mount()
            self.command("mkdir", "-m", "0777", "-p", self.directory)
            yield self.directory
        finally:
            give_up(self.point)

    def check(self) -> Iterator[Outcome]:
        """What has to hold of a store after a suite; the mount is there, and is not in the end."""
        if not self.is_zipfs:
            self.unmount()
            return
        yield self._checked("zipfs wait", str(ZIPFS), "wait", "--timeout", str(WAIT_S), self.point)
        before = self._listing()
        self.unmount()
        self.mount()
        after = self._listing()
        changed = sorted(set(before) ^ set(after))
        words = shorten(f"{len(before)} names, {len(changed)} changed: {' ; '.join(changed[:4])}")
        yield Outcome(CHECKS, "all is there after a remount", FAIL if changed else PASS, words if changed else "")
        yield self._checked("rm -r", "rm", "-rf", self.directory)
        self.unmount()
        yield from check_store(self, self.source)

    def _checked(self, test: str, name: str, *arguments: str | Path) -> Outcome:
        done = self.try_command(name, *arguments, timeout_s=WAIT_S + COMMAND_S)
        return Outcome(CHECKS, test, FAIL if done.code else PASS, f"{done.code}: {done.last()}" if done.code else "")

    def _listing(self) -> list[str]:
        """Names, attributes and contents of what the suite left, by a process that may hang."""
        return self.command(sys.executable, "-m", "tools.suites.listing", self.directory).text.splitlines()


def check_store(place: Place, store: Path) -> Iterator[Outcome]:
    """Whether a store that is not mounted is whole, and whether its daemon had to complain."""
    done = place.try_command(str(ZIPFS), "fsck", "--read-data", store)
    yield Outcome(CHECKS, "zipfs fsck --read-data", FAIL if done.code else PASS, done.last() if done.code else "")
    log = store / "log" / "zipfs.log"
    entries = entries_of(log.read_text(errors="replace")) if log.exists() else []
    trouble = [entry for entry in entries if is_trouble(entry)]
    words = shorten(f"{len(trouble)} messages: {trouble[0]} ... {trouble[-1]}") if trouble else ""
    yield Outcome(CHECKS, "no trouble in the log", FAIL if trouble else PASS, words)


def give_up(point: Path) -> None:
    """Detach what is mounted there: whoever waits in it gets an error."""
    with suppress(subprocess.TimeoutExpired):
        while not subprocess.run(
            ["umount", "-l", point], capture_output=True, timeout=COMMAND_S, check=False
        ).returncode:
            pass
