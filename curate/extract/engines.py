"""Two engines that take the main text out of a page.

resiliparse (the default; DCLM and Dolma 3 use it): a fast heuristic over the tree. Comments, bullets, alternative texts and post metadata are
left out, and so are elements that pages themselves name as something else than the article (`_NOT_ARTICLE`); a few short lines at the very
end, nearly always the heading of a "related" box or a button, are cut off. trafilatura (FineWeb and RefinedWeb use it): better
on articles at a sixth of the speed or less; its own extra.

On 486 real pages with snippets to keep and to leave out (`bench/extraction.py`): resiliparse as it comes precision 0.754, recall 0.946,
F1 0.839; with the options above 0.799, 0.936, 0.862; without the named elements 0.820, 0.936, 0.874; without the last lines 0.833,
0.935, 0.881; trafilatura 0.931, 0.885, 0.907. What is traded away: real content in a box that a site calls `related` or
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
_ENDS = tuple('.!?…。！？:;"”“’»)]，、')
_MAX_CUT_LINES = 3
_MAX_CUT_WORDS = 4
_MAX_CUT_CHARACTERS = 60


def extract(html: Any, options: Extract) -> str:
    """Return the main text of a page, as a string of HTML or resiliparse's HTMLTree; "" when there is none.

    Paragraphs are lines; white space is normalized within them, except in preformatted text.
    Raises MissingExtra when the engine is not installed.
    """
    text = _trafilatura(html) if options.engine == "trafilatura" else _resiliparse(html)
    text = re.sub(r"[ \t\r\f\v]+\n", "\n", text.strip("\n\r\f\v").rstrip())
    return re.sub(r"\n{3,}", "\n\n", text)


def _resiliparse(html: Any) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        html,
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
