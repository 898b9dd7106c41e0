"""A match as people check it: the document's text and the item's, with what they share marked.

What is shared is found as the matcher finds it: by runs of folded tokens, numbers masked, so that a text in other characters or
markup is marked as well. Numbers that stand in a shared run and differ are kept apart. In code it is runs of tokens with every
name masked. Marks are for the eye: what counted is the score.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.decontaminate.normalize import text_bytes, tokenize
from curate.decontaminate.walk import NUMBER

RUN, CODE_RUN = 3, 8
MAX_ITEM_TEXT = 3000  # characters of one channel that are shown
Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Words:
    """Tokens of a text: what they are, what number they are (0: none), and their places in characters."""

    keys: list[int]
    values: list[int]
    spans: Spans
    run: int


def evidence(match: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Return what to show of a match: both texts, and the ranges in them that are shared or differ in a number.

    `match` is a row of matches, `texts` the channels of its item. The result is
    {document: {text, shared, changed}, item: [{channel, text, shared, changed}]}, ranges in characters.
    """
    document = match["doc_excerpt"]
    parts = {name: text[:MAX_ITEM_TEXT] + ("…" if len(text) > MAX_ITEM_TEXT else "") for name, text in texts.items()}
    shared: Spans = []
    changed: Spans = []
    items = []
    for name, text in parts.items():
        split = _code if name == "code" else _words
        mine, theirs = split(document), split(text)
        found, numbers = compared(mine, theirs)
        shared, changed = shared + found, changed + numbers
        found, numbers = compared(theirs, mine)
        items.append({"channel": name, "text": text, "shared": _joined(found, text), "changed": _joined(numbers, text)})
    same = set(shared)
    changed = [span for span in changed if span not in same]
    return {"document": {"text": document, "shared": _joined(shared, document), "changed": _joined(changed, document)}, "item": items}


def compared(own: Words, other: Words) -> tuple[Spans, Spans]:
    """Return the ranges of `own` that are in runs of tokens which `other` has too, and those of numbers that differ there.

    A text of two tokens is a run; one of a single token, such as "4", says nothing wherever it stands.
    """
    run = min(own.run, max(2, min(len(own.keys), len(other.keys))))
    grams: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(other.keys) - run + 1):
        grams.setdefault(tuple(other.keys[i : i + run]), []).append(i)
    covered, equal = [False] * len(own.keys), [False] * len(own.keys)
    for i in range(len(own.keys) - run + 1):
        for at in grams.get(tuple(own.keys[i : i + run]), ())[:50]:
            for k in range(run):
                covered[i + k] = True
                equal[i + k] = equal[i + k] or own.values[i + k] == other.values[at + k]
    shared = [span for span, is_in, same in zip(own.spans, covered, equal, strict=True) if is_in and same]
    changed = [span for span, is_in, same in zip(own.spans, covered, equal, strict=True) if is_in and not same]
    return shared, changed


def _words(text: str) -> Words:
    tokens = tokenize(text)
    data = text_bytes(text)
    at = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])  # characters that begin before each byte
    spans = list(zip(at[tokens.starts].tolist(), at[tokens.ends].tolist(), strict=True))
    values = np.where(tokens.hashes == NUMBER, tokens.values, 0)
    return Words(tokens.hashes.tolist(), values.tolist(), spans, RUN)


def _code(text: str) -> Words:
    found = list(re.finditer(r"[A-Za-z_]\w*|\d+|[^\w\s]", text))
    keys = [hash_of(m[0]) for m in found]
    return Words(keys, [0] * len(keys), [m.span() for m in found], CODE_RUN)


def hash_of(token: str) -> int:
    """Return what a token of code is compared by: a name is any name."""
    if re.match(r"[A-Za-z_]", token) and token not in keyword.kwlist:
        return 0
    return int.from_bytes(token.encode("utf-8", "replace")[:8].ljust(8, b"\0"), "big") + 1


def _joined(spans: Spans, text: str) -> Spans:
    """Join ranges that touch, overlap, or have nothing but blanks or a few marks between them."""
    result: Spans = []
    for start, end in sorted(set(spans)):
        gap = text[result[-1][1] : start] if result else "x"
        if not gap.strip() or (result and len(gap) <= 4 and not re.search(r"\w", gap)):
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif end > start:
            result.append((start, end))
    return result
