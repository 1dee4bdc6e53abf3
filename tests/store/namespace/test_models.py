"""Which directories are published together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import copy_in
from zipfs.store.namespace import tree
from zipfs.store.namespace.models import Units
from zipfs.store.namespace.unfinished import STANDARD
from zipfs.store.objects.values import INGEST_ROOT
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store


def leaders(store: Store, *files: str) -> dict[str, str]:
    """Which directory leads each one that holds some of these files."""
    for path in files:
        copy_in(store, path.encode(), b"x")
    catalog, found = store.catalog, {}
    with catalog.snapshot():
        units = Units(catalog, STANDARD)
        for directory in {path.rpartition("/")[0] for path in files}:
            leader = units.leader(tree.resolve(catalog, directory.encode(), INGEST_ROOT).id)
            found[directory] = tree.path_of(catalog, leader).decode()
    return found


def test_a_pipeline_is_one_model_whatever_of_it_comes_first(store: Store) -> None:
    parts = ["org/pipe/unet/config.json", "org/pipe/vae/x.safetensors", "org/pipe/scheduler/scheduler_config.json"]
    alone = leaders(store, *parts)
    assert set(alone.values()) == {"org/pipe"}
    assert leaders(store, *parts, "org/pipe/model_index.json")["org/pipe/unet"] == "org/pipe"


def test_weights_in_a_folder_belong_to_the_description_above(store: Store) -> None:
    found = leaders(store, "m/config.json", "m/onnx/model.onnx", "m/1_Pooling/config.json", "m/images/a.png")
    assert found == {"m": "m", "m/onnx": "m", "m/1_Pooling": "m", "m/images": "m/images"}


def test_models_of_an_organisation_stand_alone(store: Store) -> None:
    found = leaders(store, "org/README.md", "org/a/config.json", "org/a/x.safetensors", "org/b/x.gguf")
    assert found == {"org": "org", "org/a": "org/a", "org/b": "org/b"}


@pytest.mark.parametrize("step", ["checkpoint-500", "global_step12", "step_3", "epoch-1", "iter_0000100", "500"])
def test_a_step_of_a_run_stands_alone_and_keeps_its_parts(store: Store, step: str) -> None:
    found = leaders(
        store, "run/config.json", "run/model.safetensors", "run/runs/events.out.tfevents.1", f"run/{step}/config.json",
        f"run/{step}/model.safetensors", f"run/{step}/global_step500/mp_rank_00_model_states.pt",
    )  # fmt: skip
    assert found["run"] == "run"
    assert found["run/runs"] == "run/runs"
    assert found[f"run/{step}"] == f"run/{step}"
    assert found[f"run/{step}/global_step500"] == f"run/{step}"


def test_a_model_in_the_cache_of_a_hub_is_one(store: Store) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    at = "hub/models--org--name"
    found = leaders(store, f"{at}/blobs/ab12", f"{at}/refs/main", f"{at}/snapshots/{revision}/config.json", "hub/x.txt")
    assert {found[f"{at}/blobs"], found[f"{at}/refs"], found[f"{at}/snapshots/{revision}"]} == {at}
    assert found["hub"] == "hub"


def test_the_books_of_a_tool_belong_to_the_directory_that_they_are_about(store: Store) -> None:
    found = leaders(store, "org/m/config.json", "org/m/.git/objects/ab/cd", "org/m/.cache/huggingface/download/x")
    assert set(found.values()) == {"org/m"}


def test_what_lies_at_the_top_belongs_to_nobody(store: Store) -> None:
    assert leaders(store, "config.json", "vae/x.safetensors") == {"": "", "vae": "vae"}
