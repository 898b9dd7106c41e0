"""Solved mixes in the forms that trainers read.

    json            weights, and tokens per source
    megatron        Megatron-LM's --data-path: weight prefix weight prefix …
    megatron-json   Megatron-LM's --per-split-data-args-path: {"train": [weight, prefix, …]}
    datasets        names and probabilities for Hugging Face datasets.interleave_datasets
    olmo-core       a SourceMixtureList in YAML: target_ratio and max_repetition_ratio per source
    streaming       MosaicML streaming and LLM Foundry: streams with proportions
    torchtitan      Python: a DatasetMixConfig over packed rows, so that weights count tokens
    nanotron        Nanosets: dataset_folder and dataset_weights

Every text is read back as its trainer would read it, and must give the same sources and the tokens of the mix. Sources of no weight are
left out. Where the data of a source is, only the user knows: `--data 'PATTERN with {source}'`.
"""

from __future__ import annotations

import ast
import json
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from curate.errors import CurateError, SpecError
from curate.mix.solved import read_solved

TOLERANCE = 2e-6  # of a share, read back
Weights = dict[str, float]
Places = Mapping[str, str]


class Export(msgspec.Struct, frozen=True):
    """A mix as a trainer reads it, and what the trainer will then read: source → tokens."""

    text: str
    tokens: dict[str, int]


class _Mix(msgspec.Struct, frozen=True):
    """What the writers need."""

    name: str
    target_tokens: int
    weights: Weights  # above 0, adding up to exactly one
    places: dict[str, str]
    available: dict[str, int]  # tokens that there are


def export_mix(solved: Path, form: str, data: str = "data/{source}") -> Export:
    """Return a solved mix in one of FORMS; `data` is where the data of a source is, with `{source}` for its name.

    Raises SpecError when `data` gives two sources the same place, CurateError when what is read back is not the mix.
    """
    if form not in FORMS:
        raise SpecError(f"unknown form '{form}'", hint=f"known: {', '.join(FORMS)}")
    mix = read_solved(solved)
    weights = adding_up({name: source.weight for name, source in mix.weights.items() if source.weight > 0})
    places = {name: data.replace("{source}", name) for name in weights}
    if len(set(places.values())) != len(places):
        raise SpecError("two sources would have the same data", where="--data", hint="--data must hold {source}, such as 'tokens/{source}'")
    available = {name: mix.weights[name].available_tokens for name in weights}
    write, read = FORMS[form]
    text = write(_Mix(mix.name, mix.target_tokens, weights, places, available))
    found = read(text, {place: name for name, place in places.items()})
    check(found, weights, f"{solved} as {form}")
    return Export(text, token_counts(found, mix.target_tokens))


def adding_up(weights: Weights) -> Weights:
    """Return the weights, the largest changed by less than a rounding, so that they add up to one to the last bit: some readers insist."""
    largest, last = max(weights, key=lambda name: weights[name]), list(weights)[-1]
    weights = weights | {largest: weights[largest] + 1.0 - math.fsum(weights.values())}
    weights = weights | {last: 1.0 - sum(list(weights.values())[:-1])}  # what one adds up last makes it exact
    return weights


