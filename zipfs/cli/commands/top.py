"""`zipfs top`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import localtime, sleep, strftime

import click

from zipfs.cli.mount_state import counters_of
from zipfs.cli.options import AnyPath, Seconds
from zipfs.cli.render.counters import counters_text
from zipfs.host import printable


@click.command("top")
@click.argument("mount", type=AnyPath())
@click.option("--interval", "interval_s", type=Seconds(0.1, 3600.0), default=2.0, show_default=True,
              help="Seconds that each picture covers.")  # fmt: skip
@click.option("--once", is_flag=True, help="Show one interval and end.")
def top_command(mount: Path, interval_s: float, once: bool) -> None:
    """Show live what MOUNT is doing, until Ctrl-C or until it is unmounted.

    Rates and quantiles are those of the last interval; `zipfs status --perf` has them since the mount was made.

    \b
    Example:
      zipfs top /mnt/models
    """
    with _picture() as show:
        try:
            _watch(mount, interval_s, once, show)
        except KeyboardInterrupt:
            return


def _watch(mount: Path, interval_s: float, once: bool, show: Callable[[str], None]) -> None:
    before = counters_of(mount)
    if not once:
        show(f"{printable(str(mount))}: the first {interval_s:g} s are being counted")
    while True:
        sleep(interval_s)
        now = counters_of(mount)
        if now.started_at == before.started_at:
            found = now.since(before)
            when = strftime("%H:%M:%S", localtime(now.taken_at))
            title = f"{printable(str(mount))}  {when}  last {found.elapsed_s:.1f} s\n"
            show("\n".join([title, *counters_text(found, as_rates=True)]))
            if once:
                return
        before = now  # of a mount that was made again meanwhile, the next interval is shown


@contextmanager
def _picture() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a text in the place of the one before; below it where nobody is watching."""
    if not sys.stdout.isatty():
        yield lambda text: click.echo(text + "\n")
        return
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)
