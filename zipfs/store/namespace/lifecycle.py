"""The life of a file, directory or symlink: which step may follow which, as one table.

A *stage* is the state of an inode's content and the area of one of its names. The state is shared by all names of the
inode; the area is that of the name that an event is about. Before an inode is made it has no state, and where an event
is not about a name that is there already, there is no area.

Everything that makes, names, writes, seals, compresses, moves or removes asks `transition` what becomes of the stage.
What is not in the table is refused. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zipfs.errors import IllegalTransition
from zipfs.store.objects.values import Area, State


class Event(enum.StrEnum):
    """What happens, as messages say it."""

    CREATE = "created below ingest/"
    """A file is made to be written to."""
    MAKE = "made below ingest/"
    """A directory or symlink is made."""
    CREATE_SERVED = "created in the served tree"
    """A file is made to be written to, and is served at once."""
    MAKE_SERVED = "made in the served tree"
    """A directory or symlink is made."""
    IMPORT = "imported"
    """A file of the host is taken as it lies, with no spool file and no name yet (`zipfs ingest`)."""
    LINK = "linked below ingest/"
    """A further name is given."""
    SERVE = "given a served name"
    WRITE = "opened for writing"
    REWRITE = "written anew"
    """What is served is emptied while somebody reads it, or is to part from its names below `ingest/`."""
    CHANGE = "given other attributes"
    SEAL = "sealed"
    """The name is finished: what it leads to is served from now on, and compressed."""
    SEAL_FAILS = "kept from being sealed"
    COMPRESS = "compressed"
    COMPRESS_FAILS = "kept from being compressed"
    REMOVE = "removed"
    RENAME = "renamed"
    """Moved within its own tree."""
    FOLLOW = "moved along"
    """A served name follows the move of its lingering entry."""
    REPLACE = "replaced by a new version"
    """A served name makes way for what was sealed at its path."""
    PART = "parted from its served name"
    """What is served at the path could not follow a move, so the name is to be sealed again."""
    FORGET = "forgotten"
    """The served name was removed, moved or replaced, so the lingering entry goes."""


class Effect(enum.Enum):
    """What an event brings about besides the new stage."""

    SERVE = enum.auto()
    """The path is served; what was served there before makes way."""
    NEW_INODE = enum.auto()
    """The names on the side of the event lead to a new inode, with the old content or none."""
    SHOW_OLDER = enum.auto()
    """The spool file begins as one hole, and what is stored shows through it."""
    MOVE_SERVED = enum.auto()
    """The served name follows."""
    FORGET_LINGERING = enum.auto()
    """Lingering entries of what loses its served name go."""
    NOTE_FAILURE = enum.auto()
    """The reason is kept for `status`."""
    CLEAR_FAILURE = enum.auto()
    """A reason that was kept is dropped."""
    FREE_SPOOL = enum.auto()
    """The spool file is deleted: at once where content is stored, else with the last name."""


ABSENT: Final = None
"""The state before there is an inode, and the area where there is no name."""


@dataclass(frozen=True, slots=True)
class Step:
    """The stage after an event, and what else the event brings about."""

    state: State
    area: Area | None
    effects: frozenset[Effect]


Stage = tuple[State | None, Area | None]

_FINAL: Final = (State.SEALED, State.STORED)
_SPOOLED: Final = (State.OPEN, State.SEALED)
_NOT_SPOOLED: Final = (State.STORED, State.NONE)
_FINISHED: Final = (*_FINAL, State.NONE)
"""What may be served."""
_ALL: Final = (State.OPEN, *_FINISHED)

STAGES: Final[frozenset[Stage]] = frozenset(
    {(State.OPEN, area) for area in (Area.PENDING, Area.SERVED)}
    | {(state, area) for state in _FINISHED for area in Area}
)
"""The stages that a name can be in: what lingers below `ingest/` is finished."""


_SAME: Final = None
"""The state stays what it was."""
_NO_EFFECTS: Final[tuple[Effect, ...]] = ()
_SEALS: Final = (Effect.SERVE, Effect.CLEAR_FAILURE)
_STORES: Final = (Effect.FREE_SPOOL, Effect.CLEAR_FAILURE)
_ANEW: Final = (Effect.NEW_INODE, Effect.FORGET_LINGERING)

_Row = tuple[Event, Sequence[State | None], Area | None, State | None, Area | None, tuple[Effect, ...]]

# Event, states before, area before, state after, area after, effects.
_ROWS: Final[tuple[_Row, ...]] = (
    (Event.CREATE, [ABSENT], ABSENT, State.OPEN, Area.PENDING, _NO_EFFECTS),
    (Event.MAKE, [ABSENT], ABSENT, State.NONE, Area.PENDING, _NO_EFFECTS),
    (Event.CREATE_SERVED, [ABSENT], ABSENT, State.OPEN, Area.SERVED, _NO_EFFECTS),
    (Event.MAKE_SERVED, [ABSENT], ABSENT, State.NONE, Area.SERVED, _NO_EFFECTS),
    (Event.IMPORT, [ABSENT], ABSENT, State.SEALED, ABSENT, _NO_EFFECTS),
    (Event.LINK, _ALL, ABSENT, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.SERVE, _ALL, ABSENT, _SAME, Area.SERVED, _NO_EFFECTS),
    (Event.WRITE, [State.OPEN], Area.PENDING, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.WRITE, [State.SEALED], Area.PENDING, State.OPEN, Area.PENDING, (Effect.NEW_INODE, Effect.FREE_SPOOL)),
    (Event.WRITE, [State.STORED], Area.PENDING, State.OPEN, Area.PENDING, (Effect.NEW_INODE,)),
    (Event.WRITE, _FINAL, Area.LINGERING, State.OPEN, Area.PENDING, (Effect.NEW_INODE,)),
    (Event.WRITE, [State.OPEN], Area.SERVED, _SAME, Area.SERVED, _NO_EFFECTS),
    (Event.WRITE, [State.SEALED], Area.SERVED, State.OPEN, Area.SERVED, (Effect.FORGET_LINGERING,)),
    (Event.WRITE, [State.STORED], Area.SERVED, State.OPEN, Area.SERVED, (Effect.SHOW_OLDER, Effect.FORGET_LINGERING)),
    (Event.REWRITE, [State.SEALED], Area.SERVED, State.OPEN, Area.SERVED, (*_ANEW, Effect.FREE_SPOOL)),
    (Event.REWRITE, [State.STORED], Area.SERVED, State.OPEN, Area.SERVED, _ANEW),
    (Event.CHANGE, _ALL, Area.PENDING, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.CHANGE, _FINAL, Area.LINGERING, _SAME, Area.LINGERING, _NO_EFFECTS),
    (Event.CHANGE, [State.NONE], Area.LINGERING, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.CHANGE, _ALL, Area.SERVED, _SAME, Area.SERVED, _NO_EFFECTS),
    (Event.SEAL, [State.OPEN], Area.PENDING, State.SEALED, Area.LINGERING, _SEALS),
    (Event.SEAL, _FINISHED, Area.PENDING, _SAME, Area.LINGERING, _SEALS),
    (Event.SEAL, [State.OPEN], Area.SERVED, State.SEALED, Area.SERVED, (Effect.CLEAR_FAILURE,)),
    (Event.SEAL_FAILS, _ALL, Area.PENDING, _SAME, Area.PENDING, (Effect.NOTE_FAILURE,)),
    (Event.COMPRESS, [State.SEALED], ABSENT, State.STORED, ABSENT, _STORES),
    (Event.COMPRESS_FAILS, [State.SEALED], ABSENT, _SAME, ABSENT, (Effect.NOTE_FAILURE,)),
    (Event.REMOVE, _SPOOLED, Area.PENDING, _SAME, ABSENT, (Effect.FREE_SPOOL,)),
    (Event.REMOVE, _NOT_SPOOLED, Area.PENDING, _SAME, ABSENT, _NO_EFFECTS),
    (Event.REMOVE, _FINISHED, Area.LINGERING, _SAME, ABSENT, _NO_EFFECTS),
    (Event.REMOVE, [State.OPEN], Area.SERVED, _SAME, ABSENT, (Effect.FREE_SPOOL,)),
    (Event.REMOVE, [State.SEALED], Area.SERVED, _SAME, ABSENT, (Effect.FREE_SPOOL, Effect.FORGET_LINGERING)),
    (Event.REMOVE, _NOT_SPOOLED, Area.SERVED, _SAME, ABSENT, (Effect.FORGET_LINGERING,)),
    (Event.RENAME, _ALL, Area.PENDING, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.RENAME, _FINISHED, Area.LINGERING, _SAME, Area.LINGERING, (Effect.MOVE_SERVED,)),
    (Event.RENAME, [State.OPEN], Area.SERVED, _SAME, Area.SERVED, _NO_EFFECTS),
    (Event.RENAME, _FINISHED, Area.SERVED, _SAME, Area.SERVED, (Effect.FORGET_LINGERING,)),
    (Event.FOLLOW, _FINISHED, Area.SERVED, _SAME, Area.SERVED, _NO_EFFECTS),
    (Event.REPLACE, _SPOOLED, Area.SERVED, _SAME, ABSENT, (Effect.FREE_SPOOL,)),
    (Event.REPLACE, _NOT_SPOOLED, Area.SERVED, _SAME, ABSENT, _NO_EFFECTS),
    (Event.PART, _FINISHED, Area.LINGERING, _SAME, Area.PENDING, _NO_EFFECTS),
    (Event.FORGET, _FINISHED, Area.LINGERING, _SAME, ABSENT, _NO_EFFECTS),
)

TABLE: Final[Mapping[tuple[State | None, Area | None, Event], Step]] = {
    (state, before, event): Step(then, after, frozenset(effects))
    for event, states, before, becomes, after, effects in _ROWS
    for state in states
    if (then := becomes or state) is not None
}


def transition(state: State | None, area: Area | None, event: Event) -> Step:
    """Return what an event makes of a stage. Raises IllegalTransition where it may not happen."""
    step = TABLE.get((state, area, event))
    if step is None:
        raise IllegalTransition(_words(state, area), event.value)
    return step


def _words(state: State | None, area: Area | None) -> str:
    if state is ABSENT:
        return "what does not exist"
    content = "what has no content" if state is State.NONE else f"{state.value} content"
    return content if area is ABSENT else f"{content} with a {area.name.lower()} name"
