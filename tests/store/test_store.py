"""What the sessions of a store share, and what each has of its own."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from zipfs.store.store import open_store


def test_a_session_shares_packs_and_frames_and_makes_no_cache_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        store.session().close()  # imports and the like
        tracemalloc.start()
        try:
            other = store.session()
            _, peak_nbytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert other.frames is store.frames
        assert other.packs is store.packs
        assert other.catalog is not store.catalog
        assert peak_nbytes < 1 << 20
        other.close()
