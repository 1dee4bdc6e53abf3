"""Cases of try_clients: files that are changed in place, mapped, appended to, replaced and followed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.clients.models import fingerprint_of, library
from tools.clients.side import Side, again, beside, is_told_to_end, names, printed, run, sha256

ROUNDS = 5
ROWS = 30
"""That each of two processes adds to a database at a time."""


def h5_look(path: str) -> None:
    """Tell of a file of HDF5 in a process of its own."""
    with library("h5py").File(path, "r") as file:
        print(f"@{sorted(file)} {file['rows'].shape} {float(file['rows'][()].sum())} {dict(file.attrs)}")


def h5py_append(side: Side) -> None:
    """A file of HDF5 grows, is changed in the middle and gets new groups, opened anew each time."""
    h5py, numpy = library("h5py"), library("numpy")
    path = side.target / "runs" / "log.h5"
    path.parent.mkdir()
    for number in range(ROUNDS):
        with h5py.File(path, "a" if number < 2 else "r+") as file:
            rows = file.require_dataset("rows", (number * 2000, 50), "f4", maxshape=(None, 50), chunks=(500, 50)) if (
                number
            ) else file.create_dataset("rows", (0, 50), "f4", maxshape=(None, 50), chunks=(500, 50))  # fmt: skip
            rows.resize((number + 1) * 2000, axis=0)
            rows[number * 2000 :] = numpy.arange(100_000, dtype="f4").reshape(2000, 50) + number
            rows[10 * number] = -1
            file.create_group(f"epoch{number}").create_dataset("w", data=numpy.full(10_000, number), compression="gzip")
            file.attrs["epochs"] = number
        side.note(f"append {number}: read at once", printed(again(__name__, "h5_look", path)))
        side.seal_pause()
        side.note(f"append {number}: read later", printed(again(__name__, "h5_look", path)))
    side.wait_until_served()
    side.note("as served", printed(again(__name__, "h5_look", side.served / "runs" / "log.h5")))
    shutil.copy(path, side.scratch / "copy.h5")
    side.note("file", sha256(side.scratch / "copy.h5"))


def torch_look(path: str) -> None:
    """Tell of a file of torch.save in a process of its own."""
    found = library("torch").load(path, weights_only=True)
    print(f"@{ {name: tensor.double().sum().item() for name, tensor in found.items()} }")


def mapped_tensors(side: Side) -> None:
    """What is written through a shared mapping is seen by others and kept; a mapped file that is replaced stays."""
    torch, numpy = library("torch"), library("numpy")
    path = side.target / "m.pt"
    torch.save({"w": torch.arange(600_000.0), "v": torch.ones(1000)}, path)
    side.wait_until_served()
    for number in (1, 2):
        with shared_mappings():
            found = torch.load(path, mmap=True, weights_only=True)
        found["w"][1000 * number : 1000 * number + 500] = -number
        side.note(f"mapping {number}: seen by itself", found["w"].double().sum().item())
        side.note(f"mapping {number}: seen by another process", printed(again(__name__, "torch_look", path)))
        del found
        side.wait_until_served()
        side.note(f"mapping {number}: kept", printed(again(__name__, "torch_look", path)))
    private = torch.load(path, mmap=True, weights_only=True)
    with shared_mappings():
        shared = torch.load(path, mmap=True, weights_only=True)
    torch.save({"w": torch.zeros(10)}, side.target / "m.pt.tmp")
    os.replace(side.target / "m.pt.tmp", path)
    side.note("replaced: by name", printed(again(__name__, "torch_look", path)))
    shared["v"][:] = 2
    side.note("replaced: private mapping", {name: tensor.double().sum().item() for name, tensor in private.items()})
    side.note("replaced: shared mapping", {name: tensor.double().sum().item() for name, tensor in shared.items()})
    side.wait_until_served()
    side.note("replaced: private mapping, later", fingerprint_of(private))
    del private, shared
    side.note("replaced: by name, later", printed(again(__name__, "torch_look", path)))
    array = numpy.lib.format.open_memmap(side.target / "a.npy", mode="w+", dtype="f4", shape=(1000, 500))
    for number in range(3):
        array[number * 300 : number * 300 + 100] = number + 1
        array.flush()
        del array
        side.wait_until_served()
        array = numpy.load(side.target / "a.npy", mmap_mode="r+")
        side.note(f"numpy, opened anew {number}", float(array.sum()))
    del array


@contextmanager
def shared_mappings() -> Iterator[None]:
    """Have torch.load map files so that what is written to a tensor is written to its file."""
    serialization, mmap = library("torch.serialization"), library("mmap")
    with serialization.set_default_mmap_options(mmap.MAP_SHARED):
        yield


def safetensors_look(path: str) -> None:
    """Tell of a safetensors file in a process of its own."""
    with library("safetensors").safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        print(f"@{fingerprint_of(found)} {file.metadata()}")


def safetensors_rewritten(side: Side) -> None:
    """A safetensors file is saved over itself, smaller and larger, by another's side who has the one before."""
    torch, safetensors = library("torch"), library("safetensors.torch")
    path, served = side.target / "st" / "model.safetensors", side.served / "st" / "model.safetensors"
    path.parent.mkdir()
    torch.manual_seed(22)
    for number, rows in enumerate((500, 900, 100, 500, 501)):
        tensors = {"a": torch.randn(rows, 300), "b": torch.randn(7).to(torch.bfloat16)}
        safetensors.save_file(tensors, path, {"step": str(number)})
        side.note(f"save {number}: at once", printed(again(__name__, "safetensors_look", path)))
        side.seal_pause()
        side.wait_until_served()
        side.note(f"save {number}: as served", printed(again(__name__, "safetensors_look", served)))
    with library("safetensors").safe_open(path, "pt") as before:
        safetensors.save_file({"a": torch.zeros(3)}, f"{path}.tmp")
        os.replace(f"{path}.tmp", path)
        side.note("replaced while open: the one before", float(before.get_tensor("a").sum()))
        side.wait_until_served()
        side.note("replaced while open: the one before, later", float(before.get_tensor("a").sum()))
    side.note("replaced while open: by name", printed(again(__name__, "safetensors_look", served)))
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    with path.open("r+b") as file:
        file.seek(header)
        file.write(bytes(11) + b"\x7f")
    side.note("bytes written in place", safetensors.load_file(path)["a"].tolist() == [0.0, 0.0, 0.0])
    side.wait_until_served()
    side.note("bytes written in place, later", sha256(served))


