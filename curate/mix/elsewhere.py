"""Swarms that were trained elsewhere: from two tables to laws, and from these to a mix, with a spec or without one.

Without a spec nothing is known but the tables: all suites count the same, nothing limits a share, and what is *natural* is the run of that name,
or else the mean of the swarm, around which swarms are usually drawn. Gains are told against that mean, but the proposal is not drawn to it:
the means of two swarms of 64 runs differ in a seventh of their tokens, and proposals would follow (docs/decisions.md). The uniform mix is
the anchor then. With a spec, its weights, limits and target hold, and `tokens` of each source says how much there is of it, where no
folder is there to be counted.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.corpus import read_manifest
from curate.engine import Context, Work, complete, make_plan
from curate.errors import InputError, SpecError
from curate.mix import flow
from curate.mix.conclude import unconfirmed
from curate.mix.data import count, folders_of, leaves, sources_of, traits_of
from curate.mix.doubts import doubts, refuse_undetermined
from curate.mix.fitted import FILES, LAWS, RATIOS, STORED, Fitted, edited, is_fit, laws_in, read_fit, says, tables_of, write_fit
from curate.mix.law import SuiteLaw, check
from curate.mix.limits import limits_of
from curate.mix.setting import Setting
from curate.mix.solve import Problem
from curate.mix.stored import gather_laws, laws_code, read_laws
from curate.mix.table import Swarm, read_ratios, read_swarm
from curate.specs.load import load_spec, nearest, resolved
from curate.specs.mix import Constraints, Mix, SolvedMix, TableMix
from curate.tasks import hash_of

Array = NDArray[np.float64]
FITTING = ".fitting"  # the folder of a fit that is not complete
NATURAL = "natural"  # the run that, when there is one, is the natural mix
AVERAGE = "mean of all runs"  # which stands for the natural mix where there is none
MEAN = (
    "no run is called natural: gains are over the mean of all runs, and the proposal is drawn to the uniform mix a little; "
    "a spec says what there is of each source"
)


def solve_fit(folder: Path, spec_file: Path | None) -> tuple[dict[str, Any], SolvedMix | None]:
    """Solve from the fit in `folder`: return the proposal (as curate.mix.flow.recommend has it) and, with a spec, the solved mix.

    Raises SpecError for a spec that does not fit.
    """
    fitted = read_fit(folder)
    refuse_undetermined(fitted.swarm, str(folder / RATIOS))
    if spec_file is None:
        laws = laws_in(folder, fitted, fitted.swarm)
        proposal = flow.recommend(_bare(fitted.swarm, laws), fitted.swarm, _asked(fitted, laws))
        notes = [*_edits(fitted, laws), *doubts(fitted.swarm)]
        return _over_mean(proposal, notes) if NATURAL not in fitted.swarm.runs else proposal | {"warnings": [*proposal["warnings"], *notes]}, None
    setting = setting_of(fitted, spec_file)
    swarm = msgspec.structs.replace(fitted.swarm, scores={suite: fitted.swarm.scores[suite] for suite in setting.spec.suites})
    laws = laws_in(folder, fitted, swarm)
    proposal = flow.recommend(flow.problem_of(setting, swarm, laws), swarm, _asked(fitted, laws), setting)
    proposal["warnings"] += [*_edits(fitted, laws), *_other_law(setting.spec, _asked(fitted, laws)), *doubts(swarm)]
    made_from = {"spec": hash_of(resolved(setting.spec)), "swarm": hash_of([fitted.swarm.runs, fitted.swarm.mixes.tolist(), fitted.laws])}
    return proposal, unconfirmed(setting, proposal, made_from)


def _asked(fitted: Fitted, laws: Mapping[str, SuiteLaw]) -> str:
    return str(fitted.laws[next(iter(laws))]["asked"])  # of all suites of a fit


def _over_mean(proposal: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return a proposal whose `natural` is the mean of all runs, which it says."""
    warnings = [warning.replace("the natural mix", f"the {AVERAGE}") for warning in proposal["warnings"]]
    return proposal | {"baseline": AVERAGE, "warnings": [*warnings, *notes, MEAN]}


