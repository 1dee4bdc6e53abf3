"""Parts of a mount's status in words, as `zipfs status` and `zipfs wait` print them."""

from __future__ import annotations

import time
from typing import Any

from zipfs.cli.render.units import size
from zipfs.host import printable


def writer_text(writer: dict[str, Any]) -> str:
    """Name a file that is open for writing, and the program that has it open."""
    return (
        f"{printable(writer['path'])} (open in {printable(writer['program']) or 'a program'}, process {writer['pid']})"
    )


def kept_text(kept: dict[str, Any]) -> str:
    """Name a directory that stays as it is, how much it takes, and what to do about it."""
    path = printable(kept["path"])
    return (
        f"{path}: {kept['files']} files, {size(kept['nbytes'])} that a tool keeps for itself, neither served nor"
        f" compressed. Remove ingest/{path} if it is done, or mount with `--unfinished none` to have it served"
    )


def worker_failures(worker: dict[str, Any]) -> str:
    """Say how often the worker has ended with nothing finished, since when, why, and when it is started again."""
    times = "once" if worker["deaths"] == 1 else f"{worker['deaths']} times in a row"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(worker["dying_since"]))
    words = worker["last_words"]
    said = f"; it said: {printable(words[-1])}" if words else ""
    again = worker["starts_again_at"]
    then = "" if again is None else f"; it is started again in {max(0.0, again - time.time()):.0f} s"
    return f"{worker['ended']} ({times} since {since}){said}{then}"
