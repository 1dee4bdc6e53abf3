"""Files that libraries wrote which are too large to be installed for the tests; `samples/make_*.py` made them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

SAMPLES: Final = Path(__file__).parent / "samples"


def written(name: str) -> dict[str, bytes]:
    """The files of `samples/NAME.zip` by name: those of the library, and the items that it says are in them."""
    with zipfile.ZipFile(SAMPLES / f"{name}.zip") as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}
