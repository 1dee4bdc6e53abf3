"""The command line: what a person meets when all is well, and one clear line with the right exit code when not."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.support.commands import Done, Run, assert_refused
from tests.support.stores import contents, model, noise, tensor_file, tuned, weights, write_tree
from zipfs.cli.main import COMMANDS, cli
from zipfs.errors import ZipfsError
from zipfs.store.store import open_store

ROOT = Path(__file__).parents[2]
BASE = weights(30_000)
FILES = {
    b"base.safetensors": model(BASE),
    b"tuned.safetensors": model(tuned(BASE)),
    b"config.json": b'{"a": 1}',
    b"sub/\xff\xfe": b"not UTF-8",
    b"sub/empty": b"",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "m", FILES)


@pytest.fixture
def store(run: Run, tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "store"
    assert run("ingest", path, source).code == 0
    return path


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert done.code == 0
    text = done.out.decode()
    assert "Example:\n" in text
    assert f"  zipfs {name} " in text.partition("Example:")[2]
    assert COMMANDS[name] in run("--help").out.decode()


def test_the_help_documents_every_exit_code(run: Run) -> None:
    text = run("--help").out.decode()
    pending = [ZipfsError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        assert re.search(rf"\n +{kind.exit_code}  ", text)
    assert "Example:" in text


def test_every_option_has_help() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        assert isinstance(cli, click.Group)
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.hidden or option.help, (name, option.name)


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from zipfs.cli.main import main
sys.argv = ["zipfs", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = {"numpy", "trio", "rich", "sqlite_utils", "sqlite3", "pyfuse3", "zstandard", "xxhash", "hashlib"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ls"],
        ["cat", "x"],
        ["ls", "--nonsense", "x"],
        ["ingest", "s", "p", "--memory", "much"],
        ["ingest", "s", "p", "--memory", "-5"],
        ["ingest", "s", "p", "--threads", "0"],
        ["ingest", "s", "p", "q", "--as", "n"],
        ["ingest", "s", "--as", "n"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], run: Run) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "Usage:" in done.err


# What works


def test_what_goes_in_comes_out(run: Run, store: Path, source: Path, tmp_path: Path) -> None:
    for name, content in FILES.items():
        assert run("cat", store, b"m/" + name).out == content
    assert run("extract", store, "m", tmp_path / "out").code == 0
    assert subprocess.run(["diff", "-r", source, tmp_path / "out"], check=False).returncode == 0
    assert run("fsck", store, "--read-data").code == 0


def test_extract_brings_modes_times_links_and_attributes_back(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "m", FILES)
    os.chmod(source / "config.json", 0o700)
    os.setxattr(source / "config.json", "user.a", b"\0\xff")
    os.setxattr(source / "sub", "user.b", b"on a directory")
    os.utime(source / "config.json", ns=(1, 1_500_000_000_123_456_789))
    os.symlink("config.json", source / "link")
    os.symlink(b"\xff dangling", os.fsencode(source / "sub/dangling"))
    (source / "empty").mkdir(mode=0o700)
    (source / "closed").mkdir()
    (source / "closed/file").write_bytes(b"1")
    os.utime(source / "closed", ns=(1, 1_400_000_000_000_000_001))
    os.chmod(source / "closed", 0o500)
    os.utime(source, ns=(1, 1_300_000_000_000_000_003))
    store, out = tmp_path / "store", tmp_path / "out"
    assert run("ingest", store, source, "--as", "org/name").code == 0
    assert run("extract", store, "org/name", out).code == 0
    before, after = (sorted(path.rglob("*")) for path in (source, out))
    assert [path.relative_to(source) for path in before] == [path.relative_to(out) for path in after]
    for one, other in zip([source, *before], [out, *after], strict=True):
        wanted, got = one.lstat(), other.lstat()
        assert (wanted.st_mode, wanted.st_uid, wanted.st_size) == (got.st_mode, got.st_uid, got.st_size), one
        if stat.S_ISLNK(wanted.st_mode):
            assert os.readlink(one) == os.readlink(other)
        else:
            assert wanted.st_mtime_ns == got.st_mtime_ns, one
        if stat.S_ISREG(wanted.st_mode):
            assert one.read_bytes() == other.read_bytes()
            assert os.listxattr(one) == os.listxattr(other)
    assert os.getxattr(out / "config.json", "user.a") == b"\0\xff"


def test_extract_of_one_file_and_of_everything(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert run("extract", store, "m/config.json", tmp_path / "dir").code == 0
    assert (tmp_path / "dir/config.json").read_bytes() == FILES[b"config.json"]
    assert_refused(run("extract", store, "m/config.json", tmp_path / "dir"), 3, "config.json", "exists")
    assert run("extract", store, "", tmp_path / "all").code == 0
    assert (tmp_path / "all/m/config.json").read_bytes() == FILES[b"config.json"]
    assert run("extract", store, "/m/sub/", tmp_path / "sub").code == 0
    assert sorted(os.listdir(os.fsencode(tmp_path / "sub"))) == [b"empty", b"\xff\xfe"]


def test_storing_again_replaces_and_storing_the_same_costs_nothing(run: Run, store: Path, source: Path) -> None:
    packs = sorted((store / "packs").iterdir())
    assert run("ingest", store, source, "--as", "copy").code == 0
    assert sorted((store / "packs").iterdir()) == packs
    (source / "config.json").write_bytes(b"changed")
    assert run("ingest", store, source).code == 0
    assert run("cat", store, "m/config.json").out == b"changed"
    assert run("cat", store, "copy/config.json").out == FILES[b"config.json"]


def test_removing_and_collecting(run: Run, store: Path) -> None:
    assert_refused(run("rm", store, "m"), 3, "m", "directory")
    assert run("rm", store, "m/base.safetensors").code == 0
    assert run("gc", store).code == 0
    assert run("cat", store, "m/tuned.safetensors").out == FILES[b"tuned.safetensors"]
    assert run("rm", "-r", store, "m").code == 0
    assert run("gc", store, "--json").json["freed_nbytes"] > 0
    assert run("ls", store).out == b""
    assert list((store / "packs").iterdir()) == []


def test_json_is_for_programs(run: Run, store: Path) -> None:
    rows = run("ls", "-r", store, "--json").json
    assert {row["path"] for row in rows if row["type"] == "file"} >= {"m/base.safetensors", "m/sub/empty"}
    (row,) = [row for row in rows if row["path"] == "m/config.json"]
    assert (row["nbytes"], row["state"], len(row["sha256"])) == (8, "stored", 64)
    found = run("stat", store, "--json").json
    assert (found["files"], found["nbytes"]) == (len(FILES), sum(map(len, FILES.values())))
    assert found["disk_nbytes"] >= sum(found["disk"].values()) > 0
    assert run("stat", store, "m/sub", "--json").json["files"] == 2
    assert run("fsck", store, "--json").json == {"problems": [], "mended": []}
    assert set(run("gc", store, "--json").json) >= {"freed_nbytes", "packs_deleted", "damaged"}
    status = run("status", store, "--json").json
    assert (status["queued_files"], status["unsealed_files"]) == (0, 0)


def test_lists_for_people(run: Run, store: Path) -> None:
    assert run("ls", store).out == b"m/\n"
    long = run("ls", "-l", store, "m").out.decode()
    assert "base.safetensors" in long
    assert "-rw-r--r--" in long
    assert "\\udcff\\udcfe" in run("ls", store, "m/sub").out.decode()
    assert run("ls", store, "m/config.json").out == b"m/config.json\n"
    assert "5 files" in run("stat", store).out.decode()
    assert run("wait", store).code == 0


def test_a_base_is_used_whatever_its_name(run: Run, store: Path) -> None:
    rows = {row["path"]: row for row in run("ls", store, "m", "--json").json}
    tuned_row = rows["m/tuned.safetensors"]
    assert tuned_row["stored_nbytes"] < 0.4 * tuned_row["nbytes"]


def test_rebuild_and_repair(run: Run, store: Path) -> None:
    (store / "catalog.db").unlink()
    assert_refused(run("ls", store), 3, str(store), "zipfs rebuild")
    assert_refused(run("ingest", store), 3, str(store), "zipfs rebuild")
    done = run("fsck", store)
    assert done.code == 5
    assert "catalog" in done.out.decode()
    assert run("rebuild", store).code == 0
    assert run("fsck", store).code == 0
    (store / "catalog.db").write_bytes(noise(5000))
    assert_refused(run("ls", store), 5, "catalog", "zipfs rebuild")
    done = run("fsck", store, "--repair", "--json")
    assert (done.code, done.json["problems"]) == (0, [])
    assert done.json["mended"] != []
    assert contents(store) == {b"m/" + name: content for name, content in FILES.items()}


# What does not


@pytest.fixture(params=["missing", "empty directory", "file", "junk marker", "other files", "newer", "inside a file"])
def no_store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """Something that is no store, and the exit code that tells so."""
    path = tmp_path / "nothing"
    kind = request.param
    if kind == "file":
        path.write_bytes(noise(100))
    elif kind == "inside a file":
        path.write_bytes(b"")
        return path / "store", 3
    elif kind != "missing":
        path.mkdir()
    if kind == "junk marker":
        (path / "ZIPFS").write_bytes(noise(100))
    if kind == "other files":
        (path / "photo.jpg").write_bytes(b"mine")
    if kind == "newer":
        (path / "ZIPFS").write_text(json.dumps({"format": 99, "id": "00" * 16}))
        return path, 5
    return path, 3


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["stat"],
        ["cat", "x"],
        ["extract", "x", "/nonexistent/out"],
        ["rm", "x"],
        ["gc"],
        ["fsck"],
        ["fsck", "--repair"],
        ["rebuild"],
        ["status"],
        ["ingest"],
        ["families"],
        ["explain"],
        ["report", "-o", "/nonexistent/report.html"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_what_is_no_store_is_told_and_left_alone(command: list[str], no_store: tuple[Path, int], run: Run) -> None:
    path, code = no_store
    before = sorted(path.rglob("*")) if path.is_dir() else path.exists()
    assert_refused(run(command[0], path, *command[1:]), code, str(path))
    assert (sorted(path.rglob("*")) if path.is_dir() else path.exists()) == before


def test_no_store_is_made_among_other_files(run: Run, tmp_path: Path, source: Path) -> None:
    path = write_tree(tmp_path / "photos", {b"photo.jpg": b"mine"})
    assert_refused(run("ingest", path, source), 3, str(path), "photo.jpg")
    assert os.listdir(path) == ["photo.jpg"]
    (tmp_path / "file").write_bytes(b"")
    assert_refused(run("ingest", tmp_path / "file", source), 3, str(tmp_path / "file"))
    assert_refused(run("ingest", tmp_path / "file" / "below", source), 3, "file")


@pytest.mark.parametrize("path", ["missing", "m/missing", "m/config.json/below", "../m", "m/missing/../m"])
def test_paths_that_are_not_there(path: str, run: Run, store: Path, tmp_path: Path) -> None:
    for command in (["ls", store, path], ["stat", store, path], ["cat", store, path], ["rm", store, path]):
        assert_refused(run(*command), 3, path)
    assert_refused(run("extract", store, path, tmp_path / "out"), 3, path)
    assert not (tmp_path / "out").exists()


def test_a_directory_has_no_content(run: Run, store: Path) -> None:
    for path in ("m", "", "/", "m/sub/"):
        assert_refused(run("cat", store, path), 3, "directory")
    assert run("rm", "-r", store, "").code == 3
    assert run("rm", "-r", store, "/").code == 3
    assert contents(store) != {}


def test_sources_that_cannot_be_stored(run: Run, store: Path, tmp_path: Path) -> None:
    before = contents(store)
    assert_refused(run("ingest", store, tmp_path / "missing"), 3, "missing")
    write_tree(tmp_path / "x", {b"f": b"1"})
    for name in ("ingest", ".zipfs", "ingest/below", "../up", "a/../../b", "", "/"):
        assert_refused(run("ingest", store, tmp_path / "x", "--as", name), 3)
    assert_refused(run("ingest", store, tmp_path / "x", "--as", "m/config.json"), 3, "config.json")
    assert_refused(run("ingest", store, tmp_path / "x", "--as", "n" * 300), 3, "nnn")
    assert_refused(run("ingest", store, tmp_path / "x" / "f", "--as", "m"), 3, "m")
    assert contents(store) == before
    assert run("fsck", store, "--read-data").code == 0


def test_special_files_and_unfinished_names_are_left_out_and_named(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "m", {b"a": b"1", b"b.incomplete": b"2"})
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
        done = run("ingest", tmp_path / "store", source)
    assert done.code == 1
    for name in ("pipe", "socket", "b.incomplete"):
        assert f"left out {source / name}" in done.err
    assert contents(tmp_path / "store") == {b"m/a": b"1"}


def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run as a user who owns nothing here: root may do everything."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "zipfs.cli"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def refused_to_nobody(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert_refused(Done(done.returncode, done.stdout.encode(), done.stderr), code, *words)


def open_up(path: Path) -> None:
    """pytest's directories are for their owner only."""
    while path != path.parent:
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o005:
            path.chmod(path.stat().st_mode | 0o055)
        path = path.parent


