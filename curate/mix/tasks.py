"""The steps of a mix as task functions of the engine: what a worker runs. Plans are made in curate.mix.stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.corpus import read_manifest
from curate.mix import flow
from curate.mix.conclude import conclude, unconfirmed
from curate.mix.fitted import FILES, Fitted, fit_swarm, laws_in, read_fit, write_fit
from curate.mix.setting import Setting
from curate.mix.solve import Problem
from curate.mix.solved import solved_text
from curate.mix.stored import gather_laws, write_laws
from curate.mix.table import Swarm
from curate.tasks import Output, Task

# ── proxies and their scores ──────────────────────────────────────────────────────────────────────────────────────


def suite_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: read one suite as scoring will. Inputs: the tokenizer, the suite's file."""
    from curate.mix.suites import load_suite
    from curate.tokens.tokenizer import Encoder

    tokenizer, file = map(Path, task.inputs)
    suite = load_suite(task.name, task.options["suite"] | {"file": str(file)}, Encoder.open(tokenizer))
    gold = [part for part in suite.parts if part.is_gold]
    out.note("items", len(gold))
    out.note("bytes", sum(part.num_bytes for part in gold))


def train_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: train a group of proxies. Inputs: the tokenizer, then the folders of each leaf, `options["folders"]` of them."""
    from curate.mix.proxy import train_runs

    runs, paths = task.options["runs"], iter(task.inputs[1:])
    folders = {leaf: [Path(next(paths)) for _ in range(count)] for leaf, count in options["folders"].items()}
    files = [out.path(f"{run['run']}.safetensors") for run in runs]
    checkpoint = out.folder / "checkpoints" / f"{task.name}.pt"
    reports = train_runs(runs, folders, Path(task.inputs[0]), files, checkpoint)
    out.note("reports", {run["run"]: report for run, report in zip(runs, reports, strict=True)})


def score_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: score one proxy on one suite. Inputs: the proxy, the tokenizer, the suite's file. A proxy that failed gets an empty table."""
    from curate.mix.evaluate import SCORES
    from curate.mix.proxy import evaluate_run

    proxy, tokenizer, file = map(Path, task.inputs)
    reports = {name: report for note in read_manifest(proxy.parent).notes.values() for name, report in note["reports"].items()}
    scores = out.path(f"{task.name}.scores.parquet")
    if reports[task.name]["failed"]:
        pq.write_table(SCORES.empty_table(), scores)
        out.note("scores", None)
        return
    ((name, suite),) = options["suite"].items()
    out.note("scores", evaluate_run(proxy, tokenizer, {name: suite | {"file": str(file)}}, scores))


def _scores(folders: list[str], suites: list[str]) -> dict[str, dict[str, float] | None]:
    """Return run → suite → bits per byte of the rounds in `folders`; None for a run that failed."""
    found: dict[str, dict[str, float] | None] = {}
    for folder in folders:
        for suite in suites:
            for run, note in read_manifest(Path(folder) / "scores" / suite).notes.items():
                before = found.setdefault(run, {})
                found[run] = None if note["scores"] is None or before is None else before | note["scores"]
    return found


# ── laws and proposals ────────────────────────────────────────────────────────────────────────────────────────────


def _swarm(task: Task, options: dict[str, Any], suites: list[str], folders: list[str]) -> tuple[Swarm, dict[str, Any]]:
    runs = [run for rounds in options["rounds"] for run in rounds]
    return flow.swarm_of(runs, _scores(folders, suites), suites, options["kept"])


def law_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: choose and fit the law of one suite."""
    suite = task.options["suite"]
    swarm, repeats = _swarm(task, options, [suite], task.inputs)
    narrow = flow.reduced(swarm, options["kept"])
    write_laws(out.path(f"{suite}.npz"), fit_swarm(narrow, options["law"], flow.noise_of(repeats)), narrow.scores, options["law"])


def table_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: choose and fit the law of one suite of a swarm that was trained elsewhere. Input: the folder that its tables were put in."""
    runs, sources, mixes, scores = msgspec.json.decode((Path(task.inputs[0]) / "swarm.json").read_bytes())
    suite = task.options["suite"]
    swarm = Swarm(runs, sources, np.array(mixes), {suite: np.array(scores[suite])})
    write_laws(out.path(f"{task.name}.npz"), fit_swarm(swarm, options["law"]), swarm.scores, options["law"])


