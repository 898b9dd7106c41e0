"""What a mix would cost, before anything is trained: counted operations, and a short measurement on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from curate.mix import flow
from curate.mix.stage import gather
from curate.specs.load import load_spec, resolved
from curate.specs.mix import Mix

STEPS = 3  # that are timed, after one that is not


def estimate(spec_file: Path) -> dict[str, Any]:
    """Return what `curate mix run` would train, and for how long on all cores of this machine. Trains a few steps on noise."""
    from curate.mix.model import flops_per_token, num_parameters
    from curate.tokens.tokenizer import Encoder

    spec = load_spec(spec_file, Mix)
    data = gather(spec, spec_file, {}, None)
    runs = flow.plan_runs(spec, data.tokens)
    confirm = spec.confirm.seeds * (1 + len(spec.confirm.against))
    shape = resolved(spec.proxy) | {"vocab": Encoder.open(data.tokenizer).vocab_size}
    tokens = len(runs) * spec.proxy.tokens + confirm * (spec.confirm.tokens or spec.proxy.tokens)
    rate = _tokens_per_second(shape)
    cores = os.cpu_count() or 1
    parameters = num_parameters(shape)
    return {
        "sources": ", ".join(f"{name} ({count:,} tokens)" for name, count in sorted(data.tokens.items())),
        "proxies in the swarm": len(runs),
        "proxies to confirm": confirm,
        "parameters of a proxy": parameters,
        "tokens in all": tokens,
        "floating-point operations": f"{tokens * flops_per_token(shape, spec.proxy.context):.3g}",
        "memory of a proxy": f"{parameters * 16 / 1e6:.0f} MB and its source tokens",
        "tokens per second and core": round(rate),
        "minutes on this machine": round(tokens / rate / cores / 60, 1),
    }


def _tokens_per_second(shape: dict[str, Any]) -> float:
    import torch

    from curate.mix import model
    from curate.mix.proxy import single_thread

    single_thread()
    parameters = model.init_parameters(shape, [0])
    for value in parameters.values():
        value.requires_grad_()
    rows = shape["batch_tokens"] // shape["context"]
    tokens = torch.randint(0, shape["vocab"], (1, rows, shape["context"] + 1), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for step in range(STEPS + 1):
        if step == 1:
            start = time.perf_counter()
        model.losses(parameters, tokens, shape["heads"]).sum().backward()  # type: ignore[no-untyped-call]
    return float(STEPS * rows * shape["context"] / (time.perf_counter() - start))
