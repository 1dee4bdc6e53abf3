"""Owns the signature: 256 bits that say which tensors of one dtype and length can be related at all.

Bit i says whether the i-th of 256 sampled values lies above the median of the tensor's own sample.  Two unrelated
tensors differ in half of the bits, give or take 8; what a delta is worth coding against differs in at most a fifth.  It
is the sign test on random hyperplanes of M. Charikar, Similarity Estimation Techniques from Rounding Algorithms, 2002,
with the sampled positions as hyperplanes.  Pure; any thread may call.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.similarity.sketch import parse
from zipfs.dtypes import float_fields

Bits = NDArray[np.uint64]

BITS: Final = 256
WORDS: Final = BITS // 64
SIGNATURE_NBYTES: Final = BITS // 8

RELATED: Final = 80
"""Differing bits up to which a pair is looked at: unrelated ones lie six deviations above it.

Noise of 0.8 of the deviation of the weights turns 21% of the signs, 54 of 256, and saves FP8 the 5% that a base has to
save; wider types ask for less noise still."""

RELATED_SO_FAR: Final = (24, 46, 64, RELATED)
"""Differing bits of the first word, the first two, three and all of them up to which a pair is looked at further.

At the limit of what is worth coding there are 14, 27, 41 and 54, with deviations of 3.3, 4.6, 5.7 and 6.5; of unrelated
pairs 3 in 100 pass the first word, and 1 in 1,000 of all the second."""

_SIGNED: Final = frozenset({"I8", "I16", "I32", "I64"})


def signature(sketch: bytes, dtype: str) -> bytes:
    """Return the signature of a sketched tensor, 32 bytes; all zero if `sketch` is not one or holds nothing."""
    samples = parse(sketch)
    if samples is None or not samples.items.size:
        return bytes(SIGNATURE_NBYTES)
    count, item = samples.items.shape
    words = samples.items.reshape(-1).view(f"<u{item}")[_chosen(count)]
    sign = words.dtype.type(1 << (8 * item - 1))
    if float_fields(dtype)[0]:
        words = np.where(words >= sign, ~words, words | sign)
    elif dtype in _SIGNED:
        words ^= sign
    middle = np.partition(words, BITS // 2)[BITS // 2]
    return np.packbits(words > middle).tobytes()


@lru_cache(maxsize=256)
def _chosen(count: int) -> NDArray[np.intp]:
    """Return which of so many items give the bits."""
    return np.arange(BITS) * count // BITS


def as_words(signatures: bytes) -> Bits:
    """Return signatures one after the other as uint64 of (signatures, WORDS)."""
    return np.frombuffer(signatures, "<u8").reshape(-1, WORDS)
