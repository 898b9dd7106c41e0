"""Decontamination stress test: recall per disguise, false positives, precision, places and speed, beside three matchers, in one run.

    python bench/decontamination.py --benchmark gsm8k=gsm8k_test.jsonl.gz --benchmark mmlu=mmlu_test.jsonl.gz \
        --hosts c4.jsonl.gz --clean gsm8k_train.jsonl.gz --other arc=arc_easy.jsonl.gz --items 200

Any benchmark file and any host corpus (JSON lines with `text`) will do; `disguises` says what is made of them. Everything is fitted
on one half of the items and of the hosts: curate's evidence, and for the n-gram matchers the lowest share of an item's n-grams that
no such host reaches. Recall and false positives are of the other half; weights are the fitted half of the hosts'. A recall counts
documents in which that very item (or its twin, with the same question) was found. `enough` is the recall among the items of which
the words that the disguise leaves say as much as is needed at the fitted threshold: the others cannot be told in this disguise.

The matchers are small and in `matchers`, since what they match matters here: `13-gram` follows GPT-3's appendix C, `12-gram` datatrove's
NGramsDecontFilter with its query n-grams, `lines` finds an item's lines as they are. Speeds are per core, by process time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from disguises import negatives, question, suite
from matchers import LineMatcher, NgramMatcher, peers

from curate.decontaminate.index import Index, build_index, save_index, with_weights
from curate.decontaminate.items import Items, read_benchmarks
from curate.decontaminate.match import scan
from curate.decontaminate.normalize import tokenize
from curate.decontaminate.score import EDGE
from curate.decontaminate.tally import item_table, wilson
from curate.decontaminate.weigh import calibrated, count_background, score_background, weighted
from curate.specs.benchmarks import Benchmark, choose, inferred

Peers = dict[str, tuple[NgramMatcher | LineMatcher, float]]
PREVALENCE = 1e-4
PEER_BYTES = 1_000_000  # of text that the slow matchers' speed is measured on


def read_texts(path: str, limit: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for _, line in zip(range(limit), file, strict=False)]


def batch_of(texts: list[str]) -> pa.RecordBatch:
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    return pa.RecordBatch.from_pydict({"id": [str(i) for i in range(len(texts))], "text": texts}, schema)


def halves(items: Items) -> tuple[Items, Items]:
    """Split every benchmark's items in two; twins, which have the same question, stay together."""
    sides = ({}, {})  # type: tuple[dict[str, list[Item]], dict[str, list[Item]]]
    seen: dict[str, int] = {}
    for number, item in enumerate(items.items):
        side = seen.setdefault(question(item) or str(number), number % 2)
        sides[side].setdefault(item.benchmark, []).append(item)
    first, second = (Items(items=[i for own in side.values() for i in own], sizes={n: len(own) for n, own in side.items()}) for side in sides)
    return first, second


def fitted(first: Items, second: Items, hosts: list[str]) -> tuple[Index, Peers]:
    """Return the index and the matchers of the second half of the items, fitted with the first half on `hosts`."""
    background = batch_of(hosts)
    bare = build_index(first)
    index = weighted(bare, count_background([background], bare))
    index = calibrated(index, score_background([background], index), PREVALENCE)
    bare = build_index(second)
    ready = weighted(bare, count_background([background], bare))
    others: Peers = {}
    for (name, fit), (_, use) in zip(peers().items(), peers().items(), strict=True):
        for item in first.items:
            fit.add(item)
        for item in second.items:
            use.add(item)
        others[name] = (use, fit.fitted(hosts))
    return with_weights(ready, {}, {}, evidence=index.evidence, calibration=index.calibration), others


def enough(index: Index, number: int, leak: str) -> bool:
    """Whether what `leak` has left of one of the item's units, in order, says as much as the threshold needs if all of it is matched.

    What a word says is taken from the words that are left before it, as in scoring; gaps cost nothing here. Code is always enough.
    """
    view, keys = index.words, tokenize(leak).hashes.tolist()
    needed = index.thresholds(view) * view.information
    units = np.flatnonzero(view.unit_item == number)
    if len(units) == 0 or (index.code.unit_item == number).any():
        return True
    for unit in units:
        own = slice(int(view.unit_start[unit]), int(view.unit_start[unit + 1]))
        targets = np.full(own.stop - own.start, -9)
        for a, b, size in SequenceMatcher(None, view.token_key[own].tolist(), keys, autojunk=False).get_matching_blocks():
            targets[a : a + size] = range(b, b + size)
        follows = np.diff(targets, prepend=-9) == 1
        behind = np.where(follows, np.roll(follows, 1) + 1, 0)  # so many of the two words before it are left
        says = np.stack([view.token_alone[own], view.token_second[own], view.token_weight[own]])[behind, np.arange(len(targets))]
        if min(float(says[targets >= 0].sum()) + 2 * float(EDGE), float(view.information[unit])) >= needed[unit] - 1e-5:
            return True
    return False


