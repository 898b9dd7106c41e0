"""Two searches → what differs between them: items and documents newly found or gone, variants, scores, thresholds, and why.

Items are joined by benchmark and id, documents by id. Why is read from what each search recorded of itself: the items of its
benchmarks, its corpora, its settings and its code. Which of several differences moved one item cannot be told from two results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.funnel import open_run

SHOWN = 10  # of each kind, in text
Key = tuple[str, str]  # benchmark, item id
Sides = tuple[dict[Any, Any], dict[Any, Any]]  # of A and of B


def differences(a: Path, b: Path) -> dict[str, Any]:
    """Return what differs between the searches in the folders `a` and `b`: outputs of the command, or runs of a workflow.

    The result is {a, b, why, benchmarks: {name: {...}}, documents: {newly_found, gone, both}, thresholds}. Raises InputError
    when a folder holds no search.
    """
    first, second = folder_of(a), folder_of(b)
    one, two = _summary(first), _summary(second)
    items, matches = (_items(first), _items(second)), (_best(first), _best(second))
    names = list(dict.fromkeys([*one["benchmarks"], *two["benchmarks"]]))
    documents = _documents(first), _documents(second)
    return {
        "a": str(a),
        "b": str(b),
        "why": _why(one, two),
        "benchmarks": {name: _benchmark(name, (one, two), items, matches) for name in names},
        "documents": {
            "newly_found": sorted(documents[1] - documents[0]),
            "gone": sorted(documents[0] - documents[1]),
            "both": len(documents[0] & documents[1]),
        },
        "thresholds": {"evidence": [s["calibration"].get("evidence") for s in (one, two)], "fixed": [_setting(s, "threshold") for s in (one, two)]},
    }


def folder_of(path: Path) -> Path:
    """Return the folder of a search: `path` itself, or that of the last decontaminate step of the run at `path`."""
    stages = open_run(path).stages if (path / "run.json").is_file() else []
    done = [path / "together" / Path(stage.folder).name for stage in stages if stage.kind == "decontaminate" and stage.key]
    for folder in [path, *reversed(done)]:
        if (folder / "summary.json").is_file():
            return folder
    raise InputError("holds no search for benchmarks", where=str(path), hint="name an --output of `curate decontaminate`, or a run")


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = msgspec.json.decode((folder / "summary.json").read_bytes())
    except msgspec.DecodeError as error:
        raise InputError(f"is damaged: {error}", where=str(folder / "summary.json")) from error
    if "inputs" not in summary:
        raise InputError("was written by an older version", where=str(folder / "summary.json"), hint="run the search again")
    return summary


def _items(folder: Path) -> dict[Key, dict[str, Any]]:
    rows = pq.read_table(folder / "items.parquet", columns=["benchmark", "item_id", "indexed", "reason", "matched", "best_score"]).to_pylist()
    return {(row["benchmark"], row["item_id"]): row for row in rows}


def _best(folder: Path) -> dict[Key, dict[str, Any]]:
    """Return the best counted match of each item."""
    table = pq.read_table(folder / "matches.parquet", columns=["benchmark", "item_id", "variant", "counted", "score", "threshold", "doc_id"])
    best: dict[Key, dict[str, Any]] = {}
    for row in table.filter(table["counted"]).to_pylist():
        key = row["benchmark"], row["item_id"]
        if key not in best or (row["score"], row["variant"]) > (best[key]["score"], best[key]["variant"]):
            best[key] = row
    return best


def _documents(folder: Path) -> set[str]:
    table = pq.read_table(folder / "matches.parquet", columns=["doc_id", "counted"])
    return set(table.filter(table["counted"])["doc_id"].to_pylist())


def _benchmark(name: str, summaries: Sides, items: Sides, best: Sides) -> dict[str, Any]:
    found = [{key for key, row in side.items() if key[0] == name and row["matched"]} for side in items]
    changed, thresholds = [], 0
    for key in sorted(found[0] & found[1]):
        one, two = best[0].get(key), best[1].get(key)
        if one is None or two is None:
            continue
        thresholds += abs(one["threshold"] - two["threshold"]) > 1e-6
        if one["variant"] != two["variant"] or abs(one["score"] - two["score"]) > 0.005:
            changed.append({"item_id": key[1], "variant": [one["variant"], two["variant"]], "score": [one["score"], two["score"]]})
    sides = [summary["benchmarks"].get(name) for summary in summaries]
    return {
        "found": [side["contaminated"] if side else None for side in sides],
        "scannable": [side["scannable"] if side else None for side in sides],
        "rate": [side["rate"] if side else None for side in sides],
        "newly_found": [_moved(key, items[0], best[1]) for key in sorted(found[1] - found[0])],
        "gone": [_moved(key, items[1], best[0]) for key in sorted(found[0] - found[1])],
        "changed": changed,
        "thresholds_changed": thresholds,
    }


def _moved(key: Key, other: dict[Key, Any], best: dict[Key, Any]) -> dict[str, Any]:
    """Say of an item that is found on one side only how it is found there, and what it is on the `other` side."""
    there, match = other.get(key), best.get(key)
    status = "no such item" if there is None else "not found" if there["indexed"] else f"unscannable: {there['reason']}"
    return {
        "item_id": key[1],
        "variant": match["variant"] if match else None,
        "score": match["score"] if match else None,
        "threshold": match["threshold"] if match else None,
        "doc_id": match["doc_id"] if match else None,
        "other_side": status,
    }


def _setting(summary: dict[str, Any], name: str) -> Any:
    return summary["inputs"]["settings"].get(name)


def _why(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """Return what the two searches were made of that differs."""
    a, b = one["inputs"], two["inputs"]
    lines = [line for kind in ("benchmarks", "corpora") for line in _sides(kind, a[kind], b[kind])]
    for name in sorted({*a["settings"], *b["settings"]}):
        mine, theirs = a["settings"].get(name), b["settings"].get(name)
        if mine != theirs:
            lines.append(f"setting {name}: {_shown(mine)} → {_shown(theirs)}")
    code = sorted(name for name in {*a["code"], *b["code"]} if a["code"].get(name) != b["code"].get(name))
    if code:
        lines.append(f"the code differs: {', '.join(code)}")
    return lines


def _sides(kind: str, a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    word = {"benchmarks": "benchmark", "corpora": "corpus"}[kind]
    lines = [f"{word} {name} is only in A" for name in a if name not in b] + [f"{word} {name} is only in B" for name in b if name not in a]
    for name in a:
        if name in b and a[name] != b[name]:
            sizes = f": {a[name]['documents']:,} → {b[name]['documents']:,} documents" if kind == "corpora" else ": other items or other texts"
            lines.append(f"{word} {name} differs{sizes}")
    return lines


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def as_text(found: dict[str, Any]) -> str:
    """Return the differences for a terminal."""
    from curate.console import visible

    lines = [f"A  {found['a']}", f"B  {found['b']}", ""]
    lines += ["made of the same benchmarks, corpora, settings and code" if not found["why"] else "what differs between the searches:"]
    lines += [f"  {visible(line)}" for line in found["why"]]
    evidence = found["thresholds"]["evidence"]
    if evidence[0] != evidence[1] and None not in evidence:
        lines.append(f"  calibrated threshold: {evidence[0]:.4g} → {evidence[1]:.4g} telling words of evidence")
    for name, one in found["benchmarks"].items():
        lines += ["", f"{name}: {_of(one, 0)} → {_of(one, 1)}"]
        if None in one["found"]:
            continue
        for title, rows in (("newly found", one["newly_found"]), ("no longer found", one["gone"])):
            lines += _listed(title, rows, _move)
        lines += _listed("found as something else", one["changed"], _change)
        if not (one["newly_found"] or one["gone"] or one["changed"]):
            lines.append("  the same items, found in the same way")
    documents = found["documents"]
    new, gone = len(documents["newly_found"]), len(documents["gone"])
    lines += ["", f"documents: {documents['both']:,} in both, {new:,} newly found, {gone:,} no longer"]
    lines += [f"  + {name}" for name in documents["newly_found"][:SHOWN]] + [f"  - {name}" for name in documents["gone"][:SHOWN]]
    if max(new, gone) > SHOWN:
        lines.append("  … all of them with --json")
    return "\n".join(lines)


def _of(one: dict[str, Any], side: int) -> str:
    if one["found"][side] is None:
        return "not searched for"
    rate = one["rate"][side]
    return f"{one['found'][side]:,} of {one['scannable'][side]:,} items" + ("" if rate is None else f" ({rate:.2%})")


def _move(row: dict[str, Any]) -> str:
    return f"{row['item_id']}  {row['variant']}, score {_number(row['score'])}; on the other side {row['other_side']}"


def _change(row: dict[str, Any]) -> str:
    variant = row["variant"][0] if row["variant"][0] == row["variant"][1] else " → ".join(row["variant"])
    return f"{row['item_id']}  {variant}, score {_number(row['score'][0])} → {_number(row['score'][1])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _listed(title: str, rows: list[dict[str, Any]], line: Any) -> list[str]:
    from curate.console import visible

    if not rows:
        return []
    more = [f"    … and {len(rows) - SHOWN:,} more (--json has all)"] if len(rows) > SHOWN else []
    return [f"  {title}: {len(rows):,}", *(f"    {visible(line(row))}" for row in rows[:SHOWN]), *more]
