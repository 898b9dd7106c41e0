"""What tests/mix/test_gpu.py runs in a process of its own: `python gpu_child.py train REQUEST` or `python gpu_child.py kernels`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch


def train(request: dict[str, Any]) -> None:
    """Train a group; print what was reported, and the scores."""
    from curate.mix import proxy

    print("begun", flush=True)
    proxy.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
    files, tokenizer = [Path(file) for file in request["files"]], Path(request["tokenizer"])
    reports = proxy.train_runs(request["runs"], request["folders"], tokenizer, files, Path(request["checkpoint"]))
    scores = [proxy.evaluate_run(file, tokenizer, request["suites"], file.with_suffix(".parquet")) for file in files if request["suites"]]
    print(json.dumps({"reports": reports, "scores": scores}))


def kernels(device: str) -> None:
    """Compare the kernels with the definition, value and gradient; print the largest relative error of each precision."""
    from curate.mix import gpu, model

    torch.manual_seed(0)
    worst = {"float32": 0.0, "bfloat16": 0.0}

    def compare(name: str, given: list[torch.Tensor], functions: list[Any]) -> None:
        found = []
        for function in functions:
            mine = [value.detach().clone().requires_grad_() for value in given]
            out = function(*mine)
            weight = torch.Generator().manual_seed(1)
            sum((part.float() * torch.randn(part.shape, generator=weight).to(device)).sum() for part in out).backward()
            found.append([*(part.detach() for part in out), *(value.grad for value in mine)])
        for a, b in zip(*found, strict=True):
            assert a.shape == b.shape
            worst[name] = max(worst[name], float((a.float() - b.float()).norm() / a.float().norm()))

    for name in worst:
        kind = getattr(torch, name)
        for heads, size, members, rows, length in ((3, 8, 2, 2, 7), (4, 32, 1, 2, 33), (2, 12, 3, 1, 40)):
            products = torch.randn(members, rows * length, 3 * heads * size, device=device).to(kind)
            cos, sin = model.rotary(length, size, products.device)
            compare(name, [products], [lambda p, m=m, h=heads, c=cos, s=sin: m.cut_heads(p, h, c, s) for m in (model, gpu)])
        for vocab in (50, 300, 9000):
            x, embedding = torch.randn(2, 13, 16, device=device).to(kind), 0.5 * torch.randn(2, vocab, 16, device=device)
            targets = torch.randint(0, vocab, (2, 13), device=device)
            compare(name, [x, embedding], [lambda x, e, m=m, t=targets: [m.mean_loss(x, e, t)] for m in (model, gpu)])
    print(json.dumps(worst))


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(json.loads(sys.argv[2]))
    else:
        kernels(sys.argv[2])
