"""HTML → text: what stays, what goes, and pages made to hurt."""

from __future__ import annotations

import builtins
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import MissingExtra
from curate.extract import excess, extract
from curate.specs.workflow import Extract

FAST, QUALITY = Extract(), Extract(engine="trafilatura")
FIRST = "The first paragraph of the article says what has happened, to whom, and at what time of the day."
SECOND = "The second paragraph of the article explains why it happened, and what people have said about it since."
PAGE = f"""<!doctype html><html><head><title>Title</title><style>p {{ color: red }}</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li></ul></nav>
<div class="cookie-banner"><p>We use cookies. Please accept all of them to continue reading.</p></div>
<main><article><h1>Headline of the article</h1><p>{FIRST}</p><img alt="alternative text" src=x>
<ul><li>one item of a list</li><li>and another one</li></ul>
<p>{SECOND}</p><pre>def f(x):
    return  x</pre>
<div class="author-box"><p>The author has written many articles for this paper.</p></div>
<div class="related-posts"><p>Read another article about something else entirely.</p></div></article></main>
<section id="comments"><div class="comment"><p>First comment by a reader.</p></div></section>
<footer><p>Copyright by the publisher. All rights reserved.</p></footer><script>alert("script text")</script></body></html>"""


@pytest.mark.parametrize("options", [FAST, QUALITY], ids=["resiliparse", "trafilatura"])
def test_the_article_stays_and_the_rest_goes(options: Extract) -> None:
    if options is QUALITY:
        pytest.importorskip("trafilatura")
    text = extract(PAGE, options)
    assert FIRST in text and SECOND in text
    for noise in ("Home", "cookies", "script text", "color: red", "alternative text", "All rights reserved", "First comment"):
        assert noise not in text, noise


def test_resiliparse_leaves_out_boxes_and_list_markers_and_keeps_preformatted_text() -> None:
    text = extract(PAGE, FAST)
    assert "many articles" not in text and "another article" not in text
    assert "one item of a list\n" in text and "•" not in text
    assert "def f(x):\n    return  x" in text
    assert "\n\n\n" not in text and not any(line.endswith(" ") for line in text.split("\n"))


def test_a_parsed_page_gives_the_same_as_its_source() -> None:
    from resiliparse.parse.html import HTMLTree

    assert extract(HTMLTree.parse(PAGE), FAST) == extract(PAGE, FAST)


def test_lists_of_simply_built_pages_stay() -> None:
    for depth in range(6):
        html = "<html><body>" + "<div>" * depth + f"<ul><li><a href=/>Menu</a></ul><p>{FIRST}</p><ul><li>{SECOND}<li>Second item</ul><p>{FIRST}</p>"
        text = extract(html, FAST)
        assert SECOND in text and "Second item" in text and (depth > 3 or "Menu" not in text)


def paragraphs(*lines: str) -> str:
    return "<html><body><article>" + "".join(f"<p>{line}</p>" for line in lines) + "</article></body></html>"


def test_short_last_lines_without_an_end_are_cut_but_never_many() -> None:
    body = [FIRST, SECOND, FIRST, SECOND]
    assert extract(paragraphs(*body, "You may also like", "Share"), FAST).endswith(SECOND)
    assert extract(paragraphs(*body, "And that was it."), FAST).endswith("it.")
    assert extract(paragraphs(*body, "a", "b", "c", "d", "e"), FAST).endswith("a\n\nb")
    assert extract(paragraphs(FIRST, "Roses", "Violets"), FAST).endswith("Violets")


def test_an_unknown_engine_is_refused_by_the_spec() -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"engine": "readability"}, Extract)


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("trafilatura"):
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"curate-lm\[trafilatura\]"):
        extract(PAGE, QUALITY)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<p>", "</p>", "<div>", "</div>", "<table><tr>", "<!--", "-->", "<script>", "&#0;", "\0", "\ufffd", "<a href=", '"', "text ", "\n"]
        )
    )
)
def test_broken_markup_never_raises(parts: list[str]) -> None:
    html = "".join(parts)
    assert excess(html) == ""
    assert isinstance(extract(html, FAST), str)


# ── pages made to hurt ────────────────────────────────────────────────────────────────────────────────────────────

BOMBS = {
    "nested": ("<div>" * 100_000 + "deep" + "</div>" * 100_000, "nested_too_deeply"),
    "nested without end": ("<div><span>" * 50_000, "nested_too_deeply"),
    "nested lists": ("<ul><li>x" * 20_000, "nested_too_deeply"),
    "many attributes": ("<p " + " ".join(f"a{i}='x'" for i in range(200_000)) + ">text", "too_many_attributes"),
    "attributes without values": ("<p " + " ".join(f"a{i}" for i in range(50_000)) + ">text", "too_many_attributes"),
    "attributes with brackets": ("<p " + " ".join(f'a{i}=">"' for i in range(50_000)) + ">text", "too_many_attributes"),
    "one long attribute": ('<p class="' + "word " * 600_000 + '">text', ""),
    "many siblings": ("<p>word here</p>" * 50_000, ""),
    "formatting": ("".join(f"<font size={i}>" for i in range(2000)) + "<p>x" * 2000, ""),
    "open comments": ("<!--" * 300_000, ""),
    "brackets": ("<" * 1_000_000, ""),
    "entities": ("&amp;&#xD800;&#0;" * 100_000, ""),
    "high lists": ("<b>x</b>" * 10_000 + "<ul><li>x</ul>" * 10_000, ""),
    "open scripts": ("<script>" * 200_000, ""),
    "spaces": ("<pre>" + " " * 3_000_000 + "x", ""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_recognized_or_harmless(name: str) -> None:
    body, reason = BOMBS[name]
    html = f"<html><body>{body}"
    start = time.process_time()
    assert excess(html) == reason or (name == "open scripts" and excess(html) == "nested_too_deeply")
    if not reason:
        extract(html, FAST)
    assert time.process_time() - start < 5


def test_large_honest_pages_are_not_taken_for_bombs() -> None:
    table = "<table>" + "<tr><td><b>1</b></td><td><a href=x>2</a></td></tr>" * 20_000 + "</table>"
    script = "<script>var data = {" + ", ".join(f'"key {i}": i < {i} / 2' for i in range(30_000)) + "}</script>"
    inner = "<div>" * 60 + PAGE + "</div>" * 60
    picture = f'<img src="data:image/png;base64,{"iVBOR/w0KGgo" * 20_000}">'
    assert excess(f"<html><body>{inner}{table}{script}{picture}") == ""
