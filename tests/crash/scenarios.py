"""What the killed processes of the crash tests do: `python -m tests.crash.scenarios`, which Runs starts.

Each scenario does to a store that `prepare` has made what a user would do to it, and is killed at a fault point. It is
run in a fork of a process that has everything imported, which takes longer than what most of them do.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.stores import (
    badly_based_family,
    collect_garbage,
    compress,
    copy_in,
    create_served,
    cut_off,
    import_path,
    model,
    noise,
    open_again,
    optimize_all,
    problems,
    put_file,
    remove,
    served_inode,
    tuned,
    weights,
    write_tree,
)
from zipfs.ingest.queue import seal_everything
from zipfs.store.disk import faults
from zipfs.store.maintenance.collect import merge_small_packs
from zipfs.store.maintenance.repair import repair
from zipfs.store.objects.values import ROOT, State
from zipfs.store.store import Store, open_store

Files = dict[bytes, bytes]

BASE = weights(60_000)
KEPT: Final[Files] = {
    b"kept/base.safetensors": model(BASE),
    b"kept/tuned.safetensors": model(tuned(BASE, 2)),
    b"kept/config.json": b'{"a": 1}',
}
"""Stored before; every scenario leaves it alone."""
REPLACED = {b"m/model.safetensors": model(tuned(BASE, 3)), b"m/notes": b"first"}
"""Stored before, replaced by `NEW` in the scenarios that put something in."""
NEW: Final[Files] = {
    b"m/model.safetensors": model(tuned(BASE, 4)),
    b"m/notes": b"second",
    b"m/deep/blob": noise(200_000, 5),
    b"m/empty": b"",
}
DROPPED: Final[Files] = {
    b"old/dead": noise(100_000, 6),
    b"old/sub/waiting": noise(70_000, 7),
}
"""Removed by `delete`; `waiting` lies in the spool."""
GARBAGE: Final[Files] = {b"kept/x-dead": noise(300_000, 8), b"gone/whole-pack": noise(80_000, 9)}
"""Removed before `collect`: the first leaves a sparse pack, the second one that nothing needs."""


def prepare(path: Path) -> None:
    """The store that every scenario begins with. `kept/config.json` shares a pack with what `gc` finds dead."""
    scratch = path.parent / "prepare"
    with open_store(path, create=True) as store:
        import_path(store, write_tree(scratch / "one", {b"base.safetensors": KEPT[b"kept/base.safetensors"]}), b"kept")
        put_file(store, scratch, b"kept/tuned.safetensors", KEPT[b"kept/tuned.safetensors"])
        mixed = {b"config.json": KEPT[b"kept/config.json"], b"x-dead": GARBAGE[b"kept/x-dead"]}
        import_path(store, write_tree(scratch / "two", mixed), b"kept")
        for name, content in REPLACED.items():
            put_file(store, scratch, name, content)
        put_file(store, scratch, b"old/dead", DROPPED[b"old/dead"])
        put_file(store, scratch, b"gone/whole-pack", GARBAGE[b"gone/whole-pack"])
        copy_in(store, b"old/sub/waiting", DROPPED[b"old/sub/waiting"])
        seal_everything(store)


def _copied(store: Store) -> None:
    """A copy into `ingest/` that has been closed: from here on it must never be lost."""
    for name, content in NEW.items():
        copy_in(store, name, content)


def _seal(store: Store) -> None:
    seal_everything(store)


def _compress(store: Store) -> None:
    compress(store)


def _import(store: Store) -> None:
    import_path(store, write_tree(store.path.parent / "source", {n[2:]: c for n, c in NEW.items()}), b"m")


def _delete(store: Store) -> None:
    remove(store, b"old")


def _garbage(store: Store) -> None:
    remove(store, b"kept/x-dead")
    remove(store, b"gone")


def _collect(store: Store) -> None:
    collect_garbage(store)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` runs unharmed in the test, `act` in the process that is killed.

    Afterwards each path of `before_files` or `after_files` has one of their contents (a path that only one of them has
    may be missing); `safe` is what had been acknowledged, so that it must be found, served or still below `ingest/`.
    A store that is `damaged` before may still be so until `act` has come to its end.
    """

    act: Callable[[Store], None]
    before: Callable[[Store], None]
    before_files: Files
    after_files: Files
    safe: Files
    damaged: bool = False


_UNTOUCHED: Final[Files] = {**KEPT, **DROPPED, **GARBAGE}
_BEFORE: Final[Files] = {**_UNTOUCHED, **REPLACED}
_AFTER: Final[Files] = {**_UNTOUCHED, **NEW}
_COLLECTED: Final[Files] = {**KEPT, **DROPPED, **REPLACED}


FAMILY: Final[Files] = badly_based_family(60_000)
"""A family whose first member, its base, is its outlier."""


