"""Words against a slow reading of the same definition, and on the inputs that break scanners."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels import characters, words

TEXT = st.text(st.one_of(st.sampled_from("ab Z9.,'-’_…\n\t\u00ad\u0301漢かไ👍.#"), st.characters(exclude_categories=["Cs"])), max_size=60)


def tokens(text: str) -> list[str]:
    found = words.words_of_strings([text])
    return [found.data[a:b].tobytes().decode() for a, b in zip(found.starts, found.ends, strict=True)]


def kind(character: str) -> int:
    pages, entries = characters.tables()
    code = ord(character)
    return int(entries[(int(pages[code >> 8]) << 8) | (code & 255)] >> characters.PROPERTY_SHIFT) & characters.CLASS


def reference(text: str) -> list[tuple[str, int]]:
    """The module's definition, word for word: (token without zero-width characters, kind)."""
    text = "".join(c for c in text if kind(c) != characters.IGNORED)
    found: list[tuple[str, int]] = []
    i = 0
    while i < len(text):
        first = kind(text[i])
        if first == characters.BREAK:
            i += 1
            continue
        j = i + 1
        while j < len(text):
            now, after = kind(text[j]), text[j + 1 : j + 2]
            if now == characters.MARK:
                pass
            elif first in (characters.WORD, characters.MARK):
                between_letters = now == characters.JOINER and after and kind(after) == characters.WORD
                between_digits = (
                    now == characters.NUMBER_JOINER and unicodedata.category(text[j - 1]) == "Nd" and after and unicodedata.category(after) == "Nd"
                )
                if not (now == characters.WORD or between_letters or between_digits):
                    break
            elif first == characters.SINGLE or text[j] != text[i]:
                break
            j += 1
        found.append((text[i:j], 0 if first in (characters.WORD, characters.SINGLE, characters.MARK) else 1))
        i = j
    return found


def reference_hash(token: str) -> int:
    mask = (1 << 64) - 1
    h = 0x9E3779B97F4A7C15
    for character in token:
        h = ((h ^ ord(character)) * 0xD6E8FEB86659FD93) & mask
        h ^= h >> 32
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = ((h ^ (h >> 33)) * multiplier) & mask
    return h ^ (h >> 33)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, well-known!", ["Don't", "stop", ",", "well-known", "!"]),
        ("pi is 3.14, not 1,000.", ["pi", "is", "3.14", ",", "not", "1,000", "."]),
        ("'quoted' -dash- a'", ["'", "quoted", "'", "-", "dash", "-", "a", "'"]),
        ("wait... ----- ok", ["wait", "...", "-----", "ok"]),
        ("漢字かな カー", ["漢", "字", "か", "な", "カ", "ー"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("l·lar ١٢٣ x_y", ["l·lar", "١٢٣", "x_y"]),
        ("\u200b \ufeff \x00", []),
        ("👍🏽👍👍", ["👍", "🏽", "👍👍"]),
    ],
)
def test_definition_by_example(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=4))
def test_agrees_with_the_slow_reading(texts: list[str]) -> None:
    found = words.words_of_strings(texts)
    expected = [reference(text) for text in texts]
    assert np.diff(found.offsets).tolist() == [len(row) for row in expected]
    flat = [token for row in expected for token in row]
    assert found.kinds.tolist() == [k for _, k in flat]
    assert found.lengths.tolist() == [len(token) for token, _ in flat]
    assert found.exact.tolist() == [reference_hash(token) for token, _ in flat]
    assert found.alphabetic.tolist() == [any(c.isalpha() for c in token) for token, _ in flat]


@pytest.mark.parametrize(
    ("one", "other"), [("STRASSE", "strasse"), ("Ёж", "ёЖ"), ("ΣΑΣ", "σας"), ("can’t", "CAN'T"), ("in\u00adside", "inside"), ("ÉTÉ", "été")]
)
def test_hashes_fold_case_and_typography(one: str, other: str) -> None:
    assert words.word_hash(one) == words.word_hash(other)
    assert words.words_of_strings([one]).exact.tolist() != words.words_of_strings([other]).exact.tolist() or one.replace("\u00ad", "") == other


def test_stored_signatures_depend_on_this_value() -> None:
    assert words.word_hash("Word") == reference_hash("word") == 0xE6AFDBDD06A5613B


def test_word_hash_wants_one_word() -> None:
    with pytest.raises(ValueError, match="2 tokens"):
        words.word_hash("two words")


def test_slices_nulls_and_empty_arrays() -> None:
    array = pa.array(["zero", None, "one two", "", "three's"])
    whole = words.words_of(array)
    assert np.diff(whole.offsets).tolist() == [1, 0, 2, 0, 1]
    part = words.words_of(array.slice(2, 3))
    assert np.diff(part.offsets).tolist() == [2, 0, 1]
    assert part.hashes.tolist() == whole.hashes[1:].tolist()
    assert part.starts.tolist() == whole.starts[1:].tolist(), "positions refer to the whole buffer"
    assert len(words.words_of(array.slice(5)).hashes) == 0
    assert len(words.words_of(pa.array([], pa.string())).offsets) == 1
    assert words.words_of(pa.array([None, None], pa.string())).offsets.tolist() == [0, 0, 0]


def test_a_null_row_may_own_bytes() -> None:
    offsets = pa.py_buffer(np.array([0, 3, 6], np.int32).tobytes())
    array = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"onetwo"), pa.py_buffer(b"\x02"), 1)
    assert np.diff(words.words_of(array).offsets).tolist() == [0, 1]


def test_the_batch_is_segmented_once() -> None:
    array = pa.array(["some words"])
    first = words.words_of(array)
    assert words.words_of(array) is first
    assert words.words_of(pa.record_batch({"text": array}).column("text")) is first
    assert words.words_of(array.slice(0, 0)) is not first
    words.forget()
    assert words.words_of(array) is not first


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=3))
def test_bytes_that_are_not_utf8_stay_within_their_row(rows: list[bytes]) -> None:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    array = pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(rows)))
    found = words.words_of(array)
    for row in range(len(rows)):
        own = slice(int(found.offsets[row]), int(found.offsets[row + 1]))
        assert (found.starts[own] >= offsets[row]).all()
        assert (found.ends[own] <= offsets[row + 1]).all()
        alone = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(rows[row])], np.int32).tobytes()), pa.py_buffer(rows[row]))
        assert words.words_of(alone).hashes.tolist() == found.hashes[own].tolist(), "what follows in the buffer must not matter"


def test_more_tokens_than_expected() -> None:
    text = "a.b!" * 5000  # a token per byte: the columns must grow
    found = words.words_of_strings(["x y", text, "z"])
    assert np.diff(found.offsets).tolist() == [2, 20000, 1]
    assert found.hashes[-1] == words.word_hash("z")
    assert found.hashes[2] == words.word_hash("a")


def test_only_string_arrays_are_taken() -> None:
    with pytest.raises(TypeError, match="large_string"):
        words.views(pa.array(["x"], pa.large_string()))
