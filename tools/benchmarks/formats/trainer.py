"""Trains a small sentence encoder with AdamW in F32 and keeps checkpoints, as a trainer does. Runs in .venv-formats.

Usage: trainer.py MODEL OUT STEPS      writes OUT/checkpoint-N/{model.safetensors,optimizer.pt,...}, five of them
MODEL is a folder with an F32 BERT in safetensors and its vocab.txt. It learns to tell neighbouring lines of Python's
own documentation from others.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

CHECKPOINTS: Final = 5
BATCH: Final = 16
WORDS: Final = 32
HEADS: Final = 12
LEARNING_RATE: Final = 2e-5


def encode(weights: dict[str, Any], words: Any) -> Any:
    """The mean over all words of a BERT's last layer."""

    def linear(name: str, values: Any) -> Any:
        return functional.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, values: Any) -> Any:
        return functional.layer_norm(values, values.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    hidden = functional.embedding(words, weights["embeddings.word_embeddings.weight"])
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: words.shape[1]]
    hidden = norm("embeddings.LayerNorm", hidden + weights["embeddings.token_type_embeddings.weight"][0])
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        name = f"encoder.layer.{layer}"
        parts = (linear(f"{name}.attention.self.{part}", hidden) for part in ("query", "key", "value"))
        split = [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts]
        seen = functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(-2)
        hidden = norm(f"{name}.attention.output.LayerNorm", hidden + linear(f"{name}.attention.output.dense", seen))
        wide = functional.gelu(linear(f"{name}.intermediate.dense", hidden))
        hidden = norm(f"{name}.output.LayerNorm", hidden + linear(f"{name}.output.dense", wide))
        layer += 1
    return functional.normalize(hidden.mean(1), dim=-1)


def read_lines(vocabulary: Path) -> Any:
    """Lines of Python's documentation as numbers of words, WORDS each."""
    numbers = {word: number for number, word in enumerate(vocabulary.read_text().splitlines())}
    text = "\n".join(importlib.import_module("pydoc_data.topics").topics.values())
    found = [numbers.get(word, numbers["[UNK]"]) for word in re.findall(r"[a-z]+|[^\sa-z]", text.lower())]
    return torch.tensor(found[: len(found) // WORDS * WORDS]).reshape(-1, WORDS)


def save(folder: Path, weights: dict[str, Any], optimizer: Any, step: int) -> None:
    folder.mkdir(parents=True)
    plain = {name: weight.detach().clone() for name, weight in weights.items()}
    importlib.import_module("safetensors.torch").save_file(plain, folder / "model.safetensors", {"format": "pt"})
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save({"last_epoch": step, "_step_count": step + 1}, folder / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}) + "\n")


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    # The same run on every machine; several threads wait for each other where cores are shared.
    torch.set_num_threads(1)
    torch.manual_seed(1)
    loaded = importlib.import_module("safetensors.torch").load_file(model / "model.safetensors")
    weights = {name: tensor.requires_grad_() for name, tensor in loaded.items() if tensor.is_floating_point()}
    optimizer = torch.optim.AdamW(weights.values(), lr=LEARNING_RATE, weight_decay=0.01)
    lines = read_lines(model / "vocab.txt")
    for step in range(1, steps + 1):
        chosen = torch.randint(len(lines) - 1, (BATCH,))
        scores = encode(weights, lines[chosen]) @ encode(weights, lines[chosen + 1]).T / 0.05
        optimizer.zero_grad()
        functional.cross_entropy(scores, torch.arange(BATCH)).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        if step % (steps // CHECKPOINTS) == 0:
            save(out / f"checkpoint-{step}", weights, optimizer, step)


if __name__ == "__main__":
    main()
