"""Files that PyTorch wrote, and what it says is in them: `samples/make_torch.py` makes both."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SAMPLES = Path(__file__).parent / "samples" / "torch.zip"

Row = dict[str, Any]


def torch_files() -> Iterator[tuple[str, bytes]]:
    """Yield files of every kind that PyTorch writes."""
    with zipfile.ZipFile(_SAMPLES) as samples:
        for name in samples.namelist():
            if not name.endswith(".json"):
                yield name, samples.read(name)


def torch_rows() -> dict[str, list[Row]]:
    """Return the tensors of each file, as PyTorch has them."""
    with zipfile.ZipFile(_SAMPLES) as samples:
        return {
            name.removesuffix(".json"): json.loads(samples.read(name))
            for name in samples.namelist()
            if name.endswith(".json")
        }
