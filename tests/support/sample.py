"""The content of the stored samples: a small store of every format version is kept in `tests/store/samples`.

`python -m tests.support.sample VERSION` makes the sample of the format that this ZipFS writes. Samples are never made
anew: what a release could write, every later one has to read.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.support.stores import Listener, noise, tensor_file, tuned, weights
from zipfs.ingest.importing import find, put_directories
from zipfs.ingest.pipeline import Pipeline
from zipfs.store.store import open_store

SAMPLES = Path(__file__).resolve().parents[1] / "store" / "samples"
_ITEMS = 3000


def _cast(dtype: str, seed: int) -> bytes:
    values = np.random.default_rng(seed).normal(0, 0.05, _ITEMS)
    match dtype:
        case "F16" | "F32" | "F64":
            return values.astype(f"<f{int(dtype[1:]) // 8}").tobytes()
        case "I64":
            return (values * 1000).astype("<i8").tobytes()
        case "BOOL":
            return (values > 0.08).astype("u1").tobytes()
        case _:
            return np.clip(values * 300 + 128, 0, 255).astype("u1").tobytes()


def files() -> dict[str, bytes]:
    """Path -> content: every codec and every way of storing something, as deterministic bytes."""
    base = weights(_ITEMS)
    others = {
        dtype: (dtype, [_ITEMS], _cast(dtype, 7)) for dtype in ("F16", "F32", "F64", "I64", "BOOL", "F8_E4M3", "U8")
    }
    large = np.resize(np.frombuffer(base, np.uint8), (1 << 20) + 4098).tobytes()
    return {
        "base/model.safetensors": tensor_file({"w": ("BF16", [_ITEMS], base), **others}),
        "tuned/model.safetensors": tensor_file({"w": ("BF16", [_ITEMS], tuned(base)), **others}, pad=8),
        "long/model.safetensors": tensor_file({"w": ("BF16", [len(large) // 2], large)}),
        "long/tuned.safetensors": tensor_file({"w": ("BF16", [len(large) // 2], tuned(large))}),
        "base/config.json": b'{"hidden_size": 384}' * 50,
        "base/copy.json": b'{"hidden_size": 384}' * 50,
        "base/noise": noise(2000),
        "base/empty": b"",
        "odd": b"x",
    }


def main() -> None:
    version = int(sys.argv[1])
    target = SAMPLES / f"format-{version}.zip"
    if target.exists():
        sys.exit(f"{target} exists; samples are never made anew")
    work = Path(tempfile.mkdtemp())
    try:
        for path, content in files().items():
            (work / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "in" / path).write_bytes(content)
        with open_store(work / "store", create=True) as store:
            pipeline = Pipeline(store, Listener())
            for top in sorted((work / "in").iterdir()):
                found = find(store, top, top.name.encode())
                pipeline.run(found.sources)
                put_directories(store, found)
            pipeline.close()
            store.catalog.query("PRAGMA wal_checkpoint(TRUNCATE)")
        SAMPLES.mkdir(exist_ok=True)
        shutil.make_archive(str(target.with_suffix("")), "zip", work, "store")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
