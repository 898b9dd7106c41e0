"""The model card of a trained classifier, as Markdown: what it was trained on, how good it is, and what it cannot do."""

from __future__ import annotations

import html
import re
from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """Return the model card for the record that training made."""
    spec, data, measured = record["spec"], record["data"], record["evaluation"]
    parts = [
        f"# Classifier `{spec['name']}`",
        _safe(spec["description"]) or "No description.",
        f"A high score means: more like the {data['num_positive']:,} positive texts than like the {data['num_negative']:,} negative ones.",
        "## How good it is\n\nOn " + _held_out_sentence(data, measured) + "\n\n" + _table(("measure", "value"), _measures(record)),
        f"## Deciding\n\nKeeping the texts that score at least the threshold. Of the held-out texts, {measured['num_positive']:,} of "
        f"{measured['num_texts']:,} are positive.\n\n" + _curve(measured),
        f"## Calibration\n\nBy `{spec['calibration']}` on {data['num_calibrate_on']:,} texts.\n\n" + _calibration(measured),
        "## Data\n\n" + _table(("what", "value"), _data(record)),
        "## Model\n\n" + _table(("what", "value"), _model(record)),
        "## Limits\n\n" + _limits(record),
    ]
    return "\n\n".join(parts) + "\n"


def _held_out_sentence(data: dict[str, Any], measured: dict[str, Any]) -> str:
    return f"{measured['num_texts']:,} texts that training ({data['num_train']:,}) and calibration never saw."


def _measures(record: dict[str, Any]) -> list[tuple[str, str]]:
    measured = record["evaluation"]
    low, high = measured["auc_interval"]
    return [
        ("area under the ROC curve", f"{measured['auc']:.4f} (95 % interval {low:.4f} to {high:.4f})"),
        ("the same on the training texts", f"{record['on_training_texts']['auc']:.4f}"),
        ("average precision", f"{measured['average_precision']:.4f}"),
        ("Brier score", f"{measured['brier']:.4f}"),
        ("expected calibration error", f"{measured['calibration_error']:.4f}"),
    ]


def _curve(measured: dict[str, Any]) -> str:
    head = ("threshold", "precision", "recall", "share kept", "good kept", "bad kept", "good dropped", "bad dropped")
    rows = {row["threshold"]: row for row in [*measured["curve"], measured["at_threshold"]]}
    lines = []
    for threshold, row in sorted(rows.items()):
        chosen = "**" if threshold == measured["at_threshold"]["threshold"] else ""
        counts = [f"{row[name]:,}" for name in ("kept_positive", "kept_negative", "dropped_positive", "dropped_negative")]
        lines.append((f"{chosen}{threshold:g}{chosen}", _share(row["precision"]), _share(row["recall"]), _share(row["share_kept"]), *counts))
    return _table(head, lines)


def _calibration(measured: dict[str, Any]) -> str:
    head = ("score", "texts", "mean score", "share positive")
    rows = []
    for row in measured["calibration"]:
        rows.append((f"{row['from']:g} to {row['to']:g}", f"{row['num_texts']:,}", _share(row["mean_score"]), _share(row["share_positive"])))
    return _table(head, rows)


def _data(record: dict[str, Any]) -> list[tuple[str, str]]:
    spec, data = record["spec"], record["data"]
    rows = []
    for side in ("positive", "negative"):
        for examples in spec[side]:
            if examples["source"] is not None:
                what = f"source `{examples['source']}`" + (f" where `{_safe(examples['where'])}`" if examples["where"] else "")
            else:
                equals = ", ".join(f"{key} = {value}" for key, value in examples["equals"].items())
                what = f"`{_safe(str(examples['jsonl']))}`" + (f" where {_safe(equals)}" if equals else "")
            rows.append((f"{side} texts", what + (f", at most {examples['sample']:,}" if examples["sample"] else "")))
    return [
        *rows,
        (
            "training, calibration, held out",
            f"{data['num_train']:,}, {data['num_calibrate_on']:,}, {data['num_held_out']:,} texts, by a hash of the text",
        ),
        ("left out", f"{data['num_duplicates']:,} repeated texts, {data['num_conflicting']:,} texts that stand under both labels"),
        ("SHA-256 of texts and labels", f"`{data['sha256']}`"),
    ]


def _model(record: dict[str, Any]) -> list[tuple[str, str]]:
    spec = record["spec"]
    f = spec["features"]
    shape = f"word n-grams up to {f['word_ngrams']}, {f['buckets']:,} buckets"
    if spec["engine"] == "fasttext":
        shape += f", dimension {f['dim']}, words seen at least {f['min_count']} times"
        shape += f"; {spec['epochs']} epochs, learning rate {spec['learning_rate']:g}"
    return [
        ("engine", f"`{spec['engine']}`, {shape}, seed {spec['seed']}"),
        ("text", f"the first {spec['max_characters']:,} characters, prepared by `{record['preparation']}`"),
        ("loss per epoch", ", ".join(f"{loss:.4f}" for loss in record["losses"]) or "not applicable"),
        ("size", f"{record['model_bytes']:,} bytes"),
        ("SHA-256 of model.bin", f"`{record['model_sha256']}`"),
        ("written by", f"curate {record['curate']}"),
    ]


def _limits(record: dict[str, Any]) -> str:
    data, measured = record["data"], record["evaluation"]
    lines = [
        "- It recognizes the vocabulary and phrases of its positive texts. It does not understand, and knows no facts.",
        "- The score is a probability for the mix of labels that it was calibrated on; where the share of good texts differs, so does its meaning. "
        "Its order stays.",
        "- Languages, subjects and styles that its examples lack are scored by chance resemblance.",
    ]
    few = min(measured["num_positive"], measured["num_texts"] - measured["num_positive"])
    if few < 100:
        lines.append(f"- Only {few:,} held-out texts have the rarer label: read the interval, not the number.")
    if measured["auc"] > 0.98:
        lines.append(
            "- The labels are nearly separable. Often they then differ in something besides quality (source, format, length): read some texts."
        )
    if record["on_training_texts"]["auc"] - measured["auc"] > 0.05:
        lines.append("- It does clearly better on its training texts: it has learned some of them by heart. More labels or fewer epochs help.")
    if data["num_conflicting"]:
        lines.append(f"- {data['num_conflicting']:,} texts stand under both labels, so the labels are not wholly consistent.")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _safe(text: str) -> str:
    """Return `text` on one line, without what Markdown or HTML would take for markup."""
    return re.sub(r"([|`\\])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    return "\n".join(["| " + " | ".join(row) + " |" for row in (head, tuple("---" for _ in head), *rows)])
