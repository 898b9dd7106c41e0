"""Decontamination stress test: recall per disguise, false positives and speed, beside two n-gram matchers, in one run.

    python bench/decontamination.py --benchmark gsm8k=gsm8k_test.jsonl.gz --benchmark mmlu=mmlu_test.jsonl.gz \
        --hosts c4.jsonl.gz --clean gsm8k_train.jsonl.gz --clean arxiv.jsonl.gz --items 200

Any benchmark file and any host corpus (JSON lines with `text`) will do. From every sampled item one document per disguise is
made: the item, disguised, inside a host document. A recall counts documents in which that very item (or its twin, with the same
question) was found. Everything is fitted on the first half of the hosts: curate's weights and evidence, and for the n-gram matchers
the lowest share of an item's n-grams that no such host reaches. Leaks and false positives are reported on the second half.

The n-gram matchers are small and in this file, since only what they match matters here: `13-gram` follows GPT-3's appendix C
(lower case, punctuation stripped, any shared 13-gram; items with fewer words by all their words), `12-gram` follows datatrove's
NGramsDecontFilter (its text simplification, an item's n-grams, and n-grams across question and answer).
Speeds are per core, of the hosts and clean corpora, by process time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import string
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.decontaminate.index import Index, build_index
from curate.decontaminate.items import Item, Items, read_benchmarks
from curate.decontaminate.match import scan
from curate.decontaminate.tally import item_table, wilson
from curate.decontaminate.weigh import calibrated, count_background, score_background, weighted
from curate.specs.benchmarks import Benchmark, choose, inferred

NAMES = ["Alice", "Boris", "Carmen", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jamal", "Katya", "Luis", "Mina", "Nils", "Olga"]
NAMES += ["Pedro", "Quinn", "Rosa", "Sven", "Tariq"]
HOMOGLYPHS = str.maketrans("aeopcxyi", "аеорсхуі")
AD = "Sign up for our newsletter today and get twenty percent off your first order of garden furniture, delivered free to your door this week only."
Disguise = Callable[[Item, random.Random], str | None]


def question(item: Item) -> str:
    return item.channels.get("question", "")


def whole(item: Item, rng: random.Random) -> str:
    parts = [
        question(item),
        *item.choices,
        item.channels.get("solution", ""),
        item.channels.get("answer", "") if not item.choices else "",
        item.channels.get("code", ""),
    ]
    return "\n".join(p for p in parts if p)


def question_only(item: Item, rng: random.Random) -> str | None:
    return question(item) or None


def solution_only(item: Item, rng: random.Random) -> str | None:
    return item.channels.get("solution") or None


def numbers_changed(item: Item, rng: random.Random) -> str | None:
    text = question(item)
    changed = re.sub(r"\d+", lambda m: str(int(m[0]) + rng.randint(1, 40)) if len(m[0]) < 9 else m[0], text)
    return changed if changed != text else None


def names_changed(item: Item, rng: random.Random) -> str | None:
    text = question(item)
    counts: dict[str, bool] = {}
    for match in re.finditer(r"\b[A-Z][a-z]{2,}\b", text):
        first = match.start() == 0 or text[: match.start()].rstrip()[-1:] in ".?!"
        counts[match[0]] = counts.get(match[0], False) or not first
    names = [name for name, inside in counts.items() if inside]
    if not names:
        return None
    new = dict(zip(names, rng.sample(NAMES, min(len(names), len(NAMES))), strict=False))
    return re.sub(r"\b[A-Z][a-z]{2,}\b", lambda m: new.get(m[0], m[0]), text)


def zero_width(item: Item, rng: random.Random) -> str | None:
    return "".join(c + ("\u200b" if c.isalpha() and rng.random() < 0.3 else "") for c in question(item)) or None


def homoglyphs(item: Item, rng: random.Random) -> str | None:
    return "".join(c.translate(HOMOGLYPHS) if rng.random() < 0.5 else c for c in question(item)) or None


def unicode_forms(item: Item, rng: random.Random) -> str | None:
    text = unicodedata.normalize("NFD", question(item)).replace("'", "’").replace('"', "“")
    return "".join(chr(0xFF01 + ord(c) - 33) if "a" <= c <= "z" and rng.random() < 0.2 else c for c in text) or None


def markup(item: Item, rng: random.Random) -> str | None:
    wraps = ["<b>{}</b>", '<span class="x">{}</span>', "**{}**", "\\textbf{{{}}}", "[{}](http://example.com/a)", "<i>{}</i>", "_{}_", "{}<br/>"]
    words = question(item).split(" ")
    return " ".join(rng.choice(wraps).format(w) if w and rng.random() < 0.35 else w for w in words).replace("&", "&amp;") or None


def typos(item: Item, rng: random.Random) -> str | None:
    words = question(item).split()
    for i in range(rng.randrange(10), len(words), 10):
        w = words[i]
        at = rng.randrange(len(w))
        words[i] = w[:at] + rng.choice(string.ascii_lowercase) + w[at + (rng.random() < 0.5) :]
    return " ".join(words) or None


def hard_wrap(item: Item, rng: random.Random) -> str | None:
    words, lines, line = question(item).split(), [], ""
    for word in words:
        if len(line) + len(word) > 38:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n> ".join([*lines, line])


def part(share: float) -> Disguise:
    def first_part(item: Item, rng: random.Random) -> str | None:
        words = question(item).split()
        return " ".join(words[: round(share * len(words))]) if len(words) >= 8 else None

    return first_part


def sentences_shuffled(item: Item, rng: random.Random) -> str | None:
    sentences = re.split(r"(?<=[.?!])\s+", question(item).strip())
    if len(sentences) < 3:
        return None
    rng.shuffle(sentences)
    return " ".join(sentences)


def split_by_ad(item: Item, rng: random.Random) -> str | None:
    words = question(item).split()
    if len(words) < 12:
        return None
    at = rng.randint(len(words) // 3, 2 * len(words) // 3)
    return " ".join(words[:at]) + f"\n\n{AD}\n\n" + " ".join(words[at:])


def options(style: str, shuffled: bool) -> Disguise:
    def with_options(item: Item, rng: random.Random) -> str | None:
        if not item.choices:
            return None
        choices = list(item.choices)
        if shuffled:
            rng.shuffle(choices)
        lines = [style.format(letter=string.ascii_uppercase[i], small=string.ascii_lowercase[i], number=i + 1, text=c) for i, c in enumerate(choices)]
        return question(item) + "\n" + "\n".join(lines)

    return with_options


def cloze(item: Item, rng: random.Random) -> str | None:
    return f"{question(item)} {item.channels['answer']}" if item.choices and item.channels.get("answer") else None


def identifiers_renamed(item: Item, rng: random.Random) -> str | None:
    code = item.channels.get("code")
    return _renamed(code, rng) if code else None


def code_only_renamed(item: Item, rng: random.Random) -> str | None:
    """Without the docstring, which alone would give it away."""
    code = item.channels.get("code")
    return _renamed(re.sub(r'"""(?:.|\n)*?"""|\'\'\'(?:.|\n)*?\'\'\'', "", code), rng) if code else None


def _renamed(code: str, rng: random.Random) -> str:
    import keyword

    own = set(re.findall(r"\bdef\s+(\w+)", code)) | set(re.findall(r"[(,]\s*(\w+)\s*:", code))
    own |= set(re.findall(r"^\s*(\w+)\s*(?:[+\-*/]?=)[^=]", code, re.M)) | set(re.findall(r"\bfor\s+(\w+)", code))
    own = {name for name in own if not keyword.iskeyword(name)}
    new = {name: f"{rng.choice('pqrvwz')}{rng.choice(['tmp', 'val', 'aux', 'obj'])}{i}" for i, name in enumerate(sorted(own))}
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda m: new.get(m[0], m[0]), code)


DISGUISES: dict[str, Disguise] = {
    "question + answer, verbatim": whole,
    "question only": question_only,
    "solution only": solution_only,
    "numbers changed": numbers_changed,
    "names changed": names_changed,
    "zero-width characters": zero_width,
    "homoglyphs": homoglyphs,
    "Unicode forms": unicode_forms,
    "HTML, Markdown, LaTeX": markup,
    "typo every 10 words": typos,
    "hard wrap": hard_wrap,
    "80 % of the question": part(0.8),
    "60 % of the question": part(0.6),
    "40 % of the question": part(0.4),
    "shuffled sentences": sentences_shuffled,
    "split by an advertisement": split_by_ad,
    "options A. B. C.": options("{letter}. {text}", False),
    "options (a) (b), other order": options("({small}) {text}", True),
    "options as a list, other order": options("- {text}", True),
    "options 1) 2)": options("{number}) {text}", False),
    "cloze": cloze,
    "identifiers renamed": identifiers_renamed,
    "code only, identifiers renamed": code_only_renamed,
}


def simple_words(text: str) -> list[str]:
    return [w for w in (w.strip(string.punctuation) for w in text.lower().split()) if w]


def trove_words(text: str) -> list[str]:
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    text = re.sub(r"\d+", "0", unicodedata.normalize("NFD", re.sub(r"\s+", " ", text.strip())))
    return "".join(c for c in text if unicodedata.category(c) != "Mn").split()


class NgramMatcher:
    """Share of an item's word n-grams that stand in the document."""

    def __init__(self, size: int, words: Callable[[str], list[str]], with_answer: bool) -> None:
        self.size, self.words, self.with_answer = size, words, with_answer
        self.grams: dict[tuple[str, ...], list[int]] = {}
        self.sizes: list[int] = []

    def add(self, item: Item) -> None:
        text = question(item) or item.channels.get("code", "")
        if self.with_answer:
            text += " " + item.channels.get("answer", "")
        words = self.words(text)
        size = min(self.size, len(words)) if not self.with_answer else self.size
        grams = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if size >= 5 else set()
        for gram in grams:
            self.grams.setdefault(gram, []).append(len(self.sizes))
        self.sizes.append(len(grams))

    def scores(self, text: str) -> dict[int, float]:
        words = self.words(text)
        found: dict[int, set[tuple[str, ...]]] = {}
        for size in {self.size} | ({len(g) for g in self.short()} if not self.with_answer else set()):
            for i in range(len(words) - size + 1):
                gram = tuple(words[i : i + size])
                for item in self.grams.get(gram, ()):
                    found.setdefault(item, set()).add(gram)
        return {item: len(grams) / self.sizes[item] for item, grams in found.items()}

    def short(self) -> list[tuple[str, ...]]:
        if not hasattr(self, "_short"):
            self._short = list({len(g): g for g in self.grams if len(g) < self.size}.values())
        return self._short


