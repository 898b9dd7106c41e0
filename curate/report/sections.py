"""The report's sections on the classifier and the benchmark matches, from the files of their stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup, escape

from curate.console import two_digits
from curate.report.charts import Axes, visible


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
    return None if summary is None else decontamination_view(summary)


def decontamination_view(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a page shows of a decontamination summary; every text in it that was crawled is still to be escaped, or marked up already."""
    rows = [_benchmark_row(name, found) for name, found in summary["benchmarks"].items()]
    removal = dict(summary["removal"])
    return {
        "benchmarks": rows,
        "sources": [{"name": name, **corpus} for name, corpus in summary["inputs"]["corpora"].items()],
        "matches": [match | _evidence(match) | {"outcome": _outcome(match)} for match in summary["worst"]],
        "num_matches": summary["matches"],
        "num_documents": summary["documents"],
        "num_contaminated": summary["contaminated_documents"],
        "num_found": sum(row["num_found"] for row in rows),
        "num_scannable": sum(row["num_scannable"] for row in rows),
        "bad_lines": summary["bad_lines"],
        "duplicate_ids": summary["duplicate_ids"],
        "meaning": summary["meaning"],
        "power": _power(summary["probes"], list(summary["benchmarks"])),
        "semantic": summary.get("semantic"),
        "unscannable": [_unscannable(name, items, summary["benchmarks"][name]) for name, items in summary["unscannable"].items()],
        "removal": removal,
        "tasks_without_clean_items": summary["tasks_without_clean_items"],
        "calibration": _calibration(summary["calibration"], summary["inputs"]["settings"]),
        "inputs": msgspec.json.format(msgspec.json.encode(summary["inputs"]), indent=2).decode(),
    }


def _benchmark_row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "num_items": found["items"],
        "num_scannable": found["scannable"],
        "num_unscannable": sum(found["unscannable"].values()),
        "why_unscannable": ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in found["unscannable"].items()),
        "num_found": found["contaminated"],
        "num_siblings": found["siblings"],
        "num_paraphrases": found["paraphrases"],
        "share": found["rate"],
        "low": found["interval"][0] if found["scannable"] else None,
        "high": found["interval"][1] if found["scannable"] else None,
        "num_documents": found["documents"],
        "variants": ", ".join(f"{count} {variant.replace('_', ' ')}" for variant, count in found["variants"].items()),
        "domains": found["domains"],
        "note": found["note"],
    }


def _outcome(match: dict[str, Any]) -> str:
    if match["action"] == "record":
        return "recorded only" if match["survivor"] else "document dropped for another match"
    return ("cut out" if match["action"] == "span" else "kept") if match["survivor"] else "document dropped"


def _power(probes: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Return one row per disguise, with a cell per benchmark; None where a benchmark has no item for it."""
    by_place = {(probe["disguise"], probe["benchmark"]): probe for probe in probes}
    rows = []
    for disguise in dict.fromkeys(probe["disguise"] for probe in probes):
        cells: list[dict[str, Any] | None] = []
        for name in names:
            probe = by_place.get((disguise, name))
            if probe is None:
                cells.append(None)
                continue
            (low, high), share = probe["interval"], probe["found"] / probe["tried"]
            kind = "" if share >= 0.95 else "some" if share >= 0.5 else "few"
            cells.append({"share": share, "tried": probe["tried"], "low": low, "high": high, "kind": kind})
        rows.append({"disguise": disguise, "cells": cells})
    order = list(dict.fromkeys(probe["disguise"] for probe in sorted(probes, key=lambda p: p["order"])))
    return sorted(rows, key=lambda row: order.index(row["disguise"]))


def _unscannable(name: str, items: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in found["unscannable"].items())
    return {"name": name, "why": why, "rows": items, "more": sum(found["unscannable"].values()) - len(items)}


def _calibration(calibration: dict[str, Any], settings: dict[str, Any]) -> str:
    """Say where the threshold comes from."""
    if settings["threshold"] is not None:
        return f"The threshold was set by hand to {settings['threshold']:g} of an item's information."
    if not calibration:
        return "The threshold was not calibrated."
    clean, left_out, bound = calibration.get("documents") or 0, calibration.get("suspects") or 0, calibration.get("bound")
    sampled = f"{clean:,} documents of this corpus ({left_out:,} more hold most of an item, and were left out)"
    if bound == "sample":
        return f"The threshold is the default one: a sample of {sampled} is too small to calibrate it."
    accepted = f"{1e6 * settings['false_positives']:g} of a million clean documents"
    text = f"The threshold was calibrated on {sampled}, so that at most {accepted} match by chance."
    if calibration.get("expected_rate"):
        text += f" About {two_digits(1e6 * calibration['expected_rate'])} are expected."
    limits = {"least": " It is as low as it may be.", "most": " It is as high as it may be, so more may match than you accept: look at the matches."}
    return text + limits.get(bound or "", "")


def _evidence(match: dict[str, Any]) -> dict[str, Any]:
    """Return both texts of a match with the words that they share marked."""
    shown = match["shown"]
    parts = [{"channel": part["channel"], "text": _marked(part)} for part in shown["item"]]
    return {"document": _marked(shown["document"]), "item": Markup("\n\n").join(part["text"] for part in parts), "parts": parts}


def _marked(part: dict[str, Any]) -> Markup:
    """Return a text with its shared ranges and its differing numbers marked; what is crawled stays text."""
    text, done, pieces = part["text"], 0, []
    ranges = [(*span, False) for span in part["shared"]] + [(*span, True) for span in part["changed"]]
    for start, end, differs in sorted(ranges):
        start, end = max(start, done), min(end, len(text))
        if end > start:
            kind = Markup('<mark class="other">{}</mark>') if differs else Markup("<mark>{}</mark>")
            pieces += [escape(visible(text[done:start])), kind.format(visible(text[start:end]))]
            done = end
    return Markup("").join([*pieces, escape(visible(text[done:]))])
