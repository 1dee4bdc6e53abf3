"""Every way in which programs read the served tree gives the bytes that were written."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, load_file, save_file

from tests.formats import hostile
from tests.support.mounts import REPOSITORY, Mount, noise, python, run

pytestmark = pytest.mark.mount

_MAP_POPULATE = 0x8000


@dataclass(frozen=True, slots=True)
class Library:
    """A mount, and the directory that was copied into it."""

    mount: Mount
    source: Path

    def pairs(self) -> Iterator[tuple[Path, Path]]:
        """(served, as it was written)."""
        for path in sorted(self.source.rglob("*")):
            if path.is_file():
                yield self.mount.point / "library" / path.relative_to(self.source), path


@pytest.fixture(scope="module")
def library(shared: Mount, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Tensors, text, noise, sparse and tiny files; some coded against others. Compressed, and in no cache."""
    source = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(1)
    weights = {f"layer.{i}.weight": rng.standard_normal((500, 700), np.float32) for i in range(4)}
    weights["odd"] = rng.standard_normal(333_333, np.float32)
    save_file(weights, source / "base.safetensors")
    tuned = {name: w * (1 + np.float32(1e-4) * rng.standard_normal(w.shape, np.float32)) for name, w in weights.items()}
    save_file(tuned, source / "tuned.safetensors", metadata={"format": "np"})
    save_file({name: w.astype(np.float16) for name, w in weights.items()}, source / "half.safetensors")
    (source / "noise").write_bytes(noise(3_333_333, 2))
    (source / "text").write_text("".join(f"line {i}\n" for i in range(200_000)))
    (source / "zeros").write_bytes(bytes(5_000_000))
    for size in (0, 1, 2, 511, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        (source / f"size-{size}").write_bytes(noise(size, size))
    run("cp", "-r", source, shared.ingest / "library")
    shared.wait()
    shared.remount()
    return Library(shared, source)


def test_every_byte(library: Library) -> None:
    run("diff", "-r", library.source, library.mount.point / "library")


def test_any_range(library: Library) -> None:
    rng = random.Random(2)
    for served, path in library.pairs():
        data = path.read_bytes()
        descriptor = os.open(served, os.O_RDONLY)
        try:
            for _ in range(40):
                at = rng.randrange(len(data) + 2)
                size = rng.choice((1, 3, 100, 4096, 131_072, 1 << 20, 3 << 20))
                assert os.pread(descriptor, size, at) == data[at : at + size]
        finally:
            os.close(descriptor)


def test_at_the_end(library: Library) -> None:
    for served, path in library.pairs():
        size = path.stat().st_size
        with open(served, "rb", buffering=0) as file:
            assert os.pread(file.fileno(), 10, size) == b""
            assert os.pread(file.fileno(), 10, size + (1 << 40)) == b""
            last = os.pread(file.fileno(), 10, max(0, size - 3))
            assert len(last) == min(3, size)
            assert file.seek(0, os.SEEK_END) == size


@pytest.mark.parametrize(
    ("flags", "access"),
    [(mmap.MAP_PRIVATE, "order"), (mmap.MAP_SHARED, "order"), (mmap.MAP_SHARED | _MAP_POPULATE, "order"),
     (mmap.MAP_PRIVATE, "random")],
)  # fmt: skip
def test_mappings(library: Library, flags: int, access: str) -> None:
    for served, path in library.pairs():
        data = path.read_bytes()
        if not data:
            continue
        with open(served, "rb") as file, mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as view:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            pages = list(range(0, len(data), 65_536))
            if access == "random":
                view.madvise(mmap.MADV_RANDOM)
                random.Random(3).shuffle(pages)
            for at in pages:
                assert view[at : at + 65_536] == data[at : at + 65_536]


def test_eight_threads_on_one_descriptor(library: Library) -> None:
    served, path = next(pair for pair in library.pairs() if pair[1].name == "tuned.safetensors")
    data = path.read_bytes()
    descriptor = os.open(served, os.O_RDONLY)

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            at, size = rng.randrange(len(data)), rng.choice((4096, 200_000, 2 << 20))
            assert os.pread(descriptor, size, at) == data[at : at + size]

    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(read, range(8)))
    finally:
        os.close(descriptor)


