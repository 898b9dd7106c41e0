"""A mix as stages of the engine: train the swarm, recommend, confirm with fresh seeds, conclude.

    mix/swarm/      one task per proxy: scores per item (Parquet) and weights (safetensors)
    mix/proposal/   the laws and what they recommend
    mix/confirm/    the proposal and its rivals, the same tasks under other seeds
    mix/            NAME.solved.yaml, result.json (what the report shows), verdict.txt

A proxy is trained again only when its mix, its data, its suites or the code change: more runs keep the earlier ones. Scores depend on
the machine's arithmetic; on one machine they are the same bits every time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from curate.corpus import Manifest, read_manifest, sha256_of
from curate.engine import Context, StagePlan, Work, complete, complete_all, make_plan
from curate.errors import InputError, SpecError
from curate.mix import flow
from curate.mix.solved import solved_text
from curate.project import resolve, root_of
from curate.specs.load import load_spec, nearest, resolved
from curate.specs.mix import Mix
from curate.tasks import Output, Task, code_version

_CODE = ("curate.mix", "curate.tokens", "curate.specs.mix")
_LIBRARIES = ("torch", "numpy", "scipy", "tokenizers")
_HERE = "curate.mix.stage"
Say = Callable[[str], None]


class Data(msgspec.Struct, frozen=True):
    """What a mix is made of: folders of token shards, the tokenizer, and suites with absolute files."""

    folders: dict[str, Path]
    tokens: dict[str, int]
    contents: dict[str, str]  # source → what stands for its tokens
    tokenizer: Path
    suites: dict[str, dict[str, Any]]


def run_mix(spec_file: Path, tokens: Mapping[str, Path], tokenizer: Path, folder: Path, context: Context, say: Say) -> Manifest:
    """Bring the mix in `folder` up to date; `tokens` maps the sources of a run to their folders of token shards."""
    spec = load_spec(spec_file, Mix)
    data = gather(spec, spec_file, tokens, tokenizer)
    code = code_version(*_CODE, libraries=_LIBRARIES)
    runs = flow.plan_runs(spec, data.tokens)
    say(f"mix {spec.name}: training {len(runs)} proxies of {spec.proxy.tokens:,} tokens each")
    swarm = complete_all([_training(runs, data, folder / "swarm", code)], context)[0]
    facts = {"spec": resolved(spec), "tokens": data.tokens}
    plan = make_plan("recommend", f"{_HERE}:recommend_task", folder / "proposal", facts, code, [_following("proposal", [folder / "swarm"], [swarm])])
    proposal = complete(plan, context, source="mix", code=code)
    found = json.loads((folder / "proposal" / "proposal.json").read_text(encoding="utf-8"))
    rivals = flow.plan_confirm(spec, data.tokens, found)
    say(f"mix {spec.name}: confirming against {' and '.join(spec.confirm.against)} with {spec.confirm.seeds} fresh seeds each")
    confirm = complete_all([_training(rivals, data, folder / "confirm", code)], context)[0]
    inputs = [folder / "swarm", folder / "proposal", folder / "confirm"]
    work = _following("conclusion", inputs, [swarm, proposal, confirm])
    plan = make_plan("mix", f"{_HERE}:conclude_task", folder, facts | {"contents": data.contents}, code, [work])
    return complete(plan, context, source="mix", code=code)


def gather(spec: Mix, spec_file: Path, tokens: Mapping[str, Path], tokenizer: Path | None) -> Data:
    """Find what the spec names. Raises SpecError for a source that the run does not have and for missing files."""
    root, beside = root_of(spec_file), spec_file.resolve().parent
    folders: dict[str, Path] = {}
    if isinstance(spec.sources, dict):
        for name, where in spec.sources.items():
            if not isinstance(where, str):
                raise SpecError("a source is one folder of token shards", where=f"sources.{name}", hint="give each folder a source of its own")
            folders[name] = resolve(where, root, beside)
    else:
        for name in spec.sources or sorted(tokens):
            if name not in tokens:
                raise SpecError(f"the run has no source '{name}'", where="sources", hint=nearest(name, list(tokens)))
            folders[name] = tokens[name]
    if len(folders) < 2:
        raise SpecError("a mix needs two sources or more", where="sources")
    if spec.tokenizer is not None:
        tokenizer = resolve(spec.tokenizer, root, beside)
    if tokenizer is None or not tokenizer.is_file():
        raise SpecError("there is no tokenizer", where="tokenizer", hint="name the tokenizer.json that the token shards were made with")
    suites = {}
    for name, suite in spec.suites.items():
        path = resolve(suite.file, root, beside)
        if not path.is_file():
            raise SpecError(f"no such file: {path}", where=f"evals.{name}")
        suites[name] = resolved(suite) | {"file": str(path)}
    manifests = {name: read_manifest(folder) for name, folder in folders.items()}
    counts = {name: sum(note.get("num_tokens", 0) for note in manifest.notes.values()) for name, manifest in manifests.items()}
    empty = sorted(name for name, count in counts.items() if count == 0)
    if empty:
        raise InputError(f"no tokens in {', '.join(empty)}", where="sources", hint="they must be folders that a tokenize step wrote")
    contents = {name: json.dumps(manifest.files, sort_keys=True) for name, manifest in manifests.items()}
    return Data(folders, counts, contents, tokenizer, suites)


def _training(runs: list[flow.Run], data: Data, folder: Path, code: dict[str, str]) -> StagePlan:
    names = sorted(data.folders)
    inputs = [str(data.tokenizer), *(str(data.folders[name]) for name in names), *(suite["file"] for suite in data.suites.values())]
    sums = [sha256_of(data.tokenizer), *(data.contents[name] for name in names), *(sha256_of(Path(suite["file"])) for suite in data.suites.values())]
    suites = {name: {key: value for key, value in suite.items() if key not in ("file", "weight", "protect")} for name, suite in data.suites.items()}
    options = {"sources": names, "suites": suites}
    work = [Work(run["run"], inputs, sums, {"run": run}) for run in runs]
    return StagePlan(make_plan("proxy", f"{_HERE}:train_task", folder, options, code, work), "mix", code)


def _following(name: str, inputs: list[Path], manifests: list[Manifest]) -> Work:
    return Work(name, [str(path) for path in inputs], [json.dumps([m.files, msgspec.to_builtins(m.notes)], sort_keys=True) for m in manifests])


# ── task functions ────────────────────────────────────────────────────────────────────────────────────────────────


def train_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: train and score one proxy. `options`: sources and suites, in the order of the inputs after the tokenizer."""
    from curate.mix.proxy import train_run

    names = options["sources"]
    folders = {name: [Path(path)] for name, path in zip(names, task.inputs[1:], strict=False)}
    files = task.inputs[1 + len(names) :]
    suites = {name: suite | {"file": file} for (name, suite), file in zip(options["suites"].items(), files, strict=True)}
    scores, weights = out.path(f"{task.name}.scores.parquet"), out.path(f"{task.name}.safetensors")
    report = train_run(task.options["run"], folders, Path(task.inputs[0]), suites, scores, weights)
    if not scores.exists():  # it diverged: say so with an empty table
        from curate.mix.evaluate import SCORES

        pq.write_table(SCORES.empty_table(), scores)
    out.note("report", report)
    out.note("weights", task.options["run"]["weights"])


