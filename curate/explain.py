"""`curate explain`: the path of one document through every stage of a run: what was measured, what decided, by how much.

Reads the files that the stages wrote and nothing else, so it explains what happened and not what would happen now. A document is
named by its id, by the first digits of it, or by its URL.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from curate.errors import InputError
from curate.funnel import open_run
from curate.select import comparisons
from curate.tasks import Plan
from curate.workflow import Stage

SHOWN = 50  # documents of one URL


class Event(msgspec.Struct, omit_defaults=True):
    """What one stage did with the document."""

    stage: str
    outcome: str  # kept, measured, cut, dropped, failed, created
    reason: str = ""
    reasons: list[str] = []
    rules: list[dict[str, Any]] = []  # of a drop stage: every rule with what it compared
    scores: dict[str, Any] = {}
    detail: dict[str, Any] = {}


class Trace(msgspec.Struct):
    """A document and its way."""

    id: str
    source: str
    url: str | None
    origin: dict[str, Any]
    events: list[Event]
    text: str


def explain(run: Path, name: str, say: Callable[[str], None] = lambda line: None) -> list[Trace]:
    """Return the paths of the documents that `name` means: one for an id, up to SHOWN for a URL; `say` is told when there are more.

    Raises InputError when the run knows no such document, or when the first digits of an id are not enough.
    """
    state = open_run(run)
    found = _find(run, state.stages, name)
    if not found:
        raise InputError(f"no document '{name}'", where=str(run), hint="give an id, its first digits, or a URL exactly as it was crawled")
    if len(found) > SHOWN:
        say(f"the first {SHOWN} of {len(found):,} documents with this URL")
    return [_trace(run, state.stages, key, source) for key, source in found[:SHOWN]]


def _query(folder: Path, pattern: str, query: str, parameters: list[Any]) -> list[dict[str, Any]]:
    """Run a query over the Parquet files `pattern` of a stage; `{files}` stands for them. Raises InputError where one is damaged."""
    import duckdb

    files = [glob.escape(str(path)) for path in sorted(folder.glob(pattern))]  # DuckDB takes each of them for a pattern
    if not files:
        return []
    connection = duckdb.connect(":memory:")
    try:
        cursor = connection.execute(query.replace("{files}", "read_parquet(?, union_by_name=true)"), [files, *parameters])
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error as error:
        what = f"cannot be read: {str(error).splitlines()[0]}"
        raise InputError(what, where=str(folder / pattern), hint=f"curate verify {folder} names the damaged file: delete it and run again") from error


def _find(run: Path, stages: list[Stage], name: str) -> list[tuple[str, str]]:
    is_id = len(name) >= 6 and all(c in "0123456789abcdef" for c in name)
    found: dict[str, str] = {}
    for stage in stages:
        if stage.kind not in ("ingest", "rephrase"):
            continue
        for pattern in ("*.parquet", "dropped/*.parquet", "errors/*.parquet"):
            condition = "starts_with(id, ?)" if is_id else "url = ?"
            for row in _query(run / stage.folder, pattern, f"SELECT id FROM {{files}} WHERE {condition}", [name]):
                if row["id"] is not None:
                    found.setdefault(row["id"], stage.source)
    if is_id and len(found) > 1:
        raise InputError(f"{len(found)} documents have ids that begin with '{name}'", where=str(run), hint="give more digits")
    return list(found.items())


def _trace(run: Path, stages: list[Stage], key: str, source: str) -> Trace:
    events: list[Event] = []
    row: dict[str, Any] = {}
    for stage in stages:
        if stage.source != source:
            continue
        folder = run / stage.folder
        here = _query(folder, "*.parquet", "SELECT * FROM {files} WHERE id = ?", [key])
        own = here[0] if here else {}
        row |= own
        event = _event(folder, stage, key, row, own)
        if event is not None:
            events.append(event)
            if event.outcome in ("dropped", "failed"):
                break
    origin = row.get("origin") or {}
    if not origin and events and events[-1].detail.get("file"):
        origin = {name: events[-1].detail.pop(name, None) for name in ("file", "offset")}
    url = row.get("url") or (events[-1].detail.pop("url", None) if events else None)
    return Trace(key, source, url, dict(origin), events, row.get("text") or "")


def _event(folder: Path, stage: Stage, key: str, row: dict[str, Any], own: dict[str, Any]) -> Event | None:
    """Return what a stage did; `row` is all that is known of the document by then, `own` what this stage kept of it."""
    name = folder.name
    for dropped in _query(folder, "dropped/*.parquet", "SELECT * FROM {files} WHERE id = ?", [key]):
        detail = json.loads(dropped["detail"]) if dropped["detail"] else {}
        if not row:
            detail |= {k: dropped[k] for k in ("url", "file", "offset") if dropped[k] is not None}
        return Event(name, "dropped", dropped["reason"], list(dropped["reasons"]), _rules(folder, stage, row), {}, detail)
    for failed in _query(folder, "errors/*.parquet", "SELECT * FROM {files} WHERE id = ?", [key]):
        detail = {k: failed[k] for k in ("url", "file", "offset") if failed[k] is not None}
        return Event(name, "failed", failed["error"], detail=detail)
    if not own:
        return None
    if stage.kind in ("annotate", "classify"):
        return Event(name, "measured", scores={k: v for k, v in own.items() if isinstance(v, dict) and k != "origin"})
    if stage.kind == "decontaminate":
        matches = _query(
            folder, "matches/*.parquet", "SELECT benchmark, item_id, variant, score, threshold, action FROM {files} WHERE doc_id = ?", [key]
        )
        outcome = "cut" if any(match["action"] == "span" for match in matches) else "kept"
        return Event(name, outcome, detail={"matches": matches} if matches else {})
    return Event(name, "created" if stage.kind in ("ingest", "rephrase") else "kept", rules=_rules(folder, stage, row))


def _rules(folder: Path, stage: Stage, row: dict[str, Any]) -> list[dict[str, Any]]:
    if stage.kind != "drop":
        return []
    rules = dict(_plan(folder).options["rules"])
    return [{"reason": reason, "condition": condition, "compared": comparisons(condition, row)} for reason, condition in rules.items()]


def _plan(folder: Path) -> Plan:
    """Read the plan of a stage, which is there from its beginning; the manifest comes only when it is complete."""
    try:
        return msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError("its plan.json cannot be read", where=str(folder), hint="run the workflow again, which writes it") from error


def as_text(path: Trace) -> str:
    """Return the path for a terminal; control characters in crawled text are shown, not sent."""
    lines = [f"document {path.id}", f"  source  {path.source}"]
    if path.url:
        lines.append(f"  url     {_visible(path.url)}")
    if path.origin:
        lines.append(f"  origin  {_visible(str(path.origin.get('file')))} at {path.origin.get('offset')}")
    for event in path.events:
        lines.append(f"{event.stage}: {event.outcome}{f' as {_visible(event.reason)}' if event.reason else ''}")
        if len(event.reasons) > 1:
            lines.append(f"    also: {_visible(', '.join(event.reasons[1:]))}")
        lines += [f"    {name}: {_scores(values)}" for name, values in event.scores.items()]
        lines += _rule_lines(event)
        lines += [f"    {name}: {_visible(str(value))}" for name, value in event.detail.items()]
    shown = " ".join(path.text.split())[:300]
    return "\n".join([*lines, f"text: {_visible(shown)}{'…' if len(path.text) > 300 else ''}"])


def _rule_lines(event: Event) -> list[str]:
    lines = []
    for rule in event.rules:
        mark = "hit " if rule["reason"] in event.reasons else "pass"
        parts = []
        for seen in rule["compared"]:
            margin = "" if seen["margin"] is None else f", margin {seen['margin']:+.4g}"
            limit = f" = {_number(seen['limit'])}" if "limit" in seen else ""
            parts.append(f"{seen['column']} = {_number(seen['value'])} ({seen['operator']} {seen['threshold']}{limit}{margin})")
        lines.append(f"    {mark}  {rule['reason']}: {'; '.join(parts) or rule['condition']}")
    return lines


def _scores(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _visible(str(value))


def _visible(text: str) -> str:
    """Replace control characters, so that crawled text cannot drive a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
