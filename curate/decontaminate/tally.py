"""Matches → what to say about a corpus: rates with intervals, what could not be scanned, what a clean result means.

A benchmark's contaminated rate is the share of its scannable items with a counted match, with a 95 % Wilson interval
(Wilson 1927). The interval speaks of items like these, as the items are taken for a sample; the matches are not sampled.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from curate.decontaminate.index import CHANNEL_NAMES, Index

ITEMS = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),  # file:line
        pa.field("indexed", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # why it cannot be found: too_short, too_common, only_template_text
        pa.field("channels", pa.list_(pa.string()), nullable=False),  # by which it can be found
        pa.field("information", pa.float32(), nullable=False),  # of its best channel, in telling words
        pa.field("smallest_part", pa.float32()),  # the smallest share of its best channel that would be found
        pa.field("matched", pa.bool_(), nullable=False),
        pa.field("best_score", pa.float32()),
        pa.field("documents", pa.int32(), nullable=False),
    ]
)
NUM_WORST, NUM_DOMAINS = 20, 10


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of hits / total; (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def item_table(matches: pa.Table, index: Index) -> pa.Table:
    """Return one row per item: whether it could be found, and whether it was."""
    counted = matches.filter(matches["counted"]) if matches.num_rows else matches
    best: dict[int, float] = {}
    documents: dict[int, set[str]] = {}
    for item, score, document in zip(counted["item"].to_pylist(), counted["score"].to_pylist(), counted["doc_id"].to_pylist(), strict=True):
        best[item] = max(best.get(item, 0.0), score)
        documents.setdefault(item, set()).add(document)
    channels, information, smallest, leads, tokens = _scannable(index)
    rows = []
    for item in range(index.num_items):
        found = bool(channels[item])
        rows.append(
            {
                "benchmark": index.names[index.item_benchmark[item]],
                "item_id": index.item_ids[item],
                "place": index.item_places[item],
                "indexed": found,
                "reason": None if found else _reason(information[item], leads[item], tokens[item], index),
                "channels": [c for c in CHANNEL_NAMES if c in channels[item]],
                "information": information[item],
                "smallest_part": smallest[item] if found else None,
                "matched": item in best,
                "best_score": best.get(item),
                "documents": len(documents.get(item, ())),
            }
        )
    return pa.Table.from_pylist(rows, ITEMS)


def _scannable(index: Index) -> tuple[list[set[str]], list[float], list[float], list[float], list[int]]:
    n = index.num_items
    channels: list[set[str]] = [set() for _ in range(n)]
    information, smallest, leads, tokens = [0.0] * n, [2.0] * n, [0.0] * n, [0] * n
    for view in (index.words, index.code):
        sizes = np.diff(view.unit_start)
        for unit, needed in enumerate(index.thresholds(view).tolist()):
            item = int(view.unit_item[unit])
            information[item] = max(information[item], float(view.information[unit]))
            leads[item] = max(leads[item], float(view.lead[unit]))
            tokens[item] = max(tokens[item], int(sizes[unit]))
            if needed <= 1:
                channels[item].add(CHANNEL_NAMES[int(view.unit_channel[unit])])
                smallest[item] = min(smallest[item], needed)
    return channels, information, smallest, leads, tokens


def _reason(information: float, lead: float, tokens: int, index: Index) -> str:
    """Say why an item is unscannable: it has too few words, or words that say too little."""
    if tokens < index.options.min_information / 0.6 or tokens < index.words.gram:
        return "too_short"
    return "only_template_text" if lead <= 0 else "too_common"


def summarize(matches: pa.Table, index: Index, num_documents: int | None = None) -> dict[str, Any]:
    """Return the report's numbers: per benchmark, over all, the worst matches, and what finding nothing would mean."""
    items = item_table(matches, index)
    rows = matches.to_pylist()
    counted = [row for row in rows if row["counted"]]
    documents = {row["doc_id"] for row in counted}
    worst = sorted(counted, key=lambda r: (-r["information"], r["doc_id"], r["doc_start"]))[:NUM_WORST]
    result: dict[str, Any] = {
        "benchmarks": {name: _benchmark(name, items, counted, rows, index) for name in index.names},
        "documents": num_documents,
        "contaminated_documents": len(documents),
        "matches": len(counted),
        "siblings": len(rows) - len(counted),
        "bad_lines": [{"benchmark": b, "place": p, "reason": r} for b, p, r in index.bad],
        "duplicate_ids": [{"benchmark": b, "id": i, "place": p} for b, i, p in index.renamed],
        "worst": worst,
        "calibration": index.calibration,
        "meaning": meaning(items, index),
    }
    if num_documents is not None:
        result["document_rate"] = len(documents) / max(1, num_documents)
        result["document_interval"] = wilson(len(documents), num_documents)
    return result


def _benchmark(name: str, items: pa.Table, counted: list[dict[str, Any]], rows: list[dict[str, Any]], index: Index) -> dict[str, Any]:
    own = [row for row in items.to_pylist() if row["benchmark"] == name]
    scannable = sum(row["indexed"] for row in own)
    contaminated = sum(row["matched"] for row in own)
    here = [row for row in counted if row["benchmark"] == name]
    domains = Counter(urlsplit(row["url"]).netloc or row["source"] or "" for row in here if row["url"] or row["source"])
    note = None
    if not own:
        note = "the file has no item: nothing was looked for"
    elif not scannable:
        note = "no item has enough text to be found: this says nothing about contamination"
    return {
        "items": len(own),
        "scannable": scannable,
        "unscannable": dict(sorted(Counter(row["reason"] for row in own if not row["indexed"]).items())),
        "contaminated": contaminated,
        "rate": contaminated / scannable if scannable else None,
        "interval": wilson(contaminated, scannable),
        "documents": len({row["doc_id"] for row in here}),
        "variants": dict(sorted(Counter(row["variant"] for row in here).items())),
        "siblings": sum(not row["counted"] for row in rows if row["benchmark"] == name),
        "domains": sorted(domains.items(), key=lambda d: (-d[1], d[0]))[:NUM_DOMAINS],
        "bad_lines": sum(b == name for b, _, _ in index.bad),
        "note": note,
    }


def meaning(items: pa.Table, index: Index) -> str:
    """Return, in words, what it means that an item was not found."""
    parts = [p for p in items["smallest_part"].to_pylist() if p is not None]
    if not parts:
        return "Nothing could have been found: no item has enough telling words."
    typical, most = float(np.median(parts)), float(np.quantile(parts, 0.9))
    left = items.num_rows - len(parts)
    rate = index.calibration.get("expected_rate")
    chance = f" On clean documents of this corpus about {rate:.1g} of the documents would match by chance." if rate else ""
    unscanned = f" {left:,} of {items.num_rows:,} items could not be looked for at all, and are listed." if left else ""
    return (
        f"An item that was not found does not stand in the scanned text in any form that keeps {typical:.0%} of the telling words of "
        f"its question, solution, passage or code (for one item in ten, {most:.0%} are needed) in runs of several words, whatever the "
        f"numbers, case, markup, characters or order. A paraphrase or a translation would not have been seen.{unscanned}{chance}"
    )
