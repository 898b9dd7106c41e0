"""Weights and thresholds from a background sample of the corpus itself.

Two passes over a sample of documents, each shard by shard, each with a result that adds up:

1. `count_background`: how often the items' words, pairs and triples stand in the sample → `weighted(index, background)`.
2. `score_background`: the highest evidence that each document shows for any item → `calibrated(index, scores, rate)`.

A word weighs by its surprise, the negative log of how likely the two words before it make it, in a trigram model with continuation
counts (Kneser and Ney 1995) of the background and of the other items: "which of the following is" says nothing, whoever says it.
One document in three shows the tail and is not counted, since a document that has been counted surprises less than new ones.

Evidence is the information found beyond a share of the unit's own (`Index.floors`). In clean text it falls off
exponentially, as local alignment scores do (Karlin and Altschul 1990), so its tail is fitted where it is well measured and
continued to the stated rate of false positives: a sample of 2,000 documents cannot show a rate of 1e-4 by counting. The corpus
may be contaminated, so a document that holds most of an item, or more than any threshold asks for, is left out, and counted.

What is traded away: the fit is no proof, and is bounded on both sides; the result says which bound held. Items that are in more
documents than clean text explains weigh less, until they have too little information left, and are then listed as unscannable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.decontaminate.blocks import Block, blocks
from curate.decontaminate.index import CHANNEL_NAMES, Index, View, with_weights
from curate.decontaminate.lookup import everything, find, gram_hashes
from curate.decontaminate.normalize import read_only
from curate.decontaminate.score import EDGE
from curate.decontaminate.tables import posts_of
from curate.decontaminate.variant import SIBLING, alignment, variant
from curate.decontaminate.walk import NUMBER
from curate.kernels.compiled import compiled

Array = NDArray[Any]
BIN, LOWEST, NUM_BINS = 0.05, -4.0, 400  # of the histogram of evidence
SUSPECT_SHARE, SUSPECT_INFORMATION = 0.75, 6.0  # from here on a background document counts as contaminated
MOST_SURPRISE = 7.0  # nats; a topic's words are far likelier in a text on it than in others, so no word says more. The unit of weights
LEAST_WEIGHT = 0.02
PRIOR, BACKOFF = 5.0, 0.35  # of a context's counts, what is left to shorter ones: all of it at none, this share at many
CODE_TOKEN_WEIGHT = 0.25
TAIL_SHARE, LEAST_RANK, MOST_RANK, TAIL_FROM = 0.03, 12, 100, 1.45  # of the background's documents: where its tail begins
PRIOR_SCALE, PRIOR_RANK = 0.33, 40  # how fast tails fall off, worth so many documents
LEAST_DOCUMENTS, PRIOR_HITS = 50, 3  # a smaller sample shows nothing; so many documents more than were seen are taken to be in the tail
SIBLING_EVIDENCE = 1.0  # from here on it is looked whether a match is another instance of a template
NUMBER_WEIGHT = 0.12
LETTER_WEIGHT = 0.3  # of a single letter: a variable, a list's mark
NAME_WEIGHT = 0.5  # of a word in a name of several words, as names are known by heart
AGAIN_WEIGHT, LED_WEIGHT = 0.33, 0.1  # of a word that the unit has had; of one that it has had behind the same word


@dataclass(slots=True)
class Background:
    """Counts in a sample: occurrences of words, pairs and n-grams, documents with n-grams of code. Adding two gives that of both; int64 arrays."""

    documents: int
    suspects: int
    word_grams: Array
    word_pairs: Array
    word_words: Array
    code_grams: Array

    def __add__(self, other: Background) -> Background:
        return Background(
            self.documents + other.documents,
            self.suspects + other.suspects,
            self.word_grams + other.word_grams,
            self.word_pairs + other.word_pairs,
            self.word_words + other.word_words,
            self.code_grams + other.code_grams,
        )


@dataclass(slots=True)
class Scores:
    """The evidence of background documents, as a histogram (BIN wide, from LOWEST). Adding two gives that of both samples."""

    documents: int
    suspects: int
    histogram: Array

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.documents + other.documents, self.suspects + other.suspects, self.histogram + other.histogram)


def empty_background(index: Index) -> Background:
    """Return the counts of no documents."""
    return Background(
        0,
        0,
        np.zeros(len(index.words.gram_seen), np.int64),
        np.zeros(len(index.words.pair_seen), np.int64),
        np.zeros(len(index.words.word_count), np.int64),
        np.zeros(len(index.code.gram_seen), np.int64),
    )


def count_background(batches: Iterable[pa.RecordBatch], index: Index) -> Background:
    """Return how often the items' words, pairs and n-grams stand in `batches`; `index` has weights from the items alone.

    N-grams of code are counted once per document.
    """
    total = empty_background(index)
    for part in batches:
        batch = part.filter(pa.array(~for_calibration(part)))
        suspects = suspect_rows(batch, index)
        total.documents += batch.num_rows - len(suspects)
        total.suspects += len(suspects)
        skip = np.zeros(batch.num_rows, np.bool_)
        skip[suspects] = True
        for block in blocks(batch, index, index.words):
            rows = block.rows[block.stream.piece_of]
            view = index.words
            for keys, slots, counts in (
                (block.stream.runs, view.slots, total.word_grams),
                (block.stream.keys, view.word_slots, total.word_words),
                (gram_hashes(block.stream.keys, block.stream.bounds, 2), view.pair_slots, total.word_pairs),
            ):
                count_all(*_numbered(keys, slots), rows, skip, counts)
        seen = np.full(len(total.code_grams), -1, np.int64)
        for block in blocks(batch, index, index.code):
            count_rows(*_numbered(block.stream.runs, index.code.slots), block.rows[block.stream.piece_of], skip, seen, total.code_grams)
    return total


def for_calibration(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return which documents, bool, show the tail: one in three. The others are counted.

    A document that has been counted no longer surprises, so its chance matches would look weaker than those of new documents.
    """
    return np.array([zlib.crc32(str(name).encode()) % 3 == 0 for name in batch.column("id").to_pylist()], np.bool_)


