"""pjdfstest in a tree: what POSIX asks of system calls on names. `--sources` holds it built, in pjdfstest/.

Loops over types of files go without named pipes, devices and sockets: where such a file cannot be made, all that
follows fails, and says nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.suites.outcome import FAIL, PASS, SKIP, Done, Outcome, run, shorten
from tools.suites.places import Place

NEEDED = Path("pjdfstest/pjdfstest")
LEFT_OUT = ("mkfifo", "mknod")
SCRIPT_S = 300.0
AT_ONCE = 4
LOOP = re.compile(r"(?m)^(\s*for type\d? in) (.*); do$")
SPECIAL = frozenset({"fifo", "block", "char", "socket", "c", "b"})
RESULT = re.compile(r"(?m)^(ok|not ok) (\d+)(.*)$")
TRIED = re.compile(r"tried '(.*)', expected (\S+), got (.*)")
NAME = re.compile(r"pjdfstest_[0-9a-f]+")
LINES_OF_SPECIAL = 4
"""How far behind one that fails for want of a special file others fail for it, too, and do not say what they tried."""
MAKES_SPECIAL = re.compile(r"(?:^| )(mkfifo|mknod|bind)(?: |$)")


def try_in(place: Place, sources: Path) -> Iterator[Outcome]:
    suite = place.folder / "pjdfstest"
    shutil.copytree(sources / "pjdfstest" / "tests", suite / "tests")
    shutil.copy(sources / NEEDED, suite / "pjdfstest")
    scripts = []
    for script in sorted((suite / "tests").glob("*/*.t")):
        if script.parent.name not in LEFT_OUT:
            script.write_text(LOOP.sub(without_special, script.read_text()))
            scripts.append(script)

    def outcomes_of(script: Path) -> list[Outcome]:
        group, name = script.parent.name, script.stem
        directory = place.directory / f"{group}-{name}"
        directory.mkdir()
        directory.chmod(0o755)
        done = run(["sh", script], cwd=directory, timeout_s=SCRIPT_S, output=script.with_suffix(".out"))
        return list(read_tap(group, name, done))

    with place.opened(), ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(outcomes_of, scripts):
            yield from found
        yield from place.check()


def without_special(match: re.Match[str]) -> str:
    return f"{match[1]} {' '.join(kind for kind in match[2].split() if kind not in SPECIAL)}; do"


def read_tap(group: str, name: str, done: Done) -> Iterator[Outcome]:
    """The assertions of a script, and that it came to its end. What needs a special file has not run."""
    special: set[str] = set()
    before = 0
    for mark, number, rest in RESULT.findall(done.text):
        verdict, words = PASS, ""
        if mark == "not ok":
            tried = TRIED.search(rest)
            names = set(NAME.findall(tried[1])) if tried is not None else set[str]()
            if names & special or (tried is not None and MAKES_SPECIAL.search(tried[1])):
                special |= names
                before = int(number)
            is_special = before == int(number) or (tried is None and int(number) - before <= LINES_OF_SPECIAL)
            verdict = SKIP if is_special or "# TODO" in rest else FAIL
            words = shorten(rest.removeprefix(" - "))
        yield Outcome(group, f"{name}:{number}", verdict, words)
    ends = done.code == 0
    yield Outcome(group, f"{name}:end", PASS if ends else FAIL, "" if ends else f"{done.code}: {done.last()}")
