"""The life of a file, step by step: every combination of the table is carried out on a store, or refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stores import all_problems, compress, copy_in, create_served, open_again, problems, put_file, remove
from zipfs.errors import IllegalTransition, NotFound, ZipfsError
from zipfs.ingest.import_tree import find
from zipfs.ingest.queue import queued, seal_everything
from zipfs.ingest.seal import note_failure, seal
from zipfs.ingest.seal_plan import find_pending
from zipfs.ingest.seal_written import plan_written, seal_written
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import ingest_side, tree
from zipfs.store.namespace.lifecycle import ABSENT, STAGES, TABLE, Effect, Event, Step, transition
from zipfs.store.objects.values import INGEST_ROOT, ROOT, Area, Entry, Inode, InodeId, Kind, State
from zipfs.store.store import Store, open_store

NAME, OTHER = b"name", b"other"
CONTENT = b"content " * 100
COMBINATIONS = list(itertools.product([ABSENT, *State], [ABSENT, *Area], Event))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


@dataclass(frozen=True, slots=True)
class Looked:
    """What can be seen of one inode and of the name that an event is about."""

    inode_id: InodeId
    state: State | None
    entry: Entry | None
    served: frozenset[bytes]
    lingering: frozenset[bytes]
    failed: bool
    spooled: bool
    open_over: bool
    """Whether something stored shows through the spool file."""


def observe(store: Store, kind: Kind, inode_id: InodeId, at: tuple[InodeId, bytes] | None) -> Looked:
    catalog = store.catalog
    entry = None if at is None else catalog.entry(*at)
    try:
        state: State | None = catalog.inode(entry.inode_id if entry is not None else inode_id).state
    except NotFound:
        state = ABSENT
    try:
        spooled = store.spool_path(catalog.inode(inode_id)).exists()
    except NotFound:
        spooled = (store.spool_directory / str(inode_id)).exists()
    open_over = False
    if state is State.OPEN:
        open_over = catalog.extents(catalog.inode(inode_id if entry is None else entry.inode_id)) != ()
    entries = catalog.entries_of(inode_id)
    if kind is Kind.DIRECTORY:  # of which each side has its own inode
        found = [catalog.entry(root, name) for root in (ROOT, INGEST_ROOT) for name in (NAME, OTHER)]
        entries = [one for one in found if one is not None]

    def others(area: Area) -> frozenset[bytes]:
        return frozenset(one.name for one in entries if one.area is area and (one.parent_id, one.name) != at)

    return Looked(
        inode_id,
        state,
        entry,
        others(Area.SERVED),
        others(Area.LINGERING),
        catalog.has_failure(inode_id),
        spooled,
        open_over,
    )


def effects(before: Looked, after: Looked) -> set[Effect]:
    """What has happened besides the new stage."""
    replaced = before.entry and after.entry and before.entry.inode_id != after.entry.inode_id
    seen = {
        Effect.SERVE: not before.served and bool(after.served),
        Effect.NEW_INODE: bool(replaced) and after.state is State.OPEN,
        Effect.SHOW_OLDER: after.open_over and not before.open_over,
        Effect.MOVE_SERVED: bool(before.served and after.served) and before.served != after.served,
        Effect.FORGET_LINGERING: bool(before.lingering) and not after.lingering,
        Effect.NOTE_FAILURE: after.failed and not before.failed,
        Effect.CLEAR_FAILURE: before.failed and not after.failed,
        Effect.FREE_SPOOL: before.spooled and not after.spooled,
    }
    return {effect for effect, happened in seen.items() if happened}


# Bringing a name to a stage


def make(store: Store, state: State | None, area: Area | None, kind: Kind) -> InodeId:
    """Make an inode whose name `NAME` is at a stage; a PENDING name of what is final is its only one."""
    if (state, area) == (State.OPEN, Area.SERVED):
        return create_served(store, NAME, CONTENT).id
    if kind is Kind.FILE:
        inode_id = copy_in(store, NAME, CONTENT).id
    else:
        with store.transaction() as txn:
            target = b"target" if kind is Kind.SYMLINK else None
            inode_id = ingest_side.create(txn, INGEST_ROOT, NAME, kind, 0o755, 0, 0, target).id
    if area is Area.PENDING and state in (State.OPEN, State.NONE):
        return inode_id
    seal_everything(store)
    if state is State.STORED:
        compress(store)
    if area is Area.PENDING:
        with store.transaction() as txn:
            ingest_side.link(txn, txn.catalog.inode(inode_id), INGEST_ROOT, OTHER)
            tree.forget_lingering(txn, ROOT, NAME)
            tree.unlink(txn, ROOT, NAME)
            ingest_side.rename(txn, INGEST_ROOT, OTHER, INGEST_ROOT, NAME)
    if area is Area.SERVED:
        return tree.require(store.catalog, ROOT, NAME).inode_id
    return inode_id


def side(area: Area | None) -> InodeId:
    return ROOT if area is Area.SERVED else INGEST_ROOT


# Carrying out an event; each takes the store, the area of the name and the inode


def written(store: Store, area: Area | None, inode: Inode) -> None:
    if area is not Area.SERVED:
        copy_in(store, NAME, b"new")
    elif inode.state is not State.OPEN:
        open_again(store, inode, under_ingest=False, emptied=False)


def written_anew(store: Store, area: Area | None, inode: Inode) -> None:
    open_again(store, inode, under_ingest=False, emptied=True, apart=True)


def given_attributes(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        if area is not Area.SERVED:
            ingest_side.mark_changed(txn, inode)


def sealed(store: Store, area: Area | None, inode: Inode) -> None:
    seal(store, find_pending(store.catalog))
    seal_written(store, plan_written(store.catalog, [inode.id]).ready)


def kept_from_its_seal(store: Store, area: Area | None, inode: Inode) -> None:
    note_failure(store, find_pending(store.catalog), lambda item: "why")
    if inode.is_directory:  # no status tells of those
        with store.transaction() as txn:
            txn.put_failure(inode.id, "why", 1)


def kept_from_being_compressed(store: Store, area: Area | None, inode: Inode) -> None:
    (source,) = queued(store)
    source.failed(ZipfsError("why"))


def removed(store: Store, area: Area | None, inode: Inode) -> None:
    if area is Area.SERVED:
        remove(store, NAME)
        return
    with store.transaction() as txn:
        if inode.is_directory:
            ingest_side.rmdir(txn, INGEST_ROOT, NAME)
            gone = None
        else:
            gone = ingest_side.unlink(txn, INGEST_ROOT, NAME)
    free_spool(store, [gone] if gone is not None else [])


def renamed(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        if area is Area.SERVED:
            tree.forget_lingering(txn, ROOT, NAME)
            tree.rename(txn, ROOT, NAME, ROOT, OTHER)
        else:
            ingest_side.rename(txn, INGEST_ROOT, NAME, INGEST_ROOT, OTHER)


def moved_along(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        ingest_side.rename(txn, INGEST_ROOT, NAME, INGEST_ROOT, OTHER)


def parted(store: Store, area: Area | None, inode: Inode) -> None:
    moved_along(store, area, inode)


def forgotten(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        tree.forget_lingering(txn, ROOT, NAME)


def linked(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        ingest_side.link(txn, inode, INGEST_ROOT, OTHER)


def served(store: Store, area: Area | None, inode: Inode) -> None:
    with store.transaction() as txn:
        tree.link(txn, ROOT, OTHER, inode, Event.SERVE)


def compressed(store: Store, area: Area | None, inode: Inode) -> None:
    compress(store)


ACTIONS: dict[Event, Callable[[Store, Area | None, Inode], None]] = {
    Event.LINK: linked,
    Event.SERVE: served,
    Event.WRITE: written,
    Event.REWRITE: written_anew,
    Event.CHANGE: given_attributes,
    Event.SEAL: sealed,
    Event.SEAL_FAILS: kept_from_its_seal,
    Event.COMPRESS: compressed,
    Event.COMPRESS_FAILS: kept_from_being_compressed,
    Event.REMOVE: removed,
    Event.RENAME: renamed,
    Event.FOLLOW: moved_along,
    Event.REPLACE: sealed,
    Event.PART: parted,
    Event.FORGET: forgotten,
}
NEW_NAME = frozenset({Event.LINK, Event.SERVE, Event.RENAME, Event.FOLLOW, Event.PART})
"""After these the name is another one."""


def kinds(state: State, area: Area | None, event: Event) -> list[Kind]:
    """The kinds of inodes that can be at a stage when an event happens to them alone."""
    if state is not State.NONE:
        return [Kind.FILE]
    # A directory has one name only; one that is moved is given other attributes, too, and what is in it is moved.
    only_links = event in (Event.LINK, Event.SERVE, Event.FOLLOW, Event.PART)
    only_links |= event is Event.RENAME and area is Area.LINGERING
    only_directories = event is Event.CHANGE
    return [Kind.SYMLINK] if only_links else [Kind.DIRECTORY] if only_directories else [Kind.DIRECTORY, Kind.SYMLINK]


CASES = [
    pytest.param(state, area, event, kind, step, id=f"{state}-{area and area.name}-{event.name}-{kind}")
    for (state, area, event), step in TABLE.items()
    if state is not ABSENT
    for kind in kinds(state, area, event)
]


def arrange(store: Store, event: Event, kind: Kind) -> None:
    """Do what has to come first."""
    if event is Event.PART:
        with store.transaction() as txn:
            tree.rename(txn, ROOT, NAME, ROOT, b"away", Event.FOLLOW)
    if event is Event.REPLACE:
        if kind is not Kind.FILE:
            with store.transaction() as txn:
                drop = ingest_side.rmdir if kind is Kind.DIRECTORY else ingest_side.unlink
                drop(txn, INGEST_ROOT, NAME)
        copy_in(store, NAME, b"a new version")


@pytest.mark.parametrize(("state", "area", "event", "kind", "step"), CASES)
def test_what_is_allowed_ends_where_the_table_says(
    store: Store, state: State, area: Area | None, event: Event, kind: Kind, step: Step
) -> None:
    about_name = area is not ABSENT
    first = area if about_name else Area.PENDING if state is State.OPEN else Area.LINGERING
    inode_id = make(store, state, first, kind)
    arrange(store, event, kind)
    if Effect.CLEAR_FAILURE in step.effects:
        with store.transaction() as txn:
            txn.put_failure(inode_id, "why", 1)
    at = (side(area), NAME) if about_name else None
    before = observe(store, kind, inode_id, at)
    assert before.state is state
    assert not about_name or (before.entry is not None and before.entry.area is area)

    ACTIONS[event](store, area, store.catalog.inode(inode_id))

    then = (side(step.area), OTHER if event in NEW_NAME else NAME) if step.area is not ABSENT else at
    after = observe(store, kind, inode_id, then)
    if event is Event.REPLACE:
        assert after.entry is not None and after.entry.inode_id != inode_id
    elif step.area is ABSENT:
        assert after.entry is None
    else:
        assert after.entry is not None
        assert after.entry.area is step.area
    if event is not Event.REPLACE:
        assert after.state in (step.state, ABSENT if step.area is ABSENT and about_name else step.state)
    if event not in (Event.LINK, Event.SERVE):  # whose name is one of the others
        assert effects(before, after) == step.effects


def test_all_else_is_refused() -> None:
    refused = [case for case in COMBINATIONS if case not in TABLE]
    assert len(refused) == len(COMBINATIONS) - len(TABLE)
    for state, area, event in refused:
        with pytest.raises(IllegalTransition, match=event.value):
            transition(state, area, event)


def test_what_is_made_begins_where_the_table_says(store: Store, tmp_path: Path) -> None:
    with store.transaction() as txn:
        made = {
            Event.CREATE: ingest_side.create(txn, INGEST_ROOT, b"file", Kind.FILE, 0o644, 0, 0),
            Event.MAKE: ingest_side.create(txn, INGEST_ROOT, b"dir", Kind.DIRECTORY, 0o755, 0, 0),
            Event.CREATE_SERVED: tree.make(txn, ROOT, b"file", Kind.FILE, Event.CREATE_SERVED, 0o644, 0, 0),
            Event.MAKE_SERVED: tree.make(txn, ROOT, b"dir", Kind.DIRECTORY, Event.MAKE_SERVED, 0o755, 0, 0),
        }
    for event, inode in made.items():
        (entry,) = store.catalog.entries_of(inode.id)
        assert TABLE[ABSENT, ABSENT, event] == Step(inode.state, entry.area, frozenset())
    imported = transition(ABSENT, ABSENT, Event.IMPORT)
    assert (imported.state, imported.area) == (State.SEALED, ABSENT)
    put_file(store, tmp_path, b"imported", CONTENT)
    assert tree.resolve(store.catalog, b"imported").state is State.STORED
    assert [source.name for source in find(store, Path(__file__), b"x").sources] == [b"x"]


def test_every_step_leads_to_a_stage() -> None:
    for (state, area, _), step in TABLE.items():
        assert area is ABSENT or (state, area) in STAGES
        assert step.area is ABSENT or (step.state, step.area) in STAGES


def test_every_stage_can_be_reached_and_left() -> None:
    reached = {(step.state, step.area) for step in TABLE.values()}
    left = {(state, area) for (state, area, _), step in TABLE.items() if (step.state, step.area) != (state, area)}
    assert reached >= STAGES
    assert left >= STAGES


def test_open_content_does_not_linger(store: Store) -> None:
    """Not even where a store says so that somebody else has written."""
    inode = copy_in(store, NAME, CONTENT)
    with store.transaction() as txn:
        txn.put_entry(Entry(INGEST_ROOT, NAME, inode.id, Area.LINGERING))
    with pytest.raises(IllegalTransition), store.transaction() as txn:
        tree.rename(txn, INGEST_ROOT, NAME, INGEST_ROOT, OTHER)
    with pytest.raises(IllegalTransition), store.transaction() as txn:
        tree.unlink(txn, INGEST_ROOT, NAME)


def test_a_rebuilt_catalog_has_every_name_at_its_stage(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        for name in (b"stored/file", b"sealed/file", b"open/file"):
            copy_in(store, name, CONTENT + name)
            if name.startswith(b"stored"):
                compress(store)
            elif name.startswith(b"sealed"):
                seal_everything(store)
        before = stages(store)
        assert len({stage[1:] for stage in before}) >= 6
    rebuild(path)
    with open_store(path) as store:
        assert stages(store) == before
    assert all_problems(path) == []


def stages(store: Store) -> set[tuple[InodeId, bytes, State, Area]]:
    """Every name and where it stands."""
    found = set()
    for root in (ROOT, INGEST_ROOT):
        for _, inode in tree.walk(store.catalog, store.catalog.inode(root)):
            for entry in store.catalog.entries_of(inode.id):
                found.add((entry.parent_id, entry.name, inode.state, entry.area))
    return found
