"""How a matched text differs from the benchmark's: read off the alignment of one unit's tokens with the document's.

    verbatim             the same text, but for white space
    reformatted          the same words and numbers in other markup, characters, case or punctuation
    numbers_changed      the same words, other numbers
    names_changed        other words, most of them with capitals, in some places
    noisy                other words in some places: typing errors, insertions, rewording
    truncated            the beginning or the end is missing
    reordered            all of it, in another order
    split                something stands in between
    identifiers_renamed  code: the same but for names
    template_sibling     other words and mostly other numbers, or other words throughout: another instance of the item's template.
                         Not counted as a leak.

One word has to do: of several that apply, the first in the order numbers, order, split, truncated, names, noise is given. An item
with its names *and* its numbers replaced cannot be told from another instance of its template, and is taken for one; so are less
than two thirds of it with other numbers, less than MOST_OF_IT of what it says with other words and numbers, and a phrase of it in the
middle of another sentence.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.align import FAR_TOKENS, align
from curate.decontaminate.blocks import Block
from curate.decontaminate.index import View
from curate.decontaminate.score import EDGE

Array = NDArray[Any]
SIBLING = "template_sibling"
MIN_DENSITY = 0.75  # share of the tokens, between the first and the last that are matched, that a leak keeps
MIN_SPAN_DENSITY = 0.67  # the same between the first and the last of all
FRAGMENT, MIN_FRAGMENT_DENSITY = 0.3, 0.85  # where so much of the item is missing, what is there must be much as it was
SCANT_MARGIN, SCANT_NAMES = 1.5, 0.5  # with so little evidence to spare it must be exactly as it was, or but for names
TELLING = 1.0  # so much that is replaced makes another question, where there is little evidence to spare
MOSTLY_MISSING, WEAK_MARGIN = 0.45, 2.0  # and where so much is, with little evidence to spare, it must not be cut from a sentence
BREAK = re.compile(rb"[\n.?!:>]|.{40}")
MOST_OF_IT = 0.6  # of what an item says must be there where words and numbers differ
FIRM_SHARE = 0.8  # of the score that is needed must be in what is left without strays


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the tokens of a unit are in the document. M tokens.

    `matched` bool [M]; `targets` int64 [M], token of the block, or -1; `first`, `last`: tokens of the block, inclusive;
    `item_first`, `item_last`: tokens of the unit, inclusive; `numbers_equal`: share of the matched numbers, None without any;
    `named` bool [M]: tokens with a capital where the document has others with one in the same place: other names;
    `density`: share of the tokens but those that are matched, between the first and the last run of at least LONG_RUN tokens.
    `alike`: whether any word or number of what is matched has a typing error; `found`: the weights, in telling words, that are matched;
    `share`: that of all of the unit's; `replaced`: the weights of what is missing between the first and the last matched token, but for names.
    """

    matched: Array
    targets: Array
    named: Array
    first: int
    last: int
    item_first: int
    item_last: int
    numbers: int
    numbers_equal: float | None
    density: float
    alike: bool
    found: float
    share: float
    replaced: float

    @property
    def whole(self) -> bool:
        """Whether all of the unit is there, word for word, with nothing in between; numbers may differ."""
        return bool(self.matched.all()) and self.last - self.first + 1 == len(self.matched) and not self.alike


def alignment(block: Block, view: View, candidate: int) -> Alignment:
    """Align the unit of a candidate with its window."""
    unit, low, high = (int(v) for v in block.candidates[candidate])
    m = int(view.unit_start[unit + 1] - view.unit_start[unit])
    matched, named, targets = np.zeros(m, np.bool_), np.zeros(m, np.bool_), np.full(m, -1, np.int64)
    numbers, alike, density, weights = align(block.stream, block.units, unit, low, high + 1, view.gram, view.is_code, matched, targets, named)
    count, same, clean = numbers
    found, whole, replaced = weights
    at = np.flatnonzero(matched)
    there = targets[at]
    return Alignment(
        matched=matched,
        targets=targets,
        named=named,
        first=int(there.min()),
        last=int(there.max()),
        item_first=int(at[0]),
        item_last=int(at[-1]),
        numbers=count,
        numbers_equal=same / count if count else None,
        density=density,
        alike=alike or not clean,
        found=found,
        share=found / max(whole, 1e-6),
        replaced=replaced,
    )


