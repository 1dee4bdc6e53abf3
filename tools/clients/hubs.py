"""Cases of try_clients: git, hubs and downloaders."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.clients.models import fingerprint, language_model, load_language_model
from tools.clients.server import Hub, serving
from tools.clients.side import Side, difference, digest, excluding, names, run, sha256, status, tree

AS_SOMEBODY = {f"GIT_{who}_{what}": "a@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")} | {
    f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")
}
"""Commits have the same names on all sides."""


def git_clone(side: Side) -> None:
    """A clone is served without .git, which `zipfs wait` tells of; a pull brings what has changed."""
    origin, clone, served = side.scratch / "origin", side.target / "repo", side.served / "repo"
    side.varying = ("*/.git/*",)
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
    if side.is_ingest:
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


def git_work(side: Side) -> None:
    """A repository that people work in: commits, branches, a merge, a pull, gc, a worktree and a push."""
    origin, clone, other = side.scratch / "origin.git", side.target / "repo", side.target / "other"
    side.varying = ("*/.git/*",)

    def git(where: Path, *arguments: object) -> str:
        return run("git", "-C", where, *arguments, environment=AS_SOMEBODY)

    def write(where: Path, name: str, seed: int) -> None:
        language_model(seed, layers=1, width=64).save_pretrained(where / name)
        with (where / "log.txt").open("a") as file:
            file.write(f"{name} {seed}\n")
        git(where, "add", "-A")
        git(where, "commit", "-qm", f"{name} {seed}")

    def look(title: str, where: Path) -> None:
        side.note(f"{title}: git status", git(where, "status", "--porcelain"))
        side.note(f"{title}: git log", git(where, "log", "--format=%h %s").splitlines())
        side.note(f"{title}: git fsck", run("git", "-C", where, "fsck", "--full", check=False)[-11:])
        side.note(f"{title}: files", digest(excluding(tree(where, ".git"), (".git",))))

    run("git", "init", "-q", "--bare", "-b", "main", origin)
    for place in (clone, other):
        run("git", "clone", "-q", origin, place)
        git(place, "checkout", "-q", "-B", "main")
    write(clone, "a", 31)
    git(clone, "push", "-q", "-u", "origin", "main")
    git(other, "pull", "-q", "origin", "main")
    side.seal_pause()
    look("cloned", other)
    for turn in (1, 2):
        write(clone, "a", 40 + turn)
        git(clone, "branch", f"side{turn}", "HEAD~1")
        git(clone, "push", "-q")
        (other / f"notes{turn}.txt").write_text("of another one\n")
        git(other, "add", "-A")
        git(other, "commit", "-qm", f"notes {turn}")
        side.seal_pause()
        git(other, "pull", "-q", "--no-rebase", "--no-commit", "origin", "main")
        git(other, "commit", "-qm", f"merge {turn}")  # what git says itself has the path in it
        git(other, "push", "-q", "origin", "HEAD:main")
        git(clone, "pull", "-q", "--ff-only")
        look(f"merged, turn {turn}", clone)
        git(clone, *(("gc", "-q", "--prune=now"), ("repack", "-adfq"))[turn - 1])
        side.wait_until_served()
        look(f"packed, turn {turn}", clone)
    git(clone, "worktree", "add", "-q", side.target / "beside", "side1")
    (clone / "log.txt").write_text("changed\n")
    git(clone, "stash")
    git(clone, "reset", "-q", "--hard", "HEAD~2")
    look("taken back", clone)
    look("worktree", side.target / "beside")
    side.wait_until_served()
    git(clone, "pull", "-q", "--ff-only")
    look("pulled again", clone)
    git(clone, "worktree", "remove", side.target / "beside")
    git(clone, "stash", "drop", "-q")


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
    run("cp", "-a", side.scratch / "hub", side.target)
    side.wait_until_served()
    side.note("files", difference(tree(side.scratch / "hub"), tree(side.served / "hub")))
    served = side.served / "hub" / cached.name / "snapshots" / revision
    side.note("weights", fingerprint(load_language_model(served)) == fingerprint(model))


def hub_download(side: Side) -> None:
    """`hf download` into a directory and into a cache, each of them twice and once more after a new commit."""
    model = language_model(14, layers=1, width=64)
    source = side.scratch / "m"
    model.save_pretrained(source)
    files = tree(source)
    hf = Path(sys.executable).parent / "hf"
    hub = Hub(source)
    side.varying = ("direct/.cache/*", "hub/.locks/*")
    with serving(hub) as url:
        settings = {
            "HF_ENDPOINT": url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HOME": str(side.scratch / "home"),
        }
        served, snapshots = side.served / "direct", side.served / "hub" / "models--org--name" / "snapshots"
        for turn in ("once", "again"):
            run(hf, "download", "org/name", "--local-dir", side.target / "direct", environment=settings)
            run(hf, "download", "org/name", "--cache-dir", side.target / "hub", environment=settings)
            side.outlast_linger()
            side.note(f"--local-dir {turn}: files", difference(files, tree(served, ".cache")))
            side.note(f"--cache-dir {turn}: snapshots", names(snapshots))
            found = load_language_model(snapshots / names(snapshots)[0])
            side.note(f"--cache-dir {turn}: weights", fingerprint(found) == fingerprint(model))
            side.note(f"{turn}: files fetched", sorted(hub.fetched))
            hub.fetched.clear()
        (source / "README.md").write_text("new\n")
        language_model(16, layers=1, width=64).save_pretrained(source)
        run(hf, "download", "org/name", "--local-dir", side.target / "direct", environment=settings)
        run(hf, "download", "org/name", environment={**settings, "HF_HUB_CACHE": str(side.target / "hub")})
        side.wait_until_served()
        side.note("new commit, --local-dir: files", difference(tree(source), tree(served, ".cache")))
        side.note("new commit, HF_HUB_CACHE: snapshots", names(snapshots))
        current = snapshots / (snapshots.parent / "refs" / "main").read_text()
        side.note("new commit, HF_HUB_CACHE: files", difference(tree(source), contents(current)))
        side.note("new commit: files fetched", sorted(hub.fetched))


def contents(directory: Path) -> dict[str, str]:
    """The files of a snapshot, through its links."""
    return {name: sha256(directory / name) for name in tree(directory)}


def aria2(side: Side) -> None:
    """What aria2 has not finished is not served, however long it rests; what it resumes to the end is."""
    source = side.scratch / "www"
    source.mkdir()
    (source / "model.safetensors").write_bytes(random.Random(17).randbytes(12_000_000))
    target, served = side.target / "a2", side.served / "a2" / "model.safetensors"
    with serving(Hub(source)) as url:
        command = ["aria2c", "-q", "-x4", "-s4", "-k1M", "-c", "-d", str(target), f"{url}/plain/model.safetensors"]
        process = subprocess.Popen([*command, "--max-download-limit=2M"])
        side.until((target / "model.safetensors.aria2").exists, "aria2 to begin")
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        time.sleep(side.quiet_s + 1)
        side.note("interrupted: where it writes", names(target))
        said = side.wait_until_served()
        side.note("interrupted: served", served.exists(), promised=False)
        if side.is_ingest:
            told = "model.safetensors" in said
            side.note("interrupted: zipfs wait", (said[:11], told), promised=("exit code 1", True))
        side.pause(side.quiet_s + 5)
        run(*command)
    side.wait_until_served()
    side.note("resumed: served", sha256(served) == sha256(source / "model.safetensors"))
    side.note("resumed: names", names(served.parent))
