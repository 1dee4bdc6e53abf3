"""What the fuzzer kept: every input is decoded alike by every instruction set, and is right or told to be damaged."""

from __future__ import annotations

import struct
import subprocess
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import pytest
import xxhash

from tests.codec.native_build import HERE, NATIVE, build_sanitized
from tests.codec.native_payload import decode_payload
from zipfs.codec import FrameJob, _native, decode_frames
from zipfs.codec.contract import Bytes
from zipfs.errors import FrameDamaged

CORPUS: Final = HERE / "corpus" / "inputs.zip"
SEED: Final = 3

CodecName: TypeAlias = Literal["bitx", "standalone", "blocks"]
FRAME_IDS: Final[dict[CodecName, int]] = {"bitx": 3, "standalone": 2, "blocks": 4}

ZERO, BITS, WEIGHTS, HALVES = range(4)
LAYOUTS: Final = {
    1: (2, 8, 7),
    2: (2, 5, 10),
    3: (4, 8, 23),
    4: (8, 11, 52),
    5: (1, 4, 3),
    6: (1, 5, 2),
    7: (1, 0, 0),
    8: (2, 0, 0),
    9: (4, 0, 0),
    10: (8, 0, 0),
}
"""Code -> bytes of an item, exponent bits, mantissa bits."""
STEPS: Final = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 6, 11], np.int64)


@dataclass(frozen=True, slots=True)
class FuzzInput:
    """An input as fuzz_input.h describes it."""

    name: str
    payload: bytes
    base: Bytes | None
    nbytes: int


def _splitmix(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def _make_base(kind: int, seed: int, payload: bytes, nbytes: int) -> Bytes:
    """The base that a head stands for: uint8, `nbytes` long."""
    item_nbytes, exponent_bits, mantissa_bits = LAYOUTS.get(payload[0] & 15 if payload else 0, LAYOUTS[7])
    width = 8 * item_nbytes
    bits = _splitmix(seed, -(-nbytes // item_nbytes))
    items = bits
    if kind in (WEIGHTS, HALVES) and not exponent_bits:
        items = bits & np.uint64(63)
    elif kind in (WEIGHTS, HALVES):
        exponents = np.maximum((1 << exponent_bits >> 1) - 1 - STEPS[bits >> np.uint64(60)], 0).astype(np.uint64)
        items = bits & np.uint64((1 << mantissa_bits) - 1)
        items |= exponents << np.uint64(mantissa_bits)
        items |= (bits >> np.uint64(59) & np.uint64(1)) << np.uint64(width - 1)
    if kind == HALVES:
        items = items >> np.uint64(width // 2) << np.uint64(width // 2)
    if kind == ZERO:
        items = np.zeros_like(bits)
    return items.astype(f"<u{item_nbytes}").view(np.uint8)[:nbytes]


def _read_corpus(codec: CodecName) -> list[FuzzInput]:
    inputs = []
    with zipfile.ZipFile(CORPUS) as corpus:
        for name in corpus.namelist():
            if not name.startswith(f"{codec}/") or name.endswith("/"):
                continue
            data = corpus.read(name)
            if len(data) < 8:
                continue
            head, seed = struct.unpack("<II", data[:8])
            nbytes = head >> 8 & 0x7FFFF
            base = None if head & 1 else _make_base(head >> 1 & 3, seed, data[8:], nbytes)
            inputs.append(FuzzInput(name, data[8:], base, nbytes))
    return inputs


@pytest.mark.parametrize("codec", FRAME_IDS)
def test_every_instruction_set_says_the_same_and_a_frame_is_right_or_damaged(codec: CodecName) -> None:
    verdicts: Counter[str] = Counter()
    for it in _read_corpus(codec):
        said, *others = [
            decode_payload(it.payload, it.base, it.nbytes, isa, FRAME_IDS[codec]) for isa in _native.isas()
        ]
        assert all(other == said for other in others), it.name
        checksum = xxhash.xxh3_64_intdigest(said if isinstance(said, bytes) else b"", SEED)
        frame = struct.pack("<BBHIQ", FRAME_IDS[codec], 1, 0, it.nbytes, checksum) + it.payload
        out, base = bytearray(it.nbytes), None if it.base is None else it.base.data
        if isinstance(said, bytes):
            decode_frames([FrameJob(frame, out, base, SEED)])
            assert out == said, it.name
            verdicts["right"] += 1
        else:
            with pytest.raises(FrameDamaged, match=said):
                decode_frames([FrameJob(frame, out, base, SEED)])
            verdicts[said] += 1
    # Were a base or a head read otherwise than the fuzzer reads it, hardly any would be right.
    assert verdicts["right"] >= 50
    assert len(verdicts) >= 10


@pytest.mark.slow
def test_the_target_of_the_fuzzer_finds_the_corpus_and_fresh_inputs_right_under_the_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "fuzz_replay"
    sources = [*HERE.glob("fuzz_*.c"), *(path for path in NATIVE.glob("*.c") if path.name != "module.c")]
    build_sanitized(program, sources)
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    subprocess.run([str(program), "seeds", str(seeds), "200"], check=True, timeout=300)
    with zipfile.ZipFile(CORPUS) as corpus:
        corpus.extractall(tmp_path)
    fresh = _replay(program, sorted(seeds.iterdir()))
    assert fresh.pop("the payload is empty") == 1
    assert fresh == {"right": 199}
    kept = _replay(program, sorted(path for codec in FRAME_IDS for path in (tmp_path / codec).iterdir()))
    assert kept["right"] >= 100


def _replay(program: Path, inputs: list[Path]) -> Counter[str]:
    done = subprocess.run(
        [str(program), *map(str, inputs)],
        env={"ZIPFS_FUZZ_TELL": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Counter(line.partition(": ")[2] for line in done.stdout.splitlines())
