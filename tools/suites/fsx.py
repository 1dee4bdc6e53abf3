"""fsx in a tree: one file, written, mapped, cut and read at random, and compared with a copy in memory each time.

`--sources` holds xfstests built, in xfstests/, whose ltp/fsx it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.suites.outcome import FAIL, PASS, Outcome, run
from tools.suites.places import Place

NEEDED = Path("xfstests/ltp/fsx")
SETTING_S = 600.0
SEEDS = (1, 2, 3)
OPERATIONS = 2500
SETTINGS = {
    "plain": "",
    "small operations": "-o 4096 -l 100000",
    "large file": "-l 8388608 -o 262144",
    "growing": "-l 1048576 -s 1",
    "aligned": "-r 4096 -w 4096 -t 4096 -l 600000",
    "without mmap": "-R -W",
    "written by mmap alone": "-R -l 500000",
    "direct": "-Z -R -W -r 512 -w 512 -l 500000",
    "asynchronous": "-A",
    "io_uring": "-U",
    "synced": "-y -l 300000",
    "caches flushed": "-f",
    "compared each time": "-X -l 60000",
    "reopened": "-c 20",
    "reopened, with mmap of both kinds": "-c 5 -l 1000000",
}
PAUSED_OPERATIONS = 1500
PAUSED = {
    "paused: small": "-c 20 -l 60000",
    "paused: plain": "-c 30",
    "paused: large file": "-c 30 -l 4194304 -o 131072",
    "paused: without mmap": "-c 30 -R -W -l 600000",
    "paused: direct": "-c 30 -Z -R -W -r 512 -w 512 -l 500000",
    "paused: caches flushed": "-c 30 -f -l 600000",
}
"""Closed for as long as it takes that what was written is sealed, compressed and opened again."""
PAUSES = 3
"""Times `--quiet` that a pause takes at most."""


def try_in(place: Place, sources: Path) -> Iterator[Outcome]:
    quiet_s = float(place.options[place.options.index("--quiet") + 1])
    with place.opened() as directory:
        preload = place.folder / "pause.so"
        place.command("gcc", "-shared", "-fPIC", "-O1", "-o", preload, Path(__file__).with_name("pause.c"))
        shutil.copy(sources / NEEDED, place.folder / "fsx")
        for settings, operations, pause_ms in (
            (SETTINGS, OPERATIONS, 0),
            (PAUSED, PAUSED_OPERATIONS, PAUSES * quiet_s * 1000),
        ):
            for name, options in settings.items():
                for seed in SEEDS:
                    logs = place.folder / f"fsx-{name.replace(' ', '-')}-{seed}"
                    logs.mkdir()
                    file = directory / f"{logs.name}.data"
                    done = run(
                        [
                            place.folder / "fsx",
                            "-q",
                            "-N",
                            str(operations),
                            "-S",
                            str(seed),
                            "-P",
                            logs,
                            *options.split(),
                            file,
                        ],
                        cwd=place.folder,
                        timeout_s=SETTING_S,
                        output=logs / "out",
                        environment={"LD_PRELOAD": str(preload), "PAUSE_MS": f"{pause_ms:.0f}"},
                    )
                    is_right = done.code == 0 and "All " in done.text
                    yield Outcome(
                        name.partition(":")[0] if ":" in name else "at once",
                        f"{name}, seed {seed}",
                        PASS if is_right else FAIL,
                        "" if is_right else f"{done.code}: {done.last()}",
                    )
        yield from place.check()
