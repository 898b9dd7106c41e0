"""Phrases, candidates, the table of characters, and compiling where nothing may be written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels import candidates, characters, phrases
from curate.kernels import exponential_64 as of_64
from curate.kernels.compiled import compiled
from curate.kernels.exponential import HIGHEST, LOWEST, exponential
from curate.kernels.words import views


def entry(code: int) -> int:
    pages, entries = characters.tables()
    return int(entries[(int(pages[code >> 8]) << 8) | (code & 255)])


@pytest.mark.parametrize("flag", ["isalpha", "isspace", "isdecimal"])
def test_properties_are_those_of_python(flag: str) -> None:
    bit = {"isalpha": characters.ALPHABETIC, "isspace": characters.WHITE, "isdecimal": characters.DIGIT}[flag]
    pages, entries = characters.tables()
    properties = entries.reshape(-1, 256)[pages].reshape(-1) >> characters.PROPERTY_SHIFT
    found = np.flatnonzero(properties & bit)
    test = getattr(str, flag)
    assert found.tolist() == [code for code in range(0x110000) if test(chr(code))]


def test_folding_is_one_to_one_lower_case() -> None:
    for code in [*range(0x41, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x2000)]:
        folded = entry(code) & characters.FOLD_MASK or code
        if len(chr(code).casefold()) == 1:
            assert chr(folded) == chr(code).casefold()
        assert unicodedata.category(chr(code))[0] != "L" or unicodedata.category(chr(folded))[0] == "L"


def test_the_table_is_built_quickly() -> None:
    characters.tables.cache_clear()
    start = time.process_time()
    characters.tables()
    assert time.process_time() - start < 1.0  # about 0.05 s on an idle machine


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abAB c", max_size=20), max_size=4), st.lists(st.text("ab c", min_size=1, max_size=4), min_size=1, max_size=5))
def test_phrases_are_found_in_any_case(texts: list[str], wanted: list[str]) -> None:
    found = phrases.phrases_in(*views(pa.array(texts, pa.string())), wanted)
    assert found.tolist() == [sum(1 << k for k, phrase in enumerate(wanted) if phrase in text.lower()) for text in texts]


def test_phrases_refuses_what_it_cannot_do() -> None:
    arguments = views(pa.array(["x"]))
    with pytest.raises(ValueError, match="none of them empty"):
        phrases.phrases_in(*arguments, [""])
    with pytest.raises(ValueError, match="between 1 and 32"):
        phrases.phrases_in(*arguments, ["x"] * 33)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("a@.1 +(-AB9é", max_size=50), max_size=3))
def test_candidates_stay_within_their_rows(texts: list[str]) -> None:
    data, starts, ends = views(pa.array(texts, pa.string()))
    for row, begin, end, kind in candidates.candidates(data, starts, ends).tolist():
        assert starts[row] <= begin < end <= ends[row]
        span = data[begin:end].tobytes()
        if kind == candidates.NUMBER:
            assert sum(chr(b).isdigit() for b in span) >= 4
            assert span[-1:].isdigit()
        assert kind != candidates.EMAIL or b"@" in span[1:]


def test_compiles_without_a_place_to_write() -> None:
    code = (
        "from curate.kernels import compiled, phrases\n"
        "from curate.kernels.words import views\n"
        "import pyarrow as pa\n"
        "assert compiled._cache_folder() is None\n"
        "print(phrases.phrases_in(*views(pa.array(['A phrase'])), ['phrase'])[0])"
    )
    environment = {**os.environ, "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_decoder_agrees_with_python_on_every_kind_of_byte() -> None:
    for sample in ("aé漢👍\U0010ffff", "\x7f\x80\u07ff\u0800\uffff\U00010000"):
        data = np.frombuffer(sample.encode(), np.uint8)
        position, found = 0, []
        while position < len(data):
            code, position = characters.decode(data, position, len(data))
            found.append(chr(code))
        assert "".join(found) == sample
    for bad in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xff", b"\xe0\x80\x80"):
        data = np.frombuffer(bad, np.uint8)
        assert characters.decode(data, 0, len(data)) == (0xFFFD, 1)


@compiled
def exponentials(given: Any, found: Any) -> None:
    for i in range(len(given)):
        found[i] = exponential(given[i])


@compiled
def exponentials_64(given: Any, found: Any) -> None:
    for i in range(len(given)):
        found[i] = of_64.exponential_64(given[i])


@pytest.mark.parametrize(
    ("kernel", "kind", "low", "high", "digits"),
    [(exponentials, np.float32, LOWEST, HIGHEST, 24), (exponentials_64, np.float64, of_64.LOWEST, of_64.HIGHEST, 53)],
    ids=["float32", "float64"],
)
def test_exponentials_are_right_to_the_last_two_bits(kernel: Any, kind: Any, low: float, high: float, digits: int) -> None:
    given = np.concatenate([np.linspace(low, high, 1_000_001), np.random.default_rng(0).normal(0, 1e-3, 10_000)]).astype(kind)
    found = np.empty_like(given)
    kernel(given, found)
    expected = np.exp(given.astype(np.longdouble))
    assert np.abs(found / expected - 1).max() < 2.0 ** (2 - digits)
    ends = np.array([-np.inf, -1e9, np.inf, 1e9, np.nan, 0], kind)
    found = np.empty_like(ends)
    kernel(ends, found)
    least, most = np.exp(float(low)), np.exp(float(high))
    assert found[[0, 1, 2, 3, 5]] == pytest.approx([least, least, most, most, 1], rel=1e-6)
    assert np.isnan(found[4])
