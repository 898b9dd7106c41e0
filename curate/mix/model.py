"""A small modern decoder, K of them at once: rotary positions, RMSNorm (also of queries and keys), SwiGLU, tied head.

This is the definition. Every parameter has a leading dimension K and every product is batched, so that a group of members trains as one model on
a GPU; members never meet, and a NaN in one stays there. On a CPU a group has one member, and curate.mix.fused does the same with less traffic.
The loss is fused: LOGITS logits exist at a time, and their gradient is taken at once.

Weights are stored as safetensors (a JSON header, then raw little-endian tensors), which needs no library to read or write.
Follows Llama (Touvron 2023), query-key norm (Henry 2020), Liger's fused cross-entropy (Hsu 2024).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from curate.errors import InputError

LOGITS = 1 << 22  # that exist at once, over all members
THETA = 10_000.0  # base of the rotary frequencies
EPSILON = 1e-6  # of the norms

Parameters = dict[str, Tensor]


def init_parameters(shape: Mapping[str, int], seeds: list[int]) -> Parameters:
    """Return the parameters of len(seeds) members, each [K, …]; a member's values depend on its seed alone.

    `shape`: vocab, width, layers. Matrices are [in, out].
    """
    members = {seed: _member(shape, seed) for seed in set(seeds)}  # those of a swarm share theirs
    return {name: torch.stack([members[seed][name] for seed in seeds]) for name in members[seeds[0]]}


def _member(shape: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width, layers = shape["width"], shape["layers"]
    hidden = hidden_width(width)

    def normal(rows: int, columns: int, scale: float) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * scale

    member = {"embedding": normal(shape["vocab"], width, 0.02), "norm": torch.ones(width)}
    for i in range(layers):
        member |= {
            f"layers.{i}.attention_norm": torch.ones(width),
            f"layers.{i}.qkv": normal(width, 3 * width, width**-0.5),
            f"layers.{i}.output": torch.zeros(width, width),
            f"layers.{i}.mlp_norm": torch.ones(width),
            f"layers.{i}.gate_up": normal(width, 2 * hidden, width**-0.5),
            f"layers.{i}.down": torch.zeros(hidden, width),
        }
    return member


def hidden_width(width: int) -> int:
    """The width of the MLP: 8/3 of the model's, as a multiple of 16."""
    return max(16, int(width * 8 / 3 / 16) * 16)


def num_parameters(shape: Mapping[str, int]) -> int:
    """Parameters of one member."""
    width, hidden = shape["width"], hidden_width(shape["width"])
    return shape["vocab"] * width + width + shape["layers"] * (2 * width + 4 * width * width + 3 * width * hidden)


def flops_per_token(shape: Mapping[str, int], context: int) -> int:
    """Floating-point operations of training one member on one token: forward and backward, attention included."""
    matrices = num_parameters(shape) - shape["width"] * (2 * shape["layers"] + 1)
    return 6 * matrices + 6 * shape["layers"] * shape["width"] * context