def read_texts(path: str, limit: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for _, line in zip(range(limit), file, strict=False)]


def batch_of(texts: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"id": [str(i) for i in range(len(texts))], "text": texts}, pa.schema([("id", pa.string()), ("text", pa.string())])
    )


def hidden(text: str, host: str, rng: random.Random) -> str:
    """Put `text` between two lines of a host of about 5,000 characters."""
    host = host[:5000]
    breaks = [m.start() for m in re.finditer(r"\n|(?<=\.) ", host)] or [len(host)]
    at = rng.choice(breaks)
    return f"{host[:at]}\n\n{text}\n\n{host[at:]}"


def suite(items: list[tuple[int, Item]], hosts: list[str], seed: int) -> Iterator[tuple[str, int, str]]:
    """Yield (disguise, item number, document)."""
    for name, disguise in DISGUISES.items():
        for number, item in items:
            rng = random.Random(f"{seed}/{name}/{item.benchmark}/{item.id}")
            text = disguise(item, rng)
            if text:
                yield name, number, hidden(text, rng.choice(hosts), rng)


def recall_table(
    index: Index, items: Items, chosen: list[int], hosts: list[str], peers: dict[str, tuple[NgramMatcher, float]], seed: int
) -> list[list[Any]]:
    scannable = item_table(scan(batch_of([]), index), index)["indexed"].to_pylist()
    cases: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name, number, text in suite([(i, items.items[i]) for i in chosen], hosts, seed):
        cases.setdefault((items.items[number].benchmark, name), []).append((number, text))
    rows = []
    same = {}
    for i, item in enumerate(items.items):
        same.setdefault((item.benchmark, question(item) or item.channels.get("code")), []).append(i)
    for (benchmark, name), documents in sorted(cases.items(), key=lambda c: (c[0][0], list(DISGUISES).index(c[0][1]))):
        found: dict[int, set[int]] = {}
        for match in scan(batch_of([text for _, text in documents]), index).to_pylist():
            if match["counted"]:
                found.setdefault(int(match["doc_id"]), set()).add(match["item"])
        twins = [set(same[benchmark, question(items.items[n]) or items.items[n].channels.get("code")]) for n, _ in documents]
        hits = [bool(found.get(i, set()) & twin) for i, twin in enumerate(twins)]
        able = [scannable[n] for n, _ in documents]
        others = []
        for matcher, threshold in peers.values():
            scored = [matcher.scores(text) for _, text in documents]
            others.append(sum(any(s.get(t, 0) >= threshold for t in twin) for s, twin in zip(scored, twins, strict=True)) / len(documents))
        low, high = wilson(sum(hits), len(hits))
        of_able = sum(h for h, a in zip(hits, able, strict=True) if a) / max(1, sum(able))
        rows.append([benchmark, name, len(hits), sum(hits) / len(hits), low, high, of_able, *others])
    return rows


