"""Fragments with boxes → text in reading order. The same pass serves text layers and OCR.

fragments → lines → furniture removed → columns → paragraphs → text

- A fragment is joined to the one before it on its baseline unless a wide gap lies between: that gap is a column's or a cell's.
- Furniture (running headers, footers, page numbers, a download notice up the margin) is what stands in the same place on
  several pages with the same words, digits aside.
- Columns: the gutter is the widest vertical strip that few lines cross. Lines that do cross it (titles, wide figures' captions) cut
  the page into bands, and each band is read left, then right; then the same again within each part. This is XY-cut (Nagy and
  Seth 1984) with spanning lines masked first, since a plain XY-cut fails below a title.
- Rows of short aligned cells are a table and are read across, cells separated by tabs.

It knows no right-to-left columns, no rotated tables and no formulas; measured elsewhere, passes of this kind bring the share of passed
reading-order tests from 42 % to about 60 %, where a vision model reaches 89 %.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from statistics import median

import msgspec

from curate.ocr.pages import Fragment

MARGIN_SHARE = 0.15  # headers and footers stand within this share of the page's height from its edges
MIN_REPEATS = 3  # pages on which a line must recur to be furniture
MAX_FURNITURE_SHARE = 0.5  # of a page's characters
MAX_LINES = 4000  # per page; beyond this no layout is tried (hostile, or a data dump)
MAX_DEPTH = 8
MAX_CROSSING_SHARE = 0.35
LIGATURES = {ord("ﬀ"): "ff", ord("ﬁ"): "fi", ord("ﬂ"): "fl", ord("ﬃ"): "ffi", ord("ﬄ"): "ffl", ord("ﬅ"): "st", ord("ﬆ"): "st"}
_BULLET = re.compile(r"[•‣◦▪●○■□–—*·-]\s|\(?[0-9]{1,3}[.)]\s|\(?[a-zA-Z][.)]\s|\[[0-9]{1,3}\]")
_CJK = r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"


class Line(msgspec.Struct, array_like=True):
    """A line of a page, or a part of one between wide gaps. Points from the page's top left."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    font: str = ""  # empty where the line has several
    fixed_width: bool = False
    turned: bool = False


def make_lines(fragments: list[Fragment]) -> list[Line]:
    """Join fragments that follow each other on a baseline into lines. The order of the file is kept."""
    lines: list[Line] = []
    for f in fragments:
        text = f.text.translate(LIGATURES).replace("\u00a0", " ")
        if not text.strip():
            if lines and not lines[-1].text.endswith(" "):
                lines[-1].text += " "
            continue
        last = lines[-1] if lines else None
        if last and not f.turned and not last.turned and _continues(last, f):
            space = " " if f.x0 - last.x1 > 0.15 * f.size and not last.text.endswith(" ") and not text.startswith(" ") else ""
            last.text += space + text
            last.x1, last.y0, last.y1 = max(last.x1, f.x1), min(last.y0, f.y0), max(last.y1, f.y1)
            last.size, last.fixed_width = max(last.size, f.size), last.fixed_width and f.fixed_width
            last.font = last.font if last.font == f.font else ""
        else:
            lines.append(Line(text, f.x0, f.y0, f.x1, f.y1, f.size, f.font, f.fixed_width, f.turned))
    for line in lines:
        line.text = line.text.rstrip() if line.fixed_width else " ".join(line.text.split())
    return lines


def find_furniture(pages: list[list[Line]], heights: list[float]) -> list[set[int]]:
    """Return, per page, the indices of the lines that are furniture."""
    keys = [[_furniture_key(line, height, page) for line in lines] for page, (lines, height) in enumerate(zip(pages, heights, strict=True))]
    repeats = Counter(key for page in keys for key in {key for key in page if key})
    found = [{i for i, key in enumerate(page) if key and repeats[key] >= MIN_REPEATS} for page in keys]
    return [set() if _too_much(lines, removed) else removed for lines, removed in zip(pages, found, strict=True)]


