"""HTTP payloads as archives keep them: chunked, compressed, both, neither though they say so, cut off, mislabeled."""

from __future__ import annotations

import gzip
import zlib

import pytest
from warc_files import block, http

from curate.ingest.payload import decoded, kind_of, record_of
from curate.ingest.record import Record

PAGE = b"<html><body>" + b"<p>Some text of a page.</p>" * 300 + b"</body></html>"


def chunked(data: bytes) -> bytes:
    return b"".join(b"%x\r\n" % len(data[i : i + 700]) + data[i : i + 700] + b"\r\n" for i in range(0, len(data), 700)) + b"0\r\n\r\n"


def brotli(data: bytes) -> bytes:
    """Write with FastWARC what it reads, so that no further package is needed."""
    import io

    from fastwarc.stream_io import BrotliWriter

    sink = io.BytesIO()
    writer = BrotliWriter(sink)
    writer.write(data)
    writer.close()
    return sink.getvalue()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def record(body: bytes, headers: bytes = b"Content-Type: text/html\r\n", status: bytes = b"200 OK", **options: bytes) -> Record:
    raw = block(http(body, headers, status), **options)[:-4]
    return record_of(raw, 0, len(raw), 1_000_000)


@pytest.mark.parametrize(
    ("coding", "transfer", "body"),
    [
        ("gzip", "", gzip.compress(PAGE, mtime=0)),
        ("x-gzip", "", gzip.compress(PAGE, mtime=0)),
        ("deflate", "", zlib.compress(PAGE)),
        ("deflate", "", raw_deflate(PAGE)),
        ("br", "", brotli(PAGE)),
        ("gzip, br", "", brotli(gzip.compress(PAGE, mtime=0))),
        ("gzip", "", gzip.compress(PAGE[:700], mtime=0) + gzip.compress(PAGE[700:], mtime=0)),  # members in a row are one text
        ("gzip", "", gzip.compress(PAGE, mtime=0) + b"\r\n\0\0"),
        ("identity", "identity", PAGE),
        ("", "chunked", chunked(PAGE)),
        ("gzip", "chunked", chunked(gzip.compress(PAGE, mtime=0))),
        ("", "gzip, chunked", chunked(gzip.compress(PAGE, mtime=0))),
        ("GZIP", "Chunked", chunked(gzip.compress(PAGE, mtime=0))),
        # headers that say what the crawler has undone already
        ("gzip", "chunked", PAGE),
        ("gzip", "chunked", gzip.compress(PAGE, mtime=0)),
        ("br", "", PAGE),
        ("deflate", "", PAGE),
        ("rot13", "", PAGE),
    ],
)
def test_encodings_are_undone_and_false_claims_are_seen_through(coding: str, transfer: str, body: bytes) -> None:
    assert decoded(body, transfer, coding, 1_000_000) == (PAGE, "")


@pytest.mark.parametrize(("coding", "transfer", "body"), [("gzip", "", gzip.compress(PAGE, mtime=0)[:-30]), ("", "chunked", chunked(PAGE)[:-2000])])
def test_a_cut_off_payload_keeps_its_beginning_and_says_so(coding: str, transfer: str, body: bytes) -> None:
    payload, problem = decoded(body, transfer, coding, 1_000_000)
    assert problem == "cut_off" and PAGE.startswith(payload) and payload


def test_a_second_member_that_is_cut_off_is_no_whole_page() -> None:
    first, second = gzip.compress(PAGE[:700], mtime=0), gzip.compress(PAGE[700:], mtime=0)
    payload, problem = decoded(first + second[:-30], "", "gzip", 1_000_000)
    assert problem == "cut_off" and PAGE.startswith(payload) and len(payload) > 700
    assert decoded(first + b"\x1f\x8b no member", "", "gzip", 1_000_000) == (PAGE[:700], "cut_off")
    assert decoded(gzip.compress(b"") * 100_000, "", "gzip", 1_000_000)[1] != ""
    assert decoded(gzip.compress(bytes(600_000)) * 2, "", "gzip", 1_000_000) == (b"", "page_too_large")


