"""The token kernel: what reads the same gives the same tokens, and places lead back into the text."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.decontaminate.fold import fold_table
from curate.decontaminate.normalize import text_bytes, tokenize, tokenize_pieces, word_hash
from curate.decontaminate.walk import NUMBER

PLAIN = "A farmer's 12 hens lay twenty-five eggs in two hundred days, said Beate Müller."


def hashes(text: str) -> list[int]:
    return tokenize(text).hashes.tolist()


def spelled(text: str) -> list[str]:
    tokens, data = tokenize(text), text.encode()
    return [data[a:b].decode() for a, b in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)]


@pytest.mark.parametrize(
    "disguised",
    [
        PLAIN.upper(),
        PLAIN.replace(" ", "\n> "),
        PLAIN.replace("'", "’"),
        PLAIN.replace("'", "&#39;"),
        PLAIN.replace("'", "&rsquo;").replace("ü", "&uuml;"),
        unicodedata.normalize("NFD", PLAIN),
        "\u200b".join(PLAIN),
        "".join(c + ("\u00ad" if c.isalpha() else "") for c in PLAIN),
        PLAIN.translate(str.maketrans("aeopcxy", "аеорсху")),
        "".join(chr(0xFEE0 + ord(c)) if c.isascii() and c.isalnum() else c for c in PLAIN),
        "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in PLAIN),
        "".join(c + ("\x08" if c.isalpha() else "") for c in PLAIN),
        PLAIN.replace("farmer's", "<b class='x'>farmer's</b>").replace("hens", "<i>he</i>ns").replace(" lay", "<br/>lay"),
        PLAIN.replace("hens", "**hens**").replace("eggs", "[eggs](https://example.com/a)").replace("days", "\\textbf{days}"),
        PLAIN.replace("12", "<<6*2=12>>12").replace("hens", "$hens$"),
        PLAIN.replace("farmer", "far-\nmer"),
        "(a) " + PLAIN,
        "B. " + PLAIN,
        "\n3) " + PLAIN,
        PLAIN.replace("12", "١٢"),
        PLAIN.replace("12", "４７１"),
        PLAIN.replace("twenty-five", "25").replace("two hundred", "200"),
    ],
)
def test_disguises_give_the_same_tokens(disguised: str) -> None:
    assert hashes(disguised) == hashes(PLAIN)


def test_numbers_are_one_token_and_keep_their_values() -> None:
    tokens = tokenize("3 three 1,000 1000 twenty five 25 2.5 25 four hundred 400 word")
    values = tokens.values.tolist()
    assert tokens.hashes.tolist()[:-1] == [int(NUMBER)] * 10
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert values[4] == values[5] == values[7] != values[6]
    assert values[8] == values[9]
    assert values[10] == 0


def test_number_words_join_only_when_they_make_a_number() -> None:
    assert spelled("twenty, five") == ["twenty", "five"]
    assert spelled("one two three") == ["one", "two", "three"]
    assert spelled("two hundred eggs") == ["two hundred", "eggs"]


def test_places_lead_back_to_the_text() -> None:
    assert spelled("Die Äpfel\u200b <b>kosten</b> 3,50 € — 中文 <br> don’t") == ["Die", "Äpfel", "kosten", "3,50", "中", "文", "don’t"]


def test_comparisons_are_not_tags_and_unknown_commands_are_words() -> None:
    assert spelled("if a <b and c> d") == ["if", "a", "b", "and", "c", "d"]
    assert spelled(r"\alpha is \mathbf{x}, \nThen &nosuch; y") == ["alpha", "is", "x", "Then", "nosuch", "y"]


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="<>&\\-]'.,:)0123456789"), max_size=200))
def test_plain_ascii_agrees_with_a_regular_expression(text: str) -> None:
    tokens = tokenize(text)
    words = re.findall(r"[A-Za-z]+", text)
    got = [text[a:b] for a, b in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)]
    numbers = tokens.values != 0
    if not numbers.any():
        assert got == words
        assert tokens.hashes.tolist() == [word_hash(w.lower()) for w in words]


@given(st.text(max_size=300))
def test_any_text_gives_ordered_places_on_character_bounds(text: str) -> None:
    data = text.encode("utf-8", "replace")
    tokens = tokenize(text)
    places = np.stack([tokens.starts, tokens.ends], 1).ravel()
    assert (np.diff(places) >= 0).all()
    for a, b in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True):
        assert a < b
        data[a:b].decode()


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.integers(1, 8))
def test_pieces_and_small_rooms_give_what_whole_texts_give(texts: list[str], room: int) -> None:
    encoded = [t.encode("utf-8", "replace") for t in texts]
    data = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
    ends = np.cumsum([len(e) for e in encoded])
    begins = ends - [len(e) for e in encoded]
    whole = [h for t in texts for h in hashes(t)]
    tokens, bounds, done, place = tokenize_pieces(data, begins, ends, len(data) + len(texts) + 1)
    assert tokens.hashes.tolist() == whole
    assert (done, place) == (len(texts), 0)
    assert np.diff(bounds).tolist() == [len(tokenize(t)) for t in texts]
    first, _, done, place = tokenize_pieces(data, begins, ends, room)
    assert first.hashes.tolist() == whole[: len(first)]
    assert len(first) == min(room, len(whole)) or done == len(texts)


def test_the_folding_table_is_idempotent_for_letters() -> None:
    kind, reading = fold_table()
    for code in range(0x20000):
        packed = int(reading[code])
        while packed:
            letter, packed = packed & 0x1FFFFF, packed >> 21
            if kind[code] == 1 and letter < 128:
                assert chr(letter).islower() or chr(letter).isdigit(), hex(code)


def test_markup_that_never_ends_costs_no_quadratic_time() -> None:
    for text in ("<" * 200_000, "<a " * 60_000, "](" * 100_000, "&" * 200_000, "<!--" * 30_000, "<<1" * 60_000, "\\" * 200_000):
        assert len(tokenize(text)) <= 60_000
    assert len(text_bytes("")) == 0


PIECES = ["hens", "a", "I", "B", "twenty", "five", "two", "hundred", "don't", "Beate", "7", "100", "2024", "3.14", "1,000", "x2", "twentyfold"]


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([" ", ", ", ". ", "; ", "\n", " (", ") ", ": ", "-", " $"])), max_size=30))
def test_plain_words_are_read_as_words_in_disguise_are(parts: list[tuple[str, str]]) -> None:
    """An invisible character in a word or number takes it off the way that most words go."""
    text = "".join(piece + gap for piece, gap in parts)
    plain, hidden = (tokenize(one) for one in (text, re.sub(r"[A-Za-z]{2,}|\d{3,}", lambda m: f"{m[0][0]}\u200b{m[0][1:]}", text)))
    for name in ("hashes", "values", "capital"):
        assert (getattr(plain, name) == getattr(hidden, name)).all()
