"""What `ingest/` means, rule by rule, as the README has them, with the programs that people use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, run, zipfs
from tests.support.stores import model, weights

pytestmark = pytest.mark.mount


def _write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _files(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


# Reading is no change


def test_a_reader_that_comes_again_and_again_delays_nothing(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "1").start()
    path = _write(mount.ingest / "polled" / "config.json", b"{}")
    with open(path, "rb"):  # nor does one that stays

        def poll_it() -> bool:
            assert path.read_bytes() == b"{}"
            return (mount.point / "polled" / "config.json").exists()

        poll(poll_it, what="the file that is read all the time to be served")


# A name leads to what it led to for as long as that is served


def test_a_finished_model_is_not_listed_any_more_and_is_found_by_name(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2", "--linger", "1").start()
    _write(mount.ingest / "a" / "b" / "file")
    (mount.ingest / "empty").mkdir()
    _write(mount.ingest / "alone")
    mount.stored("a/b/file")
    mount.stored("alone")
    assert (mount.point / "empty").is_dir()
    poll(lambda: not os.listdir(mount.ingest))
    assert (mount.ingest / "a" / "b" / "file").read_bytes() == b"x"
    assert os.listdir(mount.ingest / "a" / "b") == ["file"]
    assert (mount.ingest / "alone").read_bytes() == b"x"
    mount.remount()
    assert os.listdir(mount.ingest) == []
    assert (mount.ingest / "a" / "b" / "file").read_bytes() == b"x"


def test_a_job_that_pauses_finds_its_directory_again(mounts: Callable[..., Mount]) -> None:
    """It makes its directory once, stands in it, and saves when it has something."""
    mount = mounts("--quiet", "0.2", "--linger", "0").start()
    out = mount.ingest / "out"
    out.mkdir()
    poll((mount.point / "out").is_dir)
    code = "import os, sys; os.chdir(sys.argv[1]); print(flush=True); input(); open('ckpt.pt', 'wb').write(b'weights')"
    job = subprocess.Popen([sys.executable, "-c", code, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    job.stdout.readline()
    poll(lambda: not os.listdir(mount.ingest))
    job.communicate("\n", timeout=60)
    assert job.returncode == 0
    assert mount.stored("out/ckpt.pt").read_bytes() == b"weights"
    _write(out / "second.pt")  # by its path, too
    mount.stored("out/second.pt")


def test_a_run_finds_its_earlier_steps(mounts: Callable[..., Mount]) -> None:
    """Resuming lists the run, and the best step is loaded by the path at which it was saved."""
    mount = mounts("--quiet", "0.2", "--linger", "0").start()
    run_dir = mount.ingest / "run"
    for step in (1, 2):
        _write(run_dir / f"checkpoint-{step}" / "model.safetensors", b"%d" % step)
        mount.stored(f"run/checkpoint-{step}/model.safetensors")
    poll(lambda: not os.listdir(mount.ingest))
    assert sorted(os.listdir(run_dir)) == ["checkpoint-1", "checkpoint-2"]
    assert (run_dir / "checkpoint-1" / "model.safetensors").read_bytes() == b"1"


def test_copying_the_same_again_copies_nothing(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mount = mounts("--quiet", "0.2", "--linger", "0").start()
    _write(tmp_path / "m" / "weights.bin", noise(50_000, 1))
    run("rsync", "-a", tmp_path / "m", f"{mount.ingest}/")
    mount.stored("m/weights.bin")
    assert run("rsync", "-ai", tmp_path / "m", f"{mount.ingest}/") == ""


def test_what_is_removed_or_moved_where_it_is_served_is_not_found_any_more(mount: Mount) -> None:
    _write(mount.ingest / "a" / "file")
    _write(mount.ingest / "b" / "file")
    mount.stored("a/file")
    mount.stored("b/file")
    shutil.rmtree(mount.point / "a")
    (mount.point / "b").rename(mount.point / "c")
    poll(lambda: not os.listdir(mount.ingest))
    assert not (mount.ingest / "b" / "file").exists()


# Removing, and making anew


def test_removing_here_removes_nothing_that_is_served(mount: Mount) -> None:
    _write(mount.ingest / "m" / "file")
    mount.stored("m/file")
    run("rm", "-r", mount.ingest / "m")
    assert not (mount.ingest / "m").exists()
    assert (mount.point / "m" / "file").read_bytes() == b"x"


def test_a_model_that_is_saved_anew_is_served_as_a_plain_disk_would_have_it(mount: Mount, tmp_path: Path) -> None:
    """rmtree, then more and smaller files: the old weights must not lie beside the new ones."""
    old = {"config.json": b"1", "model.safetensors": model(weights(3000, 1))}
    new = {"config.json": b"2", **{f"model-{n}.safetensors": model(weights(1000, n)) for n in range(3)}}
    for top in (mount.ingest / "x", tmp_path / "x"):
        for name, content in old.items():
            _write(top / name, content)
    mount.stored("x/model.safetensors")
    mount.stored("x/config.json")
    for top in (mount.ingest / "x", tmp_path / "x"):
        shutil.rmtree(top)
        for name, content in new.items():
            _write(top / name, content)
    mount.stored("x/model-0.safetensors")
    assert run("diff", "-r", tmp_path / "x", mount.point / "x") == ""


def test_a_mirror_that_deletes_is_mirrored_with_its_next_version(mount: Mount, tmp_path: Path) -> None:
    _write(tmp_path / "m" / "config.json", b"of six")
    for number in range(6):
        _write(tmp_path / "m" / f"model-{number}-of-6.safetensors", noise(2000, number))
    run("rsync", "-a", tmp_path / "m", f"{mount.ingest}/")
    mount.stored("m/model-5-of-6.safetensors")
    shutil.rmtree(tmp_path / "m")
    _write(tmp_path / "m" / "config.json", b"of three")
    for number in range(3):
        _write(tmp_path / "m" / f"model-{number}-of-3.safetensors", noise(4000, 10 + number))
    run("rsync", "-a", "--delete", tmp_path / "m", f"{mount.ingest}/")
    mount.stored("m/model-2-of-3.safetensors")
    assert run("diff", "-r", tmp_path / "m", mount.point / "m") == ""


# What is one model is published at once


def test_a_pipeline_appears_as_a_whole(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.3").start()
    pipe = mount.ingest / "pipe"
    _write(pipe / "vae" / "config.json")
    _write(pipe / "vae" / "weights.safetensors", model(weights(1000)))
    _write(mount.ingest / "marker")
    (pipe / "unet").mkdir()
    with open(pipe / "unet" / "weights.safetensors", "wb") as file:
        file.write(model(weights(2000)))
        file.flush()
        mount.served("marker")  # anything that was quiet for as long is served
        assert not (mount.point / "pipe").exists()
    _write(pipe / "model_index.json", b"{}")
    mount.served("pipe/model_index.json")
    assert _files(mount.point / "pipe") == _files(pipe)


def test_a_step_does_not_wait_for_the_run_nor_a_model_for_the_next(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2").start()
    with open(_write(mount.ingest / "run" / "trainer.log"), "ab", buffering=0) as run_log:
        run_log.write(b"step 1\n")
        _write(mount.ingest / "run" / "checkpoint-1" / "model.safetensors")
        mount.served("run/checkpoint-1/model.safetensors")
        _write(mount.ingest / "org" / "a" / "model.safetensors")
        (mount.ingest / "org" / "b").mkdir()
        with open(mount.ingest / "org" / "b" / "model.safetensors", "wb", buffering=0) as file:
            file.write(b"half")
            mount.served("org/a/model.safetensors")
        writers = {writer["path"]: writer for writer in mount.status()["writing"]}
        assert writers["run/trainer.log"]["pid"] == os.getpid()
        done = zipfs("status", mount.point)
        assert "run/trainer.log" in done.stdout and f"process {os.getpid()}" in done.stdout
        done = zipfs("wait", mount.point, "--timeout", "1")
        assert done.returncode == 4
        assert "run/trainer.log" in done.stderr
        assert not (mount.point / "run" / "trainer.log").exists()
    mount.served("run/trainer.log")


def test_whoever_downloads_a_part_holds_the_whole_back(mounts: Callable[..., Mount]) -> None:
    """As a hub's client does: finished files beside one that is still being fetched under another name."""
    mount = mounts("--quiet", "0.2").start()
    part = mount.ingest / "m" / ".cache" / "huggingface" / "download" / "etag.incomplete"
    _write(mount.ingest / "m" / "config.json")
    _write(part)
    with open(part, "ab", buffering=0) as file:
        _write(mount.ingest / "marker")
        file.write(b"more")
        mount.served("marker")
        assert not (mount.point / "m").exists()
    part.rename(mount.ingest / "m" / "model.safetensors")
    mount.served("m/model.safetensors")
    assert (mount.point / "m" / "config.json").exists()


