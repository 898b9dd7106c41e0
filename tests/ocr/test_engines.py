import importlib.util

import numpy as np
import pymupdf
import pytest
from pdf_files import scan_pdf

from curate.errors import CurateError, MissingExtra
from curate.ocr import engines
from curate.ocr.pages import open_pdf, storable
from curate.specs.ocr import Ocr

HAS_TESSERACT = "eng" in engines.tesseract_languages()


def without(monkeypatch, *, rapidocr=False, tesseract=frozenset()):
    """Pretend that this machine has only what is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if rapidocr else None)
    monkeypatch.setattr(engines, "tesseract_languages", lambda: frozenset(tesseract))


@pytest.mark.parametrize(
    ("engine", "rapidocr", "tesseract", "resolved"),
    [
        ("auto", True, {"eng"}, "rapidocr"),
        ("auto", False, {"eng"}, "tesseract"),
        ("rapidocr", True, set(), "rapidocr"),
        ("tesseract", True, {"eng", "osd"}, "tesseract"),
        ("none", False, set(), "none"),
    ],
)
def test_an_engine_is_resolved_by_what_the_machine_has(monkeypatch, engine, rapidocr, tesseract, resolved):
    without(monkeypatch, rapidocr=rapidocr, tesseract=tesseract)
    assert engines.resolve_engine(Ocr(engine=engine)) == resolved


def test_a_missing_engine_is_an_error_that_says_what_to_do(monkeypatch):
    without(monkeypatch)
    with pytest.raises(MissingExtra, match="pip install rapidocr"):
        engines.resolve_engine(Ocr(engine="rapidocr"))
    with pytest.raises(CurateError, match="tesseract is not installed"):
        engines.resolve_engine(Ocr(engine="auto"))
    without(monkeypatch, rapidocr=True, tesseract={"eng"})
    with pytest.raises(CurateError, match="no language deu\nhint: apt install tesseract-ocr tesseract-ocr-deu"):
        engines.resolve_engine(Ocr(engine="tesseract", languages=["eng", "deu"]))


def test_an_engine_that_lost_its_languages_is_broken(monkeypatch):
    without(monkeypatch, tesseract={"osd"})
    with pytest.raises(engines.EngineBroken, match="no language deu, eng"):
        engines.start(Ocr(engine="tesseract", languages=["eng", "deu"]))
    without(monkeypatch, tesseract={"eng"})
    engines.start(Ocr(engine="tesseract"))


class Turntable:
    """An engine that reads a page only when the dark edge is on top."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image, dpi, spec):
        self.calls += 1
        upright = image[0].mean() < 10
        sure = 0.95 if upright else 0.3
        box = (0.0, 0.0, 200.0, 20.0) if image.shape[0] > image.shape[1] else (0.0, 0.0, 20.0, 200.0)
        text = "a line of text that reads well" if upright else "~ jn"
        return [engines._Piece(engines.Fragment(text, *box, 20.0), sure, (1,))]


@pytest.mark.parametrize(("quarters", "rotation", "calls"), [(0, 0, 1), (1, 90, 2), (3, 270, 3), (2, 180, 2)])
def test_a_turned_page_is_turned_back(monkeypatch, quarters, rotation, calls):
    engine = Turntable()
    monkeypatch.setattr(engines, "_read_rapidocr", engine)
    page = np.full((300, 200, 3), 255, np.uint8)
    page[0] = 0
    found = engines.recognize(np.rot90(page, quarters), 72.0, Ocr())
    assert (found.rotation, engine.calls) == (rotation, calls)
    assert [f.text for f in found.fragments] == ["a line of text that reads well"]
    assert found.fragments[0].x1 == 200.0


def test_what_is_uncertain_is_left_out_and_words_of_a_line_are_joined(monkeypatch):
    def word(text, x, confidence, line=1):
        return engines._Piece(engines.Fragment(text, x, 0.0, x + 40.0, 10.0, 10.0), confidence, (line,))

    words = [word("one", 0, 0.9), word("two", 45, 0.9), word("smudge", 90, 0.2), word("far", 200, 0.9), word("next", 0, 0.9, line=2)]
    monkeypatch.setattr(engines, "_read_tesseract", lambda image, dpi, spec: [*words, word("x" * 100, 0, 0.99, line=3)])
    found = engines.recognize(np.zeros((10, 10, 3), np.uint8), 144.0, Ocr(engine="tesseract"))
    assert [f.text for f in found.fragments[:-1]] == ["one two", "far", "next"]
    assert (found.fragments[0].x0, found.fragments[0].x1) == (0.0, 42.5)  # 85 pixels at 144 dpi
    assert found.confidence < 0.99  # what was left out counts


@pytest.mark.skipif(not HAS_TESSERACT, reason="tesseract is not installed")
def test_tesseract_reads_a_page_that_lies_on_its_side():
    lines = [f"The committee met again in the spring of {year}" for year in range(1901, 1911)]
    pdf = open_pdf(scan_pdf(*lines, turn=90, width=420, height=360))
    image, dpi = pdf.render(0, 200, 10_000_000)
    found = engines.recognize(image, dpi, Ocr(engine="tesseract"))
    assert found.rotation == 270
    assert found.confidence > 0.8
    text = " ".join(f.text for f in found.fragments)
    assert sum(f"met again in the spring of {year}" in text for year in range(1901, 1911)) >= 9


def test_a_page_is_rendered_within_the_pixel_limit():
    document = pymupdf.open()
    document.new_page(width=500, height=14_000)
    image, dpi = open_pdf(document.tobytes()).render(0, 300, 1_000_000)
    assert image.shape[0] * image.shape[1] <= 1_010_000
    assert dpi == pytest.approx(72 * (1_000_000 / (500 * 14_000)) ** 0.5)
    assert image.shape[2] == 3
    assert (image == 255).all()


def test_text_that_no_column_can_hold_is_replaced_in_place():
    text = storable("a\x00b\ud800c\U0001f600")
    assert text == "a\ufffdb\ufffdc\U0001f600"
    assert text.encode("utf-8")
