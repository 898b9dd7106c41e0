"""What a clean result means: some of the benchmark's own items, disguised one way after another, and how many are still found.

The probes are scanned with the very index and thresholds that the corpus was searched with, so the shares hold for these settings,
this benchmark and this corpus's background, and not for a test set of somebody else's. The items are a sample, chosen by a hash of
their id among those that can be looked for; the intervals are Wilson's.

What is traded away: a probe is the bare disguise and no page around it, and a disguise that nobody thought of is not among them.
Paraphrases and translations are not probed: no sequence of words is left to be found, and the report says so.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import random
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

from curate.decontaminate.index import Index
from curate.decontaminate.match import scan

MAX_PER_BENCHMARK, MIN_PER_BENCHMARK, MAX_ITEMS = 100, 20, 1000
SHARES = (0.8, 0.6, 0.4, 0.3, 0.2)  # of a question's words, from its beginning
FOUND, MOSTLY = 0.95, 0.5
BATCH = 512  # probes scanned at once
_NAMES = ("Ravenna", "Tobias", "Quillon", "Marisol", "Ekaterin", "Bartholomew", "Nayeli", "Osgood")
_ADVERTISEMENT = "\n\nSubscribe to our newsletter today and get twenty percent off your first order. Click here to learn more about our offers.\n\n"
Texts = dict[str, str]


class Probe(msgspec.Struct, frozen=True):
    """How many of the `tried` items of a benchmark were found in one disguise.

    `share`: of the question's words, where it is a part; `order`: of the disguises.
    """

    benchmark: str
    disguise: str
    tried: int
    found: int
    share: float | None = None
    order: int = 0


def probe(index: Index, items: list[dict[str, Any]]) -> list[Probe]:
    """Return the probes of every benchmark of `index`, in order of benchmark and disguise.

    `items` are the rows of the item table; only those that are `indexed` are probed.
    """
    chosen = _chosen(items, len(index.names))
    results = []
    for name in index.names:
        texts = [_texts(index, number) for number in chosen.get(name, [])]
        for order, (disguise, share, function) in enumerate(_disguises()):
            rng = random.Random(f"{name}\0{disguise}")
            tried = [text for text in (function(one, rng) for one in texts) if text]
            if tried:
                results.append(Probe(name, disguise, len(tried), _found(tried, name, index), share, order))
    return results


def smallest_share(probes: list[Probe], benchmark: str, wanted: float = FOUND) -> float | None:
    """Return the smallest share of a question's words from which at least `wanted` of the probes are found; None if not even all of it."""
    smallest = None
    whole = [p for p in probes if p.benchmark == benchmark and p.share is not None]
    for one in sorted(whole, key=lambda p: -(p.share or 0)):
        if one.found < wanted * one.tried:
            break
        smallest = one.share
    return smallest


