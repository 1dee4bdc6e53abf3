"""Owns the search for minhash samples in a tensor: places known by the signs of the items from there on.

A sign is the top bit of an item, whatever its type, so it is the same before and after a cast, and seldom changes when
weights do.  Pure; any thread may call.  The GIL is released meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from zipfs.codec import _native
from zipfs.codec.contract import view_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

SAMPLE_ITEMS: Final = 48
"""Items whose signs make a sample. If a change turns one sign in 150, three of four samples survive."""


def find_minhash_samples(
    items: Buffer, item_nbytes: int, stride: int, threshold: int, at_most: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return hashes of SAMPLE_ITEMS signs that are at most `threshold`, and the items at which these begin, ascending.

    Looks at every `stride`-th item (1, 2, 4 or 8).  `threshold` is a share of 2^64.  Passed over are runs in which
    fewer than four signs differ from the others, and whatever comes after the first `at_most`.
    """
    hashes, places = np.empty(at_most, np.uint64), np.empty(at_most, np.uint32)
    found = _native.minhash_samples(view_bytes(items), item_nbytes, stride, threshold, hashes, places)
    return hashes[:found], places[:found]