def _numbered(keys: Array, slots: Array) -> tuple[Array, Array]:
    """Return the places, int64, of the keys that `slots` has, and their numbers, int64."""
    places, payloads = np.empty(len(keys) + 1, np.int64), np.empty(len(keys), np.uint64)
    n = find(keys, slots, everything(), places, payloads)
    return places[:n], (payloads[:n] & np.uint64(0xFFFFFFFF)).astype(np.int64)


def save_background(background: Background, path: Path) -> None:
    """Write the counts that are not zero; equal counts give equal bytes."""
    arrays: dict[str, Any] = {}
    for name in ("word_grams", "word_pairs", "word_words", "code_grams"):
        counts = getattr(background, name)
        arrays[f"{name}_at"] = np.flatnonzero(counts)
        arrays[name] = counts[arrays[f"{name}_at"]]
    with path.open("wb") as file:
        np.savez(file, totals=np.array([background.documents, background.suspects]), **arrays)


def load_background(path: Path, index: Index) -> Background:
    """Read what `save_background` wrote for the same index."""
    result = empty_background(index)
    with np.load(path) as arrays:
        result.documents, result.suspects = (int(v) for v in arrays["totals"])
        for name in ("word_grams", "word_pairs", "word_words", "code_grams"):
            getattr(result, name)[arrays[f"{name}_at"]] = arrays[name]
    return result


@compiled
def count_all(places: Array, numbers: Array, rows: Array, skip: Array, counts: Array) -> None:
    """Add one to counts[number] for each place, unless its row is skipped."""
    for i in range(len(places)):
        if not skip[rows[places[i]]]:
            counts[numbers[i]] += 1


@compiled
def count_rows(places: Array, numbers: Array, rows: Array, skip: Array, seen: Array, counts: Array) -> None:
    """Add one to counts[number] for each row that has it, unless the row is skipped; `seen` keeps the last row per number."""
    for i in range(len(places)):
        row = rows[places[i]]
        if not skip[row] and seen[numbers[i]] != row:
            seen[numbers[i]] = row
            counts[numbers[i]] += 1


