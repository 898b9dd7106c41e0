"""A mix as stages of the engine: train the swarm, score it, fit the laws, solve, confirm with fresh seeds, conclude.

    mix/suites/                a task per suite: whether it can be read, before anything is trained
    mix/swarm/1/proxies/       a task per group of proxies (safetensors); 2, 3, …: further rounds of a sequential swarm
    mix/swarm/1/scores/SUITE/  a task per proxy and suite (Parquet, a row per item)
    mix/swarm/2/round/         which runs come next, and why
    mix/laws/                  a task per suite
    mix/fit/                   the swarm and its laws as tables (curate.mix.fitted)
    mix/proposal/              what the laws recommend
    mix/confirm/               proxies and scores of the proposal and its rivals
    mix/                       NAME.solved.yaml, result.json (what the report shows), verdict.txt
    mix/phases/PHASE/          the same for each later phase

Training and scoring are apart: a changed suite is scored on the proxies that there are, a new one alone, and a changed law or limit trains and
scores nothing. A proxy is trained again only when its mix, its data or the code that trains it change. Scores depend on the machine's
arithmetic; of one machine's CPU they are the same bits every time. (On a GPU two trainings may round otherwise, and the last bits depend on which
runs form a group, and so on whether some were added later; groups are sized by the card, and not by who else uses it.)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from curate.corpus import Manifest, read_manifest, sha256_of, write_json
from curate.engine import Context, StagePlan, Work, complete, complete_all, make_plan
from curate.errors import SpecError
from curate.mix import flow
from curate.mix.data import Data, gather, in_phase
from curate.mix.limits import repeat_limit
from curate.mix.setting import Setting, baseline, reused
from curate.mix.solved import read_solved
from curate.project import resolve, root_of
from curate.specs.load import load_spec, resolved
from curate.specs.mix import Constraints, Mix
from curate.strangers import refuse_strangers
from curate.tasks import Plan, code_version, finished, hash_of

STEPS = ("train", "evaluate", "fit", "solve", "confirm")
_TASKS = "curate.mix.tasks"
_MODEL = (
    "curate.mix.model",
    "curate.mix.fused",
    "curate.mix.passes",
    "curate.kernels.compiled",
    "curate.kernels.exponential",
    "curate.tokens.tokenizer",
)
_TRAINING = (
    *_MODEL,
    "curate.mix.proxy",
    "curate.mix.gpu",
    "curate.mix.stream",
    "curate.mix.checkpoints",
    "curate.mix.throughput",
    "curate.tokens.pack",
    "curate.tokens.shards",
)
_SCORING = (*_MODEL, "curate.mix.evaluate", "curate.mix.suites")
_SOLVING = ("curate.mix", "curate.specs.mix", "curate.kernels.compiled", "curate.kernels.exponential_64")
Say = Callable[[str], None]
Read = tuple[str, int, int]  # leaf, tokens of it that a phase read, tokens that there were for that phase


class _Mixing(msgspec.Struct, frozen=True):
    """What the steps of one mix, or one phase of it, share."""

    setting: Setting
    data: Data
    folder: Path
    rivals: dict[str, dict[str, float]]
    made_from: dict[str, str]
    context: Context
    say: Say

    @property
    def facts(self) -> dict[str, Any]:
        """The setting as JSON."""
        return {"setting": msgspec.to_builtins(self.setting)}


def run_mix(
    spec_file: Path, tokens: Mapping[str, Path], tokenizer: Path | None, folder: Path, context: Context, say: Say, until: str = "confirm"
) -> Manifest:
    """Bring the mix in `folder` up to date, up to and including the step `until` (one of STEPS), and return the manifest of that step.

    `tokens` maps the sources of a workflow's run to their folders of token shards, `tokenizer` is the run's.
    """
    spec = load_spec(spec_file, Mix)
    data = gather(spec, spec_file, tokens, tokenizer)
    setting = Setting(spec, data.tokens, data.traits, kept=kept_by(spec, spec_file, data))
    rivals = rivals_of(spec, spec_file, setting.leaves)
    mixing = _Mixing(setting, data, folder, rivals, _made_from(spec, spec_file, data), context, say)
    phases = [
        _Mixing(later, inside, folder / "phases" / phase.name, rivals, _made_from(later.spec, spec_file, inside), context, say)
        for phase, (later, inside) in zip(spec.phases, plan_phases(spec, spec_file, data, rivals), strict=True)
    ]
    for one in (mixing, *phases):
        refuse_strangers(one.folder, "mix", "mix")  # where the conclusion will lie: hours later is no time to learn that it cannot
    for one in phases:
        _read_suites(one)
    manifest = _steps(mixing, until)
    reads: list[Read] = []
    for phase in phases if until == "confirm" else ():
        solved = read_solved(mixing.folder / f"{mixing.setting.spec.name}.solved.yaml")
        reads += [(leaf, round(source.weight * solved.target_tokens), source.available_tokens) for leaf, source in solved.weights.items()]
        start = mixing.folder / "confirm" / "proxies" / f"{solved.keep}-0.safetensors"
        setting = msgspec.structs.replace(phase.setting, used=used_of(reads, phase.data.tokens), start=str(start))
        made_from = phase.made_from | {"phase before": hash_of(msgspec.to_builtins(solved))}
        mixing = msgspec.structs.replace(phase, setting=setting, made_from=made_from)
        manifest = _steps(mixing, until)
    return manifest


def plan_phases(spec: Mix, spec_file: Path, data: Data, rivals: Mapping[str, Mapping[str, float]]) -> list[tuple[Setting, Data]]:
    """Return each later phase and its data, as if nothing had been read before it.

    Raises what its training would end with, as far as that is known before anything is trained.
    """
    found: list[tuple[Setting, Data]] = []
    for phase in spec.phases:
        narrow, inside = in_phase(spec, data, phase, spec_file)
        setting = Setting(narrow, inside.tokens, inside.traits, min_document_tokens=phase.min_document_tokens)
        where = f"phases.{phase.name}"
        try:
            flow.plan_runs(setting)
        except SpecError as error:
            raise SpecError(error.what, where=f"{where}: {error.where}" if error.where else where, hint=error.hint) from error
        _check_rivals(rivals, setting.leaves, f"{spec_file}: {where}")
        if phase.min_document_tokens <= 1:
            before = spec.target.tokens + sum(one.target.tokens for one in spec.phases[: len(found)])
            _check_room(spec, data, setting, before, where)
        found.append((setting, inside))
    return found


def _check_room(spec: Mix, data: Data, phase: Setting, before: int, where: str) -> None:
    """Raise SpecError when a phase cannot have its tokens, whatever mixes are chosen before it, which read `before` tokens in all."""

    def room(constraints: Constraints, leaves: Sequence[str]) -> float:
        return sum(repeat_limit(constraints, data.traits[leaf].source or leaf) * data.tokens[leaf] for leaf in leaves)

    read = max(0.0, before - room(spec.constraints, [leaf for leaf in data.tokens if leaf not in phase.tokens]))
    left = room(phase.spec.constraints, phase.leaves) - read
    if left < phase.spec.target.tokens:
        what = f"{max(left, 0):,.0f} tokens are left by max_repeats at most, after what is read before it; it wants {phase.spec.target.tokens:,}"
        raise SpecError(what, where=where, hint="lower a target's tokens, raise max_repeats, or add sources")


def used_of(reads: Sequence[Read], tokens: Mapping[str, int]) -> dict[str, int]:
    """Return leaf → how many of its `tokens` earlier phases have read.

    Of what was read from more documents than there are now (others are too short for this phase), these were their part.
    """
    used = dict.fromkeys(tokens, 0)
    for leaf, count, available in reads:
        if leaf in used:
            used[leaf] += round(count * min(1.0, tokens[leaf] / available))
    return used


def _steps(mixing: _Mixing, until: str) -> Manifest:
    name = mixing.setting.spec.name
    runs = _planned(mixing)
    _read_suites(mixing)
    mixing.say(f"mix {name}: {len(runs)} proxies of {mixing.setting.spec.proxy.tokens:,} tokens each")
    for note in baseline(mixing.setting)[1]:
        mixing.say(f"mix {name}: {note}")
    sequential = mixing.setting.spec.swarm.batch is not None
    rounds: list[tuple[list[flow.Run], Path]] = [(runs, mixing.folder / "swarm" / "1")]
    trained = _train(mixing, runs, rounds[0][1])
    if until == "train" and not sequential:
        return trained
    scored = _score(mixing, *rounds[0])
    while sequential and (runs := _next_round(mixing, rounds)):
        rounds.append((runs, mixing.folder / "swarm" / str(len(rounds) + 1)))
        trained, scored = _train(mixing, *rounds[-1]), _score(mixing, *rounds[-1])
    if until in ("train", "evaluate"):
        return trained if until == "train" else scored
    fit = _fit(mixing, rounds)
    if until == "fit":
        return fit
    proposal = _propose(mixing, fit)
    if until == "solve":
        return proposal
    return _confirm(mixing, rounds, proposal)


# ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _planned(mixing: _Mixing) -> list[flow.Run]:
    """Return the runs of the swarm, as its folder remembers them where nothing that they depend on has changed.

    Sobol's sequence imports scipy.stats, which takes longer than everything else of a run with nothing to do.
    """
    file = mixing.folder / "swarm" / "runs.json"
    asked = hash_of(mixing.setting, _solving_code())
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text("utf-8"))
        if isinstance(known, dict) and known.get("asked") == asked and "runs" in known:
            return list(known["runs"])
    runs = flow.plan_runs(mixing.setting)
    write_json(file, {"asked": asked, "runs": runs})
    return runs


def _read_suites(mixing: _Mixing) -> Manifest:
    """Read every suite once before anything is trained: hours later is no time to learn of a missing field."""
    code = code_version(*_SCORING, libraries=("tokenizers",))
    files = {name: [str(mixing.data.tokenizer), suite["file"]] for name, suite in mixing.data.suites.items()}
    work = [Work(name, files[name], [sha256_of(Path(file)) for file in files[name]], {"suite": _asked(mixing, name)}) for name in files]
    plan = make_plan("suites", f"{_TASKS}:suite_task", mixing.folder / "suites", {}, code, work)
    return complete(plan, mixing.context, source="mix", code=code)


def _asked(mixing: _Mixing, name: str) -> dict[str, Any]:
    """Return what of a suite's spec its scores depend on."""
    return {key: value for key, value in mixing.data.suites[name].items() if key not in ("file", "weight", "protect")}