def cut_heads(products: Tensor, heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys, rotated and normalized, and values, [sequences, heads, length, size], of products [K, T, 3 · heads · size]."""
    length, half = cos.shape
    q, k, v = products.view(-1, length, 3, heads, 2 * half).permute(2, 0, 3, 1, 4)
    return _rms(_rotate(q, cos, sin)).to(q.dtype), _rms(_rotate(k, cos, sin)).to(k.dtype), v


def mean_loss(x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of x · embeddingᵀ, [K], for x [K, T, width] in the precision of the product, targets [K, T]."""
    return _Loss.apply(x, embedding, targets)  # type: ignore[no-any-return, no-untyped-call]


class Operations(NamedTuple):
    """The two operations for which a GPU has kernels of its own (curate.mix.gpu)."""

    cut_heads: Callable[[Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    mean_loss: Callable[[Tensor, Tensor, Tensor], Tensor]


PLAIN = Operations(cut_heads, mean_loss)


def hidden_states(parameters: Parameters, tokens: Tensor, heads: int, kind: torch.dtype = torch.float32, operations: Operations = PLAIN) -> Tensor:
    """Return the last hidden states, float32 [K, rows · length, width], for `tokens`, int64 [K, rows, length].

    `kind` is the precision of products and of attention; weights, norms and what layers hand on are float32.
    """
    K, rows, length = tokens.shape
    width = parameters["embedding"].shape[2]
    x = _rms(_embedded(parameters["embedding"], tokens.reshape(K, -1)))
    cos, sin = rotary(length, width // heads, x.device)
    for i in range(sum(name.endswith(".qkv") for name in parameters)):
        p = {name: parameters[f"layers.{i}.{name}"] for name in ("attention_norm", "qkv", "output", "mlp_norm", "gate_up", "down")}
        products = _product(_rms(x) * p["attention_norm"][:, None, :], p["qkv"], kind)
        q, k, v = operations.cut_heads(products, heads, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + _product(mixed.transpose(1, 2).reshape(K, rows * length, width), p["output"], kind)
        gate, up = _product(_rms(x) * p["mlp_norm"][:, None, :], p["gate_up"], kind).chunk(2, -1)
        x = x + _product(F.silu(gate) * up, p["down"], kind)
    return _rms(x) * parameters["norm"][:, None, :]


def _embedded(embedding: Tensor, tokens: Tensor) -> Tensor:
    """Return the embeddings of tokens [K, T], [K, T, width], by one look-up in the tables of all members."""
    K, vocab, width = embedding.shape
    first = torch.arange(K, device=tokens.device)[:, None] * vocab
    return F.embedding((tokens + first).view(-1), embedding.reshape(K * vocab, width)).view(K, -1, width)


def _product(a: Tensor, b: Tensor, kind: torch.dtype) -> Tensor:
    return torch.bmm(a.to(kind), b.to(kind))


def losses(parameters: Parameters, tokens: Tensor, heads: int, kind: torch.dtype = torch.float32, operations: Operations = PLAIN) -> Tensor:
    """Return the mean loss of each member, nats per token, [K], for sequences int64 [K, rows, length + 1]; `kind` as for `hidden_states`."""
    x = hidden_states(parameters, tokens[:, :, :-1], heads, kind, operations)
    return operations.mean_loss(x.to(kind), parameters["embedding"], tokens[:, :, 1:].reshape(len(tokens), -1))


class _Loss(torch.autograd.Function):
    """Mean cross-entropy of x · embeddingᵀ, with its gradient computed in the forward pass, some positions at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        (K, vocab, _), count = embedding.shape, x.shape[1]
        rows, columns = embedding.to(x.dtype), torch.arange(vocab, device=x.device)
        total = torch.zeros(K, dtype=torch.float32, device=x.device)
        grad_x, grad_embedding = torch.empty_like(x), torch.zeros_like(embedding)
        step = max(64, LOGITS // (K * vocab))
        for start in range(0, count, step):
            here, wanted = x[:, start : start + step], targets[:, start : start + step, None]
            logits = torch.bmm(here, rows.transpose(1, 2)).float()
            sums = torch.logsumexp(logits, -1, keepdim=True)
            total += (sums - logits.gather(2, wanted)).sum((1, 2))
            slope = (torch.exp(logits - sums) - (columns == wanted).float()).to(x.dtype)
            grad_x[:, start : start + step] = torch.bmm(slope, rows)
            grad_embedding += torch.bmm(slope.transpose(1, 2), here)
        ctx.save_for_backward(grad_x.div_(count), grad_embedding.div_(count))
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        grad_x, grad_embedding = ctx.saved_tensors
        scale = grads[0][:, None, None]
        return (grad_x * scale).to(grad_x.dtype), grad_embedding * scale, None


def _rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=EPSILON)


def rotary(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of the rotary angles, [length, size / 2] each."""
    angles = torch.arange(length, device=device)[:, None] * THETA ** (-torch.arange(size // 2, device=device) / (size // 2))[None, :]
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def write_weights(path: Path, parameters: Parameters, member: int, about: Mapping[str, Any]) -> None:
    """Write one member as safetensors, with `about` as JSON in its metadata. Equal weights give equal bytes."""
    tensors = {name: parameters[name][member] for name in parameters}
    write_tensors(path, tensors, {"about": json.dumps(about, sort_keys=True)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write float32 tensors as safetensors, sorted by name."""
    arrays = {name: np.ascontiguousarray(tensors[name].detach().numpy(), "<f4") for name in sorted(tensors)}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


def read_weights(path: Path) -> tuple[Parameters, dict[str, Any]]:
    """Read what `write_weights` wrote: parameters with K = 1, and `about`. Raises InputError when the file is not whole."""
    try:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        about = json.loads(header.pop("__metadata__")["about"])
        parameters = {}
        for name, entry in header.items():
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
            parameters[name] = torch.tensor(array)[None]  # PyTorch aligns its memory, on which the last bit of a product may depend
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not the weights of a proxy: {error}", where=str(path)) from error
    return parameters, about
