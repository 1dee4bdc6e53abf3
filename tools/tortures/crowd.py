"""Many players on one mount at once, watched so that none hangs; and the mount looked at when they have ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.tortures.mounts import OPTIONS, Hangs, Served, abort

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 120.0
"""Whoever begins nothing for so long hangs."""


@dataclass(slots=True)
class Found:
    """What came of it."""

    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.steps += other.steps
        self.counts += other.counts
        self.wrong += other.wrong


@dataclass(slots=True)
class _Playing:
    seed: int
    process: subprocess.Popen[str]
    beat: Path
    said: Path


def play_plain(folder: Path, seeds: Sequence[int], operations: int, at_most: int) -> Found:
    """On a plain directory: whether the tool itself is right."""
    (folder / "disk").mkdir()
    found = Found()
    _play(folder, folder / "disk", seeds, operations, at_most, found, is_plain=True)
    return found


def play_mounted(folder: Path, seeds: Sequence[int], operations: int, at_most: int, options: Sequence[str]) -> Found:
    """On a new store; each file is compared once more after the next mount, and the whole store is checked."""
    served = Served(folder / "store", folder / "mnt", options=(*OPTIONS, *options))
    found = Found()
    try:
        served.make()
        served.start()
        files = _play(folder, served.point, seeds, operations, at_most, found, is_plain=False)
        served.read_log()
        served.umount()
        served.start()
        found.wrong += _differences(served.point, files)
        if not served.wait_until_stored(60.0):
            found.wrong.append("not everything is compressed a minute after the last operation")
        found.wrong += _differences(served.point, files)
        found.wrong += served.left_in_spool()
        served.umount()
        found.wrong += [f"fsck: {problem}" for problem in served.problems(read_data=True)]
    except Hangs as error:
        found.wrong.append(str(error))
    finally:
        served.abort()
    found.counts += served.counts
    found.wrong += [f"log: {line}" for line in served.trouble]
    return found


def _play(
    folder: Path, root: Path, seeds: Sequence[int], operations: int, at_most: int, found: Found, *, is_plain: bool
) -> dict[str, str]:
    """Let a player a seed have a directory each; path -> sum of what has to be there at the end."""
    playing = [_start(folder, root, seed, operations, at_most, is_plain) for seed in seeds]
    beats = {player.seed: ("", time.monotonic()) for player in playing}
    told_s = time.monotonic()
    try:
        while running := [player for player in playing if player.process.poll() is None]:
            time.sleep(0.2)
            for player in running:
                words = _last_words(player.beat)
                if words != beats[player.seed][0]:
                    beats[player.seed] = (words, time.monotonic())
                elif time.monotonic() - beats[player.seed][1] > PATIENCE_S:
                    stack = "".join(
                        path.read_text() for path in Path(f"/proc/{player.process.pid}/task").glob("*/stack")
                    )
                    found.wrong.append(f"seed {player.seed} hangs in {words}\n{stack}")
                    abort(root)
                    player.process.kill()
            if time.monotonic() - told_s > 60:
                told_s = time.monotonic()
                at = {player.seed: _last_words(player.beat).partition(":")[0] for player in playing}
                print(f"torture: at {' '.join(f'{seed}:{step}' for seed, step in at.items())}", flush=True)
    finally:
        for player in playing:
            if player.process.poll() is None:
                player.process.kill()
    files: dict[str, str] = {}
    for player in playing:
        files |= _take(player, root, found)
    return files


def _start(folder: Path, root: Path, seed: int, operations: int, at_most: int, is_plain: bool) -> _Playing:
    (root / f"s{seed}").mkdir()
    beat, said = folder / f"beat-{seed}", folder / f"said-{seed}"
    command = [
        sys.executable, "-m", "tools.tortures.operations", str(root / f"s{seed}"), "--seed", str(seed),
        "--operations", str(operations), "--at-most", str(at_most), "--beat", str(beat), *(["--plain"] * is_plain),
    ]  # fmt: skip
    with said.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    return _Playing(seed, process, beat, said)


def _last_words(beat: Path) -> str:
    with suppress(OSError):
        return beat.read_text(errors="replace").partition("\n")[0]
    return ""


def _take(player: _Playing, root: Path, found: Found) -> dict[str, str]:
    said, _ = player.process.communicate()
    try:
        document: dict[str, Any] = json.loads(said)
    except ValueError:
        errors = player.said.read_text(errors="replace")[-3000:]
        words = f"ended with {player.process.returncode} in {_last_words(player.beat)}\n{errors}"
        found.wrong.append(f"seed {player.seed} {words}")
        return {}
    found.steps += document["steps"]
    found.counts += Counter(document["counts"])
    if document["wrong"]:
        found.wrong.append(f"seed {player.seed}, operation {document['steps']}: {document['wrong']}")
        return {}
    return {str(Path(root.name, f"s{player.seed}", name)): value for name, value in document["files"].items()}


def _differences(root: Path, files: dict[str, str]) -> list[str]:
    """Compare all files with their sums, in a child: this process never waits in a mount."""
    code = (
        "import hashlib, json, sys\n"
        "for name, value in json.load(sys.stdin).items():\n"
        "    with open(name, 'rb') as file:\n"
        "        if hashlib.file_digest(file, 'sha256').hexdigest() != value: print(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(files), capture_output=True, text=True, cwd=root.parent,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    wrong = [f"{name} is not what was written, after the next mount" for name in done.stdout.splitlines()]
    return wrong if done.returncode == 0 else [*wrong, f"after the next mount: {done.stderr[-1000:]}"]
