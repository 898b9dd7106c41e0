"""Table A1 against a slow reading of datatrove's filter, and against the filter itself where it is installed."""

from __future__ import annotations

import random
import re
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.kernels import repetition
from curate.kernels.words import words_of_strings

# Few different words, so that everything repeats; white space of every kind that strip() and split know.
WORDS = st.sampled_from(["a", "Be", "sea", "d", "eel", "fé", "漢"])
TEXT = st.lists(st.tuples(WORDS, st.sampled_from([" ", " ", "\n", "\n\n", "\n\n\n", " \n", "\u2003\n\n"])), max_size=50).map(
    lambda pieces: "".join(word + gap for word, gap in pieces)
)


def split(text: str) -> list[str]:
    found = words_of_strings([text])
    return [found.data[a:b].tobytes().decode() for a, b in zip(found.starts, found.ends, strict=True)]


def size_of(words: list[str]) -> int:
    """Characters of words, of which zero-width ones do not count (`Words.lengths`)."""
    return int(words_of_strings(["\n".join(words)]).lengths.sum())


def repeats(elements: list[str]) -> tuple[int, int]:
    before: set[str] = set()
    number = characters = 0
    for element in elements:
        if element in before:
            number, characters = number + 1, characters + len(element)
        before.add(element)
    return number, characters


def reference(text: str) -> dict[str, float]:
    size = max(len(text), 1)
    words = split(text)
    lines, paragraphs = re.split("\n+", text), re.split("\n{2,}", text.strip())
    result = {
        "duplicate_lines": repeats(lines)[0] / len(lines),
        "duplicate_line_characters": repeats(lines)[1] / size,
        "duplicate_paragraphs": repeats(paragraphs)[0] / len(paragraphs),
        "duplicate_paragraph_characters": repeats(paragraphs)[1] / size,
    }
    for n in (2, 3, 4):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        top = Counter(grams).most_common(1)
        result[f"top_{n}gram_characters"] = (size_of(list(top[0][0])) + n - 1) * top[0][1] / size if top else 0.0
    for n in range(5, 11):
        seen: set[tuple[str, ...]] = set()
        i = characters = 0
        while i < len(words) - n + 1:
            gram = tuple(words[i : i + n])
            if gram in seen:
                characters += size_of(list(gram))
                i += n
            else:
                seen.add(gram)
                i += 1
        result[f"duplicate_{n}gram_characters"] = characters / size
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TEXT, st.text(max_size=20)), min_size=1, max_size=3))
@example(["0\xad0: a\u200bb 0\xad0: a\u200bb"])
def test_agrees_with_the_slow_reading(texts: list[str]) -> None:
    found = repetition.measures(pa.array(texts))
    for row, text in enumerate(texts):
        assert {name: float(values[row]) for name, values in found.items()} == pytest.approx(reference(text), abs=1e-12), text


def test_empty_and_null_texts_repeat_nothing() -> None:
    found = repetition.measures(pa.array(["", None, "\n", "\n\n \n"]))
    assert all(values[:2].tolist() == [0.0, 0.0] for values in found.values())
    assert found["duplicate_lines"][2:].tolist() == [0.5, pytest.approx(1 / 3)], "as re.split leaves empty elements at both ends"


# The filter's reasons, in its order, and the fields that they are about.
REASONS = {
    "dup_para_frac": ("duplicate_paragraphs", 0.3), "dup_para_char_frac": ("duplicate_paragraph_characters", 0.2),
    "dup_line_frac": ("duplicate_lines", 0.3), "dup_line_char_frac": ("duplicate_line_characters", 0.2),
    "top_2_gram": ("top_2gram_characters", 0.2), "top_3_gram": ("top_3gram_characters", 0.18), "top_4_gram": ("top_4gram_characters", 0.16),
    **{f"duplicated_{n}_n_grams": (f"duplicate_{n}gram_characters", 0.20 - n / 100) for n in range(5, 11)},
}  # fmt: skip


def test_decides_as_datatrove(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    document = pytest.importorskip("datatrove.data").Document
    monkeypatch.setattr(module, "split_into_words", lambda text, language: split(text))
    chooser = random.Random(7)
    vocabulary = [f"word{k}" for k in range(60)]
    texts = []
    for _ in range(400):
        phrases = [" ".join(chooser.choices(vocabulary, k=chooser.randint(1, 12))) for _ in range(chooser.randint(2, 30))]
        texts.append("".join(chooser.choice(phrases) + chooser.choice([". ", "\n", "\n\n"]) for _ in range(chooser.randint(3, 40))))
    found = repetition.measures(pa.array(texts))
    reasons = Counter()
    for row, text in enumerate(texts):
        verdict = module.GopherRepetitionFilter().filter(document(text=text, id=str(row)))
        mine = next((reason for reason, (field, limit) in REASONS.items() if found[field][row] > limit), None)
        assert mine == (None if verdict is True else verdict[1]), text
        reasons[mine] += 1
    assert len(reasons) >= 6, f"the texts must reach most rules: {reasons}"
