"""Two engines that take the main text out of a page.

resiliparse (the default; DCLM and Dolma 3 use it): a fast heuristic over the tree. Comments, bullets, alternative texts and post metadata are
left out, and so are elements that pages themselves name as something else than the article (`_NOT_ARTICLE`); a few short lines at the very
end, nearly always the heading of a "related" box or a button, are cut off. trafilatura (FineWeb and RefinedWeb use it): better
on articles at a sixth of the speed or less; its own extra.

On 486 real pages with snippets to keep and to leave out (`bench/extraction.py`), precision, recall and F1: resiliparse as it comes
0.754, 0.946, 0.839; with the options above 0.800, 0.937, 0.863; without the named elements 0.820, 0.936, 0.874; without the last
lines too 0.833, 0.935, 0.881; trafilatura 0.931, 0.885, 0.908. What is traded away: real content in a box that a site calls `related` or
`disclaimer`, and the last lines of a page that ends in a list of words.
"""

from __future__ import annotations

import re
from typing import Any

from curate.errors import MissingExtra
from curate.specs.workflow import Extract

# Class or id fragments. Those that also cost recall were measured and left out: share, social, sidebar, widget, teaser, promo,
# banner, tags, menu, comment, newsletter.
_NAMES = (
    "related", "recommend", "author-b", "authorb", "author_b", "author-info", "author-desc", "author-card", "about-author",
    "copyright", "disclosure", "disclaimer", "rating", "crumb", "cookie", "consent", "gdpr", "alert", "modal", "popup",
)  # fmt: skip
_NOT_ARTICLE = ["footer", *(f'[{where}*="{name}" i]' for name in _NAMES for where in ("class", "id"))]
_HIGH_LISTS = ", ".join(f"body {'> * ' * depth}> ul" for depth in range(4))
_MAX_HIGH_LISTS = 500  # and so far back for a paragraph: what keeps the time linear
_MAX_SIBLINGS_BEFORE = 30
_ENDS = tuple('.!?…。！？:;"”“’»)]，、')
_MAX_CUT_LINES = 3
_MAX_CUT_WORDS = 4
_MAX_CUT_CHARACTERS = 60


def extract(html: Any, options: Extract) -> str:
    """Return the main text of a page, a string of HTML or resiliparse's HTMLTree (which may be changed); "" when there is none.

    Paragraphs are lines; white space is normalized within them, except in preformatted text.
    Raises MissingExtra when the engine is not installed.
    """
    text = _trafilatura(html) if options.engine == "trafilatura" else _resiliparse(html)
    text = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", text)


def _resiliparse(html: Any) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html) if isinstance(html, str) else html
    _deepen_lists(tree)
    text: str = extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=True,
        list_bullets=False,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,
        post_meta=False,
        skip_elements=_NOT_ARTICLE,
    )
    return _without_last_lines(text)


def _deepen_lists(tree: Any) -> None:
    """Wrap lists that follow a paragraph in further `<div>`, where they lie less than four levels below the body.

    resiliparse takes every `<ul>` so high up for navigation, and so drops all bullet lists of simply built pages.
    """
    if tree.body is None:
        return
    for element in tree.document.query_selector_all(_HIGH_LISTS).values()[:_MAX_HIGH_LISTS]:
        if not _follows_paragraph(element):
            continue
        parent, above = element.parent_element, tree.create_element("div")
        parent.insert_before(above, element)
        for _ in range(2):
            below = tree.create_element("div")
            above.append_child(below)
            above = below
        above.append_child(element)


def _follows_paragraph(element: Any) -> bool:
    before = element.previous_element_sibling
    for _ in range(_MAX_SIBLINGS_BEFORE):
        if before is None or before.tag == "p":
            return before is not None
        before = before.previous_element_sibling
    return False


def _without_last_lines(text: str) -> str:
    """Cut off up to three short lines without closing punctuation at the end, where at least three others remain."""
    lines = text.rstrip().split("\n")
    full = sum(1 for line in lines if line.strip())
    for _ in range(_MAX_CUT_LINES):
        last = lines[-1] if lines else ""
        short = len(last.split()) <= _MAX_CUT_WORDS and len(last) < _MAX_CUT_CHARACTERS and not last.endswith(_ENDS)
        if full <= _MAX_CUT_LINES or not short or last[:1].isspace():  # indented: preformatted text
            break
        lines.pop()
        full -= 1
        while lines and not lines[-1].strip():
            lines.pop()
    return "\n".join(lines)


def _trafilatura(html: Any) -> str:
    try:
        import trafilatura
    except ImportError as error:
        raise MissingExtra.named("trafilatura", "trafilatura", "extraction by trafilatura") from error
    source = html if isinstance(html, str) else str(html)
    if not source.strip():
        return ""
    return trafilatura.extract(source, fast=True, favor_precision=True, include_comments=False, deduplicate=False) or ""