def fitted_threshold(matcher: NgramMatcher, hosts: list[str]) -> float:
    """Return the lowest share above all that the hosts reach; an n-gram is enough when they reach none."""
    return max((share for text in hosts for share in matcher.scores(text).values()), default=0.0) + 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", action="append", required=True, help="NAME=FILE or FILE, several times")
    parser.add_argument("--hosts", required=True, help="clean documents: JSON lines with `text`")
    parser.add_argument("--clean", action="append", default=[], help="more documents without leaks, for false positives")
    parser.add_argument("--items", type=int, default=200, help="items per benchmark in the suite")
    parser.add_argument("--documents", type=int, default=10_000, help="at most so many of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    options_ = parser.parse_args()
    specs: dict[str, Benchmark] = {}
    for given in options_.benchmark:
        name, _, file = given.rpartition("=")
        (only,) = inferred([str(Path(file).resolve())]).items()
        specs[name or only[0]] = only[1]
    items = read_benchmarks(choose(specs, list(specs), "--benchmark"), Path("/"))
    start = time.process_time()
    bare = build_index(items)
    build_seconds = time.process_time() - start
    texts = read_texts(options_.hosts, options_.documents)
    first, second = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    background = batch_of(first)
    index = weighted(bare, count_background([background], bare))
    index = calibrated(index, score_background([background], index), 1e-4)
    print(f"{index.num_items:,} items, index built in {build_seconds:.1f} s; calibration {json.dumps(index.calibration)}")
    peers = {}
    for name, matcher in {"13-gram": NgramMatcher(13, simple_words, False), "12-gram": NgramMatcher(12, trove_words, True)}.items():
        for item in items.items:
            matcher.add(item)
        peers[name] = (matcher, fitted_threshold(matcher, first))
    rng = random.Random(options_.seed)
    chosen = []
    for name in items.sizes:
        own = [i for i, item in enumerate(items.items) if item.benchmark == name]
        chosen += sorted(rng.sample(own, min(options_.items, len(own))))
    table = item_table(scan(batch_of([]), index), index).to_pylist()
    for name in items.sizes:
        own_rows = [row for row in table if row["benchmark"] == name]
        print(f"{name}: {len(own_rows):,} items, {sum(not r['indexed'] for r in own_rows):,} unscannable")
    print(f"\n{'benchmark':12} {'disguise':32} {'n':>5} {'curate':>7} {'95 % interval':>15} {'scannable':>9} " + " ".join(f"{p:>8}" for p in peers))
    for b, d, n, share, low, high, able, *others in recall_table(index, items, chosen, second, peers, options_.seed):
        print(f"{b:12} {d:32} {n:5} {share:7.1%} {f'{low:.1%}–{high:.1%}':>15} {able:9.1%} " + " ".join(f"{o:8.1%}" for o in others))
    print(f"\n{'clean corpus':32} {'documents':>9} {'curate':>7} {'siblings':>8} {'MB/s':>7} " + " ".join(f"{p:>8} {'MB/s':>6}" for p in peers))
    for path in [options_.hosts, *options_.clean]:
        corpus = second if path == options_.hosts else read_texts(path, options_.documents)
        size = sum(len(t.encode()) for t in corpus) / 1e6
        batch = batch_of(corpus)
        start = time.process_time()
        matches = scan(batch, index)
        rate = size / (time.process_time() - start)
        counted = len({row["doc_id"] for row in matches.to_pylist() if row["counted"]})
        siblings = len({row["doc_id"] for row in matches.to_pylist() if not row["counted"]})
        cells = []
        for matcher, threshold in peers.values():
            start = time.process_time()
            wrong = sum(any(s >= threshold for s in matcher.scores(text).values()) for text in corpus)
            cells.append(f"{wrong:8,} {size / (time.process_time() - start):6.2f}")
        print(f"{Path(path).name:32} {len(corpus):9,} {counted:7,} {siblings:8,} {rate:7.1f} " + " ".join(cells))


if __name__ == "__main__":
    main()
