"""Write WARC/1.0 files as crawlers do: one gzip member per record, a request and a metadata record beside each response.

Times and record ids are derived from the page's place and address, never from the clock, so the same pages give the
same bytes. Follows ISO 28500 and the layout of Common Crawl's files.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

SOFTWARE = "curate-quickstart/1.0"
_BEGIN = datetime(2024, 3, 4, 5, 6, 7, tzinfo=UTC)
_NAMESPACE = uuid.UUID("5f0c9f0e-6d6b-5d7a-9c55-0f3f8f5b8a11")
_REASONS = {200: "OK", 301: "Moved Permanently", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Page:
    """A response as the crawler stored it: `body` is what came over the wire, coded as `headers` say."""

    url: str
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "documentation"  # what it was made as; kept in summary.json only


def members(pages: Iterable[Page], *, name: str) -> list[bytes]:
    """Return the gzip members of one WARC file: a warcinfo record, then request, response and metadata per page."""
    info = f"software: {SOFTWARE}\r\nformat: WARC File Format 1.0\r\nhostname: crawler.example.org\r\nrobots: classic\r\n".encode()
    found = [_member("warcinfo", "application/warc-fields", info, f"{name}/info", _BEGIN, {"WARC-Filename": name})]
    for number, page in enumerate(pages):
        moment = _BEGIN + timedelta(seconds=7 * number)
        found += _page(page, f"{name}/{number}", moment)
    return found


def _page(page: Page, place: str, moment: datetime) -> list[bytes]:
    response = _response(page, moment)
    at = {"WARC-Target-URI": page.url, "WARC-IP-Address": "192.0.2.17"}
    identity = _identity(f"{place}/response")
    payload = {"WARC-Payload-Digest": _digest(page.body), "WARC-Identified-Payload-Type": page.content_type.partition(";")[0]}
    fetched = f"fetchTimeMs: {60 + len(page.body) % 700}\r\ncharset-detected: utf-8\r\n".encode()
    return [
        _member("request", "application/http; msgtype=request", _request(page), f"{place}/request", moment, at | {"WARC-Concurrent-To": identity}),
        _member("response", "application/http; msgtype=response", response, f"{place}/response", moment, at | payload),
        _member("metadata", "application/warc-fields", fetched, f"{place}/metadata", moment, at | {"WARC-Concurrent-To": identity}),
    ]


def _request(page: Page) -> bytes:
    _, _, rest = page.url.partition("://")
    host, _, path = rest.partition("/")
    lines = [f"GET /{path} HTTP/1.1", f"Host: {host}", f"User-Agent: {SOFTWARE}", "Accept: text/html,*/*;q=0.5", "Accept-Language: en-US,en;q=0.5"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _response(page: Page, moment: datetime) -> bytes:
    head = [
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}",
        f"Date: {format_datetime(moment, usegmt=True)}",
        "Server: example",
        f"Content-Type: {page.content_type}",
    ]
    head += [f"{key}: {value}" for key, value in page.headers]
    if not any(key.lower() == "transfer-encoding" for key, _ in page.headers):
        head.append(f"Content-Length: {len(page.body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + page.body


def _member(kind: str, content_type: str, block: bytes, place: str, moment: datetime, extra: dict[str, str]) -> bytes:
    lines = ["WARC/1.0", f"WARC-Type: {kind}", f"WARC-Record-ID: {_identity(place)}", f"WARC-Date: {moment:%Y-%m-%dT%H:%M:%SZ}"]
    lines += [f"{key}: {value}" for key, value in extra.items()]
    lines += [f"WARC-Block-Digest: {_digest(block)}", f"Content-Type: {content_type}", f"Content-Length: {len(block)}"]
    return gzip.compress(("\r\n".join(lines) + "\r\n\r\n").encode() + block + b"\r\n\r\n", mtime=0)


def _identity(place: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(_NAMESPACE, place)}>"


def _digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
