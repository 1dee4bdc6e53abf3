"""What is inspected ahead, in work and not yet written stays within its part of --memory, however much comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stores import noise, tensor_file, weights

MEMORY_NBYTES = 96 << 20
INGEST = """
import sys
from pathlib import Path
from tests.support.stores import import_path
from zipfs.cli.commands.ingest import _cache_nbytes
from zipfs.ingest.memory import keep_freed_memory
from zipfs.store.store import open_store

def peak_kib():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

keep_freed_memory()
with open_store(Path(sys.argv[1]), create=True, cache_nbytes=_cache_nbytes(int(sys.argv[3]))) as store:
    import_path(store, Path(sys.argv[2]) / "first", b"first")
    before_kib = peak_kib()
    assert import_path(store, Path(sys.argv[2]) / "all", b"all").failures == []
    print(peak_kib() - before_kib)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small-and-incompressible", "large-and-alike"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "all").mkdir(parents=True)
    (source / "first").mkdir()
    if kind == "large-and-alike":
        raw = weights(16 << 20, 1)
        files = [tensor_file({"w": ("BF16", [16 << 20], raw[at:] + raw[:at])}) for at in (0, 100_000, 200_000)]
    else:
        tensors = {f"t{number}": ("U8", [300_000], noise(300_000, number)) for number in range(400)}
        files = [tensor_file(tensors)]
    for number, content in enumerate(files):
        (source / "all" / f"{number}").write_bytes(content)
    (source / "first" / "one").write_bytes(tensor_file({"w": ("BF16", [1 << 20], weights(1 << 20, 9))}))
    command: list[str | Path] = [sys.executable, "-c", INGEST, tmp_path / "store", source, str(MEMORY_NBYTES)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    assert 0 < int(done.stdout) << 10 <= MEMORY_NBYTES
