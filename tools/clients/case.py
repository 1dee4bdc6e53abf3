"""The process in which a case of try_clients runs on one side, with the Python of .venv-clients.

It writes what was noted, or why it could not go on, into a file of JSON.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tools.clients.side import Side

CASES = {
    "save-again": "savers.save_again",
    "fewer-shards": "savers.save_fewer_shards",
    "trainer": "savers.trainer",
    "script": "savers.script",
    "accelerate": "savers.accelerate",
    "torch-files": "savers.torch_files",
    "dcp": "savers.distributed_checkpoint",
    "peft": "savers.adapters",
    "killed": "savers.killed_writer",
    "pipeline": "trees.diffusion_pipeline",
    "git": "trees.git_clone",
    "hub-cache": "trees.hub_cache",
    "hf-download": "trees.hub_download",
    "aria2": "trees.aria2",
    "rsync": "trees.rsync",
    "tar": "trees.sparse_tar",
}
"""What a case is called, and where it is."""


def main() -> None:
    name, result, *places = sys.argv[1:]
    module, function = CASES[name].split(".")
    ingest, served, scratch, *store = map(Path, places)
    side = Side(ingest, served, scratch, store[0] if store else None)
    error = ""
    try:
        case: Callable[[Side], None] = getattr(import_module(f"tools.clients.{module}"), function)
        case(side)
    except Exception as caught:  # noqa: BLE001  # it is told in the table
        traceback.print_exc()
        error = f"{type(caught).__name__}: {caught}"
    found = {"notes": [asdict(note) for note in side.notes], "error": error}
    Path(result).write_text(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
