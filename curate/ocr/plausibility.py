"""Is this text, or the noise of a broken font or a failed recognition?

Three measures, each of the text alone, with no dictionary and nothing to download:

- `letter_bits`: the mean log2 probability of a letter given the one before, under the best fitting of the languages in
  `letter_pairs.txt`. Text scores -3.2 to -4.5 (measured: English, 24 languages that are in no table, source code, chemical
  names, reference lists); letters that a font has permuted score -5.0 to -6.8. Numbers and other scripts are not judged.
- `best_shift`: whether moving every letter k places along the alphabet turns noise into language, as it does for fonts whose
  encoding was shifted ("Oqnbddchmfr" is "Proceedings", k = 1).
- `word_share`: the share of characters in tokens that look like words or numbers. It tells a bad OCR layer from a good one;
  it says nothing about mathematics or code, so only scanned pages are judged by it.

Blind spots: a permutation among letters with similar habits (swapped vowels), and text that is short (see MIN_PAIRS).
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curate.ocr.letter_pairs import NUM_SYMBOLS, OTHER, count_pairs, tables

MIN_PAIRS = 60  # with fewer letter pairs the score's spread is wider than the distance between text and noise
NUM_LETTERS = NUM_SYMBOLS - 1
MIN_SHIFT_GAIN_BITS = 1.0

_WORD = re.compile(r"[^\W\d_]{2,}(?:['’\-–./&][^\W\d_]+)*|[aAIiOoyeéàóuvwzskEÀ]|\d+(?:[.,:/\-–]\d+)*%?|[^\W\d_]+\d{1,3}|\d+(?:st|nd|rd|th|s)")
_EDGES = "()[]{}<>«»“”‘’\"'.,:;!?*•·–—-+=$€£%&§¶†‡°/|"


class Letters(NamedTuple):
    """How plausible the Latin letters of a text are."""

    pairs: int  # letter pairs that were judged; 0: no Latin letters
    bits: float  # mean log2 P(letter | letter before), best language; 0 without pairs
    language: str  # the best fitting language; a by-product, not a language identification


def letter_bits(text: str) -> Letters:
    """Measure the Latin letters of `text`."""
    return _fit(count_pairs(text))


def best_shift(text: str) -> int:
    """Return k in 1–25 such that moving every letter k places forward makes `text` much more plausible, or 0."""
    pairs = count_pairs(text)
    plain = _fit(pairs).bits
    shifted = {k: _fit(_move(pairs, k)).bits for k in range(1, NUM_LETTERS)}
    k = max(shifted, key=lambda key: (shifted[key], -key))
    return k if shifted[k] - plain >= MIN_SHIFT_GAIN_BITS else 0


def unmapped_share(text: str) -> float:
    """Return the share of the visible characters that stand for nothing: U+FFFD, private use, control and unassigned."""
    visible = [c for c in text if not c.isspace()]
    bad = sum(c == "\ufffd" or unicodedata.category(c) in ("Co", "Cc", "Cn", "Cs") for c in visible)
    return bad / len(visible) if visible else 0.0


def word_share(text: str) -> float:
    """Return the share of the characters, white space aside, that stand in words or numbers."""
    total = good = 0
    for token in text.split():
        total += len(token)
        core = token.strip(_EDGES)
        if core and len(token) - len(core) <= 4 and (_WORD.fullmatch(core) or (not core.isascii() and _is_word(core))):
            good += len(token)
    return good / total if total else 0.0


def _is_word(core: str) -> bool:
    """Tell whether a token in any script consists of letters and marks."""
    return len(core) > 1 and all(unicodedata.category(c)[0] in "LM" or c in "-'’·、。，ー" for c in core)


def _fit(pairs: npt.NDArray[np.int64]) -> Letters:
    names, logs = tables()
    total = int(pairs.sum())
    if total == 0:
        return Letters(0, 0.0, "")
    scores = logs.reshape(len(names), -1).astype(np.float64) @ pairs.ravel().astype(np.float64) / total
    best = int(scores.argmax())
    return Letters(total, float(scores[best]), names[best])


def _move(pairs: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """Return the pairs of the text whose letters all moved k places forward, around the end of the alphabet."""
    source = np.append((np.arange(NUM_LETTERS) - k) % NUM_LETTERS, OTHER)
    moved: npt.NDArray[np.int64] = pairs[np.ix_(source, source)]
    return moved
