"""Whether a page's publisher allows training on it, as far as the page says: headers and meta elements.

The most restrictive signal wins, and no signal is not a permission: it is `absent`. robots.txt and ai.txt concern
whole sites and are not in a page; what is read here is X-Robots-Tag and `<meta name=robots>` (noai, noml), TDMRep
(tdm-reservation, https://www.w3.org/community/reports/tdmrep) and Content-Signal (ai-train, contentsignals.org).
Directives that an X-Robots-Tag addresses to one crawler count as addressed to all. `noimageai` concerns images only.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from curate.annotate.columns import mapping_at, metas_of, string_at, struct_of

_REFUSALS = {"noai", "noml"}


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Read the signals about training that the ingest room kept in `meta`.

    Fields:
        training: denied, allowed or absent, the most restrictive signal of all
        via: the signal that decided: x-robots-tag, robots, tdm-reservation or content-signal; null where absent
        indexing: denied where robots directives say noindex or none, else absent

    Rules:
        no_consent    consent.training = 'denied'
        no_permission consent.training <> 'allowed'   (keeps only what is explicitly allowed)
    """
    training, via, indexing = [], [], []
    for meta in metas_of(batch):
        signals = _signals(meta)
        decisive = next((s for s in signals if s[1] == "denied"), next(iter(signals), None))
        training.append(decisive[1] if decisive else "absent")
        via.append(decisive[0] if decisive else None)
        hidden = {"noindex", "none"} & (_directives(_robots_header(meta)) | _directives(_robots_meta(meta)))
        indexing.append("denied" if hidden else "absent")
    return struct_of({"training": pa.array(training, pa.string()), "via": pa.array(via, pa.string()), "indexing": pa.array(indexing, pa.string())})


def _robots_header(meta: dict[str, Any]) -> str:
    return string_at(mapping_at(meta, "http"), "x-robots-tag")


def _robots_meta(meta: dict[str, Any]) -> str:
    return string_at(mapping_at(meta, "html"), "robots")


def _directives(value: str) -> set[str]:
    """Return the directives of a robots value; `agent: directive` gives the directive."""
    return {part.rpartition(":")[2].strip() for part in re.split(r"[,;\s]+", re.sub(r":\s+", ":", value.lower()))} - {""}


def _signals(meta: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (signal, denied or allowed) for each signal that a page carries."""
    http, html = mapping_at(meta, "http"), mapping_at(meta, "html")
    found = []
    if _directives(_robots_header(meta)) & _REFUSALS:
        found.append(("x-robots-tag", "denied"))
    if _directives(_robots_meta(meta)) & _REFUSALS:
        found.append(("robots", "denied"))
    for place in (http, html):
        for value in string_at(place, "tdm-reservation").replace(",", " ").split():
            if value in ("0", "1"):
                found.append(("tdm-reservation", "denied" if value == "1" else "allowed"))
    for answer in re.findall(r"(?:^|[\s,;])ai-train\s*=\s*(yes|no)\b", string_at(http, "content-signal").lower()):
        found.append(("content-signal", "denied" if answer == "no" else "allowed"))
    return found
