"""Puts the models into whatever serves them: a ZipFS store, one of lmz, images of squashfs and btrfs.

What is there is kept: each is made under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.benchmarks.reading.contenders import BIN, EXTRA_BIN, Trouble, run

BASES = "bases.json"
"""Beside the store: name of each base -> its packs."""
ZSTD_LEVEL = 3
"""Of squashfs and btrfs, which write at different levels by default and read all of them equally fast."""

Say = Callable[[str], None]


def fill_store(folder: Path, names: Sequence[str], bases: Sequence[str], say: Say) -> None:
    """Ingest each model, one after the other, so that every pack holds frames of one model only."""
    if (folder / "store").exists():
        return
    partial = folder / "store.part"
    shutil.rmtree(partial, ignore_errors=True)
    packs: dict[str, list[str]] = {}
    known: set[str] = set()
    for name in names:
        say(f"zipfs ingest {name}")
        run(BIN / "zipfs", "ingest", partial, folder / "models" / name)
        found = {path.name for path in (partial / "packs").glob("*.pack")}
        packs[name] = sorted(found - known)
        known = found
    (folder / BASES).write_text(json.dumps({name: packs[name] for name in bases}) + "\n")
    _replace(partial, folder / "store")


def base_packs(folder: Path, base: str) -> list[Path]:
    """The packs that hold a base and nothing else."""
    names: list[str] = json.loads((folder / BASES).read_text())[base]
    return [folder / "store" / "packs" / name for name in names]


def fill_lmz(folder: Path, names: Sequence[str], say: Say) -> None:
    target, partial = folder / "lmz", folder / "lmz.part"
    if target.exists():
        return
    if not (EXTRA_BIN / "lmz").exists():
        raise Trouble("lmz is not installed")
    shutil.rmtree(partial, ignore_errors=True)
    for name in names:
        say(f"lmz add {name}")
        run(EXTRA_BIN / "lmz", "add", "-q", "--store", partial, "--name", name, folder / "models" / name)
    _replace(partial, target)


def fill_squashfs(folder: Path, names: Sequence[str], say: Say) -> None:
    target, partial = folder / "squashfs.img", folder / "squashfs.part"
    if target.exists():
        return
    partial.unlink(missing_ok=True)
    say(f"mksquashfs {' '.join(names)}")
    sources = [folder / "models" / name for name in names]
    options = ("-comp", "zstd", "-Xcompression-level", str(ZSTD_LEVEL), "-no-progress", "-quiet", "-keep-as-directory")
    run("mksquashfs", *sources, partial, *options)
    _replace(partial, target)


def fill_btrfs(folder: Path, names: Sequence[str], say: Say, scratch: Path) -> None:
    """`scratch` is an empty directory to mount on."""
    target, partial = folder / "btrfs.img", folder / "btrfs.part"
    if target.exists():
        return
    partial.unlink(missing_ok=True)
    sources = [folder / "models" / name for name in names]
    nbytes = sum(path.stat().st_size for source in sources for path in source.iterdir())
    with partial.open("wb") as file:
        file.truncate(nbytes + (512 << 20))
    run("mkfs.btrfs", "-q", partial)
    # Forced: what btrfs samples of weights makes it give up compressing them.
    run("mount", "-o", f"loop,compress-force=zstd:{ZSTD_LEVEL}", partial, scratch)
    try:
        for source in sources:
            say(f"cp to btrfs: {source.name}")
            run("cp", "-r", source, scratch)
    finally:
        run("umount", scratch)
    _replace(partial, target)


def _replace(partial: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def stored_nbytes(path: Path) -> int:
    """Bytes on the disk of a file, or of all that a directory holds."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(found.lstat().st_blocks * 512 for found in paths)


def drop_caches() -> None:
    """Forget what the kernel has cached of every disk; what a process has mapped and used stays."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def count_drops() -> int:
    """How often anybody has dropped the page cache since the machine was started."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("drop_pagecache "):
            return int(line.split()[1])
    return 0


def warm(paths: Sequence[Path]) -> None:
    """Have the kernel cache these files."""
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def machine(folder: Path) -> dict[str, str]:
    """What a figure is worth nothing without."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        os.uname().machine,
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    mount = subprocess.run(
        ["findmnt", "-no", "FSTYPE,SOURCE", "--target", folder], capture_output=True, text=True, check=False
    )
    revision = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "memory": f"{memory:.0f} GiB",
        "disk": " on ".join(mount.stdout.split()) or "unknown",
        "kernel": os.uname().release,
        "load": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
        "revision": revision.stdout.strip() or "unknown",
    }
