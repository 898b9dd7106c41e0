"""Train a group of proxies as one stacked model, store them, and score what is stored.

AdamW with warm-up and a cosine, float32 weights, one thread, deterministic kernels: on a CPU the same run gives the same bits on the same
machine, killed and resumed or not; on a GPU two trainings may round otherwise (docs/decisions.md). On a CPU core a group has one member
(curate.mix.fused); on a GPU as many as pay (curate.mix.throughput). Clipping, loss and schedule are per member, so a member's result equals that
of training it alone up to rounding, and the group size is a matter of speed only. A member that diverges is reported as failed with the step at
which it did; it never enters an average.

A stored proxy keeps all that is needed to score it again, so changed suites need no training.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.errors import InputError
from curate.mix import checkpoints, model, throughput
from curate.mix.evaluate import score_suites, write_scores
from curate.mix.stream import Stream, streams_of
from curate.mix.suites import load_once
from curate.mix.throughput import choose_group_size, device
from curate.tokens.tokenizer import Encoder

BETAS = (0.9, 0.95)
CLIP = 1.0  # norm of a member's gradient
CHECKPOINT_SECONDS = 60.0  # between two checkpoints
TAIL = 0.1  # share of the steps whose mean loss is the final loss

__all__ = ["choose_group_size", "device", "evaluate_run", "learning_rate", "single_thread", "train_group", "train_runs"]

Folders = Mapping[str, Sequence[Path | str]]


def single_thread() -> None:
    """Make PyTorch repeatable: one thread, deterministic kernels. New memory is not filled, since nothing reads it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def train_group(
    runs: Sequence[Mapping[str, Any]], folders: Folders, vocab: int, checkpoint: Path | None = None, where: str | None = None
) -> tuple[model.Parameters, list[dict[str, Any]]]:
    """Train one proxy per run, together. The runs may differ in weights, seed and start, not in their proxy.

    Returns the parameters, [K, …], on the CPU, and per run what was seen: loss, final loss (nats per token), realized tokens and
    repeats per source, what it was trained on, and `failed`, None or the reason. With `checkpoint`, a file, the state is kept there
    every CHECKPOINT_SECONDS; what an earlier process left there is gone on with, and the file stays for the caller to remove.
    """
    single_thread()
    proxy = runs[0]["proxy"]
    assert all(run["proxy"] == proxy for run in runs), "the runs of a group have one proxy"
    streams = streams_of(runs, folders)
    with throughput.claimed(where) as here:
        how = throughput.choose(len(runs), here)
        if torch.device(here).type == "cuda":
            torch.cuda.set_device(here)  # where Triton launches kernels, wherever their tensors are
        parameters = {name: value.to(how.device) for name, value in _first_parameters(runs, vocab).items()}
        kept = None if checkpoint is None else (checkpoint, checkpoints.fingerprint(runs, streams, vocab, how))
        try:
            seen = _steps(streams, parameters, proxy, how, kept)
            done = {name: value.detach().cpu() for name, value in parameters.items()}
        finally:
            parameters.clear()
            throughput.give_back_memory(here)
    return done, [_report(streams[k], seen[:, k], vocab, _finite(done, k)) | {"trained_on": how.words} for k in range(len(runs))]


def _steps(
    streams: Sequence[Stream], parameters: model.Parameters, proxy: Mapping[str, Any], how: throughput.How, kept: tuple[Path, str] | None
) -> np.ndarray[Any, Any]:
    """Take all steps of a group, in place; return the losses, [steps, K]. They stay on the device until somebody needs them.

    `kept`: the file of the checkpoint, and what it is known by.
    """
    optimizer, count = _optimizer(parameters, proxy), streams[0].num_steps
    seen = torch.zeros((count, len(streams)), dtype=torch.float64, device=how.device)
    first = 0 if kept is None else checkpoints.restore(*kept, parameters, optimizer, seen)
    add_gradients = throughput.gradients_of(how)
    saved = time.monotonic()
    with contextlib.closing(_batches(streams, first, how.device)) as given:
        for step, tokens in given:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(proxy, step, count)
            seen[step] = add_gradients(parameters, tokens, proxy["heads"])
            _clip(list(parameters.values()))
            optimizer.step()
            optimizer.zero_grad(set_to_none=not how.is_fused)  # curate.mix.fused adds to what is there
            if kept is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                checkpoints.store(*kept, parameters, optimizer, seen[: step + 1])
                saved = time.monotonic()
    return seen.cpu().numpy()


def _batches(streams: Sequence[Stream], first: int, device: str) -> Generator[tuple[int, Tensor]]:
    """Yield (step, tokens) from step `first` on; tokens are int64 [K, rows, context + 1] on `device`.

    For a GPU the next batch is put together while the device works on this one.
    """

    def put_together(step: int) -> Tensor:
        tokens = torch.from_numpy(np.stack([stream.batch(step) for stream in streams]))
        return tokens if on_cpu else tokens.pin_memory()

    on_cpu = torch.device(device).type == "cpu"
    steps = range(first, streams[0].num_steps)
    if on_cpu:
        yield from ((step, put_together(step)) for step in steps)
        return
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as pool:
        coming = [pool.submit(put_together, step) for step in steps[:1]]
        for step in steps:
            tokens = coming.pop().result()
            if step + 1 < steps.stop:
                coming.append(pool.submit(put_together, step + 1))
            yield step, tokens.to(device, non_blocking=True)


