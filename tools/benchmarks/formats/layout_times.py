"""Owns how long it takes to lay out a file of a thousand tensors."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tools.benchmarks.formats.rows import Row
from zipfs.formats import lay_out

TENSORS: Final = 1000
VOCABULARY: Final = 128_000
ROUNDS: Final = 15
GOAL_MS: Final = 50.0

_WRITE_FILES: Final = """
import sys, numpy, gguf, torch
folder, tensors, vocabulary = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for words in (0, vocabulary):
    writer = gguf.GGUFWriter(f"{folder}/{words}.gguf", "llama")
    if words:
        writer.add_token_list([f"word{number}" for number in range(words)])
        writer.add_token_types([1] * words)
        writer.add_token_merges([f"w{number} ord{number}" for number in range(2 * words)])
    for number in range(tensors):
        writer.add_tensor(f"blk.{number}.attn_q.weight", numpy.full((8, 16), number, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
names = (f"model.layers.{number}.self_attn.q_proj.weight" for number in range(tensors))
torch.save({name: torch.full((8, 16), float(number)) for number, name in enumerate(names)}, f"{folder}/torch.bin")
"""


def _read(descriptor: int, offset: int, nbytes: int) -> bytes:
    return os.pread(descriptor, nbytes, offset)


def layout_rows(folder: Path, python: Path) -> Iterator[Row]:
    """The best of some rounds, in CPU time, the file in the page cache."""
    made = folder / "layout"
    made.mkdir()
    subprocess.run([python, "-c", _WRITE_FILES, made, str(TENSORS), str(VOCABULARY)], check=True)
    names = {"0.gguf": "GGUF", f"{VOCABULARY}.gguf": f"GGUF, {VOCABULARY} words", "torch.bin": "torch zip"}
    for name, told in names.items():
        nbytes = (made / name).stat().st_size
        best_s, tensors = float("inf"), 0
        with (made / name).open("rb", buffering=0) as file:
            read = partial(_read, file.fileno())
            for _ in range(ROUNDS):
                began_s = time.process_time()
                layout = lay_out(name.encode(), read, nbytes)
                best_s = min(best_s, time.process_time() - began_s)
                tensors = sum(span.name is not None for span in layout.spans)
        yield Row("layout", f"{told}, {tensors} tensors found", nbytes, 0, best_s * 1e3, GOAL_MS)
