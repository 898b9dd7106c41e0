"""The report's sections on the classifier, the benchmark matches and the mix, from the files of their stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from curate.report.charts import Axes, highlighted, span


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or None when there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None


def classifier(folder: Path) -> dict[str, Any] | None:
    """Return the section of the classifier whose training left its record in `folder`."""
    record = read_json(folder / "classifier.json")
    if record is None:
        return None
    measured = record["evaluation"]
    curve = Axes((0, 1), (0, 1), ("threshold", "share"), "precision, recall and share kept by threshold")
    rows = [row for row in measured["curve"] if row["precision"] is not None]
    for name, kind in (("share_kept", "c"), ("recall", "b"), ("precision", "a")):
        curve.line([(row["threshold"], row[name]) for row in rows], kind)
    table = Axes((0, 1), (0, 1), ("mean score", "share of good texts"), "calibration")
    table.line([(0, 0), (1, 1)], "d")
    for row in measured["calibration"]:
        table.dot(row["mean_score"], row["share_positive"], f"{row['num_texts']} texts: {row['share_positive']:.2f} at {row['mean_score']:.2f}")
    return {
        "name": record["spec"]["name"],
        "auc": measured["auc"],
        "auc_interval": measured["auc_interval"],
        "num_texts": measured["num_texts"],
        "num_train": record["data"]["num_train"],
        "curve": curve.svg(),
        "calibration": table.svg(),
        "scores": None,
    }


def decontamination(folder: Path) -> dict[str, Any] | None:
    """Return the section of the decontaminate stage whose summary is in `folder`."""
    summary = read_json(folder / "summary.json")
    if summary is None:
        return None
    rows = []
    for name, found in summary["benchmarks"].items():
        unscannable = found["unscannable"]
        rows.append(
            {
                "name": name,
                "num_items": found["items"],
                "num_unscannable": sum(unscannable.values()),
                "why_unscannable": ", ".join(f"{count} {reason}" for reason, count in unscannable.items()),
                "num_found": found["contaminated"],
                "share": found["rate"],
                "low": found["interval"][0] if found["interval"] else None,
                "high": found["interval"][1] if found["interval"] else None,
                "num_documents": found["documents"],
                "variants": ", ".join(f"{count} {variant.replace('_', ' ')}" for variant, count in found["variants"].items()),
            }
        )
    matches = [match | _evidence(match) for match in summary["worst"]]
    return {"benchmarks": rows, "matches": matches, "num_documents": summary["documents"], "num_contaminated": summary["contaminated_documents"]}


def _evidence(match: dict[str, Any]) -> dict[str, Any]:
    """Return both texts of a match with the words that they share marked."""
    document, item = match["doc_excerpt"], match["item_excerpt"]
    return {"document": highlighted(document, shared(document, item)), "item": highlighted(item, shared(item, document))}


def shared(text: str, other: str, run: int = 3) -> list[tuple[int, int]]:
    """Return the character ranges of `text` whose runs of `run` words also stand in `other`, in any case."""
    words = [(m[0].lower(), m.start(), m.end()) for m in re.finditer(r"\w+", text)]
    theirs = [m[0].lower() for m in re.finditer(r"\w+", other)]
    known = {tuple(theirs[i : i + run]) for i in range(len(theirs) - run + 1)}
    spans: list[tuple[int, int]] = []
    for i in range(len(words) - run + 1):
        if tuple(word for word, _, _ in words[i : i + run]) in known:
            start, end = words[i][1], words[i + run - 1][2]
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
    return spans


def mix(folder: Path) -> dict[str, Any] | None:
    """Return the section of the mix in `folder`."""
    result = read_json(folder / "result.json")
    if result is None:
        return None
    solved, proposal = result["solved"], result["proposal"]
    weights = [
        {
            "source": name,
            "natural": row["natural"],
            "weight": row["solved"],
            "low": row["low"],
            "high": row["high"],
            "repeats": row["solved"] * solved["target_tokens"] / row["available_tokens"],
        }
        for name, row in solved["weights"].items()
    ]
    comparison = [
        {"suite": row["suite"], "natural": row["theirs"], "solved": row["mine"], "difference": row["mean"], "low": row["low"], "high": row["high"]}
        | {"verdict": row["word"].replace("_", " ")}
        for row in result["comparison"]
        if row["rival"] == "natural"
    ]
    scatter = [{"svg": _law_chart(suite, law), "caption": _law_caption(suite, law)} for suite, law in proposal["laws"].items()]
    columns = list(result["runs"][0])
    return {
        "verdict": result["verdict"],
        "weights": sorted(weights, key=lambda row: -row["weight"]),
        "comparison": comparison,
        "scatter": scatter,
        "runs": {"columns": columns, "rows": [[run.get(column) for column in columns] for run in result["runs"]]},
    }


def _law_chart(suite: str, law: dict[str, Any]) -> Any:
    ends = span([*law["measured"], *law["left_out"]])
    chart = Axes(ends, ends, ("predicted, this run left out", "measured bits per byte"), f"{suite}: measured against predicted")
    chart.line([(chart.x[0], chart.x[0]), (chart.x[1], chart.x[1])], "d")
    for predicted, measured in zip(law["left_out"], law["measured"], strict=True):
        chart.dot(predicted, measured, f"measured {measured:.3f}, predicted {predicted:.3f}")
    return chart.svg()


def _law_caption(suite: str, law: dict[str, Any]) -> str:
    noise = f"; noise of a repeated run {law['noise']:.4f}" if law["noise"] is not None else ""
    return f"{suite}: {law['law'].replace('_', ' ')} law, {law['why']}{noise}."
