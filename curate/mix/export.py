"""Solved mixes in the forms that trainers read."""

from __future__ import annotations

import json
from pathlib import Path

from curate.errors import SpecError
from curate.mix.solved import read_solved


def as_text(solved: Path, form: str, data: str = "data/{source}") -> str:
    """Return a solved mix as `json`, as Megatron-LM's `--data-path` blend, or as `datasets.interleave_datasets` probabilities.

    `data` is where the data of a source is, with `{source}` for its name. What was written is read back and compared.
    Raises SpecError when `data` does not name the source.
    """
    mix = read_solved(solved)
    weights = {name: source.weight for name, source in mix.weights.items()}
    if form == "megatron":
        if "{source}" not in data:
            raise SpecError("--data must hold {source}", hint="--data 'tokens/{source}'")
        text = "--data-path " + " ".join(f"{share:.6f} {data.replace('{source}', name)}" for name, share in weights.items())
        read = [float(part) for part in text.split()[1::2]]
    elif form == "datasets":
        text = json.dumps({"sources": list(weights), "probabilities": list(weights.values())}, indent=1)
        read = json.loads(text)["probabilities"]
    else:
        tokens = {name: round(share * mix.target_tokens) for name, share in weights.items()}
        text = json.dumps({"name": mix.name, "target_tokens": mix.target_tokens, "weights": weights, "tokens": tokens}, indent=1)
        read = list(json.loads(text)["weights"].values())
    if any(abs(a - b) > 1e-6 for a, b in zip(read, weights.values(), strict=True)):
        raise AssertionError(f"{form} does not hold what was written to it")
    return text
