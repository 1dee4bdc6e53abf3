"""One player, in a process of its own: `python -m tools.tortures.operations`. Started by tools/torture.

It prints one JSON document at its end: what was done, what every file has to hold, and what was wrong, if anything.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import os
import traceback
from pathlib import Path
from typing import Any, Final

from tools.tortures.model import Body, Difference
from tools.tortures.player import Player

_LAST: Final = 12
_HISTORY: Final = 40


def play(player: Player, operations: int) -> dict[str, Any]:
    """Do so many operations, and look at everything; what is to be told of it."""
    wrong = ""
    try:
        player.begin()
        for _ in range(operations):
            player.step()
        player.files.check_everything()
    except (Difference, OSError) as error:
        wrong = f"{type(error).__name__}: {error}\n{_where(error)}{told(player)}"
    files = {name: sum_of(body) for name, body in player.files.tree.names.items()}
    counts = dict(player.files.counts)
    player.files.abandon()
    return {"steps": player.files.steps, "counts": counts, "files": files, "wrong": wrong}


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"  in {frame.name}, line {frame.lineno}\n"


def sum_of(body: Body) -> str:
    return hashlib.sha256(body.data).hexdigest()


def told(player: Player) -> str:
    """What was done last at all, and to the file that it was done to: the reduced list."""
    done = list(player.files.done)
    last = done[-1] if done else ""
    bodies = {*player.files.tree.names.values(), *(handle.body for handle in player.files.handles)}
    concerned = [body for body in bodies if (body.history and body.history[-1] == last) or str(body) in last]
    lines = ["  last operations:", *(f"    {line}" for line in done[-_LAST:])]
    for body in concerned:
        lines.append(f"  to {body} since it was right as a whole:")
        lines += [f"    {line}" for line in body.history[-_HISTORY:]]
        lines.append(f"  names: {player.files.tree.names_of(body)}; handles:")
        handles = [handle for handle in player.files.handles if handle.body is body]
        lines += [
            f"    {handle.number}{'' if handle.view is None else ', mapped'}: {handle.born}" for handle in handles
        ]
    return "\n".join(lines)


def main() -> None:
    faulthandler.enable()
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--at-most", type=int, required=True)
    parser.add_argument("--beat", type=Path, required=True)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    os.umask(0o022)
    beat = os.open(arguments.beat, os.O_WRONLY | os.O_CREAT, 0o600)
    player = Player(
        arguments.root, arguments.seed, on_mount=not arguments.plain, at_most_nbytes=arguments.at_most, beat=beat
    )
    print(json.dumps(play(player, arguments.operations)))


if __name__ == "__main__":
    main()
