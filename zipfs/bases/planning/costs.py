"""Owns the predicted sizes of a cluster: each tensor standalone, and against the candidates for a base.

Up to 64 tensors are all candidates. Of more, those are that serve now and a few from the middle of each part of the
cluster: parts by farthest points (T. Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985), their
middle by the median of each sampled value, which a common ancestor of a star of fine-tunes is near to.  Pure; any
thread may call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.bases.planning.planner import Cluster, Costs, Tensor
from zipfs.bases.similarity.size_model import predict_matrix, predict_standalone
from zipfs.bases.similarity.sketch import parse
from zipfs.codec import item_nbytes

ALL_CANDIDATES: Final = 64
_PARTS: Final = 12
_OF_A_PART: Final = 4
_COMPARED: Final = 128
"""Sampled values by which parts and middles are found."""


def make_cluster(dtype: str, nbytes: int, tensors: Sequence[Tensor], sketches: Sequence[bytes]) -> Cluster:
    """Return a cluster of tensors of one dtype and length; equal sketches are looked at once."""
    unique = {sketch: at for at, sketch in enumerate(dict.fromkeys(sketches))}
    kinds = list(unique)
    of_kind = np.array([unique[sketch] for sketch in sketches], np.intp)
    ids = {tensor.blob_id: at for at, tensor in enumerate(tensors)}
    serving = {ids[tensor.base_id] for tensor in tensors if tensor.base_id in ids}
    serving |= {at for at, tensor in enumerate(tensors) if tensor.pinned}
    # Of equal tensors one that is coded standalone comes first: it need not be moved to become a base.
    order = sorted(range(len(tensors)), key=lambda at: (at not in serving, tensors[at].base_id is not None, at))
    first_of_kind: dict[int, int] = {}
    for at in order:
        first_of_kind.setdefault(int(of_kind[at]), at)
    chosen = set(first_of_kind.values())
    if len(chosen) > ALL_CANDIDATES:
        kept = _middles(kinds)
        chosen = {first_of_kind[kind] for kind in kept}
    candidates = sorted(chosen | serving)
    bytes_per_bit = nbytes / item_nbytes(dtype) / 8
    standalone = np.array([predict_standalone(sketch, dtype) for sketch in kinds])
    bases = list(dict.fromkeys(int(of_kind[at]) for at in candidates))
    against = predict_matrix(kinds, [kinds[base] for base in bases], dtype)
    column = {base: at for at, base in enumerate(bases)}
    columns = [column[int(of_kind[at])] for at in candidates]
    return Cluster(
        nbytes,
        tuple(tensors),
        tuple(candidates),
        np.minimum(standalone[of_kind] * bytes_per_bit, nbytes),
        against[of_kind][:, columns] * bytes_per_bit,
    )


def _middles(sketches: Sequence[bytes]) -> list[int]:
    """Return indices of sketches that lie in the middle of the parts that the cluster falls into."""
    values = np.stack([_values(sketch) for sketch in sketches])
    distance = np.full(len(values), np.inf)
    part = np.zeros(len(values), np.intp)
    pivot = int(_distances(values, np.median(values, axis=0)).argmin())
    for number in range(_PARTS):
        to_pivot = _distances(values, values[pivot])
        nearer = to_pivot < distance
        part[nearer], distance[nearer] = number, to_pivot[nearer]
        pivot = int(distance.argmax())
        if distance[pivot] == 0:
            break
    found: set[int] = set()
    for number in range(_PARTS):
        rows = np.flatnonzero(part == number)
        if len(rows):
            middle = _distances(values[rows], np.median(values[rows], axis=0))
            found.update(rows[np.argsort(middle, kind="stable")[:_OF_A_PART]].tolist())
    return sorted(found)


def _values(sketch: bytes) -> Costs:
    """Return _COMPARED sampled items, as numbers that are ordered as the floats are, but for the sign."""
    samples = parse(sketch)
    if samples is None or not samples.items.size:
        return np.zeros(_COMPARED)
    count, item = samples.items.shape
    chosen = np.ascontiguousarray(samples.items[np.arange(_COMPARED) * count // _COMPARED])
    values: Costs = chosen.view(f"<i{item}").reshape(-1).astype(np.float64)
    return values


def _distances(values: Costs, middle: Costs) -> Costs:
    """Return about the bits that the residuals of each row take."""
    bits: NDArray[np.float64] = np.log2(1.0 + np.abs(values - middle)).mean(axis=1)
    return bits