def fit_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: put the fitted swarm together. Inputs: the laws, then the rounds."""
    folder, *folders = task.inputs
    suites = options["suites"]
    swarm, _ = _swarm(task, options, suites, folders)
    narrow = flow.reduced(swarm, options["kept"])
    laws = gather_laws({suite: Path(folder) / f"{suite}.npz" for suite in suites}, narrow.mixes, narrow.scores)
    write_fit({name: out.path(name) for name in FILES}, swarm, laws, options["law"])


def _problem(setting: Setting, fitted: Fitted, folder: Path) -> Problem:
    """Return what is to be solved, with the laws of the fit in `folder`."""
    narrow = flow.reduced(fitted.swarm, setting.kept)
    wanted = msgspec.structs.replace(narrow, scores={suite: narrow.scores[suite] for suite in setting.spec.suites})
    return flow.problem_of(setting, wanted, laws_in(folder, fitted, wanted))


def round_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: the next runs of a sequential swarm. Inputs: the rounds so far."""
    setting = msgspec.convert(options["setting"], Setting)
    suites = sorted(setting.spec.suites)
    swarm, repeats = _swarm(task, options, suites, task.inputs)
    narrow = flow.reduced(swarm, options["kept"])
    problem = flow.problem_of(setting, narrow, fit_swarm(narrow, options["law"], flow.noise_of(repeats)))
    planned = sum(run["seed"] == setting.spec.swarm.seed for runs in options["rounds"] for run in runs)
    found = flow.plan_round(setting, problem, repeats, planned)
    out.path("round.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def solve_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: solve for the mix that the laws recommend. Input: the fit."""
    setting = msgspec.convert(options["setting"], Setting)
    folder = Path(task.inputs[0])
    fitted = read_fit(folder)
    found = flow.recommend(_problem(setting, fitted, folder), fitted.swarm, setting.spec.law, setting)
    out.path("proposal.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.path(f"{setting.spec.name}.proposed.yaml").write_text(solved_text(unconfirmed(setting, found, options["made_from"])), encoding="utf-8")


# ── the conclusion ────────────────────────────────────────────────────────────────────────────────────────────────


def conclude_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: compare, and write the solved mix, the verdict, and what the report shows. Inputs: proposal, confirmation, rounds."""
    setting = msgspec.convert(options["setting"], Setting)
    suites = sorted(setting.spec.suites)
    proposal_folder, confirm, *rounds = task.inputs
    proposal = json.loads((Path(proposal_folder) / "proposal.json").read_text(encoding="utf-8"))
    swarm = [run for runs in options["rounds"] for run in runs]
    scores = _scores(rounds, suites)
    proposal["warnings"] += flow.failures(swarm, scores)
    tables = {
        run["run"]: pa.concat_tables([pq.read_table(Path(confirm) / "scores" / suite / f"{run['run']}.scores.parquet") for suite in suites])
        for run in options["confirm"]
    }
    solved, rows, words = conclude(setting, proposal, tables, options["made_from"])
    out.path(f"{setting.spec.name}.solved.yaml").write_text(solved_text(solved), encoding="utf-8")
    out.path("verdict.txt").write_text(words + "\n", encoding="utf-8")
    runs = [
        {"run": run["run"]}
        | {f"share of {leaf}": share for leaf, share in run["weights"].items()}
        | {f"bits per byte, {suite}": value for suite, value in sorted((scores[run["run"]] or {}).items())}
        for run in swarm
    ]
    result = {"solved": msgspec.to_builtins(solved), "proposal": proposal, "comparison": rows, "verdict": words, "runs": runs}
    out.path("result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
