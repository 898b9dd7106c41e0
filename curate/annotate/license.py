"""The license that a page claims, by the rank of the place where it says so. A claim, not evidence.

Rank: JSON-LD, `<meta>`, `<link rel=license>`, `<a rel=license>`, a link in the footer, a link in the body; a license
that the input gave for the whole source stands before all. Places that disagree make the license unknown: a page may
link to the license of a picture. Of the web domains that claim an open license, a manual check confirmed about half
(Common Pile, arXiv 2506.05209); its list of permissive licenses is used here.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from curate.annotate.columns import mapping_at, metas_of, string_at, strings_of, struct_of

RANK = ("source", "json-ld", "meta", "link", "a", "footer", "body")

_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)(?:/(\d\.\d))?")
_CC_NAME = re.compile(r"\b(?:cc|creative commons)[\s-]*(0|zero|by(?:[\s-]*(?:nc|nd|sa))*)(?:[\s-]*v?(\d\.\d))?(?![a-z])")
_NAMES = (
    (r"apache(?:\.org/licenses/license)?(?:[\s-]*license)?,?(?:[\s-]*(?:version)?[\s-]*2(?:\.0)?)", "Apache-2.0"),
    (r"opensource\.org/licenses?/mit\b|^mit$|\bmit license\b|^expat$", "MIT"),
    (r"opensource\.org/licenses?/isc\b|^isc$|\bisc license\b", "ISC"),
    (r"\b0bsd\b", "0BSD"),
    (r"opensource\.org/licenses?/bsd-2|\bbsd-2(?:-clause)?\b|\bsimplified bsd\b", "BSD-2-Clause"),
    (r"opensource\.org/licenses?/bsd|\bbsd-3(?:-clause)?\b|^bsd$|\bbsd license\b", "BSD-3-Clause"),
    (r"\bartistic[\s-](?:license[\s-])?2", "Artistic-2.0"),
    (r"gnu\.org/(?:copyleft|licenses)/fdl|\bgfdl\b|gnu free documentation", "GFDL"),
    (r"\bcdla-permissive|cdla\.(?:dev|io)/permissive", "CDLA-Permissive"),
    (r"\bunlicense\b", "Unlicense"),
    (r"gnu\.org/licenses/agpl|\bagpl", "AGPL"),
    (r"gnu\.org/licenses/lgpl|\blgpl", "LGPL"),
    (r"gnu\.org/licenses/(?:old-licenses/)?gpl|\bgpl", "GPL"),
    (r"mozilla\.org/(?:en-us/)?mpl|\bmpl\b", "MPL"),
    (r"^public[\s-]domain$|rightsstatements\.org/(?:vocab|page)/noc-us", "public-domain"),
)  # fmt: skip
_PERMISSIVE = {
    "Apache-2.0", "MIT", "ISC", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "Artistic-2.0", "GFDL", "CDLA-Permissive", "Unlicense", "public-domain",
}  # fmt: skip
_PERMISSIVE_CC = {"CC0", "CC-BY", "CC-BY-SA"}
_MAX_CHARACTERS = 500


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Find the license that each document claims.

    Fields:
        name: CC-BY-4.0, CC0-1.0, MIT, public-domain and so on; null where none is claimed, none is recognized, or claims differ
        via: where the claim stands: source, json-ld, meta, link, a, footer or body; null where there is none
        permissive: true for public domain, CC0, CC BY, CC BY-SA, GFDL, Apache, MIT, BSD, ISC, Artistic 2, CDLA Permissive;
            false for other licenses, as those with NC or ND; null where the license is unknown
        conflict: whether two places, or two links in one, claim different licenses

    Rules:
        not_permissive  license.permissive is distinct from true   (keeps only what claims a permissive license)
        restricted      license.permissive = false
    """
    names, vias, permissive, conflicts = [], [], [], []
    for meta, given in zip(metas_of(batch), strings_of(batch, "claimed_license"), strict=True):
        claims = _claims(meta, given)
        best = claims[0] if claims else None
        conflict = len({kind_of(name) for _, name in claims}) > 1
        name = None if best is None or conflict else best[1]
        names.append(name)
        vias.append(best[0] if best else None)
        permissive.append(is_permissive(name))
        conflicts.append(conflict)
    return struct_of(
        {
            "name": pa.array(names, pa.string()),
            "via": pa.array(vias, pa.string()),
            "permissive": pa.array(permissive, pa.bool_()),
            "conflict": pa.array(conflicts, pa.bool_()),
        }
    )


def recognized(claim: str) -> str | None:
    """Return the name of the license that a URL or a phrase stands for; None if it is not a known one."""
    claim = claim.strip().lower()[:_MAX_CHARACTERS]
    found = _CREATIVE_COMMONS.search(claim)
    if found:
        family, kind, version = found.groups()
        if family == "publicdomain":
            return f"CC0-{version or '1.0'}" if kind == "zero" else "public-domain"
        kind = {"cc0": "0", "zero": "0"}.get(kind, kind)
        return _creative_commons(kind, version)
    for pattern, name in _NAMES:
        if re.search(pattern, claim):
            return name
    found = _CC_NAME.search(claim)
    return _creative_commons("0" if found[1] in ("0", "zero") else found[1], found[2]) if found else None


def kind_of(name: str | None) -> str:
    """Return a license's name without its version: what decides whether two claims agree."""
    return re.sub(r"-\d\.\d$", "", name or "unknown") if (name or "").startswith("CC") else name or "unknown"


def is_permissive(name: str | None) -> bool | None:
    """Say whether a license by this name is on the whitelist; None for no name."""
    return None if name is None else kind_of(name) in _PERMISSIVE_CC or name in _PERMISSIVE


def _creative_commons(kind: str, version: str | None) -> str:
    """Return the name of a Creative Commons license, its parts in the usual order: by, nc, nd or sa."""
    if kind == "0":
        return f"CC0-{version or '1.0'}"
    parts = set(re.findall(r"by|nc|nd|sa", kind))
    name = "CC-" + "-".join(part.upper() for part in ("by", "nc", "nd", "sa") if part in parts)
    return f"{name}-{version}" if version else name


def _claims(meta: dict[str, Any], given: str | None) -> list[tuple[str, str | None]]:
    """Return (place, license or None if not recognized), by rank."""
    found: list[tuple[str, str | None]] = [("source", recognized(given))] if given else []
    entries = mapping_at(meta, "html").get("license")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and string_at(entry, "url") and entry.get("via") in RANK:
            found.append((entry["via"], recognized(string_at(entry, "url"))))
    return sorted(found, key=lambda claim: RANK.index(claim[0]))
