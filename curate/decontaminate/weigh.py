"""Weights and thresholds from a background sample of the corpus itself.

Two passes over a sample of documents, each shard by shard, each with a result that adds up:

1. `count_background`: in how many documents each n-gram and word of the items stands → `weighted(index, background)`.
2. `score_background`: the highest evidence that each document shows for any item → `calibrated(index, scores, rate)`.

Evidence is the information found beyond `base_threshold` times the unit's information. In clean text it falls off
exponentially, as local alignment scores do (Karlin and Altschul 1990), so its tail is fitted where it is well measured and
continued to the stated rate of false positives: a sample of 2,000 documents cannot show a rate of 1e-4 by counting. The corpus
may be contaminated, so a document that holds most of an item is left out of both passes, and counted.

What is traded away: the fit is no proof, and is bounded on both sides; the result says which bound held. Items that are in more
documents than clean text explains weigh less, until they have too little information left, and are then listed as unscannable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.decontaminate.blocks import Block, blocks
from curate.decontaminate.index import Index, View, with_weights
from curate.decontaminate.lookup import find
from curate.decontaminate.normalize import read_only
from curate.decontaminate.walk import NUMBER
from curate.kernels.compiled import compiled

Array = NDArray[Any]
BIN, LOWEST, NUM_BINS = 0.25, -12.0, 160  # of the histogram of evidence
SUSPECT_SHARE, SUSPECT_INFORMATION = 0.75, 6.0  # from here on a background document counts as contaminated
CODE_TOKEN_WEIGHT = 0.25
NUMBER_WEIGHT = 0.1
LETTER_WEIGHT = 0.3  # of a single letter: a variable, a list's mark


@dataclass(slots=True)
class Background:
    """Document frequencies in a sample. Adding two gives that of both samples; int64 arrays."""

    documents: int
    suspects: int
    word_grams: Array
    word_words: Array
    code_grams: Array

    def __add__(self, other: Background) -> Background:
        return Background(
            self.documents + other.documents,
            self.suspects + other.suspects,
            self.word_grams + other.word_grams,
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
        np.zeros(len(index.words.gram_share), np.int64),
        np.zeros(len(index.words.word_items), np.int64),
        np.zeros(len(index.code.gram_share), np.int64),
    )


def count_background(batches: Iterable[pa.RecordBatch], index: Index) -> Background:
    """Return in how many documents of `batches` each n-gram and word of the items stands; `index` has weights from the items alone."""
    total = empty_background(index)
    for batch in batches:
        suspects = suspect_rows(batch, index)
        total.documents += batch.num_rows - len(suspects)
        total.suspects += len(suspects)
        skip = np.zeros(batch.num_rows, np.bool_)
        skip[suspects] = True
        for view, grams in ((index.words, total.word_grams), (index.code, total.code_grams)):
            seen = np.full(len(grams), -1, np.int64)
            seen_words = np.full(len(view.word_items), -1, np.int64)
            for block in blocks(batch, index, view):
                rows = block.rows[block.piece_of]
                count_rows(block.places, block.numbers, rows, skip, seen, grams)
                if view is index.words:
                    places, numbers = np.empty(len(block.keys), np.int64), np.empty(len(block.keys), np.int32)
                    n = find(block.keys, view.word_slot_key, view.word_slot, _everything(), places, numbers)
                    count_rows(places[:n], numbers[:n], rows, skip, seen_words, total.word_words)
    return total


def _everything() -> Array:
    """Return a bitmap that turns nothing away."""
    return read_only(np.full(64, 0xFFFFFFFFFFFFFFFF, np.uint64))


def save_background(background: Background, path: Path) -> None:
    """Write the counts that are not zero; equal counts give equal bytes."""
    arrays: dict[str, Any] = {}
    for name in ("word_grams", "word_words", "code_grams"):
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
        for name in ("word_grams", "word_words", "code_grams"):
            getattr(result, name)[arrays[f"{name}_at"]] = arrays[name]
    return result


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
            rows.update(block.rows[block.piece_of[block.candidates[bad, 1]]].tolist())
    return np.array(sorted(rows), np.int64)


def weighted(index: Index, background: Background | None) -> Index:
    """Return `index` with weights from `background`, or from the items alone."""
    documents = background.documents if background else 0
    words = _weights(index.words, index, background.word_grams if background else None, background.word_words if background else None, documents)
    code = _weights(index.code, index, background.code_grams if background else None, None, documents)
    return with_weights(index, words, code)


def _weights(view: View, index: Index, grams: Array | None, words: Array | None, documents: int) -> dict[str, Array]:
    rarity = 1.0 / (1.0 + 60.0 * view.gram_share.astype(np.float64))
    if grams is not None:
        rarity = rarity / (1.0 + 300.0 * grams / (documents + 500.0))
    if view is index.code:
        word_weight = np.full(len(view.word_items), CODE_TOKEN_WEIGHT)
    else:
        share = (view.word_items + 0.5) / (index.num_items + 10.0) if words is None else (words + 0.5) / (documents + 10.0)
        word_weight = np.minimum(1.0, 0.1 + 0.9 * -np.log(np.minimum(1.0, share)) / np.log(200.0))
    token_weight = word_weight[view.token_word] if len(view.token_word) else np.zeros(0)
    token_weight = np.where(view.token_key == NUMBER, NUMBER_WEIGHT, token_weight).astype(np.float32)
    if view is index.words:
        single = (view.token_to - view.token_from == 1) & (view.token_key != NUMBER)
        token_weight = np.where(single, np.minimum(token_weight, LETTER_WEIGHT), token_weight)
    if view is index.words and len(token_weight):  # a word that stands several times in a unit counts once: "4 miles, 5 miles, 6 miles"
        unit_of = np.repeat(np.arange(view.num_units, dtype=np.int64), np.diff(view.unit_start))
        _, kind, count = np.unique(unit_of << 32 | view.token_word, return_inverse=True, return_counts=True)
        token_weight = (token_weight / count[kind]).astype(np.float32)
    gram_weight = rarity.astype(np.float32)
    information, lead = np.zeros(view.num_units, np.float32), np.zeros(view.num_units, np.float32)
    measure(read_only(view.unit_start), read_only(view.token_gram), token_weight, gram_weight, np.diff(view.post_start), view.gram, information, lead)
    return {"token_weight": token_weight, "gram_weight": gram_weight, "information": information, "lead": lead}


@compiled
def measure(
    starts: Array, token_gram: Array, token_weight: Array, gram_weight: Array, postings: Array, gram: int, information: Array, lead: Array
) -> None:
    """Fill a unit's information (token weight times the rarest n-gram over it) and lead (weights of n-grams that lead to it)."""
    for unit in range(len(starts) - 1):
        for i in range(starts[unit], starts[unit + 1]):
            rarest = np.float32(0)
            for k in range(max(starts[unit], i - gram + 1), i + 1):
                if token_gram[k] >= 0:
                    rarest = max(rarest, gram_weight[token_gram[k]])
            information[unit] += token_weight[i] * rarest
            if token_gram[i] >= 0 and postings[token_gram[i]] > 0:
                again = False
                for k in range(max(starts[unit], i - 64), i):
                    again |= token_gram[k] == token_gram[i]
                if not again:
                    lead[unit] += gram_weight[token_gram[i]]


