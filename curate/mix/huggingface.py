"""A stored proxy as a folder that Hugging Face's transformers loads: the same logits from `AutoModelForCausalLM`.

Our decoder is a Qwen3 (transformers 4.51 or later) but for three things, each exact: we normalize queries and keys after the rotation, which
keeps norms, so that doing it before is the same; our embeddings are normalized on their way in, so that the input table holds the normalized
rows and the head the raw ones, untied; and our matrices are [in, out]. Nothing of transformers is needed to write it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.errors import InputError
from curate.mix import model
from curate.tokens.tokenizer import Encoder


def export_proxy(proxy: Path, folder: Path, tokenizer: Path | None = None) -> list[Path]:
    """Write a proxy that curate.mix.proxy stored into `folder`, and return the files.

    With `tokenizer`, the tokenizer.json that it was trained with, the folder has that as well. Raises InputError when the two do not fit.
    """
    parameters, about = model.read_weights(proxy)
    vocab, shape = parameters["embedding"].shape[1], about["run"]["proxy"]
    texts: dict[str, str] = {}
    end = None
    if tokenizer is not None:
        encoder = Encoder.open(tokenizer)
        if encoder.vocab_size != vocab:
            raise InputError(f"has {encoder.vocab_size} tokens; the proxy was trained on {vocab}", where=str(tokenizer))
        end = encoder.eos
        texts["tokenizer.json"] = tokenizer.read_text(encoding="utf-8")
        texts["tokenizer_config.json"] = _json(_tokenizer_config(encoder.decode(np.array([end])), shape["context"]))
    texts["config.json"] = _json(_config(parameters, shape, end))
    folder.mkdir(parents=True, exist_ok=True)
    model.write_tensors(folder / "model.safetensors", _tensors(parameters, shape["heads"]), {"format": "pt"})
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / "model.safetensors", *(folder / name for name in sorted(texts))]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _tokenizer_config(end: str, context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def _config(parameters: model.Parameters, proxy: dict[str, Any], end: int | None) -> dict[str, Any]:
    _, vocab, width = parameters["embedding"].shape
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": parameters["layers.0.down"].shape[1],
        "num_hidden_layers": sum(name.endswith(".qkv") for name in parameters),
        "num_attention_heads": proxy["heads"],
        "num_key_value_heads": proxy["heads"],
        "head_dim": width // proxy["heads"],
        "hidden_act": "silu",
        "max_position_embeddings": proxy["context"],
        "rms_norm_eps": model.EPSILON,
        "rope_theta": model.THETA,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "torch_dtype": "float32",
        "bos_token_id": end,
        "eos_token_id": end,
    }


def _tensors(parameters: model.Parameters, heads: int) -> dict[str, torch.Tensor]:
    """Return the tensors by Qwen3's names; its matrices are [out, in]."""
    member = {name: value[0] for name, value in parameters.items()}
    embedding = member["embedding"]
    width = embedding.shape[1]
    tensors = {
        "model.embed_tokens.weight": torch.nn.functional.rms_norm(embedding, (width,), eps=model.EPSILON),
        "lm_head.weight": embedding,
        "model.norm.weight": member["norm"],
    }
    for i in range(sum(name.endswith(".qkv") for name in member)):
        ours, theirs = f"layers.{i}.", f"model.layers.{i}."
        parts = [*zip("qkv", member[f"{ours}qkv"].chunk(3, 1), strict=True)]
        tensors |= {f"{theirs}self_attn.{name}_proj.weight": matrix.t() for name, matrix in parts}
        ones = torch.ones(width // heads)
        gate, up = member[f"{ours}gate_up"].chunk(2, 1)
        tensors |= {
            f"{theirs}self_attn.q_norm.weight": ones,
            f"{theirs}self_attn.k_norm.weight": ones,
            f"{theirs}self_attn.o_proj.weight": member[f"{ours}output"].t(),
            f"{theirs}mlp.gate_proj.weight": gate.t(),
            f"{theirs}mlp.up_proj.weight": up.t(),
            f"{theirs}mlp.down_proj.weight": member[f"{ours}down"].t(),
            f"{theirs}input_layernorm.weight": member[f"{ours}attention_norm"],
            f"{theirs}post_attention_layernorm.weight": member[f"{ours}mlp_norm"],
        }
    return tensors
