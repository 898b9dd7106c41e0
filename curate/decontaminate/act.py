"""What is removed: the document, the matched span, or nothing, by rule on a match's variant and score.

    document   the document is dropped as `benchmark_contamination`
    span       the matched characters and a margin to the next line or sentence end are cut; what is left of the document is
               kept, unless it is shorter than `min_characters`, which drops it as `benchmark_contamination`
    record     nothing; the match is only reported

A document with several matches gets the strongest of their actions. A span is cut and not masked, so the text before and after
it meets; a paragraph break marks the place. What a cut leaves is searched and cut again until nothing is found. Matches that are
not counted, such as other instances of an item's template, are recorded unless `actions` names their variant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import pyarrow as pa

from curate.specs.benchmarks import Action, Variant

REASON = "benchmark_contamination"
MAX_ROUNDS = 8  # of cutting one document
PARAPHRASE = "paraphrase"  # proposed by embeddings
ACTIONS, VARIANTS = get_args(Action), get_args(Variant)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done with a match. `margin` is how many characters a cut may reach beyond the match to end at a line or sentence."""

    action: str = "document"
    actions: dict[str, str] = field(default_factory=dict)  # variant → action
    min_score: float = 0.0  # matches below are only recorded
    margin: int = 100
    min_characters: int = 200

    def of(self, match: dict[str, Any]) -> str:
        """Return the action for one match (keys variant, score and counted)."""
        default = self.action if match["counted"] and match["variant"] != PARAPHRASE else "record"
        wanted = self.actions.get(match["variant"], default)
        return wanted if match["score"] >= self.min_score else "record"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of a batch, one element per row. `texts` has the text to keep, None for one that is dropped."""

    texts: list[str | None]
    changed: list[bool]
    details: list[str | None]  # JSON: the best match, and how many there are

    @property
    def kept(self) -> list[bool]:
        """Which rows are kept."""
        return [text is not None for text in self.texts]


def decide(batch: pa.RecordBatch, matches: pa.Table, policy: Policy) -> Verdicts:
    """Return what `policy` makes of `batch` (columns id and text), given the matches of its documents."""
    by_document: dict[str, list[dict[str, Any]]] = {}
    wanted = ["doc_id", "benchmark", "item_id", "variant", "counted", "score", "doc_start", "doc_end"]
    for row in matches.select(wanted).to_pylist():
        by_document.setdefault(row["doc_id"], []).append(row | {"action": policy.of(row)})
    texts: list[str | None] = []
    changed, details = [], []
    for name, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
        rows = by_document.get(name, [])
        left = _left(text or "", rows, policy)
        details.append(_detail([r for r in rows if r["counted"] or r["action"] != "record"]))
        texts.append(left)
        changed.append(left != (text or ""))
    return Verdicts(texts, changed, details)


def _left(text: str, rows: list[dict[str, Any]], policy: Policy) -> str | None:
    """Return what is left of a document's text; None when the document goes."""
    actions = {row["action"] for row in rows}
    if "document" in actions:
        return None
    if "span" not in actions:
        return text
    left = cut(text, [(row["doc_start"], row["doc_end"]) for row in rows if row["action"] == "span"], policy.margin)
    return left if len(left) >= policy.min_characters else None


def settled(batch: pa.RecordBatch, verdicts: Verdicts, search: Callable[[pa.RecordBatch], pa.Table], policy: Policy) -> Verdicts:
    """Return `verdicts` after what was cut has been searched and cut again, until nothing is found in it.

    A search names one place of an item in a document, and the item may stand there twice. What still matches after MAX_ROUNDS is dropped.
    """
    texts = list(verdicts.texts)
    open_rows = [i for i, (text, changed) in enumerate(zip(texts, verdicts.changed, strict=True)) if changed and text is not None]
    for number in range(MAX_ROUNDS):
        if not open_rows:
            break
        part = batch.take(pa.array(open_rows))
        at = part.schema.get_field_index("text")
        part = part.set_column(at, part.schema.field(at), pa.array([texts[i] for i in open_rows], part.schema.field(at).type))
        again = decide(part, search(part), policy)
        for i, text, changed in zip(open_rows, again.texts, again.changed, strict=True):
            texts[i] = None if changed and number + 1 == MAX_ROUNDS else text
        open_rows = [i for i, changed in zip(open_rows, again.changed, strict=True) if changed and texts[i] is not None]
    return Verdicts(texts, verdicts.changed, verdicts.details)


def with_verdicts(matches: pa.Table, batch: pa.RecordBatch, verdicts: Verdicts, policy: Policy) -> pa.Table:
    """Return `matches` with two more columns: the `action` that its rule asks for, and `survivor`, whether the document is kept."""
    kept = dict(zip(batch.column("id").to_pylist(), verdicts.kept, strict=True))
    actions = [policy.of(row) for row in matches.select(["variant", "counted", "score"]).to_pylist()]
    survivors = [kept[name] for name in matches["doc_id"].to_pylist()]
    columns = [*matches.columns, pa.array(actions, pa.string()), pa.array(survivors, pa.bool_())]
    return pa.Table.from_arrays(columns, schema=recorded(matches.schema))


def recorded(schema: pa.Schema) -> pa.Schema:
    """Return the schema of stored matches, for the schema of those that a scan finds."""
    return pa.schema([*schema, pa.field("action", pa.string(), nullable=False), pa.field("survivor", pa.bool_(), nullable=False)])


def _detail(rows: list[dict[str, Any]]) -> str | None:
    if not rows:
        return None
    best = max(rows, key=lambda r: (r["score"], r["benchmark"], r["item_id"]))
    return json.dumps(
        {
            "benchmark": best["benchmark"],
            "item": best["item_id"],
            "variant": best["variant"],
            "score": round(best["score"], 3),
            "matches": len(rows),
        }
    )


def cut(text: str, spans: list[tuple[int, int]], margin: int) -> str:
    """Return `text` without `spans` (characters), each widened by up to `margin` to the ends of its lines or sentences."""
    pieces, at = [], 0
    for start, end in sorted(spans):
        low, high = _widened(text, start, end, margin)
        if low > at:
            pieces.append(text[at:low].strip())
        at = max(at, high)
    pieces.append(text[at:].strip())
    return "\n\n".join(piece for piece in pieces if piece)


def _widened(text: str, start: int, end: int, margin: int) -> tuple[int, int]:
    """Move both ends outward to the next line or sentence end, if one is within `margin`, and else by nothing."""
    before = text[max(0, start - margin) : start]
    breaks = [before.rfind(mark) + len(mark) for mark in ("\n", ". ", "! ", "? ") if mark in before]
    low = start - len(before) + max(breaks) if breaks else (0 if start <= margin else start)
    after = text[end : end + margin]
    stops = [after.find(mark) + len(mark) for mark in ("\n", ". ", "! ", "? ") if mark in after]
    high = end + min(stops) if stops else (len(text) if end + margin >= len(text) else end)
    return low, high
