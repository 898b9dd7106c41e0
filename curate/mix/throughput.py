"""Where and how a group of proxies is trained: chosen once, by rule and not by chance, and recorded with the result.

On a CPU a group has one member, and curate.mix.fused trains it on one core; the engine's workers are the parallelism. On a GPU members
are stacked, products are in bfloat16 with float32 weights, and both passes are compiled where Triton and a C compiler are installed and the card
has bfloat16. One process at a time trains on a GPU, so that a group may use most of its memory, and gives it back. A group of several on a CPU
takes the stacked path too, in float32: tests rely on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from curate.mix import fused, model

ROOM = 0.7  # share of a GPU's memory that a group may take; other processes score there, and keep their contexts
STEP_TOKENS = 1 << 20  # of all members, beyond which a step only takes longer
MOMENT_BYTES = 8  # per parameter, of an optimizer
SHAPES = 256  # that a process may compile
POLL_SECONDS = 0.2  # between two looks whether a GPU is free

# Add the gradients of the mean losses to those of the parameters; return the losses, nats per token, [K], where the parameters are.
AddGradients = Callable[[model.Parameters, Tensor, int], Tensor]


class How(msgspec.Struct, frozen=True):
    """How a group is trained."""

    device: str
    is_fused: bool  # curate.mix.fused; else the stacked model under autograd
    precision: str  # of products: float32 or bfloat16
    is_compiled: bool

    @property
    def words(self) -> str:
        """A line for the record: which kind of machine, not which one of several."""
        name = "cpu" if torch.device(self.device).type == "cpu" else torch.cuda.get_device_name(self.device)
        return f"{name}, {'fused' if self.is_fused else 'compiled' if self.is_compiled else 'stacked'}, {self.precision}"


def device() -> str:
    """Return where this process scores proxies: on a GPU if there is one, processes being spread over several, else on the CPU."""
    return f"cuda:{os.getpid() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def claimed(where: str | None = None) -> Iterator[str]:
    """Yield a device that no other process of this user trains on: `where` if it is given, else a free GPU, which is waited for, else the CPU.

    A lock file per GPU, which a killed process lets go of.
    """
    if where is not None or not torch.cuda.is_available():
        yield where or "cpu"
        return
    names = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    files = [Path(tempfile.gettempdir()) / f"curate-gpu-{os.getuid()}-{name}.lock" for name in names]
    told = False
    while True:
        for i, path in enumerate(files):
            with path.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                try:
                    yield f"cuda:{i}"
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)  # even if a forked process still has the file
                return
        if not told:
            print("waiting for a GPU: another process of this user trains on each", file=sys.stderr, flush=True)
        told = True
        time.sleep(POLL_SECONDS)


def give_back_memory(where: str) -> None:
    """Let other processes have what this one no longer uses of a GPU: PyTorch would keep it for itself."""
    if torch.device(where).type == "cuda":
        torch.cuda.empty_cache()


def choose(members: int, where: str | None = None) -> How:
    """Return how a group of so many is trained. `where`: a device of PyTorch; null: see `device`."""
    where = where or device()
    on_cpu = torch.device(where).type == "cpu"
    compiled = not on_cpu and importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    compiled = compiled and torch.cuda.get_device_capability(where) >= (8, 0)
    return How(where, on_cpu and members == 1, "float32" if on_cpu else "bfloat16", compiled)


def gradients_of(how: How) -> AddGradients:
    """Return the function that adds gradients in that way."""
    if how.is_fused:
        scratch = fused.shared_scratch()

        def alone(parameters: model.Parameters, tokens: Tensor, heads: int) -> Tensor:
            grads = {name: value.grad for name, value in parameters.items() if value.grad is not None}
            return torch.tensor([fused.add_gradients(parameters, grads, tokens[0], heads, scratch)], dtype=torch.float64)

        return alone
    kind, operations = getattr(torch, how.precision), model.PLAIN
    if how.is_compiled:
        from curate.mix import gpu  # needs Triton

        operations = gpu.OPERATIONS

    def losses(parameters: model.Parameters, tokens: Tensor, heads: int) -> Tensor:
        return model.losses(parameters, tokens, heads, kind, operations)

    if how.is_compiled:
        _allow_shapes()
        losses = torch.compile(losses, fullgraph=True, dynamic=False)

    def stacked(parameters: model.Parameters, tokens: Tensor, heads: int) -> Tensor:
        loss = losses(parameters, tokens, heads)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        return loss.detach().double()

    return stacked


def _allow_shapes() -> None:
    """Let this process compile a group of every size and shape that it meets; PyTorch allows eight before it fails."""
    config: Any = torch._dynamo.config
    setattr(config, "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit", SHAPES)


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
    add_gradients(parameters, tokens, shape["heads"]).sum().item()
    start = time.perf_counter()
    for _ in range(steps):
        loss = add_gradients(parameters, tokens, shape["heads"])
    loss.sum().item()  # waits for the device
    return float(members * steps * rows * shape["context"] / (time.perf_counter() - start))


def choose_group_size(shape: Mapping[str, Any], where: str | None = None) -> int:
    """Return how many proxies to train together: 1 on a CPU; on a GPU as many as its memory holds, up to STEP_TOKENS in a step.

    What one takes is measured without compilation, which would take longer than all the rest, and takes more memory than with it, except for
    the logits: with it those of a whole member exist at once.
    """
    how = msgspec.structs.replace(choose(2, where), is_compiled=False)
    if torch.device(how.device).type == "cpu":
        return 1
    most, peaks = ROOM * torch.cuda.get_device_properties(how.device).total_memory, []
    for members in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(how.device)
        try:
            tokens_per_second(shape, members, how, steps=1)
        except torch.OutOfMemoryError:
            return 1
        peaks.append(int(torch.cuda.max_memory_allocated(how.device)))
    torch.cuda.empty_cache()
    each = peaks[1] - peaks[0]
    logits = 2 * shape["batch_tokens"] * shape["vocab"]
    held = int((most - logits - peaks[0] + each) / (each + MOMENT_BYTES * model.num_parameters(shape)))
    return max(1, min(held, STEP_TOKENS // int(shape["batch_tokens"])))
