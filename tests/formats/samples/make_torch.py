"""Makes `torch.zip`: small files that PyTorch writes, and beside each a JSON file of what PyTorch says is in it.

    python3 -m venv VENV && VENV/bin/pip install torch==2.13.0 numpy
    VENV/bin/python tests/formats/samples/make_torch.py tests/formats/samples/torch.zip

A row of the JSON is a tensor: its name, the name of its type in safetensors, its shape, and the SHA-256 of the bytes
that it takes of its storage. The shape is empty for a tensor whose items do not lie in the order of its axes.
"""

from __future__ import annotations

import argparse
import collections
import enum
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32",
    torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL", torch.complex32: "F16", torch.complex64: "C64",
    torch.complex128: "F64", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
    torch.float4_e2m1fn_x2: "F4", torch.qint8: "I8", torch.quint8: "U8", torch.qint32: "I32",
}  # fmt: skip
HALVED = (torch.complex32, torch.complex128, torch.float4_e2m1fn_x2)
"""Types of which an item is a pair."""

Row = dict[str, Any]


class Precision(enum.Enum):
    HALF = "half"


class Settings:
    def __init__(self) -> None:
        self.precision = Precision.HALF
        self.scale = np.float32(0.5)
        self.mean = torch.arange(6.0)


class Tagged(torch.Tensor):
    pass


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(7, 8)
        self.body = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.LayerNorm(8)])
        self.register_buffer("mask", torch.ones(4, 4).tril())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out = self.embed(tokens)
        for layer in self.body:
            out = layer(out)
        return out + self.mask[0, 0] + torch.arange(8.0)


def row(name: str, tensor: torch.Tensor) -> Row:
    """Describe a tensor that takes a run of its storage without leaving any item out."""
    nbytes = tensor.numel() * tensor.element_size()
    start = tensor.storage_offset() * tensor.element_size()
    content = bytes(tensor.untyped_storage().tolist()[start : start + nbytes])
    shape = [*tensor.shape, *([2] if tensor.dtype in HALVED else [])] if tensor.is_contiguous() else []
    return {"name": name, "dtype": NAMES[tensor.dtype], "shape": shape, "sha256": hashlib.sha256(content).hexdigest()}


def rows(tensors: dict[str, torch.Tensor]) -> list[Row]:
    return [row(name, tensor) for name, tensor in tensors.items() if tensor.numel()]


