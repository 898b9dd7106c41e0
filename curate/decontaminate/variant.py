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

import bisect
import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.blocks import Block
from curate.decontaminate.index import Index, View
from curate.decontaminate.normalize import read_only
from curate.decontaminate.score import ALIKE, EDGE, align_runs, align_words

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
SHORT_RUN, LONG_RUN = 3, 5
FIRM_SHARE = 0.8  # of the score that is needed must be in what is left without strays
FAR_TOKENS = 16  # a gap of so many document tokens is something in between


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the tokens of a unit are in the document. M tokens.

    `matched` bool [M]; `targets` int64 [M], token of the block, or -1; `first`, `last`: tokens of the block, inclusive;
    `item_first`, `item_last`: tokens of the unit, inclusive; `numbers_equal`: share of the matched numbers, None without any;
    `named` bool [M]: tokens with a capital where the document has others with one in the same place: other names;
    `density`: share of the tokens but those that are matched, between the first and the last run of at least LONG_RUN tokens.
    `alike`: whether any word or number of what is matched has a typing error; `share`: of the unit's weights that is matched; `replaced`:
    the weights, in telling words, of what is missing between the first and the last token that is matched, but for names.
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
    share: float
    replaced: float


def alignment(block: Block, view: View, index: Index, candidate: int) -> Alignment:
    """Align the unit of a candidate with its window."""
    unit, low, high = (int(v) for v in block.candidates[candidate])
    a, b = int(view.unit_start[unit]), int(view.unit_start[unit + 1])
    piece = int(block.piece_of[low])
    m = b - a
    lengths, targets = np.zeros(m, np.int64), np.full(m, -1, np.int64)
    begin, end = int(block.bounds[piece]), int(block.bounds[piece + 1])
    own = (view.token_run[a:b], view.token_value[a:b], view.gram)
    align_runs(block.runs, block.values, max(begin, low), min(end, high + 1), *own, lengths, targets)
    matched, alike = _without_strays(lengths, targets), np.zeros(m, np.bool_)
    if not view.is_code:
        lengths[~matched], targets[~matched] = 0, -1
        text = int(view.unit_text[unit])
        words = (view.token_key[a:b], view.token_capital[a:b], index.text[int(index.text_start[text]) : int(index.text_start[text + 1])])
        tokens = (block.keys, block.capital, read_only(block.data), block.starts, block.ends, begin, end)
        align_words(*tokens, *words, view.token_from[a:b], view.token_to[a:b], lengths, targets)
        matched, alike = lengths != 0, lengths == ALIKE
        _extend(matched, targets, view.token_key[a:b], block.keys, begin, end)
        _trim(matched, targets, view.token_capital[a:b], block.capital)
    targets = np.where(matched, targets, -1)
    at = np.flatnonzero(matched)
    values = view.token_value[a:b]
    number = (values[at] != 0) & ~alike[at]  # not a number word with a typing error
    row = np.convolve(number, [1, 1, 1])[1:-1] == 3  # in lists of numbers it is not known which is which
    numbers = at[number & ~row] if not view.is_code else at[:0]
    same = block.values[targets[numbers]] == values[numbers]
    clean = same.copy()
    clean[~same] = [not _is_typo(block, view, index, unit, int(i), int(targets[i])) for i in numbers[~same]]
    numbers, same = numbers[clean], same[clean]
    equal = float(same.mean()) if len(numbers) else None
    firm = np.flatnonzero(matched & (lengths >= LONG_RUN)) if (lengths >= LONG_RUN).any() else at
    named = _named(matched, targets, view.token_capital[a:b], block.capital)
    density = float(matched[firm[0] : firm[-1] + 1][~named[firm[0] : firm[-1] + 1]].mean())
    weights = view.token_weight[a:b]
    share = float(weights[matched].sum() / max(float(weights.sum()), 1e-6))
    inside = slice(int(at[0]), int(at[-1]) + 1)
    replaced = float(weights[inside][~matched[inside] & ~named[inside]].sum())
    places = (int(targets[at].min()), int(targets[at].max()), int(at[0]), int(at[-1]))
    return Alignment(matched, targets, named, *places, len(numbers), equal, density, bool(alike.any() or not clean.all()), share, replaced)


def _extend(matched: Array, targets: Array, unit_keys: Array, keys: Array, first: int, last: int) -> None:
    """Match single equal tokens too, where they go on from a matched one or stand opposite each other in a gap of equal length."""
    at = np.flatnonzero(matched).tolist()
    low, high = max(first, int(targets[at].min()) - len(matched)), min(last, int(targets[at].max()) + len(matched))
    own, there, places = unit_keys.tolist(), keys[low:high].tolist(), (targets - low).tolist()
    for i, j in [*itertools.pairwise(at), (at[-1], len(matched)), (-1, at[0])]:
        if i >= 0:
            while i + 1 < j and places[i] + 1 < len(there) and own[i + 1] == there[places[i] + 1]:
                matched[i + 1], places[i + 1] = True, places[i] + 1
                i += 1
        if j < len(matched):
            while j - 1 > i and places[j] - 1 >= 0 and own[j - 1] == there[places[j] - 1]:
                matched[j - 1], places[j - 1] = True, places[j] - 1
                j -= 1
        if i >= 0 and j < len(matched) and places[j] - places[i] == j - i:
            for k in range(i + 1, j):
                if own[k] == there[places[i] + k - i]:
                    matched[k], places[k] = True, places[i] + k - i
    targets[matched] = np.array(places)[matched] + low


