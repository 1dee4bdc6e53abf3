"""Sketches are made while others collect and rebase: what goes meanwhile is passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import collect_garbage, contents, make_store, model, problems, remove, weights
from zipfs.bases.similarity import backfill
from zipfs.bases.similarity.backfill import backfill_samples, backfill_sketches
from zipfs.store.store import Store, open_store

FILES = {b"kept": model(weights(5000, 1)), b"gone": model(weights(5000, 2)), b"last": model(weights(5000, 3))}


@pytest.mark.parametrize(
    ("make", "step", "table"),
    [(backfill_sketches, "_features", "signatures"), (backfill_samples, "_sample", "landmarks")],
)
def test_a_tensor_that_is_collected_while_it_is_sketched_is_passed_over(
    make: Callable[[Store, Callable[[str, int, int], None]], int],
    step: str,
    table: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_store(tmp_path, FILES)
    original = getattr(backfill, step)
    collected = False

    def sketched(*arguments: object) -> object:
        nonlocal collected
        made = original(*arguments)
        if not collected:
            collected = True
            with open_store(path) as other:
                for name in (b"kept", b"gone"):
                    remove(other, name)
                collect_garbage(other)
        return made

    monkeypatch.setattr(backfill, step, sketched)
    with open_store(path) as store:
        sql(store.catalog, f"DELETE FROM {table}")
        assert make(store, lambda what, done, total: None) == len(FILES)
        assert len(sql(store.catalog, f"SELECT blob_id FROM {table}")) == 1
        assert problems(store) == []
    assert contents(path) == {b"last": FILES[b"last"]}