def _first_parameters(runs: Sequence[Mapping[str, Any]], vocab: int) -> model.Parameters:
    """Return the parameters that the runs begin with: those of their seed, or of the stored proxy that `start` names."""
    shape = {**runs[0]["proxy"], "vocab": vocab}
    parameters = model.init_parameters(shape, [run["seed"] for run in runs])
    for k, run in enumerate(runs):
        if run.get("start") is None:
            continue
        before, _ = model.read_weights(Path(run["start"]))
        if {name: value.shape[1:] for name, value in before.items()} != {name: value.shape[1:] for name, value in parameters.items()}:
            raise InputError("has another shape than the proxy that should continue from it", where=str(run["start"]))
        for name, value in before.items():
            parameters[name][k] = value[0]
    return parameters


def _optimizer(parameters: model.Parameters, proxy: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return AdamW over all parameters, their gradients being there and zero. Vectors do not decay."""
    for value in parameters.values():
        value.requires_grad_().grad = torch.zeros_like(value)
    matrices = [value for value in parameters.values() if value.dim() == 3]
    vectors = [value for value in parameters.values() if value.dim() == 2]
    groups = [{"params": matrices, "weight_decay": proxy["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=proxy["learning_rate"], betas=BETAS, fused=True)


def learning_rate(proxy: Mapping[str, Any], step: int, num_steps: int) -> float:
    """Linear warm-up, then a cosine to `final_rate` of the peak."""
    warmup = max(1, round(proxy["warmup"] * num_steps))
    if step < warmup:
        return float(proxy["learning_rate"] * (step + 1) / warmup)
    done = (step - warmup + 1) / max(1, num_steps - warmup)
    share = proxy["final_rate"] + (1 - proxy["final_rate"]) * 0.5 * (1 + math.cos(math.pi * done))
    return float(proxy["learning_rate"] * share)


def _clip(parameters: list[Tensor]) -> None:
    """Scale each member's gradient to a norm of at most CLIP."""
    grads = [value.grad for value in parameters if value.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]).square().sum(0).sqrt()
    scale = (CLIP / (norms + 1e-6)).clamp_max(1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.dim() - 1)))


def _finite(parameters: model.Parameters, member: int) -> bool:
    return all(bool(torch.isfinite(value[member]).all()) for value in parameters.values())


def _report(stream: Stream, seen: np.ndarray[Any, Any], vocab: int, finite: bool) -> dict[str, Any]:
    tail = max(1, round(TAIL * len(seen)))
    final = float(np.mean(seen[-tail:]))
    bad = np.flatnonzero(~np.isfinite(seen))
    failed = None
    if len(bad):
        failed = f"the loss was not finite from step {int(bad[0])} on"
    elif not finite:
        failed = "the weights were not finite at the end"
    elif final > math.log(vocab):
        failed = f"it ended at {final:.2f} nats per token, worse than guessing ({math.log(vocab):.2f})"
    every = max(1, len(seen) // 50)
    return {
        "failed": failed,
        "final_loss": None if failed else final,
        "losses": [] if failed else [round(float(value), 4) for value in seen[::every]],
        "realized_tokens": stream.realized,
        "repeats": {name: round(value, 4) for name, value in stream.repeats.items()},
    }


def train_runs(
    runs: Sequence[Mapping[str, Any]], folders: Folders, tokenizer: Path, files: Sequence[Path], checkpoint: Path | None = None
) -> list[dict[str, Any]]:
    """Train a group of runs together, and write one proxy (safetensors) per run to `files`. Returns one report per run.

    `checkpoint`: a file that outlives a killed process, see `train_group`; it is gone when the proxies are there.
    """
    vocab = Encoder.open(tokenizer).vocab_size
    parameters, reports = train_group(runs, folders, vocab, checkpoint)
    for k, (run, file) in enumerate(zip(runs, files, strict=True)):
        model.write_weights(file, parameters, k, {"run": dict(run), "vocab": vocab})
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return reports


def evaluate_run(proxy: Path, tokenizer: Path, suites: Mapping[str, Any], scores: Path) -> dict[str, float]:
    """Score a stored proxy on suites, write `scores` (Parquet), and return bits per byte per suite.

    `suites` maps names to resolved Eval specs with absolute files; a process reads and tokenizes each of them once.
    """
    single_thread()
    parameters, about = model.read_weights(proxy)
    where = device()
    given = {name: value.to(where) for name, value in parameters.items()}
    loaded = [load_once(name, spec, tokenizer) for name, spec in suites.items()]
    (table,) = score_suites(given, loaded, about["run"]["proxy"]["heads"], about["run"]["proxy"]["context"])
    throughput.give_back_memory(where)
    return write_scores(table, scores)
