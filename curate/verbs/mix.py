"""`curate mix`: how much of each source, outside of a workflow or after one."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Verb = Callable[..., argparse.ArgumentParser]
LAWS = (
    "auto",
    "ridge",
    "log_linear",
    "power",
    "gp",
    "power_gp",
    "power_times_gp",
    "trees",
)  # as in curate.specs.mix, a slow import
FORMS = ("json", "megatron", "megatron-json", "datasets", "olmo-core", "streaming", "torchtitan", "nanotron")  # as curate.mix.export.FORMS


def add(verbs: Any, verb: Verb) -> None:
    """Add `mix` and its verbs."""
    group = verb(verbs, "mix", None, "find out how much of each source to use", "curate mix run mixes/mine.yaml --output mixes/mine")
    inner = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    text = "show what a mix would train: proxies, tokens, FLOPs, memory and an estimate of the time; trains nothing"
    _json(_spec(verb(inner, "plan", plan, text, "curate mix plan mixes/mine.yaml")))
    _add_steps(inner, verb)
    _add_solved(inner, verb)


def _add_steps(inner: Any, verb: Verb) -> None:
    """Add the verbs that bring a mix up to date, each up to its step: what is done is not done again."""
    _step(verb(inner, "train", train, "train the swarm of proxies", "curate mix train mixes/mine.yaml --output mixes/mine"))
    text = "score the trained proxies on the suites of the spec; a new suite needs no training"
    _step(verb(inner, "evaluate", evaluate, text, "curate mix evaluate mixes/mine.yaml --output mixes/mine"))

    text = "fit laws to the swarm, or to one that was trained elsewhere (two CSV files whose first column is the run id)"
    one = verb(inner, "fit", fit, text, "curate mix fit --ratios ratios.csv --metrics metrics.csv --output laws")
    one.add_argument("spec", type=Path, nargs="?", help="a mix spec that names its sources and its tokenizer")
    one.add_argument("--ratios", type=Path, help="CSV: run id, then the share of each source")
    one.add_argument("--metrics", type=Path, help="CSV: run id, then the score of each suite; lower is better")
    one.add_argument("--law", choices=LAWS, help="with --ratios: default auto, which chooses per suite by leave-one-out error")
    one.add_argument("--predict", type=Path, help="with --ratios: CSV of mixes to predict (default: those of --ratios)")
    _output(one)

    text = "solve for the weights under the limits of the spec, from the swarm or from fitted laws"
    one = verb(inner, "solve", solve, text, "curate mix solve --fit laws --spec mixes/mine.yaml")
    one.add_argument("spec", type=Path, nargs="?", help="a mix spec that names its sources and its tokenizer")
    one.add_argument("--fit", type=Path, help="the folder of a fit; then --output is optional")
    one.add_argument("--spec", dest="limits", type=Path, help="with --fit: the mix spec whose weights, limits and target hold (default: none)")
    _output(one, required=False)

    text = "train the proposal and its rivals with fresh seeds, compare them in pairs, and write the solved mix"
    _step(verb(inner, "confirm", confirm, text, "curate mix confirm mixes/mine.yaml --output mixes/mine"))
    _step(verb(inner, "run", confirm, "all of it: train, evaluate, fit, solve, confirm", "curate mix run mixes/mine.yaml --output mixes/mine"))


def _add_solved(inner: Any, verb: Verb) -> None:
    """Add the verbs that read what is finished."""
    one = verb(inner, "show", show, "print the weights, predictions and verdict of a finished mix", "curate mix show runs/quickstart/mix")
    one.add_argument("folder", type=Path, help="the folder of a mix, RUN/mix of a workflow's")
    _json(one)

    example = "curate mix export runs/quickstart/mix/quickstart.solved.yaml --format megatron"
    one = verb(inner, "export", export, "print a solved mix in the form that a trainer reads, after reading it back", example)
    one.add_argument("solved", type=Path, help="a solved mix")
    one.add_argument("--format", choices=FORMS, default="json", help="which trainer's (default: json)")
    one.add_argument("--data", default="data/{source}", help="where the data of a source is (default: data/{source})")
    one.add_argument("--json", action="store_true", help="print the text and the tokens of each source as JSON")

    one = verb(
        inner, "proxy", proxy, "write a stored proxy as a Hugging Face model", "curate mix proxy mixes/mine/swarm/1/proxies/run-000.safetensors out"
    )
    one.add_argument("proxy", type=Path, help="a proxy (.safetensors)")
    one.add_argument("output", type=Path, help="the folder for config.json, model.safetensors and the tokenizer")
    one.add_argument("--tokenizer", type=Path, help="the tokenizer.json that it was trained with, to be put beside it")
    _json(one)

    one = verb(inner, "diff", diff, "say what moved between two solved mixes, and why", "curate mix diff old.solved.yaml new.solved.yaml")
    one.add_argument("before", type=Path, help="a solved mix")
    one.add_argument("after", type=Path, help="another one")
    _json(one)


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the same as JSON, for programs")


def _spec(verb: argparse.ArgumentParser) -> argparse.ArgumentParser:
    verb.add_argument("spec", type=Path, help="a mix spec that names its sources and its tokenizer")
    return verb


def _output(verb: argparse.ArgumentParser, required: bool = True) -> None:
    verb.add_argument("--output", type=Path, required=required, help="the folder of the mix")
    verb.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="worker processes (default: one per core)")
    _json(verb)


def _step(verb: argparse.ArgumentParser) -> None:
    _output(_spec(verb))


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan(arguments: argparse.Namespace) -> None:
    """`curate mix plan SPEC`."""
    from curate.mix.estimate import estimate
    from curate.verbs.mix_tables import print_json, print_plan

    found = estimate(arguments.spec)
    print_json(found) if arguments.json else print_plan(found)


def train(arguments: argparse.Namespace) -> None:
    """`curate mix train SPEC --output DIR`."""
    from curate.verbs.mix_tables import print_json, print_training, training

    _up_to("train", arguments)
    rows = training(arguments.output)
    print_json(rows) if arguments.json else print_training(rows)


def evaluate(arguments: argparse.Namespace) -> None:
    """`curate mix evaluate SPEC --output DIR`."""
    from curate.verbs.mix_tables import print_json, print_scores, scores

    spec = _up_to("evaluate", arguments)
    rows = scores(arguments.output, sorted(spec.suites))
    print_json(rows) if arguments.json else print_scores(rows)


def fit(arguments: argparse.Namespace) -> None:
    """`curate mix fit SPEC --output DIR`, or with --ratios and --metrics instead of the spec."""
    from curate.console import say
    from curate.errors import SpecError
    from curate.mix.fitted import read_fit
    from curate.verbs.mix_tables import print_json, print_laws, print_notes, with_direction

    given = (arguments.spec is not None, arguments.ratios is not None, arguments.metrics is not None)
    if given not in ((True, False, False), (False, True, True)):
        raise SpecError("give a mix spec, or both --ratios and --metrics")
    if arguments.spec is not None:
        if arguments.law or arguments.predict:
            raise SpecError("--law and --predict are for --ratios and --metrics", hint="the spec says its law: `law`")
        _up_to("fit", arguments)
        folder, notes = arguments.output / "fit", []
    else:
        folder, notes = arguments.output, _fit_tables(arguments)
    found = read_fit(folder)
    if arguments.json:
        print_json({"runs": len(found.swarm.runs), "sources": found.swarm.sources, "laws": with_direction(found.laws), "notes": notes})
    else:
        print_laws(found.laws)
        print_notes(notes)
    say(f"ratios.csv, metrics.csv, predictions.csv and the laws are in {folder}")


def _fit_tables(arguments: argparse.Namespace) -> list[str]:
    """Fit laws to two tables; return what to say of them."""
    from curate.engine import Inline, Local
    from curate.mix.doubts import LOWER, doubts
    from curate.mix.elsewhere import FITTING, fit_tables, read_tables, refuse_overwriting

    law, inputs = arguments.law or "auto", [path for path in (arguments.ratios, arguments.metrics, arguments.predict) if path is not None]
    swarm, predicted = read_tables(arguments.ratios, arguments.metrics, arguments.predict)
    refuse_overwriting(arguments.output, swarm, inputs)
    output, workers = arguments.output.resolve(), min(arguments.workers, len(swarm.scores))
    is_small = workers < 2 or law != "auto"  # a single law is fitted before a worker has started
    with _running(output, Inline() if is_small else Local(workers, output / FITTING / "logs")) as (context, _):
        fit_tables(swarm, law, predicted, output, context)
    return [LOWER, *doubts(swarm)]


def solve(arguments: argparse.Namespace) -> None:
    """`curate mix solve SPEC --output DIR`, or `--fit DIR [--spec SPEC]`."""
    from curate.console import say
    from curate.errors import SpecError
    from curate.mix.doubts import LOWER
    from curate.verbs.mix_tables import print_json, print_notes, print_proposal, read_proposal, with_direction

    if (arguments.fit is None) == (arguments.spec is None):
        raise SpecError("give either a mix spec, or --fit DIR")
    if arguments.fit is None:
        if arguments.limits is not None:
            raise SpecError("--spec is for --fit DIR", hint="the mix spec that was given says its own limits")
        if arguments.output is None:
            raise SpecError("give --output, the folder of the mix")
        spec = _up_to("solve", arguments)
        folder, written = arguments.output / "proposal", f"{spec.name}.proposed.yaml"
    else:
        folder = arguments.output or arguments.fit
        written = _solve_fit(arguments, folder)
    found = read_proposal(folder)
    print_json(found | {"laws": with_direction(found["laws"])}) if arguments.json else print_proposal(found)
    if arguments.fit is not None and not arguments.json:
        print_notes([LOWER])
    say(f"the proposal: {folder / written}")


def _solve_fit(arguments: argparse.Namespace, folder: Path) -> str:
    """Solve from fitted tables; return the name of the file that was written."""
    from curate.corpus import write_json
    from curate.mix.elsewhere import solve_fit
    from curate.mix.solved import write_solved

    proposal, solved = solve_fit(arguments.fit, arguments.limits)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "proposal.json", proposal)
    if solved is None:
        return "proposal.json"
    write_solved(folder / f"{solved.name}.proposed.yaml", solved)
    return f"{solved.name}.proposed.yaml"


def confirm(arguments: argparse.Namespace) -> None:
    """`curate mix confirm SPEC --output DIR`, and `curate mix run`, which is the same: a step does what comes before it."""
    from curate.console import say
    from curate.report import write_mix_report
    from curate.verbs.mix_tables import print_json, print_result, read_result

    spec = _up_to("confirm", arguments)
    result = read_result(arguments.output)
    print_json(result) if arguments.json else print_result(result)
    say(f"the solved mix: {arguments.output / f'{spec.name}.solved.yaml'}")
    for name, phase in result.get("phases", {}).items():
        say(f"the solved mix of {name}: {arguments.output / 'phases' / name / (phase['solved']['name'] + '.solved.yaml')}")
    say(f"the report: {write_mix_report(arguments.output)}")


def _up_to(step: str, arguments: argparse.Namespace) -> Any:
    """Bring the mix up to date, up to `step`; return its spec."""
    from curate.engine import Local
    from curate.errors import SpecError
    from curate.mix.stage import run_mix
    from curate.specs.load import load_spec
    from curate.specs.mix import Mix

    spec = load_spec(arguments.spec, Mix)
    if spec.tokenizer is None or not isinstance(spec.sources, dict):
        raise SpecError("outside of a workflow a mix names its sources and its tokenizer", where=str(arguments.spec), hint="sources: {NAME: FOLDER}")
    output = arguments.output.resolve()
    with _running(output, Local(max(1, arguments.workers), output / "logs")) as (context, say):
        run_mix(arguments.spec, {}, None, output, context, say, step)
    return spec


@contextlib.contextmanager
def _running(output: Path, engine: Any) -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Yield how to run stages under `output`, in which nobody else works meanwhile, and how to say something; close the engine at the end."""
    from curate.console import Progress
    from curate.engine import Context
    from curate.lock import locked

    try:
        with locked(output), Progress() as progress:
            yield Context(engine, progress), progress.say
    finally:
        engine.close()


