"""Values and text that come from the host, bounded or escaped where they enter. Pure, and open to every room.

What a kernel, a shell or a person hands over may be larger than what is stored, or be read as something else where it
goes. Each kind is made safe here once; whoever takes one in calls this.
"""

from __future__ import annotations

import os
from typing import Final

TIME_AT_MOST_NS: Final = (1 << 63) - 1
"""2262-04-11, the last instant that 64 bits hold in nanoseconds; the first is in 1677."""


def bounded_time_ns(time_ns: int) -> int:
    """A time that can be stored: what is earlier or later becomes the first or the last that can, as ext4 does."""
    return max(-TIME_AT_MOST_NS, min(TIME_AT_MOST_NS, time_ns))


def shown(path: bytes | str) -> str:
    """A path as text that any terminal and any line of a log takes, whatever bytes it is made of."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
