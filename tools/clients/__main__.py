"""Runs real clients on a mount and on a plain disk, and compares what comes of it.

Each case runs in a process of its own, first below a directory of the disk, then below a mount of a new store. What it
notes has to be the same on both, or what README.md promises of `ingest/` where that differs from a disk. The exit code
is 1 if something is not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from tools.clients.case import CASES
from tools.clients.side import OPTIONS, ROOT, ZIPFS
from zipfs.mount import points

CLIENT_PYTHON = ROOT / ".venv-clients" / "bin" / "python"
CASE_S = 400.0
COMMAND_S = 120.0
LAST_LINES = 12


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


def zipfs(*arguments: str | Path) -> None:
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


@contextmanager
def mounted(store: Path, point: Path) -> Iterator[None]:
    """A new store, which is whole at the end."""
    point.mkdir()
    try:
        zipfs("mount", *OPTIONS, store, point)
        yield
        zipfs("umount", point)
        zipfs("fsck", "--read-data", store)
    finally:
        abort(point)


def run_case(name: str, folder: Path, places: Sequence[Path]) -> dict[str, Any]:
    """What a case notes on one side. Raises Trouble where it hangs or dies."""
    result, log = folder / "result.json", folder / "log.txt"
    command: list[str | Path] = [CLIENT_PYTHON, "-m", "tools.clients.case", name, result, *places]
    settings = {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "TOKENIZERS_PARALLELISM": "false"}
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
    if found["error"]:
        found["error"] += f"\n{last_lines(log)}"
    return found


def last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])


def run_plain(name: str, folder: Path) -> dict[str, Any]:
    disk = folder / "disk"
    for path in (disk, folder / "scratch"):
        path.mkdir(parents=True)
    return run_case(name, folder, (disk, disk, folder / "scratch"))


def run_mounted(name: str, folder: Path) -> dict[str, Any]:
    store, point = folder / "store", folder / "mnt"
    (folder / "scratch").mkdir(parents=True)
    with mounted(store, point):
        try:
            return run_case(name, folder, (point / "ingest", point, folder / "scratch", store))
        except Trouble:
            abort(point)
            raise


def rows_of(name: str, plain: dict[str, Any], mount: dict[str, Any]) -> Iterator[Row]:
    """A row for each thing that was noted on the mount, or should have been, and for what kept a side from its end."""
    disk = {note["what"]: note["value"] for note in plain["notes"]}
    for note in mount["notes"]:
        if plain["error"] and note["what"] not in disk and note["promised"] is None:
            continue
        what, value, promised = note["what"], note["value"], note["promised"]
        beside = disk.get(what)
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


def rows_for(name: str, folder: Path) -> list[Row]:
    sides = []
    for run, title in ((run_plain, "plain disk"), (run_mounted, "ZipFS")):
        try:
            sides.append(run(name, folder / title.replace(" ", "-").lower()))
        except Trouble as error:
            sides.append({"notes": [], "error": str(error)})
    return list(rows_of(name, *sides))


def print_table(console: Console, rows: Sequence[Row]) -> None:
    table = Table(title="Clients on a plain disk and on ZipFS")
    for title in ("case", "what", "plain disk", "ZipFS"):
        table.add_column(title, overflow="fold")
    table.add_column("ok")
    before = ""
    for row in rows:
        if before and row.case != before:
            table.add_section()
        mark = ("as promised" if row.is_promised else "yes") if row.is_right else "NO"
        table.add_row(
            "" if row.case == before else row.case, row.what, shortened(row.plain), shortened(row.mount), mark
        )
        before = row.case
    console.print(table, markup=False)


def shortened(words: str) -> str:
    return words if len(words) <= 160 else f"{words[:80]} ... {words[-70:]}"


def print_markdown(rows: Sequence[Row]) -> None:
    print("| case | what | plain disk | ZipFS | ok |\n|---|---|---|---|---|")
    for row in rows:
        mark = ("as promised" if row.is_promised else "yes") if row.is_right else "**no**"
        cells = (row.case, row.what, shortened(row.plain), shortened(row.mount), mark)
        print("|", " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells), "|")


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/try_clients", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these")
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
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True)
        rows = try_all(arguments.cases or list(CASES), arguments.keep.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="zipfs-clients-", ignore_cleanup_errors=True) as folder:
            rows = try_all(arguments.cases or list(CASES), Path(folder).resolve())
    if arguments.markdown:
        print_markdown(rows)
    else:
        print_table(Console(width=None if sys.stdout.isatty() else 200), rows)
    wrong = [row for row in rows if not row.is_right]
    for row in wrong:
        print(f"\n{row.case}: {row.what}\n  plain disk: {row.plain}\n  ZipFS:      {row.mount}")
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} as they should be")
    sys.exit(bool(wrong))


def try_all(cases: Sequence[str], folder: Path) -> list[Row]:
    rows: list[Row] = []
    for name in cases:
        begin = time.monotonic()
        found = rows_for(name, folder / name)
        rows += found
        verdict = "ok" if all(row.is_right for row in found) else "NOT AS IT SHOULD BE"
        print(f"try_clients: {name}: {verdict}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main()
