"""Tiny models with random weights for the cases of try_clients, and what tells one from another.

Only for processes of .venv-clients. Libraries are imported when they are needed: a case of rsync needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def library(name: str) -> Any:
    """A library of .venv-clients, which the type checker does not know."""
    return import_module(name)


def language_model(seed: int, *, layers: int = 4, width: int = 256) -> Any:
    """A Llama of 20 MB; with 1 layer and a width of 32 of 300 kB."""
    torch, transformers = library("torch"), library("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=16 * width,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return transformers.LlamaForCausalLM(config)


def load_language_model(directory: Path) -> Any:
    return library("transformers").AutoModelForCausalLM.from_pretrained(str(directory), local_files_only=True)


def fingerprint(model: Any) -> str:
    """Of all weights, whatever file they come from."""
    return fingerprint_of(model.state_dict())


def fingerprint_of(tensors: Any) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(library("torch").uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def whose(found: str, **known: str) -> str:
    """The name under which a fingerprint is known."""
    return next((name for name, one in known.items() if one == found), "neither")


def byte_tokenizer(directory: Path) -> Any:
    """A CLIP tokenizer that knows the alphabet."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return library("transformers").CLIPTokenizer.from_pretrained(str(directory))


def pipeline(seed: int, scratch: Path) -> Any:
    """A Stable Diffusion of some MB."""
    torch, diffusers, transformers = library("torch"), library("diffusers"), library("transformers")
    diffusers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, vocab_size=1000
        )
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=byte_tokenizer(scratch / "tokenizer"),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pipeline_fingerprint(pipe: Any) -> str:
    return " ".join(fingerprint(part) for part in (pipe.unet, pipe.vae, pipe.text_encoder))


def load_pipeline(directory: Path) -> Any:
    return library("diffusers").DiffusionPipeline.from_pretrained(
        str(directory), safety_checker=None, local_files_only=True
    )
