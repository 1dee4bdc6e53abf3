"""Stores of many models, made in a moment: their headers and side files are real, their tensors stand in the catalog
only.  For what looks at a store; reading a tensor of one fails.

`python -m tests.support.hub STORE [MODELS]` makes one with families of skewed sizes.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from zipfs.codec import FRAME_NBYTES, Cast, encode_frame, item_nbytes
from zipfs.store.catalog.writes import Transaction
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.base_view import View
from zipfs.store.objects.columns import layout_sum
from zipfs.store.objects.values import ROOT, BaseRef, Blob, BlobId, Extent, Kind, State, frame_count
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor and how it is to be stored: as the very blob `same`, against the blob `base`, or alone; `bits` are what
    an item takes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "BF16"
    bits: float = 10.6
    same: BlobId | None = None
    base: BlobId | None = None
    cast: str = ""
    base_items: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * item_nbytes(self.dtype)


class Hub:
    """A store that models are added to; `finish` commits what was added."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writer = PackWriter(store.packs)
        self._pending: list[tuple[bytes, int, list[Extent]]] = []
        self._blobs: dict[BlobId, Blob] = {}
        self._plain: dict[bytes, BlobId] = {}
        self._next = store.reserve_blob_id()

    def add_model(self, path: str, tensors: Sequence[Made], **side_files: bytes) -> list[BlobId]:
        """`path`/model.safetensors with these tensors; returns their blobs."""
        header: dict[str, object] = {}
        at = 0
        for tensor in tensors:
            offsets = [at, at + tensor.nbytes]
            header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
            at += tensor.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        extents = [self._add_bytes(struct.pack("<Q", len(text)) + text, 0)]
        ids = []
        for tensor in tensors:
            blob_id = tensor.same if tensor.same is not None else self._add_tensor(tensor)
            extents.append(Extent(extents[-1].offset + extents[-1].nbytes, tensor.nbytes, blob_id, 0))
            ids.append(blob_id)
        self._add_file(os.fsencode(path) + b"/model.safetensors", extents)
        for name, content in side_files.items():
            self.add_file(f"{path}/{name}.json", content)
        return ids

    def add_file(self, path: str, content: bytes) -> None:
        """A file that is no tensors."""
        self._add_file(os.fsencode(path), [self._add_bytes(content, 0)] if content else [])

    def finish(self) -> None:
        self._writer.sync()
        self._writer.finish(lambda: None)
        with self._store.transaction() as txn:
            alone = [blob for blob in self._blobs.values() if blob.base is None]
            others = [blob for blob in self._blobs.values() if blob.base is not None]
            txn.add_pack(self._writer.name, self._writer.nbytes, [*alone, *others])
            for path, nbytes, extents in self._pending:
                self._put(txn, path, nbytes, extents)

    def _put(self, txn: Transaction, path: bytes, nbytes: int, extents: Sequence[Extent]) -> None:
        directory, name = os.path.split(path)
        parent = tree.make_directories(txn, directory) if directory else ROOT
        inode = tree.new_inode(txn, Kind.FILE, Event.IMPORT, 0o644, 0, 0)
        inode = replace(inode, state=State.STORED, nbytes=nbytes, layout_sum=layout_sum(extents))
        txn.put_inode(inode)
        txn.put_extents(inode.id, extents)
        tree.link(txn, parent, name, inode, Event.SERVE)

    def _add_file(self, path: bytes, extents: list[Extent]) -> None:
        self._pending.append((path, sum(extent.nbytes for extent in extents), extents))

    def _new_id(self) -> BlobId:
        self._next = BlobId(self._next + 1)
        return self._next

    def _add_bytes(self, content: bytes, offset: int) -> Extent:
        if content not in self._plain:
            blob_id = self._new_id()
            self._writer.begin_blob()
            for index in range(frame_count(len(content), "")):
                raw = content[index * FRAME_NBYTES : (index + 1) * FRAME_NBYTES]
                self._writer.append_frame(encode_frame(raw, "", None, blob_id << 24 | index))
            digest = xxhash.xxh3_128_digest(content)
            self._blobs[blob_id] = self._writer.end_blob(blob_id, len(content), digest, "", (), None)
            self._plain[content] = blob_id
        return Extent(offset, len(content), self._plain[content], 0)

    def _add_tensor(self, tensor: Made) -> BlobId:
        blob_id = self._new_id()
        count = frame_count(tensor.nbytes, tensor.dtype)
        stored = max(count, round(math.prod(tensor.shape) * tensor.bits / 8))
        frames = np.full(count, stored // count, np.uint32)
        frames[0] += stored - int(frames.sum())
        base = None
        if tensor.base is not None:
            of_base = self._blobs[tensor.base]
            width = item_nbytes(of_base.dtype)
            start, stop = tensor.base_items or (0, of_base.nbytes // width)
            view = View(start * width, (stop - start) * width, Cast.from_text(tensor.cast) if tensor.cast else None)
            base = BaseRef(tensor.base, view)
        fingerprint = blob_id.to_bytes(16, "little")
        self._blobs[blob_id] = Blob(
            blob_id, tensor.nbytes, fingerprint, tensor.dtype, tensor.shape, base, self._writer.name, 0, frames
        )
        return blob_id


LAYERS = 32
_KINDS = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
    "input_layernorm": (4096,),
    "post_attention_layernorm": (4096,),
}


def tensors_of_model(layers: int, width: float = 1.0) -> list[Made]:
    """A model of this many layers, as those of 8 billion weights are."""
    found = [Made("model.embed_tokens.weight", (128256, round(4096 * width)))]
    for layer in range(layers):
        for kind, (rows, *columns) in _KINDS.items():
            shape = (max(1, round(rows * width)), *columns)
            found.append(Made(f"model.layers.{layer}.{kind}.weight", shape))
    return [*found, Made("model.norm.weight", (4096,)), Made("lm_head.weight", (128256, round(4096 * width)))]


def add_family(hub: Hub, name: str, members: int, layers: int, rng: np.random.Generator) -> int:
    """A base and fine-tunes of it; returns how many models."""
    spec = tensors_of_model(layers, float(rng.choice([0.25, 0.5, 1.0])))
    org = f"org-{int(rng.integers(40)):02d}"
    ids = hub.add_model(f"{org}/{name}", spec, config=name.encode())
    for number in range(members - 1):
        level = float(rng.uniform(0.3, 6.0))
        frozen = int(rng.integers(0, layers)) if rng.random() < 0.3 else 0
        wide = rng.random() < 0.05
        tuned = []
        for at, (tensor, blob_id) in enumerate(zip(spec, ids, strict=True)):
            depth = at / len(spec)
            bits = max(0.02, level * (0.5 + depth) * (1.4 if ".v_proj" in tensor.name else 1.0))
            if ".layers." in tensor.name and int(tensor.name.split(".")[2]) < frozen:
                tuned.append(replace(tensor, same=blob_id))
            elif wide:
                tuned.append(replace(tensor, dtype="F32", base=blob_id, cast="BF16>F32", bits=bits + 13))
            else:
                tuned.append(replace(tensor, base=blob_id, bits=min(bits, 10.0)))
        hub.add_model(f"user-{int(rng.integers(200)):03d}/{name}-ft-{number:03d}", tuned, config=str(number).encode())
    return members


def main() -> None:
    path, models = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    rng = np.random.default_rng(7)
    with open_store(path, create=True) as store:
        hub = Hub(store)
        made = family = 0
        while made < models:
            members = min(models - made, max(1, int(220 / (family + 1) ** 0.85) - 4))
            made += add_family(hub, f"family-{family:03d}", members, (16, 32, 40)[family % 3], rng)
            family += 1
        hub.finish()


if __name__ == "__main__":
    main()
