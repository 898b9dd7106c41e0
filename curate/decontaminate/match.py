"""Documents → matches: which benchmark items a batch of documents holds, where, and how sure that is.

A match is one place of one document that holds one item. Channels of the item that stand next to each other are one match.
Where several items of a benchmark claim the same place, the one that explains most of it has it, by what was found and whether its
numbers are the same: an instance of the same template loses it. Equals share it, as two questions do on a passage that is cut short.
Places are character offsets, in the document's text and in the text of the item's channel that `channel` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.decontaminate.blocks import Block, blocks, text_buffer
from curate.decontaminate.index import CHANNEL_NAMES, Index, View
from curate.decontaminate.normalize import Tokens, tokenize
from curate.decontaminate.variant import SIBLING, Alignment, alignment, alone, firm, squeezed, variant

MATCHES = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("source", pa.string()),
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),  # number of the item in the index; -1 for a canary
        pa.field("variant", pa.string(), nullable=False),
        pa.field("counted", pa.bool_(), nullable=False),  # false: reported, but not taken for a leak
        pa.field("channels", pa.list_(pa.string()), nullable=False),
        pa.field("channel", pa.string(), nullable=False),  # the one that was matched best
        pa.field("score", pa.float32(), nullable=False),  # share of the channel's information that was found
        pa.field("threshold", pa.float32(), nullable=False),
        pa.field("information", pa.float32(), nullable=False),  # found, in telling words
        pa.field("numbers_equal", pa.float32()),
        pa.field("doc_start", pa.int64(), nullable=False),  # characters
        pa.field("doc_end", pa.int64(), nullable=False),
        pa.field("item_start", pa.int64(), nullable=False),
        pa.field("item_end", pa.int64(), nullable=False),
        pa.field("doc_excerpt", pa.string(), nullable=False),
        pa.field("item_excerpt", pa.string(), nullable=False),
    ]
)
MAX_EXCERPT, CONTEXT = 1200, 80  # characters
MARK_BYTES = 4096
JOIN_BYTES = 400  # channels of one item that are nearer than this are one match
NUMBERS_MERIT, EXACT_MERIT, WHOLE_MERIT = 0.2, 0.1, 0.1  # what equal numbers, equal words, and all of the text add to a claim, as shares
WHOLE_SCORE, EQUAL_MERIT = 0.9, 0.97  # from here on it is all of the text; a claim of so much of the best one shares the place
ROUNDING = 1e-5  # sums of float32 in another order differ by less, and no word says so little
ANSWER_TOKENS = 60  # the answer is looked for so far behind the question
Array = NDArray[Any]


@dataclass(slots=True)
class Hit:
    """One unit found at one place. Bytes are offsets in the document."""

    row: int
    item: int
    channel: str
    variant: str
    score: float
    threshold: float
    information: float
    numbers_equal: float | None
    start: int
    end: int
    item_start: int
    item_end: int
    whole: bool = False  # the place is all of the unit's text, word for word, but for numbers
    channels: set[str] = field(default_factory=set)
    merits: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # per channel and unit: what was found, and that with its merit
    wholes: dict[str, float] = field(default_factory=dict)  # per channel: all of its information

    def merit(self) -> float:
        """Return how well the item explains the place. Its question with its choices is not counted beside both."""
        sums = {True: 0.0, False: 0.0}
        for channel, whole in self.wholes.items():
            founds, merits = zip(*(pair for (name, _), pair in self.merits.items() if name == channel), strict=True)
            sums["+" in channel] += sum(merits) + WHOLE_MERIT * sum(founds) * (sum(founds) >= WHOLE_SCORE * whole)
        return max(sums.values())

    def goes_on(self, other: Hit) -> bool:
        """Whether `other` is the unit before or behind one of this hit's, of one text."""
        return any(a == b and abs(u - v) == 1 for a, u in self.merits for b, v in other.merits)

    def rank(self) -> tuple[float, ...]:
        """Order among matches that claim one place: the smaller the better. An item of which more channels are there goes first."""
        return (self.variant == SIBLING, -round(self.merit(), 2), self.item)

    def outdone(self, other: Hit) -> bool:
        """Whether `other`, which comes first, explains the place better. If the place is all of this one's text, it can do so only by its numbers."""
        if (self.variant == SIBLING) != (other.variant == SIBLING):
            return True
        whole = self.whole and self.start <= other.start and other.end <= self.end
        equal = [1.0 if hit.numbers_equal is None else hit.numbers_equal for hit in (self, other)]
        return not (whole and equal[0] >= equal[1]) and self.merit() < EQUAL_MERIT * other.merit()


