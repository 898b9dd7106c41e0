import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdf_files import PROSE, shift

from curate.ocr import route
from curate.ocr.pages import Fragment
from curate.specs.ocr import Route

SOUND = route.Evidence(characters=900, unpainted_share=0, image_share=0, unmapped_share=0, implausible_share=0, shifted=False, word_share=0.95)


def fragment(text, font="A", painted=True, box=(0.0, 0.0, 100.0, 10.0)):
    return Fragment(text, *box, 10.0, font, painted)


@pytest.mark.parametrize(
    ("change", "ink", "expected"),
    [
        ({}, 1.0, ("text", ["sound_text_layer"])),
        ({"characters": 0}, 0.0, ("blank", ["no_ink"])),
        ({"characters": 0}, 0.01, ("ocr", ["no_text_layer"])),
        ({"characters": 0, "image_share": 1.0}, 0.1, ("ocr", ["no_text_layer", "image_covers_page"])),
        ({"characters": 40}, 0.0, ("text", ["sound_text_layer"])),  # a title page
        ({"characters": 40}, 0.2, ("ocr", ["few_characters"])),  # a picture of text with a caption
        ({"unmapped_share": 0.3}, 0.0, ("ocr", ["unmapped_characters"])),
        ({"implausible_share": 1.0, "shifted": True}, 0.0, ("ocr", ["shifted_letters"])),
        ({"implausible_share": 0.5}, 0.0, ("ocr", ["implausible_letters"])),
        ({"word_share": 0.2}, 0.0, ("text", ["sound_text_layer"])),  # mathematics, not a scan
        ({"word_share": 0.2, "unpainted_share": 1.0, "image_share": 1.0}, 0.1, ("ocr", ["broken_words", "image_covers_page"])),
        ({"unpainted_share": 1.0, "image_share": 1.0}, 0.1, ("text", ["sound_ocr_layer", "image_covers_page"])),
        ({"image_share": 1.0}, 0.1, ("text", ["sound_text_layer", "image_covers_page"])),  # a slide over a picture
    ],
)
def test_a_page_goes_where_the_evidence_points(change, ink, expected):
    assert route.decide(SOUND._replace(**change), ink, Route()) == expected


def test_letters_are_judged_font_by_font():
    mixed = [fragment(PROSE, "sound"), fragment(shift(PROSE, 25), "broken")]
    evidence = route.measure(mixed, 0.0, Route())
    assert evidence.implausible_share == pytest.approx(0.5, abs=0.05)
    assert evidence.shifted
    assert route.measure(mixed[:1], 0.0, Route()).implausible_share == 0.0


def test_many_fonts_with_little_text_each_are_judged_together():
    words = shift(PROSE, 3).split()
    evidence = route.measure([fragment(word, f"font{n}") for n, word in enumerate(words)], 0.0, Route())
    assert evidence.implausible_share == 1.0


def test_invisible_text_counts_as_text_but_is_known():
    evidence = route.measure([fragment("abc de", painted=False), fragment("fgh")], 1.0, Route())
    assert evidence.characters == 8
    assert evidence.unpainted_share == pytest.approx(5 / 8)


@pytest.mark.parametrize(
    ("layer", "recognized", "reasons", "kept"),
    [
        ("", "anything", ["no_text_layer"], "ocr"),
        (shift(PROSE, 1), PROSE, ["shifted_letters"], "ocr"),
        (shift(PROSE, 1), "", ["shifted_letters"], "ocr"),
        ("GATTACA" * 60, "GATTACA" * 59, ["implausible_letters"], "text"),
        ("Title", "", ["few_characters"], "text"),
        ("Title", "Title and a picture of text", ["few_characters"], "ocr"),
        ("Move 1, Move 2", "Move 1, Move 2 l|l", ["few_characters"], "text"),  # a drawing beside sound text
        ("\ufffd\ufffd\ufffd a", "one two", ["unmapped_characters"], "ocr"),
        ("a~#b }{c", "clean words here", ["broken_words"], "ocr"),
        ("clean words here", "a~#b }{c", ["broken_words"], "text"),
    ],
)
def test_after_ocr_the_better_text_is_kept(layer, recognized, reasons, kept):
    assert route.prefer(layer, recognized, reasons) == kept


def test_overlapping_images_are_counted_once():
    assert route.image_share([(0, 0, 50, 100), (0, 0, 50, 100), (25, 0, 50, 100)], 100, 100) == pytest.approx(0.5)
    assert route.image_share([], 100, 100) == 0.0


@given(st.lists(st.tuples(*[st.floats(-1e7, 1e7)] * 4), max_size=5), st.floats(0, 1e5), st.floats(0, 1e5))
def test_image_share_is_a_share_whatever_a_file_says(boxes, width, height):
    assert 0.0 <= route.image_share(boxes, width, height) <= 1.0


def test_ink_under_the_text_layer_is_not_counted():
    image = np.full((100, 100, 3), 255, np.uint8)
    image[10:20, 10:90] = 0
    assert route.ink_share(image, [], 100, 100) == pytest.approx(0.08)
    assert route.ink_share(image, [fragment("a line", box=(10, 10, 90, 20))], 100, 100) == 0.0
    assert route.ink_share(image, [fragment("hidden", painted=False, box=(10, 10, 90, 20))], 100, 100) == pytest.approx(0.08)
    assert route.ink_share(np.zeros((50, 50, 3), np.uint8), [], 100, 100) == 0.0  # a black page is background
