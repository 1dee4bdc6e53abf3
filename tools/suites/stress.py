"""Programs that do all that a file system can do at once, and look at what comes of it: fsstress, stress-ng, dbench.

fsstress is LTP's, built in ltp/; stress-ng and dbench are packages of Debian.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tools.suites.outcome import FAIL, PASS, Outcome, run
from tools.suites.places import Place

NEEDED = Path("ltp/testcases/kernel/fs/fsstress/fsstress")
PROGRAM_S = 900.0
STRESSOR_S = 6
MIX_S = 20
STRESSORS = """
    access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fcntl fiemap file-ioctl filename flock fsize fstat
    getdent hdd io iomix lease link locka lockf lockofd mmap mmapfork mmapmany mremap msync open readahead rename revio
    seek sendfile splice symlink sync-file tee touch utime xattr mmapaddr mmapfixed fallocate chattr fpunch inotify aio
    io-uring pageswap metamix
"""
MIXES = (
    "hdd rename link unlink-many",
    "iomix seek revio",
    "mmap msync hdd",
    "dir dentry rename symlink",
    "copy-file sendfile splice",
    "chmod chown utime xattr touch",
    "aio io-uring sync-file",
    "iomix rename touch fstat flock",
)


def try_in(place: Place, sources: Path) -> Iterator[Outcome]:
    with place.opened() as directory:
        for test, command in commands(directory, sources):
            output = place.folder / f"{test.replace(' ', '-')}.out"
            done = run(command, cwd=directory, timeout_s=PROGRAM_S, output=output)
            group = Path(command[0]).name
            yield Outcome(
                group, test, PASS if done.code == 0 else FAIL, "" if done.code == 0 else f"{done.code}: {done.last()}"
            )
        yield from place.check()


def commands(directory: Path, sources: Path) -> Iterator[tuple[str, list[str | Path]]]:
    for seed, processes, operations in ((1, 1, 3000), (2, 4, 1500), (3, 8, 1000)):
        home = directory / f"fsstress-{seed}"
        home.mkdir()
        options: list[str | Path] = ["-c", "-d", home, "-n", str(operations), "-p", str(processes), "-s", str(seed)]
        yield f"fsstress, seed {seed}, {processes} at once", [sources / NEEDED, *options]
    known = known_stressors(directory)
    common = ["--verify", "--temp-path", str(directory), "--metrics-brief"]
    for name in STRESSORS.split():
        if name in known:
            yield f"stress-ng {name}", ["stress-ng", f"--{name}", "2", "--timeout", f"{STRESSOR_S}", *common]
    for mix in MIXES:
        options = [word for name in mix.split() if name in known for word in (f"--{name}", "1")]
        yield f"stress-ng {mix}", ["stress-ng", *options, "--timeout", f"{MIX_S}", *common]
    yield "dbench", ["dbench", "-D", directory, "-t", "40", "4"]


def known_stressors(directory: Path) -> set[str]:
    output = directory / "stressors"
    found = set(run(["stress-ng", "--stressors"], cwd=directory, timeout_s=60, output=output).text.split())
    output.unlink()
    return found