def sqlite_writer(path: str, who: str, count: str, mode: str) -> None:
    """Add rows to a database that another process writes to as well."""
    database: Any = library("sqlite3").connect(path, timeout=60, isolation_level=None)
    database.execute(f"pragma journal_mode = {mode}")
    for number in range(int(count)):
        database.execute("begin immediate")
        (last,) = database.execute("select coalesce(max(serial), 0) from rows").fetchone()
        database.execute("insert into rows values (?, ?, ?, ?)", (last + 1, who, number, os.urandom(500)))
        database.execute("commit")
    database.close()


def sqlite_reader(path: str) -> None:
    """Count rows for as long as others write; prints how often there was anything wrong, and whether it looked."""
    database: Any = library("sqlite3").connect(path, timeout=60)
    before = looks = wrong = 0
    while not is_told_to_end() or not looks:
        count, last = database.execute("select count(*), coalesce(max(serial), 0) from rows").fetchone()
        wrong += count != last or count < before
        before, looks = count, looks + 1
        if looks % 50 == 0:
            wrong += database.execute("pragma integrity_check").fetchone()[0] != "ok"
        time.sleep(0.002)
    print(f"@{wrong} {looks > 0}")


def sqlite(side: Side) -> None:
    """Two processes write to a database and a third one reads it, with each kind of journal, from pause to pause."""
    side.varying = ("*.db*",)
    module: Any = library("sqlite3")
    for mode in ("wal", "delete", "truncate", "persist"):
        path = side.target / f"{mode}.db"
        database = module.connect(path, isolation_level=None)
        database.execute(f"pragma journal_mode = {mode}")
        database.execute("create table rows (serial integer unique, who text, number integer, content blob)")
        database.close()
        for turn in (1, 2):
            with (
                beside(__name__, "sqlite_reader", path) as seen,
                beside(__name__, "sqlite_writer", path, "other", ROWS, mode),
            ):
                again(__name__, "sqlite_writer", path, "one", ROWS, mode)
            side.note(f"{mode}, turn {turn}: what a reader saw wrong", printed("\n".join(seen)))
            side.wait_until_served()
            database = module.connect(path, isolation_level=None)
            rows = database.execute("select who, count(*), sum(number) from rows group by who order by who").fetchall()
            side.note(f"{mode}, turn {turn}: rows", rows)
            side.note(f"{mode}, turn {turn}: integrity", database.execute("pragma integrity_check").fetchall())
            database.execute("delete from rows where number % 3 = 0 and who = 'other'")
            database.execute("vacuum")
            database.execute("update rows set serial = -(select count(*) from rows r where r.serial <= rows.serial)")
            database.execute("update rows set serial = -serial")
            side.note(f"{mode}, turn {turn}: shrunk", database.execute("pragma integrity_check").fetchall())
            database.close()
            side.seal_pause()
        side.note(f"{mode}: names", [name for name in names(side.target) if name.startswith(mode)])


