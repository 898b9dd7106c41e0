"""`curate classifier`: train, evaluate and score outside of a workflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verb = Callable[..., argparse.ArgumentParser]


def add(verbs: Any, verb: Verb) -> None:
    """Add `classifier` and its verbs."""
    group = verb(verbs, "classifier", None, "train, evaluate and apply text classifiers", "curate classifier train quality --output models/quality")
    inner = group.add_subparsers(title="verbs", metavar="VERB", required=True)

    example = "curate classifier train quality --output models/quality"
    one = verb(inner, "train", train, "train a classifier on its labels and write its model card", example)
    one.add_argument("spec", help="a classifier spec: a file, or the name of one in classifiers/")
    one.add_argument("--output", type=Path, required=True, help="the folder for the model, its held-out texts and its card")

    one = verb(inner, "evaluate", evaluate, "score the held-out texts of a trained classifier again", "curate classifier evaluate models/quality")
    one.add_argument("folder", type=Path, help="the folder of a trained classifier")
    one.add_argument("--json", action="store_true", help="print every measure as JSON")

    one = verb(inner, "score", score, "score the texts of a JSON-lines file; prints JSON lines", "curate classifier score models/quality texts.jsonl")
    one.add_argument("folder", type=Path, help="the folder of a trained classifier")
    one.add_argument("file", type=Path, help="a .jsonl file, compressed or not")
    one.add_argument("--text", default="text", help="the field that holds the text (default: text)")
    one.add_argument("--name", help="put the scores into an object of this name, as a run does; for lines with fields score or raw of their own")


def train(arguments: argparse.Namespace) -> None:
    """`curate classifier train SPEC --output DIR`."""
    from curate.classify.model import train_command
    from curate.console import say
    from curate.project import find, root_of

    given = Path(arguments.spec)
    spec = given if given.is_file() else find("classifiers", arguments.spec, Path.cwd(), Path.cwd())
    record = train_command(spec, root_of(spec), arguments.output)
    _print(record["evaluation"])
    say(f"the model and its card are in {arguments.output}")


def evaluate(arguments: argparse.Namespace) -> None:
    """`curate classifier evaluate DIR`."""
    from curate.classify.model import evaluate_command

    measured = evaluate_command(arguments.folder)
    if arguments.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(measured), indent=2).decode())
    else:
        _print(measured)


def score(arguments: argparse.Namespace) -> None:
    """`curate classifier score DIR FILE`."""
    from curate.classify.model import score_command

    for row in score_command(arguments.folder, arguments.file, arguments.text, arguments.name):
        sys.stdout.write(_json(row) + "\n")


def _json(row: dict[str, Any]) -> str:
    import json

    import msgspec

    try:
        return msgspec.json.encode(row).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can say
        return json.dumps(row, separators=(",", ":"))


def _print(measured: dict[str, Any]) -> None:
    from curate.console import print_table

    low, high = measured["auc_interval"]
    print(f"AUC {measured['auc']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {measured['num_texts']:,} held-out texts")
    rows = [[f"{row['threshold']:g}", *(_share(row[name]) for name in ("precision", "recall", "share_kept"))] for row in measured["curve"]]
    print_table(["threshold", "precision", "recall", "share kept"], rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