# ── what is finished ──────────────────────────────────────────────────────────────────────────────────────────────


def show(arguments: argparse.Namespace) -> None:
    """`curate mix show DIR`."""
    from curate.verbs.mix_tables import print_json, print_result, read_result

    result = read_result(arguments.folder)
    print_json(result) if arguments.json else print_result(result)


def export(arguments: argparse.Namespace) -> None:
    """`curate mix export SOLVED`."""
    from curate.console import say
    from curate.mix.export import export_mix
    from curate.verbs.mix_tables import print_json

    found = export_mix(arguments.solved, arguments.format, arguments.data)
    if arguments.json:
        print_json({"format": arguments.format, "text": found.text, "tokens": found.tokens})
    else:
        print(found.text)
        say("read back: " + ", ".join(f"{name} {count:,} tokens" for name, count in found.tokens.items()))


def proxy(arguments: argparse.Namespace) -> None:
    """`curate mix proxy PROXY DIR`."""
    from curate.console import say
    from curate.mix.huggingface import export_proxy
    from curate.verbs.mix_tables import print_json

    files = export_proxy(arguments.proxy, arguments.output, arguments.tokenizer)
    if arguments.json:
        print_json({"files": [str(file) for file in files]})
    say(f"transformers reads it with AutoModelForCausalLM.from_pretrained('{arguments.output}')")


def diff(arguments: argparse.Namespace) -> None:
    """`curate mix diff A B`."""
    from curate.mix.solved import diff_lines, diff_mixes, read_solved
    from curate.verbs.mix_tables import print_json

    difference = diff_mixes(read_solved(arguments.before), read_solved(arguments.after))
    print_json(difference) if arguments.json else print("\n".join(diff_lines(difference)))