def _too_much(lines: list[Line], removed: set[int]) -> bool:
    """Tell whether so much of a page repeats that it is the page's content: slides, forms, the same page printed twice."""
    return sum(len(lines[i].text) for i in removed) > MAX_FURNITURE_SHARE * sum(len(line.text) for line in lines)


def page_text(lines: list[Line]) -> str:
    """Return the text of a page in reading order: paragraphs separated by blank lines, table rows and code by line ends."""
    flat = [line for line in lines if not line.turned]
    turned = [line for line in lines if line.turned]
    if len(turned) > len(flat):  # a page on its side: read as the file has it
        return "\n".join(line.text for line in lines)
    if len(lines) > MAX_LINES:
        return "\n".join(line.text for line in lines)
    text, end = "", None  # `end` is the last line of the block before
    for block in _columns(flat, 0):
        for n, paragraph in enumerate(_paragraphs(block)):
            if n == 0 and end and _goes_on(end, block, text, paragraph):
                text = _join(text, paragraph)
            else:
                text += _separator(text, paragraph) + paragraph
        bottom, right = max(block, key=lambda line: line.y1), max(line.x1 for line in block)
        end = bottom if bottom.x1 > right - 2 * bottom.size else None
    return "\n\n".join([*([text] if text else []), *(line.text for line in turned)])


def _goes_on(end: Line, block: list[Line], text: str, paragraph: str) -> bool:
    """Tell whether a column's first paragraph goes on from the foot of the column before it."""
    first = min(block, key=lambda line: line.y0)
    same = abs(first.size - end.size) < 0.1 * end.size and (first.font == end.font or not first.font or not end.font)
    in_prose = "\t" not in text[text.rfind("\n") + 1 :] and re.search(r"[^\W\d_][-‐\u00ad,]?$", text)
    return bool(same and in_prose and paragraph[:1].islower())


def _continues(last: Line, f: Fragment) -> bool:
    overlap = min(last.y1, f.y1) - max(last.y0, f.y0)
    gap = f.x0 - last.x1
    return overlap > 0.5 * min(last.y1 - last.y0, f.y1 - f.y0) and -0.5 * f.size < gap < 0.8 * max(f.size, last.size)


def _separator(text: str, paragraph: str) -> str:
    """Return what stands between two paragraphs: the items of a list follow each other without a blank line."""
    if not text:
        return ""
    last = text[text.rfind("\n") + 1 :]
    return "\n" if _BULLET.match(last) and _BULLET.match(paragraph) else "\n\n"


def _furniture_key(line: Line, height: float, page: int) -> tuple[str, int, int] | None:
    """Return what identifies a line that stands where furniture stands: its words, digits aside, and its place.

    A number without words is a page number only where it counts with the pages, so that the rows of a table that goes on over
    several pages are not taken for page numbers.
    """
    if not line.turned and MARGIN_SHARE * height < (line.y0 + line.y1) / 2 < (1 - MARGIN_SHARE) * height:
        return None
    words = re.sub(r"\b[ivxlc]+\b", "#", line.text.lower())
    if re.search(r"[^\W\d_]{2}", words):
        words = re.sub(r"\d+", "#", words)
    else:
        words = re.sub(r"\d{1,6}", lambda number: f"page{int(number[0]) - page:+d}", words, count=1)
    return " ".join(words.split()), round(line.y0 / max(height, 1.0) * 25), 0 if not line.turned else round(line.x0 / 20) + 1


