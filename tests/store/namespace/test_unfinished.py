"""Which names wait, and which are content that only looks like it."""

from __future__ import annotations

import os

import pytest

from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames


@pytest.mark.parametrize(
    "name",
    [
        "x.incomplete", "0a1b2c3d4e5f.1a2b3c4d.incomplete", ".tmpAbC", ".tmp", "model.safetensors.part", "a.json.tmp",
        "model.bin.partial", "model.safetensors.3f9a01bc.partial", "main.0123456789abcdef.tmp", "x.crdownload",
        "model.gguf.downloadInProgress", "incomplete-model.gguf", "downloading_x.part", "x_.gstmp", "x.aria2",
        "model.safetensors.6eF5b5dA", "model.safetensors1234567890", ".azDownload-1-model.bin", "model.iso.!qB",
        "sha256-" + "0a" * 32 + "-partial", "sha256-" + "0a" * 32 + "-partial-3", ".metadata.tmp",
        ".model.safetensors.Xy12ab", ".config.json.aBcDeF", "checkpoint-is-incomplete.txt",
        "~syncthing~model.bin.tmp", ".syncthing.model.bin.tmp", ".nfs00000000012345670000abcd", ".model.py.swp",
        ".git/config", "m/.git/HEAD", ".cache/huggingface/download/x", "m/.cache/huggingface/x", "hub/.locks/m/x.lock",
        ".~tmp~/x", ".rsync-partial/x", "tmp-checkpoint-50/model.safetensors", "500.orbax-checkpoint-tmp-17/d/x",
        "._____temp/model.safetensors",
    ],
)  # fmt: skip
def test_what_a_downloader_or_saver_is_not_done_with_waits(name: str) -> None:
    assert STANDARD.covers(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors", "config.json", ".gitattributes", ".gitignore", "part", "lock", "tmp", "m/.cache/other/x",
        "incomplete", "model.part1", "a.b.c", ".hidden", "templates/x.tmpl", "\udcff", "uv.lock", "poetry.lock",
        "Cargo.lock", "flake.lock", "conda.lock", ".env.sample", ".env.docker", ".dvc.config", ".eslintrc.config",
        ".env.SAMPLE", ".env.Sample", ".data.202401", "v1.tmp", "data.part", "README~", "~notes.txt",
        "model.20240131", "resnet18.5c106cde", "model.h5", "file.pt2", "weights.bin1", "x.part1.rar", "part-00000",
        "sha256-" + "0a" * 32, "incomplete-beta", "music-unfinished", "model.st", "dir.lock/x", "dir.tmp/x",
        "foo.incomplete/x", ".metadata", "x.swp",
    ],
)  # fmt: skip
def test_what_only_looks_unfinished_is_served(name: str) -> None:
    assert not STANDARD.covers(os.fsencode(name))


@pytest.mark.parametrize("name", [".git", "m/.git", ".locks", "m/.cache/huggingface", "tmp-checkpoint-5", ".tmpdir"])
def test_directories_that_wait_with_all_they_hold(name: str) -> None:
    assert STANDARD.covers(name.encode(), is_directory=True)


@pytest.mark.parametrize("name", ["dir.lock", "dir.tmp", "foo.incomplete", "x.part", "m", ".github"])
def test_a_directory_is_not_taken_for_a_file_by_its_name(name: str) -> None:
    assert not STANDARD.covers(name.encode(), is_directory=True)


@pytest.mark.parametrize(
    ("name", "partner", "is_empty"),
    [
        ("model.safetensors", "model.safetensors.aria2", False),
        ("model.safetensors", "model.safetensors.st", False),
        ("model.safetensors", "model.safetensors.lftp-pget-status", False),
        ("last.ckpt", "last-unfinished", False),
        ("model.safetensors", "checkpoint-is-incomplete.txt", False),
        ("model.safetensors", "model.safetensors.part", True),
    ],
)
def test_a_partner_says_that_a_file_is_not_done(name: str, partner: str, is_empty: bool) -> None:
    beside = {partner.encode()}
    assert STANDARD.covers(b"m/" + name.encode(), is_empty=is_empty, stands_beside=beside.__contains__)
    assert not STANDARD.covers(b"m/" + name.encode(), is_empty=is_empty, stands_beside={b"other.aria2"}.__contains__)
    assert not UnfinishedNames(standard=False).covers(name.encode(), stands_beside=beside.__contains__)


def test_a_mark_without_a_stem_marks_nothing() -> None:
    assert STANDARD.covers(b"m/last-unfinished", is_empty=True)
    assert not STANDARD.covers(b"m/-unfinished", is_empty=True)


def test_what_holds_content_is_no_placeholder() -> None:
    beside = {b"model.safetensors.part"}
    assert not STANDARD.covers(b"model.safetensors", is_empty=False, stands_beside=beside.__contains__)


def test_a_user_adds_names_and_forgets_those_of_the_table() -> None:
    more = UnfinishedNames.from_options(["*.wip", "drafts/*"])
    assert more.covers(b"m/model.wip")
    assert more.covers(b"m.wip/model")
    assert more.covers(b"drafts/model")
    assert more.covers(b"x.incomplete")
    assert not more.covers(b"m/drafts/model")
    none = UnfinishedNames.from_options(["none", "*.wip"])
    assert none.covers(b"a.wip")
    assert not none.covers(b"x.incomplete")
    assert not none.covers(b".git/HEAD")


def test_tools_that_keep_their_books_are_told_by_their_directory() -> None:
    assert STANDARD.keeper(b"m/.git/objects/ab/cd") == b"m/.git"
    assert STANDARD.keeper(b"m/.cache/huggingface/download/x") == b"m/.cache/huggingface"
    assert STANDARD.keeper(b"m/x.incomplete") == b""
