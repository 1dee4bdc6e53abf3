"""What a mount with --allow-other tells whom: contents are guarded by modes, and so is all that is told about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import Mount, poll, temporary_mounts, zipfs
from tests.support.stores import model, tuned, weights

pytestmark = pytest.mark.mount

ALICE, BOB, TEAM, ALL_BASES = 40_001, 40_002, 40_100, "user.zipfs.bases"


def as_user(uid: int, *groups: int) -> tuple[str, ...]:
    chosen = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", *chosen)


def attempt(who: tuple[str, ...], *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*who, *map(str, command)], capture_output=True, text=True, check=False, timeout=60)


def attribute(who: tuple[str, ...], path: Path, name: str) -> str | None:
    """None where there is no such attribute, or it may not be read."""
    done = attempt(who, "getfattr", "--only-values", "--absolute-names", "-n", name, path)
    return done.stdout if done.returncode == 0 else None


def status(who: tuple[str, ...], mount: Mount) -> dict[str, Any]:
    done = attempt(who, "cat", mount.point / ".zipfs" / "status.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[Mount]:
    """A mount of root's. Alice keeps a base in a directory of her own, a fine-tune of it is everybody's."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: only root can be several users")
    base = weights(300_000)
    directory = Path(tempfile.mkdtemp(prefix="zipfs-others-"))
    with temporary_mounts(directory) as make:
        directory.chmod(0o755)
        mount = make("--allow-other", "--quiet", "0.1", "--linger", "3600", "--no-optimize").start()
        for name, mode, gid in (("alice", 0o700, ALICE), ("team", 0o750, TEAM), ("hall", 0o711, ALICE)):
            made = mount.ingest / name
            made.mkdir()
            (made / "base.safetensors").write_bytes(model(base))
            os.chown(made / "base.safetensors", ALICE, gid)
            os.chown(made, ALICE, gid)
            made.chmod(mode)
            mount.served(name)
            mount.wait()
        (mount.ingest / "copy").write_bytes(model(base))
        (mount.ingest / "tuned").write_bytes(model(tuned(base)))
        mount.wait()
        (mount.ingest / "alice" / "secret.incomplete").write_bytes(b"x")
        yield mount


def test_the_paths_of_bases_are_told_to_who_can_find_and_read_them(shared: Mount) -> None:
    path = shared.point / "tuned"
    secret = {"alice/base.safetensors", "team/base.safetensors", "hall/base.safetensors"}

    def bases(who: tuple[str, ...]) -> set[str]:
        found = attribute(who, path, ALL_BASES)
        assert found is not None
        return set(found.splitlines())

    assert bases(()) == {*secret, "copy"}
    assert bases(as_user(ALICE)) == {*secret, "copy"}
    # A directory that can be entered but not listed keeps its names to itself.
    assert bases(as_user(BOB)) == {"copy"}
    assert bases(as_user(BOB, TEAM)) == {"copy", "team/base.safetensors"}


def test_a_base_that_may_not_be_read_is_not_told(shared: Mount) -> None:
    (shared.point / "copy").chmod(0o600)
    try:
        assert attribute(as_user(BOB), shared.point / "tuned", ALL_BASES) == ""
    finally:
        (shared.point / "copy").chmod(0o644)


def test_what_a_file_cost_is_told_to_the_owner_of_the_mount_alone(shared: Mount) -> None:
    """`stored` is 0 for a file that somebody else had."""
    path = shared.point / "copy"
    assert attribute((), path, "user.zipfs.stored") == "0"
    for name in ("user.zipfs.stored", "user.zipfs.ratio"):
        assert attribute(as_user(BOB), path, name) is None
    assert attribute(as_user(BOB), path, "user.zipfs.state") == "stored"