def suspect_rows(batch: pa.RecordBatch, index: Index) -> Array:
    """Return the rows, int64, that hold most of some item: not part of a clean background."""
    rows: set[int] = set()
    for view in (index.words, index.code):
        for block in blocks(batch, index, view):
            units = block.candidates[:, 0]
            bad = (block.found >= SUSPECT_SHARE * view.information[units]) & (block.found >= SUSPECT_INFORMATION)
            rows.update(block.rows[block.stream.piece_of[block.candidates[bad, 1]]].tolist())
    return np.array(sorted(rows), np.int64)


def weighted(index: Index, background: Background | None) -> Index:
    """Return `index` with weights from `background`, or from the items alone."""
    counts = background or empty_background(index)
    return with_weights(index, _word_weights(index.words, counts), _code_weights(index.code, counts))


def _word_weights(view: View, counts: Background) -> dict[str, Array]:
    """Weigh tokens by their surprise: how little the words before them lead one to expect them.

    The model is a trigram one, of the background and, at ITEMS_SHARE, of the other items. What one other text has is not
    counted, so that an item and its near twin do not explain each other.
    """
    if not len(view.token_key):
        empty = np.zeros(0, np.float32)
        none = np.zeros(view.num_units, np.float32)
        return {
            "token_alone": empty,
            "token_second": empty,
            "token_weight": empty,
            "gram_weight": empty,
            "information": none,
            "lead": none,
            "posts": np.zeros(0, np.uint64),
        }
    starts, word, pair, gram = view.unit_start, view.token_word, view.token_pair, view.token_gram
    known = (counts.word_words, counts.word_pairs, counts.word_grams)
    before = np.arange(len(word)) - 1
    first, second = np.zeros(len(word), np.bool_), np.zeros(len(word), np.bool_)
    first[starts[:-1][np.diff(starts) > 0]] = True
    second[1:] = first[:-1] & ~first[1:]
    share = [(count + 0.5) / (max(1, count.sum()) + 1e4) for count in (view.word_count, counts.word_words)]
    alone = np.maximum(*share)[word]
    head_pair, head_word = _heads(gram, pair, len(view.gram_seen)), _heads(pair, word, len(view.pair_seen))
    pair_sum = np.bincount(head_pair, view.gram_seen, minlength=len(view.pair_seen)) + known[1]
    word_sum = np.bincount(head_word, view.pair_seen, minlength=len(view.word_count)) + known[0]
    two = _expected(view.pair_seen + known[1], word_sum[head_word])[:, pair[before]]
    two = np.where(first, alone, two[0] + two[1] * alone)
    three = _expected(view.gram_seen + known[2], pair_sum[head_pair])[:, gram[before - 1]]
    three = np.where(first | second, two, three[0] + three[1] * two)
    surprise = [np.clip(-np.log(p) / MOST_SURPRISE, LEAST_WEIGHT, 1.0) for p in (alone, two, three)]
    gram_weight = np.zeros(len(view.gram_seen), np.float32)
    at = np.flatnonzero(~(first | second))
    gram_weight[gram[at - 2]] = surprise[2][at]
    _dampen(view, surprise)
    alone, two, three = (s.astype(np.float32) for s in surprise)
    information = np.add.reduceat(np.concatenate([three, [np.float32(0)]]), starts[:-1])
    opens = np.diff(view.unit_text, prepend=-1) != 0
    edges = EDGE * (opens.astype(np.float32) + np.roll(opens, -1))
    information = np.where(np.diff(starts) > 0, information + edges, 0).astype(np.float32)
    return {
        "token_alone": alone,
        "token_second": two,
        "token_weight": three,
        "gram_weight": gram_weight,
        "information": information,
        "lead": _lead(view, gram_weight),
        "posts": posts_of(view.post_start, view.post_unit, gram_weight),
    }


