"""What the packs of a store hold beyond what its files added, as every command tells it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zipfs.cli.render.units import size

if TYPE_CHECKING:
    from zipfs.store.catalog.sizes import StoreSizes


def sizes_json(figures: StoreSizes) -> dict[str, int]:
    """What `--json` prints; with the spool, the first four make up what is stored."""
    return {
        "added_nbytes": figures.added_nbytes,
        "kept_nbytes": figures.kept_nbytes,
        "unused_nbytes": figures.unused_nbytes,
        "index_nbytes": figures.index_nbytes,
        "freeable_nbytes": figures.freeable_nbytes,
    }


def leftovers(figures: StoreSizes) -> Iterator[str]:
    """What removed files have left behind, a line each."""
    if figures.kept_nbytes:
        yield f"{size(figures.kept_nbytes)} of it are bases whose own files were removed: others are coded against them"
    if figures.freeable_nbytes:
        yield f"{size(figures.freeable_nbytes)} of it are of what was removed or coded anew: `zipfs gc` frees them"
    stays = figures.unused_nbytes - figures.freeable_nbytes
    if stays > 0:
        yield f"{size(stays)} of it are of what was removed, in packs that are mostly in use: these stay for now"
