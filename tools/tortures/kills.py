"""One lane of kills: `python -m tools.tortures.kills`. Started by tools/torture, which runs some side by side.

A player works on a store of its own. Its daemon is killed at a random instant, or at a fault point, alone or with the
worker; then the store is served again, and everything that was acknowledged has to be there. The player goes on with
what it finds. Now and then the store is left, checked to its last byte, and a new one begun.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import json
import os
import random
import select
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.tortures.model import Body, Difference, Names, Short, listed
from tools.tortures.mounts import OPTIONS, Hangs, Served, mounted
from tools.tortures.operations import told
from tools.tortures.player import Player
from zipfs.store.disk.faults import POINTS
from zipfs.store.publish import fault_points

KILLS_A_STORE: Final = 50
READ_DATA_EVERY: Final = 20
AT_MOST_NBYTES: Final = 600 << 10
_LIVES_S: Final = (0.3, 0.8, 2.0, 3.0)
"""A daemon is killed at the latest so long after it is ready: a worker takes a second to begin."""
_STUCK_S: Final = 3.0
_GLANCE_S: Final = 0.25
_DIED: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV})
FAULTS: Final = (
    *(point for point in POINTS if point.startswith(("seal", "reopen.", "clip.", "delete.", "ingest."))),
    *fault_points("ingest"),
)
"""Points that a mount comes by when files are written, sealed, compressed and removed."""


class Wrong(Exception):
    """Something was lost or is wrong; the message says what, and what was done before."""


@dataclass(slots=True)
class Lane:
    """A lane: its seed, where it works, and what it has seen."""

    folder: Path
    seed: int
    options: Sequence[str]
    chance: random.Random = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    stores: int = 0
    _guardian: int = 0
    _notes: Path = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def run(self, kills: int, beat: Path) -> None:
        """Raises Wrong, Hangs."""
        done = 0
        while done < kills:
            count = min(KILLS_A_STORE, kills - done)
            self._run_store(count, done, beat)
            done += count

    def _run_store(self, kills: int, before: int, beat: Path) -> None:
        self.stores += 1
        folder = self.folder / f"store-{self.stores}"
        folder.mkdir()
        served = Served(folder / "store", folder / "mnt", options=(*OPTIONS, *self.options))
        served.make()
        self._notes = folder / "aborted"
        player = Player(
            served.point, self.seed * 1000 + self.stores, on_mount=True, at_most_nbytes=AT_MOST_NBYTES, killed=True
        )
        try:
            self._start(served, "")
            player.begin()
            for number in range(kills):
                beat.write_text(f"{before + number} {served.point}\n")
                self._kill_once(served, player, number)
            self._end(served, player)
        except (Difference, OSError, Hangs) as error:
            raise Wrong(f"store {self.stores} of lane {self.seed}: {error!r}\n{told(player)}") from error
        finally:
            player.files.abandon()
            served.abort()
        self.counts += served.counts + player.files.counts
        self.counts["operations"] += player.files.steps
        shutil.rmtree(folder, ignore_errors=True)

    def _kill_once(self, served: Served, player: Player, number: int) -> None:
        """Play on the mount until its daemon is killed; mount again, with the next fault armed; compare."""
        killers = self._arm(served)
        try:
            self._play(served, player)
        finally:
            for killer in killers:
                with suppress(ProcessLookupError):
                    os.kill(killer, signal.SIGKILL)
                os.waitpid(killer, 0)
        self._bury(served, player)
        fault = f"{self.chance.choice(FAULTS)}:{self.chance.randint(1, 3)}" if self.chance.random() < 0.35 else ""
        while True:
            try:
                self._start(served, fault)
                self._compare(player, f"after kill {number + 1}")
                break
            except OSError as error:
                if not fault or error.errno not in _DIED or not served.has_died(5.0):
                    raise
            self._bury(served, player)
            fault = ""
        problems = served.problems(read_data=self.chance.randrange(READ_DATA_EVERY) == 0)
        if not fault.startswith("ingest."):  # or a worker dies before it has deleted what it has compressed
            problems += served.left_in_spool()
        if problems and served.is_alive():  # what a kill leaves over is cleared by the next mount
            raise Difference("; ".join(problems))

    def _start(self, served: Served, fault: str) -> None:
        served.start({"ZIPFS_FAULT": fault} if fault else {})
        if served.is_alive():
            self._guardian = _guardian(served, self._notes)

    def _bury(self, served: Served, player: Player) -> None:
        """Take away what a daemon that was killed has left."""
        self.counts["kills"] += 1
        if served.is_alive():
            served.kill()
        assert served.daemon is not None
        if served.daemon.exitcode != -signal.SIGKILL:
            raise Hangs(f"the daemon ended with {served.daemon.exitcode} before it was killed")
        player.files.abandon()
        served.detach()
        self._reap_guardian()
        if self._notes.exists():
            self._notes.unlink()
            self.counts["killed daemons that did not end until their connection was aborted"] += 1
        served.read_log()

    def _reap_guardian(self) -> None:
        if self._guardian:
            os.waitpid(self._guardian, 0)
            self._guardian = 0

    def _arm(self, served: Served) -> list[int]:
        """Start what kills the daemon, the worker or both, at instants of its own."""
        at_s = self.chance.random() * self.chance.choice(_LIVES_S)
        victims = [(served.pid, at_s)]
        workers = [pid for pid in served.workers() if os.path.exists(f"/proc/{pid}")]
        how = self.chance.random()
        if how < 0.3:
            victims += [(pid, at_s) for pid in workers]
        elif how < 0.45:
            victims += [(pid, self.chance.random() * at_s) for pid in workers]
        self.counts["kills of workers"] += len(victims) - 1
        return [_killer(pid, after_s) for pid, after_s in victims]

    def _play(self, served: Served, player: Player) -> None:
        """Do operations until the daemon dies under one. Raises what a living one should not have answered."""
        deadline = time.monotonic() + 60.0
        try:
            while time.monotonic() < deadline:
                player.step()
                if not served.is_alive():
                    return
        except (OSError, Short) as error:
            if (isinstance(error, OSError) and error.errno not in _DIED) or not served.has_died(5.0):
                raise
            return
        raise Hangs("the daemon was not killed")

    def _compare(self, player: Player, when: str) -> None:
        """Find which of the possible states is there, and go on with that. Raises Difference."""
        files = player.files
        found = files.names_found()
        content = {name: Path(files.path(name)).read_bytes() for name in found}
        reasons = []
        for names in files.tree.possible():
            reason = _reason_against(names, found, content)
            if not reason:
                _adopt(player, names, found, content)
                player.look_for_directories()
                return
            reasons.append(reason)
        raise Difference(f"{when}: {'; or: '.join(reasons)}")

    def _end(self, served: Served, player: Player) -> None:
        """Let everything be compressed, and look at the whole store."""
        self._bury(served, player)
        self._start(served, "")
        self._compare(player, "after the last kill")
        if not served.wait_until_stored(60.0):
            raise Difference("not everything is compressed a minute after the last operation")
        player.files.check_everything()
        problems = served.left_in_spool()
        served.umount()
        self._reap_guardian()
        problems += served.problems(read_data=True)
        if problems:
            raise Difference("; ".join(problems))


def _killer(pid: int, after_s: float) -> int:
    """Start a process that kills another after a while; it has nothing of a mount open."""
    victim = os.pidfd_open(pid)  # never another process that has got its number
    child = os.fork()
    if child:
        os.close(victim)
        return child
    try:
        time.sleep(after_s)
        signal.pidfd_send_signal(victim, signal.SIGKILL)
    finally:
        os._exit(0)


def _guardian(served: Served, notes: Path) -> int:
    """Start a process that aborts the mount of a daemon that was killed and cannot end, and says so in a file.

    A thread of it may wait in the kernel for a lock that whoever waits for its answer holds; no signal ends that.
    """
    pid, device = served.pid, mounted()[str(served.point)].partition(":")[2]
    victim = os.pidfd_open(pid)
    child = os.fork()
    if child:
        os.close(victim)
        return child
    try:
        stuck_s = 0.0
        while not select.select([victim], [], [], _GLANCE_S)[0]:
            dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            stuck_s = stuck_s + _GLANCE_S if dead else 0.0
            if stuck_s > _STUCK_S:
                notes.touch()
                Path(f"/sys/fs/fuse/connections/{device}/abort").write_text("1")
                stuck_s = 0.0
    finally:
        os._exit(0)


def _reason_against(names: Names, found: dict[str, os.stat_result], content: dict[str, bytes]) -> str:
    """Return why what is found cannot be so, or nothing."""
    missing, more = names.keys() - found.keys(), found.keys() - names.keys()
    if missing or more:
        return f"missing: {listed(missing)}; too many: {listed(more)}"
    inodes: dict[int, Body] = {}
    for name, body in names.items():
        reason = body.allows(content[name])
        if reason:
            return f"{name}, {body}: {reason}"
        info = found[name]
        if inodes.setdefault(info.st_ino, body) is not body:
            return f"{name} is another name of {inodes[info.st_ino]}"
        links = sum(other is body for other in names.values())
        if info.st_nlink != links:
            return f"{name}, {body}: links are {info.st_nlink} instead of {links}"
        if not body.inode or body.loose:
            continue
        if info.st_ino != body.inode:
            return f"{name}, {body}: inode is {info.st_ino} instead of {body.inode}"
        if body.mode not in (-1, info.st_mode & 0o7777):
            return f"{name}, {body}: mode is {info.st_mode & 0o7777:o} instead of {body.mode:o}"
        if body.mtime_ns not in (None, info.st_mtime_ns):
            return f"{name}, {body}: mtime is {info.st_mtime_ns} instead of {body.mtime_ns}"
    return ""


def _adopt(player: Player, names: Names, found: dict[str, os.stat_result], content: dict[str, bytes]) -> None:
    tree = player.files.tree
    tree.names, tree.loose = names, None
    for name, body in names.items():
        info = found[name]
        body.data[:] = content[name]
        body.loose.clear()
        body.history.clear()
        body.inode, body.mode, body.mtime_ns, body.changed_s = info.st_ino, info.st_mode & 0o7777, None, 0.0


def main() -> None:
    faulthandler.enable()
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--beat", type=Path, required=True)
    parser.add_argument("--option", action="append", default=[])
    arguments = parser.parse_args()
    os.umask(0o022)
    lane = Lane(arguments.folder, arguments.seed, arguments.option)
    wrong = ""
    try:
        lane.run(arguments.kills, arguments.beat)
    except (Wrong, Hangs) as error:
        wrong = str(error)
    print(json.dumps({"kills": lane.counts["kills"], "counts": lane.counts, "stores": lane.stores, "wrong": wrong}))


if __name__ == "__main__":
    main()
