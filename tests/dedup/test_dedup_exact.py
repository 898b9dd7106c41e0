"""Content hashes: equal exactly when the normalized texts are, whatever the array looks like in memory."""

from __future__ import annotations

import hashlib
import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.exact import composed, content_hashes

# White space of every width, marks that compose, Hangul letters, singletons (Å, Ω), what composition excludes, invisible characters.
AWKWARD = (
    "ab \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2000\u2003\u2028\u202f\u205f\u3000\u200b\ufeff"
    "\u0300\u0301\u0323\u0308eé\u1100\u1161\u11a8\u212b\u2126\u0958\U0001f600中"
)
TEXTS = st.lists(st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(exclude_categories=["Cs"])), max_size=12), max_size=6)


def reference(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def hashes(texts: list[str | None]) -> list[bytes]:
    return content_hashes(composed(pa.array(texts, pa.string()))).to_pylist()


@settings(max_examples=120, deadline=None)
@given(TEXTS)
def test_the_hash_is_that_of_the_normalized_text(texts: list[str]) -> None:
    assert hashes(texts) == [hashlib.blake2b(reference(text).encode(), digest_size=16).digest() for text in texts]


def test_every_white_space_character_separates_and_no_other_does() -> None:
    codes = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000 and (code < 0x3100 or chr(code).isspace())]
    found = hashes([f"a{chr(code)}b" for code in codes])
    space = hashes(["a b"])[0]
    assert [chr(code) for code, one in zip(codes, found, strict=True) if one == space] == [chr(code) for code in codes if chr(code).isspace()]


def test_slices_and_nulls() -> None:
    texts = ["one", None, "  two\n", "e\u0301", None, "", "two"]
    whole = pa.array(texts, pa.string())
    expected = hashes([text or "" for text in texts])
    assert content_hashes(composed(whole)).to_pylist() == expected
    assert content_hashes(composed(whole.slice(2, 4))).to_pylist() == expected[2:6]
    assert expected[2] == expected[6]
    assert expected[1] == expected[5]
    assert hashes([]) == []


def test_a_composed_array_is_the_same_array() -> None:
    texts = pa.array(["plain", "é", "“quoted”", "中文"])
    assert composed(texts) is texts
    assert composed(pa.array(["e\u0301", "plain"])).to_pylist() == ["é", "plain"]


def test_a_text_that_is_not_utf8_raises() -> None:
    broken = pa.array([b"fine", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(UnicodeDecodeError):
        composed(broken)