def _badly_based(store: Store) -> None:
    # In one pack, which their headers keep alive: the collection at the end has to rewrite it.
    import_path(store, write_tree(store.path.parent / "scratch", {name[4:]: FAMILY[name] for name in FAMILY}), b"run")


def _optimize(store: Store) -> None:
    optimize_all(store)


SMALL: Final[Files] = {f"small/{number}".encode(): noise(300 + number, 40 + number) for number in range(9)}
"""Each in a pack of its own: enough to be merged."""


def _scattered(store: Store) -> None:
    for name, content in SMALL.items():
        put_file(store, store.path.parent / "scratch", name, content)


def _merge(store: Store) -> None:
    with store.lock("pack").held("", waiting=None):
        merge_small_packs(store)
    # What was merged is looked at, not how much: a merge that a kill cut off may have been completed before this one.
    assert len(store.catalog.packs()) < len(SMALL)


def _damage_an_index(store: Store) -> None:
    """Frames are read without it, so that nothing is lost yet."""
    blob = store.catalog.blob(store.catalog.extents(served_inode(store, b"kept/base.safetensors"))[-1].blob_id)
    pack = Path(store.packs.where(blob.pack))
    content = bytearray(pack.read_bytes())
    content[-45] ^= 0xFF  # in the index, before the trailer
    pack.write_bytes(bytes(content))


def _repair(store: Store) -> None:
    with store.lock("pack").held("", waiting=None):
        repair(store, problems(store))
    assert problems(store) == []


def _nothing(store: Store) -> None:
    return


WRITTEN: Final[Files] = {b"written-1": model(tuned(BASE, 5)), b"written-2": b"in place"}
"""Made in the served tree."""


def _written(store: Store) -> None:
    for name, content in WRITTEN.items():
        if store.catalog.entry(ROOT, name) is None:
            create_served(store, name, content)


def _seal_written(store: Store) -> None:
    compress(store)


def _reopen(store: Store) -> None:
    """Open what is stored, and what waits to be compressed, for writing, and let it be compressed again."""
    for name in (b"m/model.safetensors", b"old/sub/waiting"):
        inode = served_inode(store, name)
        if inode.state is not State.OPEN:
            open_again(store, inode, under_ingest=False, emptied=False)
    compress(store)


CUT_NBYTES: Final = 50_001
CUT: Final[Files] = {b"m/model.safetensors": REPLACED[b"m/model.safetensors"][:CUT_NBYTES]}


def _cut(store: Store) -> None:
    inode = served_inode(store, b"m/model.safetensors")
    if inode.state is not State.OPEN:
        inode = open_again(store, inode, under_ingest=False, emptied=False)
    cut_off(store, inode, CUT_NBYTES)


SCENARIOS: Final = {
    "seal": Scenario(_seal, _copied, _BEFORE, _AFTER, NEW),
    "compress": Scenario(_compress, _copied, _BEFORE, _AFTER, NEW),
    "import": Scenario(_import, _nothing, _BEFORE, _AFTER, {}),
    "delete": Scenario(_delete, _nothing, _BEFORE, {**KEPT, **REPLACED, **GARBAGE}, {}),
    "optimize": Scenario(_optimize, _badly_based, {**_BEFORE, **FAMILY}, {**_BEFORE, **FAMILY}, FAMILY),
    "merge": Scenario(_merge, _scattered, {**_BEFORE, **SMALL}, {**_BEFORE, **SMALL}, SMALL),
    "collect": Scenario(_collect, _garbage, _COLLECTED, _COLLECTED, {}),
    "write": Scenario(_seal_written, _written, {**_BEFORE, **WRITTEN}, {**_BEFORE, **WRITTEN}, WRITTEN),
    "reopen": Scenario(_reopen, _nothing, _BEFORE, _BEFORE, {**REPLACED, **DROPPED}),
    "cut": Scenario(_cut, _nothing, _BEFORE, {**_BEFORE, **CUT}, {}),
    "repair": Scenario(_repair, _damage_an_index, _BEFORE, _BEFORE, {}, damaged=True),
}


class Runs:
    """A process that runs scenarios, each in a fork of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.scenarios"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, scenario: str, path: Path, fault: str = "") -> int:
        """Return the exit code of a scenario; it is killed at `fault`, if that is given."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([scenario, str(path), fault]) + "\n")
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def _run_forked(scenario: str, path: str, fault: str) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.environ["ZIPFS_FAULT"] = fault
        importlib.reload(faults)
        with open_store(Path(path)) as opened:
            SCENARIOS[scenario].act(opened)
        os._exit(0)
    except BaseException:  # noqa: BLE001  # a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{_run_forked(*json.loads(line))}\n")
        sys.stdout.flush()