def _scores(folder: str) -> dict[str, dict[str, float] | None]:
    return {name: note["report"]["scores"] for name, note in read_manifest(Path(folder)).notes.items()}


def recommend_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: fit the laws to the swarm's scores and solve."""
    spec = msgspec.convert(options["spec"], Mix)
    runs = flow.plan_runs(spec, options["tokens"])
    found = flow.recommend(spec, options["tokens"], runs, _scores(task.inputs[0]))
    out.path("proposal.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def conclude_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: compare, and write the solved mix, the verdict, and what the report shows."""
    from curate.tasks import hash_of

    spec, tokens = msgspec.convert(options["spec"], Mix), options["tokens"]
    swarm, proposal_folder, confirm = task.inputs
    proposal = json.loads((Path(proposal_folder) / "proposal.json").read_text(encoding="utf-8"))
    made_from = {"spec": hash_of(options["spec"])} | {f"tokens/{name}": hash_of(content) for name, content in sorted(options["contents"].items())}
    tables = {path.name.removesuffix(".scores.parquet"): pq.read_table(path) for path in sorted(Path(confirm).glob("*.scores.parquet"))}
    solved, rows, words = flow.conclude(spec, tokens, proposal, tables, made_from)
    out.path(f"{spec.name}.solved.yaml").write_text(solved_text(solved), encoding="utf-8")
    out.path("verdict.txt").write_text(words + "\n", encoding="utf-8")
    runs = [
        {"run": name}
        | {f"share of {source}": share for source, share in note["weights"].items()}
        | {f"bits per byte, {suite}": value for suite, value in (note["report"]["scores"] or {}).items()}
        for name, note in read_manifest(Path(swarm)).notes.items()
    ]
    result = {"solved": msgspec.to_builtins(solved), "proposal": proposal, "comparison": rows, "verdict": words, "runs": runs}
    out.path("result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
