"""A group of proxies half-way: what it takes to go on after a kill, to the same bits where training itself gives them (on a CPU).

Written to a neighbor and renamed, so that the file is there as a whole or as it was. It carries a fingerprint of the runs, of the tokens
that they read, of the code and of the device; a file that cannot be read or belongs to something else is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.mix.model import Parameters
from curate.mix.stream import Stream
from curate.mix.throughput import How
from curate.tasks import code_version

SAMPLES = 16  # steps whose tokens enter the fingerprint


def fingerprint(runs: Sequence[Mapping[str, Any]], streams: Sequence[Stream], vocab: int, how: How) -> str:
    """Return what a checkpoint of exactly this training is known by."""
    facts = [list(map(dict, runs)), vocab, how.words, code_version("curate.mix", "curate.tokens", libraries=("torch", "numpy", "numba", "triton"))]
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for run, stream in zip(runs, streams, strict=True):
        for step in np.linspace(0, stream.num_steps - 1, SAMPLES).astype(int).tolist():
            digest.update(stream.batch(step).tobytes())
        if run.get("start") is not None:
            digest.update(Path(run["start"]).read_bytes())
    return digest.hexdigest()


def store(path: Path, mark: str, parameters: Parameters, optimizer: torch.optim.Optimizer, seen: Tensor) -> None:
    """Write a checkpoint after `len(seen)` steps, in place of the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "mark": mark,
        "parameters": {k: v.detach() for k, v in parameters.items()},
        "optimizer": optimizer.state_dict(),
        "seen": seen.cpu(),
    }
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(whole, beside)
    beside.replace(path)


def restore(path: Path, mark: str, parameters: Parameters, optimizer: torch.optim.Optimizer, seen: Tensor) -> int:
    """Bring parameters, optimizer and losses to where the checkpoint was taken; return the next step, 0 when there is none."""
    for torn in path.parent.glob(f"{path.name}.*.part"):
        torn.unlink(missing_ok=True)
    if not path.is_file():
        return 0
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)  # another GPU may go on than the one that stopped
        if whole["mark"] != mark:
            return 0
    except Exception:  # torn, or not a checkpoint: torch raises whatever its readers raise
        return 0
    with torch.no_grad():
        for name, value in whole["parameters"].items():
            parameters[name].copy_(value)
    optimizer.load_state_dict(whole["optimizer"])
    steps = len(whole["seen"])
    seen[:steps] = whole["seen"].to(seen.device)
    return steps
