"""Items → the index that documents are matched against: scored units, hash tables of their n-grams, and the weights.

A unit is what is scored: one channel of one item (long channels are cut into pieces). There are two views of text, words and
code; each has its units' tokens, an open-addressing table from n-gram to number with a bitmap before it that turns most
n-grams of a document away at once, and postings from n-gram to units.

Weights make the score fair: a token counts by how surprising its word is behind the words before it, measured on a background
sample of the corpus and on the other items (`weigh`, `tables`), so text that many share (instructions, templates, common phrases)
counts little. `information` of a unit is the sum of its tokens' weights: about the number of telling words that it has.

Memory: about 80 bytes per token and 40 per distinct n-gram, word and pair; 15,525 items of GSM8K, MMLU and HumanEval take 167 MB.
An index is saved as one .npz, whose arrays are mapped and not read, and one .json beside it; both are named by the content.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.items import CHANNELS, Item, Items
from curate.decontaminate.lookup import everything, fill_bitmap, gram_hashes
from curate.decontaminate.normalize import tokenize_pieces
from curate.decontaminate.shapes import coarse_grams, gram_keys, shapes_of_pieces
from curate.decontaminate.tables import cut, tables_of
from curate.errors import InputError

FORMAT = 3
WORD_GRAM = 3
CODE_GRAM = 8
CHANNEL_NAMES = (*CHANNELS, "question+choices")
WHOLE = 0.999  # a score that means all of it
NUMBER_LEAD = 0.5  # what a number says, in telling words, where it is compared
FORMULAIC = ("solution", "choices", "code")
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What makes an index, beside its items. All of it is part of the index's key."""

    min_tokens: int = 4  # a unit with fewer cannot be told from chance
    min_information: float = 2.6  # nor one with less in it
    base_threshold: float = 0.1  # share of a unit's information that must be found, however much it is
    long_threshold: float = 0.22  # the same of what is beyond `long_information`: a long text has more parts that may match by chance
    long_information: float = 8.0
    formulaic_threshold: float = 0.45  # the same for solutions and choices, which are made of common phrases
    code_threshold: float = 0.25  # and for code
    evidence: float = 3.2  # and so much information beyond that; calibration replaces it
    least_evidence: float = 3.15
    min_whole_tokens: int = 8  # a unit without so much evidence in it counts when all of it is there, if it has so many tokens
    min_whole_information: float = 0.8
    min_alone_tokens: int = 5  # and one of so many when it stands alone as well, and has so much in phrases of its own
    min_alone_lead: float = 1.0
    max_evidence: float = 4.8


@dataclass(frozen=True, slots=True)
class View:
    """One view of the items: `words` or `code`. U units, T tokens, G n-grams, P postings, S slots, B bitmap words."""

    gram: int  # tokens in an n-gram
    unit_item: Array  # int32 [U]
    unit_channel: Array  # uint8 [U], into CHANNEL_NAMES
    unit_text: Array  # int32 [U], which text
    unit_start: Array  # int64 [U + 1], into tokens
    unit_tips: Array  # uint64 [4 · U], its first two and last two tokens
    token_key: Array  # uint64 [T], what the token is
    token_run: Array  # uint64 [T], hash of the n-gram at it; 0 where the unit has no more so many tokens
    token_value: Array  # uint64 [T], of numbers
    token_gram: Array  # int32 [T], the n-gram at it, or -1
    token_word: Array  # int32 [T], into the vocabulary
    token_from: Array  # int32 [T], bytes in the text
    token_to: Array  # int32 [T]
    token_capital: Array  # bool [T]
    token_pair: Array  # int32 [T], the pair of words that begins at it, or -1; words only
    gram_seen: Array  # float32 [G], how often other items have it
    gram_share: Array  # float32 [G], share of a benchmark's other items that have it; code only
    pair_seen: Array  # float32 [pairs]
    word_count: Array  # int32 [V], tokens
    post_start: Array  # int64 [G + 1]
    post_unit: Array  # int32 [P]
    slots: Array  # uint64 [S], n-gram → its number, and << 32 its first posting or all ones; see `lookup.fill_table`
    bitmap: Array  # uint64 [B], of n-grams that lead to units
    coarse: Array  # uint64, of n-grams in which all identifiers are equal; code only
    word_slots: Array  # uint64, the vocabulary → numbers, for counts in the background
    pair_slots: Array  # uint64, the same of pairs
    # the weights; see weigh.py
    token_alone: Array  # float32 [T], what the word says where the words before it are not matched
    token_second: Array  # float32 [T], behind one matched word
    token_weight: Array  # float32 [T], behind two, or the code token's weight
    gram_weight: Array  # float32 [G], what an n-gram says, or how rare it is (code)
    information: Array  # float32 [U]
    lead: Array  # float32 [U], sum of the weights of the distinct n-grams that lead to the unit
    posts: Array  # uint64 [P], postings with weights; see `tables.posts_of`

    @property
    def num_units(self) -> int:
        """How many units there are."""
        return len(self.unit_item)

    @property
    def is_code(self) -> bool:
        """Whether tokens are code's shapes, not words."""
        return self.gram == CODE_GRAM


