"""Measures changing a part of a large stored file in place: until others read it, what it takes, and its compression.

A file is stored through a mount: random bytes, which nothing makes smaller. A part in its middle is written anew by one
process and read by another one, which is waited for. Then it is waited until the file is compressed again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.benchmarks.reading.contenders import BIN, Trouble, run

_CHANGE = (
    "import os, sys\n"
    "with open('/dev/urandom', 'rb') as source: data = source.read(int(sys.argv[3]))\n"
    "fd = os.open(sys.argv[1], os.O_RDWR)\n"
    "assert os.pwrite(fd, data, int(sys.argv[2])) == len(data)\n"
    "os.close(fd)\n"
)
_READ = (
    "import os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
    "assert len(os.pread(fd, int(sys.argv[3]), int(sys.argv[2]))) == int(sys.argv[3])\n"
)
_STEP_S = 120.0
_STORE_S = 900.0
_MIB = 1 << 20


def python(code: str, *arguments: object) -> None:
    """Run a process that looks at the mount. Raises Trouble."""
    run(sys.executable, "-P", "-c", code, *map(str, arguments), timeout_s=_STEP_S)


def spool_nbytes(store: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (store / "spool").iterdir())


def packs_nbytes(store: Path) -> int:
    return sum(file.stat().st_size for file in (store / "packs").iterdir())


def measure(place: Path, arguments: argparse.Namespace) -> list[tuple[float, float, int, int]]:
    """Return of each round: seconds until it is read, until it is compressed, bytes in the spool and in new packs."""
    store, point, source = place / "store", place / "mount", place / "source"
    point.mkdir()
    with source.open("wb") as file:
        for done in range(0, arguments.size, _MIB):
            file.write(os.urandom(min(_MIB, arguments.size - done)))
    run(BIN / "zipfs", "mount", "--no-optimize", "--quiet", "0.5", store, point, timeout_s=_STEP_S)
    try:
        run("cp", source, point / "file", timeout_s=_STORE_S)
        source.unlink()
        found = []
        for number in range(arguments.rounds):
            run(BIN / "zipfs", "wait", point, "--timeout", str(_STORE_S), timeout_s=2 * _STORE_S)
            before = packs_nbytes(store)
            offset = arguments.size // (number + 2)
            began_s = time.perf_counter()
            python(_CHANGE, point / "file", offset, arguments.change)
            python(_READ, point / "file", offset, arguments.change)
            read_s = time.perf_counter() - began_s
            spooled = spool_nbytes(store)
            run(BIN / "zipfs", "wait", point, "--timeout", str(_STORE_S), timeout_s=2 * _STORE_S)
            found.append((read_s, time.perf_counter() - began_s, spooled, packs_nbytes(store) - before))
        return found
    finally:
        subprocess.run([BIN / "zipfs", "umount", point], timeout=_STEP_S, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/bench rewriting", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=1_000_000_000, metavar="BYTES", help="the file [1000000000]")
    parser.add_argument("--change", type=int, default=1_000_000, metavar="BYTES", help="what is changed [1000000]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="changes, one after the other [3]")
    parser.add_argument("--place", type=Path, default=None, metavar="DIR", help="where the store is made [a new one]")
    arguments = parser.parse_args()
    console = Console()
    place = Path(tempfile.mkdtemp(prefix="zipfs-rewriting-", dir=arguments.place))
    try:
        with console.status("storing and changing"):
            rounds = measure(place, arguments)
    except Trouble as error:
        sys.exit(f"rewriting: {error}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    table = Table("", "median", "worst", title=f"{arguments.change:,} bytes of {arguments.size:,} changed in place")
    for name, values, unit in (
        ("until another process has read it (two starts of Python within)", [one[0] for one in rounds], "s"),
        ("until it is compressed again", [one[1] for one in rounds], "s"),
        ("on the disk in the spool", [one[2] / 1e6 for one in rounds], "MB"),
        ("added to the packs", [one[3] / 1e6 for one in rounds], "MB"),
    ):
        table.add_row(name, f"{statistics.median(values):.2f} {unit}", f"{max(values):.2f} {unit}")
    console.print(table)


if __name__ == "__main__":
    main()