def _heads(keys: Array, heads: Array, number: int) -> Array:
    """Return, int64, which shorter sequence each distinct sequence begins with; both are given per token."""
    result = np.zeros(number, np.int64)
    result[keys[keys >= 0]] = heads[keys >= 0]
    return result


def _expected(counts: Array, totals: Array) -> Array:
    """Return [2, N]: the share of a sequence among those with its beginning, and the share that is left to shorter ones."""
    left = BACKOFF + (1 - BACKOFF) * PRIOR / (totals + PRIOR)
    return np.stack([(1 - left) * np.minimum(1.0, counts / np.maximum(totals, 1e-9)), left])


def _dampen(view: View, surprise: list[Array]) -> None:
    """Lower the weights of numbers, single letters, and words that the unit has had already: "4 miles, 5 miles, 6 miles"."""
    number = view.token_key == NUMBER
    letter = (view.token_to - view.token_from == 1) & ~number
    unit_of = np.repeat(np.arange(view.num_units, dtype=np.int64), np.diff(view.unit_start))
    again, pair_again = (_repeated(unit_of << 32 | kind) for kind in (view.token_word, view.token_pair))
    led = np.zeros(len(again), np.bool_)
    led[1:] = pair_again[:-1] & (view.token_pair[:-1] >= 0)
    for weights in surprise:
        weights[number] = np.minimum(weights[number], NUMBER_WEIGHT)
        weights[letter] = np.minimum(weights[letter], LETTER_WEIGHT)
        weights[again] = np.minimum(weights[again], AGAIN_WEIGHT)
    capital = view.token_capital & ~number
    name = capital.copy()  # goes on: "European Court of Human Rights"
    name[:2] = False
    name[1:] &= capital[:-1] | np.concatenate([[False], capital[:-2]])
    for weights in surprise[1:]:
        weights[led] = np.minimum(weights[led], LED_WEIGHT)
        weights[name] = np.minimum(weights[name], NAME_WEIGHT)


def _repeated(kinds: Array) -> Array:
    """Return, bool, which elements have stood before."""
    result = np.ones(len(kinds), np.bool_)
    result[np.unique(kinds, return_index=True)[1]] = False
    return result


def _lead(view: View, gram_weight: Array) -> Array:
    """Return the sum, float32 [U], of the weights of the distinct n-grams that lead to each unit."""
    grams = np.repeat(np.arange(len(gram_weight)), np.diff(view.post_start))
    return np.bincount(view.post_unit, gram_weight[grams], minlength=view.num_units).astype(np.float32)


def _code_weights(view: View, counts: Background) -> dict[str, Array]:
    rarity = 1.0 / (1.0 + 60.0 * view.gram_share.astype(np.float64)) / (1.0 + 300.0 * counts.code_grams / (counts.documents + 500.0))
    weight = np.full(len(view.token_key), CODE_TOKEN_WEIGHT, np.float32)
    gram_weight = rarity.astype(np.float32)
    information = np.zeros(view.num_units, np.float32)
    measure(read_only(view.unit_start), read_only(view.token_gram), weight, gram_weight, view.gram, information)
    return {
        "token_alone": weight,
        "token_second": weight,
        "token_weight": weight,
        "gram_weight": gram_weight,
        "information": information,
        "lead": _lead(view, gram_weight),
        "posts": posts_of(view.post_start, view.post_unit, gram_weight),
    }


@compiled
def measure(starts: Array, token_gram: Array, token_weight: Array, gram_weight: Array, gram: int, information: Array) -> None:
    """Fill a code unit's information: token weight times the rarest n-gram over it."""
    for unit in range(len(starts) - 1):
        for i in range(starts[unit], starts[unit + 1]):
            rarest = np.float32(0)
            for k in range(max(starts[unit], i - gram + 1), i + 1):
                if token_gram[k] >= 0:
                    rarest = max(rarest, gram_weight[token_gram[k]])
            information[unit] += token_weight[i] * rarest


