"""The solved mix on disk: YAML that reads well in a diff; and what moved between two of them, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from curate.specs.load import load_spec, resolved
from curate.specs.mix import SolvedMix

HEADER = "# Written by `curate mix`; `weights.*.weight` is what to train on. Compare two of these with `curate mix diff A B`.\n"
MOVED = 1e-4  # a share that changes by less has not moved
MOST_KEYS, MOST_TEXT = 20, 40  # keys of the spec that are told, and letters of a value


def read_solved(path: Path) -> SolvedMix:
    """Read a solved mix. Raises SpecError when it is not one."""
    return load_spec(path, SolvedMix)


def solved_text(mix: SolvedMix) -> str:
    """Return the YAML of a solved mix: one line per source and per suite, keys in a fixed order."""
    lines: list[str] = []
    for key, value in resolved(mix).items():
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            width = max(len(_flow(name)) for name in value) + 1
            lines += [f"{key}:", *(f"  {(_flow(name) + ':').ljust(width)} {_flow(inner)}" for name, inner in value.items())]
        elif isinstance(value, dict) and value:
            lines += [f"{key}:", *(f"  {_flow(name)}: {_flow(inner)}" for name, inner in value.items())]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            lines += [f"{key}:", *(f"  - {_flow(inner)}" for inner in value)]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return HEADER + "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return str(text).removesuffix("\n...\n").removesuffix("\n")


def write_solved(path: Path, mix: SolvedMix) -> None:
    """Write a solved mix, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(solved_text(mix), encoding="utf-8")
    os.replace(temporary, path)


def phases_of(folder: Path, solved: Mapping[str, Any]) -> list[Path]:
    """Return the folders of the later phases of the mix in `folder` that are finished, in the order in which they are solved.

    `solved`: its solved mix, as plain data. What an older version wrote does not say the order: then it is that of the names.
    """
    spec = solved.get("spec")
    names = [phase["name"] for phase in spec["phases"]] if spec else sorted(path.name for path in folder.glob("phases/*"))
    return [folder / "phases" / name for name in names if (folder / "phases" / name / "result.json").is_file()]


def diff_mixes(a: SolvedMix, b: SolvedMix) -> dict[str, Any]:
    """Return what moved from `a` to `b` (weights, predicted scores, verdict), and which of what they were made from changed."""
    weights: list[dict[str, Any]] = []
    for name in sorted(set(a.weights) | set(b.weights)):
        before, after = a.weights.get(name), b.weights.get(name)
        old, new = before.weight if before else 0.0, after.weight if after else 0.0
        inside = before is not None and after is not None and before.low <= after.weight <= before.high
        weights.append(
            {
                "source": name,
                "before": old,
                "after": new,
                "change": round(new - old, 6),
                "outside_interval": not inside and abs(new - old) >= MOVED,
                "available_tokens": [before.available_tokens if before else None, after.available_tokens if after else None],
            }
        )
    scores = []
    for name in sorted(set(a.scores) & set(b.scores)):
        scores.append({"suite": name, "before": _predicted(a, name), "after": _predicted(b, name), "laws": [a.scores[name].law, b.scores[name].law]})
    causes = [
        {"what": what, "before": a.made_from.get(what), "after": b.made_from.get(what)}
        for what in sorted(set(a.made_from) | set(b.made_from))
        if a.made_from.get(what) != b.made_from.get(what)
    ]
    return {
        "moved": round(0.5 * sum(abs(row["change"]) for row in weights), 6),  # total variation: the share of tokens that changes its source
        "weights": sorted(weights, key=lambda row: (-abs(row["change"]), row["source"])),
        "scores": scores,
        "suites_only_in_one": sorted(set(a.scores) ^ set(b.scores)),
        "verdict": [a.verdict, b.verdict],
        "keep": [a.keep, b.keep],
        "target_tokens": [a.target_tokens, b.target_tokens],
        "causes": causes,
        "spec": changed_keys(a.spec, b.spec) if a.spec and b.spec else None,
    }


def changed_keys(before: Any, after: Any, at: str = "") -> list[dict[str, Any]]:
    """Return {key: its dotted path, before, after} for each key that two resolved specs do not agree on; None: it is not there."""
    if isinstance(before, dict) and isinstance(after, dict):
        inner = [(f"{at}.{key}" if at else key, before.get(key), after.get(key)) for key in {**before, **after}]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        inner = [(f"{at}[{i}]", old, new) for i, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [{"key": at, "before": before, "after": after}]
    return [row for key, old, new in inner for row in changed_keys(old, new, key)]


def _predicted(mix: SolvedMix, suite: str) -> float:
    """Return what is predicted for the mix that is kept."""
    return mix.scores[suite].natural if mix.keep == "natural" else mix.scores[suite].solved


def diff_lines(difference: dict[str, Any]) -> list[str]:
    """Return the difference for people."""
    lines = [f"{difference['moved']:.1%} of the tokens change their source"]
    for row in difference["weights"]:
        if abs(row["change"]) >= MOVED:
            note = "" if row["outside_interval"] else "  (within the earlier interval)"
            lines.append(f"  {row['source']}: {row['before']:.2%} → {row['after']:.2%}  {row['change']:+.2%}{note}")
    for row in difference["scores"]:
        lines.append(f"  predicted {row['suite']}: {row['before']:.4f} → {row['after']:.4f} bits per byte")
    if difference["suites_only_in_one"]:
        lines.append(f"suites that only one of them has: {', '.join(difference['suites_only_in_one'])}")
    before, after = difference["verdict"]
    lines.append(f"verdict: {before} → {after}" if before != after else f"verdict: {before}, as before")
    for what, (before, after) in {"what is kept": difference["keep"], "target tokens": difference["target_tokens"]}.items():
        if before != after:
            lines.append(f"{what}: {_number(before)} → {_number(after)}")
    if difference["causes"]:
        lines.append("because these changed: " + ", ".join(cause["what"] for cause in difference["causes"]))
        if any(cause["what"] == "spec" for cause in difference["causes"]):
            lines += _spec_lines(difference["spec"])
    elif difference["moved"] >= MOVED and difference["keep"][0] == difference["keep"][1]:
        lines.append("nothing that they were made from changed: they differ by hand, or by the version of the code")
    return lines


def _spec_lines(changed: list[dict[str, Any]] | None) -> list[str]:
    if changed is None:
        return ["  spec: which keys is not known, as an older version wrote one of the two"]
    lines = []
    for row in changed[:MOST_KEYS]:
        old, new = _differing(_number(row["before"]), _number(row["after"]))
        lines.append(f"  spec: {row['key']}: {old} → {new}")
    return lines + ([f"  spec: {len(changed) - MOST_KEYS} more keys, which --json names"] if len(changed) > MOST_KEYS else [])


def _differing(old: str, new: str) -> tuple[str, str]:
    """Return two values as one line of a table can hold them: where they are long, from a little before they begin to differ."""
    alike = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    begin = max(0, alike - MOST_TEXT // 2) if max(len(old), len(new)) > MOST_TEXT else 0
    first, second = ("…" * (begin > 0) + text[begin : begin + MOST_TEXT] + "…" * (len(text) > begin + MOST_TEXT) for text in (old, new))
    return first, second


def _number(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
