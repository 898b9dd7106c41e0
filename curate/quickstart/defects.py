"""Pages that a crawl really contains and a corpus should not: junk, wrong encodings, errors, refusals, hostile text.

Each function makes the pages of one defect; the page's `kind` names it, and summary.json lists where each one is.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from curate.quickstart import junk
from curate.quickstart.archive import Page
from curate.quickstart.chrome import HOSTS, Article, Site, address, blog, docs, notes
from curate.quickstart.draw import Draw
from curate.quickstart.languages import LANGUAGES, Language, foreign_paragraphs, foreign_title
from curate.quickstart.pages import typographic
from curate.quickstart.prose import Block

SPAM_HOSTS = ("lucky-reels.example", "best-pills-4u.example", "fast-cash.example", "outlet-deals.example", "rank-boost.example")  # RFC 2606
SCRIPT = "<script>alert(1)</script>"


def rendered(article: Article, site: Site, draw: Draw, kind: str) -> Page:
    """Return the article as a page of the site, in UTF-8."""
    return Page(address(site, article.path), site(article, draw).encode(), kind=kind)


def junk_page(kind: str, draw: Draw, number: int) -> Page:
    """Return a page of spam, lorem ipsum, boilerplate, a cookie policy, or keywords, with links as such pages have them."""
    paragraphs = junk.JUNK[kind](draw)
    host = draw.pick(SPAM_HOSTS if kind in ("spam", "keyword_list") else (*HOSTS.values(), "portal.example.com", "shop.example.net"))
    links = " ".join(f'<a href="http://{draw.pick(SPAM_HOSTS)}/{draw.whole(1, 999)}.html">{word}</a>' for word in paragraphs[-1].split()[:8])
    rows = "\n".join(f"<p>{escape(p)}</p>" for p in paragraphs)
    title = " ".join(paragraphs[0].split()[:7])
    head = f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
    html = f'{head}\n<body><div id="page">\n{rows}\n</div>\n<p>{links}</p></body></html>\n'
    return Page(f"http://{host}/{kind.replace('_', '-')}/{number}.html", html.encode(), kind=kind)


def short_page(draw: Draw, number: int) -> Page:
    """Return a page with a few words on it."""
    text = escape(junk.short(draw)[0])
    html = f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
    return Page(f"https://small.example.org/p/{number}", html.encode(), content_type="text/html", kind="short")


def foreign_page(draw: Draw, number: int, *, legacy: bool = False) -> Page:
    """Return a page in another language; `legacy`: in, and declared as, an encoding of before UTF-8."""
    language = LANGUAGES[number % len(LANGUAGES)]
    article = _foreign(language, draw, number)
    page = rendered(article, blog if number % 2 else notes, draw, "foreign")
    if not legacy:
        return page
    html = page.body.decode().replace("&middot;", "-").replace("&copy;", "(c)").replace('charset="utf-8"', f'charset="{language.legacy}"')
    body = html.encode(language.legacy, errors="xmlcharrefreplace")
    return replace(page, url=page.url + "?legacy", body=body, content_type=f"text/html; charset={language.legacy}", kind="legacy_charset")


def mojibake_page(article: Article, draw: Draw, number: int) -> Page:
    """Return a page whose UTF-8 was once read as Latin-1 and stored again: in odd turns a foreign one, in even an English one."""
    if number % 2:
        article = _foreign(LANGUAGES[number // 2 % 6], draw, 5000 + number)
    else:
        article = replace(article, blocks=tuple(map(typographic, article.blocks)), path=f"recovered/{number}")
    garbled = tuple(replace(b, text=_garbled(b.text), items=tuple(map(_garbled, b.items))) for b in article.blocks)
    return rendered(replace(article, title=_garbled(article.title), blocks=garbled), notes, draw, "mojibake")


def wrong_charset_page(article: Article, draw: Draw, number: int) -> Page:
    """Return a page whose declared encoding is not its own: Latin-1 called UTF-8, or UTF-8 called Latin-1."""
    if number % 2:
        page = rendered(replace(article, blocks=tuple(map(typographic, article.blocks)), path=f"charset/{number}"), blog, draw, "wrong_charset")
        return replace(page, content_type="text/html; charset=iso-8859-1")
    page = rendered(_foreign(LANGUAGES[number // 2 % 5], draw, 7000 + number), notes, draw, "wrong_charset")
    return replace(page, body=page.body.decode().encode("iso-8859-1", errors="xmlcharrefreplace"))


def refusing_pages(articles: Sequence[Article], draw: Draw) -> list[Page]:
    """Return pages that say they may not be used for training: in a meta tag, in a header, by TDMRep."""
    tag = replace(articles[0], head='<meta name="robots" content="noai, noimageai">\n', path="consent/meta-tag.html")
    header = replace(articles[1 % len(articles)], path="consent/header.html")
    reserved = replace(articles[2 % len(articles)], path="consent/reserved.html")
    return [
        rendered(tag, docs, draw, "noai_meta"),
        replace(rendered(header, docs, draw, "noai_header"), headers=(("X-Robots-Tag", "noai"),)),
        replace(rendered(reserved, docs, draw, "tdm_reserved"), headers=(("TDM-Reservation", "1"),)),
    ]


def hostile_page(article: Article, draw: Draw) -> Page:
    """Return a page that shows markup as text, so that it is still there after extraction."""
    said = (
        Block(
            "paragraph",
            f"What happens when a visitor types {SCRIPT} into the search form? If the page repeats the text as it is, the browser runs it.",
        ),
        Block(
            "paragraph",
            'The same holds for <img src=x onerror=alert(2)> and for "quotes" in attributes. Escape everything that you did not write yourself.',
        ),
        Block("code", f"print({SCRIPT!r})"),
    )
    return rendered(
        replace(article, title=f"Escaping {SCRIPT} in web pages", blocks=(*said, *article.blocks), path="security/escaping"),
        blog,
        draw,
        "script_text",
    )


def coded_pages(articles: Sequence[Article], draw: Draw) -> list[Page]:
    """Return pages whose bytes are compressed or chunked for the wire, as some crawlers store them."""
    compressed = rendered(replace(articles[0], path="wire/compressed.html"), docs, draw, "content_encoding")
    chunked = rendered(replace(articles[1 % len(articles)], path="wire/chunked.html"), docs, draw, "transfer_encoding")
    pieces = [chunked.body[i : i + 1500] for i in range(0, len(chunked.body), 1500)]
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in (*pieces, b""))
    return [
        replace(compressed, body=gzip.compress(compressed.body, mtime=0), headers=(("Content-Encoding", "gzip"),)),
        replace(chunked, body=body, headers=(("Transfer-Encoding", "chunked"),)),
    ]


def failed_page(status: int, draw: Draw, number: int) -> Page:
    """Return a response that is not a page: moved, forbidden, missing, or a server's error."""
    said = {301: "Moved Permanently", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}[status]
    host = draw.pick(tuple(HOSTS.values()))
    text = "<p>The requested address could not be served.</p><hr><address>example</address>"
    html = f"<html><head><title>{status} {said}</title></head><body><h1>{said}</h1>{text}</body></html>"
    headers = (("Location", f"https://{host}/moved/{number}.html"),) if status == 301 else ()
    return Page(f"https://{host}/old/{number}.html", html.encode(), content_type="text/html", status=status, headers=headers, kind=f"http_{status}")


def other_types(draw: Draw) -> list[Page]:
    """Return responses that are no HTML: a picture, data, and nothing at all."""
    data = json.dumps({"items": [draw.whole(0, 99) for _ in range(20)]}).encode()
    return [
        Page("https://docs.example.org/static/logo.png", _picture(draw), content_type="image/png", kind="not_html"),
        Page("https://api.example.com/v1/items.json", data, content_type="application/json", kind="not_html"),
        Page("https://blog.example.net/empty", b"", kind="empty_body"),
        Page("https://small.example.org/blank", b" \r\n\t\r\n", content_type="text/html", kind="empty_body"),
    ]


def _foreign(language: Language, draw: Draw, number: int) -> Article:
    said = tuple(Block("paragraph", text) for text in foreign_paragraphs(language, draw, draw.whole(4, 9)))
    return Article(foreign_title(language, draw), "", said, f"{language.code}/{number}.html", "News", language.code)


def _garbled(text: str) -> str:
    return text.encode().decode("latin-1")


def _picture(draw: Draw) -> bytes:
    """Return a gray PNG of 16 by 16 pixels."""
    rows = b"".join(b"\0" + bytes(draw.whole(0, 255) for _ in range(16)) for _ in range(16))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