@dataclass(frozen=True, slots=True)
class Index:
    """Everything that `scan` needs. `text` holds the channels' texts, one after another, as UTF-8."""

    words: View
    code: View
    text: Array  # uint8
    text_start: Array  # int64 [texts + 1]
    text_owner: Array  # int32 [texts], item
    text_channel: Array  # uint8 [texts]
    names: list[str]  # benchmarks
    item_benchmark: list[int]
    item_ids: list[str]
    item_places: list[str]
    canaries: list[tuple[str, str]]
    bad: list[tuple[str, str, str]]  # benchmark, place, reason
    renamed: list[tuple[str, str, str]]
    options: Options
    evidence: float
    calibration: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None  # a fixed one
    kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # see `once`

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of this index, by a name of its own; it is made once. An index with other weights begins anew."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    @property
    def num_items(self) -> int:
        """How many items there are, scannable or not."""
        return len(self.item_ids)

    @property
    def key(self) -> str:
        """A hash of the index's whole content."""
        digest = hashlib.blake2b(digest_size=16)
        for name, array in _arrays(self).items():
            digest.update(name.encode() + str(array.dtype).encode() + array.tobytes())
        digest.update(json.dumps(_plain(self), sort_keys=True).encode())
        return digest.hexdigest()

    def item_text(self, item: int, channel: str) -> str:
        """Return the text of one channel of an item; empty if it has none."""
        first, last = np.searchsorted(self.text_owner, np.array([item, item + 1], self.text_owner.dtype))  # another type copies it all
        for at in range(int(first), int(last)):
            if CHANNEL_NAMES[int(self.text_channel[at])] == channel:
                return self.channel_text(at)
        return ""

    def channel_text(self, at: int) -> str:
        """Return text number `at`."""
        return bytes(self.text[int(self.text_start[at]) : int(self.text_start[at + 1])]).decode("utf-8")

    def floors(self, view: View) -> NDArray[np.float32]:
        """Return the information, float32 [U], that must be found of each unit before anything counts as evidence."""
        options, whole = self.options, view.information
        if view.is_code:
            return (options.code_threshold * whole).astype(np.float32)
        long = (options.long_threshold - options.base_threshold) * np.maximum(0, whole - options.long_information)
        prose = options.base_threshold * whole + long
        formulaic = np.isin(view.unit_channel, [CHANNEL_NAMES.index(name) for name in FORMULAIC])
        return np.where(formulaic, options.formulaic_threshold * whole, prose).astype(np.float32)

    def thresholds(self, view: View) -> NDArray[np.float32]:
        """Return the score, float32 [U], from which a match of each unit counts; above 1 where it never can.

        A unit of some length with too little information for a part of it to count must be there as a whole (WHOLE), with its
        own numbers; see `whole_only` and `alone_only`.
        """
        if self.threshold is not None:
            needed = np.full(view.num_units, self.threshold, np.float32)
            return np.where(self.poor(view), np.float32(2), needed).astype(np.float32)
        needed = np.where(self.poor(view), np.float32(2), self._by_evidence(view))
        return np.where(self.whole_only(view), np.float32(WHOLE), needed).astype(np.float32)

    def whole_only(self, view: View) -> NDArray[np.bool_]:
        """Return which units, bool [U], count only when all of their text is found, in runs and with the same numbers."""
        if self.threshold is not None or view is self.code:
            return np.zeros(view.num_units, np.bool_)
        weak = self.poor(view) | (self._by_evidence(view) > WHOLE)
        prose = ~np.isin(view.unit_channel, [CHANNEL_NAMES.index(name) for name in FORMULAIC])
        enough = (np.diff(view.unit_start) >= self.options.min_whole_tokens) & (view.information >= self.options.min_whole_information)
        result: NDArray[np.bool_] = weak & prose & (view.lead > 0) & (enough | self._telling(view))
        return result

    def alone_only(self, view: View) -> NDArray[np.bool_]:
        """Return which of the units that count only as a whole, bool [U], must also be a line of their own, word for word.

        They are short. In clean text there are few lines, and hardly any is a question of a benchmark; but "Which of the following is
        false?", which says as much by its words, stands on many pages: so it is what leads to few units that must tell.
        """
        result: NDArray[np.bool_] = self.whole_only(view) & (np.diff(view.unit_start) < self.options.min_whole_tokens)
        return result

    def _telling(self, view: View) -> NDArray[np.bool_]:
        """Return which units, bool [U], have a phrase of their own, or numbers in digits, which are compared when all of a unit is there."""
        options, size = self.options, np.diff(view.unit_start)
        begins = self.text[np.minimum(self.text_start[np.repeat(view.unit_text, size)] + view.token_from, len(self.text) - 1)]
        digits = np.concatenate([[0], np.cumsum((view.token_value != 0) & (begins >= ord("0")) & (begins <= ord("9")))])
        own = view.lead + NUMBER_LEAD * np.diff(digits[view.unit_start])
        result: NDArray[np.bool_] = (
            (size >= options.min_alone_tokens) & (view.information >= options.min_information) & (own >= options.min_alone_lead)
        )
        return result

    def poor(self, view: View) -> NDArray[np.bool_]:
        """Return which units, bool [U], say too little for a part of them to count."""
        short = np.diff(view.unit_start) < self.options.min_tokens
        result: NDArray[np.bool_] = short | (view.information < self.options.min_information) | (view.lead <= 0)
        return result

    def _by_evidence(self, view: View) -> NDArray[np.float32]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((self.floors(view) + self.evidence) / view.information).astype(np.float32)