def test_a_store_of_somebody_else_can_be_read_if_its_owner_lets_and_not_changed(store: Path, tmp_path: Path) -> None:
    open_up(tmp_path)
    for command in (["ls", store], ["cat", store, "m/config.json"], ["stat", store], ["fsck", store], ["gc", store]):
        refused_to_nobody(as_nobody(*command), 3, str(store), "belongs to", "closed to others")
    subprocess.run(["chmod", "-R", "go+rX", store], check=True)
    assert "config.json" in as_nobody("ls", "-r", store).stdout
    assert as_nobody("cat", store, "m/config.json").stdout == '{"a": 1}'
    assert as_nobody("fsck", store).returncode == 0
    for command in (["rm", store, "m/config.json"], ["gc", store], ["rebuild", store], ["ingest", store]):
        refused_to_nobody(as_nobody(*command), 3, str(store))
    assert len(contents(store)) == len(FILES)


def test_what_may_not_be_read(store: Path, tmp_path: Path, run: Run) -> None:
    open_up(tmp_path)
    secret = write_tree(tmp_path / "secret", {b"open": b"1", b"closed": b"2"})
    (secret / "closed").chmod(0)
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    done = as_nobody("ingest", mine / "store", secret)
    assert done.returncode == 1
    assert str(secret / "closed") in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(mine / "store") == {b"secret/open": b"1"}
    secret.chmod(0)
    refused_to_nobody(as_nobody("ingest", mine / "store", secret), 3, str(secret))
    store.chmod(0)
    refused_to_nobody(as_nobody("ls", store), 3, str(store))
    refused_to_nobody(as_nobody("ingest", tmp_path / "forbidden", mine), 3, "forbidden")


