"""Swarms that were trained elsewhere: `ratios.csv` and `metrics.csv`, joined by run id.

The first column of both is the run id, the rest are sources and suites (olmix and RegMix publish their swarms so). Rows may come in any order;
a run that only one file has is an error that names it, since a join by position gives wrong mixes silently.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix.law import SuiteLaw

Array = NDArray[np.float64]
SUM_TOLERANCE = 1e-3  # published ratios are rounded
EXACT = 1e-12  # sums of a row that differ from one by less are one
FEW_DIGITS = 3  # to which some are rounded: then each may be off by half a unit of the last
MOST_ROUNDING = 0.01  # that the sum of a row may be off for it
NO_VALUE = "write the number (0 for a source that it had nothing of), or take the run out of both files, or a suite out of its file"


class Swarm(msgspec.Struct, frozen=True):
    """Runs, joined: `mixes` [runs, sources], `scores` suite → [runs]."""

    runs: list[str]
    sources: list[str]
    mixes: Array
    scores: dict[str, Array]


def read_swarm(ratios: Path, metrics: Path) -> Swarm:
    """Read and join the two files. Sources and runs come out sorted by name.

    Raises InputError with file and line for what is not a number, ratios that do not add up to one, and run ids that do not match.
    """
    runs, sources, mixes = read_ratios(ratios)
    suites, scored, values = _read(metrics)
    missing, extra = sorted(set(runs) - set(scored)), sorted(set(scored) - set(runs))
    if missing or extra:
        parts = [
            f"{_some(names)} {'is' if len(names) == 1 else 'are'} not in {file}" for names, file in ((missing, metrics), (extra, ratios)) if names
        ]
        raise InputError(
            f"the run ids do not match: {'; '.join(parts)}", where=f"{ratios}, {metrics}", hint="the first column of both files is the run id"
        )
    row = {run: i for i, run in enumerate(scored)}
    order = [row[run] for run in runs]
    return Swarm(runs, sources, mixes, {suite: values[order, i] for i, suite in enumerate(suites)})


def read_ratios(path: Path, sources: list[str] | None = None) -> tuple[list[str], list[str], Array]:
    """Return runs (sorted), sources (sorted, or as given) and shares [runs, sources], each row adding up to one.

    A table that was written from what this returned is read as the same numbers.
    """
    names, lines, values = _read(path)
    runs = list(lines)
    wanted = sorted(names) if sources is None else sources
    if set(names) != set(wanted):
        raise InputError(f"its sources are {', '.join(sorted(names))}; the laws know {', '.join(wanted)}", where=str(path))
    for i, (run, line) in enumerate(lines.items()):
        total = values[i].sum()
        rounded = bool(np.abs(values[i] - np.round(values[i], FEW_DIGITS)).max(initial=0.0) < 1e-9)
        room = min(0.5 * 10.0**-FEW_DIGITS * int((values[i] > 0).sum()), MOST_ROUNDING)
        tolerance = max(SUM_TOLERANCE, room if rounded else 0.0) + 1e-9
        if (values[i] < 0).any() or abs(total - 1) > tolerance:
            what = "a ratio is negative" if (values[i] < 0).any() else f"the ratios add up to {total:.6g}, not to 1"
            percent = "; they look like percent: divide them by 100" if abs(total - 100) <= 100 * MOST_ROUNDING else ""
            raise InputError(what, where=f"{path}:{line}", hint=f"run {run}{percent}")
    order = sorted(range(len(runs)), key=lambda i: runs[i])
    columns = [names.index(name) for name in wanted]
    mixes = values[np.ix_(order, columns)]
    total = mixes.sum(1, keepdims=True)
    return [runs[i] for i in order], wanted, mixes / np.where(np.abs(total - 1) < EXACT, 1.0, total)


def _read(path: Path) -> tuple[list[str], dict[str, int], Array]:
    """Return the columns but the first, the run ids with their lines, and the numbers."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"is not CSV: {error}", where=str(path)) from error
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if rows and len(rows[0]) == 1 and mark in rows[0][0]:
            raise InputError(f"its fields are separated by {name}, not by commas", where=f"{path}:1", hint="save it with commas")
    if len(rows) < 2 or len(rows[0]) < 2:
        raise InputError("needs a header, a column of run ids, and numbers", where=str(path))
    head = [name.strip() for name in rows[0][1:]]
    if len(set(head)) != len(head) or not all(head):
        raise InputError("two columns have the same name, or one has none", where=f"{path}:1")
    runs: dict[str, int] = {}
    numbers = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(head) + 1:
            hint = f"run {row[0]}: write what is missing; a name with a comma stands in double quotes, a number has a point"
            raise InputError(f"has {len(row)} fields, the header has {len(head) + 1}", where=f"{path}:{line}", hint=hint)
        run = row[0].strip()
        if not run:
            hint = "write the id that the run has in the other file, or take the line out"
            raise InputError(f"the run id is missing: column '{rows[0][0]}', the first one, is empty", where=f"{path}:{line}", hint=hint)
        if run in runs:
            raise InputError(f"run '{run}' stands twice", where=f"{path}:{line}", hint=f"first on line {runs[run]}")
        runs[run] = line
        numbers.append([_number(text, run, name, f"{path}:{line}") for text, name in zip(row[1:], head, strict=True)])
    return head, runs, np.array(numbers, np.float64)


def _number(text: str, run: str, column: str, where: str) -> float:
    hint = f"run {run}: {NO_VALUE}"
    if not text.strip():
        raise InputError(f"the value in column '{column}' is missing", where=where, hint=hint)
    try:
        value = float(text)
    except ValueError as error:
        hint = "0.125 says 12.5 %" if text.strip().endswith("%") else hint
        raise InputError(f"'{text[:40]}' in column '{column}' is not a number", where=where, hint=hint) from error
    if not np.isfinite(value):
        raise InputError(f"'{text}' in column '{column}' is not finite", where=where, hint=hint)
    return value


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def predictions_csv(laws: Mapping[str, SuiteLaw], runs: list[str], mixes: Array) -> str:
    """Return the text of predictions.csv: run, suite, mean, low, high (90 % interval)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "suite", "mean", "low", "high"])
    predicted = {suite: laws[suite].predict(mixes) for suite in sorted(laws)}
    for i, run in enumerate(runs):
        for suite, columns in predicted.items():
            writer.writerow([run, suite, *(f"{column[i]:.6f}" for column in columns)])
    return out.getvalue()