def build_index(items: Items, options: Options | None = None) -> Index:
    """Return the index of `items`, with weights from the items alone; `weigh.weighted` adds a corpus's background."""
    from curate.decontaminate.weigh import weighted

    names = list(items.sizes)
    texts: list[bytes] = []
    owner: list[int] = []
    channel: list[int] = []
    for number, item in enumerate(items.items):
        for name, text in _texts(item).items():
            texts.append(text.encode("utf-8", "replace"))
            owner.append(number)
            channel.append(CHANNEL_NAMES.index(name))
    starts = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    data = np.frombuffer(b"".join(texts) or b"\0", np.uint8)
    owners, channels = np.array(owner, np.int32), np.array(channel, np.uint8)
    benchmark_of = np.array([names.index(item.benchmark) for item in items.items], np.int64)
    is_code = channels == CHANNEL_NAMES.index("code")
    looked_for = ~is_code & (channels != CHANNEL_NAMES.index("answer"))
    index = Index(
        words=_view(data, starts, owners, channels, looked_for, "words", benchmark_of),
        code=_view(data, starts, owners, channels, is_code, "code", benchmark_of),
        text=data,
        text_start=starts,
        text_owner=owners,
        text_channel=channels,
        names=names,
        item_benchmark=benchmark_of.tolist(),
        item_ids=[item.id for item in items.items],
        item_places=[item.place for item in items.items],
        canaries=list(items.canaries),
        bad=[(b.benchmark, b.place, b.reason) for b in items.bad],
        renamed=list(items.renamed),
        options=options or Options(),
        evidence=(options or Options()).evidence,
    )
    return _frozen(weighted(index, None))


def _texts(item: Item) -> dict[str, str]:
    """Return the item's channels, and its question with its choices where the question alone may be too short."""
    texts = dict(item.channels)
    if "choices" in texts and len(texts.get("question", "").split()) < 14:
        texts["question+choices"] = texts.get("question", "") + "\n" + texts["choices"]
    return texts


def _view(data: Array, starts: Array, owners: Array, channels: Array, chosen: Array, kind: str, benchmark_of: Array) -> View:
    texts = np.flatnonzero(chosen)
    begins, ends = starts[texts], starts[texts + 1]
    capacity = int((ends - begins + 1).sum()) + 1
    tokens: Any
    if kind == "words":
        tokens, bounds, _, _ = tokenize_pieces(data, begins, ends, capacity)
        key, value, capital = tokens.hashes, tokens.values, tokens.capital
    else:
        tokens, bounds, _, _ = shapes_of_pieces(data, begins, ends, capacity)
        key, value, capital = tokens.shapes, tokens.names, np.zeros(len(tokens), np.bool_)
    unit_bounds, unit_of = cut(bounds)
    text_of = texts[unit_of].astype(np.int32)
    shift = np.repeat(starts[text_of], np.diff(unit_bounds))
    known: dict[str, Any] = {
        "unit_item": owners[text_of],
        "unit_channel": channels[text_of],
        "unit_text": text_of,
        "unit_start": unit_bounds,
        "unit_tips": _tips(key, unit_bounds),
        "token_key": key,
        "token_value": value,
        "token_from": (tokens.starts - shift).astype(np.int32),
        "token_to": (tokens.ends - shift).astype(np.int32),
        "token_capital": capital,
    }
    gram = WORD_GRAM if kind == "words" else CODE_GRAM
    grams = gram_hashes(key, unit_bounds, gram) if kind == "words" else gram_keys(tokens, unit_bounds, gram, everything())
    coarse = fill_bitmap(coarse_grams(key, np.flatnonzero(grams), gram)) if kind == "code" else np.zeros(0, np.uint64)
    pairs = gram_hashes(key, unit_bounds, 2) if kind == "words" else np.zeros(len(key), np.uint64)
    names = ("token_alone", "token_second", "token_weight", "gram_weight", "information", "lead", "posts")
    weights = {name: np.zeros(0, np.float32) for name in names}
    return View(gram=gram, coarse=coarse, **known, **tables_of(gram, grams, pairs, known, benchmark_of), **weights)


