"""When a write may be done by who must not wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipfs.store.disk import page_cache
from zipfs.store.disk.page_cache import PageCache

_PAGE_NBYTES = 4096


def _counters(tmp_path: Path, dirty: int, written_back: int = 0, limit: int = 4000, background: int = 2000) -> Path:
    path = tmp_path / "vmstat"
    path.write_text(
        f"nr_free_pages 5\nnr_dirty {dirty}\nnr_writeback {written_back}\nnr_writeback_temp 9999999\n"
        f"nr_dirty_threshold {limit}\nnr_dirty_background_threshold {background}\nnr_dirtied 77\n"
    )
    return path


def test_a_quarter_of_what_is_left_is_taken_at_once(tmp_path: Path) -> None:
    cache = PageCache(_counters(tmp_path, dirty=1000))
    assert cache.takes(100 * _PAGE_NBYTES)
    assert cache.takes(400 * _PAGE_NBYTES)
    assert not cache.takes(1)


@pytest.mark.parametrize(("dirty", "written_back"), [(3000, 0), (1000, 2000), (100_000, 0)])
def test_nothing_is_taken_where_writers_wait(tmp_path: Path, dirty: int, written_back: int) -> None:
    assert not PageCache(_counters(tmp_path, dirty, written_back)).takes(1)


def test_what_others_have_written_is_seen_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_AGAIN_S", 0.0)
    cache = PageCache(_counters(tmp_path, dirty=0))
    assert cache.takes(1)
    _counters(tmp_path, dirty=3000)
    assert not cache.takes(1)
    _counters(tmp_path, dirty=0)
    assert cache.takes(1)


def test_after_a_slow_write_none_is_taken_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PageCache(_counters(tmp_path, dirty=0))
    assert cache.takes(1)
    cache.took(0.001)
    assert cache.takes(1)
    cache.took(0.5)
    assert not cache.takes(1)
    monkeypatch.setattr(page_cache, "_AFTER_SLOW_S", 0.0)
    cache.took(0.5)
    assert cache.takes(1)


@pytest.mark.parametrize("content", ["", "nr_dirty 0\nnr_writeback 0\n"])
def test_a_system_that_does_not_say_is_not_relied_upon(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vmstat"
    path.write_text(content)
    assert not PageCache(path).takes(1)
    assert not PageCache(tmp_path / "missing").takes(1)


def test_this_system_says(tmp_path: Path) -> None:
    PageCache().took(0.0)
    assert page_cache._COUNTER.findall(Path("/proc/vmstat").read_bytes())
