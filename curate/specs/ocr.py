"""The OCR spec: how PDFs are read, page by page, and within which limits."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from curate.specs.load import Spec

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]


class Limits(Spec, frozen=True, kw_only=True):
    """What one PDF, or one page of it, may cost. A page beyond a limit becomes a gap with its reason; the others stay."""

    max_pages: Positive = 2000  # pages after these are a gap, `over_page_limit`
    max_pixels: Positive = 10_000_000  # a page that would render larger is rendered at a lower resolution, `resolution_reduced`
    max_page_characters: Positive = 200_000  # text after these is cut, `text_cut_off`; a dense page has 10,000
    max_megabytes: Annotated[int, Meta(ge=128)] = 2500  # memory of the reading process; RapidOCR alone needs about 1,000
    max_page_seconds: Positive = 120  # processor time of one page, OCR included, and of opening the file
    max_seconds: Positive = 7200  # processor time of one PDF; pages after that are a gap, `over_time_limit`


class Route(Spec, frozen=True, kw_only=True):
    """When a page's text layer is trusted, and when the page is sent to OCR. Any one of these measures sends it."""

    min_characters: int = 100  # fewer visible characters than this, and ink elsewhere on the page: `few_characters`
    min_ink_share: Share = 0.001  # share of the page, outside the text layer's boxes, that must differ from the background to count as ink
    scan_image_share: Share = 0.8  # a page that images cover to this share is a scan, and its text layer another program's OCR
    max_unmapped_share: Share = 0.1  # characters without a meaning (U+FFFD, private use, control): `unmapped_characters`
    min_letter_bits: Annotated[float, Meta(le=0)] = -4.9  # mean log2 probability per letter pair below which a font's text is noise
    max_implausible_share: Share = 0.2  # share of the letters that may stand in such fonts: `implausible_letters`, `shifted_letters`
    min_word_share: Share = 0.6  # on a scan, characters that stand in words or numbers; fewer: `broken_words`


class Ocr(Spec, frozen=True, kw_only=True):
    """The top level of ocr/NAME.yaml."""

    engine: Literal["auto", "rapidocr", "tesseract", "none"] = "rapidocr"  # auto: tesseract only where rapidocr is missing; none: no OCR
    languages: list[Annotated[str, Meta(pattern=r"^[A-Za-z_/]+$")]] = field(default_factory=lambda: ["eng"])  # for tesseract, by its names
    dpi: Annotated[int, Meta(ge=36, le=1200)] = 150  # resolution at which a page is rendered for OCR
    min_confidence: Share = 0.5  # a recognized line (rapidocr) or word (tesseract) below this is left out
    furniture: Literal["remove", "keep"] = "remove"  # running headers, footers and page numbers, found by their repetition
    limits: Limits = field(default_factory=Limits)  # what one PDF may cost
    route: Route = field(default_factory=Route)  # what makes a page go to OCR
