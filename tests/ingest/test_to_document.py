"""Records → document rows: the columns, the meta, the reasons."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.documents import SCHEMA, document_id
from curate.ingest.document import json_of
from curate.ingest.read import to_document
from curate.ingest.record import Dropped, Record
from curate.specs.workflow import Extract, Ingest

WARC = Ingest(warc="x")
SENTENCE = "This paragraph is the main text of the page, and it goes on for a while so that nobody mistakes it for a menu."
ARTICLE = f"<article><p>{SENTENCE}</p><p>{SENTENCE}</p></article>"
PAGE = f"<html lang=en><head><title>T</title></head><body><nav><a href=/>Home</a></nav>{ARTICLE}</body></html>"


def convert(record: Record, options: Ingest = WARC) -> dict[str, Any]:
    found = to_document(record, "web", "d/a.warc.gz", options)
    assert isinstance(found, dict), found
    pa.RecordBatch.from_pylist([found], SCHEMA).validate(full=True)
    assert list(found) == SCHEMA.names
    return found


def test_a_page_becomes_a_row() -> None:
    record = Record(512, 99, PAGE.encode(), "html", url="http://e/", date="2024-05-17T23:31:22Z", meta={"http": {"content-type": "text/html"}})
    row = convert(record)
    assert row["text"] == f"{SENTENCE}\n\n{SENTENCE}"
    assert row["id"] == document_id("web", "d/a.warc.gz", 512)
    assert (row["source"], row["url"], row["date"], row["parent"]) == ("web", "http://e/", "2024-05-17T23:31:22Z", None)
    assert row["origin"] == {"file": "d/a.warc.gz", "offset": 512, "length": 99}
    assert row["meta"] == '{"html":{"lang":"en","title":"T"},"http":{"content-type":"text/html"}}'


def test_the_specs_license_and_language_hold_for_all() -> None:
    row = convert(Record(0, 1, "text", "text", language="fr", license="MIT"), Ingest(jsonl="x", license="CC0-1.0", language="de"))
    assert (row["claimed_license"], row["claimed_language"]) == ("CC0-1.0", "de")
    row = convert(Record(0, 1, "text", "text", language="fr", license="MIT"), Ingest(jsonl="x"))
    assert (row["claimed_license"], row["claimed_language"]) == ("MIT", "fr")


def test_charset_of_the_header_is_used_and_not_stored() -> None:
    body = PAGE.replace("nobody", "кто-то").encode("cp1251")
    row = convert(Record(0, 1, body, "html", meta={"http": {"content-type": "text/html; charset=windows-1251"}, "charset": "windows-1251"}))
    assert "кто-то" in row["text"] and "charset" not in json.loads(row["meta"])


def test_what_had_to_be_replaced_is_counted() -> None:
    row = convert(Record(0, 1, ("a\0b\ud800 " + "ü" * 50).encode("utf-8", "surrogatepass") + b"\xff", "text"))
    assert row["text"].replace("\ufffd", "") == "ab " + "ü" * 50
    assert json.loads(row["meta"]) == {"removed_characters": 1, "replaced_bytes": 4}


def test_files_keep_their_path() -> None:
    assert json.loads(convert(Record(0, 4, "text", "text"), Ingest(files="x"))["meta"]) == {"path": "d/a.warc.gz"}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record(0, 1, b"", "html", dropped="http_error", size=77), "http_error"),
        (Record(0, 1, b"%PDF-1.4" + b"x" * 69, "pdf"), "pdf_in_warc"),
        (Record(0, 1, b"<script>x()</script>".ljust(77), "html"), "no_text"),
        (Record(0, 1, " \n\t".ljust(77), "text"), "no_text"),
        (Record(0, 1, b"", "html", size=77), "no_text"),
        (Record(0, 1, "\u200b\ufeff \u00ad\u2060".ljust(77), "text", size=77), "no_text"),
        (Record(0, 1, b"<div>" * 100_000, "html", size=77), "nested_too_deeply"),
    ],
)
def test_reasons(record: Record, reason: str) -> None:
    assert to_document(record, "web", "a", WARC) == Dropped(reason, 77)


def test_both_engines_give_text() -> None:
    pytest.importorskip("trafilatura")
    record = Record(0, 1, PAGE.encode(), "html")
    assert SENTENCE in convert(record, Ingest(warc="x", extract=Extract(engine="trafilatura")))["text"]


def test_a_record_gives_the_same_row_each_time() -> None:
    record = Record(0, 1, PAGE.encode(), "html", meta={"http": {}, "charset": "utf-8"})
    assert convert(record) == convert(record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5) | st.binary(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None), max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_meta_is_canonical_json_whatever_a_row_held(meta: dict[str, Any]) -> None:
    text = json_of(meta)
    text.encode("utf-8")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    again = json.loads(text, parse_constant=refuse)
    assert json.dumps(again, sort_keys=True, ensure_ascii=False, separators=(",", ":")) == text
    assert json_of(dict(reversed(meta.items()))) == text


def test_meta_of_bottomless_depth_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]
    assert len(json_of({"deep": deep})) < 200