def _train(mixing: _Mixing, runs: list[flow.Run], folder: Path) -> Manifest:
    """Train proxies, a group of them as one model."""
    data, code = mixing.data, code_version(*_TRAINING, libraries=("torch", "numpy", "tokenizers", "triton"))
    leaves = mixing.setting.leaves
    inputs = [str(data.tokenizer), *(str(path) for leaf in leaves for path in data.folders[leaf])]
    sums = [sha256_of(data.tokenizer), *(data.contents[leaf] for leaf in leaves)]
    sums += [sha256_of(Path(mixing.setting.start))] if mixing.setting.start is not None else []
    options = {"folders": {leaf: len(data.folders[leaf]) for leaf in leaves}}
    groups = grouped(runs, folder / "proxies", lambda count: _group_size(mixing, runs[0]["proxy"], count))
    work = [Work(group[0]["run"], inputs, sums, {"runs": group}) for group in groups]
    return complete(make_plan("train", f"{_TASKS}:train_task", folder / "proxies", options, code, work), mixing.context, source="mix", code=code)


def _score(mixing: _Mixing, runs: list[flow.Run], folder: Path) -> Manifest:
    """Score proxies on the suites, each apart; return the manifest of the first suite."""
    data, code = mixing.data, code_version(*_SCORING, libraries=("torch", "numpy", "tokenizers"))
    proxies = read_manifest(folder / "proxies")
    stages = []
    for name, suite in data.suites.items():
        options = {"suite": {name: _asked(mixing, name)}}
        files = [str(data.tokenizer), suite["file"]]
        sums = [sha256_of(Path(file)) for file in files]
        work = [
            Work(run["run"], [str(folder / "proxies" / f"{run['run']}.safetensors"), *files], [proxies.files[f"{run['run']}.safetensors"], *sums])
            for run in runs
        ]
        plan = make_plan("evaluate", f"{_TASKS}:score_task", folder / "scores" / name, options, code, work)
        stages.append(StagePlan(plan, "mix", code))
    return complete_all(stages, mixing.context)[0]


