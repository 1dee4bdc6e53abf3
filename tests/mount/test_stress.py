"""Everything at once: readers of every kind on a small cache, and files removed, replaced, collected and damaged.

Every byte is compared. ZIPFS_STRESS_S sets for how many seconds it goes on, ZIPFS_STRESS_SEED what is done. Whoever
makes no step for a minute hangs: then the connection is torn down, and the test fails with where the kernel holds the
reader.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import prometheus
from tests.support.crowds import PATIENCE_S, crowd
from tests.support.mounts import Mount, is_alive, noise, poll, poll_equal, run, zipfs
from tests.support.plain import Pair, Spec
from tests.support.stores import served_inode, tensor_file, tuned, weights
from zipfs.codec import FRAME_NBYTES
from zipfs.store.frames.open_blob import open_blob
from zipfs.store.objects.values import Extent
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.mount

_SECONDS = float(os.environ.get("ZIPFS_STRESS_S", "20"))
_SEED = int(os.environ.get("ZIPFS_STRESS_SEED", "1"))
_CACHE_MIB = 24
_RESIDENT_BEYOND_CACHE_MIB = 250
_VERSIONS = 6


def _model(sizes: list[int], seed: int) -> dict[str, bytes]:
    return {f"layer.{number}": weights(items, seed * 100 + number) for number, items in enumerate(sizes)}


def _file(tensors: dict[str, bytes]) -> bytes:
    return tensor_file({name: ("BF16", [len(raw) // 2], raw) for name, raw in tensors.items()})


def _tuned(tensors: dict[str, bytes], seed: int) -> dict[str, bytes]:
    return {name: tuned(raw, seed + at) for at, (name, raw) in enumerate(tensors.items())}


def _version(number: int) -> bytes:
    """A model whose first eight bytes, the length of its header, tell which version it is."""
    tensors = _tuned(_model([800_000, 300_000, 40], 3), number)
    return tensor_file({name: ("BF16", [len(raw) // 2], raw) for name, raw in tensors.items()}, pad=8 * number)


@dataclass(frozen=True, slots=True)
class House:
    """A mounted store, and the plain copies of what it serves."""

    mount: Mount
    plain: Path
    spec: Spec

    @property
    def stop(self) -> Path:
        return Path(self.spec.stop)


def _put(mount: Mount, plain: Path, name: str, content: bytes) -> Pair:
    """A file in a pack of its own."""
    (plain / name).write_bytes(content)
    run("cp", plain / name, mount.ingest / name)
    mount.stored(name)
    return Pair(str(mount.point / name), (str(plain / name),))


def _frame_of(store: Store, extent: Extent, index: int) -> tuple[Path, int, int]:
    """(pack, offset, bytes) of a stored frame of the blob of an extent."""
    source = open_blob(store.packs.open, store.catalog.blob(extent.blob_id), store.catalog.blob)
    stored = source.stored(index)
    return Path(stored.pack.where), stored.offset, stored.nbytes


def _damage(store: Path, pairs: list[tuple[Pair, list[Pair]]]) -> list[Pair]:
    """Spoil a frame in the middle of the largest tensor of each file, and so of others that are coded against it."""
    damaged = []
    with open_store(store, read_only=True) as opened:
        for pair, others in pairs:
            name = os.path.basename(pair.served).encode()
            extent = max(opened.catalog.extents(served_inode(opened, name)), key=lambda extent: extent.nbytes)
            index = extent.nbytes // FRAME_NBYTES // 2
            pack, offset, nbytes = _frame_of(opened, extent, index)
            with open(pack, "r+b") as file:
                file.seek(offset + nbytes // 2)
                byte = file.read(1)[0]
                file.seek(offset + nbytes // 2)
                file.write(bytes([byte ^ 0x40]))
            begin = extent.offset + index * FRAME_NBYTES
            bad = ((begin, min(begin + FRAME_NBYTES, extent.offset + extent.nbytes)),)
            damaged += [Pair(one.served, one.plain, bad) for one in (pair, *others)]
    return damaged


@pytest.fixture
def house(mounts: Callable[..., Mount], tmp_path: Path) -> House:
    """A family, other files, a damaged one and a family whose base is damaged; compressed, and in no cache."""
    mount = mounts("--quiet", "0.2", "--cache-size", f"{_CACHE_MIB}M", "--linger", "1").start()
    plain = tmp_path / "plain"
    plain.mkdir()
    base = _model([3_000_000, 70, 1_500_000, 2_000_000, 5, 1_000_000], 1)
    good = [_put(mount, plain, "base.safetensors", _file(base))]
    good += [_put(mount, plain, f"tuned-{seed}.safetensors", _file(_tuned(base, seed * 50))) for seed in (1, 2, 3)]
    good.append(_put(mount, plain, "noise", noise(7 * FRAME_NBYTES + 4321, 5)))
    good.append(_put(mount, plain, "text", b"".join(b"line %d\n" % number for number in range(300_000))))
    spoilt = _put(mount, plain, "spoilt", noise(9 * FRAME_NBYTES + 99, 6))
    other = _model([4_000_000, 300_000], 2)
    ground = _put(mount, plain, "ground.safetensors", _file(other))
    above = _put(mount, plain, "above.safetensors", _file(_tuned(other, 7)))
    mount.wait()
    mount.umount()
    damaged = _damage(mount.store, [(spoilt, []), (ground, [above])])
    mount.start()
    versions = []
    for number in range(_VERSIONS):
        versions.append(str(plain / f"version-{number}"))
        Path(versions[-1]).write_bytes(_version(number))
    replaced = [Pair(str(mount.point / f"replaced-{number}"), tuple(versions)) for number in range(2)]
    return House(mount, plain, Spec(str(tmp_path / "stop"), tuple(good), tuple(damaged), tuple(replaced)))


class Changes:
    """What happens to a store while it is read, one thing after the other."""

    def __init__(self, house: House, chance: random.Random) -> None:
        self._house = house
        self._mount = house.mount
        self._chance = chance

    def make_some(self) -> None:
        """All kinds of change, in some order."""
        changes = [self._replace, self._replace, self._remove, self._collect, self._read, self._read]
        self._chance.shuffle(changes)
        for change in changes:
            change()

    def _replace(self) -> None:
        pair = self._chance.choice(self._house.spec.replaced)
        source, target = self._chance.choice(pair.plain), self._mount.ingest / os.path.basename(pair.served)
        if self._chance.random() < 0.5:
            shutil.copyfile(source, target)
        else:
            part = target.with_name(".part")
            shutil.copyfile(source, part)
            part.rename(target)

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._chance.choice(self._house.spec.replaced).served)

    def _collect(self) -> None:
        done = zipfs("gc", self._mount.store)
        assert done.returncode == 0, done.stderr

    def _read(self) -> None:
        json.loads(os.getxattr(self._mount.point, "user.zipfs.perf"))
        prometheus.parse((self._mount.point / ".zipfs" / "metrics").read_text())
        status = self._mount.status()
        assert status["errors"] == []
        assert len(os.listdir(self._mount.point)) >= len(self._house.spec.good)


@contextmanager
def _telling(mount: Mount) -> Iterator[None]:
    """What fails in here shows the end of the log, too."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{mount.log()[-5000:]}\nalive: {is_alive(mount.pid)}")
        raise


