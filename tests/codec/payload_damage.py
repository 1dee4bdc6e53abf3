"""What every decoder must do with damaged payloads, whatever codec made them: tell, or give the right bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.codec.native_build import HERE, NATIVE, build_sanitized
from tests.codec.native_payload import STANDALONE, decode_payload
from zipfs.codec import FrameJob, _native, decode_frames
from zipfs.codec.contract import Bytes
from zipfs.errors import FrameDamaged

MASKS = (1, 2, 4, 8, 16, 32, 64, 128, 255)
Decode = Callable[[bytes], bytes | str]


def decode_everywhere(payload: bytes, nbytes: int, base: Bytes | None = None, alone: int = STANDALONE) -> bytes | str:
    """Return the bytes of a payload, or what was wrong, on which all instruction sets must agree."""
    first, *others = [decode_payload(payload, base, nbytes, isa, alone) for isa in _native.isas()]
    assert all(other == first for other in others)
    return first


def check_flip(frame: bytes, position: int, mask: int, raw: bytes, base: bytes | None = None) -> None:
    damaged = bytearray(frame)
    damaged[position] ^= mask
    out = bytearray(len(raw))
    try:
        decode_frames([FrameJob(damaged, out, base, 3)])
    except FrameDamaged:
        return
    assert out == raw


def check_lengths(payload: bytes, lengths: Iterable[int], decode: Decode) -> None:
    for length in lengths:
        assert isinstance(decode(payload[:length]), str)
    for extra in (b"\0", payload, bytes(100)):
        assert isinstance(decode(payload + extra), str)


def check_inverted_bytes(payload: bytes, positions: Iterable[int], decode: Decode) -> None:
    for position in positions:
        decode(payload[:position] + bytes([payload[position] ^ 255]) + payload[position + 1 :])


def check_mutants(folder: Path, name: str, *parts: str) -> None:
    """Build the driver `name` with the native sources of some parts, under the sanitizers, and have it run."""
    program = folder / name
    sources = [path for part in parts for path in sorted(NATIVE.glob(f"{part}*.c"))]
    build_sanitized(program, [HERE / f"{name}.c", NATIVE / "dispatch.c", *sources])
    done = subprocess.run([str(program), "5", "1"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