def _columns(lines: list[Line], depth: int) -> list[list[Line]]:
    """Return blocks of lines in reading order."""
    if len(lines) < 6 or depth >= MAX_DEPTH:
        return [lines] if lines else []
    gutter = _gutter(lines)
    if gutter is None:
        cut = _horizontal_cut(lines)
        if cut is None:
            return [lines]
        parts = [[line for line in lines if line.y0 < cut], [line for line in lines if line.y0 >= cut]]
        return [block for part in parts for block in _columns(part, depth + 1)]
    crossing = sorted((line for line in lines if line.x0 < gutter < line.x1), key=lambda line: line.y0)
    blocks: list[list[Line]] = []
    rest = [line for line in lines if not line.x0 < gutter < line.x1]
    for line in [*crossing, None]:
        edge = (line.y0 + line.y1) / 2 if line else float("inf")
        band = [other for other in rest if (other.y0 + other.y1) / 2 < edge]
        rest = [other for other in rest if (other.y0 + other.y1) / 2 >= edge]
        blocks += _columns([other for other in band if other.x1 <= gutter], depth + 1)
        blocks += _columns([other for other in band if other.x0 >= gutter], depth + 1)
        if (line and band) or not blocks:
            blocks.append([line] if line else [])
        elif line:
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _gutter(lines: list[Line]) -> float | None:
    """Return the x of the widest strip that few lines cross and that has text on both sides, or None."""
    size = median(line.size for line in lines)
    total = sum(line.y1 - line.y0 for line in lines)
    edges = sorted({line.x0 for line in lines} | {line.x1 for line in lines})
    starts, ends = dict.fromkeys(edges, 0.0), dict.fromkeys(edges, 0.0)
    for line in lines:
        starts[line.x0] += line.y1 - line.y0
        ends[line.x1] += line.y1 - line.y0
    best: tuple[float, float, float, float] | None = None  # share that crosses, minus share of the smaller side, minus width, middle
    begun = done = 0.0
    for left, right in itertools.pairwise(edges):
        begun, done = begun + starts[left], done + ends[left]
        crossing = begun - done
        if right - left < 0.7 * size or crossing > MAX_CROSSING_SHARE * total:
            continue
        candidate = (round(crossing / total, 1), -round(min(done, total - begun) / total, 1), left - right, (left + right) / 2)
        if (best is None or candidate < best) and _is_gutter(lines, candidate[3], size):
            best = candidate
    return best[3] if best else None


def _is_gutter(lines: list[Line], x: float, size: float) -> bool:
    """Tell columns of text from cells of a table: columns have long lines, or lines that do not align across the gutter."""
    left = [line for line in lines if line.x1 <= x]
    right = [line for line in lines if line.x0 >= x]
    if min(len(left), len(right)) < 3:
        return False
    shared = min(max(a.y1 for a in left), max(b.y1 for b in right)) - max(min(a.y0 for a in left), min(b.y0 for b in right))
    if shared < 3 * size:
        return False
    if _fills(left) and _fills(right):
        return True
    few, many = sorted((left, right), key=len)
    tops = sorted(line.y1 for line in many)
    aligned = sum(any(abs(line.y1 - top) < 0.25 * size for top in tops) for line in few)
    return aligned < 0.5 * len(few) and max(_long_share(left), _long_share(right)) > 0.4


def _fills(side: list[Line]) -> bool:
    """Tell whether many lines have the same, full width, as justified and most ragged text has and cells have not."""
    widths = sorted(line.x1 - line.x0 for line in side)
    full = widths[int(0.8 * (len(widths) - 1))]
    return sum(abs(width - full) < 0.2 * full for width in widths) >= 0.4 * len(side) and _long_share(side) >= 0.4


def _long_share(side: list[Line]) -> float:
    return sum(len(line.text) >= 18 for line in side) / len(side)


def _horizontal_cut(lines: list[Line]) -> float | None:
    """Return the y below the widest empty strip, or None where no strip is wider than a line."""
    ordered = sorted(lines, key=lambda line: line.y0)
    bottom, best, cut = ordered[0].y1, 0.0, None
    for line in ordered[1:]:
        if line.y0 - bottom > max(best, 0.9 * line.size):
            best, cut = line.y0 - bottom, line.y0
        bottom = max(bottom, line.y1)
    return cut


def _rows(block: list[Line]) -> list[list[Line]]:
    """Group the lines of a block that stand side by side."""
    rows: list[list[Line]] = []
    for line in sorted(block, key=lambda line: ((line.y0 + line.y1) / 2, line.x0)):
        if rows:
            row = rows[-1]
            middle, height = sum(o.y0 + o.y1 for o in row) / (2 * len(row)), min(o.y1 - o.y0 for o in row)
            if abs((line.y0 + line.y1) / 2 - middle) < 0.5 * min(height, line.y1 - line.y0):
                row.append(line)
                continue
        rows.append([line])
    return [sorted(row, key=lambda line: line.x0) for row in rows]


