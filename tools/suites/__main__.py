"""Runs file system suites that others wrote in a mount of ZipFS, and says what fails there and not on the floors.

A floor is a tree without ZipFS in which the suite runs as well: libfuse's passthrough_ll, and the disk below it. What
a floor yields is kept in the folder of sources, for it does not change with ZipFS. The exit code is 1 if something
fails in a tree of ZipFS that a floor passes, unless it is expected to.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from tools.suites import fsx, ltp, pjdfstest, stress, xfstests
from tools.suites.excused import reason_for
from tools.suites.outcome import FAIL, PASS, SKIP, Outcome, Trouble
from tools.suites.places import CHECKS, FLOORS, TREES, Place

SUITES: dict[str, ModuleType] = {
    "pjdfstest": pjdfstest,
    "fsx": fsx,
    "xfstests": xfstests,
    "ltp": ltp,
    "stress": stress,
}
PASSTHROUGH = Path("libfuse/build/example/passthrough_ll")
BUILT = {
    "libfuse": "git clone https://github.com/libfuse/libfuse, meson setup build, ninja -C build",
    "ltp": "git clone https://github.com/linux-test-project/ltp, make autotools, ./configure, make",
    "pjdfstest": "git clone https://github.com/pjd/pjdfstest, autoreconf -ifs, ./configure, make",
    "xfstests": "git clone https://github.com/kdave/xfstests, make",
}
Outcomes = Mapping[str, Outcome]


def main() -> None:
    arguments = parsed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sources: Path = arguments.sources.resolve()
    suites = arguments.suites or list(SUITES)
    with tempfile.TemporaryDirectory(prefix="zipfs-suites-", ignore_cleanup_errors=True) as made:
        folder = Path(made) if arguments.keep is None else arguments.keep.resolve()
        folder.mkdir(parents=True, exist_ok=arguments.keep is None)
        folder.chmod(0o755)
        console = Console(width=None if sys.stdout.isatty() else 200)
        options = ("--allow-other", "--quiet", f"{arguments.quiet:g}", "--no-optimize", *arguments.mount_option)
        wrong = 0
        for suite in suites:
            found: dict[str, Outcomes] = {}
            for tree in (*arguments.trees, *(() if arguments.no_floors else FLOORS)):
                place = Place(tree, folder / f"{suite}-{tree}", options, sources / PASSTHROUGH)
                found[tree] = outcomes_of(suite, place, sources, cases=arguments.cases, again=arguments.again)
            wrong += report(console, suite, found, arguments.trees)
    sys.exit(bool(wrong))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/try_suites", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"only these of {', '.join(SUITES)}")
    parser.add_argument(
        "--sources", type=Path, required=True, metavar="DIR", help="a folder with the suites, built, and libfuse"
    )
    parser.add_argument(
        "--tree", dest="trees", action="append", choices=(*TREES, *FLOORS), help="default: served and ingest"
    )
    parser.add_argument(
        "--quiet", type=float, default=2.0, metavar="S", help="of `zipfs mount`; 0.2 has files sealed all the time"
    )
    parser.add_argument("--mount-option", action="append", default=[], metavar="OPTION", help="more for `zipfs mount`")
    parser.add_argument("--cases", nargs="+", default=[], metavar="NNN", help="only these of xfstests")
    parser.add_argument("--no-floors", action="store_true", help="compare with nothing")
    parser.add_argument("--again", action="store_true", help="run on floors again, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this new directory, and leave it")
    arguments = parser.parse_args()
    arguments.trees = [tree for tree in arguments.trees or TREES if tree not in FLOORS]
    unknown = [name for name in arguments.suites if name not in SUITES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such suite; there are {', '.join(SUITES)}")
    for needed in (PASSTHROUGH, *(SUITES[name].NEEDED for name in arguments.suites or SUITES)):
        if not (arguments.sources / needed).is_file():
            parser.error(f"{arguments.sources / needed} is missing: {BUILT[needed.parts[0]]}")
    return arguments


def outcomes_of(suite: str, place: Place, sources: Path, *, cases: Sequence[str], again: bool) -> Outcomes:
    """Run a suite in a tree, or recall what a floor yielded before."""
    kept = sources / "floors" / f"{suite}-{place.tree}.json"
    if place.tree in FLOORS and kept.exists() and not again:
        return by_key(Outcome(**one) for one in json.loads(kept.read_text()))
    begin = time.monotonic()
    found: list[Outcome] = []
    place.folder.mkdir()
    try:
        outcomes: Callable[..., Iterator[Outcome]] = SUITES[suite].try_in
        for outcome in outcomes(place, sources, cases) if suite == "xfstests" else outcomes(place, sources):
            found.append(outcome)
            if outcome.verdict == FAIL:
                print(f"try_suites: {suite}, {place.tree}: {outcome.key}: {outcome.words}", file=sys.stderr, flush=True)
    except Trouble as error:
        found.append(Outcome(CHECKS, "goes on to its end", FAIL, str(error)))
    failed = sum(outcome.verdict == FAIL for outcome in found)
    said = f"{len(found)} tests, {failed} failed, {time.monotonic() - begin:.0f} s"
    print(f"try_suites: {suite}, {place.tree}: {said}", file=sys.stderr, flush=True)
    if place.tree in FLOORS and not cases:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps([asdict(outcome) for outcome in found], indent=0))
    return by_key(found)


def by_key(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> Outcomes:
    return {outcome.key: outcome for outcome in outcomes}


def report(console: Console, suite: str, found: Mapping[str, Outcomes], trees: Sequence[str]) -> int:
    """Print what came of a suite, and return how many failures nobody expects."""
    table = Table(title=f"{suite}: passed / failed / not run")
    for title in ("group", *found, *(f"only {tree} fails" for tree in trees)):
        table.add_column(title)
    groups = sorted({outcome.group for outcomes in found.values() for outcome in outcomes.values()})
    unexpected = {tree: [one for one in new_failures(found, tree) if not reason_for(suite, one)] for tree in trees}
    for group in [*groups, ""]:
        counts = [
            counted([one for one in outcomes.values() if group in (one.group, "")]) for outcomes in found.values()
        ]
        new = [str(sum(group in (one.group, "") for one in unexpected[tree]) or "") for tree in trees]
        if group == "":
            table.add_section()
        table.add_row(group or "all", *counts, *new)
    console.print(table)
    for tree in trees:
        print_failures(console, suite, found, tree)
    return sum(map(len, unexpected.values()))


def counted(outcomes: Sequence[Outcome]) -> str:
    counts = [sum(one.verdict == verdict for one in outcomes) for verdict in (PASS, FAIL, SKIP)]
    return " / ".join(map(str, counts)) if outcomes else ""


def new_failures(found: Mapping[str, Outcomes], tree: str) -> list[Outcome]:
    """Failures of a tree that are not on all floors."""
    failures = []
    for key, outcome in found[tree].items():
        beside = [found[floor].get(key) if floor in found else None for floor in FLOORS]
        if outcome.verdict == FAIL and not all(one is not None and one.verdict == FAIL for one in beside):
            failures.append(outcome)
    return failures


def print_failures(console: Console, suite: str, found: Mapping[str, Outcomes], tree: str) -> None:
    expected: dict[str, list[str]] = {}
    rows = []
    for outcome in new_failures(found, tree):
        reason = reason_for(suite, outcome)
        if reason:
            expected.setdefault(reason, []).append(outcome.key)
        else:
            beside = [found[floor].get(outcome.key) if floor in found else None for floor in FLOORS]
            rows.append((outcome.key, *("-" if one is None else one.verdict for one in beside), outcome.words))
    if rows:
        table = Table(title=f"{suite}: fails in {tree}, and not on every floor")
        for title in ("test", *FLOORS, "what is said"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table, markup=False)
    if expected:
        table = Table(title=f"{suite}: expected to fail in {tree}")
        for title in ("why", "tests"):
            table.add_column(title, overflow="fold")
        for reason, keys in expected.items():
            table.add_row(
                reason,
                f"{len(keys)}: {' '.join(keys)}" if len(keys) <= 12 else f"{len(keys)}: {' '.join(keys[:12])} ...",
            )
        console.print(table, markup=False)


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
