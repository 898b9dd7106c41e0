"""Swarms that were trained elsewhere: from two tables to laws, and from these to a mix, with a spec or without one.

Without a spec nothing is known but the tables: all suites count the same, nothing limits a share, and what is *natural* is the run of that name,
or else the mean of the swarm, around which swarms are usually drawn. Gains are told against that mean, but the proposal is not drawn to it:
the means of two swarms of 64 runs differ in a seventh of their tokens, and proposals would follow (docs/decisions.md). The uniform mix is
the anchor then. With a spec, its weights, limits and target hold, and `tokens` of each source says how much there is of it, where no
folder is there to be counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from curate.corpus import read_manifest
from curate.engine import Context, Work, complete, make_plan
from curate.errors import SpecError
from curate.mix import flow
from curate.mix.conclude import unconfirmed
from curate.mix.data import leaves, sources_of, traits_of
from curate.mix.fitted import FILES, Fitted, laws_in, read_fit, write_fit
from curate.mix.law import SuiteLaw
from curate.mix.limits import limits_of
from curate.mix.setting import Setting
from curate.mix.solve import Problem
from curate.mix.stored import gather_laws, laws_code
from curate.mix.table import Swarm, read_ratios, read_swarm
from curate.project import resolve, root_of
from curate.specs.load import load_spec, nearest, resolved
from curate.specs.mix import Constraints, Mix, SolvedMix
from curate.tasks import hash_of

NATURAL = "natural"  # the run that, when there is one, is the natural mix
MEAN = (
    "no run is called natural: gains are over the mean of all runs, and the proposal is drawn to the uniform mix a little; "
    "a spec says what there is of each source"
)


def solve_fit(folder: Path, spec_file: Path | None) -> tuple[dict[str, Any], SolvedMix | None]:
    """Solve from the fit in `folder`: return the proposal (as curate.mix.flow.recommend has it) and, with a spec, the solved mix.

    Raises SpecError for a spec that does not fit.
    """
    fitted = read_fit(folder)
    if spec_file is None:
        proposal = flow.recommend(_bare(fitted.swarm, laws_in(folder, fitted, fitted.swarm)), fitted)
        return proposal | {"warnings": [*proposal["warnings"], *([] if NATURAL in fitted.swarm.runs else [MEAN])]}, None
    setting = setting_of(fitted, spec_file)
    wanted = {suite: fitted.laws[suite] for suite in setting.spec.suites}
    narrow = Fitted(msgspec.structs.replace(fitted.swarm, scores={suite: fitted.swarm.scores[suite] for suite in wanted}), wanted)
    proposal = flow.recommend(flow.problem_of(setting, narrow.swarm, laws_in(folder, narrow, narrow.swarm)), narrow, setting)
    made_from = {"spec": hash_of(resolved(setting.spec)), "swarm": hash_of([fitted.swarm.runs, fitted.swarm.mixes.tolist(), fitted.laws])}
    return proposal, unconfirmed(setting, proposal, made_from)


def fit_tables(ratios: Path, metrics: Path, law: str, predict: Path | None, folder: Path, context: Context) -> None:
    """Fit laws to two CSV files, a task per suite, and write the fit into `folder`. What was fitted to the same tables is not fitted again.

    `predict`: the mixes to predict, CSV as `ratios`; else the runs themselves are predicted.
    """
    swarm = read_swarm(ratios, metrics)
    predicted = None
    if predict is not None:
        runs, _, mixes = read_ratios(predict, swarm.sources)
        predicted = runs, mixes
    suites, inputs = sorted(swarm.scores), [str(ratios.resolve()), str(metrics.resolve())]
    sums = [hash_of([swarm.runs, swarm.mixes.tolist()])]
    work = [Work(f"{i:03d}", inputs, [*sums, hash_of(swarm.scores[suite].tolist())], {"suite": suite}) for i, suite in enumerate(suites)]
    code = {"laws": laws_code()}
    complete(make_plan("laws", "curate.mix.tasks:table_task", folder / "laws", {"law": law}, code, work), context, source="mix", code=code)
    files = {suite: folder / "laws" / f"{one.name}.npz" for suite, one in zip(suites, work, strict=True)}
    laws = gather_laws(files, swarm.mixes, swarm.scores)
    write_fit({name: folder / name for name in FILES}, swarm, laws, predicted)


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
    spec = load_spec(spec_file, Mix)
    tokens = _tokens(spec, spec_file)
    if set(tokens) != set(fitted.swarm.sources):
        differ = ", ".join(sorted(set(tokens) ^ set(fitted.swarm.sources)))
        raise SpecError(f"the spec and the swarm do not have the same sources: {differ}", where=f"{spec_file}: sources")
    for suite in spec.suites:
        if suite not in fitted.laws:
            raise SpecError(f"no law was fitted for the suite '{suite}'", where=f"{spec_file}: evals", hint=nearest(suite, list(fitted.laws)))
    return Setting(spec, tokens, traits_of(spec, tokens))


def _tokens(spec: Mix, spec_file: Path) -> dict[str, int]:
    """Return leaf → tokens: as typed, or counted in its folders."""
    if not isinstance(spec.sources, dict):
        raise SpecError("outside of a workflow a mix says how much there is of each source", where="sources", hint="sources: {web: {tokens: 5e9}}")
    sources, root, beside = sources_of(spec, []), root_of(spec_file), spec_file.resolve().parent
    found = {}
    for leaf, folders in leaves(spec, list(sources)).items():
        typed = sources[leaf].tokens if leaf in sources else None
        if typed is not None:
            found[leaf] = typed
        elif folders is None:
            raise SpecError("how much is there of it?", where=f"sources.{leaf}", hint="tokens: NUMBER, or shards: FOLDER")
        else:
            notes = [note for folder in folders for note in read_manifest(resolve(folder, root, beside)).notes.values()]
            found[leaf] = sum(int(note.get("num_tokens", 0)) for note in notes)
    return dict(sorted(found.items()))
