"""The rank of who works in the background: below whoever reads."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_NICENESS: Final = 10


def lower_rank() -> None:
    """Give way to others from now on, as far as the system lets.

    A rank that is as low already stays: ten lower still, a busy machine would leave a hundredth of a core, and even to
    end when asked to would take minutes.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
