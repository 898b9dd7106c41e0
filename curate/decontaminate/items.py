"""Benchmark files → items with channels. Every row becomes an item, or is named with the reason why it did not.

A channel is a part of an item that is looked for by itself: question, choices, answer, solution, passage, code; see `formats`
for how they are recognized, `rows` for the kinds of files, and `hub` for data sets of the Hugging Face hub.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.decontaminate.formats import CHANNELS, channels_of, opened
from curate.decontaminate.rows import read_rows
from curate.errors import InputError
from curate.specs.benchmarks import Benchmark

__all__ = ["CHANNELS", "BadLine", "Item", "Items", "files_of", "read_benchmarks"]


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark item. `channels` maps channel names to texts, `choices` has the options one by one.

    `task` and `position` are how lm-evaluation-harness calls it: its task, and its number in the task's split, from 0.
    """

    benchmark: str
    id: str
    place: str  # file:line
    channels: dict[str, str]
    choices: list[str] = field(default_factory=list)
    task: str = ""
    position: int = -1


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not an item, and why."""

    benchmark: str
    place: str
    reason: str


@dataclass(slots=True)
class Items:
    """All items of some benchmarks; `renamed` lists ids that stood twice, as (benchmark, id, place)."""

    items: list[Item] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    renamed: list[tuple[str, str, str]] = field(default_factory=list)
    canaries: list[tuple[str, str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # items per benchmark, zero included


def read_benchmarks(benchmarks: dict[str, Benchmark], root: Path, files: dict[str, list[Path]] | None = None) -> Items:
    """Read the files of `benchmarks`, relative to `root`, in order of name and line; `files` has them if they are known already.

    Raises InputError when a file is missing or unreadable, or when no benchmark has an item. A single bad line, an
    empty benchmark or an id that stands twice is recorded, not raised.
    """
    result = Items()
    for name, benchmark in benchmarks.items():
        before = len(result.items)
        _read(name, benchmark, root, files_of(name, benchmark, root) if files is None else files[name], result)
        result.sizes[name] = len(result.items) - before
        result.canaries += [(name, canary) for canary in benchmark.canaries]
    if not result.items and not result.canaries:
        first = f": {result.bad[0].place} {result.bad[0].reason}" if result.bad else ""
        raise InputError(
            f"no benchmark item could be read{first}", where=", ".join(benchmarks), hint="each line must be a JSON object with a question"
        )
    return result


def _read(name: str, benchmark: Benchmark, root: Path, files: list[Path], result: Items) -> None:
    """Append the items of one benchmark to `result`."""
    seen: dict[str, int] = {}
    positions: Counter[str] = Counter()
    number = 0
    for path in files:
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        for line, row in read_rows(path, benchmark.fields):
            place = f"{shown}:{line}"
            task = _task(name, benchmark, row) if isinstance(row, dict) else benchmark.task or name
            position = _position(row, positions[task])
            positions[task] += 1
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                own, channels, choices = channels_of(row, benchmark.fields)
            except (ValueError, RecursionError) as error:
                result.bad.append(BadLine(name, place, str(error)))
                continue
            own = str(number) if own is None else own
            number += 1
            if own in seen:
                result.renamed.append((name, own, place))
                seen[own] += 1
                while f"{own}#{seen[own]}" in seen:
                    seen[own] += 1
                own = f"{own}#{seen[own]}"
            seen.setdefault(own, 1)
            result.items.append(Item(name, own, place, channels, choices, task, position))


def _task(name: str, benchmark: Benchmark, row: dict[str, Any]) -> str:
    """Return the row's task: the benchmark's, with {field} replaced by what the row has there."""
    fields = opened(row)
    return re.sub(r"\{(\w+)\}", lambda m: str(fields.get(m[1], "")), benchmark.task or name)


def _position(row: Any, counted: int) -> int:
    """Return a row's number in its task's split: as a sample file says, or as counted."""
    told = row.get("doc_id") if isinstance(row, dict) and isinstance(row.get("doc"), dict) else None
    return told if isinstance(told, int) and not isinstance(told, bool) else counted


def files_of(name: str, benchmark: Benchmark, root: Path) -> list[Path]:
    """Return the files of a benchmark, sorted within each pattern. Raises InputError when a pattern finds none."""
    if benchmark.hub is not None:
        from curate.decontaminate.hub import files_of_dataset

        return files_of_dataset(name, benchmark, root)
    found: list[Path] = []
    for pattern in benchmark.patterns():
        paths = sorted(Path(p) for p in glob.glob(str(Path(glob.escape(str(root))) / pattern), recursive=True))
        if not paths:
            raise InputError(f"the file of benchmark '{name}' does not exist", where=str(root / pattern), hint="see `file` in the benchmarks spec")
        found += paths
    return list(dict.fromkeys(found))
