"""Cases of try_clients: trees that come and go as a whole, by copying, rsync and tar."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tools.clients.models import (
    fingerprint,
    language_model,
    load_language_model,
    load_pipeline,
    pipeline,
    pipeline_fingerprint,
    whose,
)
from tools.clients.side import ZIPFS, Side, difference, names, run, sha256, tree

CHUNKS = 4


class Watch(threading.Thread):
    """Looks for a served pipeline all the time: what is there the moment that its directory appears?"""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._stopped = threading.Event()
        self.seen: list[str] = []
        self.error = ""
        self.found: Any = None

    def run(self) -> None:
        while not self._stopped.is_set() and not self._directory.exists():
            time.sleep(0.005)
        if self._directory.exists():
            self.seen = names(self._directory)
            try:
                self.found = load_pipeline(self._directory)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is what a user would have met
                self.error = f"{type(error).__name__}: {error}"[:200]

    def finish(self) -> None:
        self._stopped.set()
        self.join(120)


def copy_slowly(source: Path, target: Path, pause_s: float) -> None:
    """File by file and piece by piece, the description of the pipeline last, never idle for as long as --quiet."""
    files = sorted(
        (path for path in source.rglob("*") if path.is_file()), key=lambda path: path.name.endswith("index.json")
    )
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        pieces = CHUNKS if len(content) > 1_000_000 else 1
        with place.open("wb") as file:
            for number in range(pieces):
                file.write(content[len(content) * number // pieces : len(content) * (number + 1) // pieces])
                file.flush()
                time.sleep(pause_s if pieces == 1 else 1.7 * pause_s)


def diffusion_pipeline(side: Side) -> None:
    """A pipeline that comes slowly is served at once, when it is complete."""
    made = pipeline(10, side.scratch)
    made.save_pretrained(side.scratch / "pipe")
    expected, files = pipeline_fingerprint(made), tree(side.scratch / "pipe")
    pause_s = 0.7 * side.quiet_s if side.is_mount else 0.0

    def slowly(part: Any) -> None:
        save = part.save_pretrained

        def save_and_pause(*arguments: Any, **options: Any) -> Any:
            found = save(*arguments, **options)
            time.sleep(pause_s)
            return found

        part.save_pretrained = save_and_pause

    for name in ("copied", "saved"):
        served = side.served / name
        watch = Watch(served)
        if side.is_mount:
            watch.start()
        if name == "copied":
            copy_slowly(side.scratch / "pipe", side.target / name, pause_s)
        else:
            for part in (made.unet, made.vae, made.text_encoder, made.scheduler):
                slowly(part)
            made.save_pretrained(side.target / name)
        side.wait_until_served()
        if not side.is_mount:
            watch.start()
        watch.finish()
        side.note(f"{name} slowly: there from the first moment", watch.seen)
        side.note(f"{name} slowly: loads at that moment", watch.error or pipeline_fingerprint(watch.found) == expected)
        side.note(f"{name} slowly: files in the end", difference(files, tree(served)))


def copy_and_load(side: Side) -> None:
    """A model that is copied onto a mount loads at once, and all the time while it is compressed."""
    one, other = language_model(18), language_model(19)
    known = {"the old": fingerprint(one), "the new": fingerprint(other)}
    one.save_pretrained(side.scratch / "model", max_shard_size="10MB")
    other.save_pretrained(side.scratch / "other", max_shard_size="10MB")
    command = ["true"] if not side.is_mount else [str(ZIPFS), "wait", "--timeout", "120", str(side.served)]
    for title, copy, source in (
        ("cp -r", ("cp", "-r"), side.scratch / "model"),
        ("cp -r over it", ("cp", "-rT"), side.scratch / "other"),
        ("cp -a within", ("cp", "-a"), side.served / "model"),
        ("mv", ("mv",), side.scratch / "model"),
    ):
        target = side.target / ("model" if title.startswith("cp -r") else title.replace(" ", "-"))
        files = tree(source)
        run(*copy, source, target)
        side.note(f"{title}: files at once", difference(files, tree(target)))
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = set()
        while waiting.poll() is None:
            seen.add(whose(fingerprint(load_language_model(target)), **known))
        seen.add(whose(fingerprint(load_language_model(target)), **known))
        side.note(f"{title}: loaded meanwhile", sorted(seen))
        side.note(f"{title}: zipfs wait", waiting.returncode)
        side.note(f"{title}: files in the end", difference(files, tree(target)))


def rsync(side: Side) -> None:
    """A second rsync of a model has nothing to copy; --delete and changes arrive with the next files."""
    source, target, served = side.scratch / "src", side.target / "r", side.served / "r"
    made: list[Path] = []

    def make(name: str, nbytes: int) -> None:
        """Each an hour younger than the one before: rsync takes what is as old and as large for the same."""
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(len(made)).randbytes(nbytes))
        made.append(path)
        os.utime(path, (1_700_000_000 + 3600 * len(made),) * 2)

    def copy(*options: str, to: Path = target) -> list[str]:
        """What rsync does to files, told by itself."""
        said = run("rsync", "-a", "--out-format=%i %n", *options, f"{source}/", to)
        return sorted(line for line in said.splitlines() if not line.endswith("/"))

    for number, name in enumerate(("config.json", "a.safetensors", "b.safetensors", "deep/c.bin", "deep/er/d.bin")):
        make(name, 300_000 + number)
    copy()
    side.outlast_linger()
    side.note("files", difference(tree(source), tree(served)))
    side.note("again", copy())
    side.note("again, by sums", copy("--checksum"))
    side.note("again, onto the served tree, dry", copy("-n", to=served))
    for name in ("deep/c.bin", "b.safetensors"):
        (source / name).unlink()
    make("a.safetensors", 310_000)
    make("deep/new.bin", 1000)
    side.note("--delete with changes", copy("--delete"))
    side.outlast_linger()
    side.note("--delete with changes: files", difference(tree(source), tree(served)))
    (source / "deep" / "er" / "d.bin").unlink()
    side.note("--delete of one file", copy("--delete"))
    side.outlast_linger()
    side.note("--delete of one file: served", (served / "deep" / "er" / "d.bin").exists(), promised=True)
    for option in ("--inplace", "--whole-file", "--partial"):
        make("a.safetensors", 310_000)
        side.note(option, copy(option))
        side.note(f"{option}, again", copy(option))
        side.wait_until_served()
        side.note(f"{option}: served", sha256(served / "a.safetensors") == sha256(source / "a.safetensors"))
        side.outlast_linger()
    side.note("again in the end", copy("--delete"))


def sparse_tar(side: Side) -> None:
    """`tar -S` of models that take next to nothing, being the same as others, holds every byte."""
    language_model(15, layers=1, width=64).save_pretrained(side.scratch / "one")
    (side.scratch / "one" / "zeros.bin").write_bytes(bytes(3_000_000))
    for name in ("one", "two"):
        run("cp", "-r", side.scratch / "one", side.target / name)
        side.wait_until_served()
    for place, title in ((side.served, "served"), (side.target, "where it was written")):
        archive, out = side.scratch / f"{title[:5]}.tar", side.scratch / f"out-{title[:5]}"
        out.mkdir()
        run("tar", "-C", place, "-cSf", archive, "one", "two")
        run("tar", "-C", out, "-xf", archive)
        for name in ("one", "two"):
            side.note(f"{title}: {name}", difference(tree(side.scratch / "one"), tree(out / name)))
        side.note(f"{title}: tar -d", run("tar", "-C", place, "-df", archive, check=False))