def _named(matched: Array, targets: Array, unit_capital: Array, capital: Array) -> Array:
    """Return which tokens, bool [M], are names with another name in their place, in gaps of equal length."""
    named = np.zeros(len(matched), np.bool_)
    for i, j in itertools.pairwise(np.flatnonzero(matched).tolist()):
        if j - i > 1 and targets[j] - targets[i] == j - i:
            named[i + 1 : j] = unit_capital[i + 1 : j] & capital[targets[i] + 1 : targets[j]]
    return named


def _is_typo(block: Block, view: View, index: Index, unit: int, token: int, place: int) -> bool:
    """Whether the number at `place` has letters at it that the unit's has not, as in "1b2" for "12": a typing error, and no other number."""
    text, first = int(view.unit_text[unit]), int(view.unit_start[unit])
    data = index.text[int(index.text_start[text]) : int(index.text_start[text + 1])]
    there = _glue(block.data, block.starts, block.ends, place)
    return there not in ((b"", b""), _glue(data, view.token_from, view.token_to, first + token))


def _glue(data: Array, starts: Array, ends: Array, token: int) -> tuple[bytes, bytes]:
    """Return the letters right before and behind a token."""
    first, last = int(starts[token]), int(ends[token])
    before, behind = bytes(data[max(0, first - 1) : first]), bytes(data[last : last + 1])
    return before if before.isalpha() else b"", behind if behind.isalpha() else b""


def _trim(matched: Array, targets: Array, unit_capital: Array, capital: Array) -> None:
    """Leave out one or two words behind a gap at either end, inside the unit, unless the gap is names: where a part ends, any text goes on."""
    groups = _runs(matched, targets.tolist())

    def strays(group: list[int], i: int, j: int) -> bool:
        if len(group) >= SHORT_RUN:
            return False
        gap, shift = np.arange(i + 1, j), targets[i] - i
        return not (targets[j] - j == shift and unit_capital[gap].all() and capital[gap + shift].all())

    while len(groups) > 1 and groups[0][0] > 0 and strays(groups[0], groups[0][-1], groups[1][0]):
        matched[groups.pop(0)] = False
    while len(groups) > 1 and groups[-1][-1] < len(matched) - 1 and strays(groups[-1], groups[-2][-1], groups[-1][0]):
        matched[groups.pop()] = False


def _runs(matched: Array, places: list[int]) -> list[list[int]]:
    """Return the runs of matched tokens that follow each other in both texts."""
    runs: list[list[int]] = []
    for i in np.flatnonzero(matched).tolist():
        if runs and runs[-1][-1] == i - 1 and places[i] == places[i - 1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _without_strays(lengths: Array, targets: Array) -> Array:
    """Return which tokens are matched, each token of the document once.

    Longer runs come first; of a run that shares the document's tokens with a longer one, the rest stays if it is a run. Short runs
    stay where the long runs beside them lead to expect them.
    """
    matched = np.zeros(len(lengths), np.bool_)
    used: set[int] = set()
    places: list[int] = targets.tolist()
    for run in sorted(_runs(lengths > 0, places), key=len, reverse=True):
        free = [i for i in run if places[i] not in used]
        if len(free) >= SHORT_RUN:
            matched[free] = True
            used.update(places[i] for i in free)
    long = np.flatnonzero(matched & (lengths >= LONG_RUN)).tolist()
    for i in np.flatnonzero(matched & (lengths < LONG_RUN)).tolist() if long else ():
        k = bisect.bisect_left(long, i)
        matched[i] = min(abs(places[j] - places[i] - (j - i)) for j in long[max(0, k - 1) : k + 1]) <= FAR_TOKENS
    return matched


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
    weights = view.token_weight[int(view.unit_start[unit]) : int(view.unit_start[unit + 1])]
    return float(weights[found.matched].sum()) + 2 * float(EDGE) >= FIRM_SHARE * needed * float(view.information[unit])


def _mid_sentence(block: Block, found: Alignment) -> bool:
    """Whether the document's sentence began before what is matched, or goes on behind it."""
    piece = int(block.piece_of[found.first])
    if found.first > block.bounds[piece] and not BREAK.search(bytes(block.data[block.ends[found.first - 1] : block.starts[found.first]])):
        return True
    return bool(
        found.last + 1 < block.bounds[piece + 1] and not BREAK.search(bytes(block.data[block.ends[found.last] : block.starts[found.last + 1]]))
    )


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
    return bool(replaced) and float(block.capital[replaced].mean()) >= 0.5


def squeezed(text: str) -> str:
    """Return `text` with its white space made single blanks."""
    return re.sub(r"\s+", " ", text).strip()
