"""What a killed mount has cut off, once somebody looks after it: what was noted of it says nothing any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, run, zipfs

pytestmark = [
    pytest.mark.mount,
    pytest.mark.expected_log("was being written when the mount ended"),
]


def _write(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def cut(mounts: Callable[..., Mount]) -> Mount:
    """A mount that has noted of a pipeline that its `unet/model.bin` was cut off, of the good version of which it
    serves everything else, and that its other files wait.

    It takes its time to seal: whoever waits comes before that.
    """
    mount = mounts("--quiet", "1.5").start()
    model = _write(mount.ingest / "m" / "unet" / "model.bin", b"good")
    index = _write(mount.ingest / "m" / "model_index.json", b"good")
    mount.stored("m/unet/model.bin")
    descriptor = os.open(model, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"stump")
    _write(index, b"new")
    mount.kill()
    with suppress(OSError):
        os.close(descriptor)
    mount.start()
    _noted(mount, "m/unet/model.bin", "m/model_index.json")
    return mount


def _noted(mount: Mount, *paths: str) -> None:
    poll(lambda: {failure["path"] for failure in mount.status()["errors"]} == set(paths), what="that to be noted")


def _waits_until_all_is_well(mount: Mount) -> None:
    for asked in (mount.point, mount.store):
        done = zipfs("wait", "--timeout", 60, asked)
        assert (done.returncode, mount.status()["errors"]) == (0, []), done.stderr
    assert (mount.point / "m" / "model_index.json").read_bytes() == b"new"


def test_wait_waits_for_what_is_written_again(cut: Mount) -> None:
    _write(cut.ingest / "m" / "unet" / "model.bin", b"new")
    _waits_until_all_is_well(cut)
    assert (cut.point / "m" / "unet" / "model.bin").read_bytes() == b"new"


def test_wait_waits_for_what_takes_its_place(cut: Mount) -> None:
    _write(cut.ingest / "m" / "unet" / ".tmp1", b"new").rename(cut.ingest / "m" / "unet" / "model.bin")
    _waits_until_all_is_well(cut)
    assert (cut.point / "m" / "unet" / "model.bin").read_bytes() == b"new"


def test_wait_waits_for_what_is_taken_as_it_is(cut: Mount) -> None:
    run("sh", "-c", ': >> "$1"', "sh", cut.ingest / "m" / "unet" / "model.bin")
    _waits_until_all_is_well(cut)
    assert (cut.point / "m" / "unet" / "model.bin").read_bytes() == b"stump"


def test_wait_waits_for_what_is_shortened(cut: Mount) -> None:
    os.truncate(cut.ingest / "m" / "unet" / "model.bin", 2)
    _waits_until_all_is_well(cut)
    assert (cut.point / "m" / "unet" / "model.bin").read_bytes() == b"st"


def test_wait_waits_for_what_waited_for_a_file_that_was_removed(cut: Mount) -> None:
    (cut.ingest / "m" / "unet" / "model.bin").unlink()
    _waits_until_all_is_well(cut)


def test_what_comes_into_a_model_that_waits_is_told_too(cut: Mount) -> None:
    _write(cut.ingest / "m" / "vae" / "model.bin", noise(1000, 1))
    done = zipfs("wait", "--timeout", 60, cut.point)
    assert done.returncode == 1, done.stderr
    for path in ("m/model_index.json", "m/vae/model.bin"):
        assert f"{path}: waits for m/unet/model.bin" in done.stderr
    assert "m/unet/model.bin: was being written when the mount ended" in done.stderr
    assert not (cut.point / "m" / "vae").exists()


def test_a_model_that_waits_is_told_by_its_new_name(cut: Mount) -> None:
    (cut.ingest / "m").rename(cut.ingest / "n")
    _noted(cut, "n/unet/model.bin", "n/model_index.json")
    done = zipfs("wait", "--timeout", 60, cut.point)
    assert done.returncode == 1
    assert "n/model_index.json: waits for n/unet/model.bin" in done.stderr
    assert "MOUNT/ingest/n/unet/model.bin" in done.stderr
