"""`zipfs report`: where it writes its page, and where it refuses to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import Run, assert_refused
from tests.support.hub import Hub, add_family
from tests.support.pages import Page
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def test_the_page_is_the_same_each_time(run: Run, store: Store, tmp_path: Path) -> None:
    hub = Hub(store)
    add_family(hub, "x", 4, 3, np.random.default_rng(1))
    hub.finish()
    for name in ("one.html", "two.html"):
        assert run("report", store.path, "-o", tmp_path / name).code == 0
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "store", "two.html"]


def test_an_empty_store_has_a_page(run: Run, store: Store, tmp_path: Path) -> None:
    assert run("report", store.path, "-o", tmp_path / "report.html").code == 0
    text = Page((tmp_path / "report.html").read_text()).all_text()
    assert "No two models in this store are related" in text
    assert "All models" not in text


def test_a_page_that_cannot_be_written(run: Run, store: Store, tmp_path: Path) -> None:
    assert_refused(run("report", store.path, "-o", tmp_path / "missing" / "r.html"), 3, "missing")
    assert_refused(run("report", store.path, "-o", tmp_path), 3, str(tmp_path), "is a directory")
    assert_refused(run("report", store.path, "-o", "/dev/full"), 1, "/dev/full")
    assert run("report", store.path).code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_page_takes_the_place_of_what_a_link_names(run: Run, store: Store, tmp_path: Path) -> None:
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "link.html").symlink_to("old.html")
    assert run("report", store.path, "-o", tmp_path / "link.html").code == 0
    assert (tmp_path / "link.html").is_symlink()
    assert "ZipFS" in (tmp_path / "old.html").read_text()
    assert run("report", store.path, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
