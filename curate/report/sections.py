"""The report's sections on the classifier, the benchmark matches and the mix, from the files of their stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from curate.report.charts import Axes


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