def _other_law(spec: Mix, asked: str) -> list[str]:
    if spec.law in ("auto", asked):
        return []
    return [f"the laws are those of the fit ({asked}), not of the spec ({spec.law}): `curate mix fit --law {spec.law}` fits them"]


def _edits(fitted: Fitted, laws: Mapping[str, SuiteLaw]) -> list[str]:
    changed, code = [suite for suite in laws if edited(fitted, suite)], laws_code()
    older = [suite for suite in laws if suite not in changed and fitted.laws[suite].get("code") != code]
    notes = [f"the tables were edited since the fit: the laws of {', '.join(changed)} were fitted again"] if changed else []
    return notes + ([f"another version of curate fitted the laws of {', '.join(older)}: they were fitted again"] if older else [])


def fit_tables(swarm: Swarm, law: str, predicted: tuple[list[str], Array] | None, folder: Path, context: Context) -> None:
    """Fit laws to a swarm, a task per suite, and write the fit into `folder`. A law that is stored there and is the same is not fitted again.

    `predicted`: the runs and mixes to predict; else the swarm's. Until the fit is complete, finished suites lie in FITTING, where a run that was
    killed finds them.
    """
    laws = read_laws(folder / STORED, swarm.mixes, swarm.scores, law)
    missing = {suite: hash_of(suite) for suite in sorted(swarm.scores) if suite not in laws}
    if missing:
        part = folder / FITTING
        part.mkdir(exist_ok=True)
        (part / "swarm.json").write_bytes(msgspec.json.encode([swarm.runs, swarm.sources, swarm.mixes.tolist(), _lists(swarm.scores)]))
        sums = hash_of([swarm.runs, swarm.sources, swarm.mixes.tolist()])
        work = [Work(name, [str(part)], [sums, hash_of(swarm.scores[suite].tolist())], {"suite": suite}) for suite, name in missing.items()]
        code = {"laws": laws_code()}
        complete(make_plan("laws", "curate.mix.tasks:table_task", part / "laws", {"law": law}, code, work), context, source="fit", code=code)
        laws |= gather_laws({suite: part / "laws" / f"{name}.npz" for suite, name in missing.items()}, swarm.mixes, swarm.scores)
    write_fit({name: folder / name for name in FILES}, swarm, laws, law, predicted)
    shutil.rmtree(folder / FITTING, ignore_errors=True)


def _lists(scores: Mapping[str, Array]) -> dict[str, list[float]]:
    return {suite: values.tolist() for suite, values in scores.items()}


def read_tables(ratios: Path, metrics: Path, predict: Path | None) -> tuple[Swarm, tuple[list[str], Array] | None]:
    """Return the swarm in two tables, and the runs and mixes of a third. Raises InputError for what no law could be fitted to."""
    swarm = read_swarm(ratios, metrics)
    refuse_undetermined(swarm, str(ratios))
    for suite, scores in sorted(swarm.scores.items()):
        check(suite, swarm.mixes, scores)
    if predict is None:
        return swarm, None
    runs, _, mixes = read_ratios(predict, swarm.sources)
    return swarm, (runs, mixes)


def refuse_overwriting(folder: Path, swarm: Swarm, inputs: Sequence[Path]) -> None:
    """Raise InputError where a fit of `swarm` in `folder` would change a file of the user's: one of its `inputs`, or one that no fit wrote."""
    texts, is_ours = tables_of(swarm), (folder / FITTING).exists() or is_fit(folder)
    if is_ours and (folder / LAWS).exists():
        _refuse_edited(folder, texts)
    for name in FILES:
        path = folder / name
        is_input = any(given.exists() and path.exists() and given.samefile(path) for given in inputs)
        if path.exists() and (is_input or not is_ours) and not says(path, texts.get(name, "")):
            what = "is one of the tables to be fitted, and would be written over" if is_input else "is in the way: no fit wrote it"
            raise InputError(what, where=str(path), hint="choose another --output, such as a folder that is not there yet")


