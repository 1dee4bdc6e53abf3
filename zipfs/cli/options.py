"""The types of arguments and the options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from zipfs.cli.render.units import size

F = TypeVar("F", bound=Callable[..., Any])

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


class AnyPath(click.ParamType[Path]):
    """A path that is only named. click.Path asks for its attributes, and waits for ever where a mount hangs."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value:
            self.fail("an empty path names nothing", param, ctx)
        return Path(value)


class Size(click.ParamType[int]):
    """A number of bytes such as `512M` or `1.5GiB`, within bounds."""

    name = "size"

    def __init__(self, at_least_nbytes: int = 0, at_most_nbytes: int = 1 << 62) -> None:
        self._at_least_nbytes = at_least_nbytes
        self._at_most_nbytes = at_most_nbytes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write 512M or 2G", param, ctx)
        nbytes = float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " ")
        if not self._at_least_nbytes <= nbytes <= self._at_most_nbytes:
            bounds = f"from {size(self._at_least_nbytes)} to {size(self._at_most_nbytes)}"
            self.fail(f"{value!r} is out of range; {bounds} makes sense", param, ctx)
        return int(nbytes)


MEMORY: Final = Size(at_most_nbytes=64 << 40)
"""More than any machine has is a slip of the pen."""


class Seconds(click.ParamType[float]):
    """A time in seconds, within bounds; `inf` where it may last for ever."""

    name = "seconds"

    def __init__(self, at_least_s: float = 0.0, at_most_s: float = 1e9, *, endless: bool = False) -> None:
        self._at_least_s = at_least_s
        self._at_most_s = at_most_s
        self._endless = endless

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if self._endless and found == math.inf:
            return found
        if not self._at_least_s <= found <= self._at_most_s:  # nan is not, either
            bounds = f"from {self._at_least_s:g} to {self._at_most_s:g}{', or inf,' if self._endless else ''}"
            self.fail(f"{value!r} is out of range; {bounds} makes sense", param, ctx)
        return found


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")(function)


def unfinished_option(function: F) -> F:
    """Add `--unfinished`."""
    return click.option(
        "--unfinished",
        multiple=True,
        metavar="PATTERN",
        help="Also take names like PATTERN (such as *.wip) for unfinished; `none` forgets those that are known.",
    )(function)
