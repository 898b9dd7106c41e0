"""`curate mix`: how much of each source, outside of a workflow or after one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verb = Callable[..., argparse.ArgumentParser]
LAWS = ("auto", "ridge", "log_linear", "power", "gp", "power_gp")  # as curate.specs.mix.LAWS, which would import too much here


def add(verbs: Any, verb: Verb) -> None:
    """Add `mix` and its verbs."""
    group = verb(verbs, "mix", None, "find out how much of each source to use", "curate mix run mixes/mine.yaml --output mixes/mine")
    inner = group.add_subparsers(title="verbs", metavar="VERB", required=True)

    text = "show what a mix would train: proxies, tokens, FLOPs and an estimate of the time; trains nothing"
    one = verb(inner, "plan", plan, text, "curate mix plan mixes/mine.yaml")
    one.add_argument("spec", type=Path, help="a mix spec that names its sources and its tokenizer")

    text = "train the swarm, recommend, confirm with fresh seeds, and write the solved mix"
    one = verb(inner, "run", run, text, "curate mix run mixes/mine.yaml --output mixes/mine")
    one.add_argument("spec", type=Path, help="a mix spec that names its sources and its tokenizer")
    one.add_argument("--output", type=Path, required=True, help="the folder for proxies, proposal and solved mix")
    one.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="worker processes (default: one per core)")

    text = "fit laws to a swarm that was trained elsewhere; the first column of both files is the run id"
    one = verb(inner, "fit", fit, text, "curate mix fit --ratios ratios.csv --metrics metrics.csv --output laws")
    one.add_argument("--ratios", type=Path, required=True, help="CSV: run id, then the share of each source")
    one.add_argument("--metrics", type=Path, required=True, help="CSV: run id, then the score of each suite; lower is better")
    one.add_argument("--law", choices=LAWS, default="auto", help="auto chooses per suite by leave-one-out error")
    one.add_argument("--predict", type=Path, help="CSV of mixes to predict (default: those of --ratios)")
    one.add_argument("--output", type=Path, required=True, help="the folder for predictions.csv and laws.json")
    one.add_argument("--json", action="store_true", help="print the laws as JSON")

    one = verb(inner, "show", show, "print the weights, predictions and verdict of a finished mix", "curate mix show runs/quickstart/mix")
    one.add_argument("folder", type=Path, help="the folder of a mix, RUN/mix of a workflow's")
    one.add_argument("--json", action="store_true", help="print everything as JSON")

    example = "curate mix export runs/quickstart/mix/quickstart.solved.yaml --format megatron"
    one = verb(inner, "export", export, "print a solved mix in the form that a trainer reads", example)
    one.add_argument("solved", type=Path, help="a solved mix")
    one.add_argument(
        "--format", choices=("json", "megatron", "datasets"), default="json", help="plain JSON, Megatron's --data-path, or probabilities"
    )
    one.add_argument("--data", default="data/{source}", help="for megatron: where the data of a source is (default: data/{source})")

    one = verb(inner, "diff", diff, "say what moved between two solved mixes, and why", "curate mix diff old.solved.yaml new.solved.yaml")
    one.add_argument("before", type=Path, help="a solved mix")
    one.add_argument("after", type=Path, help="another one")


def plan(arguments: argparse.Namespace) -> None:
    """`curate mix plan SPEC`."""
    from curate.console import print_table
    from curate.mix.estimate import estimate

    rows = estimate(arguments.spec)
    print_table(["what", "how much"], [[name, value] for name, value in rows.items()])


def run(arguments: argparse.Namespace) -> None:
    """`curate mix run SPEC --output DIR`."""
    from curate.console import Progress, say
    from curate.engine import Context, Local
    from curate.errors import SpecError
    from curate.lock import locked
    from curate.mix.stage import run_mix
    from curate.specs.load import load_spec
    from curate.specs.mix import Mix

    spec = load_spec(arguments.spec, Mix)
    if spec.tokenizer is None or not isinstance(spec.sources, dict):
        raise SpecError("outside of a workflow a mix names its sources and its tokenizer", where=str(arguments.spec), hint="sources: {NAME: FOLDER}")
    output = arguments.output.resolve()
    engine = Local(arguments.workers, output / "logs")
    try:
        with locked(output), Progress() as progress:
            run_mix(arguments.spec, {}, Path(spec.tokenizer), output, Context(engine, progress), progress.say)
    finally:
        engine.close()
    print((output / "verdict.txt").read_text(encoding="utf-8"))
    say(f"the solved mix: {output / f'{spec.name}.solved.yaml'}")


def show(arguments: argparse.Namespace) -> None:
    """`curate mix show DIR`."""
    import msgspec

    from curate.console import print_table
    from curate.errors import InputError

    path = arguments.folder / "result.json"
    if not path.is_file():
        raise InputError("no finished mix", where=str(arguments.folder), hint="name RUN/mix of a finished run")
    if arguments.json:
        print(path.read_text(encoding="utf-8"))
        return
    result = msgspec.json.decode(path.read_bytes())
    solved = result["solved"]
    rows = [[n, w["weight"], w["low"], w["high"], w["natural"], w["repeats"], w["available_tokens"]] for n, w in solved["weights"].items()]
    print_table(["source", "weight", "low", "high", "natural", "repeats", "available tokens"], rows)
    rows = [
        [n, s["law"], s["natural"], s["solved"], f"{s['low']:.4f} to {s['high']:.4f}", s["confirmed"], s["verdict"]]
        for n, s in solved["scores"].items()
    ]
    print_table(["suite", "law", "natural", "solved", "90 % interval", "confirmed difference", "verdict"], rows)
    print(result["verdict"])


def export(arguments: argparse.Namespace) -> None:
    """`curate mix export SOLVED`."""
    from curate.mix.export import as_text

    print(as_text(arguments.solved, arguments.format, arguments.data))


def diff(arguments: argparse.Namespace) -> None:
    """`curate mix diff A B`."""
    from curate.mix.solved import diff_lines, diff_mixes, read_solved

    print("\n".join(diff_lines(diff_mixes(read_solved(arguments.before), read_solved(arguments.after)))))


def fit(arguments: argparse.Namespace) -> None:
    """`curate mix fit --ratios CSV --metrics CSV --output DIR`."""
    import json

    from curate.console import print_table, say
    from curate.corpus import write_json
    from curate.mix.law import choose_law
    from curate.mix.table import predictions_csv, read_ratios, read_swarm

    swarm = read_swarm(arguments.ratios, arguments.metrics)
    laws = {suite: choose_law(suite, swarm.mixes, scores, arguments.law) for suite, scores in sorted(swarm.scores.items())}
    runs, mixes = swarm.runs, swarm.mixes
    if arguments.predict is not None:
        runs, _, mixes = read_ratios(arguments.predict, swarm.sources)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "predictions.csv").write_text(predictions_csv(laws, runs, mixes), encoding="utf-8")
    facts: dict[str, dict[str, Any]] = {suite: {"law": law.full.kind, "why": law.why, "errors": law.errors} for suite, law in laws.items()}
    write_json(arguments.output / "laws.json", facts)
    if arguments.json:
        print(json.dumps({"runs": len(swarm.runs), "sources": swarm.sources, "laws": facts}, indent=2))
    else:
        print_table(["suite", "law", "leave-one-out error", "why"], [[s, f["law"], f["errors"][f["law"]], f["why"]] for s, f in facts.items()])
    say(f"predictions.csv and laws.json are in {arguments.output}")
