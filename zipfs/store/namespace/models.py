"""What is one model: directories below `ingest/` that are published together.

A directory stands for itself, unless it is a part of the one above: a component of a pipeline, a folder of weights
beside the `config.json` of its model. Then both are sealed at once, when all of it is quiet. A step of a training run
is a model of its own, whatever the run holds, and so is each model of an organisation: a run does not wait for its end,
nor one model for the next.
"""

from __future__ import annotations

import re
from typing import Final

from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree
from zipfs.store.namespace.unfinished import UnfinishedNames
from zipfs.store.objects.values import INGEST_ROOT, Entry, InodeId

_NAMES_AT_MOST: Final = 4096
"""Looked at in one directory. One that holds more is no model."""

_COMPONENT: Final = re.compile(
    # diffusers
    rb"(unet|vae|vqvae|movq|transformer|controlnet|prior|decoder|text_encoder|text_encoder_\d|tokenizer|tokenizer_\d"
    rb"|scheduler|image_encoder|image_processor|feature_extractor|safety_checker|prior_\w+|image_\w+|low_res_scheduler"
    rb"|super_res_\w+|mel|vocoder|language_model|projection_model|image_normalizer|image_noising_scheduler"
    rb"|\d+_[A-Z]\w*"  # sentence-transformers: 1_Pooling
    rb"|variables|assets|assets\.extra"  # TensorFlow's SavedModel
    rb"|blobs|refs|snapshots"  # a model in the cache of huggingface_hub
    rb"|\.cache)",  # in which the same keeps its books beside a model
)
_ALONE: Final = re.compile(
    rb"(checkpoint|ckpt|global_?step|step|epoch|iter|round)[-_=]?\d.*|\d+|(models|datasets|spaces)--.+",
    re.IGNORECASE,
)
_REVISION: Final = re.compile(rb"[0-9a-f]{40}")
_DESCRIPTION: Final = re.compile(
    rb"config\.json|model_index\.json|modules\.json|adapter_config\.json|saved_model\.pbt?x?t?|MLmodel"
    rb"|.*\.index\.json"
)
_WEIGHTS: Final = re.compile(
    rb".*\.(safetensors|bin|pt|pth|ckpt|gguf|ggml|onnx|onnx_data|h5|hdf5|keras|msgpack|npz|npy|pb|tflite|distcp|xml|mlmodel)"
    rb"|.*\.safetensors\..*",
    re.IGNORECASE,
)


class Units:
    """Which directory leads the model that another one belongs to; looks once at each. Use in one snapshot."""

    def __init__(self, catalog: Catalog, names: UnfinishedNames) -> None:
        self._catalog = catalog
        self._names = names
        self._leaders: dict[InodeId, InodeId] = {}
        self._entries: dict[InodeId, Entry] = {}
        self._held: dict[InodeId, tuple[bool, bool]] = {}

    def leader(self, directory: InodeId) -> InodeId:
        """The topmost directory of the model that a directory is a part of, often itself.

        For one in which a tool keeps its books, such as `.git`, that of the directory that holds it.
        """
        found = self._leaders.get(directory)
        if found is None:
            found = directory
            parent = self._parent_of_part(directory)
            if parent is not None:
                found = self.leader(parent)
            self._leaders[directory] = found
        return found

    def _parent_of_part(self, directory: InodeId) -> InodeId | None:
        """The directory above, if this one belongs to it."""
        if directory == INGEST_ROOT:
            return None
        entry = self._entry(directory)
        parent = entry.parent_id
        if parent == INGEST_ROOT:
            return None
        if self._names.keeper(entry.name) or self._names.keeper(tree.path_of(self._catalog, directory)):
            return parent
        above = self._entry(parent).name
        if _ALONE.fullmatch(entry.name) and not _ALONE.fullmatch(above):
            return None
        if _COMPONENT.fullmatch(entry.name) or (above == b"snapshots" and _REVISION.fullmatch(entry.name)):
            return parent
        return parent if self._describes(parent) and self._weighs(directory) else None

    def _entry(self, directory: InodeId) -> Entry:
        entry = self._entries.get(directory)
        if entry is None:
            entry = self._entries[directory] = tree.parent_entry(self._catalog, directory)
        return entry

    def is_of_model(self, directory: InodeId) -> bool:
        """Whether a directory is that of a model, by a `config.json` or the like, or a part of one: no folder of
        models.
        """
        return self._describes(directory) or self._describes(self.leader(directory))

    def _describes(self, directory: InodeId) -> bool:
        return directory != INGEST_ROOT and self._examine(directory)[0]

    def _weighs(self, directory: InodeId) -> bool:
        return any(self._examine(directory))

    def _examine(self, directory: InodeId) -> tuple[bool, bool]:
        """Whether a directory holds the description of a model, and whether it holds weights."""
        found = self._held.get(directory)
        if found is None:
            names = self._catalog.names_after(directory, None, _NAMES_AT_MOST)
            found = (
                any(_DESCRIPTION.fullmatch(name) for name in names),
                any(_WEIGHTS.fullmatch(name) for name in names),
            )
            self._held[directory] = found
        return found