def overlap(match: dict[str, Any], begin: int, end: int) -> float:
    """Return intersection over union of a match and the planted text, in characters."""
    shared = max(0, min(match["doc_end"], end) - max(match["doc_start"], begin))
    return shared / (max(match["doc_end"], end) - min(match["doc_start"], begin))


def recall_rows(index: Index, items: Items, chosen: list[int], hosts: list[str], others: Peers, seed: int) -> list[list[Any]]:
    """Return rows of (benchmark, disguise, n, recall, low, high, recall of scannable, recall where there is enough, overlap, others…)."""
    scannable = item_table(scan(batch_of([]), index), index)["indexed"].to_pylist()
    same: dict[tuple[str, str | None], set[int]] = {}
    for i, item in enumerate(items.items):
        same.setdefault((item.benchmark, question(item) or item.channels.get("code")), set()).add(i)
    cases: dict[tuple[str, str], list[tuple[int, str, int, int]]] = {}
    for name, *case in suite([(i, items.items[i]) for i in chosen], hosts, seed):
        cases.setdefault((items.items[int(str(case[0]))].benchmark, name), []).append(tuple(case))  # type: ignore[arg-type]
    rows = []
    for (benchmark, name), documents in sorted(cases.items(), key=lambda case: case[0][0]):
        best: dict[int, float] = {}
        twins = [same[benchmark, question(items.items[n]) or items.items[n].channels.get("code")] for n, *_ in documents]
        for match in scan(batch_of([text for _, text, *_ in documents]), index).to_pylist():
            row = int(match["doc_id"])
            if match["counted"] and match["item"] in twins[row]:
                best[row] = max(best.get(row, 0.0), overlap(match, documents[row][2], documents[row][3]))
        hits = [i in best for i in range(len(documents))]
        able = [hit for hit, (n, *_) in zip(hits, documents, strict=True) if scannable[n]]
        told = [hit for hit, (n, text, begin, end) in zip(hits, documents, strict=True) if scannable[n] and enough(index, n, text[begin:end])]
        shares = []
        for matcher, threshold in others.values():
            scored = [matcher.scores(text) for _, text, *_ in documents]
            shares.append(sum(any(s.get(t, 0) >= threshold for t in twin) for s, twin in zip(scored, twins, strict=True)) / len(documents))
        where = sum(best.values()) / len(best) if best else float("nan")
        known = [sum(part) / len(part) if part else float("nan") for part in (able, told)]
        rows.append([benchmark, name, len(hits), sum(hits) / len(hits), *wilson(sum(hits), len(hits)), *known, len(told), where, *shares])
    return rows


def print_recall(rows: list[list[Any]], names: list[str], wrong: int, clean: int) -> None:
    print(
        f"\nPrecision is at one leak in {1 / PREVALENCE:,.0f} documents, with the upper bound of the false positives on the hosts and clean corpora."
    )
    print(
        f"{'benchmark':10} {'disguise':32} {'n':>4} {'curate':>7} {'95 % interval':>15} {'scannable':>9} {'enough':>7} {'of':>4} {'overlap':>7} {'precision':>9}"
    )
    rate = wilson(wrong, clean)[1]
    for b, d, n, share, low, high, able, told, of, where, *others in rows:
        precise = PREVALENCE * share / (PREVALENCE * share + (1 - PREVALENCE) * rate)
        peer = " ".join(f"{name} {o:6.1%}" for name, o in zip(names, others, strict=True))
        print(f"{b:10} {d:32} {n:4} {share:7.1%} {f'{low:.1%}–{high:.1%}':>15} {able:9.1%} {told:7.1%} {of:4} {where:7.2f} {precise:9.1%}   {peer}")


def print_clean(corpora: dict[str, list[str]], real: set[str], index: Index, others: Peers) -> tuple[int, int]:
    """Print false positives per corpus; return those of the hosts and clean corpora together, and their size."""
    print(f"\n{'clean corpus':28} {'documents':>9} {'curate':>6} {'per million':>24} {'siblings':>8}   " + "   ".join(others))
    total = [0, 0]
    for name, texts in corpora.items():
        if not texts:
            continue
        matches = scan(batch_of(texts), index).to_pylist()
        counted = len({row["doc_id"] for row in matches if row["counted"]})
        siblings = len({row["doc_id"] for row in matches if not row["counted"]})
        low, high = (1e6 * bound for bound in wilson(counted, len(texts)))
        wrong = [sum(any(s >= threshold for s in m.scores(text).values()) for text in texts) for m, threshold in others.values()]
        span = f"{1e6 * counted / len(texts):,.0f} ({low:,.0f}–{high:,.0f})"
        print(
            f"{name[:28]:28} {len(texts):9,} {counted:6,} {span:>24} {siblings:8,}   "
            + "   ".join(f"{w:>{len(n)},}" for w, n in zip(wrong, others, strict=True))
        )
        if name in real:
            total = [total[0] + counted, total[1] + len(texts)]
    return total[0], total[1]


