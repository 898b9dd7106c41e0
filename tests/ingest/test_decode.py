"""Bytes → text: declared, undeclared and wrongly declared charsets; broken bytes are replaced and counted."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ingest.decode import clean, decode_page, decode_utf8

GERMAN = "Die Größe der Straße überrascht Käufer, sagt Frau Müller aus Köln. " * 5
RUSSIAN = "Быстрая коричневая лиса прыгает через ленивую собаку у реки. " * 5
JAPANESE = "これは日本語の文章です。文字コードを正しく判定できるでしょうか。" * 5


@pytest.mark.parametrize(
    ("text", "encoding", "header", "meta"),
    [
        (GERMAN, "utf-8", None, ""),
        (GERMAN, "utf-8", "iso-8859-1", ""),  # a wrong header: the bytes are valid UTF-8
        (GERMAN, "cp1252", "iso-8859-1", ""),
        (GERMAN, "cp1252", None, '<meta charset="windows-1252">'),
        (GERMAN + "€", "cp1252", "latin1", ""),  # latin1 means Windows-1252 on the web
        (RUSSIAN, "cp1251", None, '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">'),
        (RUSSIAN, "koi8-r", "KOI8-R", ""),
        (RUSSIAN, "cp1251", None, ""),  # found by the detector
        (RUSSIAN, "cp1251", "utf-8", ""),  # a wrong header, contradicted by the bytes
        (JAPANESE, "shift_jis", "Shift_JIS", ""),
        (JAPANESE, "euc_jp", None, '<meta charset="euc-jp">'),
        (JAPANESE, "iso2022_jp", "iso-2022-jp", ""),
        (JAPANESE, "gb18030", "gb2312", ""),
        (JAPANESE, "utf-16-le", "utf-16le", ""),
        (RUSSIAN, "utf-16-le", "utf-16le", ""),  # all its bytes are ASCII
        (RUSSIAN, "utf-16-be", "utf-16be", ""),
        (GERMAN, "utf-16-le", "utf-16", ""),
        (GERMAN, "utf-8", "utf-16", ""),  # a wrong header
        (RUSSIAN, "utf-8", "utf-16le", "\x01"),
    ],
)
def test_charsets(text: str, encoding: str, header: str | None, meta: str) -> None:
    page = f"<html><head>{meta}</head><body><p>{text}</p></body></html>"
    assert decode_page(page.encode(encoding), header) == (page, 0)


@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")])
def test_a_byte_order_mark_outranks_all_and_is_dropped(mark: bytes, encoding: str) -> None:
    assert decode_page(mark + GERMAN.encode(encoding), "koi8-r") == (GERMAN, 0)


def test_a_few_bad_bytes_do_not_change_the_charset_and_are_counted() -> None:
    data = GERMAN.encode() + b"\xff\xfe" + GERMAN.encode()[:-1] + b"\xc3"
    text, replaced = decode_page(data, "utf-8")
    assert replaced == 3
    assert text == GERMAN + "\ufffd" + GERMAN[:-1] + "\ufffd"


def test_unknown_labels_are_ignored() -> None:
    for label in ("", "none", "utf-8-but-not-really", "🦆", "../../etc/passwd", "hex", "zlib"):
        assert decode_page(GERMAN.encode(), label) == (GERMAN, 0)
        assert decode_page(RUSSIAN.encode("cp1251"), label)[0] == RUSSIAN


def test_plain_text_drops_its_mark_and_counts_bad_bytes() -> None:
    assert decode_utf8(codecs.BOM_UTF8 + b"a\xffb") == ("a\ufffdb", 1)


def test_clean_removes_nuls_joins_pairs_and_replaces_lone_surrogates() -> None:
    assert clean("a\0b\0") == ("ab", 2)
    assert clean("\ud83d\ude00") == ("😀", 0)
    assert clean("x\ud800y\udfffz\0") == ("x\ufffdy\ufffdz", 3)


@given(
    st.binary(max_size=200),
    st.sampled_from([None, "utf-8", "shift_jis", "gb18030", "utf-16", "iso-2022-jp", "euc-kr", "big5", "hz-gb-2312", "cp1252"]),
)
def test_any_bytes_become_valid_text(data: bytes, charset: str | None) -> None:
    text, replaced = decode_page(data, charset)
    assert 0 <= replaced <= len(data)
    cleaned, _ = clean(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


@given(st.text(st.characters(codec=None)))
def test_clean_keeps_valid_text(text: str) -> None:
    cleaned, removed = clean(text)
    cleaned.encode("utf-8")
    valid = "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    assert (cleaned == text and removed == 0) if valid else cleaned != text
