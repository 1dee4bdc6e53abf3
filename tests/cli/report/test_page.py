"""The page of a report: complete in itself, harmless whatever names it shows, bounded however large the store."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import Run
from tests.support.hub import Hub, Made, add_family
from tests.support.pages import Page
from tests.support.stores import copy_in, model, put_file, remove, tensor_file, tuned, weights
from zipfs.cli.report import page as pages
from zipfs.cli.report.gather import DETAILED_FAMILIES, Findings, gather
from zipfs.cli.report.graph import NODES_AT_MOST
from zipfs.cli.report.page import MODEL_ROWS, page
from zipfs.ingest.queue import seal_everything
from zipfs.store.store import Store, open_store

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;\u202e\x1b"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def quietly(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def findings(store: Store) -> Findings:
    return gather(store, quietly)


def rendered(store: Store, name: str = "store") -> Page:
    return Page("".join(page(name, findings(store))))


def layered(layers: int) -> list[Made]:
    names = ["embed.weight"] + [f"layers.{at}.{kind}.weight" for at in range(layers) for kind in ("attn", "mlp")]
    return [Made(name, (64, 64)) for name in names]


def test_the_page_loads_nothing(store: Store) -> None:
    hub = Hub(store)
    add_family(hub, "x", 3, 2, np.random.default_rng(1))
    hub.finish()
    found = rendered(store)
    for tag, attributes in found.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "use"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"src", "srcset", "xlink:href", "action"}
            if name == "href":
                assert re.fullmatch(r"#f\d+", value or "")
    text = "".join(text for _, text in found.texts)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_allows_the_one_script_and_nothing_else(store: Store) -> None:
    found = rendered(store)
    (script,) = ["".join(text for tag, text in found.texts if tag == "script")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        attributes["content"] for tag, attributes in found.elements if attributes.get("http-equiv") is not None
    ]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert found.count("script") == 1


def test_hostile_names_are_text(run: Run, store: Store, tmp_path: Path) -> None:
    name = os.fsencode(HOSTILE.replace("/", "|"))
    raw = weights(40_000)
    tensors = {f"layers.{at}.{HOSTILE}": ("BF16", [10_000], raw[20_000 * at : 20_000 * (at + 1)]) for at in range(4)}
    put_file(store, tmp_path / "x", name + b"/base/m", tensor_file(tensors))
    other = {key: (dtype, shape, tuned(content)) for key, (dtype, shape, content) in tensors.items()}
    put_file(store, tmp_path / "x", name + b"/\xff\xfe/m", tensor_file(other))
    long = b"n" * 250
    put_file(store, tmp_path / "x", long + b"/" + long + b"/m", model(weights(20_000, 5)))
    content = "".join(page(HOSTILE, findings(store)))
    assert "<script>alert" not in content
    assert "<img" not in content
    assert "\u202e" not in content
    assert "\x1b" not in content
    content.encode("utf-8")
    found = Page(content)
    assert found.count("script") == 1
    assert "<script>alert(1)</script>" in found.all_text()
    assert max(len(text) for tag, text in found.texts if tag not in {"style", "script", "p"}) < 200
    assert max(len(value or "") for _, attributes in found.elements for value in attributes.values()) < 40_000


def test_bits_per_weight_stand_in_their_cells(store: Store) -> None:
    hub = Hub(store)
    spec = layered(3)
    ids = hub.add_model("base", spec)
    hub.add_model(
        "tuned",
        [
            replace(spec[0], same=ids[0]),
            *(
                replace(one, base=blob_id, bits=bits)
                for one, blob_id, bits in zip(spec[1:], ids[1:], (0.5, 0.5, 2.0, 4.0, 3.0, 9.0), strict=True)
            ),
        ],
    )
    hub.finish()
    (detail,) = findings(store).details
    by_model = {(row, column): round(cell.per_weight or 0, 1) for (row, column), cell in detail.by_model.cells.items()}
    assert by_model[0, ("layers", 1)] == 10.6
    assert [by_model[1, column] for column in (("", -1), ("layers", 0), ("layers", 1), ("layers", 2))] == [0, 0.5, 3, 6]
    assert detail.main_type() == "BF16"
    by_kind = {key: cell.per_weight for key, cell in detail.by_kind["BF16"].cells.items()}
    assert by_kind[("layers", 1), "attn"] == pytest.approx(2.0)
    assert by_kind[("layers", 2), "mlp"] == pytest.approx(9.0)
    text = rendered(store).all_text()
    for shown in ("·", ".50", "3.0", "6.0", "9.0"):
        assert shown in text


@pytest.mark.slow
def test_a_large_store_gives_a_page_of_bounded_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(store)
    many = NODES_AT_MOST + 20
    spec = [Made(f"layers.{layer}.kind-{kind}.w", (8, 8)) for layer in range(90) for kind in range(2)]
    spec += [Made(f"layers.1.other-{kind}.w", (8, 8)) for kind in range(30)]
    ids = hub.add_model("big/base", spec)
    for number in range(many):
        hub.add_model(f"big/{number:04d}", [replace(one, base=base) for one, base in zip(spec, ids, strict=True)])
    for number in range(MODEL_ROWS - 500):
        hub.add_model(f"lone/{number:04d}", [Made(f"layers.{at}.w", (64, 64)) for at in range(2)])
    hub.finish()
    monkeypatch.setattr(pages, "MODEL_ROWS", 100)
    content = "".join(page("store", findings(store)))
    found = Page(content)
    assert found.count("circle") == NODES_AT_MOST
    assert f"{many + 1 - NODES_AT_MOST} of them are not drawn" in found.all_text()
    assert found.count("details") == DETAILED_FAMILIES
    assert f"{many + 1 + MODEL_ROWS - 500 - 100:,} more models" in found.all_text()
    assert "more families" in found.all_text()
    assert "0-2" in found.all_text()  # layers are taken together
    assert "18 others" in found.all_text()  # and kinds
    assert len(content) < 400_000
    assert len(found.elements) < 15_000


def test_what_is_waiting_and_what_is_left_over_is_told(store: Store, tmp_path: Path) -> None:
    base = weights(20_000)
    put_file(store, tmp_path / "x", b"base/m", model(base))
    put_file(store, tmp_path / "x", b"tuned/m", model(tuned(base)))
    put_file(store, tmp_path / "x", b"gone/m", model(weights(20_000, 4)))
    put_file(store, tmp_path / "x", b"README", b"hello")
    copy_in(store, b"late/m", model(base))
    seal_everything(store)
    remove(store, b"base")
    remove(store, b"gone")
    text = rendered(store).all_text()
    assert "1 file (39.1 KiB) is not compressed yet" in text
    assert "are bases whose own files were removed" in text
    assert "are of what was removed or rebased" in text
    assert "2 files outside of models" in text  # README and what waits


def test_headers_that_cannot_be_read_are_counted(store: Store, tmp_path: Path) -> None:
    base = weights(20_000)
    put_file(store, tmp_path / "x", b"base/m", model(base))
    for path in (store.path / "packs").iterdir():
        content = bytearray(path.read_bytes())
        content[64:-200] = bytes(len(content) - 264)
        path.write_bytes(content)
    text = rendered(store).all_text()
    assert "1 file is left out: the headers cannot be read" in text
