"""Collect what the report shows from the files of a run: manifests, dropped documents, the classifier's card, matches, the mix.

Whatever a run does not have is None, and its section is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from curate.funnel import funnel, open_run, reasons
from curate.report import mixing, sections
from curate.report.samples import samples
from curate.workflow import Stage


def collect(run: Path) -> dict[str, Any]:
    """Return what the template needs."""
    state = open_run(run)
    rows = funnel(run)
    sources = []
    for source in dict.fromkeys(row.source for row in rows):
        own = [row for row in rows if row.source == source and row.complete]
        if own:
            widest = max(row.kept_tokens + sum(row.dropped_tokens.values()) for row in own) or 1
            sources.append({"name": source, "rows": own, "widest": widest})
    return {
        "name": state.name,
        "description": state.spec.get("description", ""),
        "finished": state.finished,
        "messages": state.messages,
        "sources": sources,
        "reasons": reasons(rows),
        "totals": _totals(sources),
        "samples": samples(run, state.stages),
        "classifiers": _sections(run, state.stages, "classify", sections.classifier),
        "decontaminations": _sections(run, state.stages, "decontaminate", sections.decontamination),
        "mix": mixing.mix(run / "mix") if state.spec.get("mix") is not None else None,  # or it is of an earlier spec
        "spec": msgspec.json.format(msgspec.json.encode(_explicit(state.spec)), indent=2).decode(),
    }


def _sections(run: Path, stages: list[Stage], kind: str, section: Callable[[Path], dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Return the section of each step of a kind over all sources, with the name of the step's folder as `stage`."""
    names = dict.fromkeys(Path(stage.folder).name for stage in stages if stage.kind == kind)
    found = {name: section(run / "together" / name) for name in names}
    return [one | {"stage": name} for name, one in found.items() if one is not None]


def _totals(sources: list[dict[str, Any]]) -> dict[str, int]:
    """Return the documents that were read, that a model made of them (`created`), and that were kept, over all sources."""
    totals = {"entered": 0, "created": 0, "kept": 0, "kept_tokens": 0, "errored": 0}
    for source in sources:
        first, last = source["rows"][0], source["rows"][-1]
        totals["entered"] += first.ledger.entered
        totals["created"] += first.ledger.created
        totals["kept"] += last.ledger.kept
        totals["kept_tokens"] += last.kept_tokens
        totals["errored"] += sum(row.ledger.errored for row in source["rows"])
    return totals


def _explicit(value: Any) -> Any:
    """Leave out what is null, for reading."""
    if isinstance(value, dict):
        return {key: _explicit(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_explicit(inner) for inner in value]
    return value
