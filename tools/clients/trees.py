"""Cases of try_clients: trees that come and go as a whole, by copying, git, hubs, archivers and downloaders."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
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
)
from tools.clients.server import Hub, serving
from tools.clients.side import QUIET_S, Side, difference, names, run, sha256, status, tree

SLOW_PAUSE_S = 0.7 * QUIET_S
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
                time.sleep(pause_s if pieces == 1 else QUIET_S * 1.2 if pause_s else 0)


def diffusion_pipeline(side: Side) -> None:
    """A pipeline that comes slowly is served at once, when it is complete."""
    made = pipeline(10, side.scratch)
    made.save_pretrained(side.scratch / "pipe")
    expected, files = pipeline_fingerprint(made), tree(side.scratch / "pipe")
    pause_s = SLOW_PAUSE_S if side.is_mount else 0.0

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
            copy_slowly(side.scratch / "pipe", side.ingest / name, pause_s)
        else:
            for part in (made.unet, made.vae, made.text_encoder, made.scheduler):
                slowly(part)
            made.save_pretrained(side.ingest / name)
        side.wait_until_served()
        if not side.is_mount:
            watch.start()
        watch.finish()
        side.note(f"{name} slowly: there from the first moment", watch.seen)
        side.note(f"{name} slowly: loads at that moment", watch.error or pipeline_fingerprint(watch.found) == expected)
        side.note(f"{name} slowly: files in the end", difference(files, tree(served)))


def git_clone(side: Side) -> None:
    """A clone is served without .git, which `zipfs wait` tells of; a pull brings what has changed."""
    origin, clone, served = side.scratch / "origin", side.ingest / "repo", side.served / "repo"
    model = language_model(11, layers=1, width=64)
    model.save_pretrained(origin)
    (origin / "notes.txt").write_text("old\n")
    git = ("git", "-C", origin, "-c", "user.name=a", "-c", "user.email=a@localhost")
    run("git", "init", "-q", "-b", "main", origin)
    run(*git, "add", ".")
    run(*git, "commit", "-qm", "first")
    run("git", "clone", "-q", origin, clone)
    said = side.wait_until_served()
    side.note("cloned: files", difference(tree(origin, ".git"), tree(served, ".git")))
    side.note("cloned: .git is served", (served / ".git").exists(), promised=False)
    if side.is_mount:
        told = re.search(r"repo/\.git[^\n]*", said)
        kept = [one for one in status(side)["kept"] if one["path"] == "repo/.git"]
        disk = sum(path.lstat().st_size for path in (clone / ".git").rglob("*") if path.is_file())
        side.note("zipfs wait", (said[:11], told is not None), promised=("exit code 0", True))
        side.note("its sum is that of .git", [one["nbytes"] for one in kept], promised=[disk])
    side.outlast_linger()
    language_model(12, layers=1, width=64).save_pretrained(origin)
    (origin / "notes.txt").unlink()
    (origin / "new.txt").write_text("new\n")
    run(*git, "add", "-A")
    run(*git, "commit", "-qm", "second")
    side.note("git status before", run("git", "status", "--porcelain", cwd=clone))
    run("git", "pull", "-q", cwd=clone)
    side.wait_until_served()
    side.note("pulled: files", difference(tree(origin, ".git"), tree(served, ".git")))
    side.note(
        "git status, log", run("git", "status", "--porcelain", cwd=clone) + run("git", "log", "--format=%s", cwd=clone)
    )
    side.note("git fsck", run("git", "fsck", cwd=clone, check=False)[-11:])


def hub_cache(side: Side) -> None:
    """A copied cache of huggingface_hub is loaded by the path of a snapshot, through its symbolic links."""
    model = language_model(13, layers=1, width=64)
    model.save_pretrained(side.scratch / "m")
    revision = "0123456789abcdef" * 2 + "01234567"
    cached = side.scratch / "hub" / "models--org--name"
    snapshot = cached / "snapshots" / revision
    for folder in (cached / "blobs", cached / "refs", snapshot):
        folder.mkdir(parents=True)
    (cached / "refs" / "main").write_text(revision)
    for path in sorted((side.scratch / "m").iterdir()):
        blob = sha256(path)
        shutil.copy(path, cached / "blobs" / blob)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob))
    run("cp", "-a", side.scratch / "hub", side.ingest)
    side.wait_until_served()
    side.note("files", difference(tree(side.scratch / "hub"), tree(side.served / "hub")))
    served = side.served / "hub" / cached.name / "snapshots" / revision
    side.note("weights", fingerprint(load_language_model(served)) == fingerprint(model))


def hub_download(side: Side) -> None:
    """`hf download` into a directory and into a cache below ingest/, each of them twice."""
    model = language_model(14, layers=1, width=64)
    source = side.scratch / "m"
    model.save_pretrained(source)
    files = tree(source)
    hf = Path(sys.executable).parent / "hf"
    hub = Hub(source)
    with serving(hub) as url:
        settings = {
            "HF_ENDPOINT": url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HOME": str(side.scratch / "home"),
        }
        for turn in ("once", "again"):
            run(hf, "download", "org/name", "--local-dir", side.ingest / "direct", environment=settings)
            run(hf, "download", "org/name", "--cache-dir", side.ingest / "hub", environment=settings)
            side.outlast_linger()
            served = side.served / "direct"
            side.note(f"--local-dir {turn}: files", difference(files, tree(served, ".cache")))
            snapshots = side.served / "hub" / "models--org--name" / "snapshots"
            side.note(f"--cache-dir {turn}: snapshots", names(snapshots))
            found = load_language_model(snapshots / names(snapshots)[0])
            side.note(f"--cache-dir {turn}: weights", fingerprint(found) == fingerprint(model))
            side.note(f"{turn}: files fetched", sorted(hub.fetched))
            hub.fetched.clear()
        (source / "README.md").write_text("new\n")
        run(hf, "download", "org/name", "--local-dir", side.ingest / "direct", environment=settings)
        side.wait_until_served()
        side.note("--local-dir, one file new: files", difference(tree(source), tree(side.served / "direct", ".cache")))


def aria2(side: Side) -> None:
    """What aria2 has not finished is not served, however long it rests; what it resumes to the end is."""
    source = side.scratch / "www"
    source.mkdir()
    (source / "model.safetensors").write_bytes(os.urandom(12_000_000))
    target, served = side.ingest / "a2", side.served / "a2" / "model.safetensors"
    with serving(Hub(source)) as url:
        command = ["aria2c", "-q", "-x4", "-s4", "-k1M", "-c", "-d", str(target), f"{url}/plain/model.safetensors"]
        process = subprocess.Popen([*command, "--max-download-limit=2M"])
        side.until((target / "model.safetensors.aria2").exists, "aria2 to begin")
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        time.sleep(QUIET_S + 1)
        side.note("interrupted: below ingest/", names(target))
        said = side.wait_until_served()
        side.note("interrupted: served", served.exists(), promised=False)
        if side.is_mount:
            told = "model.safetensors" in said
            side.note("interrupted: zipfs wait", (said[:11], told), promised=("exit code 1", True))
        side.pause(QUIET_S + 5)
        run(*command)
    side.wait_until_served()
    side.note("resumed: served", sha256(served) == sha256(source / "model.safetensors"))
    side.note("resumed: names", names(served.parent))


def rsync(side: Side) -> None:
    """A second rsync of a model has nothing to copy; --delete and changes arrive with the next files."""
    source, target, served = side.scratch / "src", side.ingest / "r", side.served / "r"
    made: list[Path] = []

    def make(name: str, nbytes: int) -> None:
        """Each an hour younger than the one before: rsync takes what is as old and as large for the same."""
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(nbytes))
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
        side.wait_until_served()
        side.note(f"{option}: served", sha256(served / "a.safetensors") == sha256(source / "a.safetensors"))
        side.outlast_linger()
    side.note("again in the end", copy("--delete"))


def sparse_tar(side: Side) -> None:
    """`tar -S` of models that take next to nothing, being the same as others, holds every byte."""
    language_model(15, layers=1, width=64).save_pretrained(side.scratch / "one")
    (side.scratch / "one" / "zeros.bin").write_bytes(bytes(3_000_000))
    for name in ("one", "two"):
        run("cp", "-r", side.scratch / "one", side.ingest / name)
        side.wait_until_served()
    for place, title in ((side.served, "served"), (side.ingest, "below ingest/")):
        archive, out = side.scratch / f"{title[:5]}.tar", side.scratch / f"out-{title[:5]}"
        out.mkdir()
        run("tar", "-C", place, "-cSf", archive, "one", "two")
        run("tar", "-C", out, "-xf", archive)
        for name in ("one", "two"):
            side.note(f"{title}: {name}", difference(tree(side.scratch / "one"), tree(out / name)))
        side.note(f"{title}: tar -d", run("tar", "-C", place, "-df", archive, check=False))
