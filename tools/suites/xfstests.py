"""The generic cases of xfstests in a tree: the quick ones, and some that file systems of this kind have failed.

`--sources` holds it built, in xfstests/. It mounts and unmounts what it tests again and again, by programs that stand
before the true ones in PATH; the users that it wants are in copies of /etc/passwd and /etc/group. A test that takes
too long is ended, and has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tools.suites.outcome import FAIL, PASS, SKIP, Outcome, Trouble, shorten
from tools.suites.places import PASSTHROUGH_OPTIONS, ZIPFS, Place, check_store, give_up

NEEDED = Path("xfstests/ltp/fsstress")
GROUP = "quick"
NAMED = """
    003 035 078 120 192 221 314 394 451 467 471 598 633 696 728 732 736 755 069 074 438
    013 028 029 030 075 091 112 113 127 208 209 210 211 212 214 215 246 247 248 249 257 263 310 313 360 391 393 403
    420 428 437 446 450 463 504 509 523 524 525 528 532 533 567 571 591 604 609 615 617 632 637 647 676 678 680 683
"""
LEFT_OUT = (
    "clone clone_stress dedupe encrypt verity casefold quota swap shutdown fiexchange exchrange dangerous_fuzzers"
)
"""Groups about what neither ZipFS nor a floor has."""
TEST_S = 400.0
ALL_S = 4 * 3600.0
DISK_NBYTES = 12 << 30
USERS = ("fsgqa", "123456-fsgqa", "fsgqa2")
HIDDEN = ".whole"
"""Of a mount of which a case sees only what is below `ingest/`."""
FIRST_ID = 64100
RESULT = re.compile(r"^(generic/\d+)\s+(?:\d+s \.\.\.)?\s*(.*)$")

MOUNT = """#!/bin/bash
# Mounts what try_suites tests; anything else is the business of the true mount.
case " $* " in *" -t fuse.{subtype} "*) ;; *) exec {mount} "$@" ;; esac
point=${{*: -1}} source=${{*: -2:1}} options=
while [ $# -gt 2 ]; do
  case $1 in
    -o) options+=,$2; shift ;;
    -o*) options+=,${{1#-o}} ;;
  esac
  shift
done
exec 2>>{log} >&2
case $options in *,remount*) exec {mount} -o "${{options#,}}" "$point" ;; esac
"""
UNMOUNT = """#!/bin/bash
# Unmounts what try_suites tests; anything else is the business of the true umount.
what=${{*: -1}}
case $what in
  "$TEST_DEV" | "$TEST_DIR") point=$TEST_DIR ;;
  "$SCRATCH_DEV" | "$SCRATCH_MNT") point=$SCRATCH_MNT ;;
  *) exec {umount} "$@" ;;
esac
"""
LISTS = """#!/bin/bash
# What {program} says of mounts, where xfstests knows neither of two mounts of one source nor of a subtype.
set -o pipefail
{program} "$@" | sed -e '/{hidden}/d' -e 's/fuse\\.{subtype}/fuse/'
"""
MOUNTS = {
    "served": '{zipfs} mount {options} ${{options:+-o "${{options#,}}"}} "$source" "$point"',
    "ingest": """mkdir -p "$point{hidden}"
{zipfs} mount {options} ${{options:+-o "${{options#,}}"}} "$source" "$point{hidden}" &&
  {mount} --bind "$point{hidden}/ingest" "$point"
""",
    "passthrough": """mkdir -p "$source"
{passthrough} -o "source=$source,fsname=$source,subtype={subtype},{passthrough_options}$options" "$point"
""",
}
UNMOUNTS = {
    "served": '{zipfs} umount "$point" 2>>{log} >&2',
    "ingest": '{umount} "$point" && {zipfs} umount "$point{hidden}" 2>>{log} >&2',
    "passthrough": '{umount} "$point"',
}


def try_in(place: Place, sources: Path, cases: Sequence[str] = ()) -> Iterator[Outcome]:
    add_users(place.folder)
    environment = prepare_disk(place) if place.tree == "disk" else prepare_fuse(place)
    names = [f"generic/{case}" for case in cases or cases_of(sources)]
    try:
        yield from run_check(names, place, sources, environment)
    finally:
        for name in ("test", "scratch"):
            give_up(place.folder / name)
            give_up(place.folder / f"{name}{HIDDEN}")
        for device in environment["TEST_DEV"], environment["SCRATCH_DEV"]:
            if device.startswith("/dev/"):  # no namespace has loop devices of its own
                subprocess.run(["losetup", "-d", device], check=True)
    if place.is_zipfs:
        for name in ("test", "scratch"):
            for found in check_store(place, place.folder / f"{name}-store"):
                yield Outcome(found.group, f"{name}: {found.test}", found.verdict, found.words)


def add_users(folder: Path) -> None:
    """Put the users of xfstests into copies of the system's lists, which only this mount namespace sees."""
    for name, line in (("passwd", "{0}:x:{1}:{1}::/tmp:/bin/bash\n"), ("group", "{0}:x:{1}:\n")):
        lines = [line.format(user, FIRST_ID + number) for number, user in enumerate(USERS)]
        copy = folder / name
        copy.write_text(Path("/etc", name).read_text() + "".join(lines))
        subprocess.run(["mount", "--bind", copy, Path("/etc", name)], check=True)


def common_environment(folder: Path) -> dict[str, str]:
    for name in ("test", "scratch", "results"):
        (folder / name).mkdir()
    return {
        "TEST_DIR": str(folder / "test"),
        "SCRATCH_MNT": str(folder / "scratch"),
        "RESULT_BASE": str(folder / "results"),
        "HOST_OPTIONS": str(folder / "local.config"),
    }


