"""Matches → what to say about a corpus: rates with intervals, what could not be scanned, what a clean result means.

A benchmark's contaminated rate is the share of its scannable items with a counted match, with a 95 % Wilson interval
(Wilson 1927). The interval speaks of items like these, as the items are taken for a sample; the matches are not sampled.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.console import two_digits
from curate.decontaminate.act import PARAPHRASE
from curate.decontaminate.index import CHANNEL_NAMES, Index
from curate.decontaminate.power import FOUND, MOSTLY, Probe, smallest_share
from curate.decontaminate.variant import SIBLING

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
NUM_WORST, NUM_PER_KIND, NUM_DOMAINS = 24, 3, 10


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
    found = matches.filter(matches["counted"]).group_by("item").aggregate([("score", "max"), ("doc_id", "count_distinct")])
    best = dict(zip(found["item"].to_pylist(), found["score_max"].to_pylist(), strict=True))
    documents = dict(zip(found["item"].to_pylist(), found["doc_id_count_distinct"].to_pylist(), strict=True))
    channels, information, smallest, leads, tokens = _scannable(index)
    rows = []
    for item in range(index.num_items):
        scannable = bool(channels[item])
        rows.append(
            {
                "benchmark": index.names[index.item_benchmark[item]],
                "item_id": index.item_ids[item],
                "place": index.item_places[item],
                "indexed": scannable,
                "reason": None if scannable else _reason(information[item], leads[item], tokens[item], index),
                "channels": [c for c in CHANNEL_NAMES if c in channels[item]],
                "information": information[item],
                "smallest_part": smallest[item] if scannable else None,
                "matched": item in best,
                "best_score": best.get(item),
                "documents": documents.get(item, 0),
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


def summarize(
    matches: pa.Table, index: Index, num_documents: int | None = None, probes: list[Probe] | None = None, semantic: bool = False
) -> dict[str, Any]:
    """Return the report's numbers: per benchmark, over all, and what finding nothing would mean. Excerpts of `matches` are not read.

    `semantic`: embeddings were searched too.
    """
    items = item_table(matches, index)
    counted = matches.filter(matches["counted"])
    documents = pc.count_distinct(counted["doc_id"]).as_py()
    result: dict[str, Any] = {
        "benchmarks": {name: _benchmark(name, items, matches, index, probes or []) for name in index.names},
        "documents": num_documents,
        "contaminated_documents": documents,
        "matches": counted.num_rows,
        "siblings": pc.sum(pc.equal(matches["variant"], SIBLING)).as_py() or 0,
        "paraphrases": pc.sum(pc.equal(matches["variant"], PARAPHRASE)).as_py() or 0,
        "bad_lines": [{"benchmark": b, "place": p, "reason": r} for b, p, r in index.bad],
        "duplicate_ids": [{"benchmark": b, "id": i, "place": p} for b, i, p in index.renamed],
        "calibration": index.calibration,
        "probes": [msgspec.to_builtins(one) | {"interval": wilson(one.found, one.tried)} for one in probes or []],
        "meaning": meaning(items, index, probes or [], semantic),
    }
    if num_documents is not None:
        result["document_rate"] = documents / max(1, num_documents)
        result["document_interval"] = wilson(documents, num_documents)
    return result


def worst_rows(matches: pa.Table) -> list[int]:
    """Return which rows of `matches` to show: of each benchmark and variant those with the most shared text, then over all.

    Other instances of templates are not shown; proposed paraphrases are, after the others of their rank.
    """
    counted = np.flatnonzero(np.asarray(pc.or_(matches["counted"], pc.equal(matches["variant"], PARAPHRASE))))
    information = np.asarray(matches["information"])[counted]
    kinds: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, float, int]] = []  # the how-manieth of its kind, what it shares, its row
    names = list(zip(matches["benchmark"].to_pylist(), matches["variant"].to_pylist(), strict=True))
    for at in np.lexsort((counted, -information)).tolist():
        row = int(counted[at])
        place = kinds[names[row]] = kinds.get(names[row], 0) + 1
        if place <= NUM_PER_KIND:
            ranked.append((place, -float(information[at]), row))
    return [row for _, _, row in sorted(ranked)[:NUM_WORST]]


def _benchmark(name: str, items: pa.Table, matches: pa.Table, index: Index, probes: list[Probe]) -> dict[str, Any]:
    own = items.filter(pc.equal(items["benchmark"], name))
    all_here = matches.filter(pc.equal(matches["benchmark"], name))
    here = all_here.filter(all_here["counted"])
    scannable, contaminated = sum(own["indexed"].to_pylist()), sum(own["matched"].to_pylist())
    pages = zip(here["url"].to_pylist(), here["source"].to_pylist(), strict=True)
    domains = Counter(_domain(url) or source or "" for url, source in pages if url or source)
    note = None
    if not own.num_rows:
        note = "the file has no item: nothing was looked for"
    elif not scannable:
        note = "no item has enough text to be found: this says nothing about contamination"
    return {
        "items": own.num_rows,
        "scannable": scannable,
        "unscannable": dict(sorted(Counter(r for r in own["reason"].to_pylist() if r).items())),
        "contaminated": contaminated,
        "rate": contaminated / scannable if scannable else None,
        "interval": wilson(contaminated, scannable),
        "documents": pc.count_distinct(here["doc_id"]).as_py(),
        "variants": dict(sorted(Counter(here["variant"].to_pylist()).items())),
        "siblings": pc.sum(pc.equal(all_here["variant"], SIBLING)).as_py() or 0,
        "paraphrases": pc.sum(pc.equal(all_here["variant"], PARAPHRASE)).as_py() or 0,
        "domains": sorted(domains.items(), key=lambda d: (-d[1], d[0]))[:NUM_DOMAINS],
        "smallest_share": smallest_share(probes, name, FOUND),
        "mostly_share": smallest_share(probes, name, MOSTLY),
        "bad_lines": sum(benchmark == name for benchmark, _, _ in index.bad),
        "note": note,
    }


def _domain(url: str | None) -> str:
    try:
        return urlsplit(url or "").netloc
    except ValueError:
        return ""


def meaning(items: pa.Table, index: Index, probes: list[Probe], semantic: bool = False) -> str:
    """Return, in words, what it means that an item was not found."""
    parts = [p for p in items["smallest_part"].to_pylist() if p is not None]
    if not parts:
        return "Nothing could have been found: no item has enough telling words."
    typical, most = float(np.median(parts)), float(np.quantile(parts, 0.9))
    left = items.num_rows - len(parts)
    rate = index.calibration.get("expected_rate")
    chance = f" Of a million clean documents like those of this corpus about {two_digits(1e6 * rate)} would match by chance." if rate else ""
    unscanned = f" {left:,} of {items.num_rows:,} items could not be looked for at all, and are listed." if left else ""
    tried = "".join(f" {line}" for line in (_tried(name, probes) for name in index.names) if line)
    unseen = "Paraphrases and translations were looked for by embeddings; how many of them a model finds was not measured here."
    unseen = unseen if semantic else "A paraphrase or a translation would not have been seen."
    return (
        f"A typical item that was not found does not stand in the scanned text in a form that keeps {typical:.0%} of the telling words "
        f"of its question, solution, passage or code in runs of several words, whatever the numbers, case, markup, characters or order; "
        f"one item in ten is only found with {most:.0%} of them or more.{tried} {unseen}{unscanned}{chance}"
    )


def _tried(name: str, probes: list[Probe]) -> str:
    """Say from how much of a question the probes of one benchmark are found."""
    own = [p for p in probes if p.benchmark == name and p.share is not None]
    if not own:
        return ""
    share, mostly = smallest_share(probes, name, FOUND), smallest_share(probes, name, MOSTLY)
    if share is None:
        whole = max(own, key=lambda p: p.share or 0)
        sure = f"not even a whole question is always found ({whole.found} of {whole.tried} probes)"
    else:
        sure = "a whole question is found" if share == 1 else f"the first {share:.0%} of a question are enough"
    half = "" if mostly in (None, share) else f", and in most cases the first {mostly:.0%}"
    return f"Of {name}, {sure}{half}."
