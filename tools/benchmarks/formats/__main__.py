"""Measures what a family takes in each container, beside the same tensors as safetensors, and how fast it is laid out.

Every row gets a store of its own, filled by `zipfs ingest` and collected; counted are all bytes of its packs.
Containers are written by the libraries that people use, in .venv-formats. A row tells its goal, if there is one, and
whether it misses it; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tools.benchmarks.codec.data import make_family
from tools.benchmarks.formats.layout_times import layout_rows
from tools.benchmarks.formats.rows import Row

HERE: Final = Path(__file__).resolve().parents[3]
PYTHON: Final = HERE / ".venv-formats/bin/python"
PATIENCE_S: Final = 3600.0
BASE: Final = "base-bf16"

CONTAINERS: Final = {
    "BF16": ("bin", "pt", "dcp", "gguf", "onnx", "onnx-data", "raw", "npz", "msgpack"),
    "F16": ("gguf",),
    "F32": ("bin", "gguf", "npz", "onnx", "hdf5", "msgpack"),
    "Q8_0": ("gguf",),
}
"""Item type -> containers of the whole family. Blocks have no safetensors to be measured beside."""
CONTAINER_GOAL: Final = 1.01
TOGETHER_GOAL: Final = 1.03
BLOCK_GOALS: Final = {"Q8_0": 0.933, "Q4_K": 0.946, "Q6_K": 0.961, "Q4_0": 0.94, "Q5_K": 0.98}
TRAINER_GOAL: Final = 0.76
ZSTD_LEVEL: Final = 19
ZSTD_WINDOW_LOG: Final = 31


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of files, and of the packs of a store that holds them."""

    raw_nbytes: int
    packs_nbytes: int


class Bench:
    """A folder to work in, and the family that is converted, of which `tuned` are the fine-tunes."""

    def __init__(self, folder: Path, family: Path) -> None:
        self._folder = folder
        self._family = family
        self._files = folder / "files"
        self.tuned = sorted(path.name for path in family.iterdir() if not path.name.startswith("base"))

    def convert(self, container: str, dtype: str, models: Sequence[str] = (), under: str = "") -> Path:
        """Write models, all of them by default, in a container beside what is there; return the folder of all files."""
        print(f"bench: {container} {dtype} {' '.join(models)}", file=sys.stderr)
        out = self._files / under
        command: list[str | Path] = [PYTHON, HERE / "tools/benchmarks/formats/convert.py", self._family, out]
        subprocess.run([*command, container, dtype, *models], check=True, timeout=PATIENCE_S, stdout=subprocess.DEVNULL)
        return self._files

    def train(self, steps: int) -> Path:
        """Run the trainer."""
        print(f"bench: training for {steps} steps", file=sys.stderr)
        command: list[str | Path] = [PYTHON, HERE / "tools/benchmarks/formats/trainer.py", self._family / "base-f32"]
        subprocess.run([*command, self._files, str(steps)], check=True, timeout=PATIENCE_S)
        return self._files

    def stored(self, files: Path, *, optimize: bool = False) -> Stored:
        """Store files in a fresh store, whose packs are counted; neither stays."""
        store = self._folder / "store"
        zipfs(["ingest", store, files])
        if optimize:
            zipfs(["optimize", store])
        zipfs(["gc", store])
        found = Stored(nbytes_of(files), nbytes_of(store / "packs"))
        shutil.rmtree(store)
        shutil.rmtree(files)
        return found