def _next_round(mixing: _Mixing, rounds: list[tuple[list[flow.Run], Path]]) -> list[flow.Run]:
    """Ask whether further runs would pay, and which; [] when they would not."""
    code = _solving_code()
    folder = mixing.folder / "swarm" / str(len(rounds) + 1) / "round"
    facts = mixing.facts | _about(mixing, rounds)
    plan = make_plan("round", f"{_TASKS}:round_task", folder, facts, code, [_following(mixing, "round", rounds)])
    complete(plan, mixing.context, source="mix", code=code)
    found = msgspec.json.decode((folder / "round.json").read_bytes())
    mixing.say(f"mix {mixing.setting.spec.name}: {found['why']}")
    runs: list[flow.Run] = found["runs"]
    return runs


def _fit(mixing: _Mixing, rounds: list[tuple[list[flow.Run], Path]]) -> Manifest:
    """Fit a law per suite, and put the tables together. Limits and weights of suites do not matter here, so changing them fits nothing again."""
    code, facts = _solving_code(), _about(mixing, rounds)
    work = [_following(mixing, suite, rounds, suite=suite) for suite in mixing.data.suites]
    laws = complete(make_plan("laws", f"{_TASKS}:law_task", mixing.folder / "laws", facts, code, work), mixing.context, source="mix", code=code)
    one = _following(mixing, "fit", rounds)
    one = msgspec.structs.replace(one, inputs=[str(mixing.folder / "laws"), *one.inputs], checksums=[*_sums(laws), *one.checksums])
    plan = make_plan("fit", f"{_TASKS}:fit_task", mixing.folder / "fit", facts | {"suites": sorted(mixing.data.suites)}, code, [one])
    return complete(plan, mixing.context, source="mix", code=code)


