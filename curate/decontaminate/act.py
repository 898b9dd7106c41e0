"""What is removed: the document, the matched span, or nothing.

    document   every document with a counted match is dropped as `benchmark_contamination`
    span       the matched characters and a margin to the next line or sentence end are cut; what is left of the document is
               kept, unless it is shorter than `min_characters`, which drops it as `benchmark_contamination`
    record     nothing; the matches are only reported

A span is cut and not masked, so the text before and after it meets; a paragraph break marks the place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa

REASON = "benchmark_contamination"
ACTIONS = ("document", "span", "record")


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


def decide(batch: pa.RecordBatch, matches: pa.Table, action: str = "document", *, margin: int = 100, min_characters: int = 200) -> Verdicts:
    """Return what `action` makes of `batch` (columns id and text), given the matches of its documents.

    `margin` is how many characters a cut may reach beyond the match to end at a line or sentence.
    """
    if action not in ACTIONS:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}, not '{action}'")
    by_document: dict[str, list[dict[str, object]]] = {}
    wanted = ["doc_id", "benchmark", "item_id", "variant", "counted", "score", "doc_start", "doc_end"]
    for row in matches.select(wanted).to_pylist():
        if row["counted"]:
            by_document.setdefault(row["doc_id"], []).append(row)
    texts: list[str | None] = []
    changed, details = [], []
    for name, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
        rows = by_document.get(name, [])
        details.append(_detail(rows) if rows else None)
        left: str | None = text or ""
        if rows and action == "document":
            left = None
        elif rows and action == "span":
            left = cut(text, [(int(str(r["doc_start"])), int(str(r["doc_end"]))) for r in rows], margin)
            left = left if len(left) >= min_characters else None
        texts.append(left)
        changed.append(left != (text or ""))
    return Verdicts(texts, changed, details)


def _detail(rows: list[dict[str, object]]) -> str:
    best = max(rows, key=lambda r: (float(str(r["score"])), str(r["benchmark"]), str(r["item_id"])))
    return json.dumps(
        {
            "benchmark": best["benchmark"],
            "item": best["item_id"],
            "variant": best["variant"],
            "score": round(float(str(best["score"])), 3),
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
