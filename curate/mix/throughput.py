"""Where and how a group of proxies is trained: chosen once, by rule and not by chance, and recorded with the result.

On a CPU a group has one member, and curate.mix.fused trains it on one core; the engine's workers are the parallelism. On a GPU members
are stacked, products are in bfloat16 with float32 weights, and the loss is compiled where Triton is installed. A group of several on a CPU
takes the stacked path too, in float32: tests rely on it.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.mix import fused, model

ENOUGH = 1.05  # a doubled group that is less than this much faster is not worth its memory
MOST = 512  # members of a group

# Add the gradients of the mean losses to those of the parameters; return the losses, nats per token, [K].
AddGradients = Callable[[model.Parameters, Tensor, int], NDArray[np.float64]]


class How(msgspec.Struct, frozen=True):
    """How a group is trained."""

    device: str
    is_fused: bool  # curate.mix.fused; else the stacked model under autograd
    precision: str  # of products: float32 or bfloat16
    is_compiled: bool

    @property
    def words(self) -> str:
        """A line for the record."""
        return f"{self.device}, {'fused' if self.is_fused else 'compiled' if self.is_compiled else 'stacked'}, {self.precision}"


def device() -> str:
    """Return where proxies are trained and scored: the first GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(members: int, where: str | None = None) -> How:
    """Return how a group of so many is trained. `where`: a device of PyTorch; null: see `device`."""
    where = where or device()
    on_cpu = torch.device(where).type == "cpu"
    compiled = not on_cpu and importlib.util.find_spec("triton") is not None
    return How(where, on_cpu and members == 1, "float32" if on_cpu else "bfloat16", compiled)


def gradients_of(how: How) -> AddGradients:
    """Return the function that adds gradients in that way."""
    if how.is_fused:
        scratch = fused.Scratch()

        def alone(parameters: model.Parameters, tokens: Tensor, heads: int) -> NDArray[np.float64]:
            grads = {name: value.grad for name, value in parameters.items() if value.grad is not None}
            return np.array([fused.add_gradients(parameters, grads, tokens[0], heads, scratch)])

        return alone
    losses: Any = torch.compile(model.losses) if how.is_compiled else model.losses

    def stacked(parameters: model.Parameters, tokens: Tensor, heads: int) -> NDArray[np.float64]:
        with torch.autocast(torch.device(how.device).type, torch.bfloat16, enabled=how.precision == "bfloat16"):
            loss = losses(parameters, tokens, heads)
        loss.sum().backward()
        return np.asarray(loss.detach().double().cpu())

    return stacked


def tokens_per_second(shape: Mapping[str, Any], members: int, how: How, steps: int = 3) -> float:
    """Train a group on noise for a few steps, optimizer left out; return its tokens per second, over all members.

    `shape`: a proxy with its vocab.
    """
    parameters = {name: value.to(how.device) for name, value in model.init_parameters(shape, list(range(members))).items()}
    for value in parameters.values():
        value.requires_grad_().grad = torch.zeros_like(value)
    rows = shape["batch_tokens"] // shape["context"]
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, shape["vocab"], (members, rows, shape["context"] + 1), generator=draw).to(how.device)
    add_gradients = gradients_of(how)
    add_gradients(parameters, tokens, shape["heads"])
    start = time.perf_counter()
    for _ in range(steps):
        add_gradients(parameters, tokens, shape["heads"])
    return float(members * steps * rows * shape["context"] / (time.perf_counter() - start))


def choose_group_size(shape: Mapping[str, Any], where: str | None = None) -> int:
    """Return how many proxies to train together: 1 on a CPU; on a GPU doubled until memory ends or the gain is below 5 %.

    Measured without compilation, which would take longer than it.
    """
    how = choose(2, where)
    if torch.device(how.device).type == "cpu":
        return 1
    how = msgspec.structs.replace(how, is_compiled=False)
    size, rate = 1, tokens_per_second(shape, 1, how)
    while size < MOST:
        try:
            doubled = tokens_per_second(shape, 2 * size, how)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if doubled < ENOUGH * rate:
            break
        size, rate = 2 * size, doubled
    return size
