"""Owns how benchmarks put files into a store: through the pipeline, with nobody to watch."""

from __future__ import annotations

from pathlib import Path

from zipfs.ingest.import_tree import find
from zipfs.ingest.pipeline import Pipeline
from zipfs.store.store import Store


class Silent:
    """A Progress that only minds failures."""

    def waiting(self, why: str) -> None: ...

    def began(self, shown: str, nbytes: int) -> None: ...

    def advanced(self, nbytes: int) -> None: ...

    def stored(self, shown: str, nbytes: int, stored_nbytes: int) -> None: ...

    def failed(self, shown: str, message: str) -> None:
        raise SystemExit(message)


def ingest(store: Store, path: Path, name: str, *, rebase: bool = True) -> None:
    """Store a file or a folder under `name`; with `rebase` small families are rearranged, as after any ingest."""
    pipeline = Pipeline(store, Silent())
    try:
        pipeline.run(find(store, path, name.encode()).sources)
        if rebase:
            pipeline.rebase()
    finally:
        pipeline.close()