# What stays


def test_what_tools_keep_for_themselves_is_told_with_its_sum(mount: Mount) -> None:
    for number in range(5):
        _write(mount.ingest / "m" / ".git" / "objects" / f"{number:02}" / "object", noise(1000, number))
    _write(mount.ingest / "m" / "file")
    mount.stored("m/file")
    (kept,) = mount.status()["kept"]
    assert kept == {"path": "m/.git", "files": 5, "nbytes": 5000}
    assert mount.status()["unfinished_files"] == []
    for text in (zipfs("status", mount.point).stdout, mount.wait()):
        assert "m/.git: 5 files, 4.9 KiB" in text
        assert "--unfinished none" in text
    mount.remount("--unfinished", "none")
    assert mount.stored("m/.git/objects/04/object").read_bytes() == noise(1000, 4)
    assert mount.status()["kept"] == []


def test_a_name_of_ones_own_waits(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--quiet", "0.2", "--unfinished", "*.wip").start()
    _write(mount.ingest / "m" / "model.wip")
    _write(mount.ingest / "m" / "file")
    mount.served("m/file")
    assert mount.status()["unfinished_files"] == ["m/model.wip"]


def test_a_file_with_a_partner_waits_for_it_to_go(mount: Mount) -> None:
    _write(mount.ingest / "m" / "model.safetensors.aria2")
    _write(mount.ingest / "m" / "model.safetensors", bytes(5000))
    _write(mount.ingest / "m" / "config.json")
    mount.served("m/config.json")
    assert not (mount.point / "m" / "model.safetensors").exists()
    (mount.ingest / "m" / "model.safetensors").write_bytes(noise(5000, 1))
    (mount.ingest / "m" / "model.safetensors.aria2").unlink()
    assert mount.stored("m/model.safetensors").read_bytes() == noise(5000, 1)


# What was cut off


@contextmanager
def _cut_off(mount: Mount, path: Path, content: bytes) -> Iterator[None]:
    """Write to a file, and kill the mount before it is closed, at the end of the block."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, content)
    yield
    mount.kill()
    with suppress(OSError):
        os.close(descriptor)


@pytest.mark.expected_log("was being written when the mount ended")
def test_a_file_that_was_cut_off_is_kept_aside_and_the_good_version_stays(mount: Mount) -> None:
    good = noise(300_000, 1)
    path = _write(mount.ingest / "m" / "model.bin", good)
    _write(mount.ingest / "m" / "config.json", b"1")
    mount.stored("m/model.bin")
    with _cut_off(mount, path, noise(100_000, 2)):
        _write(mount.ingest / "m" / "config.json", b"2")
    mount.start()
    assert (mount.point / "m" / "model.bin").read_bytes() == good
    poll(lambda: {failure["path"] for failure in mount.status()["errors"]} == {"m/model.bin", "m/config.json"})
    done = zipfs("wait", mount.point)
    assert done.returncode == 1
    assert "m/model.bin: was being written when the mount ended" in done.stderr
    assert "m/config.json: waits for m/model.bin" in done.stderr
    assert (mount.point / "m" / "model.bin").read_bytes() == good
    assert (mount.point / "m" / "config.json").read_bytes() == b"1"
    assert path.read_bytes() == noise(100_000, 2)
    path.write_bytes(noise(300_000, 2))
    poll(lambda: (mount.point / "m" / "config.json").read_bytes() == b"2")
    assert mount.stored("m/model.bin").read_bytes() == noise(300_000, 2)
    assert mount.status()["errors"] == []
    mount.wait()


@pytest.mark.expected_log("was being written when the mount ended")
def test_a_file_that_was_cut_off_is_taken_as_it_is_when_somebody_says_so(mount: Mount) -> None:
    path = mount.ingest / "log.txt"
    with _cut_off(mount, path, b"all there is"):
        pass
    mount.start()
    poll(lambda: [failure["path"] for failure in mount.status()["errors"]] == ["log.txt"])
    run("sh", "-c", ': >> "$1"', "sh", path)
    assert mount.stored("log.txt").read_bytes() == b"all there is"


# Attributes


def test_what_somebody_changed_in_the_served_tree_outlives_the_next_seal(mount: Mount) -> None:
    _write(mount.ingest / "org" / "a" / "file")
    mount.stored("org/a/file")
    (mount.point / "org").chmod(0o700)
    _write(mount.ingest / "org" / "b" / "file")
    mount.stored("org/b/file")
    assert (mount.point / "org").stat().st_mode & 0o777 == 0o700