def _chosen(items: list[dict[str, Any]], num_benchmarks: int) -> dict[str, list[int]]:
    """Return the numbers of the items to probe, per benchmark: those with the smallest hash of their id."""
    limit = max(MIN_PER_BENCHMARK, min(MAX_PER_BENCHMARK, MAX_ITEMS // max(1, num_benchmarks)))
    ranked: dict[str, list[tuple[bytes, int]]] = {}
    for number, row in enumerate(items):
        if row["indexed"]:
            digest = hashlib.blake2b(f"{row['benchmark']}\0{row['item_id']}".encode("utf-8", "replace"), digest_size=8).digest()
            ranked.setdefault(row["benchmark"], []).append((digest, number))
    return {name: [number for _, number in sorted(rows)[:limit]] for name, rows in ranked.items()}


def _texts(index: Index, item: int) -> Texts:
    texts = {name: index.item_text(item, name) for name in ("question", "choices", "answer", "solution", "passage", "code")}
    texts["main"] = texts["question"] or texts["passage"]
    return texts


def _found(texts: list[str], benchmark: str, index: Index) -> int:
    """Return in how many of `texts` an item of the benchmark is found, and counted."""
    hits: set[str] = set()
    for first in range(0, len(texts), BATCH):
        part = texts[first : first + BATCH]
        batch = pa.RecordBatch.from_pydict({"id": [str(first + i) for i in range(len(part))], "text": part})
        for row in scan(batch, index).select(["doc_id", "benchmark", "counted"]).to_pylist():
            if row["counted"] and row["benchmark"] == benchmark:
                hits.add(row["doc_id"])
    return len(hits)


def _disguises() -> list[tuple[str, float | None, Callable[[Texts, random.Random], str | None]]]:
    """Return (name, share of the question, function) of each; a function returns None for an item that cannot be disguised so."""
    parts = [(f"first {share:.0%} of the question", share, _first(share)) for share in SHARES]
    return [
        ("the whole item", None, _everything),
        ("the question alone", 1.0, lambda t, _: t["main"]),
        *parts,
        ("numbers changed", None, _numbers),
        ("names changed", None, _other_names),
        ("a typo every 10 words", None, _typos(10)),
        ("a typo every 5 words", None, _typos(5)),
        ("sentences in another order", None, _shuffled),
        ("split by an advertisement", None, _split),
        ("options alone", None, lambda t, rng: _lettered(t["choices"], rng) if t["choices"] else None),
        ("solution alone", None, lambda t, _: t["solution"]),
        ("code", None, lambda t, _: t["code"]),
        ("code, identifiers renamed", None, _renamed),
    ]


def _everything(texts: Texts, _: random.Random) -> str | None:
    parts = [texts[name] for name in ("passage", "question", "choices", "solution", "answer") if texts[name]]
    return "\n".join(parts) if len(parts) > 1 else None


def _lettered(choices: str, rng: random.Random) -> str:
    lines = choices.split("\n")
    rng.shuffle(lines)
    return "\n".join(f"({letter}) {line}" for letter, line in zip("abcdefghijklmnopqrst", lines, strict=False))


def _first(share: float) -> Callable[[Texts, random.Random], str | None]:
    def part(texts: Texts, _: random.Random) -> str | None:
        words = texts["main"].split()
        return " ".join(words[: max(1, round(share * len(words)))]) if len(words) >= 5 else None

    return part


def _numbers(texts: Texts, rng: random.Random) -> str | None:
    changed = re.sub(r"\d+", lambda m: str(int(m[0][:9]) + rng.randint(1, 9)), texts["main"])
    return changed if changed != texts["main"] else None


def _other_names(texts: Texts, rng: random.Random) -> str | None:
    """Replace the words with a capital that stand within a sentence, each by the same other one."""
    found = dict.fromkeys(re.findall(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b", texts["main"]))
    if not found:
        return None
    names = rng.sample(_NAMES, len(_NAMES))
    other = {name: names[i % len(names)] for i, name in enumerate(found)}
    return re.sub(r"\b[A-Z][a-z]{2,}\b", lambda m: other.get(m[0], m[0]), texts["main"])


def _typos(every: int) -> Callable[[Texts, random.Random], str | None]:
    def changed(texts: Texts, rng: random.Random) -> str | None:
        words = texts["main"].split(" ")
        for i in range(every // 2, len(words), every):
            if len(words[i]) > 3:
                at = rng.randrange(1, len(words[i]) - 1)
                words[i] = words[i][:at] + words[i][at + 1 :]
        text = " ".join(words)
        return text if text != texts["main"] else None

    return changed


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+", text.strip())


def _shuffled(texts: Texts, rng: random.Random) -> str | None:
    sentences = _sentences(texts["main"])
    if len(sentences) < 3:
        return None
    order = list(range(len(sentences)))
    while order == sorted(order):
        rng.shuffle(order)
    return " ".join(sentences[i] for i in order)


def _split(texts: Texts, _: random.Random) -> str | None:
    words = texts["main"].split(" ")
    middle = len(words) // 2
    return " ".join(words[:middle]) + _ADVERTISEMENT + " ".join(words[middle:]) if len(words) >= 8 else None


def _renamed(texts: Texts, _: random.Random) -> str | None:
    """Leave out documentation and comments, and call every name that is no keyword or built-in by a number."""
    code = re.sub(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', "", texts["code"], flags=re.S)
    code = re.sub(r"(?m)#.*$", "", code)
    kept = {*keyword.kwlist, *dir(builtins), "self"}
    names: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        return match[0] if match[0] in kept else names.setdefault(match[0], f"name_{len(names)}")

    return re.sub(r"(?<![\w.'\"])[A-Za-z_]\w*", other, code) if code.strip() else None
