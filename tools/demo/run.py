"""The steps of tools/quickstart after everything is installed.

Whatever happens on the way, the mount is gone at the end.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table
from safetensors import deserialize

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
NEEDED_NBYTES = 1_200_000_000
CHUNK_NBYTES = 1 << 20


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def zipfs(*arguments: str | Path) -> None:
    run(BIN / "zipfs", *arguments)


@contextmanager
def step(what: str) -> Iterator[None]:
    print(f"{what} ...", flush=True)
    begin = time.monotonic()
    yield
    print(f"    {time.monotonic() - begin:.1f} s", flush=True)


def make_models(folder: Path) -> list[Path]:
    """The directories of a small family, which is the same on every machine."""
    run(sys.executable, HERE / "family.py", folder)
    return sorted(folder.iterdir())


def files_of(folder: Path) -> list[Path]:
    """Paths of all files below `folder`, relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())


def same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(CHUNK_NBYTES):
            if right.read(CHUNK_NBYTES) != chunk:
                return False
        return not right.read(1)


def compare(models: list[Path], mountpoint: Path) -> None:
    count = nbytes = 0
    for model in models:
        served = mountpoint / model.name
        if files_of(model) != files_of(served):
            sys.exit(f"quickstart: {served} does not have the same files as {model}")
        for name in files_of(model):
            if not same_bytes(model / name, served / name):
                sys.exit(f"quickstart: {served / name} differs from {model / name}")
            count += 1
            nbytes += (model / name).stat().st_size
    print(f"    {count} files, {nbytes / 1e6:.1f} MB, all equal")


def read_tensors(path: Path) -> dict[str, object]:
    """What the safetensors package makes of a file; unlike its NumPy front it knows BF16."""
    return dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]


def load(model: Path, mountpoint: Path) -> None:
    """Load one model with the safetensors package, from the mount and from where it came."""
    name = "model.safetensors"
    tensors = read_tensors(mountpoint / model.name / name)
    if tensors != read_tensors(model / name):
        sys.exit(f"quickstart: the tensors of {mountpoint / model.name / name} are not those of the original")
    print(f"    {model.name}: {len(tensors)} tensors, equal to the original's")


def file_sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the files below `folder`: as they read, and as they are stored (what du shows)."""
    stats = [(folder / name).lstat() for name in files_of(folder)]
    return sum(stat.st_size for stat in stats), sum(stat.st_blocks * 512 for stat in stats)


def disk_usage(folder: Path) -> int:
    """Bytes on disk of `folder` with everything in it, directories included."""
    du = subprocess.run(["du", "-s", "--block-size=1", folder], check=True, capture_output=True, text=True)
    return int(du.stdout.split()[0])


def print_markdown(sizes: dict[str, tuple[int, int]], store: Path) -> None:
    """The table as README.md has it."""
    print("| | files, MB | stored, MB | of its size |\n|---|---|---|---|")
    rows = [(name, *row, "") for name, row in sizes.items()]
    total = "the whole store", sum(raw for raw, _ in sizes.values()), disk_usage(store), "**"
    for name, raw, stored, bold in [*rows, total]:
        cells = (name, f"{raw / 1e6:.1f}", f"{stored / 1e6:.1f}", f"{100 * stored / raw:.1f} %")
        print("|", " | ".join(f"{bold}{cell}{bold}" for cell in cells), "|")


def print_table(sizes: dict[str, tuple[int, int]], store: Path) -> None:
    table = Table(title="What was saved")
    table.add_column("model")
    for title in ("files, MB", "stored, MB", "of its size", "times smaller"):
        table.add_column(title, justify="right")

    def add(name: str, raw: int, stored: int) -> None:
        share = f"{100 * stored / raw:.1f} %"
        table.add_row(name, f"{raw / 1e6:.1f}", f"{stored / 1e6:.1f}", share, f"{raw / max(stored, 1):.2f}")

    for name, (raw, stored) in sizes.items():
        add(name, raw, stored)
    table.add_section()
    add("the whole store, catalog included", sum(raw for raw, _ in sizes.values()), disk_usage(store))
    Console().print(table)


@contextmanager
def unmounted_on_failure(mountpoint: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        print(f"unmounting {mountpoint}", flush=True)
        try:
            subprocess.run([BIN / "zipfs", "umount", mountpoint], check=False)
        finally:
            subprocess.run(["fusermount3", "-u", "-z", "-q", mountpoint], check=False)
        raise


def demonstrate(folder: Path, given: Path | None, *, as_markdown: bool) -> None:
    """Store the models in `given`, or a family that is made here, and print what that took."""
    store, mountpoint = folder / "store", folder / "mnt"
    mountpoint.mkdir()
    if given is not None:
        models = sorted(path for path in given.iterdir() if path.is_dir())
    else:
        with step("making the models"):
            models = make_models(folder / "models")
    with unmounted_on_failure(mountpoint):
        with step(f"mounting a new store: zipfs mount {store} {mountpoint}"):
            zipfs("mount", store, mountpoint)
        with step(f"copying {len(models)} models in: cp -r MODEL {mountpoint / 'ingest'}"):
            for model in models:
                run("cp", "-r", model, mountpoint / "ingest")
        with step(f"waiting until they are compressed: zipfs wait {mountpoint}"):
            zipfs("wait", mountpoint)
        with step("mounting again, so that nothing is read from the kernel's cache"):
            zipfs("umount", mountpoint)
            zipfs("mount", store, mountpoint)
        with step("comparing every byte with the originals"):
            compare(models, mountpoint)
        with step("loading a model with safetensors"):
            load(next(model for model in models if (model / "model.safetensors").exists()), mountpoint)
        sizes = {model.name: file_sizes(mountpoint / model.name) for model in models}
        with step(f"unmounting: zipfs umount {mountpoint}"):
            zipfs("umount", mountpoint)
    (print_markdown if as_markdown else print_table)(sizes, store)


@contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    """`kept`, made if need be, or a temporary directory that is removed afterwards."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="zipfs-quickstart-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    kept.mkdir(parents=True, exist_ok=True)
    if any(kept.iterdir()):
        sys.exit(f"quickstart: {kept} is not empty; name a new or an empty directory")
    yield kept.resolve()
    print(f"Mount the store again with: {BIN / 'zipfs'} mount {kept.resolve() / 'store'} {kept.resolve() / 'mnt'}")


def stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/quickstart", description="Stores a family of models and compares it.")
    parser.add_argument("dir", nargs="?", type=Path, help="work here and keep what is made (default: temporary)")
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="store the models in it, one a directory, instead of made ones"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as README.md has it")
    arguments = parser.parse_args()
    if arguments.models is not None and not list(arguments.models.glob("*/model.safetensors")):
        sys.exit(f"quickstart: no directory in {arguments.models} holds a model.safetensors")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    begin = time.monotonic()
    try:
        with working_folder(arguments.dir) as folder:
            if shutil.disk_usage(folder).free < NEEDED_NBYTES:
                sys.exit(
                    f"quickstart: {folder} has less than {NEEDED_NBYTES / 1e9:.1f} GB free; name another directory"
                )
            demonstrate(folder, arguments.models, as_markdown=arguments.markdown)
    except subprocess.CalledProcessError as error:
        sys.exit(f"quickstart: exit code {error.returncode} of: {shlex.join(os.fspath(word) for word in error.cmd)}")
    except OSError as error:
        sys.exit(f"quickstart: {error}")
    print(f"Everything took {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    main()
