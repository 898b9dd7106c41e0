from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ocr import layout
from curate.ocr.layout import Line
from curate.ocr.pages import Fragment


def line(text, x, y, size=10.0, width=None, **more):
    return Line(text, x, y, x + (width or 5.0 * len(text)), y + size, size, **more)


def column(word, x, top, count):
    """Lines that fill a column 200 points wide."""
    return [line(f"{word}{n} goes on and on until the end", x, top + 12 * n, width=200) for n in range(count)]


def test_two_columns_are_read_one_after_the_other_below_a_title_that_spans_them():
    lines = [line("A title over both columns", 150, 50, size=16, width=300), *column("left", 50, 100, 8), *column("right", 270, 100, 8)]
    lines = lines[::2] + lines[1::2]  # the order of the file means nothing
    text = layout.page_text(lines)
    places = [text.index(word) for word in ("A title", "left0", "left7", "right0", "right7")]
    assert places == sorted(places)


def test_a_line_between_columns_cuts_the_page_into_bands():
    upper = [*column("first", 50, 100, 5), *column("second", 270, 100, 5)]
    lower = [*column("third", 50, 200, 5), *column("fourth", 270, 200, 5)]
    text = layout.page_text([*lower, line("A heading across the page, in the middle of it", 50, 175, size=12, width=420), *upper])
    places = [text.index(word) for word in ("first0", "second4", "A heading", "third0", "fourth4")]
    assert places == sorted(places)


def test_a_table_is_read_across_and_its_cells_are_separated():
    rows = [("Name", "Age", "Town"), ("Ada", "36", "London"), ("Emmy", "53", "Erlangen"), ("Sofia", "41", "Moscow"), ("Maria", "80", "Milan")]
    lines = [line(cell, 50 + 120 * x, 100 + 14 * y) for y, row in enumerate(rows) for x, cell in enumerate(row)]
    assert layout.page_text(lines) == "\n".join("\t".join(row) for row in rows)


def test_a_broken_word_is_mended_and_a_compound_keeps_its_hyphen():
    lines = [
        line("the repaired libra-", 50, 100, width=200),
        line("ry is a state-of-the-", 50, 112, width=200),
        line("art building", 50, 124, width=200),
    ]
    assert layout.page_text(lines) == "the repaired library is a state-of-the-art building"


def test_chinese_lines_are_joined_without_a_space():
    assert layout.page_text([line("図書館の屋根を", 50, 100, width=200), line("修理する", 50, 112, width=100)]) == "図書館の屋根を修理する"


def test_paragraphs_begin_after_a_gap_an_indent_or_a_bullet():
    gap = [line("one line of text", 50, 100, width=200), line("another line", 50, 112, width=150), line("far below", 50, 150)]
    assert layout.page_text(gap) == "one line of text another line\n\nfar below"
    indent = [line("one line of text", 50, 100, width=200), line("ends here", 50, 112, width=200), line("Begins here", 62, 124, width=188)]
    assert layout.page_text(indent) == "one line of text ends here\n\nBegins here"
    bullets = [line("• one", 50, 100), line("• two", 50, 112)]
    assert layout.page_text(bullets) == "• one\n• two"


def test_code_keeps_its_lines_and_indents():
    rows = [("def f(x):", 0), ("if x:", 4), ("return 1", 8), ("return 2", 4)]
    lines = [line(text, 50 + 6 * indent, 100 + 12 * n, width=6 * len(text), fixed_width=True) for n, (text, indent) in enumerate(rows)]
    assert layout.page_text(lines) == "def f(x):\n    if x:\n        return 1\n    return 2"


def test_fragments_on_a_baseline_are_joined_unless_a_column_lies_between():
    def fragment(text, x0, x1, y=100.0):
        return Fragment(text, x0, y, x1, y + 10, 10.0)

    pieces = [fragment("of", 50, 60), fragment("ﬁnal ", 62, 90), fragment("words", 90, 120), fragment("next column", 150, 210)]
    assert [found.text for found in layout.make_lines(pieces)] == ["of final words", "next column"]


def test_running_headers_and_page_numbers_are_furniture_and_table_numbers_are_not():
    pages = []
    for n in range(5):
        body = [line(f"Body of page {n}, different on each, and long enough to matter here", 50, 300 + 12 * k) for k in range(6)]
        table = [line(f"{161 - 7 * n}", 50, 60), line(f"{247 + n}-384-{n}", 150, 60)]
        pages.append([line(f"{n + 101} CHAPTER 2. INDUCTION", 50, 40), *table, *body, line(str(n + 101), 280, 780)])
    removed = layout.find_furniture(pages, [800.0] * 5)
    assert [sorted(lines[i].text for i in found) for lines, found in zip(pages, removed, strict=True)] == [
        sorted([f"{n + 101} CHAPTER 2. INDUCTION", str(n + 101)]) for n in range(5)
    ]


def test_a_page_that_repeats_as_a_whole_is_not_furniture():
    page = [line("The same form again", 50, 40), line("Name", 50, 60)]
    assert layout.find_furniture([page, page, page], [800.0] * 3) == [set(), set(), set()]


WORDS = st.text(alphabet="abcdefgh中é", min_size=1, max_size=12)
LINES = st.builds(
    line, WORDS, st.floats(0, 600), st.floats(0, 800), st.floats(4, 20), st.floats(1, 300), fixed_width=st.booleans(), turned=st.booleans()
)


@given(st.lists(LINES, max_size=40))
def test_no_character_is_lost_or_invented(lines):
    text = layout.page_text(lines)
    assert Counter("".join(text.split())) == Counter("".join(found.text for found in lines))


@pytest.mark.parametrize("count", [layout.MAX_LINES + 1])
def test_a_page_with_absurdly_many_lines_is_read_in_the_order_of_the_file(count):
    assert layout.page_text([line(str(n), n % 7, n % 5) for n in range(count)]).split("\n")[:3] == ["0", "1", "2"]
