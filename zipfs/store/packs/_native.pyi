from collections.abc import Sequence
from typing import TypeAlias

from typing_extensions import Buffer

# Descriptor, offset in bytes, and a writable buffer that takes as many bytes as are to be read.
Range: TypeAlias = tuple[int, int, Buffer]

# The first range that was not filled, how many of its bytes are missing, and errno or 0 where the file ends.
def read_ranges(ranges: Sequence[Range], resident: Sequence[Buffer]) -> tuple[int, int, int] | None: ...
