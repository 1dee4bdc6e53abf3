"""What tests of commands share."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.commands import BASE, FILES, Done, Run
from tests.support.sql import sql
from tests.support.stores import put_file, tensor_file, tuned, weights, write_tree
from zipfs.cli.main import main
from zipfs.store.store import open_store


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`zipfs` in this process: its exit code and what it wrote. Anything but an exit is a bug."""

    def run_command(*arguments: object) -> Done:
        capfdbinary.readouterr()
        texts = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
        monkeypatch.setattr(sys, "argv", ["zipfs", *texts])
        rank = os.getpriority(os.PRIO_PROCESS, 0)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        if (
            os.getpriority(os.PRIO_PROCESS, 0) != rank and os.geteuid() == 0
        ):  # the tests that follow are not to give way
            os.setpriority(os.PRIO_PROCESS, 0, rank)
        sys.stdout.flush()
        sys.stderr.flush()
        captured = capfdbinary.readouterr()
        return Done(code, captured.out, captured.err.decode(errors="replace"))

    return run_command


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of a model, its fine-tune and odd names, not stored yet."""
    return write_tree(tmp_path / "m", FILES)


@pytest.fixture
def store(run: Run, tmp_path: Path, source: Path) -> Path:
    """A store that holds that directory as `m`."""
    path = tmp_path / "store"
    assert run("ingest", path, source).code == 0
    return path


def two_layers(raw: bytes) -> bytes:
    half, norm = len(raw) // 2, weights(600, 3)
    return tensor_file(
        {
            "layers.0.w": ("BF16", [half // 2], raw[:half]),
            "layers.1.w": ("BF16", [half // 2], raw[half:]),
            "norm": ("BF16", [len(norm) // 2], norm),
        }
    )


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, its fine-tune, a wider copy of it, and what belongs to no model; not to be changed."""
    root = tmp_path_factory.mktemp("family")
    path = root / "store"
    with open_store(path, create=True) as store:
        put_file(store, root, b"org/base/model.safetensors", two_layers(BASE))
        put_file(store, root, b"org/base/config.json", b'{"a": 1}' * 20)
        put_file(store, root, b"me/tuned/model.safetensors", two_layers(tuned(BASE)))
        put_file(store, root, b"me/tuned/config.json", b'{"a": 1}' * 20)
        wide = b"".join(b"\0\0" + BASE[at : at + 2] for at in range(0, len(BASE), 2))
        put_file(store, root, b"me/wide/model.safetensors", tensor_file({"w": ("F32", [len(BASE) // 2], wide)}))
        put_file(store, root, b"README.md", b"hello")
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def family_store(family: Path, tmp_path: Path) -> Path:
    """A copy of that store, which may be changed."""
    return Path(shutil.copytree(family, tmp_path / "store"))


@pytest.fixture
def answering(tmp_path: Path) -> Path:
    """A directory that looks like a mount to whoever asks it."""
    (tmp_path / ".zipfs").mkdir()
    return tmp_path