def test_damage_is_told_and_spares_the_rest(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes(noise(50_000, 1))
    assert run("ingest", store, tmp_path / "more").code == 0
    old = min((store / "packs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(old.read_bytes())
    content[40] ^= 0xFF
    old.write_bytes(bytes(content))
    done = run("fsck", store, "--read-data")
    assert done.code == 5
    assert "needed by m/" in done.out.decode()
    assert "Traceback" not in done.err
    assert run("cat", store, "more").out == noise(50_000, 1)
    codes = {name: run("cat", store, b"m/" + name) for name in FILES}
    broken = [name for name, done in codes.items() if done.code]
    assert broken
    for name in broken:
        assert_refused(codes[name], 5, str(old), "damaged at offset")
    assert run("extract", store, "m", tmp_path / "out").code == 5

    old.unlink()
    done = run("fsck", store, "--json")
    assert done.code == 5
    assert any("missing" in problem["message"] and problem["paths"] for problem in done.json["problems"])
    assert_refused(run("cat", store, "m/base.safetensors"), 5, "missing")
    assert run("rm", "-r", store, "m").code == 0
    assert run("gc", store).code == 0
    assert run("fsck", store, "--read-data").code == 0
    assert contents(store) == {b"more": noise(50_000, 1)}


def test_newer_formats_are_refused_with_the_advice_to_upgrade(run: Run, store: Path) -> None:
    db = sqlite3.connect(store / "catalog.db")
    (columns,) = [db.execute("SELECT * FROM _sqlite_migrations").fetchone()]
    assert columns is not None
    db.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('zipfs-catalog', '9999-later', '')"
    )
    db.commit()
    db.close()
    for command in (["ls", store], ["ingest", store], ["gc", store]):
        assert_refused(run(*command), 5, "newer", "Upgrade")


def test_a_store_in_use_by_a_rebuild_is_busy(run: Run, store: Path) -> None:
    with open_store(store) as opened:
        assert_refused(run("rebuild", store), 4, str(store))
        use = opened.lock("use")
    assert use.try_acquire()
    for command in (["ls", store], ["ingest", store], ["fsck", store]):
        assert_refused(run(*command), 4, str(store), "rebuilt")
    use.release()
    assert run("ls", store).code == 0


def test_a_broken_pipe_is_no_reason_to_complain(store: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "large").write_bytes(noise(3 << 20, 1))
    assert run("ingest", store, tmp_path / "large").code == 0
    command = f"{sys.executable} -m zipfs.cli cat {store} large | head -c 10 | wc -c"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("10", "")


def test_two_paths_at_once_and_a_trailing_slash(run: Run, tmp_path: Path) -> None:
    one, two = (write_tree(tmp_path / name, {b"f": name.encode()}) for name in ("one", "two"))
    assert run("ingest", tmp_path / "store", f"{one}/", two).code == 0
    assert contents(tmp_path / "store") == {b"one/f": b"one", b"two/f": b"two"}


def test_a_named_symlink_is_followed_and_others_are_kept(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "real", {b"f": b"1"})
    os.symlink("f", source / "link")
    os.symlink(source, tmp_path / "alias")
    assert run("ingest", tmp_path / "store", tmp_path / "alias", "--as", "n").code == 0
    assert contents(tmp_path / "store") == {b"n/f": b"1"}
    assert run("cat", tmp_path / "store", "n/link").out == b"1"


def test_odd_tensor_files_pass_through_the_command_line(run: Run, tmp_path: Path) -> None:
    content = tensor_file({"a": ("U8", [3], b"123"), "e": ("F32", [0], b""), "b": ("BOOL", [1], b"\1")})
    (tmp_path / "odd.safetensors").write_bytes(content)
    assert run("ingest", tmp_path / "store", tmp_path / "odd.safetensors").code == 0
    assert run("cat", tmp_path / "store", "odd.safetensors").out == content
    shutil.rmtree(tmp_path / "store")
