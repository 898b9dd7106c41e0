"""Which way a page goes: its text layer, OCR, or nothing because it is blank. One page at a time, by evidence.

A document is not routed as a whole: one scanned page among a hundred is common. And a broken encoding belongs to a font, so
letters are judged font by font. The reasons are fixed words:

    text   sound_text_layer; sound_ocr_layer (invisible text over a scan, which reads well)
    ocr    no_text_layer, few_characters, unmapped_characters, shifted_letters, implausible_letters, broken_words
    blank  no_ink, nothing_recognized
    gap    over_page_limit, over_time_limit, too_slow, too_much_memory, crashed, gave_up, unreadable_page, ocr_failed, ocr_is_off
    notes  image_covers_page, ocr_no_better, resolution_reduced, text_cut_off

After OCR `prefer` has the last word: a page of gene sequences or base64 looks like noise either way, and keeps its text layer.
Where OCR fails, or kills its process, the text layer stands in if it is merely short, with both reasons; noise becomes a gap.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from curate.ocr import plausibility
from curate.ocr.pages import Fragment, Image
from curate.specs.ocr import Route

INK_DPI = 36
INK_CONTRAST = 48  # of 255
COVERAGE_CELLS = 64
MIN_OCR_GAIN = 1.5  # a short but sound text layer gives way only to OCR that finds this many times its characters


class Evidence(NamedTuple):
    """What was measured on a page."""

    characters: int  # visible characters in the text layer, painted or not
    unpainted_share: float
    image_share: float
    unmapped_share: float
    implausible_share: float  # of the letter pairs that could be judged
    shifted: bool
    word_share: float


def measure(fragments: list[Fragment], image_share: float, route: Route) -> Evidence:
    """Measure the text layer of a page."""
    text = "\n".join(fragment.text for fragment in fragments)
    characters = sum(_visible(fragment.text) for fragment in fragments)
    unpainted = sum(_visible(fragment.text) for fragment in fragments if not fragment.painted)
    implausible, shifted = _judge_fonts(fragments, route.min_letter_bits)
    return Evidence(
        characters=characters,
        unpainted_share=unpainted / characters if characters else 0.0,
        image_share=image_share,
        unmapped_share=plausibility.unmapped_share(text),
        implausible_share=implausible,
        shifted=shifted,
        word_share=plausibility.word_share(text),
    )


def decide(evidence: Evidence, ink_share: float, route: Route) -> tuple[str, list[str]]:
    """Return the route of a page (text, ocr, blank) and the reasons. `ink_share` is read only where there is little text."""
    scan = evidence.image_share >= route.scan_image_share or evidence.unpainted_share > 0.5
    notes = ["image_covers_page"] if evidence.image_share >= route.scan_image_share else []
    if evidence.characters == 0:
        return ("ocr", ["no_text_layer", *notes]) if ink_share >= route.min_ink_share else ("blank", ["no_ink"])
    against: list[str] = []
    if evidence.unmapped_share > route.max_unmapped_share:
        against.append("unmapped_characters")
    if evidence.implausible_share > route.max_implausible_share:
        against.append("shifted_letters" if evidence.shifted else "implausible_letters")
    if scan and evidence.word_share < route.min_word_share:
        against.append("broken_words")
    if evidence.characters < route.min_characters and ink_share >= route.min_ink_share:
        against.append("few_characters")
    if against:
        return "ocr", against + notes
    return "text", ["sound_ocr_layer" if evidence.unpainted_share > 0.5 else "sound_text_layer", *notes]


def prefer(layer: str, recognized: str, reasons: list[str]) -> str:
    """Return which text to keep after OCR, 'ocr' or 'text': the text layer stays where OCR is no better by the measure that failed."""
    if not layer.strip():
        return "ocr"
    if not recognized.strip():
        return "ocr" if "shifted_letters" in reasons else "text"  # shifted letters that cannot be seen are no text
    if "unmapped_characters" in reasons:
        return "ocr"
    if "shifted_letters" in reasons or "implausible_letters" in reasons:
        before, after = plausibility.letter_bits(layer), plausibility.letter_bits(recognized)
        return "ocr" if after.pairs and after.bits > before.bits + 0.5 else "text"
    if "broken_words" in reasons:
        return "ocr" if plausibility.word_share(recognized) > plausibility.word_share(layer) else "text"
    return "ocr" if _visible(recognized) >= MIN_OCR_GAIN * _visible(layer) else "text"


def is_noise(reasons: list[str]) -> bool:
    """Tell whether a page's text layer must not stand in when OCR is not to be had: better a gap than noise."""
    return any(reason in reasons for reason in ("unmapped_characters", "shifted_letters", "implausible_letters", "broken_words", "no_text_layer"))


def image_share(boxes: list[tuple[float, float, float, float]], width: float, height: float) -> float:
    """Return the share of the page that images cover, overlaps counted once, on a grid of 64 x 64 cells."""
    grid = np.zeros((COVERAGE_CELLS, COVERAGE_CELLS), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        columns = np.clip(np.rint(np.array([x0, x1]) / max(width, 1.0) * COVERAGE_CELLS), 0, COVERAGE_CELLS).astype(int)
        rows = np.clip(np.rint(np.array([y0, y1]) / max(height, 1.0) * COVERAGE_CELLS), 0, COVERAGE_CELLS).astype(int)
        grid[rows[0] : rows[1], columns[0] : columns[1]] = True
    return float(grid.mean())


def ink_share(image: Image, fragments: list[Fragment], width: float, height: float) -> float:
    """Return the share of a rendered page that differs from its background, outside the boxes of painted text."""
    gray = image.mean(axis=2).astype(np.int16)
    background = int(np.bincount(gray.ravel(), minlength=256).argmax())
    ink = np.abs(gray - background) > INK_CONTRAST
    rows, columns = ink.shape
    for fragment in fragments:
        if fragment.painted and fragment.text.strip():
            top, bottom = int(fragment.y0 / height * rows), int(np.ceil(fragment.y1 / height * rows))
            left, right = int(fragment.x0 / width * columns), int(np.ceil(fragment.x1 / width * columns))
            ink[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    return float(ink.mean())


def _visible(text: str) -> int:
    return len("".join(text.split()))


def _judge_fonts(fragments: list[Fragment], min_bits: float) -> tuple[float, bool]:
    """Return the share of letter pairs that stand in implausible fonts, and whether most of those are shifted."""
    by_font: dict[str, list[str]] = defaultdict(list)
    for fragment in fragments:
        by_font[fragment.font].append(fragment.text)
    texts = ["\n".join(parts) for _, parts in sorted(by_font.items())]
    long = [text for text in texts if plausibility.letter_bits(text).pairs >= plausibility.MIN_PAIRS]
    rest = "\n".join(text for text in texts if text not in long)
    judged = bad = shifted = 0
    for text in [*long, rest]:
        letters = plausibility.letter_bits(text)
        if letters.pairs < plausibility.MIN_PAIRS:
            continue
        judged += letters.pairs
        if letters.bits < min_bits:
            bad += letters.pairs
            shifted += letters.pairs if plausibility.best_shift(text) else 0
    return (bad / judged if judged else 0.0), shifted > bad / 2
