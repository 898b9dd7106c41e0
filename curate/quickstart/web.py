"""The web source: about a thousand responses in four WARC files, two of them damaged.

What is planted where is returned beside the files, so that tests can ask whether it was found. Two members are cut
short, as failing disks and interrupted downloads leave them: one in the middle of a file, with good ones after it,
and the last one of another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from curate.quickstart import defects, leaks
from curate.quickstart.archive import Page, members
from curate.quickstart.chrome import Article, Site, api, blog, docs, forum, mirror, notes
from curate.quickstart.draw import Draw, hashed
from curate.quickstart.library import Documentation, topics
from curate.quickstart.pages import documentation_articles, essay, near_copy, source_notes, thread, topic_articles
from curate.quickstart.problems import Problem, book, problems
from curate.quickstart.prose import Block, prose_length
from curate.quickstart.pydoc_pages import pydoc_articles

NUM_FILES = 4
# How many pages of each kind there are at scale 1.
GOOD = {"documentation": 420, "topic": 120, "essay": 100, "thread": 60, "source_notes": 80, "pydoc": 60}
COPIES = {"near_copy": 45, "exact_copy": 20}
JUNK = {"spam": 30, "lorem_ipsum": 8, "boilerplate": 20, "cookie_policy": 6, "keyword_list": 8}
OTHERS = {"short": 14, "foreign": 40, "legacy_charset": 10, "mojibake": 10, "wrong_charset": 4, "exercises": 8}
FAILED = {301: 6, 403: 2, 404: 6, 500: 3}
LEAKS = {"verbatim": 4, "question_only": 3, "numbers_changed": 4, "markup": 3}


def counted(number: int, scale: float) -> int:
    """Return how many of a kind there are at this scale: at least one."""
    return max(1, round(number * scale))


def web(
    said: Sequence[Documentation], benchmark: Sequence[Problem], papers: frozenset[str], *, seed: int, scale: float
) -> tuple[list[bytes], dict[str, object]]:
    """Return the bytes of each WARC file, and what was planted: addresses per kind, leaks, damaged records.

    `papers` names the help topics that became PDFs and so are no pages.
    """
    good = _good(said, papers, seed, scale)
    leaked, planted = _leaked(said, benchmark, seed, scale)
    pages = [page for page, _ in good] + _copies(good, seed, scale) + _defective(good, seed, scale) + leaked + _exercises(said, seed, scale)
    pages = list({page.url: page for page in pages}.values())
    pages.sort(key=lambda page: hashed(seed, "order", page.url))
    kinds: dict[str, list[str]] = defaultdict(list)
    for page in pages:
        kinds[page.kind].append(page.url)
    files, damaged = [], []
    for number in range(NUM_FILES):
        part = pages[number::NUM_FILES]
        found = members(part, name=f"pages-{number:05d}.warc.gz")
        if number == 1:
            damaged.append(_cut(found, part, len(part) // 2, "truncated_member"))
        if number == NUM_FILES - 1:
            found = found[:-1]  # the metadata of the last page: the response comes last, and is cut
            damaged.append(_cut(found, part, len(part) - 1, "cut_off_end"))
        files.append(b"".join(found))
    summary = {"responses": len(pages), "kinds": {kind: sorted(urls) for kind, urls in sorted(kinds.items())}, "leaks": planted, "damaged": damaged}
    return files, summary


Rendered = tuple[Page, tuple[Article, Site]]


def _good(said: Sequence[Documentation], papers: frozenset[str], seed: int, scale: float) -> list[Rendered]:
    """Return the good pages, with the articles that they were made of."""
    documented = [(a, docs if hashed(seed, s.module.package) % 3 else api) for s in said for a in documentation_articles(s)]
    explained = [(article, docs) for article in topic_articles((name, text) for name, text in topics() if name not in papers)]
    draw = Draw(seed, "web", "prose")
    rich = _rich(said)
    essays = [(essay(rich, draw, n), blog) for n in range(counted(GOOD["essay"], scale))]
    threads = [(thread(rich, draw, n), forum) for n in range(counted(GOOD["thread"], scale))]
    noted = [(article, notes) for s in said for article in source_notes(s, draw)]
    rendered_by_pydoc = [(a, notes) for a in pydoc_articles({s.module.name for s in said}, counted(GOOD["pydoc"], scale))]
    found: list[Rendered] = []
    for kind, made in (
        ("documentation", documented),
        ("topic", explained),
        ("essay", essays),
        ("thread", threads),
        ("source_notes", noted),
        ("pydoc", rendered_by_pydoc),
    ):
        chosen = sorted(made, key=lambda pair: hashed(seed, "chosen", pair[0].path))[: counted(GOOD[kind], scale)]
        found += [(defects.rendered(article, site, Draw(seed, "chrome", article.path), kind), (article, site)) for article, site in chosen]
    return found


def _rich(said: Sequence[Documentation]) -> list[Documentation]:
    """Return the modules that say enough for an essay; all of them when none does."""
    return [s for s in said if sum(prose_length(e.blocks) >= 120 for e in (*s.functions, *s.classes)) >= 3] or list(said)


def _copies(good: Sequence[Rendered], seed: int, scale: float) -> list[Page]:
    """Return edited copies on another site, and exact copies at other addresses."""
    draw = Draw(seed, "web", "copies")
    long = [pair for pair in good if prose_length(pair[1][0].blocks) >= 1_200] or list(good)
    found = []
    for _, (article, _) in draw.some(long, counted(COPIES["near_copy"], scale)):
        found.append(defects.rendered(near_copy(article, draw), mirror, draw, "near_copy"))
    for page, _ in draw.some(long, counted(COPIES["exact_copy"], scale)):
        url = draw.pick(("{}?utm_source=newsletter", "{}?print=1", "{}?sessionid=8f2a"))
        found.append(replace(page, url=url.format(page.url), kind="exact_copy"))
    return found


def _defective(good: Sequence[Rendered], seed: int, scale: float) -> list[Page]:
    """Return a page or more of every defect."""
    draw = Draw(seed, "web", "defects")
    articles = [article for _, (article, _) in good if prose_length(article.blocks) >= 600] or [article for _, (article, _) in good]
    found = [defects.junk_page(kind, draw, n) for kind, number in JUNK.items() for n in range(counted(number, scale))]
    found += [defects.short_page(draw, n) for n in range(counted(OTHERS["short"], scale))]
    found += [defects.foreign_page(draw, n) for n in range(counted(OTHERS["foreign"], scale))]
    found += [defects.foreign_page(draw, n, legacy=True) for n in range(counted(OTHERS["legacy_charset"], scale))]
    found += [defects.mojibake_page(draw.pick(articles), draw, n) for n in range(1 + counted(OTHERS["mojibake"], scale))]
    found += [defects.wrong_charset_page(draw.pick(articles), draw, n) for n in range(1 + counted(OTHERS["wrong_charset"], scale))]
    found += [defects.failed_page(status, draw, 1000 * status + n) for status, number in FAILED.items() for n in range(counted(number, scale))]
    found += defects.refusing_pages(draw.some(articles, 3), draw)
    found += defects.coded_pages(draw.some(articles, 2), draw)
    found += defects.other_types(draw)
    return [*found, defects.hostile_page(draw.pick(articles), draw)]


def _leaked(said: Sequence[Documentation], benchmark: Sequence[Problem], seed: int, scale: float) -> tuple[list[Page], list[dict[str, str]]]:
    """Return pages with leaked items, and which item is where; no item leaks twice."""
    draw = Draw(seed, "web", "leaks")
    rich = _rich(said)
    items = iter(draw.some(range(len(benchmark)), len(benchmark)))
    pages, planted, number = [], [], 0
    for change, share in LEAKS.items():
        for _ in range(counted(share, scale)):
            chosen = [next(items) for _ in range(draw.whole(1, 2))]
            made = [leaks.leak(item_id(i), benchmark[i], change, book("benchmark").words, draw) for i in chosen]
            article, site = _with(rich, draw, 9000 + number, [leak.blocks for leak in made])
            page = defects.rendered(article, site, draw, f"leak_{change}")
            pages.append(page)
            planted += [{"url": page.url, "item": leak.item, "change": change} for leak in made]
            number += 1
    return pages, planted


def _exercises(said: Sequence[Documentation], seed: int, scale: float) -> list[Page]:
    """Return pages like the leaked ones with problems that are in no benchmark."""
    draw = Draw(seed, "web", "exercises")
    count = counted(OTHERS["exercises"], scale)
    shown = problems(book("problems"), 2 * count, seed, "exercises")
    made = [_with(_rich(said), draw, 9500 + n, [leaks.exercise(p) for p in shown[2 * n : 2 * n + 2]]) for n in range(count)]
    return [defects.rendered(article, site, draw, "exercises") for article, site in made]


def _with(said: Sequence[Documentation], draw: Draw, number: int, parts: Sequence[Sequence[Block]]) -> tuple[Article, Site]:
    """Return an article that carries `parts` and that no filter has a reason to drop: long, no braces, nothing twice."""
    make, site = (thread, forum) if number % 3 == 2 else (essay, blog)
    inserts = leaks.inserts(parts, draw)
    for _ in range(50):
        article = make(said, draw, number, inserts=inserts)
        texts = [b.text for b in article.blocks if len(b.text) >= 40]
        if sum(map(len, texts)) >= 1_800 and len(set(texts)) == len(texts) and not any("{" in "".join((b.text, *b.items)) for b in article.blocks):
            break
    return article, site


def item_id(number: int) -> str:
    """Return the id of a benchmark item."""
    return f"word-problem-{number:04d}"


def _cut(found: list[bytes], pages: Sequence[Page], number: int, kind: str) -> dict[str, str]:
    """Cut the response of page `number` to three fifths of its bytes, in place."""
    at = 2 + 3 * number  # after warcinfo, each page has a request, a response and a metadata record
    found[at] = found[at][: max(30, len(found[at]) * 3 // 5)]
    return {"url": pages[number].url, "kind": kind}