def _tips(keys: Array, bounds: Array) -> Array:
    """Return the first two and last two of the tokens of each unit, one after another; 0 for a unit without two."""
    first, last = bounds[:-1], bounds[1:]
    result = np.zeros((len(first), 4), keys.dtype)
    whole = np.flatnonzero(last - first >= 2)
    result[whole] = keys[np.stack([first, first + 1, last - 2, last - 1], 1)[whole]]
    return result.reshape(-1)


def _arrays(index: Index) -> dict[str, Array]:
    """Return every array of the index by name, in a fixed order."""
    result = {name: getattr(index, name) for name in ("text", "text_start", "text_owner", "text_channel")}
    for part in ("words", "code"):
        view = getattr(index, part)
        result.update({f"{part}.{f.name}": getattr(view, f.name) for f in fields(View) if f.name != "gram"})
    return result


def _plain(index: Index) -> dict[str, Any]:
    names = ("names", "item_benchmark", "item_ids", "item_places", "canaries", "bad", "renamed", "evidence", "calibration", "threshold")
    return {
        "format": FORMAT,
        **{name: getattr(index, name) for name in names},
        "options": {f.name: getattr(index.options, f.name) for f in fields(Options)},
        **{part: getattr(index, part).gram for part in ("words", "code")},
    }


def _frozen(index: Index) -> Index:
    """Make every array read-only, so that kernels are compiled for one kind of array only."""
    for array in _arrays(index).values():
        array.flags.writeable = False
    return index


def with_weights(index: Index, words: dict[str, Any], code: dict[str, Any], **changes: Any) -> Index:
    """Return the index with other weights (arrays of View by name) and other fields."""
    return _frozen(replace(index, words=replace(index.words, **words), code=replace(index.code, **code), **changes))


def save_index(index: Index, stem: Path) -> None:
    """Write STEM.npz and STEM.json; the same index gives the same bytes."""
    save_arrays(index, stem.with_suffix(".npz"))
    save_plain(index, stem.with_suffix(".json"))


def save_plain(index: Index, path: Path) -> None:
    """Write all that is not an array."""
    path.write_text(json.dumps(_plain(index), sort_keys=True, ensure_ascii=False), encoding="utf-8")


def save_arrays(index: Index, path: Path) -> None:
    """Write the arrays, uncompressed and aligned, so that they can be mapped."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, array in _arrays(index).items():
            info = zipfile.ZipInfo(f"{name}.npy")
            header = _npy_header(array)
            offset = file.fp.tell() + 30 + len(info.filename) + 4  # type: ignore[union-attr]
            info.extra = struct.pack("<HH", 0xD935, -offset % 64) + bytes(-offset % 64)  # so that arrays begin at multiples of 64
            file.writestr(info, header + array.tobytes())


def load_index(stem: Path) -> Index:
    """Open an index: arrays are mapped into memory, not read. Raises InputError when it is not one."""
    try:
        plain = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        arrays = _mapped(stem.with_suffix(".npz"))
        if plain.pop("format") != FORMAT:
            raise ValueError("another version of curate wrote it")
        parts: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
        for part in ("words", "code"):
            own: dict[str, Any] = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{part}.")}
            parts[part] = View(gram=plain.pop(part), **own)
        plain["options"] = Options(**plain["options"])
        for name in ("canaries", "bad", "renamed"):
            plain[name] = [tuple(row) for row in plain[name]]
        return Index(**parts, **plain)
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"is not a decontamination index: {error}", where=str(stem), hint="remove it; the next run builds it again") from error


def _npy_header(array: Array) -> bytes:
    described = repr({"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape})
    length = -(-(len(described) + 11) // 64) * 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length - 10) + described.encode().ljust(length - 11) + b"\n"


def _mapped(path: Path) -> dict[str, Array]:
    whole = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.zeros(0, np.uint8)
    result = {}
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            at = info.header_offset
            name_length, extra_length = struct.unpack("<HH", whole[at + 26 : at + 30].tobytes())
            at += 30 + name_length + extra_length
            (header,) = struct.unpack("<H", whole[at + 8 : at + 10].tobytes())
            with file.open(info) as member:
                np.lib.format.read_magic(member)
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            size = int(np.prod(shape)) * dtype.itemsize
            array = np.frombuffer(whole, dtype, int(np.prod(shape)), at + 10 + header) if size else np.zeros(shape, dtype)
            array.flags.writeable = False
            result[info.filename.removesuffix(".npy")] = array
    return result
