"""One record → one document row, or the reason why there is none. A pure function of the record and the spec.

The page is parsed once, for its text and for its signals. Reasons: `http_error`, `invalid_http`, `invalid_warc_header`, `not_html`,
`page_too_large`, `undecodable_payload`, `pdf_in_warc`, `nested_too_deeply`, `too_many_attributes`,
`no_text_field`, `text_not_a_string`, `no_text`.
"""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import date, datetime
from typing import Any

from curate.documents import document_id
from curate.extract import excess, extract
from curate.ingest.decode import clean, decode_page, decode_utf8
from curate.ingest.record import Dropped, Record
from curate.ingest.signals import signals_of
from curate.specs.workflow import Ingest

_MAX_DEPTH = 32
_INVISIBLE = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf"))  # spaces, separators, controls, and format characters such as U+200B


def to_document(record: Record, source: str, file: str, options: Ingest) -> dict[str, Any] | Dropped:
    """Return `record` as a row of `curate.documents.SCHEMA`, or why it is dropped.

    `file` is the stable name of the file that the record is from. `meta` is canonical JSON: keys sorted, no NaN.
    """
    size = record.size or len(record.content)
    if record.dropped:
        return Dropped(record.dropped, size)
    if record.kind == "pdf" and isinstance(record.content, bytes) and options.pdf is None:
        return Dropped("pdf_in_warc", size)
    meta = dict(record.meta)
    text, replaced = _decoded(record, meta)
    text, removed = clean(text)
    if record.kind == "html":
        reason = excess(text)
        if reason:
            return Dropped(reason, size)
        text, page = _page(text, options)
        if page:
            meta["html"] = page
    if not has_visible(text):
        return Dropped("no_text", size)
    if replaced:
        meta["replaced_bytes"] = replaced
    if removed:
        meta["removed_characters"] = removed
    if options.files is not None:
        meta["path"] = file
    return {
        "id": document_id(source, file, record.offset),
        "text": text,
        "source": source,
        "url": column(record.url),
        "date": column(record.date),
        "claimed_language": options.language or column(record.language),
        "claimed_license": options.license or column(record.license),
        "origin": {"file": file, "offset": record.offset, "length": record.length},
        "parent": None,
        "meta": json_of(meta),
    }


def json_of(meta: dict[str, Any]) -> str:
    """Return canonical JSON, whatever a JSON line or a Parquet row had in it."""
    return json.dumps(plain(meta), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Return `value` as JSON can hold it: valid Unicode, no NaN, dates in ISO 8601, anything else as its string."""
    if isinstance(value, str):
        return clean(value)[0]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return clean(decode_utf8(value)[0])[0]
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {clean(str(key))[0]: plain(value[key], depth - 1) for key in sorted(value, key=str)}  # sorted: cleaned keys may collide
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    return clean(str(value))[0]


def has_visible(text: str) -> bool:
    """Return whether a text has more than white space, control characters, and such of no width."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)


def column(value: str | None) -> str | None:
    """Return what a column can hold of an input's string: valid Unicode, and None for nothing."""
    return clean(value)[0] or None if value else None


def _decoded(record: Record, meta: dict[str, Any]) -> tuple[str, int]:
    if isinstance(record.content, str):
        return record.content, 0
    return decode_page(record.content, meta.pop("charset", None))


def _page(html: str, options: Ingest) -> tuple[str, dict[str, Any]]:
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    found = signals_of(tree, html)
    source = html if options.extract.engine == "trafilatura" else tree
    text, _ = clean(extract(source, options.extract))
    return text, found
