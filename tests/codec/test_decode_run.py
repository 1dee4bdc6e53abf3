"""Runs of frames decode as one: in order, onto each other's bytes, and up to the first one that is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from zipfs.codec import FrameJob, _native, decode_frames, encode_frame, read_header
from zipfs.errors import FrameDamaged

if TYPE_CHECKING:
    from typing_extensions import Buffer

CODECS = ["standalone", "bitx", "raw", "zstd"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of one codec, and what it is made of; a seed is its number."""

    frame: bytes
    raw: bytes
    base: bytes | None


def _samples() -> dict[str, Sample]:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, 3000).astype("<f4")
    tuned = (weights + rng.normal(0, 1e-5, 3000)).astype("<f4")
    made = {
        "standalone": (weights.tobytes(), "F32", None),
        "bitx": (tuned.tobytes(), "F32", weights.tobytes()),
        "raw": (rng.bytes(500), "", None),
        "zstd": (b"again and " * 100, "", None),
    }
    return {name: Sample(encode_frame(raw, dtype, base, 0), raw, base) for name, (raw, dtype, base) in made.items()}


SAMPLES = _samples()


def _job(name: str, frame: Buffer | None = None, base: Buffer | None = None) -> tuple[FrameJob, bytearray]:
    sample = SAMPLES[name]
    out = bytearray(len(sample.raw))
    return FrameJob(frame or sample.frame, out, base or sample.base, 0), out


def test_there_is_a_sample_of_every_codec() -> None:
    assert [read_header(SAMPLES[name].frame).codec_name for name in CODECS] == CODECS


@given(names=st.lists(st.sampled_from(CODECS), max_size=12))
def test_a_run_of_any_codecs_fills_every_target(names: list[str]) -> None:
    pairs = [_job(name) for name in names]
    decode_frames([job for job, _ in pairs])
    assert [bytes(out) for _, out in pairs] == [SAMPLES[name].raw for name in names]


@settings(deadline=None)
@given(names=st.lists(st.sampled_from(CODECS), min_size=1, max_size=9), data=st.data())
def test_the_first_damaged_frame_is_named_and_those_before_it_are_there(names: list[str], data: st.DataObject) -> None:
    pairs = [_job(name) for name in names]
    bad = sorted(data.draw(st.sets(st.integers(0, len(names) - 1), min_size=1)))
    jobs = [job for job, _ in pairs]
    for position in bad:
        damaged = bytearray(jobs[position].frame)
        # Header, checksum, payload, and a frame that is too short for a header.
        place = data.draw(st.sampled_from([0, 2, 4, 9, 20, len(damaged) - 1]))
        damaged[place] ^= 0x55
        jobs[position] = jobs[position]._replace(frame=data.draw(st.sampled_from([damaged, damaged[:9]])))
    with pytest.raises(FrameDamaged) as told:
        decode_frames(jobs)
    assert told.value.position == bad[0]
    assert [bytes(out) for _, out in pairs[: bad[0]]] == [SAMPLES[name].raw for name in names[: bad[0]]]


def test_a_base_may_be_what_an_earlier_job_of_the_run_fills() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(0, 0.05, 20_000).astype("<f4")
    tuned = (base[5_000:15_000] + rng.normal(0, 1e-5, 10_000)).astype("<f4")
    base_out, out = bytearray(base.nbytes), bytearray(tuned.nbytes)
    frames = [
        encode_frame(base[:10_000].data, "F32", None, 1),
        encode_frame(base[10_000:].data, "F32", None, 2),
        encode_frame(tuned.data, "F32", base[5_000:15_000].data, 3),
    ]
    view = memoryview(base_out)
    run = [
        FrameJob(frames[0], view[:40_000], None, 1),
        FrameJob(frames[1], view[40_000:], None, 2),
        FrameJob(frames[2], out, view[20_000:60_000], 3),
    ]
    decode_frames(run)
    assert (bytes(base_out), bytes(out)) == (base.tobytes(), tuned.tobytes())
    with pytest.raises(FrameDamaged) as told:
        decode_frames([run[0], run[1]._replace(seed=7), run[2]])
    assert told.value.position == 1


def test_frames_and_targets_may_be_slices_of_one_area_of_any_item_type() -> None:
    names = CODECS * 2
    stored = b"".join(SAMPLES[name].frame for name in names)
    area = np.zeros(sum(len(SAMPLES[name].raw) for name in names) // 4, "<f4")
    jobs, at, to = [], 0, 0
    for name in names:
        sample = SAMPLES[name]
        frame = memoryview(stored)[at : at + len(sample.frame)]
        out: Any = area[to // 4 : (to + len(sample.raw)) // 4]
        jobs.append(FrameJob(frame, out, sample.base, 0))
        at, to = at + len(frame), to + len(sample.raw)
    decode_frames(jobs)
    assert area.tobytes() == b"".join(SAMPLES[name].raw for name in names)


def test_no_jobs_are_done_at_once() -> None:
    decode_frames([])


@pytest.mark.parametrize("name", CODECS)
def test_a_buffer_that_cannot_be_filled_is_the_callers_mistake(name: str) -> None:
    sample = SAMPLES[name]
    for out in (bytes(len(sample.raw)), memoryview(bytearray(2 * len(sample.raw)))[::2], None):
        job = FrameJob(sample.frame, out, sample.base, 0)  # type: ignore[arg-type]
        with pytest.raises((BufferError, ValueError, TypeError)):
            decode_frames([job])


def _step(**changes: object) -> Any:
    fields = {"codec": 0, "stored": b"head12345678", "skipped": 4, "base": None, "out": bytearray(8), "seed": 5}
    return tuple({**fields, "checksum": xxhash.xxh3_64_intdigest(b"12345678", 5), **changes}.values())


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([_step(codec=1)], ValueError),
        ([_step(codec=77)], ValueError),
        ([_step(codec=-1)], OverflowError),
        ([_step(codec=1 << 70)], OverflowError),
        ([_step(codec="0")], TypeError),
        ([_step(skipped=13)], ValueError),
        ([_step(skipped=-1)], OverflowError),
        ([_step(seed=1 << 64)], OverflowError),
        ([_step(checksum=None)], TypeError),
        ([_step(stored="head12345678")], TypeError),
        ([_step(out=b"12345678")], BufferError),
        ([_step(codec=3)], TypeError),
        ([_step(codec=3, base=b"1234567")], ValueError),
        ([_step()[:6]], TypeError),
        ([list(_step())], TypeError),
        (7, TypeError),
    ],
)
def test_the_native_run_trusts_no_step(steps: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        _native.decode_run(steps)


@pytest.mark.parametrize("isa", _native.isas())
def test_every_instruction_set_makes_the_checksum_of_the_library(isa: _native.Isa) -> None:
    for nbytes in (0, 1, 3, 8, 16, 100, 240, 241, 1024, 1025, 100_003):
        raw = np.random.default_rng(nbytes).bytes(nbytes)
        for seed in (0, 1, 2**64 - 1):
            checksum = xxhash.xxh3_64_intdigest(raw, seed)
            out = bytearray(nbytes)
            right: Any = {"stored": raw, "skipped": 0, "out": out, "seed": seed, "checksum": checksum}
            assert _native.decode_run([_step(**right)], isa) is None
            assert out == raw
            said = _native.decode_run([_step(**right), _step(**right | {"checksum": checksum ^ 1 << 63})], isa)
            assert said == (1, "decoded bytes do not match their checksum")


def test_a_raw_payload_of_another_length_is_told() -> None:
    assert _native.decode_run([_step(), _step(skipped=5)]) == (1, "raw payload is not as long as what it holds")