def test_a_payload_that_decodes_to_nothing_known_is_undecodable() -> None:
    noise = bytes(range(256)) * 20
    for coding in ("gzip", "br", "zstd", "rot13"):
        assert decoded(noise, "", coding, 1_000_000) == (b"", "undecodable_payload")


def test_a_compression_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(60 << 20), 9)
    assert decoded(bomb, "", "gzip", 1_000_000) == (b"", "page_too_large")


@pytest.mark.parametrize(
    ("payload", "declared", "kind"),
    [
        (b"<p>hello", "text/html", "html"),
        (b"no markup at all", "text/html; charset=utf-8", "html"),
        (b"<html><p>hello", "", "html"),
        (b"\xef\xbb\xbf <!DOCTYPE html><p>hello", "application/octet-stream", "html"),
        (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>", "application/xml", "html"),
        (b"<!doctype html><p>x", "text/plain", "html"),
        (b"plain words, with a <p> in them", "text/plain", "text"),
        (b"%PDF-1.7 ...", "text/html", "pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "text/html", ""),
        (b"<rss><item/></rss>", "application/xml", ""),
        (b'{"a": 1}', "application/json", ""),
        (b"body { color: red }", "text/css", ""),
        ("<p>wide</p>".encode("utf-16"), "text/html", "html"),
    ],
)
def test_kinds_are_told_by_type_and_first_bytes(payload: bytes, declared: str, kind: str) -> None:
    assert kind_of(payload, declared) == kind


@pytest.mark.parametrize("status", [b"301 Moved", b"304 Not Modified", b"404 Not Found", b"503 Busy"])
def test_error_pages_and_redirects_are_dropped(status: bytes) -> None:
    found = record(PAGE, status=status)
    assert (found.dropped, found.content, found.size) == ("http_error", b"", len(PAGE))


def test_other_reasons() -> None:
    assert record(b"\xff\xd8\xff\xe0\0\x10JFIF", b"Content-Type: image/jpeg\r\n").dropped == "not_html"
    raw = block(b"this is not HTTP at all")[:-4]
    assert record_of(raw, 0, len(raw), 1000).dropped == "invalid_http"
    assert record(b"%PDF-1.4 page", b"Content-Type: application/pdf\r\n").kind == "pdf"


def test_only_signal_headers_are_kept_and_repeated_ones_joined() -> None:
    headers = (
        b"content-type: text/html\r\nX-Robots-Tag: noai\r\nX-ROBOTS-TAG: noindex\r\nSet-Cookie: secret=1\r\n"
        b"Content-Signal: ai-train=no\r\nTDM-Reservation: 1\r\nTDM-Policy: https://e.org/p.json\r\nContent-Language: d\xe9\r\n"
    )
    assert record(PAGE, headers).meta == {
        "http": {
            "content-language": "dé",
            "content-signal": "ai-train=no",
            "content-type": "text/html",
            "tdm-policy": "https://e.org/p.json",
            "tdm-reservation": "1",
            "x-robots-tag": "noai, noindex",
        }
    }


def test_a_response_without_any_header_is_still_a_page() -> None:
    assert record(PAGE, b"").content == PAGE


@pytest.mark.parametrize("media", [b"", b"Content-Type: text/html\r\n"])
def test_a_response_that_is_http_is_read_as_http_whatever_the_record_says(media: bytes) -> None:
    raw = block(http(PAGE))[:-4].replace(b"Content-Type: application/http; msgtype=response\r\n", media)
    found = record_of(raw, 0, len(raw), 1_000_000)
    assert (found.content, found.meta) == (PAGE, {"http": {"content-type": "text/html"}})


def test_what_the_crawler_truncated_is_noted() -> None:
    assert record(PAGE, extra=b"WARC-Truncated: length\r\n").meta["truncated"] == "length"
    assert record(gzip.compress(PAGE, mtime=0)[:-30], b"Content-Type: text/html\r\nContent-Encoding: gzip\r\n").meta["truncated"] == "encoding"


def test_header_floods_do_not_flood_the_meta() -> None:
    found = record(PAGE, b"Content-Type: text/html\r\n" + b"X-Robots-Tag: noai\r\n" * 2000)
    assert len(found.meta["http"]["x-robots-tag"]) <= 1000
