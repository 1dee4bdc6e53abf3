"""How tools/torture knows what a file has to hold, and that it notices what is wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.tortures.model import Body, Difference, Tree, compare
from tools.tortures.player import Player

AT_MOST_NBYTES = 200_000


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Player]:
    """One on a plain disk, which has nothing to wait for."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    player = Player(tmp_path / "one", 1, on_mount=False, at_most_nbytes=AT_MOST_NBYTES)
    player.files.root.mkdir()
    player.begin()
    yield player
    player.files.abandon()


def test_a_plain_disk_does_all_as_the_model_says(player: Player) -> None:
    for _ in range(1500):
        player.step()
    player.files.check_everything()
    assert player.files.counts.keys() >= {
        "write",
        "mapped_write",
        "direct_write",
        "append",
        "rename",
        "exchange",
        "link",
    }


def test_a_seed_says_what_is_done(tmp_path: Path, player: Player) -> None:
    other = Player(tmp_path / "other", 1, on_mount=False, at_most_nbytes=AT_MOST_NBYTES)
    other.files.root.mkdir()
    other.begin()
    for _ in range(200):
        player.step()
        other.step()
    assert list(player.files.done) == list(other.files.done)
    other.files.abandon()


def test_a_wrong_byte_is_found_and_told(player: Player) -> None:
    handle = player.files.open("file", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    player.files.write(handle, 0, bytes(range(200)))
    player.files.check_everything()
    with open(player.files.path("file"), "r+b") as file:
        file.seek(77)
        file.write(b"?")
    with pytest.raises(Difference, match=r"1 bytes are wrong: 77\.\.78"):
        player.files.read(handle, 50, 100)


def test_a_name_that_is_missing_or_too_many_is_found(player: Player) -> None:
    player.files.close(player.files.open("d0/file", os.O_RDWR | os.O_CREAT | os.O_EXCL))
    os.rename(player.files.path("d0/file"), player.files.path("d1/file"))
    with pytest.raises(Difference, match="missing: d0/file; too many: d1/file"):
        player.files.check_names()


def test_bytes_of_what_is_under_way_are_old_or_new() -> None:
    body = Body(1, 0o644, bytearray(b"old" * 10))
    body.write(3, b"NEWNEW")
    assert not body.allows(b"old" * 10)
    assert not body.allows(b"oldNEWNEW" + b"old" * 7)
    assert not body.allows(b"oldNEWold" + b"old" * 7)
    assert "1 bytes are wrong: 4..5" in body.allows(b"oldN?Wold" + b"old" * 7)
    assert "1 bytes are wrong: 20..21" in body.allows(b"old" * 6 + b"ol?" + b"old" * 3)
    assert "bytes instead of" in body.allows(b"old" * 9)
    body.settle()
    assert "1..2" not in body.allows(b"oldNEWNEW" + b"old" * 7)
    assert "6 bytes are wrong: 3..9" in body.allows(b"old" * 10)


def test_a_size_that_is_under_way_is_between_both() -> None:
    body = Body(1, 0o644, bytearray(b"x" * 10))
    body.write(15, b"abc")
    assert not body.allows(b"x" * 10)
    assert not body.allows(b"x" * 10 + bytes(5) + b"a")
    assert not body.allows(b"x" * 10 + bytes(5) + b"abc")
    assert "wrong" in body.allows(b"x" * 10 + bytes(4) + b"?abc")
    body.settle()
    body.resize(4)
    assert not body.allows(b"x" * 4)
    assert not body.allows(b"x" * 10 + bytes(5) + b"abc")
    assert "bytes instead of" in body.allows(b"x" * 3)


def test_names_that_are_under_way_are_those_before_or_after() -> None:
    one, other = Body(1, 0o644), Body(2, 0o644)
    tree = Tree({"a": one, "b": other})
    tree.begin({"a": None, "b": one})
    assert list(tree.possible()) == [{"a": one, "b": other}, {"b": one}]
    tree.forget()
    assert list(tree.possible()) == [{"a": one, "b": other}]
    tree.begin({"a": other, "b": one})
    tree.settle()
    assert list(tree.possible()) == [{"a": other, "b": one}]
    assert tree.names_of(one) == ["b"]


def test_what_is_zero_instead_is_told() -> None:
    with pytest.raises(Difference, match=r"5 bytes are wrong: 102\.\.107; 0000000000 \(zeros\) instead of 6262626262"):
        compare(b"aa" + bytes(5), b"aabbbbb", 100)
