"""The content of the stored samples: a small store of every format version is kept in `tests/store/samples`.

`python -m tests.support.sample VERSION` makes the sample of the format that this ZipFS writes. Samples are never made
anew: what a release could write, every later one has to read.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import chunks
from tests.support.blocks import blocks, tuned_blocks, weights_of
from tests.support.sql import sql
from tests.support.stores import (
    Listener,
    compress,
    create_served,
    model,
    noise,
    open_again,
    put_file,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_over,
)
from zipfs.codec import Cast, frame_nbytes, item_nbytes
from zipfs.dtypes import BLOCK_DTYPES
from zipfs.ingest.import_tree import find, put_directories
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.seal_written import plan_written, seal_written
from zipfs.store.marker import FORMAT
from zipfs.store.store import Store, open_store

SAMPLES = Path(__file__).resolve().parents[1] / "store" / "samples"
ATIME_NS, MTIME_NS = 1_000_000_000_123_456_789, 1_100_000_000_000_000_001
"""Of every file, from format 3 on."""
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


def files(version: int) -> dict[str, bytes]:
    """Path -> content: every codec and every way of storing something in a format, as deterministic bytes."""
    found = _files_1()
    for since, added in ((2, _files_2), (4, _files_4), (5, _files_5), (6, _files_6)):
        if version >= since:
            found |= added()
    return found


def _files_6() -> dict[str, bytes]:
    """Values that narrower floats hold: a pair of each kind, and copies of a base that are rounded."""
    base = np.random.default_rng(61).normal(0, 1, 20_000).astype("<f4")
    new = base + np.random.default_rng(62).normal(0, 0.02, base.size).astype("<f4")
    kinds = [("F32", narrow) for narrow in ("BF16", "F16", "F8_E4M3", "F8_E5M2")]
    kinds += [(wide, narrow) for wide in ("BF16", "F16") for narrow in ("F8_E4M3", "F8_E5M2")]

    def tensors(values: np.ndarray[tuple[int], np.dtype[np.floating]]) -> bytes:
        return tensor_file(
            {f"{wide} of {narrow}": (wide, [values.size], _held(values, wide, narrow)) for wide, narrow in kinds}
        )

    rounded = {narrow: ("F32", [base.size], _held(-base, "F32", narrow)) for narrow in ("BF16", "F16")}
    return {
        "narrow/1-base": tensors(base),
        "narrow/2-tuned": tensors(new),
        "narrow/3-exact": tensor_file({"w": ("F32", [base.size], (-base).tobytes())}),
        "narrow/4-rounded": tensor_file(rounded),
    }


def _held(values: np.ndarray[tuple[int], np.dtype[np.floating]], wide: str, narrow: str) -> bytes:
    """Items of type `wide` that hold what `narrow` has of F32 values."""
    items: bytes = values.astype("<f4").tobytes()
    for source, target in (("F32", narrow), (narrow, wide)):
        out = bytearray(len(items) // item_nbytes(source) * item_nbytes(target))
        Cast(source, target).apply(items, out)
        items = bytes(out)
    return items


def _files_5() -> dict[str, bytes]:
    """Tensors of block types, alone and against a base: one of several frames, one of each type, and a part of one."""
    large = blocks("Q8_0", frame_nbytes("Q8_0") + 34 * 99 + 5, 51, spread=0.3)
    new = blocks("Q8_0", 70_000, 53, spread=0.3)
    of_each = {dtype: blocks(dtype, 3000, 52, spread=0.7) for dtype in sorted(BLOCK_DTYPES)}
    return {
        "blocks/1-base": chunks.chunks({"w": ("Q8_0", [weights_of("Q8_0", len(large))], large)}),
        "blocks/2-tuned": chunks.chunks({"w": ("Q8_0", [weights_of("Q8_0", len(large))], tuned_blocks(large))}),
        "blocks/3-each": chunks.chunks({dtype: (dtype, [], raw) for dtype, raw in of_each.items()}),
        "blocks/4-each-tuned": chunks.chunks({dtype: (dtype, [], tuned_blocks(raw)) for dtype, raw in of_each.items()}),
        "blocks/5-part": chunks.chunks({"w": ("Q8_0", [], large[34 * 2000 : 34 * 20_000] + new)}),
    }


def _files_4() -> dict[str, bytes]:
    """What was written in place: made and open, made and sealed, written anew and open, and compressed once more."""
    return {
        "written-open": noise(9000, 31),
        "written-sealed": model(tuned(weights(4000, 32))),
        "written-anew": noise(5000, 33),
        "written-stored": noise(70_000, 34)[:40_000] + noise(1000, 35) + noise(70_000, 34)[41_000:],
    }


def _write_in_place(store: Store, work: Path) -> None:
    """Make the files of format 4.

    None of them has something stored show through its spool file: an archive keeps no holes for what they are.
    """
    content = {name.encode(): whole for name, whole in _files_4().items()}
    for name, old in ((b"written-anew", b"old"), (b"written-stored", noise(70_000, 34))):
        put_file(store, work / "scratch", name, old)
    changed = open_again(store, served_inode(store, b"written-stored"), under_ingest=False, emptied=False)
    write_over(store, changed, 40_000, noise(1000, 35))
    compress(store)
    sealed = create_served(store, b"written-sealed", content[b"written-sealed"])
    seal_written(store, plan_written(store.catalog, [sealed.id]).ready)
    create_served(store, b"written-open", content[b"written-open"])
    anew = open_again(store, served_inode(store, b"written-anew"), under_ingest=False, emptied=True)
    write_over(store, anew, 0, content[b"written-anew"])
    for name in content:
        inode = served_inode(store, name)
        mtime = (ATIME_NS, MTIME_NS)
        if inode.is_spooled:
            os.utime(store.spool_path(inode), ns=mtime)
        with store.transaction() as txn:
            txn.put_inode(replace(inode, atime_ns=ATIME_NS, mtime_ns=MTIME_NS))


def _files_2() -> dict[str, bytes]:
    """Views: casts, ranges, what is longer than its base, and parts of tensors that others hold."""
    base, new = weights(40_000, 5), weights(4000, 6)
    wide = (np.frombuffer(base, "<u2").astype("<u4") << 16) + np.arange(40_000, dtype="<u4") % 999
    return {
        "views/1-base.safetensors": model(base),
        "views/2-master.safetensors": tensor_file({"w": ("F32", [40_000], wide.tobytes())}),
        "views/3-slice.safetensors": model(tuned(base[16_000:64_000])),
        "views/4-longer.safetensors": model(tuned(base) + new[:1000]),
        "views/5-grown.safetensors": model(base + new),
        "views/6-other.safetensors": tensor_file({"w": ("F32", [40_000], (wide ^ 0x8000_0001).tobytes())}),
        "views/8-quantised.safetensors": tensor_file({"w": ("F8_E4M3", [40_000], _quantised(base))}),
        "views/7-fused.safetensors": model(tuned(base) + base[:40_000]),
    }


def _quantised(raw: bytes) -> bytes:
    """E4M3 items with a scale."""
    out = bytearray(len(raw) // 2)
    Cast("BF16", "F8_E4M3", 1234.5).apply(raw, out)
    return bytes(out)


def _files_1() -> dict[str, bytes]:
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
    if version != FORMAT:
        sys.exit(f"this ZipFS writes format {FORMAT}")
    target = SAMPLES / f"format-{version}.zip"
    if target.exists():
        sys.exit(f"{target} exists; samples are never made anew")
    work = Path(tempfile.mkdtemp())
    try:
        for path, content in files(version).items():
            if path in _files_4():
                continue
            (work / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "in" / path).write_bytes(content)
            os.utime(work / "in" / path, ns=(ATIME_NS, MTIME_NS))
        with pytest.MonkeyPatch.context() as patch, open_store(work / "store", create=True) as store:
            chunks.use(patch)
            pipeline = Pipeline(store, Listener())
            for top in sorted((work / "in").iterdir()):
                found = find(store, top, top.name.encode())
                pipeline.run(found.sources)
                put_directories(store, found)
            pipeline.close()
            _write_in_place(store, work)
            sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
        SAMPLES.mkdir(exist_ok=True)
        shutil.make_archive(str(target.with_suffix("")), "zip", work, "store")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