def test_attributes_of_what_may_not_be_read(shared: Mount) -> None:
    (shared.point / "copy").chmod(0o600)
    try:
        for name in ("sha256", "state", "bases"):
            assert attribute(as_user(BOB), shared.point / "copy", f"user.zipfs.{name}") is None
        assert attribute(as_user(BOB), shared.point / "alice" / "base.safetensors", "user.zipfs.sha256") is None
    finally:
        (shared.point / "copy").chmod(0o644)


def test_log_and_figures_are_for_the_owner_of_the_mount(shared: Mount) -> None:
    own = shared.point / ".zipfs"
    assert b"alice/base.safetensors" in (own / "zipfs.log").read_bytes()
    for name in ("zipfs.log", "perf.json", "metrics"):
        refused = attempt(as_user(BOB), "cat", own / name)
        assert "Permission denied" in refused.stderr
        assert refused.stdout == ""
        assert (own / name).read_bytes()
    assert attribute((), shared.point, "user.zipfs.perf")
    assert attribute(as_user(BOB), shared.point, "user.zipfs.perf") is None
    top = zipfs("status", "--perf", shared.point, prefix=as_user(BOB))
    assert top.returncode == 3
    assert "the owner of the mount" in top.stderr


def test_the_status_names_only_what_its_reader_can_find(shared: Mount) -> None:
    (shared.ingest / "open.incomplete").write_bytes(b"x")
    with open(shared.ingest / "alice" / "open", "wb"):
        poll(lambda: len(shared.status()["unfinished_files"]) == 2, what="both to be seen")
        both = {"alice/secret.incomplete", "open.incomplete"}
        assert set(status(as_user(ALICE), shared)["unfinished_files"]) == both
        assert [writer["path"] for writer in status(as_user(ALICE), shared)["writing"]] == ["alice/open"]
        found = status(as_user(BOB), shared)
        assert found["unfinished_files"] == ["open.incomplete"]
        assert "alice" not in json.dumps(found)
        assert found["stored_files"] == shared.status()["stored_files"]
    (shared.ingest / "open.incomplete").unlink()


def test_somebody_else_can_ask_and_wait(shared: Mount) -> None:
    for command in (("status", shared.point), ("status", "--json", shared.point), ("wait", shared.point)):
        done = zipfs(*command, prefix=as_user(BOB))
        assert done.returncode == 0, done.stderr
        assert "alice" not in done.stdout + done.stderr


def test_a_file_of_somebody_else_that_cannot_be_stored_holds_nobody_up(shared: Mount) -> None:
    """A spool file that went missing is a failure of its owner's alone."""
    code = (
        "import sys; from pathlib import Path\n"
        "from zipfs.store.namespace import tree; from zipfs.store.store import open_store\n"
        "from zipfs.store.objects.values import INGEST_ROOT\n"
        "with open_store(Path(sys.argv[1])) as store:\n"
        "    inode = tree.resolve(store.catalog, b'alice/secret.incomplete', INGEST_ROOT)\n"
        "    with store.transaction() as txn: txn.put_failure(inode.id, 'it went missing', 1)\n"
    )
    done = attempt((), sys.executable, "-c", code, shared.store)
    assert done.returncode == 0, done.stderr
    assert shared.status()["errors"][0]["path"] == "alice/secret.incomplete"
    found = status(as_user(BOB), shared)
    assert found["errors"] == []
    assert found["failed_files"] == 1
    waited = zipfs("wait", shared.point, "--timeout", 20, prefix=as_user(BOB))
    assert waited.returncode == 0, waited.stderr


def test_the_store_beside_the_mount_is_closed(shared: Mount) -> None:
    refused = zipfs("cat", shared.store, "alice/base.safetensors", prefix=as_user(BOB))
    assert refused.returncode == 3
    assert refused.stdout == ""
    for item in [shared.store, *shared.store.rglob("*")]:
        assert not item.lstat().st_mode & 0o077, item


def test_programs_in_a_mount_gain_no_rights_and_devices_do_not_work(shared: Mount) -> None:
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    options = next(fields[5].split(",") for fields in lines if fields[4] == str(shared.point))
    assert {"nosuid", "nodev"} <= set(options)
