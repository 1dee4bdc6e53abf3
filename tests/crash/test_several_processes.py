"""Several processes use one store at once: nothing is lost, readers are not disturbed, and who waits says so."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stores import (
    Listener,
    collect_garbage,
    compress,
    contents,
    copy_in,
    import_path,
    model,
    noise,
    problems,
    put_file,
    remove,
    served_inode,
    tuned,
    weights,
    write_tree,
)
from zipfs.errors import Stopped
from zipfs.ingest.import_tree import find
from zipfs.ingest.pipeline import Pipeline
from zipfs.ingest.queue import seal_everything
from zipfs.library import Library
from zipfs.reading import Reader, open_content
from zipfs.store.maintenance.check import check
from zipfs.store.store import open_store

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zipfs.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_ingests_a_list_a_collection_and_a_removal_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store"
    base = weights(60_000)
    stay = {b"stay/base": model(base), b"stay/x": noise(100_000, 1)}
    go = {f"go/{n}".encode(): noise(60_000, 10 + n) for n in range(5)}
    new = {
        top: {f"f{n}".encode(): model(tuned(base, 100 * len(top) + n)) for n in range(6)} for top in (b"one", b"other")
    }
    with open_store(path, create=True) as store:
        for name, content in (stay | go).items():
            put_file(store, tmp_path / "scratch", name, content)
    processes = []
    for top, files in new.items():
        processes.append(start("ingest", path, write_tree(tmp_path / os.fsdecode(top), files)))
    processes.append(start("rm", "-r", path, "go"))
    for _ in range(2):
        processes.append(start("gc", path))
        processes.append(start("ls", "-r", path))
        processes.append(start("fsck", "--read-data", path))
    for process in processes:
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, (process.args, out, err)
    expected = stay | {top + b"/" + name: content for top, files in new.items() for name, content in files.items()}
    assert contents(path) == expected
    with open_store(path) as store:
        assert problems(store) == []
        collect_garbage(store)
        assert problems(store) == []
    assert contents(path) == expected


def test_who_waits_for_another_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store"
    source = write_tree(tmp_path / "m", {b"a": b"1"})
    with open_store(path, create=True) as store:
        with store.lock("pack").held("", waiting=None):
            process = start("gc", path)
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "waiting" in line
            assert process.poll() is None
        process.communicate(timeout=180)
        assert process.returncode == 0

        listener = Listener()
        lock = store.lock("pack")
        assert lock.try_acquire()
        pipeline = Pipeline(store, listener)

        def let_go_when_told() -> None:
            while not listener.waited:
                time.sleep(0.01)
            lock.release()

        threading.Thread(target=let_go_when_told).start()
        pipeline.run(find(store, source, b"m").sources)
        pipeline.close()
        assert len(listener.waited) == 1
    assert contents(path) == {b"m/a": b"1"}


def test_a_wait_can_be_broken_off(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        copy_in(store, b"a", b"1")
        seal_everything(store)
        pipeline = Pipeline(store, Listener())
        with store.lock("pack").held("", waiting=None):
            pipeline.stop.set()
            with pytest.raises(Stopped), store.lock("pack").held("", waiting=lambda: None, stop=pipeline.stop):
                pass
        pipeline.close()
    with open_store(tmp_path / "store") as store:
        compress(store)
    assert contents(tmp_path / "store") == {b"a": b"1"}


def test_a_file_that_is_open_stays_readable_whatever_is_removed_collected_and_moved(tmp_path: Path) -> None:
    path = tmp_path / "store"
    base = weights(700_000)
    files = {b"base": model(base), b"tuned": model(tuned(base)), b"keep": noise(50_000, 1)}
    with open_store(path, create=True) as store:
        import_path(store, write_tree(tmp_path / "m", files), b"m")
        copy_in(store, b"spooled", noise(100_000, 2))
        seal_everything(store)
    with open_store(path, read_only=True, cache_nbytes=0) as reader:
        names = (b"m/base", b"m/tuned", b"m/keep", b"spooled")
        opened = {name: open_content(reader, Reader(reader.frames), served_inode(reader, name)) for name in names}
        with open_store(path) as store:
            for name in (b"m/base", b"m/tuned", b"spooled"):
                remove(store, name)
            collected = collect_garbage(store)
            assert collected.packs_rewritten == 1
            put_file(store, tmp_path, b"m/tuned", b"another one of that name")
        expected = {b"m/" + name: content for name, content in files.items()} | {b"spooled": noise(100_000, 2)}
        for name, content in opened.items():
            assert bytes(content.read(0, content.nbytes)) == expected[name]
            content.close()
    assert contents(path) == {b"m/keep": files[b"keep"], b"m/tuned": b"another one of that name"}


def test_a_reader_that_looked_just_before_a_pack_moved_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    files = {f"f{n}".encode(): noise(50_000, n) for n in range(5)}
    with open_store(path, create=True) as store:
        import_path(store, write_tree(tmp_path / "m", files), b"m")
        for n in range(4):
            remove(store, f"m/f{n}".encode())
    with open_store(path, read_only=True) as reader:
        original = reader.catalog.blobs_of
        moved: list[int] = []

        def look_and_then_it_moves(inode: object) -> object:
            found = original(inode)  # type: ignore[arg-type]
            if not moved:
                with open_store(path) as store:
                    moved.append(collect_garbage(store).packs_rewritten)
            return found

        monkeypatch.setattr(reader.catalog, "blobs_of", look_and_then_it_moves)
        content = open_content(reader, Reader(reader.frames), served_inode(reader, b"m/f4"))
        assert moved == [1]
        assert bytes(content.read(0, content.nbytes)) == files[b"f4"]


def test_a_check_beside_writers_tells_of_nothing(tmp_path: Path) -> None:
    """What changes while it is checked is no damage."""
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        put_file(store, tmp_path / "scratch", b"first", noise(1000, 1))
    ended = threading.Event()

    def change() -> None:
        try:
            with open_store(path) as store:
                for n in range(60):
                    put_file(store, tmp_path / "changing", f"d/{n % 7}".encode(), noise(3000, n))
                    copy_in(store, f"c/{n % 3}".encode(), noise(300, n))
                    compress(store)
                    if n % 5 == 4:
                        remove(store, f"d/{n % 7}".encode())
                        collect_garbage(store)
        finally:
            ended.set()

    writer = threading.Thread(target=change)
    writer.start()
    checks = 0
    told = []
    while not ended.is_set():
        with open_store(path, read_only=True) as store:
            told += [problem for problem in check(store, read_data=True) if not problem.harmless]
        with Library(path) as library:
            assert library.read("first") == noise(1000, 1)
        checks += 1
    writer.join()
    assert checks > 3
    assert told == []


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_moment_lose_nothing(seed: int, tmp_path: Path) -> None:
    """Not at named points but by the clock: an ingest and a collection, killed again and again, in the end finish."""
    chance = random.Random(seed)
    path = tmp_path / "store"
    base = weights(200_000)
    before = {b"b/base": model(base), b"b/x": noise(300_000, seed)}
    new = {f"f{n}".encode(): model(tuned(base, seed * 50 + n)) for n in range(8)}
    with open_store(path, create=True) as store:
        import_path(store, write_tree(tmp_path / "b", {name[2:]: content for name, content in before.items()}), b"b")
        for n in range(3):
            put_file(store, tmp_path / "scratch", f"junk/{n}".encode(), noise(100_000, 90 + n))
        remove(store, b"junk")
    source = write_tree(tmp_path / "new", new)
    acts: list[Callable[[], subprocess.Popen[str]]] = [
        lambda: start("ingest", path, source),
        lambda: start("gc", path),
    ]
    for _ in range(4):
        process = chance.choice(acts)()
        time.sleep(0.25 + chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=180)
        found = contents(path)
        assert {name: found[name] for name in before} == before
        for name, content in new.items():
            assert found.get(b"new/" + name) in (None, content)
    for act in acts:
        process = act()
        process.communicate(timeout=180)
        assert process.returncode == 0
    assert contents(path) == before | {b"new/" + name: content for name, content in new.items()}
    with open_store(path) as store:
        assert list(check(store, read_data=True)) == []
