"""Writes models in containers, each by the library that people use for it. Runs in .venv-formats.

Usage: convert.py FAMILY OUT CONTAINER DTYPE [MODEL...]      writes OUT/MODEL/..., of the models of a family
FAMILY is a folder of safetensors models: base-bf16, base-f32 and fine-tunes in BF16. As F32, a fine-tune is the F32
base and what its BF16 weights differ by from those of the base; other types are rounded from that.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

Tensors = Mapping[str, Any]

GGML_TYPES: Final = {"Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
QUANTISED_ROW: Final = 768
"""Weights that are quantised as one row: whole blocks of 256, and whole rows of 384."""


def library(name: str) -> Any:
    return importlib.import_module(name)


def read_model(family: Path, model: str, dtype: str) -> dict[str, Any]:
    """Name -> tensor of PyTorch, in file order."""
    load = library("safetensors.torch").load_file
    torch = library("torch")
    if dtype == "BF16":
        return dict(load(family / model / "model.safetensors"))
    master = load(family / "base-f32/model.safetensors")
    base = load(family / "base-bf16/model.safetensors")
    tuned = load(family / model / "model.safetensors")
    floats = {name: master[name] + (tuned[name].float() - base[name].float()) for name in tuned}
    return {name: tensor.to(torch.float16 if dtype == "F16" else torch.float32) for name, tensor in floats.items()}


def arrays(tensors: Tensors) -> dict[str, Any]:
    """As arrays of NumPy; BF16 as ml_dtypes has it."""
    torch, bfloat16 = library("torch"), library("ml_dtypes").bfloat16
    return {
        name: tensor.view(torch.int16).numpy().view(bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for name, tensor in tensors.items()
    }


def write_safetensors(folder: Path, tensors: Tensors, dtype: str) -> None:
    library("safetensors.torch").save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})


def write_bin(folder: Path, tensors: Tensors, dtype: str) -> None:
    library("torch").save(dict(tensors), folder / "pytorch_model.bin")


def write_pt(folder: Path, tensors: Tensors, dtype: str) -> None:
    state = {"model": dict(tensors), "epoch": 3, "best_metric": 0.25, "args": {"lr": 2e-5, "name": "run"}}
    library("torch").save(state, folder / "checkpoint.pt")


def write_dcp(folder: Path, tensors: Tensors, dtype: str) -> None:
    library("torch.distributed.checkpoint").save({"model": dict(tensors)}, checkpoint_id=folder, no_dist=True)


def write_npz(folder: Path, tensors: Tensors, dtype: str) -> None:
    library("numpy").savez(folder / "model.npz", **arrays(tensors))


def write_hdf5(folder: Path, tensors: Tensors, dtype: str) -> None:
    with library("h5py").File(folder / "model.h5", "w") as file:
        for name, array in arrays(tensors).items():
            file.create_dataset(name.replace(".", "/"), data=array)


def write_msgpack(folder: Path, tensors: Tensors, dtype: str) -> None:
    tree: dict[str, Any] = {}
    for name, array in arrays(tensors).items():
        *parents, leaf = name.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = array
    (folder / "flax_model.msgpack").write_bytes(library("flax.serialization").msgpack_serialize({"params": tree}))


def write_onnx(folder: Path, tensors: Tensors, dtype: str) -> None:
    library("onnx").save(_onnx_model(tensors), folder / "model.onnx")


def write_onnx_data(folder: Path, tensors: Tensors, dtype: str) -> None:
    """Tensors in a file beside the model."""
    library("onnx").save(
        _onnx_model(tensors),
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.onnx_data",
    )


def write_raw(folder: Path, tensors: Tensors, dtype: str) -> None:
    """Nothing but the items of all tensors, as the weights of OpenVINO and TensorFlow lie beside an index."""
    with open(folder / "model.bin", "wb") as file:
        file.writelines(array.tobytes() for array in arrays(tensors).values())


def _onnx_model(tensors: Tensors) -> Any:
    onnx = library("onnx")
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays(tensors).items()]
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "model", [value], [result], initializers)
    return onnx.helper.make_model(graph)


def write_gguf(folder: Path, tensors: Tensors, dtype: str) -> None:
    """Matrices in `dtype`, vectors as F32 if that is a type of blocks."""
    gguf, numpy = library("gguf"), library("numpy")
    writer = gguf.GGUFWriter(folder / f"model-{dtype}.gguf", "bert")
    writer.add_block_count(6)
    writer.add_token_list([f"word{number}" for number in range(30_522)])
    for name, array in arrays(tensors).items():
        if dtype == "BF16":
            writer.add_tensor(name, array.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        elif dtype == "Q8_0" and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    _finish(writer)


def write_blocks(folder: Path, tensors: Tensors, dtype: str) -> None:
    """Matrices alone, quantised by ggml itself."""
    gguf, numpy, quantise = library("gguf"), library("numpy"), _ggml().ggml_quantize_chunk
    kind = gguf.GGMLQuantizationType(GGML_TYPES[dtype])
    block_weights, block_nbytes = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(folder / f"matrices-{dtype}.gguf", "bert")
    for name, array in arrays(tensors).items():
        if array.ndim != 2 or array.size % QUANTISED_ROW:
            continue
        values = numpy.ascontiguousarray(array, numpy.float32).reshape(-1, QUANTISED_ROW)
        raw = numpy.zeros((len(values), QUANTISED_ROW // block_weights * block_nbytes), numpy.uint8)
        source, target = (it.ctypes.data_as(ctypes.c_void_p) for it in (values, raw))
        rows, width = map(ctypes.c_int64, values.shape)
        if quantise(int(kind), source, target, ctypes.c_int64(0), rows, width, None) != raw.nbytes:
            sys.exit("convert: ggml made another number of bytes")
        writer.add_tensor(name, raw, raw_dtype=kind)
    _finish(writer)


def _ggml() -> Any:
    """Return ggml's own quantiser, which the wheel of pywhispercpp has."""
    folder = Path(next(path for path in sys.path if path.endswith("site-packages")))
    path = next(folder.glob("pywhispercpp.libs/libggml-base*"), None) or next(folder.glob("**/libggml-base*.so*"))
    ggml = ctypes.CDLL(str(path))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    return ggml


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


WRITERS: Final[dict[str, Callable[[Path, Tensors, str], None]]] = {
    "safetensors": write_safetensors,
    "bin": write_bin,
    "pt": write_pt,
    "dcp": write_dcp,
    "npz": write_npz,
    "hdf5": write_hdf5,
    "msgpack": write_msgpack,
    "onnx": write_onnx,
    "onnx-data": write_onnx_data,
    "raw": write_raw,
    "gguf": write_gguf,
    "blocks": write_blocks,
}


def main() -> None:
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    family, out, container, dtype, *models = sys.argv[1:]
    write = WRITERS[container]
    for model in models or sorted(path.name for path in Path(family).iterdir() if path.name != "base-f32"):
        folder = Path(out) / model
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, read_model(Path(family), model, dtype), dtype)


if __name__ == "__main__":
    main()
