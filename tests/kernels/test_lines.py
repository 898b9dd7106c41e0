"""Line counts against plain Python."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels import lines as kernel

TEXT = st.text(st.one_of(st.sampled_from("ab Z9.!?\"'-•…#{\n\n\t Ã©。"), st.characters(exclude_categories=["Cs"])), max_size=60)


def of(*texts: str | None) -> kernel.Lines:
    return kernel.lines_of(pa.array(texts, pa.string()))


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=3))
def test_agrees_with_python(texts: list[str]) -> None:
    lines = of(*texts)
    expected = [line for text in texts for line in text.split("\n")]
    assert [lines.data[a:b].tobytes().decode() for a, b in zip(lines.starts, lines.ends, strict=True)] == expected
    counts = lines.counts
    assert counts[:, kernel.CHARACTERS].tolist() == [len(line) for line in expected]
    assert counts[:, kernel.WORDS].tolist() == [len(line.split()) for line in expected]
    assert counts[:, kernel.LONGEST_WORD].tolist() == [max(map(len, line.split()), default=0) for line in expected]
    assert counts[:, kernel.WORD_CHARACTERS].tolist() == [sum(map(len, line.split())) for line in expected]
    assert counts[:, kernel.ALPHABETIC_WORDS].tolist() == [sum(any(c.isalpha() for c in word) for word in line.split()) for line in expected]
    assert counts[:, kernel.LETTERS].tolist() == [sum(c.isalpha() for c in line) for line in expected]
    assert counts[:, kernel.DIGITS].tolist() == [sum(c.isdecimal() for c in line) for line in expected]
    assert counts[:, kernel.NON_ASCII].tolist() == [sum(not c.isascii() for c in line) for line in expected]
    assert counts[:, kernel.HASHES].tolist() == [line.count("#") for line in expected]
    assert counts[:, kernel.CURLY].tolist() == [line.count("{") for line in expected]
    assert counts[:, kernel.ELLIPSES].tolist() == [line.count("...") + line.count("…") for line in expected]
    assert lines.having(kernel.BLANK).tolist() == [not line.strip() for line in expected]
    assert lines.having(kernel.EMPTY).tolist() == [not line for line in expected]
    assert lines.having(kernel.BULLET).tolist() == [line.lstrip().startswith(("•", "-")) for line in expected]
    assert lines.having(kernel.ELLIPSIS).tolist() == [line.rstrip().endswith(("...", "…")) for line in expected]
    ends = [line.strip() for line in expected]
    assert lines.having(kernel.TERMINATED).tolist() == [line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...") for line in ends]
    repeated = [line in text.split("\n")[:k] for text in texts for k, line in enumerate(text.split("\n"))]
    assert lines.having(kernel.REPEATED).tolist() == repeated
    assert lines.characters().tolist() == [len(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0), ("One.", 1), ("One. Two! Three?", 3), ("No mark", 1), ("Done. Not done", 2), ("He said \"no.\" She left.", 2),
        ("Really?! Yes...", 2),
        ("3.14 is pi. v1.2.3 works", 2), ("これは文です。次の文。", 2), ("Line one\nline two", 2), ("  \n ", 0), ("यह है। वह है।", 2),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: int) -> None:
    assert int(of(text).totals(kernel.SENTENCES)[0]) == sentences


@pytest.mark.parametrize("text", ["é", "naïve café", "日本語", "“quoted” – dash…", "привет", "👍", "a\u00a0b", "€"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_mojibake_is_seen_and_sound_text_is_not(text: str, encoding: str) -> None:
    assert int(of(text).totals(kernel.MOJIBAKE)[0]) == 0
    try:
        garbled = text.encode().decode(encoding)
    except UnicodeDecodeError:  # cp1252 leaves five bytes undefined
        return
    expected = sum(len(c.encode()) for c in text if not c.isascii())
    assert int(of(garbled).totals(kernel.MOJIBAKE)[0]) == expected


def test_punctuated_looks_at_the_very_last_character() -> None:
    assert of("End.", "End. ", "終わり。", "पूरा।", "End,", "").having(kernel.PUNCTUATED).tolist() == [True, False, True, True, False, False]


def test_slices_and_nulls() -> None:
    array = pa.array(["a\nb", None, "c\nc\n", ""])
    lines = kernel.lines_of(array.slice(1))
    assert (lines.offsets[1:] - lines.offsets[:-1]).tolist() == [1, 3, 1]
    assert lines.totals(kernel.CHARACTERS).tolist() == [0, 2, 0]
    assert lines.characters().tolist() == [0, 4, 0]
    assert kernel.lines_of(pa.array([], pa.string())).totals(kernel.WORDS).tolist() == []
