"""`zipfs fsck`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.stores import contents, noise


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


def test_a_sound_store(run: Run, store: Path) -> None:
    assert run("fsck", store, "--json").json == {"problems": [], "mended": []}
    assert "clean" in run("fsck", store).err