def test_eight_processes(library: Library) -> None:
    library.mount.remount()
    commands = [["diff", "-r", str(library.source), str(library.mount.point / "library")] for _ in range(8)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    for process in processes:
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said


def test_direct_io(library: Library) -> None:
    """As loaders do that go round the page cache: aligned blocks into aligned memory."""
    for served, path in library.pairs():
        data = path.read_bytes()
        descriptor = os.open(served, os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 1 << 20) as buffer:
                got = bytearray()
                while count := os.preadv(descriptor, [buffer], len(got)):
                    got += buffer[:count]
                assert got == data
                for at in range(0, len(data), 777_728 - 777_728 % 4096):
                    count = os.preadv(descriptor, [buffer], at)
                    assert buffer[:count] == data[at : at + count]
                    assert count == min(1 << 20, len(data) - at)
        finally:
            os.close(descriptor)


def test_tiny_reads_in_order(library: Library) -> None:
    served, path = next(pair for pair in library.pairs() if pair[1].name == "text")
    with open(served, buffering=128) as here, open(path) as there:
        assert all(one == other for one, other in zip(here, there, strict=True))


def test_random_reads_of_a_cold_file(library: Library) -> None:
    """No read-ahead helps here, and none must hurt."""
    library.mount.remount()
    served, path = next(pair for pair in library.pairs() if pair[1].name == "half.safetensors")
    data = path.read_bytes()
    places = list(range(0, len(data), 10_007))
    random.Random(4).shuffle(places)
    descriptor = os.open(served, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for at in places:
            assert os.pread(descriptor, 1000, at) == data[at : at + 1000]
    finally:
        os.close(descriptor)


def test_safetensors_loads(library: Library) -> None:
    for name in ("base", "tuned", "half"):
        served = library.mount.point / "library" / f"{name}.safetensors"
        expected = load_file(library.source / f"{name}.safetensors")
        loaded, parsed = load_file(served), load(served.read_bytes())
        with safe_open(served, framework="np") as opened:
            assert sorted(opened.keys()) == sorted(expected)
            for key, tensor in expected.items():
                assert np.array_equal(loaded[key], tensor)
                assert np.array_equal(parsed[key], tensor)
                assert np.array_equal(opened.get_tensor(key), tensor)
                assert np.array_equal(opened.get_slice(key)[1:3], tensor[1:3])


_LOADERS = """
import sys
import numpy as np
from safetensors.numpy import load_file
here, there = load_file(sys.argv[1]), load_file(sys.argv[2])
assert all(np.array_equal(here[name], there[name]) for name in there)
"""


def test_many_loaders_at_once_on_a_small_cache(library: Library) -> None:
    """More is read than the cache holds."""
    library.mount.remount("--cache-size", "4M")
    names = ["base", "tuned", "half"] * 2
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _LOADERS, library.mount.point / f"library/{name}.safetensors",
             library.source / f"{name}.safetensors"],
            stderr=subprocess.PIPE, cwd=REPOSITORY,
        )
        for name in names
    ]  # fmt: skip
    for process in processes:
        _, said = process.communicate(timeout=180)
        assert process.returncode == 0, said
    library.mount.remount()


def test_hostile_files_are_served_as_they_are(shared: Mount, tmp_path: Path) -> None:
    source = tmp_path / "hostile"
    source.mkdir()
    for name, data in [*hostile.valid_files(), *hostile.hostile_files()]:
        (source / f"{name}.safetensors").write_bytes(data)
    run("cp", "-r", source, shared.ingest / "hostile")
    shared.wait()
    assert shared.status()["errors"] == []
    run("diff", "-r", source, shared.point / "hostile")
    shared.remount()
    run("diff", "-r", source, shared.point / "hostile")


def minor_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_opening_files_takes_the_same_memory_again(mounts: Callable[..., Mount]) -> None:
    mount = mounts().start()
    (mount.ingest / "m").mkdir()
    for number in range(100):
        (mount.ingest / "m" / f"{number}.json").write_bytes(noise(300, number))
    mount.wait()
    code = "import pathlib, sys; [path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()]"
    python(code, mount.point / "m")
    before = minor_faults(mount.pid)
    for _ in range(3):
        python(code, mount.point / "m")
    assert minor_faults(mount.pid) - before < 10 * 300
