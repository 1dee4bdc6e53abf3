"""Makes flax.zip: trees of arrays as Flax serializes them, and the items of the arrays.

Needs flax, optax and numpy: python make_flax.py
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

HERE = Path(__file__).parent


def arrays_in(tree: object, path: str = "") -> dict[str, bytes]:
    """The items of all arrays of a tree, by path."""
    if isinstance(tree, dict):
        return {key: value for name, inner in tree.items() for key, value in arrays_in(inner, f"{path}/{name}").items()}
    return {path[1:]: np.asarray(tree).tobytes()} if np.size(tree) and not isinstance(tree, int) else {}


def main() -> None:
    rng = np.random.default_rng(1)
    params = {
        "dense": {"kernel": jnp.asarray(rng.normal(size=(4, 5)), jnp.float32), "bias": jnp.zeros(5, jnp.bfloat16)},
        "norm": {"scale": jnp.ones(5, jnp.float16)},
    }
    state = {"params": params, "opt_state": optax.adam(1e-3).init(params), "step": 3}
    with zipfile.ZipFile(HERE / "flax.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, tree in (("params", params), ("train_state", state)):
            archive.writestr(f"{name}.msgpack", serialization.to_bytes(tree))
            for key, items in arrays_in(serialization.to_state_dict(tree)).items():
                archive.writestr(f"{name}:{key}", items)
        serialization.MAX_CHUNK_SIZE = 40
        kernel = np.asarray(params["dense"]["kernel"])
        archive.writestr("chunked.msgpack", serialization.to_bytes({"kernel": kernel}))
        for at in range(2):
            archive.writestr(f"chunked:kernel/chunks/{at}", kernel.ravel()[10 * at : 10 * at + 10].tobytes())


if __name__ == "__main__":
    main()