def print_speed(items: Items, corpora: dict[str, list[str]]) -> None:
    """Print build time, size and speed with all items indexed; the first scan of a process, which compiles, is left out."""
    start = time.process_time()
    bare = build_index(items)
    build = time.process_time() - start
    texts = next(iter(corpora.values()))
    index = weighted(bare, count_background([batch_of(texts)], bare))
    stem = Path("/tmp") / f"curate-bench-{time.monotonic_ns()}"
    save_index(index, stem)
    size = sum(path.stat().st_size for path in (stem.with_suffix(".npz"), stem.with_suffix(".json")))
    for suffix in (".npz", ".json"):
        stem.with_suffix(suffix).unlink()
    print(f"\nindex of {index.num_items:,} items: {build:.1f} s to build, {size / 1e6:.0f} MB, mapped")
    matchers = peers()
    for matcher in matchers.values():
        for item in items.items:
            matcher.add(item)
    print(f"{'corpus':28} {'documents':>9} {'MB':>6}   documents/s and MB/s per core: curate, " + ", ".join(matchers))
    for name, own in corpora.items():
        if not own:
            continue
        num_bytes = sum(len(text.encode()) for text in own)
        repeated = own * max(1, round(8e6 / max(1, num_bytes)))
        few = own[: max(1, round(len(own) * min(1.0, PEER_BYTES / num_bytes)))]
        rates = [rate_of(lambda texts: scan(batch_of(texts), index), repeated)]
        rates += [rate_of(lambda texts, m=m: [m.scores(text) for text in texts], few) for m in matchers.values()]  # type: ignore[misc]
        cells = "   ".join(f"{documents:8,.0f} {rate:6.2f}" for documents, rate in rates)
        ratios = ", ".join(f"{rates[0][1] / rate:.0f}×" for _, rate in rates[1:])
        print(f"{name[:28]:28} {len(own):9,} {num_bytes / 1e6:6.1f}   {cells}   ({ratios})")


def rate_of(function: Any, texts: list[str]) -> tuple[float, float]:
    """Return (documents, megabytes) per second of process time, the best of two."""
    least = float("inf")
    for _ in range(2):
        start = time.process_time()
        function(texts)
        least = min(least, time.process_time() - start)
    return len(texts) / least, sum(len(text.encode()) for text in texts) / 1e6 / least


def read_items(given: list[str], where: str) -> Items:
    specs: dict[str, Benchmark] = {}
    for one in given:
        name, _, file = one.rpartition("=")
        (only,) = inferred([str(Path(file).resolve())]).items()
        specs[name or only[0]] = only[1]
    return read_benchmarks(choose(specs, list(specs), where), Path("/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", action="append", required=True, help="NAME=FILE or FILE, several times")
    parser.add_argument("--hosts", required=True, help="clean documents: JSON lines with `text`")
    parser.add_argument("--clean", action="append", default=[], help="more documents without leaks: a training split, papers")
    parser.add_argument("--other", action="append", default=[], help="other benchmarks of the same subjects, as documents without leaks")
    parser.add_argument("--items", type=int, default=200, help="items per benchmark in the suite")
    parser.add_argument("--documents", type=int, default=10_000, help="at most so many of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    items = read_items(given.benchmark, "--benchmark")
    first_items, second_items = halves(items)
    texts = read_texts(given.hosts, given.documents)
    first, second = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    index, others = fitted(first_items, second_items, first)
    print(f"fitted on {len(first_items.items):,} items and {len(first):,} hosts, reported on {len(second_items.items):,} and {len(second):,}")
    print(f"calibration {json.dumps(index.calibration)}; " + ", ".join(f"{name} at {threshold:.2f}" for name, (_, threshold) in others.items()))
    table = item_table(scan(batch_of([]), index), index).to_pylist()
    chosen, rng = [], random.Random(given.seed)
    for name in second_items.sizes:
        own = [i for i, item in enumerate(second_items.items) if item.benchmark == name]
        chosen += sorted(rng.sample(own, min(given.items, len(own))))
        print(f"{name}: {len(own):,} items, {sum(not table[i]['indexed'] for i in own):,} unscannable")
    corpora = {Path(given.hosts).name: second, **{Path(path).name: read_texts(path, given.documents) for path in given.clean}}
    real = set(corpora)
    for item in (read_items(given.other, "--other").items if given.other else [])[: given.documents]:
        solved = "\n".join([*item.choices, item.channels.get("solution", "")])
        corpora.setdefault(f"other benchmark: {item.benchmark}", []).append(f"{question(item)}\n{solved}")
    hard = negatives(second_items.items, second, given.seed, 300)
    wrong, clean = print_clean({**corpora, **hard}, real, index, others)
    print_recall(recall_rows(index, second_items, chosen, second, others, given.seed), list(others), wrong, clean)
    print_speed(items, corpora)


if __name__ == "__main__":
    main()