def zipfs(arguments: Sequence[str | Path]) -> None:
    command = [HERE / ".venv/bin/zipfs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        sys.exit(f"bench: zipfs {arguments[0]} failed: {done.stderr}")


def nbytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def family_rows(bench: Bench, wanted: Sequence[str]) -> Iterator[Row]:
    """The family in each container, beside the family as safetensors."""
    for dtype in (dtype for dtype in CONTAINERS if dtype in wanted):
        beside = 0
        if dtype != "Q8_0":
            plain = bench.stored(bench.convert("safetensors", dtype))
            beside = plain.packs_nbytes
            yield Row("family", f"safetensors {dtype}", plain.raw_nbytes, beside, 1.0, None)
        for container in CONTAINERS[dtype]:
            found = bench.stored(bench.convert(container, dtype))
            ratio = found.packs_nbytes / (beside or found.raw_nbytes)
            goal = CONTAINER_GOAL if beside else None
            yield Row("family", f"{container} {dtype}", found.raw_nbytes, found.packs_nbytes, ratio, goal)
        if dtype == "BF16":
            bench.convert("safetensors", dtype, [BASE])
            found = bench.stored(bench.convert("bin", dtype, bench.tuned))
            name, ratio = "base safetensors, others bin", found.packs_nbytes / beside
            yield Row("family", name, found.raw_nbytes, found.packs_nbytes, ratio, CONTAINER_GOAL)


def together_rows(bench: Bench) -> Iterator[Row]:
    """One model in all containers of a type, beside its safetensors alone; then in all containers of all types."""
    everything = 0
    for dtype in ("BF16", "F32"):
        alone = bench.stored(bench.convert("safetensors", dtype, [BASE])).packs_nbytes
        everything += alone
        files = bench.convert("safetensors", dtype, [BASE])
        for container in CONTAINERS[dtype]:
            bench.convert(container, dtype, [BASE], f"{container}-{dtype}")
        found = bench.stored(files)
        ratio = found.packs_nbytes / alone
        yield Row("together", f"all of {dtype}", found.raw_nbytes, found.packs_nbytes, ratio, TOGETHER_GOAL)
    files = bench.convert("safetensors", "BF16", [BASE])
    for dtype, containers in CONTAINERS.items():
        for container in containers:
            bench.convert(container, dtype, [BASE], f"{container}-{dtype}")
    found = bench.stored(files)
    ratio = found.packs_nbytes / everything
    yield Row("together", "all of all, over BF16 + F32", found.raw_nbytes, found.packs_nbytes, ratio, None)


def block_rows(bench: Bench) -> Iterator[Row]:
    """Matrices of the base, quantised, each type alone; beside the raw bytes."""
    for dtype, goal in BLOCK_GOALS.items():
        found = bench.stored(bench.convert("blocks", dtype, [BASE]))
        ratio = found.packs_nbytes / found.raw_nbytes
        yield Row("blocks", dtype, found.raw_nbytes, found.packs_nbytes, ratio, goal)


def trainer_rows(bench: Bench, steps: int) -> Iterator[Row]:
    """A run of five checkpoints with the state of its optimizer, beside zstd with a window over all of it."""
    files = bench.train(steps)
    print("bench: zstd of the run", file=sys.stderr)
    raw_nbytes, peer_nbytes = nbytes_of(files), zstd_nbytes(files)
    yield Row("trainer", f"zstd -{ZSTD_LEVEL} --long={ZSTD_WINDOW_LOG}", raw_nbytes, peer_nbytes, 1.0, None)
    found = bench.stored(files, optimize=True)
    ratio = found.packs_nbytes / peer_nbytes
    yield Row("trainer", "after zipfs optimize", raw_nbytes, found.packs_nbytes, ratio, TRAINER_GOAL)


def zstd_nbytes(folder: Path) -> int:
    """Compress all files as one stream and return how long it is."""
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        ZSTD_LEVEL, window_log=ZSTD_WINDOW_LOG, enable_ldm=True, threads=-1
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    nbytes = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                nbytes += len(compressor.compress(piece))
    return nbytes + len(compressor.flush())


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    for group in dict.fromkeys(row.group for row in rows):
        table = Table(group, title=None)
        for heading in ("MB", "stored", "of raw", "ratio", "goal", ""):
            table.add_column(heading, justify="right")
        for row in (row for row in rows if row.group == group):
            table.add_row(*row.cells())
        console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench formats", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    groups = ("family", "together", "blocks", "layout")
    parser.add_argument("--only", choices=groups, action="append", help="only this; may be given again")
    parser.add_argument("--dtype", choices=list(CONTAINERS), action="append", help="of families only this type")
    parser.add_argument("--trainer", action="store_true", help="train and store a run, too: half an hour more")
    parser.add_argument("--steps", type=int, default=50, help="steps of that run (default: %(default)s)")
    parser.add_argument("--family", type=Path, metavar="DIR", help="base-bf16, base-f32 and others (default: made)")
    parser.add_argument("--dir", type=Path, help="work in this directory (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row as JSON")
    arguments = parser.parse_args()
    arguments.only = arguments.only or ([] if arguments.trainer else list(groups))
    return arguments


def measured(bench: Bench, arguments: argparse.Namespace, folder: Path) -> Iterator[Row]:
    if "layout" in arguments.only:
        yield from layout_rows(folder, PYTHON)
    if "blocks" in arguments.only:
        yield from block_rows(bench)
    if "family" in arguments.only:
        yield from family_rows(bench, arguments.dtype or list(CONTAINERS))
    if "together" in arguments.only:
        yield from together_rows(bench)
    if arguments.trainer:
        yield from trainer_rows(bench, arguments.steps)


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="zipfs-formats-", dir=arguments.dir) as name:
        folder = Path(name)
        family = arguments.family or make_family(folder / "family")
        if not (family / "base-f32").exists():
            sys.exit("bench: the family has no base-f32, from which the others are converted")
        rows = []
        for row in measured(Bench(folder, family), arguments, folder):
            print("bench:", *row.cells(), file=sys.stderr)
            rows.append(row)
    print_rows(Console(width=None if sys.stdout.isatty() else 110), rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    sys.exit(any(row.misses for row in rows))


if __name__ == "__main__":
    main()
