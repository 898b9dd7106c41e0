"""Solved mixes for trainers, and the difference of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate.errors import SpecError
from curate.specs.load import load_spec
from curate.specs.mix import SolvedMix


def as_text(solved: Path, form: str, data: str = "data/{source}") -> str:
    """Return a solved mix as `json`, as Megatron-LM's `--data-path` blend, or as `datasets.interleave_datasets` probabilities.

    `data` is where the data of a source is, with `{source}` for its name. What was written is read back and compared.
    Raises SpecError when `data` does not name the source.
    """
    mix = load_spec(solved, SolvedMix)
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


def differences(before: Path, after: Path) -> tuple[list[list[Any]], list[list[Any]], list[str]]:
    """Return what moved between two solved mixes: rows of weights, rows of predicted scores, and which of their inputs changed."""
    a, b = load_spec(before, SolvedMix), load_spec(after, SolvedMix)
    weights = []
    for name in sorted(set(a.weights) | set(b.weights)):
        old, new = (mix.weights[name].weight if name in mix.weights else 0.0 for mix in (a, b))
        weights.append([name, round(old, 4), round(new, 4), f"{new - old:+.4f}"])
    scores = []
    for suite in sorted(set(a.scores) & set(b.scores)):
        was, now = a.scores[suite].solved, b.scores[suite].solved
        scores.append([suite, was, now, f"{now - was:+.4f}"])
    causes = [
        f"{what} {'is new' if what not in a.made_from else 'is gone' if what not in b.made_from else 'changed'}"
        for what in sorted(set(a.made_from) | set(b.made_from))
        if a.made_from.get(what) != b.made_from.get(what)
    ]
    return weights, scores, causes
