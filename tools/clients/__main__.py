"""Runs real clients on a mount and on a plain disk, and compares what comes of it.

Each case runs in a process of its own, first below a directory of the disk, then on mounts of new stores: in the
served tree, again there with files compressed as soon as they are closed, and below `ingest/`. What it notes has to be
the same on both sides, or what README.md promises of `ingest/` where that differs from a disk. Afterwards all files
have to be those of the disk, and stay so when they are compressed and over a remount; the store has to be whole, and
the log of the daemon without a warning. The exit code is 1 if something is not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from tools.clients.case import CASES, is_run
from tools.clients.side import ROOT, SETTINGS, ZIPFS, Place, Setting, difference
from zipfs.mount import points

SUMS = "sums"
CLIENT_PYTHON = ROOT / ".venv-clients" / "bin" / "python"
CASE_S = 400.0
COMMAND_S = 120.0
LAST_LINES = 12
LOG_ENTRY = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (?P<level>[A-Z]+) ")
QUIET_LEVELS = frozenset({"DEBUG", "INFO"})


class Trouble(Exception):
    """A case could not be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one thing on both sides."""

    case: str
    what: str
    plain: str
    mount: str
    is_right: bool
    is_promised: bool = False
    is_compared: bool = True

    @property
    def mark(self) -> str:
        if not self.is_compared:
            return "told"
        return ("as promised" if self.is_promised else "yes") if self.is_right else "NO"


def zipfs(*arguments: str | Path) -> None:
    """Run a command that has to succeed. Raises Trouble."""
    try:
        done = subprocess.run([ZIPFS, *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"zipfs {arguments[0]} does not end within {COMMAND_S:.0f} s") from error
    if done.returncode != 0:
        raise Trouble(f"zipfs {arguments[0]} ended with {done.returncode}: {(done.stdout + done.stderr).strip()}")


def abort(point: Path) -> None:
    """Give up a mount: whoever waits in it gets an error, and its daemon ends."""
    found = points.find(str(point))
    if found is not None:
        with suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{found.device.split(':')[1]}/abort").write_text("1")
        subprocess.run(["umount", "-l", point], capture_output=True, timeout=COMMAND_S, check=False)


def run_case(name: str, folder: Path, setting: Setting, places: Sequence[Path]) -> dict[str, Any]:
    """What a case notes on one side. Raises Trouble where it hangs or dies."""
    result, log = folder / f"{name}.json", folder / f"{name}.txt"
    command: list[str | Path] = [CLIENT_PYTHON, "-m", "tools.clients.case", name, result]
    command += [setting.place, str(setting.quiet_s), *places]
    settings = {
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
        # Sums that are added up by several threads are not the same twice.
        "OMP_NUM_THREADS": "1",
    }
    result.unlink(missing_ok=True)
    begin = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, start_new_session=True,
            env={**os.environ, **settings},
        )  # fmt: skip
        try:
            process.wait(CASE_S)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"does not end within {CASE_S:.0f} s") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if not result.exists():
        raise Trouble(f"ended with {process.returncode}: {last_lines(log)}")
    found: dict[str, Any] = json.loads(result.read_bytes())
    found["took_s"] = time.monotonic() - begin
    if found["error"]:
        found["error"] += f"\n{last_lines(log)}"
    return found


def last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])


def run_plain(name: str, folder: Path) -> dict[str, Any]:
    disk = folder / "disk"
    for path in (disk, folder / "scratch"):
        path.mkdir(parents=True)
    return run_case(name, folder, Setting(Place.DISK, 0.0), (disk, disk, folder / "scratch"))


def run_mounted(name: str, folder: Path, setting: Setting) -> dict[str, Any]:
    """What a case notes on a mount of a new store, and what is wrong with that in the end (`afterwards`)."""
    store, point, scratch = folder / "store", folder / "mnt", folder / "scratch"
    for path in (point, scratch):
        path.mkdir(parents=True)
    target = point / "ingest" if setting.place == Place.INGEST else point
    places = (target, point, scratch, store)
    try:
        zipfs("mount", *setting.options, store, point)
        found = run_case(name, folder, setting, places)
        found["afterwards"] = list(look_afterwards(found, folder, setting, places))
    finally:
        abort(point)
    return found


def look_afterwards(found: dict[str, Any], folder: Path, setting: Setting, places: Sequence[Path]) -> Iterator[str]:
    """In words: files that do not stay as they were, a store that is not whole, warnings of its daemon."""
    _, point, _, store = places
    files = found["files"]
    steps: dict[str, list[tuple[str | Path, ...]]] = {
        "when all is compressed": [("wait", "--timeout", "100", point)],
        "after a remount": [("umount", point), ("mount", *setting.options, store, point)],
    }
    for title, commands in steps.items():
        try:
            for command in commands:
                zipfs(*command)
        except Trouble as error:
            yield str(error)
        now = run_case(SUMS, folder, setting, places)
        # What is finished below ingest/ is served a little later.
        if not found["error"] and (setting.place == Place.TREE or files is not found["files"]):
            changed = difference(files, now["files"])
            if changed != "the same" or now["error"]:
                yield f"{title}: {now['error'] or changed}"
        files = now["files"]
    try:
        zipfs("umount", point)
        zipfs("fsck", "--read-data", store)
    except Trouble as error:
        yield str(error)
    for line in (store / "log" / "zipfs.log").read_text(errors="replace").splitlines():
        entry = LOG_ENTRY.match(line)
        if (entry is None or entry["level"] not in QUIET_LEVELS) and not any(
            words in line for words in found["expected_log"]
        ):
            yield f"log: {line}"


def rows_of(name: str, plain: dict[str, Any], mount: dict[str, Any]) -> Iterator[Row]:
    """A row for each thing that was noted on the mount, or should have been, and for what kept a side from its end."""
    disk = {note["what"]: note["value"] for note in plain["notes"]}
    for note in mount["notes"]:
        if plain["error"] and note["what"] not in disk and note["promised"] is None:
            continue
        what, value, promised = note["what"], note["value"], note["promised"]
        beside = disk.get(what)
        if not note["compared"]:
            yield Row(name, what, text(beside), text(value), is_right=True, is_compared=False)
            continue
        expected = beside if promised is None else promised
        right = value == expected
        yield Row(name, what, text(beside), text(value), right, is_promised=promised is not None and right)
    seen = {note["what"] for note in mount["notes"]}
    for what in [] if mount["error"] else [what for what in disk if what not in seen]:
        yield Row(name, what, text(disk[what]), "not seen", is_right=False)
    for title, found in (("plain disk", plain), ("ZipFS", mount)):
        if found["error"]:
            sides = [found["error"] if side == title else "" for side in ("plain disk", "ZipFS")]
            yield Row(name, "goes on to its end", sides[0], sides[1], is_right=False)


def text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value).strip() or "nothing"


def afterwards(name: str, plain: dict[str, Any], mount: dict[str, Any], place: Place) -> Row:
    """The row that tells whether all files were right in the end, and stayed so."""
    said = list(mount["afterwards"])
    if place == Place.TREE and not plain["error"] and not mount["error"]:
        apart = difference(plain["comparable"], mount["comparable"])
        said[:0] = [] if apart == "the same" else [f"beside the disk: {apart}"]
    return Row(name, "all files, store and log afterwards", "", "\n".join(said) or "in order", is_right=not said)


def rows_for(name: str, folder: Path, settings: Sequence[str]) -> list[Row]:
    """What came of a case on all sides."""
    rows: list[Row] = []
    try:
        plain = run_plain(name, folder / "plain-disk")
    except Trouble as error:
        plain = {"notes": [], "error": str(error)}
    for title in settings:
        setting, label = SETTINGS[title], f"{name} ({title})"
        try:
            found = run_mounted(name, folder / title, setting)
        except Trouble as error:
            rows += rows_of(label, plain, {"notes": [], "error": str(error)})
        else:
            rows += [*rows_of(label, plain, found), afterwards(label, plain, found, setting.place)]
            took = [f"{side['took_s']:.0f}" if "took_s" in side else "" for side in (plain, found)]
            rows.append(Row(label, "seconds, pauses included", took[0], took[1], is_right=True, is_compared=False))
    return rows


def print_table(console: Console, rows: Sequence[Row]) -> None:
    table = Table(title="Clients on a plain disk and on ZipFS")
    for title in ("case", "what", "plain disk", "ZipFS"):
        table.add_column(title, overflow="fold")
    table.add_column("ok")
    before = ""
    for row in rows:
        if before and row.case != before:
            table.add_section()
        cells = (row.what, shortened(row.plain), shortened(row.mount), row.mark)
        table.add_row("" if row.case == before else row.case, *cells)
        before = row.case
    console.print(table, markup=False)


def shortened(words: str) -> str:
    return words if len(words) <= 160 else f"{words[:80]} ... {words[-70:]}"


def print_markdown(rows: Sequence[Row]) -> None:
    print("| case | what | plain disk | ZipFS | ok |\n|---|---|---|---|---|")
    for row in rows:
        cells = (row.case, row.what, shortened(row.plain), shortened(row.mount), row.mark.replace("NO", "**no**"))
        print("|", " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells), "|")


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tools/try_clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these")
    parser.add_argument(
        "--on", choices=list(SETTINGS), action="append", metavar="WHERE",
        help="tree (a mount itself), hasty (so with --quiet 0.2) or ingest (below ingest/); repeatable; or else all",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="tell their names")
    parser.add_argument("--markdown", action="store_true", help="print the table as README.md would have it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this new directory, and leave it")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CASES))
        return
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such case; there are {', '.join(CASES)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    chosen = (arguments.cases or list(CASES), arguments.on or list(SETTINGS))
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        rows = try_all(*chosen, arguments.keep.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="zipfs-clients-", ignore_cleanup_errors=True) as folder:
            rows = try_all(*chosen, Path(folder).resolve())
    if arguments.markdown:
        print_markdown(rows)
    else:
        print_table(Console(width=None if sys.stdout.isatty() else 200), rows)
    right = sum(row.is_right for row in rows)
    print(f"\n{right} of {len(rows)} as they should be")
    sys.exit(right != len(rows))


def try_all(cases: Sequence[str], settings: Sequence[str], folder: Path) -> list[Row]:
    rows: list[Row] = []
    for name in cases:
        begin = time.monotonic()
        found = rows_for(name, folder / name, [title for title in settings if is_run(name, SETTINGS[title].place)])
        rows += found
        verdict = "ok" if all(row.is_right for row in found) else "NOT AS IT SHOULD BE"
        print(f"try_clients: {name}: {verdict}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        for row in found:
            if not row.is_right:
                print(f"{row.case}: {row.what}\n  plain disk: {row.plain}\n  ZipFS:      {row.mount}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main()
