"""What the packs of a store hold beyond what its files added, as every command shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zipfs.cli.render.units import size

if TYPE_CHECKING:
    from zipfs.store.catalog.sizes import StoreSizes


def sizes_json(sizes: StoreSizes) -> dict[str, int]:
    """Return the parts of a store for `--json`; with the spool, the first four make up what is stored."""
    return {
        "added_nbytes": sizes.added_nbytes,
        "kept_nbytes": sizes.kept_nbytes,
        "unused_nbytes": sizes.unused_nbytes,
        "index_nbytes": sizes.index_nbytes,
        "freeable_nbytes": sizes.freeable_nbytes,
    }


def leftovers(sizes: StoreSizes) -> Iterator[str]:
    """Say what removed files have left behind, a line each."""
    if sizes.kept_nbytes:
        yield f"{size(sizes.kept_nbytes)} of it are bases whose own files were removed: others are coded against them"
    if sizes.freeable_nbytes:
        yield f"{size(sizes.freeable_nbytes)} of it are of what was removed or rebased: `zipfs gc` frees them"
    stays = sizes.unused_nbytes - sizes.freeable_nbytes
    if stays > 0:
        yield f"{size(stays)} of it are of what was removed, in packs that are mostly in use: these stay for now"
