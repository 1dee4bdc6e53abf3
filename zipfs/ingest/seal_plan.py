"""What was copied in is taken as finished when, and together with what: the plans of seals.

What is one model (`store/namespace/models.py`) is sealed when no handle can write to a file in it and nothing has
happened in it for a while. `quiet_groups` and `plan_seals` are pure.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from zipfs.errors import NotFound
from zipfs.ingest.spool import WRITING_MODE
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree
from zipfs.store.namespace.models import Units
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.objects.values import Area, Entry, Inode, InodeId, State
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry below `ingest/` that is not sealed; `path` is the one it will be served at."""

    entry: Entry
    inode: Inode
    path: bytes
    unfinished: bool = False
    """Whether its name says that it is not done: it waits."""
    interrupted: bool = False
    """Whether it was being written when a mount or a machine ended, and nobody has closed it since."""

    @property
    def directory(self) -> InodeId:
        """The directory whose quiet decides: a directory answers for itself."""
        return self.inode.id if self.inode.is_directory else self.entry.parent_id


@dataclass(frozen=True, slots=True)
class Held:
    """A model that waits for somebody: for the end of writing to `writing`, or for what to do with `interrupted`."""

    items: tuple[Pending, ...]
    writing: tuple[Pending, ...]
    interrupted: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What to seal now, and what else there is."""

    ready: tuple[tuple[Pending, ...], ...]
    """One group for each model."""
    held: tuple[Held, ...]
    unfinished: tuple[Pending, ...]
    """Files whose names say that they are not done; they wait."""


def find_pending(
    catalog: Catalog,
    directories: Iterable[InodeId] | None = None,
    names: UnfinishedNames = STANDARD,
    spool: Path | None = None,
) -> list[Pending]:
    """Find everything that is not sealed, or what of it these directories answer for; one that is gone has none.

    With `spool`, the directory of the spool files, it is looked up what was interrupted.
    """
    with catalog.snapshot():
        if directories is None:
            return _with_paths(catalog, catalog.pending(), names, spool)
        found = chain.from_iterable(_answered_for(catalog, directory) for directory in directories)
        return _with_paths(catalog, found, names, spool)


def _answered_for(catalog: Catalog, directory: InodeId) -> Iterator[tuple[Entry, Inode]]:
    for entry in catalog.entries_of(directory):
        if entry.area is Area.PENDING:
            yield entry, catalog.inode(directory)
    for entry, inode in catalog.pending(directory):
        if not inode.is_directory:
            yield entry, inode


def _with_paths(
    catalog: Catalog, found: Iterable[tuple[Entry, Inode]], names: UnfinishedNames, spool: Path | None
) -> list[Pending]:
    paths: dict[InodeId, bytes] = {}
    pending = []
    for entry, inode in found:
        if entry.parent_id not in paths:
            paths[entry.parent_id] = tree.path_of(catalog, entry.parent_id)
        prefix = paths[entry.parent_id]
        path = prefix + b"/" + entry.name if prefix else entry.name
        file = _spool_stat(spool, inode)
        unfinished = names.covers(
            path,
            is_directory=inode.is_directory,
            is_empty=file is not None and not file.st_size,
            stands_beside=lambda name, parent=entry.parent_id: catalog.entry(parent, name) is not None,  # type: ignore[misc]
        )
        pending.append(Pending(entry, inode, path, unfinished, file is not None and bool(file.st_mode & WRITING_MODE)))
    return pending


def _spool_stat(spool: Path | None, inode: Inode) -> os.stat_result | None:
    if spool is None or inode.state is not State.OPEN:
        return None
    try:
        return os.stat(spool / str(inode.spool_number))
    except FileNotFoundError:
        return None


def quiet_groups(
    leaders: Mapping[InodeId, InodeId], last_change_s: Mapping[InodeId, float], now_s: float, quiet_s: float
) -> tuple[list[set[InodeId]], float | None]:
    """Return directories that belong together and have not changed for `quiet_s`, and seconds until more may be so.

    `leaders` names for each directory the one that leads its group, `last_change_s` the time of the last change in a
    directory; one that is missing there has not changed for long.
    """
    groups: dict[InodeId, set[InodeId]] = defaultdict(set)
    for directory, leader in leaders.items():
        groups[leader].add(directory)
    quiet = []
    next_s: float | None = None
    for group in groups.values():
        changed_s = max(last_change_s.get(directory, now_s - quiet_s) for directory in group)
        remaining_s = changed_s + quiet_s - now_s
        if remaining_s <= 0:
            quiet.append(group)
        elif next_s is None or remaining_s < next_s:
            next_s = remaining_s
    return quiet, next_s


def plan_seals(
    pending: Iterable[Pending], leaders: Mapping[InodeId, InodeId], writing: Collection[InodeId]
) -> SealPlan:
    """Group what is pending in quiet directories by the leaders of these, and pick the groups that nobody writes to.

    `writing` holds the spool files that some handle may still write to. Whoever writes to an unfinished name holds its
    model, too: a download comes piece by piece.
    """
    groups: dict[InodeId, list[Pending]] = defaultdict(list)
    for item in pending:
        groups[leaders.get(item.directory, item.directory)].append(item)
    ready, held, unfinished = [], [], []
    for items in groups.values():
        # Files first: they bring the served directories into being that the directories' attributes go to.
        finished = tuple(sorted((item for item in items if not item.unfinished), key=lambda i: i.inode.is_directory))
        unfinished += [item for item in items if item.unfinished and not item.inode.is_directory]
        written = tuple(item for item in items if item.inode.spool_number in writing)
        interrupted = tuple(item for item in finished if item.interrupted and item.inode.spool_number not in writing)
        if written or interrupted:
            held.append(Held(finished, written, interrupted))
        elif finished:
            ready.append(finished)
    return SealPlan(tuple(ready), tuple(held), tuple(unfinished))


def plan_everything(store: Store, names: UnfinishedNames = STANDARD) -> SealPlan:
    """Plan what could be sealed if nobody writes to the store."""
    pending = find_pending(store.catalog, names=names, spool=store.spool_directory)
    with store.catalog.snapshot():
        units = Units(store.catalog, names)
        leaders = {item.directory: units.leader(item.directory) for item in pending}
    return plan_seals(pending, leaders, ())


@dataclass(frozen=True, slots=True)
class QuietPlan:
    """What can be sealed of some directories, and when to look at them again."""

    plan: SealPlan
    waiting: set[InodeId]
    """Directories to look into again when something happens in their models."""
    next_s: float | None
    """Seconds until one of these models may be quiet."""


def plan_quiet(
    catalog: Catalog,
    directories: Iterable[InodeId],
    names: UnfinishedNames,
    spool: Path,
    *,
    writing: Collection[InodeId],
    last_change_s: Mapping[InodeId, float],
    now_s: float,
    quiet_s: float,
) -> QuietPlan:
    """Plan the seals of those of some directories whose models are quiet. Arguments as of `quiet_groups` and
    `plan_seals`.
    """
    leaders: dict[InodeId, InodeId] = {}
    with catalog.snapshot():
        units = Units(catalog, names)
        for directory in directories:
            with suppress(NotFound):  # it has gone
                leaders[directory] = units.leader(directory)
    groups, next_s = quiet_groups(leaders, last_change_s, now_s, quiet_s)
    quiet = {directory for group in groups for directory in group}
    plan = plan_seals(find_pending(catalog, quiet, names, spool), leaders, writing)
    held = {leaders[item.directory] for one in plan.held for item in (*one.items, *one.writing)}
    waiting = {one for one, leader in leaders.items() if one not in quiet or leader in held}
    return QuietPlan(plan, waiting, next_s)
