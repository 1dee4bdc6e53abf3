"""Tortures files that are written in place on a mount, and compares every byte that is read with a model in memory.

`operations` does operations of every kind, several directories at once, while files are sealed, compressed and opened
again. `kills` kills the daemon and the worker again and again while it does so, and looks for what was acknowledged.
The exit code is 1 if something was lost or is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from tools.tortures.crowd import PATIENCE_S, ROOT, Found, play_mounted, play_plain
from tools.tortures.mounts import abort

_AT_MOST_NBYTES: Final = 3 << 20


def say(words: str) -> None:
    print(f"torture: {words}", flush=True)


def torture_operations(arguments: argparse.Namespace, folder: Path) -> Found:
    """Play all seeds, so many at once on a mount of their own."""
    seeds = (
        [arguments.seed]
        if arguments.seed is not None
        else list(range(arguments.first, arguments.first + arguments.seeds))
    )
    found = Found()
    for begin in range(0, len(seeds), arguments.together):
        some = seeds[begin : begin + arguments.together]
        place = folder / f"seeds-{some[0]}"
        place.mkdir()
        if arguments.plain:
            here = play_plain(place, some, arguments.operations, arguments.at_most)
        else:
            here = play_mounted(place, some, arguments.operations, arguments.at_most, arguments.option)
        found.add(here)
        say(f"seeds {' '.join(map(str, some))}: {len(here.wrong)} wrong, {summary(here)}")
        if not here.wrong:
            shutil.rmtree(place, ignore_errors=True)
    return found


def summary(found: Found) -> str:
    """The counts that tell whether compression and writing met at all."""
    told = [
        f"{found.counts[name]} {name}"
        for name in sorted(found.counts)
        if name.startswith(("compressed", "opened for", "truncated by path", "new versions", "kill", "bytes"))
    ]
    return ", ".join([f"{found.steps} operations", *told])


def torture_kills(arguments: argparse.Namespace, folder: Path) -> Found:
    """Run lanes side by side, and give up one that hangs."""
    lanes: list[tuple[int, subprocess.Popen[str], Path]] = []
    for number in range(arguments.lanes):
        seed = arguments.seed + number
        place = folder / f"lane-{seed}"
        place.mkdir()
        beat, errors = folder / f"beat-{seed}", folder / f"said-{seed}"
        command = [
            sys.executable, "-m", "tools.tortures.kills", str(place), "--seed", str(seed), "--beat", str(beat),
            "--kills", str(-(-arguments.kills // arguments.lanes)), *(f"--option={one}" for one in arguments.option),
        ]  # fmt: skip
        with errors.open("w") as file:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT)
        lanes.append((seed, process, beat))
    found = Found()
    _watch(lanes, found)
    return found


def _take(seed: int, process: subprocess.Popen[str], found: Found) -> None:
    """Add what a lane that has ended has to say."""
    said, _ = process.communicate()
    try:
        document: dict[str, Any] = json.loads(said)
    except ValueError:
        found.wrong.append(f"lane {seed} ended with {process.returncode}: see what it said to standard error")
        return
    found.counts += Counter(document["counts"])
    found.steps += document["counts"].get("operations", 0)
    if document["wrong"]:
        found.wrong.append(f"lane {seed}, after {document['kills']} kills: {document['wrong']}")
        say(found.wrong[-1])


def _watch(lanes: list[tuple[int, subprocess.Popen[str], Path]], found: Found) -> None:
    """Wait for all; abort the mount of one that makes no step."""
    seen = {seed: ("", time.monotonic()) for seed, _, _ in lanes}
    told_s = time.monotonic()
    running = list(lanes)
    while running:
        time.sleep(0.5)
        for lane in [lane for lane in running if lane[1].poll() is not None]:
            running.remove(lane)
            _take(lane[0], lane[1], found)
        for seed, process, beat in running:
            words = beat.read_text() if beat.exists() else ""
            if words != seen[seed][0]:
                seen[seed] = (words, time.monotonic())
            elif process.poll() is None and time.monotonic() - seen[seed][1] > 2 * PATIENCE_S:
                found.wrong.append(f"lane {seed} hangs at {words}")
                with suppress(OSError):
                    abort(Path(words.partition(" ")[2].strip()))
                process.kill()
        if time.monotonic() - told_s > 60:
            told_s = time.monotonic()
            say(
                "kills so far: "
                + " ".join(f"lane {seed}: {words.partition(' ')[0]}" for seed, (words, _) in seen.items())
            )


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/torture", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    operations = modes.add_parser("operations", help="operations of every kind, compared with a model in memory")
    operations.add_argument("--seeds", type=int, default=20, metavar="N", help="play N seeds (20)")
    operations.add_argument("--first", type=int, default=1, metavar="SEED", help="from this one on (1)")
    operations.add_argument("--seed", type=int, help="play this one alone")
    operations.add_argument("--operations", type=int, default=50_000, metavar="N", help="so many each (50000)")
    operations.add_argument("--together", type=int, default=5, metavar="N", help="so many seeds on one mount (5)")
    operations.add_argument("--at-most", type=int, default=_AT_MOST_NBYTES, metavar="BYTES", help="size of a file")
    operations.add_argument("--plain", action="store_true", help="on a plain directory: is the model right?")
    kills = modes.add_parser(
        "kills", help="the daemon and the worker are killed; what was acknowledged has to be there"
    )
    kills.add_argument("--kills", type=int, default=2000, metavar="N", help="so many in all (2000)")
    kills.add_argument("--lanes", type=int, default=2, metavar="N", help="so many stores side by side (2)")
    kills.add_argument("--seed", type=int, default=1, help="of the first lane")
    for mode in (operations, kills):
        mode.add_argument("--folder", type=Path, metavar="DIR", help="work in this new directory, and leave it")
        mode.add_argument("--option", action="append", default=[], help="one more for `zipfs mount`")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    folder = arguments.folder
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="zipfs-torture-"))
    else:
        folder.mkdir(parents=True)
    folder = folder.resolve()
    begin_s = time.monotonic()
    found = (torture_operations if arguments.mode == "operations" else torture_kills)(arguments, folder)
    for words in found.wrong:
        print(f"\nWRONG: {words}")
    say(f"{summary(found)}; {time.monotonic() - begin_s:.0f} s")
    print(json.dumps(found.counts, sort_keys=True))
    if found.wrong:
        say(f"{len(found.wrong)} wrong; what is left of them lies in {folder}")
        sys.exit(1)
    say("nothing was lost, nothing is wrong")
    if arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