def _about(mixing: _Mixing, rounds: list[tuple[list[flow.Run], Path]]) -> dict[str, Any]:
    """Return what laws depend on beside the scores."""
    return {"law": mixing.setting.spec.law, "kept": mixing.setting.kept, "rounds": [runs for runs, _ in rounds]}


def _propose(mixing: _Mixing, fit: Manifest) -> Manifest:
    code = _solving_code()
    work = Work("proposal", [str(mixing.folder / "fit")], _sums(fit))
    plan = make_plan("solve", f"{_TASKS}:solve_task", mixing.folder / "proposal", mixing.facts | {"made_from": mixing.made_from}, code, [work])
    return complete(plan, mixing.context, source="mix", code=code)


def _confirm(mixing: _Mixing, rounds: list[tuple[list[flow.Run], Path]], proposal: Manifest) -> Manifest:
    spec, code = mixing.setting.spec, _solving_code()
    found = msgspec.json.decode((mixing.folder / "proposal" / "proposal.json").read_bytes())
    runs = flow.plan_confirm(mixing.setting, found, mixing.rivals)
    mixing.say(f"mix {spec.name}: confirming against {' and '.join(spec.confirm.rivals)} with {spec.confirm.seeds} fresh seeds each")
    folder = mixing.folder / "confirm"
    _train(mixing, runs, folder)
    _score(mixing, runs, folder)
    one = _following(mixing, "conclusion", [(runs, folder), *rounds])
    one = msgspec.structs.replace(one, inputs=[str(mixing.folder / "proposal"), *one.inputs], checksums=[*_sums(proposal), *one.checksums])
    facts = mixing.facts | {"made_from": mixing.made_from, "rounds": [runs for runs, _ in rounds], "confirm": runs}
    plan = make_plan("mix", f"{_TASKS}:conclude_task", mixing.folder, facts, code, [one])
    return complete(plan, mixing.context, source="mix", code=code)


def _following(mixing: _Mixing, name: str, rounds: list[tuple[list[flow.Run], Path]], suite: str | None = None) -> Work:
    """Return work that reads the proxies' reports and the scores of these rounds: of all suites, or of one."""
    inputs, sums = [], []
    for _, folder in rounds:
        inputs.append(str(folder))
        for part in ["proxies", *(f"scores/{one}" for one in ([suite] if suite else sorted(mixing.data.suites)))]:
            sums += _sums(read_manifest(folder / part))
    return Work(name, inputs, sums, {"suite": suite} if suite else {})


def _sums(manifest: Manifest) -> list[str]:
    return [hash_of([manifest.files, msgspec.to_builtins(manifest.notes)])]


def _solving_code() -> dict[str, str]:
    return code_version(*_SOLVING, libraries=("numpy", "scipy", "scikit-learn", "numba"))


# ── what the spec names ───────────────────────────────────────────────────────────────────────────────────────────