def token_counts(weights: Mapping[str, float], target_tokens: int) -> dict[str, int]:
    """Return tokens per source that add up to `target_tokens` exactly (largest remainders)."""
    total = sum(weights.values())
    exact = {name: weight / total * target_tokens for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = target_tokens - sum(counts.values())
    for name in sorted(exact, key=lambda n: (counts[n] - exact[n], n))[:left]:
        counts[name] += 1
    return counts


def check(found: Mapping[str, float], weights: Mapping[str, float], where: str) -> None:
    """Raise CurateError unless `found` adds up to one and is `weights`."""
    total = sum(found.values())
    if abs(total - 1) > TOLERANCE * max(1, len(found)):
        raise CurateError(f"the shares add up to {total:.8f}, not to 1", where=where)
    wrong = [name for name in {**found, **weights} if abs(found.get(name, 0.0) - weights.get(name, 0.0)) > TOLERANCE]
    if wrong:
        raise CurateError(f"read back, the share of {', '.join(sorted(wrong))} is not that of the mix", where=where)


# ── writers, and readers that know only what the trainer knows ────────────────────────────────────────────────────


def _json(mix: _Mix) -> str:
    tokens = token_counts(mix.weights, mix.target_tokens)
    return json.dumps({"name": mix.name, "target_tokens": mix.target_tokens, "weights": mix.weights, "tokens": tokens}, indent=1)


def _read_json(text: str, source: Places) -> Weights:
    found = json.loads(text)
    if sum(found["tokens"].values()) != found["target_tokens"]:
        raise CurateError("the tokens do not add up to the target")
    return dict(found["weights"])


def _blend(mix: _Mix) -> list[str]:
    return [word for name, share in mix.weights.items() for word in (f"{share:.6f}", mix.places[name])]


def _from_blend(words: list[str], source: Places) -> Weights:
    return {source[place]: float(share) for share, place in zip(words[::2], words[1::2], strict=True)}


def _megatron(mix: _Mix) -> str:
    return "--data-path " + shlex.join(_blend(mix))


def _read_megatron(text: str, source: Places) -> Weights:
    return _from_blend(shlex.split(text)[1:], source)


def _megatron_json(mix: _Mix) -> str:
    return json.dumps({"train": _blend(mix)}, indent=1)


def _read_megatron_json(text: str, source: Places) -> Weights:
    return _from_blend(json.loads(text)["train"], source)


def _datasets(mix: _Mix) -> str:
    return json.dumps({"sources": list(mix.weights), "probabilities": list(mix.weights.values())}, indent=1)


def _read_datasets(text: str, source: Places) -> Weights:
    found = json.loads(text)
    return dict(zip(found["sources"], found["probabilities"], strict=True))


def _olmo_core(mix: _Mix) -> str:
    """What SourceMixtureList.from_yaml reads; the config around it is made in the trainer's code, with its batch size."""
    sources = [
        {"source_name": name, "target_ratio": share, "paths": [f"{mix.places[name]}/*.npy"]}
        | {"max_repetition_ratio": _leave_to_repeat(int(mix.target_tokens * share), mix.available[name])}
        for name, share in mix.weights.items()
    ]
    head = f"# SourceMixtureDatasetConfig(source_list=SourceMixtureList.from_yaml(THIS FILE), requested_tokens={mix.target_tokens}, ...)"
    return f"{head}\n{_yaml({'sources': sources})}"


def _leave_to_repeat(needed: int, available: int) -> float:
    """Return the least number of hundredths, at least 1, with which OLMo-core finds enough tokens: it compares int(available · it) with `needed`."""
    hundredths = max(100, 100 * needed // available) if available else 100
    while available and int(available * (hundredths / 100)) < needed:
        hundredths += 1
    return hundredths / 100


def _read_olmo_core(text: str, source: Places) -> Weights:
    return {entry["source_name"]: entry["target_ratio"] for entry in yaml.safe_load(text)["sources"]}


def _streaming(mix: _Mix) -> str:
    return _yaml({"streams": {name: {"local": mix.places[name], "proportion": share} for name, share in mix.weights.items()}})


def _read_streaming(text: str, source: Places) -> Weights:
    return {name: stream["proportion"] for name, stream in yaml.safe_load(text)["streams"].items()}


def _torchtitan(mix: _Mix) -> str:
    """`datasets` is the user's: source → dataset. Each is packed before the mix, or weights would count documents."""
    rows = [
        f"        WeightedDataset(dataset=ConcatThenSplitPackingConfig(dataset=datasets[{name!r}]), weight={share!r}),"
        for name, share in mix.weights.items()
    ]
    head = "from torchtitan.components.data import ConcatThenSplitPackingConfig, DatasetMixConfig, WeightedDataset"
    return "\n".join([head, "", "rows = DatasetMixConfig(", "    datasets=(", *rows, "    ),", ")"])


def _read_torchtitan(text: str, source: Places) -> Weights:
    found = {}
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "WeightedDataset":
            arguments = {keyword.arg: keyword.value for keyword in call.keywords}
            name = next(node for node in ast.walk(arguments["dataset"]) if isinstance(node, ast.Subscript))
            found[ast.literal_eval(name.slice)] = ast.literal_eval(arguments["weight"])
    return found


def _nanotron(mix: _Mix) -> str:
    return _yaml({"data": {"dataset": {"dataset_folder": [mix.places[n] for n in mix.weights], "dataset_weights": list(mix.weights.values())}}})


def _read_nanotron(text: str, source: Places) -> Weights:
    found = yaml.safe_load(text)["data"]["dataset"]
    return {source[place]: share for place, share in zip(found["dataset_folder"], found["dataset_weights"], strict=True)}


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**6)).rstrip("\n")


FORMS: dict[str, tuple[Callable[[_Mix], str], Callable[[str, Places], Weights]]] = {
    "json": (_json, _read_json),
    "megatron": (_megatron, _read_megatron),
    "megatron-json": (_megatron_json, _read_megatron_json),
    "datasets": (_datasets, _read_datasets),
    "olmo-core": (_olmo_core, _read_olmo_core),
    "streaming": (_streaming, _read_streaming),
    "torchtitan": (_torchtitan, _read_torchtitan),
    "nanotron": (_nanotron, _read_nanotron),
}