def variant(block: Block, view: View, found: Alignment, same_text: bool, channel: str, margin: float) -> str:
    """Name how the document's text differs from the unit's, which is of `channel`.

    `same_text`: they are equal but for white space. Choices that are short leave holes, in another order, that mean nothing. A
    solution with other numbers is that of another instance. `margin` is the evidence beyond what is needed: with little of it,
    a part of an item, cut out of the middle of a sentence, is a phrase that instances share.
    """
    if view.is_code:
        return "verbatim" if same_text else "identifiers_renamed" if found.matched.mean() > 0.6 else "truncated"
    m = len(found.matched)
    cut = max(4, m // 10)
    head, tail = found.item_first, m - 1 - found.item_last
    missing = (head if head >= cut else 0) + (tail if tail >= cut else 0)
    holes = int((~found.matched).sum()) - missing
    equal = found.numbers_equal
    if equal is not None and (holes or missing > 0.4 * m) and (equal < 0.5 or (equal == 0.5 and found.numbers >= 3)):
        return SIBLING
    fragment = missing > FRAGMENT * m
    if (missing > MOSTLY_MISSING * m or (fragment and holes)) and margin < WEAK_MARGIN and _mid_sentence(block, found):
        return SIBLING
    if fragment and holes and margin < (SCANT_NAMES if _capitals(block, found) else SCANT_MARGIN):  # a template's words around another's
        return SIBLING
    if found.replaced >= TELLING and margin < SCANT_MARGIN:  # another sentence of that form
        return SIBLING
    span = found.matched[found.item_first : found.item_last + 1][~found.named[found.item_first : found.item_last + 1]]
    if "choices" not in channel and (found.density < (MIN_FRAGMENT_DENSITY if fragment else MIN_DENSITY) or span.mean() < MIN_SPAN_DENSITY):
        return SIBLING
    if equal is not None and ((fragment and equal < 1) or (channel == "solution" and equal < 0.8)):
        return SIBLING
    if equal is not None and equal < 0.8 and holes and found.share < MOST_OF_IT:
        return SIBLING
    if equal is not None and (equal < 0.8 or (equal < 1 and holes == 0)):
        return "numbers_changed"
    order = found.targets[found.matched]
    steps = np.diff(order)
    if (steps < 0).any():
        return "reordered"
    item_steps = np.diff(np.flatnonzero(found.matched))
    if (steps - item_steps >= FAR_TOKENS).any():
        return "split"
    if missing:
        return "truncated"
    if holes:
        return "names_changed" if _capitals(block, found) else "noisy"
    if found.alike:
        return "noisy"
    return "verbatim" if same_text else "reformatted"


def firm(view: View, unit: int, found: Alignment, channel: str, needed: float) -> bool:
    """Whether the matched tokens that are left without strays say enough, where `needed` is what the unit's score must be.

    Of choices, which may be short and in any order, any are enough.
    """
    if view.is_code or "choices" in channel:
        return True
    return found.found + 2 * float(EDGE) >= FIRM_SHARE * needed * float(view.information[unit])


def alone(block: Block, view: View, unit: int, found: Alignment) -> bool:
    """Whether the whole unit, word for word and number for number, is a line of its own: no other words are on that line."""
    if not found.whole:
        return False
    numbers = view.token_value[int(view.unit_start[unit]) : int(view.unit_start[unit + 1])]
    same: Array = block.stream.values[found.first : found.last + 1] == numbers
    return bool(same.all()) and all(b"\n" in gap for gap in _beside(block, found))


def _mid_sentence(block: Block, found: Alignment) -> bool:
    """Whether the document's sentence began before what is matched, or goes on behind it."""
    return not all(BREAK.search(gap) for gap in _beside(block, found))


def _beside(block: Block, found: Alignment) -> tuple[bytes, bytes]:
    """Return what stands between the match and the tokens before and behind it; a line's end where there are none."""
    stream, piece, first, last = block.stream, int(block.stream.piece_of[found.first]), found.first, found.last
    before = bytes(stream.data[stream.ends[first - 1] : stream.starts[first]]) if first > stream.bounds[piece] else b"\n"
    behind = bytes(stream.data[stream.ends[last] : stream.starts[last + 1]]) if last + 1 < stream.bounds[piece + 1] else b"\n"
    return before, behind


def _capitals(block: Block, found: Alignment) -> bool:
    """Whether most of the document's words that stand where the item has others begin with a capital letter."""
    at = np.flatnonzero(found.matched)
    replaced: list[int] = []
    if found.item_first and found.first - found.item_first >= 0:
        replaced += range(found.first - found.item_first, found.first)
    for i, j in itertools.pairwise(at.tolist()):
        gap = int(found.targets[j] - found.targets[i]) - 1
        if j - i > 1 and 0 < gap <= 6:
            replaced += range(int(found.targets[i]) + 1, int(found.targets[j]))
    return bool(replaced) and float(block.stream.capital[replaced].mean()) >= 0.5


def squeezed(text: str) -> str:
    """Return `text` with its white space made single blanks."""
    return re.sub(r"\s+", " ", text).strip()
