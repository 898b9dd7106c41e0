"""The license that a page claims, by the rank of the place where it says so. A claim, not evidence.

Rank: JSON-LD, `<meta>`, `<link rel=license>`, `<a rel=license>`, a link in the footer, a link in the body; a license
that the input gave for the whole source stands before all. Places that disagree make the license unknown: a page may
link to the license of a picture. So does a claim of a permissive license with any word that might restrict it: in
doubt a license is not permissive. Of the web domains that claim an open license, a manual check confirmed about half
(Common Pile, arXiv 2506.05209); its list of permissive licenses is used here.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from curate.annotate.columns import mapping_at, metas_of, string_at, strings_of, struct_of

RANK = ("source", "json-ld", "meta", "link", "a", "footer", "body")

# Claims are read as words: lower case, one space between, punctuation left out, so that "CC BY (NC)" is "cc by nc".
# Behind kind and version a real link has a country, the page, and what a browser or a sentence adds; whatever else stands there may
# restrict the license, unless it is restricted already.
_HOST = r"(?:(?:(?!creativecommons\.org)[^\s,;<>\"'()\[\]])*[/.])?(?<![\w-])creativecommons\.org/"  # no other license on the way
_URL = re.compile(
    _HOST + r"(licenses|publicdomain)/((?:cc0|[a-z_+/-])*)(\d(?:\.\d)?)?"
    r"(?:/+(?:(?!by|n[cd]|sa)[a-z]{2}|igo|scotland))?(?:/+(?:deed|legalcode|rdf)[a-z._-]*(?:419)?)?/*(?:[?#][^\s,;<>\"'()\[\]]*)?"
    r"[.:!*|}`”“»«’‘。、]*(?=[\s,;<>\"'()\[\]]|$)"
)
_RESTRICTED_URL = re.compile(_HOST + r"(licenses)/([a-z_+/-]*(?<![a-z])n[cd](?![a-z])[a-z_+/-]*)(\d\.\d)?[^\s,;<>\"'()\[\]]*")
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)*|[^\s\-_/()\[\]{}<>,;:.+&|\"'!*#=?~]")
_PARTS = {"BY": r"by|attribution", "NC": r"nc|non ?commercial", "ND": r"nd|no ?deriv(?:s|atives?)?(?: works)?", "SA": r"sa|share ?alike"}
_PART = f"(?:{'|'.join(_PARTS.values())})"
_LICENSE = "licen[sc]e"
_COUNTRY = "at|au|be|br|ca|ch|cl|cn|cz|de|dk|ee|eg|es|fi|fr|gr|hk|hr|hu|ie|igo|il|it|jp|kr|lu|mx|nl|nz|pl|pt|ro|rs|se|sg|th|tw|ua|ug|uk|us|vn|za"
_CREATIVE_COMMONS = (
    rf"\b(?:cc|creative ?commons) ?(?P<kind>0|zero|{_PART}(?: ?{_PART})*)(?: {_LICENSE})?(?:(?: v| version)* (?P<version>\d(?:\.\d)?))?"
    rf"(?P<more>(?: {_PART})*)(?: (?:international|unported|generic|universal))?(?: (?:{_COUNTRY}))?(?![a-z\d.])"
)
_NAMES = (
    (_CREATIVE_COMMONS, ""),
    (rf"\bapache(?: org licenses)?(?: software)?(?: {_LICENSE})?(?: v| version)* 2(?:\.0)?(?![\d.])(?: with llvm exceptions?)?", "Apache-2.0"),
    (r"\b(?:mit|expat)\b", "MIT"),
    (r"\bisc\b", "ISC"),
    (r"\b0 bsd\b", "0BSD"),
    (r"\bbsd 2(?: clause)?\b|\b2 clause bsd\b|\bsimplified bsd\b", "BSD-2-Clause"),
    (r"\bbsd 3(?: clause)?\b|\b(?:3 clause|new|modified|revised) bsd\b|\bbsd\b(?! \d)", "BSD-3-Clause"),
    (rf"\bartistic(?: {_LICENSE})?(?: v| version)* 2(?:\.0)?(?![\d.])", "Artistic-2.0"),
    (r"\bgnu org (?:copyleft|licenses)(?: old licenses)? fdl\b|\bgfdl\b|\bgnu free documentation\b", "GFDL"),
    (r"\bcdla permissive\b|\bcdla (?:dev|io) permissive\b", "CDLA-Permissive"),
    (r"\bunlicense\b", "Unlicense"),
    (r"\bgnu org licenses agpl|\bagpl", "AGPL"),
    (r"\bgnu org licenses lgpl|\blgpl", "LGPL"),
    (r"\bgnu org licenses(?: old licenses)? gpl|\bgpl", "GPL"),
    (r"\bmozilla org (?:en us )?mpl|\bmpl\b", "MPL"),
    (r"\bpublic ?domain(?: mark)?(?: dedication)?\b|\brightsstatements org (?:vocab|page) noc us\b", "public-domain"),
)  # fmt: skip
# What may stand around the name of a permissive license. Any other word may restrict it ("unless", "images", "Commons Clause").
_AROUND = {
    "a", "alike", "all", "an", "and", "any", "are", "article", "as", "attribution", "available", "cc", "commons", "content", "creative",
    "deed", "document", "generic", "htm", "html", "http", "https", "international", "is", "later", "licence", "licences", "license",
    "licensed", "licenses", "of", "only", "or", "page", "php", "public", "published", "released", "share", "sharealike", "site",
    "standalone", "terms", "text", "the", "this", "txt", "under", "universal", "unported", "v", "version", "website", "work", "works",
    "www",
}  # fmt: skip
_HOSTS = re.compile(r"\b(?:opensource org|spdx org|choosealicense com) licenses?\b")
_NUMBER = re.compile(r"\d{1,2}(?:\.\d+)*")
_PERMISSIVE = {
    "Apache-2.0", "MIT", "ISC", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "Artistic-2.0", "GFDL", "CDLA-Permissive", "Unlicense", "public-domain",
}  # fmt: skip
_PERMISSIVE_CC = {"CC0", "CC-BY", "CC-BY-SA"}
_MAX_CHARACTERS = 500


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Find the license that each document claims.

    Fields:
        name: CC-BY-4.0, CC0-1.0, MIT, public-domain and so on; null where none is claimed, none is recognized, claims differ, or a
            permissive license is claimed with words that may restrict it
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


@functools.lru_cache(maxsize=4096)  # the pages of a site claim the same
def recognized(claim: str) -> str | None:
    """Return the name of the license that a URL or a phrase stands for; None if it is not a known one, or may be more than that.

    A permissive license must be all that is claimed: next to another kind of license, or to words that may restrict it, it is not
    known what holds. Of several that are all permissive, or all not, the first is named.
    """
    if len(claim) >= _MAX_CHARACTERS:
        return None  # it goes on, who knows how
    rest = _words(claim)
    found: list[tuple[int, str]] = []
    for pattern, name in _NAMES:
        for match in re.finditer(pattern, rest):
            found.append((match.start(), name or _creative_commons(match["kind"] + match["more"], match["version"])))
        rest = re.sub(pattern, lambda match: " " * len(match[0]), rest)
    names = [name for _, name in sorted(found)]
    permissive = {is_permissive(name) for name in names}
    if len(permissive) != 1:
        return None
    around = _HOSTS.sub(" ", rest).split()
    return names[0] if permissive == {False} or all(word in _AROUND or _NUMBER.fullmatch(word) for word in around) else None


def _words(claim: str) -> str:
    """Return a claim as words with one space between, the URL of a Creative Commons license as its short name."""
    text = unicodedata.normalize("NFKC", unquote(claim)).lower()
    text = "".join("-" if unicodedata.category(c) == "Pd" else c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(_WORD.findall(_RESTRICTED_URL.sub(_short_name, _URL.sub(_short_name, text))))


def _short_name(url: re.Match[str]) -> str:
    family, kind, version = url.groups()
    if family == "publicdomain" and not re.match("zero|cc0", kind):
        return " public domain "
    return f" cc {kind} {version or ''} "


def kind_of(name: str | None) -> str:
    """Return a license's name without its version: what decides whether two claims agree."""
    return re.sub(r"-\d\.\d$", "", name or "unknown") if (name or "").startswith("CC") else name or "unknown"


def is_permissive(name: str | None) -> bool | None:
    """Say whether a license by this name is on the whitelist; None for no name."""
    return None if name is None else kind_of(name) in _PERMISSIVE_CC or name in _PERMISSIVE


def _creative_commons(kind: str, version: str | None) -> str:
    """Return the name of a Creative Commons license of these words, its parts in the usual order: by, nc, nd, sa."""
    name = "-".join(["CC", *(part for part, words in _PARTS.items() if re.search(words, kind))])
    if version and "." not in version:
        version += ".0"
    if name == "CC":
        return f"CC0-{version or '1.0'}"
    return f"{name}-{version}" if version else name


def _claims(meta: dict[str, Any], given: str | None) -> list[tuple[str, str | None]]:
    """Return (place, license or None if not recognized), by rank."""
    found: list[tuple[str, str | None]] = [("source", recognized(given))] if given else []
    entries = mapping_at(meta, "html").get("license")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and string_at(entry, "url") and entry.get("via") in RANK:
            found.append((entry["via"], recognized(string_at(entry, "url"))))
    return sorted(found, key=lambda claim: RANK.index(claim[0]))
