from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

Isa: TypeAlias = Literal["portable", "avx2", "avx512"]

# Type checkers do not know an array as a buffer before Python 3.12.
_Bytes: TypeAlias = Buffer | NDArray[np.uint8]

# Codec id, stored bytes, how many of them lie before the payload, base, target, seed and XXH3-64 of the decoded bytes.
Step: TypeAlias = tuple[int, _Bytes, int, _Bytes | None, _Bytes, int, int]

def bitx_encode(raw: _Bytes, base: _Bytes, layout: int, out: _Bytes, isa: Isa | None = None) -> int | None: ...
def standalone_encode(raw: _Bytes, layout: int, out: _Bytes, isa: Isa | None = None) -> int | None: ...
def blocks_encode(raw: _Bytes, block_type: int, out: _Bytes, isa: Isa | None = None) -> int | None: ...
def decode_run(steps: Sequence[Step], isa: Isa | None = None) -> tuple[int, str] | None: ...
def cast(
    items: _Bytes, layout: int, out: _Bytes, out_layout: int, scale: float = 1.0, isa: Isa | None = None
) -> None: ...
def narrow_layout(items: _Bytes, layout: int) -> int: ...
def minhash_samples(
    items: _Bytes,
    item_nbytes: int,
    stride: int,
    threshold: int,
    hashes: NDArray[np.uint64],
    places: NDArray[np.uint32],
) -> int: ...
def isa() -> Isa: ...
def isas() -> tuple[Isa, ...]: ...