def prepare_fuse(place: Place) -> dict[str, str]:
    """Programs that mount the tree, and the variables of local.config."""
    subtype = "zipfs" if place.is_zipfs else "tried"
    values = {
        "zipfs": str(ZIPFS),
        "options": " ".join(place.options),
        "passthrough": str(place.passthrough),
        "passthrough_options": PASSTHROUGH_OPTIONS,
        "subtype": subtype,
        "hidden": HIDDEN,
        "mount": str(shutil.which("mount")),
        "umount": str(shutil.which("umount")),
        "log": str(place.folder / "mount.log"),
    }
    programs = place.folder / "bin"
    programs.mkdir()
    for name, text in (("mount", MOUNT + MOUNTS[place.tree]), ("umount", UNMOUNT + UNMOUNTS[place.tree])):
        (programs / name).write_text(text.format(**values))
    for name, options in (("df", " -a"), ("findmnt", "")):
        (programs / name).write_text(LISTS.format(**values, program=f"{shutil.which(name)}{options}"))
    for path in programs.iterdir():
        path.chmod(0o755)
    return {
        **common_environment(place.folder),
        "FSTYP": "fuse",
        "FUSE_SUBTYP": f".{subtype}",
        "TEST_DEV": str(place.folder / "test-store"),
        "SCRATCH_DEV": str(place.folder / "scratch-store"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }


def prepare_disk(place: Place) -> dict[str, str]:
    """Two new ext4 in files. Raises Trouble where there are no loop devices."""
    environment = common_environment(place.folder) | {"FSTYP": "ext4"}
    for name in ("TEST", "SCRATCH"):
        image = place.folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(DISK_NBYTES)
        found = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
        if found.returncode != 0:
            raise Trouble(f"no loop device: {found.stderr.strip()}")
        environment[f"{name}_DEV"] = found.stdout.strip()
        subprocess.run(["mkfs.ext4", "-q", "-F", found.stdout.strip()], check=True)
    return environment


def cases_of(sources: Path) -> list[str]:
    """Numbers of cases: those that are named, then the quick ones."""
    left_out, named = set(LEFT_OUT.split()), NAMED.split()
    lines = (sources / "xfstests/tests/generic/group.list").read_text().splitlines()
    groups = {words[0]: set(words[1:]) for words in map(str.split, lines) if words and words[0].isdigit()}
    quick = [number for number, its in groups.items() if GROUP in its and not left_out & its and number not in named]
    return [*(number for number in named if number in groups), *quick]


def run_check(names: Sequence[str], place: Place, sources: Path, environment: dict[str, str]) -> Iterator[Outcome]:
    config = "".join(f"export {key}={value}\n" for key, value in environment.items() if key != "PATH")
    Path(environment["HOST_OPTIONS"]).write_text(config)
    process = subprocess.Popen(
        ["./check", *names], cwd=sources / "xfstests", env=os.environ | environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    log = (place.folder / "check.log").open("w")
    watch = Watch(process.pid)
    watch.start()
    name, lines, seen = "", [""], set[str]()
    for line in process.stdout:
        log.write(line)
        log.flush()
        found = RESULT.match(line)
        if line.startswith("Ran:"):
            break
        if found is None:
            lines.append(line.strip())
            continue
        if name and name not in seen:
            seen.add(name)
            yield outcome_of(name, lines, watch)
        name, lines = found[1], [found[2]]
    if name and name not in seen:
        seen.add(name)
        yield outcome_of(name, lines, watch)
    watch.is_over = True
    time.sleep(1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.close()
    for missing in [one for one in names if one not in seen]:
        yield Outcome("generic", missing.removeprefix("generic/"), FAIL, "did not run")


def outcome_of(name: str, lines: list[str], watch: Watch) -> Outcome:
    case = name.removeprefix("generic/")
    words = shorten(" ; ".join(line for line in lines if line and not line.startswith("(Run")))
    if name in watch.ended:
        return Outcome("generic", case, FAIL, f"more than {TEST_S:.0f} s")
    if "[not run]" in words or "[expunged]" in words:
        return Outcome("generic", case, SKIP, words)
    is_right = re.fullmatch(r"(\d+s)?", lines[0].strip()) is not None and len([line for line in lines[1:] if line]) == 0
    return Outcome("generic", case, PASS if is_right else FAIL, "" if is_right else words)


class Watch(threading.Thread):
    """Ends tests that take too long: they are descendants of `check` that run tests/generic/NNN."""

    def __init__(self, check: int) -> None:
        super().__init__(daemon=True)
        self._check = check
        self._since: dict[tuple[int, str], float] = {}
        self.ended: set[str] = set()
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            time.sleep(1)
            parents, tests = processes()
            now = time.monotonic()
            self._since = {one: self._since.get(one, now) for one in tests.items()}
            for (pid, name), since in self._since.items():
                if now - since > TEST_S:
                    self.ended.add(name)
                    for one in [pid, *descendants(pid, parents)]:
                        with suppress(ProcessLookupError):
                            os.kill(one, signal.SIGKILL)


def processes() -> tuple[dict[int, int], dict[int, str]]:
    """Parents of all processes of this namespace, and those that run a test, with its name."""
    parents, tests = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
            found = re.search(rb"tests/(generic/\d+)$", words[1])
            if found and b"bash" in words[0]:
                tests[int(folder.name)] = found[1].decode()
    return parents, {pid: name for pid, name in tests.items() if parents[pid] not in tests}


def descendants(pid: int, parents: dict[int, int]) -> list[int]:
    children = [child for child, parent in parents.items() if parent == pid]
    return [one for child in children for one in (child, *descendants(child, parents))]
