"""Solved mixes in the forms that trainers read.

    json       weights, and tokens per source
    megatron   Megatron-LM's --data-path: weight prefix weight prefix …
    datasets   names and probabilities for datasets.interleave_datasets

Tokens are rounded so that they add up to the target exactly. Every form is read back from its text: it must give the same sources, shares
that add up to one, and the weights of the mix. Sources of no weight are left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from curate.errors import CurateError, SpecError
from curate.mix.solved import read_solved

TOLERANCE = 2e-6  # of a share, read back
FORMS = ("json", "megatron", "datasets")


def as_text(solved: Path, form: str, data: str = "data/{source}") -> str:
    """Return a solved mix in one of FORMS; for Megatron, `data` is where the data of a source is, with `{source}` for its name.

    Raises SpecError when `data` gives two sources the same place, CurateError when what is read back is not the mix.
    """
    mix = read_solved(solved)
    weights = {name: source.weight for name, source in mix.weights.items() if source.weight > 0}
    places = {name: data.replace("{source}", name) for name in weights}
    if form == "megatron":
        if len(set(places.values())) != len(places):
            raise SpecError("two sources would have the same data", where="--data", hint="--data must hold {source}, such as 'tokens/{source}'")
        text = "--data-path " + " ".join(f"{share:.6f} {shlex.quote(places[name])}" for name, share in weights.items())
    elif form == "datasets":
        text = json.dumps({"sources": list(weights), "probabilities": list(weights.values())}, indent=1)
    elif form == "json":
        tokens = token_counts(weights, mix.target_tokens)
        text = json.dumps({"name": mix.name, "target_tokens": mix.target_tokens, "weights": weights, "tokens": tokens}, indent=1)
    else:
        raise SpecError(f"unknown form '{form}'", hint=f"known: {', '.join(FORMS)}")
    check(read_back(text, form, places), weights, f"{solved} as {form}")
    return text


def token_counts(weights: Mapping[str, float], target_tokens: int) -> dict[str, int]:
    """Return tokens per source that add up to `target_tokens` exactly (largest remainders)."""
    total = sum(weights.values())
    exact = {name: weight / total * target_tokens for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = target_tokens - sum(counts.values())
    for name in sorted(exact, key=lambda n: (counts[n] - exact[n], n))[:left]:
        counts[name] += 1
    return counts


def read_back(text: str, form: str, places: Mapping[str, str]) -> dict[str, float]:
    """Return source → share as a reader of `text` gets it; `places` says where Megatron finds each source."""
    if form == "megatron":
        words = shlex.split(text)[1:]
        source = {place: name for name, place in places.items()}
        return {source[place]: float(share) for share, place in zip(words[::2], words[1::2], strict=True)}
    found = json.loads(text)
    if form == "datasets":
        return dict(zip(found["sources"], found["probabilities"], strict=True))
    if sum(found["tokens"].values()) != found["target_tokens"]:
        raise CurateError("the tokens do not add up to the target")
    return dict(found["weights"])


def check(found: Mapping[str, float], weights: Mapping[str, float], where: str) -> None:
    """Raise CurateError unless `found` adds up to one and is `weights`."""
    total = sum(found.values())
    if abs(total - 1) > TOLERANCE * max(1, len(found)):
        raise CurateError(f"the shares add up to {total:.8f}, not to 1", where=where)
    wrong = [name for name in {**found, **weights} if abs(found.get(name, 0.0) - weights.get(name, 0.0)) > TOLERANCE]
    if wrong:
        raise CurateError(f"read back, the share of {', '.join(sorted(wrong))} is not that of the mix", where=where)