@pytest.mark.expected_log("read: pack .* is damaged at offset")
def test_everything_at_once(house: House, tmp_path: Path) -> None:
    roles = ["sequential", "halting", "mapped", "anywhere", "shared", "direct", "replaced", "damaged", "walk"]
    changes = Changes(house, random.Random(_SEED))
    end = time.monotonic() + _SECONDS
    with _telling(house.mount), crowd(house.mount, house.spec, tmp_path, roles, _SEED * 1000) as readers:
        while time.monotonic() < end and not house.stop.exists():
            readers.busy()
            changes.make_some()
        house.stop.touch()
        poll(lambda: not readers.busy(), within_s=2 * PATIENCE_S, what="the readers to end")
        assert readers.failures() == []
        _check_rest(house)


def _check_rest(house: House) -> None:
    """All is let go, nothing unexpected was logged, and everything else is as it was."""
    mount = house.mount
    mount.wait()
    gauges = _gauges(mount)
    poll_equal(lambda: {name: _gauges(mount)[name] for name in ("open_files", "streams", "ahead_bytes")},
               {"open_files": 0.0, "streams": 0.0, "ahead_bytes": 0.0})  # fmt: skip
    assert gauges["cache_bytes"] <= _CACHE_MIB << 20
    perf = json.loads(os.getxattr(mount.point, "user.zipfs.perf"))
    assert perf["process"]["peak_resident_nbytes"] <= (_CACHE_MIB + _RESIDENT_BEYOND_CACHE_MIB) << 20
    assert perf["tallies"]["prefetch_used"]["count"] > 0
    log = mount.log()
    assert "Traceback" not in log
    unexpected = [line for line in log.splitlines() if " ERROR " in line and "is damaged at offset" not in line]
    assert unexpected == []
    for pair in house.spec.good:
        assert Path(pair.served).read_bytes() == Path(pair.plain[0]).read_bytes()
    told = zipfs("fsck", mount.store, "--read-data")
    named = {os.path.basename(pair.served) for pair in house.spec.damaged}
    assert all(name in told.stdout + told.stderr for name in named)
    assert not any(os.path.basename(pair.served) in told.stdout + told.stderr for pair in house.spec.good)


def _gauges(mount: Mount) -> dict[str, float]:
    found = json.loads(os.getxattr(mount.point, "user.zipfs.perf"))["gauges"]
    assert isinstance(found, dict)
    return found
