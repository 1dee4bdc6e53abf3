"""Owns what a pickle is read into: plain Python values, and four inert records for all that is not plain.

None of them compares, hashes or prints what it holds more than one level deep by itself, except a dataclass's repr,
which is for debugging. They may share parts and contain themselves. Plain values; any thread may read them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """What a pickle names instead of holding it: `module.name` of a class or function, never looked up."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """What a pickle leaves to its reader, told by an id: of torch, a storage."""

    id: object


@dataclass(slots=True, eq=False)
class Pairs:
    """A dict: `flat` holds key, value, key, value. A key that comes again replaces what it had."""

    flat: list[object]


@dataclass(slots=True, eq=False)
class Record:
    """A call that a pickle asks for, and what it would have put into what comes of that.

    `flat` are pairs as of a dict, `values` what is appended to it or added to it, `state` what it would be told to
    become.
    """

    function: object
    arguments: object
    flat: list[object] | None = None
    values: list[object] | None = None
    state: object = None
