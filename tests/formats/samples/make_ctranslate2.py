"""Makes ctranslate2.zip: small models as the package writes them, and the items of their variables.

Needs ctranslate2 and numpy: python make_ctranslate2.py
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import ctranslate2
import numpy as np

HERE = Path(__file__).parent


def fill(spec: ctranslate2.specs.LayerSpec, rng: np.random.Generator) -> None:
    """Give every variable that is still unset a few weights."""
    shapes = {1: (4,), 2: (4, 4)}

    def set_variable(layer: object, name: str, value: object) -> None:
        key = name.rsplit("/", maxsplit=1)[-1]
        if value is None or (value == "__optional" and key in ("weight", "bias")):
            setattr(layer, key, rng.normal(size=shapes[1 if key in ("bias", "gamma", "beta") else 2]).astype("f4"))

    ctranslate2.specs.model_spec.visit_spec(spec, set_variable)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(HERE / "ctranslate2.zip", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in ("float32", "float16", "int8"):
            spec = ctranslate2.specs.TransformerSpec.from_config(1, 2)
            spec.register_source_vocabulary(["a"] * 4)
            spec.register_target_vocabulary(["a"] * 4)
            fill(spec, np.random.default_rng(1))
            spec.validate()
            spec.optimize(quantization=name)
            spec.save(folder)
            archive.write(Path(folder) / "model.bin", f"{name}.bin")
            for key, variable in spec.variables().items():
                if not isinstance(variable, str):
                    archive.writestr(f"{name}:{key}", bytes(variable.to_bytes()))


if __name__ == "__main__":
    main()
