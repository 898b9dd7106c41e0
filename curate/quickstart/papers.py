"""The paper source: PDFs with one and two columns, two scans without a text layer, and three files that are none.

PyMuPDF (AGPL-3.0) writes them. The project keeps PyMuPDF in one module of the ingest path, behind an interface; this
file is the other user, on purpose apart from that one: it makes test input, runs in the quickstart only, and nothing
that curates imports it. Lines are set here and not by MuPDF's HTML engine, so that the layout depends on this file alone.
PyMuPDF encrypts with a random file id, so the encrypted file is written by hand (PDF 1.4, section 3.5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate.errors import MissingExtra
from curate.quickstart.draw import Draw, hashed
from curate.quickstart.library import Documentation, entries, topics
from curate.quickstart.prose import Block, clean, prose_length

TOPICS = ("specialnames", "typesseq", "debugger", "execmodel", "calls", "import")  # long ones, which read as papers
WIDTH, HEIGHT, MARGIN, GUTTER = 595.0, 842.0, 64.0, 22.0  # A4, in points
_DATE = "D:20240304050607Z"
_SCANNED_BLOCKS = 14
_MAX_CHARACTERS = 30_000
_TO_LATIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--", "\u2026": "..."})


@dataclass(frozen=True)
class Style:
    """How a paper is set: columns, fonts (PDF's own, never embedded) and sizes in points."""

    columns: int
    font: str
    bold: str
    size: float
    hyphenate: bool


STYLES = (
    Style(1, "tiro", "tibo", 10.5, False),
    Style(2, "tiro", "tibo", 9.5, True),
    Style(1, "helv", "hebo", 10.0, False),
    Style(2, "helv", "hebo", 9.0, False),
)


def papers(said: Sequence[Documentation], *, seed: int, scale: float) -> tuple[dict[str, bytes], dict[str, object]]:
    """Return PDF files by name, and what each of them is. Raises MissingExtra without PyMuPDF."""
    whole = list(_contents(said, seed))
    count = max(1, round((len(whole) - 2) * min(scale, 1.0)))
    files: dict[str, bytes] = {}
    kinds: dict[str, list[str]] = {"text_layer": [], "scanned": [], "broken": [], "encrypted": [], "not_pdf": []}
    for number, (title, said_blocks) in enumerate(whole[:count]):
        style, name = STYLES[number % len(STYLES)], f"paper-{number:02d}.pdf"
        files[name] = _saved(_typeset(title, said_blocks, style))
        kinds["text_layer"].append(name)
    for number in range(2):
        title, said_blocks = whole[(len(whole) - 2 + number) % len(whole)]
        name, draw = f"scan-{number:02d}.pdf", Draw(seed, "scan", number)
        start = draw.whole(0, max(0, len(said_blocks) - _SCANNED_BLOCKS))
        files[name] = _saved(_scanned(_typeset(f"{title} (scan)", said_blocks[start : start + _SCANNED_BLOCKS], STYLES[2 * number]), draw))
        kinds["scanned"].append(name)
    files["broken.pdf"] = files["paper-00.pdf"][: len(files["paper-00.pdf"]) * 2 // 5]
    files["encrypted.pdf"] = encrypted("This text can be read with the password only.", password=b"not-given")
    files["not-a-pdf.pdf"] = (
        b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><p>Please sign in to download this paper.</p></body></html>\n"
    )
    kinds["broken"], kinds["encrypted"], kinds["not_pdf"] = ["broken.pdf"], ["encrypted.pdf"], ["not-a-pdf.pdf"]
    return files, {"kinds": kinds, "layouts": {f"paper-{n:02d}.pdf": STYLES[n % len(STYLES)].columns for n in range(count)}}


def _contents(said: Sequence[Documentation], seed: int) -> Iterator[tuple[str, list[Block]]]:
    """Yield titles and blocks: help topics, and modules in the order of a hash; at least one of either where there is any."""
    for name, text in topics():
        if name in TOPICS:
            title = next((b.text for b in text if b.kind == "heading"), name)
            yield title.capitalize(), _until(text, _MAX_CHARACTERS)
    rich = sorted(said, key=lambda s: (-sum(prose_length(e.blocks) for e in entries(s)), hashed(seed, s.module.name)))
    for module in rich[:4]:
        body = [*module.blocks, *(b for e in entries(module) for b in (Block("heading", e.name), *e.blocks))]
        yield f"On the module {module.module.name}", _until(body or [Block("paragraph", "No documentation.")], _MAX_CHARACTERS)


def _until(said: Sequence[Block], characters: int) -> list[Block]:
    taken: list[Block] = []
    total = 0
    for block in said:
        total += len(block.text) + sum(map(len, block.items))
        if taken and total > characters:
            break
        taken.append(block)
    return taken


def _mupdf() -> Any:
    try:
        import pymupdf
    except ImportError as error:
        raise MissingExtra("PyMuPDF is not installed, and the quickstart's papers are written with it", hint="pip install pymupdf") from error
    return pymupdf


@cache
def _advances(font: str) -> tuple[float, ...]:
    """Return the width of each Latin-1 character at one point."""
    chosen = _mupdf().Font(font)
    return tuple(chosen.glyph_advance(code) if code >= 32 else 0.0 for code in range(256))


def _width(text: str, font: str, size: float) -> float:
    advances = _advances(font)
    return size * sum(advances[ord(c)] for c in text)


def _latin(text: str) -> str:
    return text.translate(_TO_LATIN).encode("latin-1", "replace").decode("latin-1")


def _wrapped(text: str, font: str, size: float, width: float, *, hyphenate: bool) -> Iterator[str]:
    """Yield lines no wider than `width`; `hyphenate` breaks long words between a vowel and a consonant."""
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if _width(joined, font, size) <= width:
            line = joined
            continue
        cut = _break(word, width - _width(line + " -", font, size), font, size) if hyphenate and line else 0
        if cut:
            yield f"{line} {word[:cut]}-"
            line = word[cut:]
        else:
            if line:
                yield line
            line = word
        while _width(line, font, size) > width:
            fits = max(1, next(n for n in range(len(line), 0, -1) if n == 1 or _width(line[:n], font, size) <= width))
            yield line[:fits]
            line = line[fits:]
    if line:
        yield line


def _break(word: str, room: float, font: str, size: float) -> int:
    if len(word) < 8 or not word.isalpha() or not word.islower():
        return 0
    places = [n for n in range(3, len(word) - 2) if word[n - 1] in "aeiou" and word[n] not in "aeiou" and _width(word[:n], font, size) <= room]
    return places[-1] if places else 0


Line = tuple[str, str, float, float]  # text, font, size, indent in points; an empty text is space


def _lines(said: Sequence[Block], style: Style, width: float) -> Iterator[Line]:
    for block in said:
        if block.kind == "heading":
            yield "", style.bold, style.size * 0.6, 0.0
            yield from (
                (line, style.bold, style.size * 1.15, 0.0)
                for line in _wrapped(_latin(clean(block.text)), style.bold, style.size * 1.15, width, hyphenate=False)
            )
        elif block.kind == "code":
            code = style.size * 0.8
            for raw in _latin(block.text).expandtabs(4).splitlines():
                yield from (
                    ("  " + raw[i : i + int(width / (0.6 * code)) - 2], "cour", code, 0.0)
                    for i in range(0, max(1, len(raw)), int(width / (0.6 * code)) - 2)
                )
        else:
            for item in block.items or (block.text,):
                indent = 12.0 if block.items else 0.0
                text = ("\u00b7 " if block.items else "") + _latin(clean(item))
                lines = _wrapped(text, style.font, style.size, width - indent, hyphenate=style.hyphenate)
                yield from ((line, style.font, style.size, indent) for line in lines)
        yield "", style.font, style.size * 0.45, 0.0


def _typeset(title: str, said: Sequence[Block], style: Style) -> Any:
    """Return a document: title and author, columns from left to right, a running head and page numbers."""
    mupdf = _mupdf()
    document = mupdf.open()
    width = (WIDTH - 2 * MARGIN - (style.columns - 1) * GUTTER) / style.columns
    ink: Any = None
    column, y, top = style.columns, HEIGHT, MARGIN
    for text, font, size, indent in _lines(said, style, width):
        if y + size * 1.25 > HEIGHT - MARGIN:
            column, y = column + 1, top
            if column >= style.columns:
                if ink is not None:
                    ink.commit()
                ink, top = _new_page(document, title, style)
                column, y = 0, top
        y += size * 1.25
        if text:
            ink.insert_text((MARGIN + column * (width + GUTTER) + indent, y), text, fontname=font, fontsize=size)
    if ink is not None:
        ink.commit()
    document.set_metadata({"title": title, "author": "The Example Archive", "creationDate": _DATE, "modDate": _DATE, "producer": "curate quickstart"})
    return document


def _new_page(document: Any, title: str, style: Style) -> tuple[Any, float]:
    """Return a new page to write on, to be committed when it is full (once a page is much faster than once a line), and where its columns begin."""
    page = document.new_page(width=WIDTH, height=HEIGHT).new_shape()
    number = str(len(document))
    page.insert_text((WIDTH / 2 - 3 * len(number), HEIGHT - MARGIN / 2), number, fontname=style.font, fontsize=9)
    if len(document) > 1:
        page.insert_text((MARGIN, MARGIN / 2 + 6), f"{_latin(title)}", fontname=style.font, fontsize=8)
        return page, MARGIN
    shown = list(_wrapped(_latin(title), style.bold, 17, WIDTH - 2 * MARGIN, hyphenate=False))
    for line, text in enumerate(shown):
        page.insert_text(((WIDTH - _width(text, style.bold, 17)) / 2, MARGIN + 20 + 21 * line), text, fontname=style.bold, fontsize=17)
    author = "The Example Archive"
    page.insert_text(((WIDTH - _width(author, style.font, 11)) / 2, MARGIN + 24 + 21 * len(shown)), author, fontname=style.font, fontsize=11)
    return page, MARGIN + 48 + 21 * len(shown)


def _scanned(document: Any, draw: Draw) -> Any:
    """Return the document as a scanner gives it back: gray pictures, slightly turned, with noise, no text layer."""
    import numpy as np

    mupdf = _mupdf()
    result = mupdf.open()
    for page in list(document)[:2]:
        turn = draw.whole(-6, 6) / 10  # degrees
        pixels = page.get_pixmap(matrix=mupdf.Matrix(150 / 72, 150 / 72).prerotate(turn), colorspace=mupdf.csGRAY, alpha=False)
        gray = np.frombuffer(pixels.samples, dtype=np.uint8).reshape(pixels.height, pixels.stride)[:, : pixels.width]
        noisy = np.clip(gray * 0.94 + 8 + draw.normal(gray.shape, 5.0), 0, 255).astype(np.uint8)
        picture = mupdf.Pixmap(mupdf.csGRAY, pixels.width, pixels.height, noisy.tobytes(), False)
        sheet = result.new_page(width=WIDTH, height=HEIGHT)
        sheet.insert_image(sheet.rect, stream=picture.tobytes("jpeg", jpg_quality=60))
    result.set_metadata({"creationDate": _DATE, "modDate": _DATE, "producer": "example scanner"})
    return result


def _saved(document: Any) -> bytes:
    data: bytes = document.tobytes(garbage=3, deflate=True, no_new_id=True)
    return data


def encrypted(text: str, *, password: bytes) -> bytes:
    """Return a PDF of one page that opens with `password` only: the standard security handler, revision 2, RC4 with 40 bits."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    identity = hashlib.md5(b"curate quickstart", usedforsecurity=False).digest()
    user = (password + pad)[:32]
    owner = _rc4(hashlib.md5(user, usedforsecurity=False).digest()[:5], user)
    key = hashlib.md5(user + owner + (-4 & 0xFFFFFFFF).to_bytes(4, "little") + identity, usedforsecurity=False).digest()[:5]
    content = _rc4(hashlib.md5(key + b"\x04\0\0\0\0", usedforsecurity=False).digest()[:10], f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode())
    handler = b"<</Filter/Standard/V 1/R 2/Length 40/P -4/O<%s>/U<%s>>>" % (owner.hex().encode(), _rc4(key, pad).hex().encode())
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Times-Roman>>",
        handler,
    )
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<</Size 7/Root 1 0 R/Encrypt 6 0 R/ID[<%s><%s>]>>\nstartxref\n%d\n%%%%EOF\n" % (
        identity.hex().encode(),
        identity.hex().encode(),
        len(out),
    )
    return out + b"xref\n0 7\n0000000000 65535 f \n" + table + trailer


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