def saved(value: object, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def of_every_type() -> dict[str, torch.Tensor]:
    made = {}
    for dtype in NAMES:
        raw = torch.randint(0, 256, (6 * 16,), dtype=torch.uint8)
        if dtype in (torch.qint8, torch.quint8, torch.qint32):
            tensor = torch.quantize_per_tensor(torch.randn(2, 3), 0.1, 0, dtype)
        elif dtype == torch.bool:
            tensor = (raw > 100).reshape(12, 8)
        else:
            tensor = raw.view(dtype).reshape(2, -1)
        made[str(dtype).removeprefix("torch.")] = tensor
    return made


def views() -> tuple[dict[str, torch.Tensor], list[Row]]:
    flat, grid, table = torch.randn(60), torch.randn(6, 5), torch.randn(4, 6)
    tied, part, wide = torch.randn(5, 3), torch.randn(40), torch.randn(3)
    value = {
        "flat.first": flat[:20].view(4, 5), "flat.second": flat[20:60].view(8, 5),
        "tied": tied, "tied.again": tied.view(3, 5),
        "transposed": grid.t(), "columns": table[:, :3], "other.columns": table[:, 3:],
        "part": part[10:30], "expanded": wide.expand(4, 3), "empty": torch.empty(0, 4), "scalar": torch.tensor(7),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }  # fmt: skip
    expected = rows({name: value[name] for name in ("flat.first", "flat.second", "tied", "transposed", "scalar")})
    expected += rows({"columns": table.view(-1), "part": part[10:30], "channels_last": value["channels_last"]})
    expected += rows({"expanded": wide})
    for index in (-4, -1):
        expected[index]["shape"] = []
    return value, expected


def optimizer() -> tuple[object, dict[str, torch.Tensor]]:
    model = Model()
    adam = torch.optim.AdamW(model.parameters(), amsgrad=True)
    model(torch.arange(7)).sum().backward()
    adam.step()
    state = adam.state_dict()
    return state, {f"state.{i}.{name}": t for i, kept in state["state"].items() for name, t in kept.items()}


def trainer() -> tuple[object, dict[str, torch.Tensor]]:
    """What Lightning, DeepSpeed and Megatron keep beside weights."""
    model = Model()
    settings = Settings()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  the state of the old generator is what trainers keep
    value = {
        "epoch": 3, "pytorch-lightning_version": "2.5", "state_dict": model.state_dict(),
        "args": argparse.Namespace(hidden=8, precision=Precision.HALF, dtype=torch.bfloat16, path=Path("x")),
        "hyper_parameters": collections.OrderedDict(lr=np.float64(1e-3), rates=np.arange(5.0), settings=settings),
        "callbacks": {("a", 1): {"best": torch.tensor(0.5)}}, "loops": collections.defaultdict(list, fit=[1, 2]),
        "queue": collections.deque([torch.ones(2), torch.zeros(3)], 4), "names": {"b"}, "frozen": frozenset([1]),
        "param_shapes": [collections.OrderedDict(w=torch.Size([3, 4]))], "huge": 1 << 200,
        "device": torch.device("cpu"),
        "rng_state": [{"random": random.getstate(), "np": np.random.get_state(),  # noqa: NPY002
                       "torch": torch.arange(40, dtype=torch.uint8)}],
        "optimizer": {"fp32": [[torch.randn(9), torch.randn(5)]], "lr": 1e-3, "complex": 1 + 2j, "none": None},
        "bytes": b"\0\xff", "array": bytearray(b"x"),
    }  # fmt: skip
    expected = {f"state_dict.{name}": tensor for name, tensor in model.state_dict().items()}
    expected |= {
        "hyper_parameters.settings.mean": settings.mean, "callbacks.?.best": value["callbacks"]["a", 1]["best"],
        "queue.0": value["queue"][0], "queue.1": value["queue"][1], "rng_state.0.torch": value["rng_state"][0]["torch"],
        "optimizer.fp32.0.0": value["optimizer"]["fp32"][0][0], "optimizer.fp32.0.1": value["optimizer"]["fp32"][0][1],
    }  # fmt: skip
    return value, expected


def wrapped() -> tuple[object, dict[str, torch.Tensor]]:
    dense = torch.diag(torch.arange(1.0, 5.0))
    coo, csr = dense.to_sparse(), dense.to_sparse_csr()
    kept = torch.nn.Parameter(torch.randn(3))
    kept.extra = torch.randn(2)
    channels = torch.quantize_per_channel(torch.randn(2, 4), torch.rand(2), torch.zeros(2), 0, torch.quint8)
    ragged = torch.nested.nested_tensor([torch.randn(2), torch.randn(3)])
    spread = distribute_tensor(torch.randn(4, 3), init_device_mesh("cpu", (1,)), [Shard(0)])
    value = {
        "coo": coo, "csr": csr, "kept": kept, "channels": channels, "ragged": ragged, "spread": spread,
        "conj": torch.randn(3, dtype=torch.complex64).conj(), "tagged": torch.randn(4).as_subclass(Tagged),
        "module": Model(), "storage": torch.arange(5.0).untyped_storage(),
    }  # fmt: skip
    module = {f"module.{name}": tensor for name, tensor in value["module"].state_dict().items()}
    expected = {
        "coo.1.0": coo._indices(), "coo.1.1": coo._values(), "csr.1.0": csr.crow_indices(), "csr.1.2": csr.values(),
        "kept": kept.detach(), "kept.extra": kept.extra, "channels": channels,
        "channels.quantizer.1": channels.q_per_channel_scales(),
        "channels.quantizer.2": channels.q_per_channel_zero_points(), "ragged.0": ragged.values(),
        "spread": spread.to_local(), "conj": value["conj"].conj(), "tagged": value["tagged"].as_subclass(torch.Tensor),
        **module,
    }  # fmt: skip
    return value, expected


def distributed(folder: str) -> tuple[bytes, list[Row]]:
    """Save by torch.distributed.checkpoint. Tensors are called by the number of their archive."""
    model = Model().state_dict()
    dcp.save({"model": model, "step": 7, "loader": {"seen": [1, 2]}}, checkpoint_id=folder)
    metadata = dcp.FileSystemReader(folder).read_metadata()
    in_order = sorted(metadata.storage_data.items(), key=lambda item: item[1].offset)
    numbered = {index.fqn: str(number) for number, (index, _) in enumerate(in_order)}
    content = (Path(folder) / "__0_0.distcp").read_bytes()
    return content, rows({numbered[f"model.{name}"]: tensor for name, tensor in model.items()})


def samples(folder: str) -> dict[str, tuple[bytes, list[Row]]]:
    every, model = of_every_type(), Model()
    plain = {name: tensor for name, tensor in every.items() if not name.startswith(("float8", "float4", "uint16"))}
    plain = {name: tensor for name, tensor in plain.items() if name not in ("uint32", "uint64", "complex32")}
    state, moments = optimizer()
    value, expected = trainer()
    odd, odd_rows = wrapped()
    looked, looked_rows = views()
    scripted, exported = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(model), scripted)
    torch.export.save(torch.export.export(model, (torch.arange(5),)), exported)
    weights = rows(dict(model.state_dict()))
    found = {
        "types.pt": (saved(every), rows(every)), "views.pt": (saved(looked), looked_rows),
        "optimizer.pt": (saved(state), rows(moments)), "trainer.ckpt": (saved(value), rows(expected)),
        "protocol-4.ckpt": (saved(value, pickle_protocol=4), rows(expected)),
        "wrapped.pt": (saved(odd), rows(odd_rows)), "module.pth": (saved(model), weights),
        "tensor.pt": (saved(every["bfloat16"]), [row("data/0", every["bfloat16"])]),
        "legacy-types.bin": (saved(plain, _use_new_zipfile_serialization=False), rows(plain)),
        "legacy-float8.bin": (saved(every, _use_new_zipfile_serialization=False), rows(every)),
        "legacy-views.bin": (saved(looked, _use_new_zipfile_serialization=False), looked_rows),
        "legacy-trainer.bin": (saved(value, _use_new_zipfile_serialization=False), rows(expected)),
        "legacy-module.bin": (saved(model, _use_new_zipfile_serialization=False), weights),
        "script.pt": (scripted.getvalue(), weights), "exported.pt2": (exported.getvalue(), weights),
        "checkpoint.distcp": distributed(folder),
    }  # fmt: skip
    byteorder, sys.byteorder = sys.byteorder, "big"
    try:
        found["big.pt"] = (saved({"w": torch.randn(8)}), [])
    finally:
        sys.byteorder = byteorder
    return found


def main() -> None:
    torch.manual_seed(7)
    warnings.simplefilter("ignore")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29613", RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo")
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED, True, 9) as out,
    ):
        for name, (content, expected) in samples(folder).items():
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            out.writestr(zipfile.ZipInfo(name + ".json"), json.dumps(expected), zipfile.ZIP_DEFLATED)
    torch.distributed.destroy_process_group()


main()