def evidence(block: Block, view: View, index: Index) -> Array:
    """Return the evidence, float32, of each candidate of `block`; -inf where its unit is unscannable."""
    units = block.candidates[:, 0]
    beyond = block.found - index.floors(view)[units]
    return np.where(index.poor(view)[units], -np.inf, beyond).astype(np.float32)


def score_background(batches: Iterable[pa.RecordBatch], index: Index) -> Scores:
    """Return the highest evidence of each document of `batches`, as a histogram; `index` has its background weights.

    Matches that would be reported as instances of an item's template do not count, as they are none.
    """
    total = Scores(0, 0, np.zeros(NUM_BINS, np.int64))
    for part in batches:
        batch = part.filter(pa.array(for_calibration(part)))
        best = np.full(batch.num_rows, -np.inf, np.float32)
        for view in (index.words, index.code):
            for block in blocks(batch, index, view):
                shown = evidence(block, view, index)
                for candidate in np.flatnonzero(shown >= SIBLING_EVIDENCE):
                    channel = CHANNEL_NAMES[int(view.unit_channel[block.candidates[candidate, 0]])]
                    if variant(block, view, alignment(block, view, int(candidate)), False, channel, 0.0) == SIBLING:
                        shown[candidate] = -np.inf
                np.maximum.at(best, block.rows[block.stream.piece_of[block.candidates[:, 1]]], shown)
        clean = best <= index.options.max_evidence
        clean[suspect_rows(batch, index)] = False
        total.documents += int(clean.sum())
        total.suspects += int((~clean).sum())
        kept = best[clean & (best > LOWEST)]
        total.histogram += np.bincount(np.clip(((kept - LOWEST) / BIN).astype(np.int64), 0, NUM_BINS - 1), minlength=NUM_BINS)
    return total


def calibrated(index: Index, scores: Scores, rate: float) -> Index:
    """Return `index` with the evidence that a clean document reaches with probability `rate`, by the fitted tail.

    The tail falls off exponentially from the document of rank `rank` on, as fast as it does between that and a quarter of it
    (ranks, as some of the sample may be leaks), or by PRIOR_SCALE where it is thin. A sample of fewer than LEAST_DOCUMENTS
    leaves `options.evidence`.
    `calibration` of the result says how: documents, suspects, the fit, the evidence, the bound that held, if any, and the
    rate that is expected at the evidence in use.
    """
    options = index.options
    chosen, scale, expected = options.evidence, None, None
    bound: str | None = "sample"
    if scores.documents >= LEAST_DOCUMENTS:
        shown = int(scores.histogram[round((TAIL_FROM - LOWEST) / BIN) :].sum())
        rank = min(shown, int(np.clip(TAIL_SHARE * scores.documents, LEAST_RANK, MOST_RANK)))
        near, scale = TAIL_FROM, PRIOR_SCALE
        if rank >= LEAST_RANK:
            near, far = _at_rank(scores.histogram, rank), _at_rank(scores.histogram, rank / 4)
            scale = float((rank * (far - near) / np.log(4.0) + PRIOR_RANK * PRIOR_SCALE) / (rank + PRIOR_RANK))
        share = (rank + PRIOR_HITS) / scores.documents
        wanted = near + scale * np.log(share / rate)
        chosen = float(np.clip(wanted, options.least_evidence, options.max_evidence))
        bound = "least" if wanted <= options.least_evidence else "most" if wanted >= options.max_evidence else None
        expected = float(min(1.0, share * np.exp((near - chosen) / scale)))
    calibration = {
        "documents": scores.documents,
        "suspects": scores.suspects,
        "rate": rate,
        "expected_rate": expected,
        "evidence": chosen,
        "bound": bound,
        "slope": None if scale is None else float(-1 / scale),
    }
    return with_weights(index, {}, {}, evidence=chosen, calibration=calibration)


def _at_rank(histogram: Array, rank: float) -> float:
    """Return the evidence that `rank` documents reach, between bins by straight lines."""
    above = np.concatenate([np.cumsum(histogram[::-1])[::-1], [0]])
    edges = LOWEST + BIN * np.arange(len(above))
    return float(np.interp(-rank, -above, edges))