def lmdb_writer(path: str, turn: str, writemap: str) -> None:
    """Put values into an environment of LMDB, and take some away."""
    with library("lmdb").open(path, map_size=1 << 28, writemap=writemap == "writemap") as environment:
        for part in range(5):
            with environment.begin(write=True) as transaction:
                for number in range(200):
                    transaction.put(f"{turn}.{part}.{number}".encode(), f"{turn}{number}".encode() * 200)
                transaction.put(b"last", f"{turn}.{part}".encode())
                transaction.delete(f"{turn}.{part}.7".encode())


def lmdb_look(path: str) -> None:
    with library("lmdb").open(path, readonly=True) as environment, environment.begin() as transaction:
        found = list(transaction.cursor())
        print(f"@{len(found)} {sum(map(len, (value for _, value in found)))} {transaction.get(b'last')}")


def lmdb_reader(path: str) -> None:
    """Look at what is there while another process writes; prints what never can be."""
    wrong = 0
    with library("lmdb").open(path, readonly=True) as environment:
        while not is_told_to_end():
            with environment.begin() as transaction:
                last = transaction.get(b"last")
                wrong += last is not None and transaction.get(last + b".199") is None
                wrong += last is not None and transaction.get(last + b".7") is not None
            time.sleep(0.002)
    print(f"@{wrong}")


def lmdb(side: Side) -> None:
    """LMDB writes through files and through mappings, by the side of a reader that maps the same file."""
    side.varying = ("*.mdb",)
    for way in ("pwrite", "writemap"):
        path = side.target / way
        path.mkdir()
        again(__name__, "lmdb_writer", path, 0, way)
        for turn in (1, 2, 3):
            with beside(__name__, "lmdb_reader", path) as seen:
                again(__name__, "lmdb_writer", path, turn, way)
                side.pause(side.seal_s / 2)
            side.note(f"{way} {turn}: what a reader saw wrong", printed("\n".join(seen)))
            side.note(f"{way} {turn}: at once", printed(again(__name__, "lmdb_look", path)))
            side.wait_until_served()
            side.note(f"{way} {turn}: later", printed(again(__name__, "lmdb_look", path)))


VIM = ("vim", "-N", "-u", "NONE", "-i", "NONE", "-es")
EDITORS = {
    "vim, by renaming": (*VIM, "-c", "set backup backupcopy=no", "-c", "%s/old/new/", "-c", "wq"),
    "vim, in place": (*VIM, "-c", "set backupcopy=yes", "-c", "%s/old/new/", "-c", "wq"),
    "vim, with a swap file": (*VIM, "-c", "set swapfile directory=. updatecount=1", "-c", "%s/old/new/", "-c", "wq"),
    "sed -i": ("sed", "-i", "s/old/new/"),
    "perl -i": ("perl", "-pi.orig", "-e", "s/old/new/"),
}
"""How programs save a file that they have changed; its name comes last."""


def editors(side: Side) -> None:
    """Text is edited in all the ways in which editors save, once and again, with links and modes as on a disk."""
    for number, (title, command) in enumerate(EDITORS.items()):
        folder = side.target / f"edit{number}"
        folder.mkdir()
        path = folder / "config.yaml"
        path.write_text("".join(f"line {n}: old old\n" for n in range(3000)))
        path.chmod(0o640)
        os.link(path, folder / "linked.yaml")
        for turn in (1, 2):
            side.seal_pause()
            run(*command, path, cwd=folder)
            new = [line.count("new") for line in path.read_text().splitlines()]
            side.note(f"{title}, turn {turn}: changed words", sum(new))
            side.note(f"{title}, turn {turn}: names, mode, links", (names(folder), path.stat().st_mode, links(folder)))
    for title, save in (("written over", write_over), ("emptied, then written", empty_and_write), ("moved", move_over)):
        path = side.target / f"{title.split()[0]}.txt"
        for number, text in enumerate(("one " * 5000, "two", "three " * 9000)):
            save(path, text)
            side.note(f"{title} {number}: at once", path.read_text() == text)
            side.seal_pause()
            side.note(f"{title} {number}: later", path.read_text() == text)


