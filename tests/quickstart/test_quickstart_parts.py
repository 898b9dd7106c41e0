"""The parts of the quickstart's input: problems, prose, papers, sites, roles."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.quickstart import chrome, library
from curate.quickstart.draw import Draw, hashed
from curate.quickstart.junk import JUNK
from curate.quickstart.languages import LANGUAGES, foreign_paragraphs
from curate.quickstart.library import modules
from curate.quickstart.papers import encrypted, papers
from curate.quickstart.problems import book, problems, renumbered
from curate.quickstart.prose import Block, blocks, html, plain


def masked(text: str) -> list[str]:
    return re.findall(r"[a-z]+|N", re.sub(r"\d+", "N", text.lower()))


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    words = masked(text)
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def test_no_benchmark_item_shares_six_words_with_a_training_problem_even_without_its_numbers() -> None:
    training, items = problems(book("problems"), 1500, "test"), problems(book("benchmark"), 200, "test")
    seen = {gram for p in training for gram in grams(p.text, 6)}
    assert not seen & {gram for p in items for gram in grams(f"{p.question} {p.solution}", 6)}


@pytest.mark.parametrize(("name", "at_least"), [("problems", 25), ("benchmark", 10)])
def test_solutions_are_right(name: str, at_least: int) -> None:
    chosen = book(name)
    assert len({t.name for t in chosen.templates}) == len(chosen.templates) >= at_least
    for problem in problems(chosen, 400, "right"):
        assert "{" not in problem.question + problem.solution
        assert problem.solution.endswith(f"\n#### {problem.answer}")
        results = []
        for left, operators, result in re.findall(r"(?<![\d*/+-] )(\d+)((?: [-+*/] \d+)+) = (\d+)", problem.solution):
            value = float(left)
            for sign, number in re.findall(r"([-+*/]) (\d+)", operators):
                value = {"+": value + int(number), "-": value - int(number), "*": value * int(number), "/": value / int(number)}[sign]
            assert value == int(result), problem.solution
            results.append(int(result))
        assert results[-1] == problem.answer


def test_renumbered_problem_keeps_its_words() -> None:
    words = book("benchmark").words
    for problem in problems(book("benchmark"), 48, "renumbered"):
        other = renumbered(problem, words, "key")
        assert other.answer != problem.answer
        assert re.sub(r"\d+", "N", other.question) == re.sub(r"\d+", "N", problem.question)


def test_two_names_in_a_problem_are_never_the_same() -> None:
    for name in ("problems", "benchmark"):
        words = book(name).words
        assert not set(words["name"]) & set(words["other"])


def test_docstring_becomes_headings_paragraphs_lists_and_code() -> None:
    text = """First line
    of a paragraph.

    Heading
    =======
    - one
      goes on
    - two

    Example:

        for x in y:
            print(x)

    >>> 1 < 2
    True
    """
    found = blocks(text)
    assert [b.kind for b in found] == ["paragraph", "heading", "list", "paragraph", "code", "code"]
    assert found[0].text == "First line of a paragraph."
    assert found[2].items == ("one goes on", "two")
    assert html(found).endswith("<pre>&gt;&gt;&gt; 1 &lt; 2\nTrue</pre>")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("abcxyz", min_size=2, max_size=9), st.sampled_from([" ", "\n", "\n\n", "\n    ", "\n\n        ", ":\n"])), max_size=60)
)
def test_no_word_is_lost_between_text_and_blocks(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + space for word, space in parts)
    assert re.findall(r"\w+", plain(blocks(text))) == re.findall(r"\w+", text)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_no_text_lets_markup_through(text: str) -> None:
    tags = set(re.findall(r"<[^>]*>", html(blocks(f"{text}<script>alert(1)</script>\n\n<img src=x> {text}"))))
    assert tags <= {f"<{slash}{name}>" for slash in ("", "/") for name in ("p", "pre", "h2", "ul", "li", "code", "em")}


@pytest.mark.parametrize("site", chrome.HOSTS, ids=lambda site: site.__name__)
def test_sites_escape_what_they_are_given(site: chrome.Site) -> None:
    hostile = '</title></script><script>alert(1)</script>"'
    article = chrome.Article(
        hostile, hostile, (Block("paragraph", hostile), Block("list", "", (hostile,)), Block("code", hostile)), "x", related=(hostile,)
    )
    assert "<script>alert" not in site(article, Draw("site"))


def test_every_piece_of_junk_and_every_language_is_drawn_again_the_same() -> None:
    for name, make in JUNK.items():
        assert make(Draw(name)) == make(Draw(name))
        assert all(make(Draw(name)))
    for language in LANGUAGES:
        text = " ".join(foreign_paragraphs(language, Draw(language.code), 5))
        assert "{" not in text
        text.encode(language.legacy)


def test_streams_differ_by_name_and_stay_in_bounds() -> None:
    assert len({hashed(*names) for names in [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a")]}) == 4
    draw = Draw("bounds")
    assert {draw.whole(2, 4) for _ in range(200)} == {2, 3, 4}
    assert sorted(draw.some("abc", 9)) == ["a", "b", "c"]


def test_packages_that_describe_the_same_things_have_the_same_role() -> None:
    for seed in range(3):
        role = {m.name: m.role for m in modules(None, seed)}
        assert set(role.values()) == {"web", "papers", "labels", "evals"}
        for names in (("io", "_pyio", "_io"), ("decimal", "_pydecimal"), ("os", "posixpath", "ntpath", "builtins"), ("pickle", "_pickle")):
            assert len({role[name] for name in names if name in role}) == 1
        assert not [name for name in role if "test" in name.split(".") or name in ("this", "antigravity")]


def test_library_without_tkinter_or_c_modules_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(library.importlib, "import_module", missing)
    said = library.documentation(next(m for m in modules(None, 0) if m.path is None))
    assert said.functions == said.classes == ()


def test_papers_have_text_layers_columns_and_scans_without_text() -> None:
    pymupdf = pytest.importorskip("pymupdf")
    found = [library.documentation(m) for m in modules(None, 0) if m.name in ("textwrap", "statistics", "shlex")]
    files, planted = papers(found, seed=1, scale=0.3)
    layouts = planted["layouts"]
    assert isinstance(layouts, dict)
    for name, columns in layouts.items():
        document = pymupdf.open(stream=files[name])
        lefts = {round(block[0]) for page in document for block in page.get_text("blocks") if len(block[4]) > 60}
        assert any(left > 297 for left in lefts) == (columns == 2)
        assert str(len(document)) in document[-1].get_text().split("\n")
    for name in ("scan-00.pdf", "scan-01.pdf"):
        document = pymupdf.open(stream=files[name])
        assert 1 <= len(document) <= 2
        assert all(not page.get_text().strip() and page.get_images() for page in document)
    assert not files["not-a-pdf.pdf"].startswith(b"%PDF")
    assert b"%%EOF" not in files["broken.pdf"]


def test_encrypted_paper_opens_with_its_password_only() -> None:
    pymupdf = pytest.importorskip("pymupdf")
    document = pymupdf.open(stream=encrypted("A secret sentence.", password=b"word"))
    assert document.needs_pass
    assert not document.authenticate("other")
    assert document.authenticate("word")
    assert "A secret sentence." in document[0].get_text()
