"""The process in which a case of try_clients runs on one side, with the Python of .venv-clients.

It writes what was noted, or why it could not go on, and the sums of all files in the end into a file of JSON. As the
case `sums` it takes only those: what is on a mount some time later.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tools.clients.side import Place, Side, everything, excluding

CASES = {
    "save-again": "savers.save_again",
    "fewer-shards": "savers.save_fewer_shards",
    "trainer": "runs.trainer",
    "trainer-speed": "runs.trainer_speed",
    "script": "savers.script",
    "accelerate": "runs.accelerate",
    "nanogpt": "runs.nanogpt",
    "lightning": "runs.lightning",
    "orbax": "runs.orbax",
    "tensorboard": "runs.tensorboard",
    "torch-files": "savers.torch_files",
    "dcp": "ranks.distributed_checkpoint",
    "dcp-ranks": "ranks.two_ranks",
    "peft": "savers.adapters",
    "killed": "savers.killed_writer",
    "pipeline": "trees.diffusion_pipeline",
    "copy": "trees.copy_and_load",
    "git": "hubs.git_clone",
    "git-work": "hubs.git_work",
    "hub-cache": "hubs.hub_cache",
    "hf-download": "hubs.hub_download",
    "aria2": "hubs.aria2",
    "rsync": "trees.rsync",
    "tar": "trees.sparse_tar",
    "h5py": "changes.h5py_append",
    "mapped": "changes.mapped_tensors",
    "safetensors": "changes.safetensors_rewritten",
    "sqlite": "changes.sqlite",
    "lmdb": "changes.lmdb",
    "editors": "changes.editors",
    "logs": "changes.logs",
    "latest": "changes.latest_link",
}
"""What a case is called, and where it is."""

INGEST_ONLY = frozenset({"pipeline", "killed"})
"""What README.md promises of `ingest/` alone."""
TREE_ONLY = frozenset({"trainer-speed", "copy", "git-work", "editors", "mapped", "sqlite", "lmdb", "logs", "latest"})
"""What `ingest/` is not meant for: content that is changed while others have it open."""


def is_run(name: str, place: Place) -> bool:
    """Return whether a case runs where something is written to that place."""
    return name not in (TREE_ONLY if place == Place.INGEST else INGEST_ONLY)


def main() -> None:
    name, result, place, quiet_s, *places = sys.argv[1:]
    target, served, scratch, *store = map(Path, places)
    side = Side(Place(place), target, served, scratch, float(quiet_s), store[0] if store else None)
    error, files = "", {}
    try:
        if name != "sums":
            module, function = CASES[name].split(".")
            case: Callable[[Side], None] = getattr(import_module(f"tools.clients.{module}"), function)
            case(side)
        files = everything(served)
    except Exception as caught:  # noqa: BLE001  # it is told in the table
        traceback.print_exc()
        error = f"{type(caught).__name__}: {caught}"
    found = {
        "notes": [asdict(note) for note in side.notes],
        "error": error,
        "files": files,
        "comparable": excluding(files, side.varying),
        "expected_log": side.expected_log,
    }
    Path(result).write_text(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
