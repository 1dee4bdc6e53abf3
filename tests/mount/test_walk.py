"""What fsx does, for one who only reads: a random walk of reads, mappings, advice and copies, next to plain copies.

ZIPFS_WALK_ROUNDS and ZIPFS_WALK_SEED make it longer and another.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.crowds import PATIENCE_S, crowd
from tests.support.mounts import Mount, noise, poll, run
from tests.support.plain import Pair, Spec
from tests.support.stores import model, tuned, weights

pytestmark = pytest.mark.mount

_ROUNDS = int(os.environ.get("ZIPFS_WALK_ROUNDS", "4"))
_SEED = int(os.environ.get("ZIPFS_WALK_SEED", "1"))


@pytest.fixture(scope="module")
def library(shared: Mount, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mount, Path]:
    plain = tmp_path_factory.mktemp("plain")
    base = weights(4_000_000)
    contents = {
        "base": model(base),
        "tuned": model(tuned(base)),
        "noise": noise((2 << 20) + 1, 1),
        "page": noise(4096, 2),
        "byte": b"x",
        "text": b"a line of text\n" * 100_000,
    }
    for name, content in contents.items():
        (plain / name).write_bytes(content)
        run("cp", plain / name, shared.ingest / name)
        shared.stored(name)
    return shared, plain


@pytest.mark.parametrize("cache", ["0", "3M", "512M"])
def test_any_walk_sees_what_was_written(library: tuple[Mount, Path], tmp_path: Path, cache: str) -> None:
    mount, plain = library
    mount.remount("--cache-size", cache)
    pairs = [Pair(str(mount.point / path.name), (str(path),)) for path in sorted(plain.iterdir())]
    spec = Spec(str(tmp_path / "stop"), tuple(pairs))
    with crowd(mount, spec, tmp_path, ["walk"] * 3, _SEED, _ROUNDS) as walkers:
        poll(lambda: not walkers.busy(), within_s=PATIENCE_S * _ROUNDS, what="the walks to end")
        assert walkers.failures() == []
    assert "Traceback" not in mount.log()
