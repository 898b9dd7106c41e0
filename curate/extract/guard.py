"""Recognize markup that is cheap to send and dear to parse.

No page crashes resiliparse 2 or makes it use much memory, but two things take time that grows with the square of their size
(measured on one core): its main-content heuristic looks at all ancestors of each element (16,000 nested `<div>`: 6 s; 100,000:
minutes), and its tokenizer compares each attribute with all before it (64,000 on one tag: 12 s). Browsers cut nesting at 512. The
checks cost nothing on ordinary pages: an exact count starts only where a cheap one says that it could matter. An attacker who
scatters `<` and `>` over attribute values gets past the second check; what is traded away is certainty, for a millisecond per page.
"""

from __future__ import annotations

import re

_MIN_TAGS = 4_000  # below this, no nesting costs more than a second
_MAX_ANCESTORS = 12_000_000  # summed over all elements: about one second
_STRETCH_CHARACTERS = 32_000
_MAX_ATTRIBUTES = 12_000  # on one element: about 0.3 s

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Void elements, and those whose end is implied by the next one: they do not nest in themselves.
_FLAT = frozenset({
    "area", "base", "body", "br", "col", "dd", "dt", "embed", "head", "hr", "html", "img", "input", "li", "link", "meta", "option", "p", "param",
    "script", "source", "style", "td", "th", "title", "tr", "track", "wbr",
})  # fmt: skip
_RAW = r"<!--.*?(?:-->|\Z)|<(script|style|textarea|title)\b.*?(?:</\1|\Z)"
_WHOLE_TAG = re.compile(
    _RAW + r"|<[a-zA-Z][^\s>]*+(?P<attributes>(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^\s>\"']*+))*+)", re.I | re.S
)
_ATTRIBUTE = re.compile(r"[^\s/=]++[^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"?|'[^']*+'?|[^\s>\"']*+))?")


def excess(html: str) -> str:
    """Return why a page must not be parsed: `nested_too_deeply` or `too_many_attributes`; "" when it may be."""
    if html.count("<") - html.count("</") >= _MIN_TAGS and _ancestors_exceed(html):
        return "nested_too_deeply"
    if max(_separators_without(html, ">"), _separators_without(html, "<")) > _MAX_ATTRIBUTES // 2 and _attributes_exceed(html):
        return "too_many_attributes"
    return ""


def _ancestors_exceed(html: str) -> bool:
    """Say whether the number of ancestors, summed over the elements, is too large: an estimate from the tags alone."""
    depth = total = 0
    for found in _TAG.finditer(html):
        closing, name = found.groups()
        flat = name.lower() in _FLAT
        if closing:
            depth -= 0 if flat or depth == 0 else 1
            continue
        total += depth
        depth += 0 if flat else 1
        if total > _MAX_ANCESTORS:
            return True
    return False


def _separators_without(html: str, mark: str) -> int:
    """Count what separates attributes, in the long stretches of the page in which `mark` does not occur."""
    at = total = 0
    while len(html) - at >= _STRETCH_CHARACTERS:
        end = at + _STRETCH_CHARACTERS
        following = html.rfind(mark, at, end)
        if following < 0:
            total += sum(html.count(separator, at, end) for separator in " \n\t\r\f/")
        at = end if following < 0 else following + 1
    return total


def _attributes_exceed(html: str) -> bool:
    for found in _WHOLE_TAG.finditer(html):
        attributes = found["attributes"]
        if attributes and len(attributes) > 2 * _MAX_ATTRIBUTES and len(_ATTRIBUTE.findall(attributes)) > _MAX_ATTRIBUTES:
            return True
    return False
