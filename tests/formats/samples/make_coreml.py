"""Makes coreml.zip: a weight file as coremltools writes it, and the items of its blobs.

Needs coremltools and numpy: python make_coreml.py
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np
from coremltools.libmilstoragepython import _BlobStorageWriter as BlobStorageWriter

HERE = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(1)
    arrays = [
        ("write_float_data", rng.normal(size=30).astype("f4")),
        ("write_fp16_data", rng.normal(size=30).astype("f2")),
        ("write_int8_data", rng.integers(-128, 127, 30).astype("i1")),
        ("write_uint8_data", rng.integers(0, 255, 65).astype("u1")),
        ("write_float_data", rng.normal(size=64).astype("f4")),
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(HERE / "coreml.zip", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        path = Path(folder) / "weight.bin"
        writer = BlobStorageWriter(str(path))
        for method, array in arrays:
            items = array.view("u2") if array.dtype == np.float16 else array
            archive.writestr(f"offset_{getattr(writer, method)(items)}", array.tobytes())
        del writer
        archive.write(path, "weight.bin")


if __name__ == "__main__":
    main()
