"""What a page says about itself outside its text: language, title, robots and TDM signals, and license claims.

Collected while the parsed page is at hand, and stored in `meta` for the annotators `consent` and `license`, which rank and judge them.
Signals are cut to 500 characters, since crawled pages are hostile. What is traded away: signals that scripts would add.
"""

from __future__ import annotations

import json
import re
from typing import Any

_MAX_CHARACTERS = 500
_MAX_LICENSES = 20
_MAX_JSON_CHARACTERS = 1_000_000
_MAX_JSON_DEPTH = 8

# Crawlers that read for training or for answering, by the names that they obey in robots rules.
AI_AGENTS = frozenset({
    "ai2bot", "amazonbot", "anthropic-ai", "applebot-extended", "bytespider", "ccbot", "chatgpt-user", "claude-web", "claudebot", "cohere-ai",
    "diffbot", "facebookbot", "google-extended", "gptbot", "imagesiftbot", "meta-externalagent", "oai-searchbot", "omgili", "omgilibot",
    "perplexitybot", "timpibot", "youbot",
})  # fmt: skip
_LICENSE_NAMES = frozenset(("license", "licence", "dc.license", "dcterms.license", "dc.rights.license", "copyright-license", "rights-license"))
_FOOTER = 'footer, [role="contentinfo"], [id*="footer" i], [class*="footer" i]'
_OTHER_WORKS = ("Image", "Photo", "Video", "Audio", "Media", "Music", "Dataset", "DataDownload")  # their license is not the page's


def signals_of(tree: Any, html: str) -> dict[str, Any]:
    """Return what goes to meta["html"] of a parsed page (resiliparse's HTMLTree) with source `html`: only keys that exist."""
    found: dict[str, Any] = {}
    root = tree.document.document_element if tree.document is not None else None
    _put(found, "lang", root.getattr("lang") or root.getattr("xml:lang") if root is not None else None)
    _put(found, "title", tree.title)
    robots: list[str] = []
    licenses: list[tuple[str, str]] = []
    for element in _elements(tree, html):
        if element.tag == "meta":
            _read_meta(element, found, robots, licenses)
        elif element.tag == "script":
            licenses += [("json-ld", url) for url in _json_ld_licenses(element.text or "")]
        else:
            url = (element.getattr("href") or "").strip()
            licenses.append((_place(element), url))
    _put(found, "robots", ", ".join(robots))
    unique = [entry for entry in dict.fromkeys((via, _short(url)) for via, url in licenses) if entry[1]]
    if unique:
        found["license"] = [{"via": via, "url": url} for via, url in unique[:_MAX_LICENSES]]
    return found


def _elements(tree: Any, html: str) -> list[Any]:
    """Return the elements that may carry a signal, by one query; what the source does not mention is not asked for."""
    selectors = ["meta[name]", "meta[property]"]
    if "icense" in html or "ICENSE" in html:
        selectors += ['link[rel~="license" i][href]', 'a[rel~="license" i][href]']
    if "creativecommons.org/" in html:
        selectors += ['a[href*="creativecommons.org/licenses/"]', 'a[href*="creativecommons.org/publicdomain/"]']
    if "ld+json" in html and "icense" in html:
        selectors.append('script[type="application/ld+json"]')
    return list(tree.document.query_selector_all(", ".join(selectors)).values()) if tree.document is not None else []


def _read_meta(element: Any, found: dict[str, Any], robots: list[str], licenses: list[tuple[str, str]]) -> None:
    name = (element.getattr("name") or element.getattr("property") or "").strip().lower()
    value = (element.getattr("content") or "").strip()
    if not value:
        return
    if name == "robots":
        robots.append(value)
    elif name in AI_AGENTS:
        robots += [f"{name}: {part.strip()}" for part in value.split(",") if part.strip()]
    elif name == "tdm-reservation":
        found.setdefault(name, _short(value))
    elif name in _LICENSE_NAMES or (name in ("dc.rights", "dcterms.rights") and re.search(r"https?://|\bcc[ -]|public domain", value, re.I)):
        licenses.append(("meta", value))


def _place(element: Any) -> str:
    """Say where a link to a license stands."""
    if element.tag == "link":
        return "link"
    if "license" in (element.getattr("rel") or "").lower().split():
        return "a"
    return "footer" if element.closest(_FOOTER) is not None else "body"


def _json_ld_licenses(text: str) -> list[str]:
    if "icense" not in text or len(text) > _MAX_JSON_CHARACTERS:
        return []
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return _licenses_in(data, _MAX_JSON_DEPTH)


def _licenses_in(data: Any, depth: int) -> list[str]:
    """Return the licenses of a JSON-LD value and of what it consists of, but not those of pictures and the like in it."""
    if depth == 0:
        return []
    if isinstance(data, list):
        return [url for item in data[:200] for url in _licenses_in(item, depth - 1)]
    if not isinstance(data, dict) or any(part in str(data.get("@type", "")) for part in _OTHER_WORKS):
        return []
    found = []
    for key, value in data.items():
        if key == "license":
            for claim in value if isinstance(value, list) else [value]:
                url = (claim.get("@id") or claim.get("url")) if isinstance(claim, dict) else claim
                found += [url] if isinstance(url, str) else []
        elif isinstance(value, dict | list):
            found += _licenses_in(value, depth - 1)
    return found


def _short(value: str) -> str:
    return " ".join(value.split())[:_MAX_CHARACTERS]


def _put(found: dict[str, Any], key: str, value: str | None) -> None:
    if value and (short := _short(value)):
        found[key] = short