def evidence(block: Block, view: View, index: Index) -> Array:
    """Return the evidence, float32, of each candidate of `block`; -inf where its unit is unscannable."""
    units = block.candidates[:, 0]
    information = view.information[units]
    usable = (information >= index.options.min_information) & (view.lead[units] > 0)
    return np.where(usable, block.found - index.bases(view)[units] * information, -np.inf).astype(np.float32)


def score_background(batches: Iterable[pa.RecordBatch], index: Index) -> Scores:
    """Return the highest evidence of each document of `batches`, as a histogram; `index` has its background weights."""
    total = Scores(0, 0, np.zeros(NUM_BINS, np.int64))
    for batch in batches:
        best = np.full(batch.num_rows, -np.inf, np.float32)
        for view in (index.words, index.code):
            for block in blocks(batch, index, view):
                np.maximum.at(best, block.rows[block.piece_of[block.candidates[:, 1]]], evidence(block, view, index))
        clean = np.ones(batch.num_rows, np.bool_)
        clean[suspect_rows(batch, index)] = False
        total.documents += int(clean.sum())
        total.suspects += int((~clean).sum())
        shown = best[clean & (best > LOWEST)]
        total.histogram += np.bincount(np.clip(((shown - LOWEST) / BIN).astype(np.int64), 0, NUM_BINS - 1), minlength=NUM_BINS)
    return total


def calibrated(index: Index, scores: Scores, rate: float) -> Index:
    """Return `index` with the evidence that a clean document reaches with probability `rate`, by the fitted tail.

    `calibration` of the result says how: documents, suspects, the fit, the evidence, the bound that held, if any, and the
    rate that is expected at the evidence in use.
    """
    low, high = index.options.evidence, index.options.max_evidence
    edges = LOWEST + BIN * np.arange(NUM_BINS)
    above = np.cumsum(scores.histogram[::-1])[::-1]  # documents with evidence of at least edges[i]
    share = above / max(1, scores.documents)
    fitted = (above >= 3) & (share <= 0.25) & (edges >= edges[int(np.argmax(scores.histogram))])
    slope, wanted = None, low
    if fitted.sum() >= 4:
        weights = np.sqrt(above[fitted])
        slope, intercept = np.polyfit(edges[fitted], np.log(share[fitted]), 1, w=weights)
        wanted = (np.log(rate) - intercept) / slope if slope < -0.05 else high
    chosen = float(np.clip(wanted, low, high))
    bound = "least" if wanted <= low else "most" if wanted >= high else None
    expected = float(np.exp(intercept + slope * chosen)) if slope is not None and slope < -0.05 else None
    calibration = {
        "documents": scores.documents,
        "suspects": scores.suspects,
        "rate": rate,
        "expected_rate": expected,
        "evidence": chosen,
        "bound": bound,
        "slope": None if slope is None else float(slope),
    }
    return with_weights(index, {}, {}, evidence=chosen, calibration=calibration)