def _paragraphs(block: list[Line]) -> list[str]:
    """Return the paragraphs of one column."""
    grouped = _rows(block)
    if not grouped:
        return []
    cells = sum(len(row) > 1 for row in grouped) > 0.2 * len(grouped)  # a stray wide gap in justified prose is no cell
    rows = [_row(row, "\t" if cells else " ") for row in grouped]
    steps = [b.y1 - a.y1 for a, b in itertools.pairwise(rows)]
    leading = median(steps) if steps else 0.0
    left, right = min(row.x0 for row in rows), max(row.x1 for row in rows)
    groups: list[list[Line]] = [[rows[0]]]
    for last, row in itertools.pairwise(rows):
        if _begins(last, row, leading, left, right):
            groups.append([])
        groups[-1].append(row)
    return [_joined(group) for group in groups]


def _begins(last: Line, row: Line, leading: float, left: float, right: float) -> bool:
    """Tell whether `row` begins a paragraph after `last`."""
    size = max(row.size, 1.0)
    if last.text.endswith(("-", "\u00ad")) and row.text[:1].islower():
        return False
    if row.y1 - last.y1 > max(1.35 * leading, 1.5 * size) or abs(row.size - last.size) > 0.18 * max(row.size, last.size):
        return True
    if (row.fixed_width and last.fixed_width) or ("\t" in row.text and "\t" in last.text):
        return False
    if _BULLET.match(row.text) or ("\t" in row.text) != ("\t" in last.text):
        return True
    if last.font and row.font and last.font != row.font and last.x1 < right - 0.25 * (right - left):
        return True  # a heading in another font
    indented = 0.7 * size < row.x0 - left < 6 * size and last.x0 - left < 0.5 * size
    ended = last.x1 < right - 0.12 * (right - left) and last.text[-1:] in ".!?:;"
    return (indented and not _BULLET.match(last.text)) or ended


def _row(parts: list[Line], separator: str) -> Line:
    """Join what stands side by side, with `separator` where the gap is wide."""
    text = parts[0].text
    for a, b in itertools.pairwise(parts):
        text += (separator if b.x0 - a.x1 > 1.2 * max(a.size, b.size) else " ") + b.text
    box = (min(p.x0 for p in parts), min(p.y0 for p in parts), max(p.x1 for p in parts), max(p.y1 for p in parts))
    font = parts[0].font if all(p.font == parts[0].font for p in parts) else ""
    return Line(text, *box, max(p.size for p in parts), font, all(p.fixed_width for p in parts))


def _joined(rows: list[Line]) -> str:
    if all(row.fixed_width for row in rows) and len(rows) > 1:
        left = min(row.x0 for row in rows)
        widths = [(row.x1 - row.x0) / len(row.text) for row in rows if row.text]
        step = median(widths) if widths else 1.0
        return "\n".join(" " * min(round((row.x0 - left) / max(step, 0.1)), 200) + row.text for row in rows)
    text = rows[0].text
    for row in rows[1:]:
        text = text + "\n" + row.text if "\t" in row.text else _join(text, row.text)
    return text


def _join(text: str, following: str) -> str:
    """Append a line to a paragraph: a word broken by a hyphen is mended, Chinese and Japanese get no space."""
    if text.endswith("\u00ad"):
        return text[:-1] + following
    if re.search(r"[^\W\d_]{2,}[-‐]$", text) and following[:1].islower():
        first = text.rsplit(None, 1)[-1][:-1]
        compound = "-" in first or "‐" in first  # "state-of-the-" keeps its hyphen
        return text + following if compound else text[:-1] + following
    if re.search(rf"{_CJK}$", text) and re.match(_CJK, following):
        return text + following
    return f"{text} {following}"