def links(folder: Path) -> list[bool]:
    """Whether the two names of a file are of one still."""
    return [os.path.samefile(folder / "config.yaml", folder / "linked.yaml")]


def write_over(path: Path, text: str) -> None:
    with path.open("r+" if path.exists() else "w") as file:
        file.write(text)
        file.truncate()


def empty_and_write(path: Path, text: str) -> None:
    path.open("w").close()
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def move_over(path: Path, text: str) -> None:
    """With the old one kept beside it, as Emacs does."""
    if path.exists():
        os.replace(path, path.with_suffix(".txt~"))
    path.write_text(text)


def logs(side: Side) -> None:
    """Logs that are opened anew for each line are followed by `tail`; archives grow by appending."""
    follower = textwrap.dedent("""
        tail -n +1 -s 0.1 --pid=$$ -F "$1" 2>/dev/null >"$2" & tail -n +1 -s 0.1 --pid=$$ -f "$1" >"$3" & read line
        sleep 0.5
    """)
    log, folder = side.target / "train.log", side.target / "archives"
    log.touch()
    folder.mkdir()
    outs = [side.scratch / name for name in ("by-name", "by-file")]
    following = subprocess.Popen(
        ["bash", "-c", follower, "bash", log, *outs], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    expected = ""
    for number in range(60):
        line = f"step {number}: loss {1 / (number + 1):.5f}\n"
        with log.open("a") as file:
            file.write(line)
        expected += line
        time.sleep(0.02 if number % 15 else side.seal_s)
        if number % 20 == 0:
            with zipfile.ZipFile(folder / "a.zip", "a") as archive:
                archive.writestr(zipfile.ZipInfo(f"{number}.txt"), expected)
            with tarfile.open(folder / "a.tar", "a") as tar:
                tar.add(log, f"{number}.txt", filter=timeless)
    side.note("the log", log.read_text() == expected)
    side.until(lambda: all(len(out.read_text()) >= len(expected) for out in outs), "tail to follow")
    log.rename(side.target / "train.log.1")
    log.write_text("rotated\n")
    side.until(lambda: outs[0].read_text().endswith("rotated\n"), "tail -F to follow the name")
    following.communicate(b"\n", timeout=60)
    side.note("tail -F", outs[0].read_text() == f"{expected}rotated\n")
    side.note("tail -f", outs[1].read_text() == expected)
    side.wait_until_served()
    with zipfile.ZipFile(folder / "a.zip") as archive:
        side.note("zip", (archive.testzip(), archive.namelist()))
    with tarfile.open(folder / "a.tar") as tar:
        side.note("tar", tar.getnames())
    side.note("appended to with >>", run("bash", "-c", f"echo more >>{log}; cat {log}"))


def timeless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member


def follow_latest(link: str) -> None:
    """Load what `latest` leads to for as long as it is moved; prints what failed, and the last step."""
    safetensors, failed = library("safetensors.torch"), 0
    steps: list[int] = []
    while not is_told_to_end() or not steps:
        try:
            found = safetensors.load_file(f"{link}/model.safetensors")
            steps.append(int(found["step"][0]))
            failed += bool((found["step"] != steps[-1]).any())
        except OSError:
            failed += 1
    print(f"@{failed} {steps == sorted(steps)} {steps[-1]}")


def latest_link(side: Side) -> None:
    """A link to the latest step is moved in one step; who follows it never meets with nothing. Old steps go."""
    torch, safetensors = library("torch"), library("safetensors.torch")
    folder = side.target / "run"
    folder.mkdir()

    def save(number: int) -> None:
        step = folder / f"step-{number}"
        step.mkdir()
        safetensors.save_file({"step": torch.full((200_000,), number)}, step / "model.safetensors")
        (folder / "latest.tmp").symlink_to(step.name)
        os.replace(folder / "latest.tmp", folder / "latest")

    save(0)
    with beside(__name__, "follow_latest", folder / "latest") as seen:
        for number in range(1, 8):
            save(number)
            time.sleep(0.2 if number % 2 else side.seal_s)
            if number > 3:
                shutil.rmtree(folder / f"step-{number - 4}")
        time.sleep(0.5)
    side.note("failed, in order, last step", printed("\n".join(seen)))
    side.note("names", names(folder))
    run("ln", "-sfn", "step-5", folder / "latest")
    side.wait_until_served()
    side.note("moved back by ln -sfn", int(safetensors.load_file(folder / "latest" / "model.safetensors")["step"][0]))