def _refuse_edited(folder: Path, texts: Mapping[str, str]) -> None:
    """Raise InputError where the tables of a fit were edited since, and would be written over with other numbers."""
    try:
        fitted = read_fit(folder)
    except InputError:
        return  # of another version, or half of one: nothing tells whether they were
    changed = [name for name, text in texts.items() if not says(folder / name, text)]
    if changed and any(edited(fitted, suite) for suite in fitted.laws):
        hint = f"`curate mix solve --fit {folder}` fits what it says; or choose another --output"
        raise InputError("was edited since the fit, and would be written over", where=str(folder / changed[0]), hint=hint)


def _bare(swarm: Swarm, laws: dict[str, SuiteLaw]) -> Problem:
    is_known = NATURAL in swarm.runs
    natural = np.maximum(swarm.mixes[swarm.runs.index(NATURAL)] if is_known else swarm.mixes.mean(0), 1e-6)
    return Problem(
        names=swarm.sources,
        mixes=swarm.mixes,
        scores=swarm.scores,
        laws=laws,
        importance=dict.fromkeys(laws, 1.0),
        natural=natural / natural.sum(),
        limits=limits_of(Constraints(), dict.fromkeys(swarm.sources, 1), None),
        pull=Constraints().natural_pull,
        anchor=None if is_known else np.full(len(swarm.sources), 1 / len(swarm.sources)),
    )


def setting_of(fitted: Fitted, spec_file: Path) -> Setting:
    """Return the setting of a spec for a swarm that was trained elsewhere."""
    spec = load_spec(spec_file, TableMix)
    for key in ("reuse", "phases"):
        if getattr(spec, key):
            what = f"`{key}` needs proxies that are trained here; from tables nothing follows of it"
            raise SpecError(what, where=f"{spec_file}: {key}", hint="leave it out, or `curate mix solve SPEC` without --fit")
    tokens = _tokens(spec, spec_file)
    if set(tokens) != set(fitted.swarm.sources):
        sides = {"spec": set(tokens) - set(fitted.swarm.sources), "swarm": set(fitted.swarm.sources) - set(tokens)}
        differ = "; ".join(f"only the {side} has {', '.join(sorted(names))}" for side, names in sides.items() if names)
        raise SpecError(f"the spec and the swarm do not have the same sources: {differ}", where=f"{spec_file}: sources")
    for suite in spec.suites:
        if suite not in fitted.laws:
            raise SpecError(f"no law was fitted for the suite '{suite}'", where=f"{spec_file}: evals", hint=nearest(suite, list(fitted.laws)))
    return Setting(spec, tokens, traits_of(spec, tokens))


def _tokens(spec: Mix, spec_file: Path) -> dict[str, int]:
    """Return leaf → tokens: as typed, or counted in its folders."""
    where = f"{spec_file}: sources"
    if not isinstance(spec.sources, dict):
        raise SpecError(
            "outside of a workflow a mix says how much there is of each source", where=where, hint="sources: {web: {tokens: 5_000_000_000}}"
        )
    sources = sources_of(spec, [])
    named = leaves(spec, list(sources))
    found = {}
    for leaf in [leaf for leaf, patterns in named.items() if patterns is None]:
        typed = sources[leaf].tokens
        if typed is None:
            raise SpecError("how much is there of it?", where=f"{where}.{leaf}", hint="tokens: NUMBER, or shards: FOLDER")
        found[leaf] = typed
    here = {leaf: patterns for leaf, patterns in named.items() if patterns is not None}
    found |= count({leaf: [read_manifest(folder) for folder in folders] for leaf, folders in folders_of(here, {}, spec_file).items()})
    return dict(sorted(found.items()))
