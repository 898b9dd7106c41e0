"""A fitted swarm on disk: what `curate mix fit` writes and `curate mix solve` reads, whoever trained the swarm.

    ratios.csv        run, then the share of each source
    metrics.csv       run, then the bits per byte of each suite
    predictions.csv   run, suite, mean, low, high (90 % interval)
    laws.json         per suite: which law was asked for, which it is, why, its errors, and the noise
    laws.npz          the laws themselves, so that solving need not fit them again (curate.mix.stored)

The tables are the truth, which people can read, plot and edit: a law whose numbers changed, or that is missing, is fitted again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix.law import SuiteLaw, choose_law
from curate.mix.stored import holds_laws, laws_code, read_laws, write_laws
from curate.mix.table import Swarm, predictions_csv, read_swarm
from curate.mix.threads import one_thread
from curate.tasks import hash_of

Array = NDArray[np.float64]
RATIOS, METRICS, PREDICTIONS, LAWS, STORED = "ratios.csv", "metrics.csv", "predictions.csv", "laws.json", "laws.npz"
FILES = (RATIOS, METRICS, PREDICTIONS, LAWS, STORED)


class Fitted(msgspec.Struct, frozen=True):
    """A swarm and what was found out about it: suite → asked, ratios (their hash), code (its hash), law, why, errors, noise, measured, left_out."""

    swarm: Swarm
    laws: dict[str, dict[str, Any]]


def facts_of(law: SuiteLaw, scores: Array, asked: str) -> dict[str, Any]:
    """Return what is told of a law; `left_out` is what it predicts for each run when that run is left out."""
    return {
        "asked": asked,
        "law": law.full.kind,
        "why": law.why,
        "errors": law.errors,
        "noise": law.noise,
        "measured": scores.tolist(),
        "left_out": (scores - law.residuals).tolist(),
    }


@one_thread()
def write_fit(
    files: Mapping[str, Path], swarm: Swarm, laws: Mapping[str, SuiteLaw], asked: str, predicted: tuple[list[str], Array] | None = None
) -> None:
    """Write the files of a fit: `files` says where each of FILES goes, `predicted` what runs and mixes to predict (default: the swarm's).

    laws.json, without which there is no fit, goes first and comes last: a fit is never half of an older one.
    """
    suites = sorted(swarm.scores)
    runs, mixes = predicted or (swarm.runs, next(iter(laws.values())).mixes)
    texts = tables_of(swarm) | {PREDICTIONS: predictions_csv(laws, runs, mixes)}
    common = {"ratios": hash_of(swarm.mixes.tolist()), "code": laws_code()}
    facts = json.dumps({suite: facts_of(laws[suite], swarm.scores[suite], asked) | common for suite in suites}, indent=1) + "\n"
    files[LAWS].unlink(missing_ok=True)
    for name, text in texts.items():
        if not says(files[name], text):  # a table may be the only copy of what a user wrote
            files[name].write_text(text, encoding="utf-8")
    write_laws(files[STORED], laws, swarm.scores, asked)
    files[LAWS].write_text(facts, encoding="utf-8")


def tables_of(swarm: Swarm) -> dict[str, str]:
    """Return the texts of ratios.csv and metrics.csv."""
    suites = sorted(swarm.scores)
    return {
        RATIOS: _csv(["run", *swarm.sources], swarm.runs, swarm.mixes.T),
        METRICS: _csv(["run", *suites], swarm.runs, [swarm.scores[suite] for suite in suites]),
    }


def says(path: Path, text: str) -> bool:
    """Say whether the file is there and holds this text."""
    return path.is_file() and path.read_bytes() == text.encode()


def _csv(head: list[str], runs: Sequence[str], columns: Sequence[Array] | Array) -> str:
    """Return a table whose numbers read back as they are."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for i, run in enumerate(runs):
        writer.writerow([run, *(repr(float(column[i])) for column in columns)])
    return out.getvalue()


def read_fit(folder: Path) -> Fitted:
    """Read what `write_fit` wrote. Raises InputError when it is not there, or its files do not belong together."""
    path = folder / LAWS
    try:
        laws = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except FileNotFoundError as error:
        raise InputError("no fitted laws", where=str(folder), hint="name the --output of `curate mix fit`, or DIR/fit of a mix") from error
    except msgspec.DecodeError as error:
        raise InputError(f"is not the record of fitted laws: {error}", where=str(path)) from error
    if not all({"asked", "ratios"} <= set(facts) for facts in laws.values()):
        raise InputError("was written by an older version", where=str(path), hint="run `curate mix fit` again")
    swarm = read_swarm(folder / RATIOS, folder / METRICS)
    if set(laws) != set(swarm.scores):
        differ = ", ".join(sorted(set(laws) ^ set(swarm.scores)))
        raise InputError(f"laws.json and metrics.csv do not have the same suites: {differ}", where=str(folder), hint="run `curate mix fit` again")
    return Fitted(swarm, laws)


def fit_swarm(swarm: Swarm, law: str, noise: Mapping[str, float | None] = {}) -> dict[str, SuiteLaw]:
    """Return suite → its law. `noise`: the standard deviation of a repeated run, where it was measured."""
    return {suite: choose_law(suite, swarm.mixes, scores, law, noise.get(suite)) for suite, scores in sorted(swarm.scores.items())}


def laws_in(folder: Path, fitted: Fitted, swarm: Swarm) -> dict[str, SuiteLaw]:
    """Return suite → its law, for the suites of `swarm`, whose shares are those that the laws are of: as it is stored, or else fitted again.

    Where the numbers or the code are not those of the fit, the law is chosen anew, as it was asked for.
    """
    stored, code = read_laws(folder / STORED, swarm.mixes, swarm.scores), laws_code()
    found = {}
    for suite, scores in sorted(swarm.scores.items()):
        facts = fitted.laws[suite]
        law = stored.get(suite)
        if law is None or (law.full.kind, law.noise) != (facts["law"], facts["noise"]):
            law = choose_law(suite, swarm.mixes, scores, facts["asked"], facts["noise"])
        if law.full.kind != facts["law"] and facts.get("code") == code and not edited(fitted, suite):  # somebody wrote another one into laws.json
            law = choose_law(suite, swarm.mixes, scores, facts["law"], facts["noise"])
        found[suite] = law
    return found


def is_fit(folder: Path) -> bool:
    """Say whether a fit, of whatever version, has written into the folder: it has a record of laws, or laws."""
    try:
        laws = msgspec.json.decode((folder / LAWS).read_bytes(), type=dict[str, dict[str, Any]])
        return bool(laws) and all({"law", "measured"} <= set(facts) for facts in laws.values())
    except FileNotFoundError:
        return holds_laws(folder / STORED)  # a fit that was killed while it wrote
    except msgspec.DecodeError:
        return False


def edited(fitted: Fitted, suite: str) -> bool:
    """Say whether the tables are not those that the law of `suite` was fitted to."""
    facts, swarm = fitted.laws[suite], fitted.swarm
    return bool(facts["measured"] != swarm.scores[suite].tolist() or facts["ratios"] != hash_of(swarm.mixes.tolist()))