def kept_by(spec: Mix, spec_file: Path, data: Data) -> dict[str, float]:
    """Return the ratios that `reuse` keeps: leaf → its share of the block; {} without."""
    if spec.reuse is None:
        return {}
    return reused(read_solved(resolve(spec.reuse, root_of(spec_file), spec_file.resolve().parent)), data.contents)


def rivals_of(spec: Mix, spec_file: Path, leaves: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the weights of the rivals that are solved mixes. Raises SpecError for one of other sources than the `leaves` of the mix."""
    found = {}
    for name, path in zip(spec.confirm.rivals, spec.confirm.against, strict=True):
        if name != path:
            solved = read_solved(resolve(path, root_of(spec_file), spec_file.resolve().parent))
            found[name] = {leaf: source.weight for leaf, source in solved.weights.items()}
    _check_rivals(found, leaves, str(spec_file))
    return found


def _check_rivals(rivals: Mapping[str, Mapping[str, float]], leaves: Sequence[str], where: str) -> None:
    for name, weights in rivals.items():
        if set(weights) != set(leaves):
            what = f"the rival '{name}' is a mix of {', '.join(sorted(weights))}, not of {', '.join(sorted(leaves))}"
            raise SpecError(what, where=where, hint="confirm.against compares mixes of the same sources, in every phase: leave it out")


def _made_from(spec: Mix, spec_file: Path, data: Data) -> dict[str, str]:
    """Return what a solved mix came from: what → hash."""
    found = {"spec": hash_of(resolved(spec)), "tokenizer": hash_of(sha256_of(data.tokenizer))}
    found |= {f"tokens/{leaf}": hash_of(content) for leaf, content in sorted(data.contents.items())}
    found |= {f"evals/{name}": hash_of(sha256_of(Path(suite["file"]))) for name, suite in sorted(data.suites.items())}
    if spec.reuse is not None:
        found["reuse"] = hash_of(sha256_of(resolve(spec.reuse, root_of(spec_file), spec_file.resolve().parent)))
    return found


# ── groups of proxies ─────────────────────────────────────────────────────────────────────────────────────────────


def grouped(runs: list[flow.Run], folder: Path, size_for: Callable[[int], int]) -> list[list[flow.Run]]:
    """Return the runs in the groups that are trained as one model each, of about equal sizes.

    A group that was trained in `folder` before stays one as long as its runs are wanted as they were, so that runs that a spec adds do not
    train earlier ones again. `size_for` returns the size of groups, given how many runs are left.
    """
    wanted = {run["run"]: run for run in runs}
    groups = []
    for group in _trained(folder):
        if all(wanted.get(run["run"]) == run for run in group):
            groups.append([wanted.pop(run["run"]) for run in group])
    left = list(wanted.values())
    if left:
        count = -(-len(left) // size_for(len(left)))
        edges = [len(left) * i // count for i in range(count + 1)]
        groups += [left[begin:end] for begin, end in itertools.pairwise(edges)]
    return groups


def _trained(folder: Path) -> list[list[flow.Run]]:
    """Return the groups of an earlier plan that left something: what was trained, or a checkpoint on the way."""
    try:
        plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
    except (FileNotFoundError, msgspec.DecodeError):
        return []
    there = [task for task in plan.tasks if finished(folder, task) or (folder / "checkpoints" / f"{task.name}.pt").is_file()]
    return [task.options["runs"] for task in there]


def _group_size(mixing: _Mixing, proxy: Mapping[str, Any], count: int) -> int:
    """Return how many of `count` proxies are trained as one model: one on CPUs; on GPUs what a short measurement says, but all GPUs have work."""
    if mixing.setting.spec.swarm.group is not None:
        return mixing.setting.spec.swarm.group
    gpus = num_gpus()
    if not gpus:
        return 1
    from curate.mix.throughput import choose_group_size, claimed
    from curate.tokens.tokenizer import Encoder

    shape = {**proxy, "vocab": Encoder.open(mixing.data.tokenizer).vocab_size}
    with claimed() as where:
        return max(1, min(choose_group_size(shape, where), -(-count // gpus)))


def num_gpus() -> int:
    """Return how many GPUs this process may use, without PyTorch, whose import would take longer than a rerun with nothing to do."""
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(there)))).split(",")
    return min(there, len(list(itertools.takewhile(lambda name: name.strip() not in ("", "-1"), names))))  # what follows such a name is not seen
