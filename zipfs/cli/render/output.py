"""How commands show things: sizes, tables, progress, JSON. Quiet where nobody is watching."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from zipfs.host import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from zipfs.store.disk.stopping import Stop

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def size(nbytes: float) -> str:
    """`1.5 GiB`."""
    unit = 0
    while nbytes >= 1024 and unit < len(_UNITS) - 1:
        nbytes /= 1024
        unit += 1
    return f"{nbytes:.0f} B" if unit == 0 else f"{nbytes:.1f} {_UNITS[unit]}"


def ratio(part: float, whole: float) -> str:
    """`7.1%`."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def percent(part: float, whole: float) -> str:
    """`7%`; a part that is not nothing is not told as 0%, nor one that is not all as 100%."""
    rounded = min(99, max(1, round(100 * part / whole))) if 0 < part < whole else round(100 * part / max(whole, 1))
    return f"{rounded}%" if part / max(whole, 1) >= 0.01 or not part else "<1%"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`, `1,000 directories`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class AnyPath(click.ParamType[Path]):
    """A path that is not looked at: click.Path asks for its attributes, and waits for ever where a mount hangs."""

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
    """A time in seconds, within bounds. `inf` only where it may last for ever."""

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
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")(function)


def unfinished_option(function: F) -> F:
    return click.option(
        "--unfinished",
        multiple=True,
        metavar="PATTERN",
        help="Also take names like PATTERN (such as *.wip) for unfinished; `none` forgets those that are known.",
    )(function)


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=1, default=printable))


def say(message: str) -> None:
    """Tell a person what has been done; programs look at the exit code."""
    click.echo(message, err=not sys.stdout.isatty())


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A progress display on a terminal, None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


@contextmanager
def interrupted_by_signals(stop: Stop) -> Iterator[None]:
    """As `stopping_on_signals`, for what would begin anew: it is told as interrupted, not as stopped."""
    from zipfs.errors import Stopped
    from zipfs.store.disk.stopping import stopping_on_signals

    try:
        with stopping_on_signals(stop):
            yield
    except Stopped:
        raise click.Abort from None


@contextmanager
def counting(stop: Stop | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, total) that shows a bar on a terminal; raises Stopped once that is asked for."""

    def check() -> None:
        if stop is not None:
            stop.check()

    if not sys.stderr.isatty():
        yield lambda what, done, total: check()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            check()
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report
