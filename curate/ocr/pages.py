"""A PDF as pages of text fragments and images: the only module that knows PyMuPDF.

PyMuPDF is licensed under the AGPL. Everything else sees `open_pdf` and `Pdf`, so that pypdfium2 (BSD/Apache)
can take its place; what this module uses of a PDF library is: open with an empty password, page count and
metadata, spans of text with box, font and whether they are painted, the boxes of images, rendering, and its warnings.

Unknown glyphs become U+FFFD and not the glyph's number, since a number hides that the font is broken.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC_WITHIN_BYTES = 1024  # Adobe's readers accept a header that begins within the first 1,024 bytes
POINTS_PER_INCH = 72

Image = npt.NDArray[np.uint8]  # height x width x 3, RGB


class PdfError(Exception):
    """A PDF that cannot be opened, in words for the user: 'not a PDF', 'encrypted', 'broken: ...', 'no pages', 'empty file'."""


class Fragment(msgspec.Struct, array_like=True):
    """A piece of text on one baseline. The box is in points from the page's top left, as the page is displayed."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float  # of the font, points
    font: str = ""
    painted: bool = True  # False: render mode 3, the invisible text of an OCR layer
    fixed_width: bool = False
    turned: bool = False  # the baseline is not horizontal


class Pdf:
    """An open PDF. Pages are numbered from 0."""

    def __init__(self, document: Any, library: Any, encrypted: bool) -> None:
        self._document, self._library, self._encrypted = document, library, encrypted
        self.num_pages: int = document.page_count

    def metadata(self) -> dict[str, Any]:
        """Return title, author, producer, creator, date, pages, encrypted and repaired; empty texts are left out."""
        found = self._document.metadata or {}
        kept = {ours: found.get(theirs) for ours, theirs in _METADATA.items()}
        texts = {name: storable(str(value)).strip()[:500] for name, value in kept.items() if value}
        return texts | {"pages": self.num_pages, "encrypted": self._encrypted, "repaired": bool(self._document.is_repaired)}

    def size(self, page: int) -> tuple[float, float]:
        """Return width and height in points."""
        box = self._document[page].rect
        return float(box.width), float(box.height)

    def fragments(self, page: int, max_characters: int) -> tuple[list[Fragment], bool]:
        """Return the text of a page in the file's order, and whether it was cut at `max_characters`."""
        flags = self._library.TEXT_PRESERVE_WHITESPACE | self._library.TEXT_MEDIABOX_CLIP
        blocks = self._document[page].get_text("dict", flags=flags)["blocks"]
        found: list[Fragment] = []
        left = max_characters
        for line in (line for block in blocks for line in block.get("lines", ())):
            turned = abs(line["dir"][1]) > 0.5
            for span in line["spans"]:
                text = storable(span["text"])
                if len(text) > left:
                    return found, True
                left -= len(text)
                painted = bool(span.get("char_flags", _FILLED_OR_STROKED) & _FILLED_OR_STROKED) and span.get("alpha", 255) > 0
                fixed_width = bool(span["flags"] & self._library.TEXT_FONT_MONOSPACED)
                x0, y0, x1, y1 = span["bbox"]
                found.append(Fragment(text, x0, y0, x1, y1, span["size"], span["font"], painted, fixed_width, turned))
        return found, False

    def image_boxes(self, page: int) -> list[tuple[float, float, float, float]]:
        """Return the boxes of the images that a page displays, in points."""
        return [tuple(image["bbox"]) for image in self._document[page].get_image_info()]

    def warnings(self) -> str:
        """Return what the library passed over in silence since the last call, such as a stream that does not decompress; "" for nothing."""
        return str(self._library.TOOLS.mupdf_warnings())

    def render(self, page: int, dpi: int, max_pixels: int) -> tuple[Image, float]:
        """Return a page as an image, and the resolution used: less than `dpi` where the page would exceed `max_pixels`."""
        width, height = self.size(page)
        pixels = (width * dpi / POINTS_PER_INCH) * (height * dpi / POINTS_PER_INCH)
        scale = dpi / POINTS_PER_INCH * min(1.0, (max_pixels / max(pixels, 1.0)) ** 0.5)
        pixmap = self._document[page].get_pixmap(matrix=self._library.Matrix(scale, scale), colorspace=self._library.csRGB, alpha=False)
        image = np.frombuffer(pixmap.samples, dtype=np.uint8).reshape(pixmap.height, pixmap.stride)[:, : pixmap.width * 3]
        return image.reshape(pixmap.height, pixmap.width, 3), scale * POINTS_PER_INCH


_FILLED_OR_STROKED = 0b11000  # MuPDF's FZ_STEXT_FILLED | FZ_STEXT_STROKED
_LOSS = re.compile(  # what MuPDF says where it passed over content; not of fonts, color profiles, resources, operators and wrong lengths
    r"treating as end of file|zlib error|premature end of data|unknown filter|crypt filter|Can't open image only stream|cannot decode"
    r"|cannot (load|parse) object|corrupt object stream|cannot find object|non-page object"
    r"|cannot load content stream|content stream is not a stream|syntax error in content stream"
    r"|openjpeg error|JPX|no XObject subtype|image (width|height) is|unknown colorspace"
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_METADATA = {"title": "title", "author": "author", "producer": "producer", "creator": "creator", "created": "creationDate"}


def open_pdf(data: bytes) -> Pdf:
    """Open a PDF from its bytes. Raises PdfError, also for HTML and other files that PyMuPDF would take for text."""
    if not data:
        raise PdfError("empty file")
    if b"%PDF-" not in data[:MAGIC_WITHIN_BYTES]:
        raise PdfError("not a PDF")
    import pymupdf as library

    pymupdf: Any = library  # it has no types
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    try:
        document = pymupdf.open(stream=data, filetype="pdf")
        encrypted = bool(document.is_encrypted or (document.metadata and document.metadata.get("encryption")))
        if document.needs_pass and not document.authenticate(""):
            raise PdfError("encrypted")
        if document.page_count == 0:
            raise PdfError("no pages")
        return Pdf(document, pymupdf, encrypted)
    except (RuntimeError, ValueError) as error:  # every error of PyMuPDF derives from one of these
        if is_memory_error(error):
            raise MemoryError from error
        raise PdfError(f"broken: {_first_line(error)}") from error


def tells_of_loss(warnings: str) -> bool:
    """Tell whether warnings of the library say that it lost content. Most do not: an unknown operator, or a font that is missing."""
    return _LOSS.search(warnings) is not None


def storable(text: str) -> str:
    """Return `text` with U+FFFD for NULs and lone surrogates, which UTF-8 columns cannot hold: of the same length, so that spans stay true."""
    return _UNSTORABLE.sub("\ufffd", text)


def is_memory_error(error: Exception) -> bool:
    """Tell whether a library of C or C++ failed for want of memory: MuPDF, OpenCV and ONNX Runtime each say it in their own words."""
    return isinstance(error, MemoryError) or re.search(r"alloc|memory", str(error), re.IGNORECASE) is not None


def library_version() -> str:
    """Return the name and version of the library that reads text layers."""
    from importlib.metadata import version

    return f"pymupdf {version('pymupdf')}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["unknown error"])[0][:200]