def scan(batch: pa.RecordBatch, index: Index) -> pa.Table:
    """Return the matches of `batch` (columns id and text; url and source where it has them), in order of rows and places.

    The result for a document does not depend on the other documents of the batch.
    """
    hits = [hit for view in (index.words, index.code) for hit in _hits(batch, view, index)]
    data, offsets = text_buffer(batch)
    rows: dict[int, list[Hit]] = {}
    for hit in hits:
        rows.setdefault(hit.row, []).append(hit)
    records = []
    for row in sorted(rows):
        document = data[offsets[row] : offsets[row + 1]]
        marks = character_marks(document)
        records += [_record(hit, batch, index, document, marks) for hit in _settled(rows[row], index)]
    records += list(_canaries(batch, index))
    records.sort(key=lambda record: record.pop("row"))
    return pa.Table.from_pylist(records, MATCHES)


def _hits(batch: pa.RecordBatch, view: View, index: Index) -> Iterator[Hit]:
    thresholds, whole_only, alone_only = index.once(
        ("limits", view.gram), lambda: (index.thresholds(view), index.whole_only(view), index.alone_only(view))
    )
    for block in blocks(batch, index, view, counting=True):
        units = block.candidates[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = block.found / view.information[units]
        scores = np.where(np.abs(scores - 1) < ROUNDING, np.float32(1), scores)  # all of it is 1, which a threshold of 1 asks for
        for candidate in np.flatnonzero(scores >= thresholds[units]).tolist():
            unit, found = int(units[candidate]), alignment(block, view, candidate)
            if (whole_only[unit] and found.numbers_equal not in (None, 1.0)) or (alone_only[unit] and not alone(block, view, unit, found)):
                continue
            hit = _hit(block, view, index, candidate, found, float(scores[candidate]), float(thresholds[unit]))
            if hit is not None:
                yield hit


def _beyond(block: Block, view: View, unit: int, found: Alignment) -> dict[int, float]:
    """Return the information of the units before and behind one that is there to its edge, as far as the document has their words too."""
    first, last = int(view.unit_start[unit]), int(view.unit_start[unit + 1])
    piece, result = int(block.stream.piece_of[found.first]), {}
    begin, end = int(block.stream.bounds[piece]), int(block.stream.bounds[piece + 1])
    if found.item_last == last - first - 1 and unit + 1 < view.num_units and view.unit_text[unit + 1] == view.unit_text[unit]:
        size = min(int(view.unit_start[unit + 2]) - last, end - found.last - 1)
        same = _equal(view, block, last, found.last + 1, size)
        result[unit + 1] = float(view.token_weight[last : last + size][np.logical_and.accumulate(same)].sum())
    if found.item_first == 0 and unit > 0 and view.unit_text[unit - 1] == view.unit_text[unit]:
        size = min(first - int(view.unit_start[unit - 1]), found.first - begin)
        same = _equal(view, block, first - size, found.first - size, size)
        result[unit - 1] = float(view.token_weight[first - size : first][np.logical_and.accumulate(same[::-1])[::-1]].sum())
    return result


def _equal(view: View, block: Block, token: int, place: int, size: int) -> Array:
    """Return which of `size` tokens, bool, are the same words and the same numbers."""
    own, there = slice(token, token + size), slice(place, place + size)
    result: Array = (view.token_key[own] == block.stream.keys[there]) & (view.token_value[own] == block.stream.values[there])
    return result


def _hit(block: Block, view: View, index: Index, candidate: int, found: Alignment, score: float, threshold: float) -> Hit | None:
    unit = int(block.candidates[candidate, 0])
    channel = CHANNEL_NAMES[int(view.unit_channel[unit])]
    if not firm(view, unit, found, channel, threshold):
        return None
    tokens = int(view.unit_start[unit])
    text = int(view.unit_text[unit])
    base = int(index.text_start[text])
    piece = int(block.stream.piece_of[found.first])
    row, offset = int(block.rows[piece]), int(block.offsets[piece])
    start, end = int(block.stream.starts[found.first]), int(block.stream.ends[found.last])
    low, high = int(view.token_from[tokens + found.item_first]), int(view.token_to[tokens + found.item_last])
    here, there = bytes(block.stream.data[start:end]), bytes(index.text[base + low : base + high])
    same = here == there or squeezed(here.decode("utf-8", "replace")) == squeezed(there.decode("utf-8", "replace"))
    item = int(view.unit_item[unit])
    channels = set(channel.split("+"))
    name = variant(block, view, found, same, channel, (score - threshold) * float(view.information[unit]))
    said, exact = float(block.found[candidate]), bool(found.matched[found.item_first : found.item_last + 1].all()) and not found.alike
    if channel == "question" and view is index.words and _has_answer(block, index, item, found, piece):
        channels.add("answer")
    merit = 1 + NUMBERS_MERIT * (1.0 if found.numbers_equal is None else found.numbers_equal) + EXACT_MERIT * exact
    return Hit(
        row=row,
        item=item,
        channel=channel,
        variant=name,
        score=score,
        threshold=threshold,
        information=said,
        numbers_equal=found.numbers_equal,
        start=start - offset,
        end=end - offset,
        item_start=low,
        item_end=high,
        whole=found.whole,
        channels=channels,
        merits={(channel, at): (told, told * merit) for at, told in {unit: said, **_beyond(block, view, unit, found)}.items()},
        wholes={channel: _whole(view, unit)},
    )


def _whole(view: View, unit: int) -> float:
    """Return the information of all of the text that a unit is of; its units follow each other."""
    first, last = np.searchsorted(view.unit_text, view.unit_text[unit], "left"), np.searchsorted(view.unit_text, view.unit_text[unit], "right")
    return float(view.information[first:last].sum())


def _has_answer(block: Block, index: Index, item: int, found: Alignment, piece: int) -> bool:
    """Whether the item's short answer, with the same numbers, stands within ANSWER_TOKENS behind the question."""
    answer: Tokens = index.once(("answer", item), lambda: tokenize("" if index.item_text(item, "choices") else index.item_text(item, "answer")))
    if len(answer) == 0:
        return False
    keys, values = (some[found.last + 1 : int(block.stream.bounds[piece + 1])] for some in (block.stream.keys, block.stream.values))
    size, room = len(answer), max(0, min(len(keys), ANSWER_TOKENS) - len(answer) + 1)
    begins = (keys[:room] == answer.hashes[0]) & (values[:room] == answer.values[0])
    return any(
        bool((keys[at : at + size] == answer.hashes).all() and (values[at : at + size] == answer.values).all())
        and not (size == 1 and _in_a_name(block, found.last + 1 + at))
        for at in np.flatnonzero(begins).tolist()
    )


def _in_a_name(block: Block, token: int) -> bool:
    """Whether a token is the end of a word with a hyphen, as the number of K-12 is."""
    begin = int(block.stream.starts[token])
    before = bytes(block.stream.data[max(0, begin - 2) : begin])
    return before[-1:] == b"-" and before[:1].isalpha()


def _settled(hits: list[Hit], index: Index) -> list[Hit]:
    """Join the channels of each item, and give each place to the best items that claim it."""
    joined: list[Hit] = []
    for hit in sorted(hits, key=lambda h: (h.item, h.start, h.end, h.channel)):
        last = joined[-1] if joined else None
        if last is not None and last.item == hit.item and hit.start - last.end <= JOIN_BYTES:
            joined[-1] = _join(last, hit)
        else:
            joined.append(hit)
    kept: list[Hit] = []
    owners: dict[tuple[int, int], list[Hit]] = {}
    for hit in sorted(joined, key=Hit.rank):
        benchmark = index.item_benchmark[hit.item]
        near = [o for cell in range(hit.start >> 12, (hit.end >> 12) + 1) for o in owners.get((benchmark, cell), [])]
        if any(_same_place(hit, other) and hit.outdone(other) for other in near):
            continue
        kept.append(hit)
        for cell in range(hit.start >> 12, (hit.end >> 12) + 1):
            owners.setdefault((benchmark, cell), []).append(hit)
    return sorted(kept, key=lambda h: (h.start, h.end, h.item))


def _same_place(a: Hit, b: Hit) -> bool:
    return min(a.end, b.end) - max(a.start, b.start) > 0.5 * min(a.end - a.start, b.end - b.start)


def _join(a: Hit, b: Hit) -> Hit:
    best, other = (a, b) if (a.variant == SIBLING, -a.information) <= (b.variant == SIBLING, -b.information) else (b, a)
    whole = any(hit.whole and hit.start <= min(a.start, b.start) and hit.end >= max(a.end, b.end) for hit in (a, b))
    if (best.variant == SIBLING) == (other.variant == SIBLING) or best.goes_on(other):
        best.channels = best.channels | other.channels
        best.start, best.end = min(a.start, b.start), max(a.end, b.end)
        best.whole = whole
        best.merits = {name: max(one.merits.get(name, (0.0, 0.0)) for one in (a, b)) for name in sorted({*a.merits, *b.merits})}
        best.wholes = {**a.wholes, **b.wholes}
    return best


def _named(hit: Hit, index: Index) -> str:
    """Return the hit's variant; where the text is as it was, say which part of the item it is if it is not all."""
    if hit.variant not in ("verbatim", "reformatted"):
        return hit.variant
    if hit.channels <= {"solution", "answer"}:
        return "solution_only"
    if hit.channels == {"choices"}:
        return "choices_only"
    rest = [c for c in ("choices", "answer", "solution", "code") if index.item_text(hit.item, c)]
    if hit.channels == {"question"} and rest:
        return "question_only"
    return hit.variant


def _record(hit: Hit, batch: pa.RecordBatch, index: Index, document: Array, marks: Array) -> dict[str, Any]:
    text = index.item_text(hit.item, hit.channel)
    item_bytes = np.frombuffer(text.encode("utf-8"), np.uint8)
    name = _named(hit, index)
    return {
        "row": hit.row,
        **_origin(batch, hit.row),
        "benchmark": index.names[index.item_benchmark[hit.item]],
        "item_id": index.item_ids[hit.item],
        "item": hit.item,
        "variant": name,
        "counted": name != SIBLING,
        "channels": [c for c in CHANNEL_NAMES if c in hit.channels],
        "channel": hit.channel,
        "score": hit.score,
        "threshold": hit.threshold,
        "information": hit.information,
        "numbers_equal": hit.numbers_equal,
        "doc_start": characters_before(document, marks, hit.start),
        "doc_end": characters_before(document, marks, hit.end),
        "item_start": characters(item_bytes, 0, hit.item_start),
        "item_end": characters(item_bytes, 0, hit.item_end),
        "doc_excerpt": excerpt(document, hit.start, hit.end),
        "item_excerpt": excerpt(item_bytes, hit.item_start, hit.item_end),
    }


def _origin(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    names = batch.schema.names
    return {
        "doc_id": batch.column("id")[row].as_py(),
        "url": batch.column("url")[row].as_py() if "url" in names else None,
        "source": batch.column("source")[row].as_py() if "source" in names else None,
    }


def characters(data: Array, start: int, end: int) -> int:
    """Return the number of characters in the UTF-8 bytes data[start:end]."""
    return int(((data[start:end] & 0xC0) != 0x80).sum())


def character_marks(data: Array) -> Array:
    """Return the number of characters, int64, before every MARK_BYTES bytes of the UTF-8 `data`: places in it are then found at once."""
    begins = ((data & 0xC0) != 0x80).astype(np.int64)
    sums = np.add.reduceat(begins, np.arange(0, len(data), MARK_BYTES)) if len(data) else np.zeros(0, np.int64)
    return np.concatenate([[0], np.cumsum(sums)])


def characters_before(data: Array, marks: Array, place: int) -> int:
    """Return the number of characters in the UTF-8 bytes data[:place]."""
    block = place // MARK_BYTES
    return int(marks[block]) + characters(data, block * MARK_BYTES, place)


def excerpt(data: Array, start: int, end: int) -> str:
    """Return the text of data[start:end] with some context on both sides; … where it is cut."""
    low, high = max(0, start - CONTEXT), min(len(data), end + CONTEXT)
    cut = min(high, low + MAX_EXCERPT)
    text = bytes(data[low:cut]).decode("utf-8", "ignore")
    return ("…" if low else "") + text + ("…" if cut < len(data) else "")


def _canaries(batch: pa.RecordBatch, index: Index) -> Iterator[dict[str, Any]]:
    """Yield a match for each document that holds a canary string, which is looked for as it is written."""
    for benchmark, canary in index.canaries:
        rows = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring(batch.column("text"), canary), False)))
        for row in rows.tolist():
            text = batch.column("text")[row].as_py()
            start = text.find(canary)
            data = np.frombuffer(text.encode("utf-8"), np.uint8)
            begin = len(text[:start].encode("utf-8"))
            yield {
                "row": row,
                **_origin(batch, row),
                "benchmark": benchmark,
                "item_id": "canary",
                "item": -1,
                "variant": "canary",
                "counted": True,
                "channels": ["canary"],
                "channel": "canary",
                "score": 1.0,
                "threshold": 1.0,
                "information": 0.0,
                "numbers_equal": None,
                "doc_start": start,
                "doc_end": start + len(canary),
                "item_start": 0,
                "item_end": len(canary),
                "doc_excerpt": excerpt(data, begin, begin + len(canary.encode("utf-8"))),
                "item_excerpt": canary,
            }
