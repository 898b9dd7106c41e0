"""PDFs for tests: made with PyMuPDF, or written by hand where a file must be hostile."""

from __future__ import annotations

import zlib

import pymupdf

PROSE = (
    "The committee met in the spring to consider how the old library should be repaired. Several members thought that the roof was the most "
    "urgent matter, while others wanted the reading rooms to be painted first. After a long discussion they agreed to ask a builder for his "
    "opinion, and to meet again when the letters had been answered. Nobody mentioned the garden, which had been left to itself for years."
)


def shift(text: str, places: int) -> str:
    """Move every letter along the alphabet, as a font with a shifted encoding does."""
    return "".join(
        chr((ord(c) - 97 + places) % 26 + 97) if "a" <= c <= "z" else chr((ord(c) - 65 + places) % 26 + 65) if "A" <= c <= "Z" else c for c in text
    )


def text_pdf(*pages: str) -> bytes:
    document = pymupdf.open()
    for text in pages:
        document.new_page(width=595, height=842).insert_textbox((60, 150, 535, 700), text, fontsize=11)
    return document.tobytes()


def destroyed_pdf(*pages: str, at: int) -> bytes:
    """Text pages, of which the content of page `at` (from 0) does not decompress."""
    data = pymupdf.open("pdf", text_pdf(*pages)).tobytes(deflate=True)
    (number,) = pymupdf.open("pdf", data)[at].get_contents()
    start = data.index(b"stream", data.index(b"\n%d 0 obj" % number)) + 7
    end = data.index(b"endstream", start)
    return data[:start] + b"\xff" * (end - start) + data[end:]


def page_pdf(content: bytes, resources: bytes = b"<<>>", stream: bytes = b"") -> bytes:
    """One page of `content`, written by hand; `stream` are more entries of its stream's dictionary."""
    entries = stream if b"/Length" in stream else b"/Length %d" % len(content) + stream
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources " + resources + b"/Contents 4 0 R>>",
        b"<<" + entries + b">>stream\n" + content + b"\nendstream",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + table + b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(data)


def scan_pdf(*lines: str, hidden: str = "", turn: int = 0, width: int = 300, height: int = 120) -> bytes:
    """A page that is one picture of `lines`; `hidden` is invisible text over it, as OCR programs write it."""
    drawn = pymupdf.open()
    page = drawn.new_page(width=width, height=height)
    for n, line in enumerate(lines):
        page.insert_text((20, 40 + 30 * n), line, fontsize=16)
    picture = page.get_pixmap(matrix=pymupdf.Matrix(2, 2).prerotate(turn))
    document = pymupdf.open()
    page = document.new_page(width=picture.width / 2, height=picture.height / 2)
    page.insert_image(page.rect, pixmap=picture)
    if hidden:
        page.insert_textbox(page.rect, hidden, fontsize=6, render_mode=3)
    return document.tobytes()


def encrypted(data: bytes, user: str) -> bytes:
    document = pymupdf.open("pdf", data)
    return document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw=user, owner_pw="owner")


def hostile_pdf(kind: str, good_pages: int = 0) -> bytes:
    """A PDF whose first page is hostile, followed by `good_pages` pages with a line of text.

    fan_out: a form that draws twelve forms that draw twelve forms, nine levels deep: 5 billion drawings in 3 kB.
    text: forty million characters in one line, 40 kB; laid out they take gigabytes.
    """
    font = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
    kids = b" ".join(b"%d 0 R" % n for n in [3, *range(6, 6 + 2 * good_pages, 2)])
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, good_pages + 1)]
    first = 6 + 2 * good_pages
    objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</XObject<</X %d 0 R>>>>>>" % first)
    objects += [_stream(b"/X Do"), b"null"]
    for n in range(good_pages):
        objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Resources<<%s>>>>" % (7 + 2 * n, font))
        objects.append(_stream(b"BT /F 12 Tf 72 600 Td (Sound page %d) Tj ET" % (n + 2)))
    form = b"/Subtype/Form/BBox[0 0 612 792]/Resources<<%s>>"
    if kind == "text":
        packed = zlib.compress(b"BT /F 12 Tf " + b"(spam spam spam spam spam spam spam spam)Tj " * 1_000_000 + b"ET", 9)
        objects.append(_stream(packed, form % font + b"/Filter/FlateDecode"))
    else:
        objects += [_stream(b"/X Do " * 12, form % (b"/XObject<</X %d 0 R>>" % (first + 1 + level))) for level in range(9)]
        objects.append(_stream(b"BT /F 12 Tf (boo) Tj ET", form % font))
    return _file(objects)


def _stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)


def _file(objects: list[bytes]) -> bytes:
    out, offsets = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (n, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, end)
