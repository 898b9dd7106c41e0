"""Good pages: documentation, essays, questions and answers, notes on source code, and edited copies of any of them.

An article is made of what the standard library says about itself, connected by a few written sentences. Pages are
kept between a few hundred and about ten thousand characters, as pages on the web are, by splitting at entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from curate.quickstart import phrases
from curate.quickstart.chrome import Article
from curate.quickstart.draw import Draw
from curate.quickstart.library import Documentation, Entry, entries
from curate.quickstart.prose import Block, plain, prose_length, retold

MAX_CHARACTERS = 9_000  # beyond this a page is continued on another one
MIN_CHARACTERS = 350


def documentation_articles(said: Documentation) -> list[Article]:
    """Return the pages of one module: itself with its functions, then its classes, split where they grow long."""
    name = said.module.name
    parts: list[tuple[str, list[Block]]] = [(f"{name} module", list(said.blocks))]
    _fill(parts, f"{name} functions", "Functions", said.functions)
    for kind in said.classes:
        own = [*kind.blocks, *(b for member in kind.members for b in _entry(member))]
        if _length(own) >= 1_200:
            parts.append((f"{name}.{kind.name} class", list(kind.blocks)))
            _fill(parts, f"{name}.{kind.name} methods", "Methods", kind.members)
        elif own:
            _add(parts, f"{name} classes", [Block("heading", f"class {kind.name}"), *own])
    titles = [title for title, _ in parts]
    return [
        Article(
            _title(title),
            _summary(body, name),
            tuple(body),
            f"{name.replace('.', '/')}/{number}.html",
            "Library",
            related=tuple(map(_title, titles[:6])),
        )
        for number, (title, body) in enumerate(parts)
        if _length(body) >= MIN_CHARACTERS
    ]


def topic_articles(topics: Iterable[tuple[str, tuple[Block, ...]]]) -> Iterator[Article]:
    """Yield the pages of the interactive help's topics, split at headings where they grow long."""
    for name, said in topics:
        sections: list[list[Block]] = [[]]
        for block in said:
            if _length(sections[-1]) > MAX_CHARACTERS or (block.kind == "heading" and _length(sections[-1]) > MAX_CHARACTERS / 2):
                sections.append([])
            sections[-1].append(block)
        for number, section in enumerate(sections):
            heading = next((b.text for b in section if b.kind == "heading"), name.capitalize())
            body = tuple(section[1:] if section and section[0].kind == "heading" else section)
            if _length(body) >= MIN_CHARACTERS:
                yield Article(
                    heading, _summary(body, name), body, f"language/{name}-{number}.html", "Language", related=("Data model", "Expressions")
                )


def essay(said: Sequence[Documentation], draw: Draw, number: int, *, inserts: Sequence[Block] = ()) -> Article:
    """Return an article about a module, in an author's voice; `inserts` are placed before its end."""
    module = draw.pick(said)
    name = module.module.name
    chosen = draw.some(_worth_telling(module), draw.whole(3, 6))
    body = [_paragraph(draw.pick(phrases.OPENINGS), module=name), *_first(module.blocks, 1_500)]
    turns, comments = draw.some(phrases.TURNS, len(chosen)), draw.some(phrases.COMMENTS, len(chosen))
    for entry, turn, comment in zip(chosen, turns, comments, strict=False):
        body += [
            Block("heading", entry.name.strip("_").replace("_", " ")),
            _paragraph(turn, name=entry.name),
            *_first(entry.blocks, 2_000),
            _paragraph(comment),
        ]
    body += [*inserts, _paragraph(draw.pick(phrases.CLOSINGS), module=name)]
    title = draw.pick(
        (
            "Getting to know {}",
            "A slow reading of {}",
            "What {} really does",
            "{} for the rest of us",
            "Notes from a workshop on {}",
            "Five things about {}",
        )
    )
    path = f"{draw.whole(2017, 2023)}/{draw.whole(1, 12):02d}/{name.replace('.', '-').replace('_', '')}-{number}"
    return Article(title.format(name), f"An article about {name} and how to use it.", tuple(body), path, "Tutorial", related=_titles(said, draw))


def thread(said: Sequence[Documentation], draw: Draw, number: int, *, inserts: Sequence[Block] = ()) -> Article:
    """Return a forum thread: a question about an entry, answers that quote it, thanks. Headings separate posts."""
    module = draw.pick([s for s in said if any(True for _ in entries(s))] or said)
    name = module.module.name
    chosen = draw.some(_worth_telling(module), draw.whole(2, 4))
    about = chosen[0].name if chosen else name
    body = [_paragraph(draw.pick(phrases.ASKED), name=about, module=name)]
    for entry in chosen:
        body += [Block("heading", "answer"), _paragraph(draw.pick(phrases.ANSWERED)), Block("code", entry.signature or entry.name)]
        body += [Block("quote", b.text) if b.kind == "paragraph" else b for b in _first(entry.blocks, 1_800)]
        body.append(_paragraph(draw.pick(phrases.COMMENTS)))
    body += [*inserts, Block("heading", "reply"), _paragraph(draw.pick(phrases.THANKS))]
    return Article(
        f"How does {about} work? ({name})",
        f"A question about {about}",
        tuple(body),
        f"viewtopic/{1000 + number}",
        "Help",
        related=_titles(said, draw),
    )


def source_notes(said: Documentation, draw: Draw) -> list[Article]:
    """Return notes on the long comments in a module's source, each with the code below it."""
    name, found = said.module.name, []
    for number, start in enumerate(range(0, len(said.remarks), 5)):
        body = [_paragraph(draw.pick(phrases.SOURCE), module=name)]
        for remark in said.remarks[start : start + 5]:
            body += remark.blocks
            if remark.code:
                body += [_paragraph(draw.pick(phrases.BELOW)), Block("code", remark.code)]
        if prose_length(body) >= 700:
            title = f"Comments in the source of {name}" + (f", part {number + 1}" if number else "")
            found.append(Article(title, f"What the authors of {name} wrote down", tuple(body), f"source/{name}-{number}.html", "Notes"))
    return found


def near_copy(article: Article, draw: Draw) -> Article:
    """Return the article with a few edits: some words changed, a paragraph left out, a sentence added."""
    long = [i for i, b in enumerate(article.blocks) if b.kind == "paragraph" and len(b.text) >= 60]
    edited = set(draw.some(long, max(1, len(long) // 8)))
    short = [i for i in long if len(article.blocks[i].text) <= 0.05 * _length(article.blocks)]
    gone = draw.pick(short) if short and draw.chance(0.5) else None
    kept = [retold(b, _edited(b.text, draw)) if i in edited else b for i, b in enumerate(article.blocks) if i != gone]
    return Article(article.title, article.summary, (*kept, _paragraph(draw.pick(phrases.EDITORIAL))), f"pub/{article.path}", article.section)


def typographic(part: Block) -> Block:
    """Return a paragraph with curly quotes and dashes, as an editor types them; other blocks as they are."""
    if part.kind != "paragraph":
        return part
    text = re.sub(r'(^|[\s(])"', "\\1\u201c", part.text).replace('"', "\u201d").replace(" -- ", " \u2014 ")
    return retold(part, re.sub(r"(\w)'(\w)", "\\1\u2019\\2", text))


_SWAPS = (
    ("Return ", "Returns "),
    (" is ", " will be "),
    (" may ", " can "),
    (" if ", " when "),
    (" the ", " this "),
    (" a ", " one "),
    (" must ", " should "),
)


def _edited(text: str, draw: Draw) -> str:
    for old, new in draw.some(_SWAPS, len(_SWAPS)):
        if old in text:
            return text.replace(old, new, 1)
    return text + " (revised)"


def _worth_telling(said: Documentation) -> list[Entry]:
    """Return the public entries that say something; where there are few, all of them."""
    public = [e for e in entries(said) if prose_length(e.blocks) >= 100 and not e.name.startswith("_")]
    return public if len(public) >= 3 else list(entries(said))


def _fill(parts: list[tuple[str, list[Block]]], title: str, heading: str, members: Iterable[Entry]) -> None:
    """Add entries to the last part under a heading, continuing on new parts where it grows long."""
    begun = False
    for member in members:
        said = _entry(member)
        _add(parts, title, said if begun else [Block("heading", heading), *said])
        begun = True


def _add(parts: list[tuple[str, list[Block]]], title: str, said: list[Block]) -> None:
    if _length(parts[-1][1]) + _length(said) > MAX_CHARACTERS and _length(parts[-1][1]) >= MIN_CHARACTERS:
        count = sum(1 for t, _ in parts if t.startswith(title))
        parts.append((f"{title}, part {count + 1}" if count else title, []))
    parts[-1][1].extend(said)


def _entry(entry: Entry) -> list[Block]:
    """Return an entry as blocks: with its signature as code when there is much to say, else as one line."""
    if prose_length(entry.blocks) < 90 and len(entry.blocks) <= 1:
        return [Block("paragraph", f"``{entry.signature or entry.name}``: {plain(entry.blocks)}")]
    return [Block("heading", entry.name), Block("code", entry.signature or entry.name), *entry.blocks]


def _first(said: Iterable[Block], characters: int) -> list[Block]:
    taken: list[Block] = []
    for block in said:
        if taken and _length(taken) + _length([block]) > characters:
            break
        taken.append(block)
    return taken


def _length(said: Iterable[Block]) -> int:
    return sum(len(b.text) + sum(map(len, b.items)) for b in said)


def _paragraph(template: str, **fields: str) -> Block:
    return Block("paragraph", template.format(**fields) if fields else template)


def _titles(said: Sequence[Documentation], draw: Draw) -> tuple[str, ...]:
    return tuple(f"All about {s.module.name}" for s in draw.some(said, 4))


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


def _summary(body: Iterable[Block], name: str) -> str:
    first = next((b.text for b in body if b.kind == "paragraph"), f"Documentation of {name}.")
    return first[:150]


def chunks(said: Documentation, *, low: int, high: int) -> Iterator[list[Block]]:
    """Yield the module's documentation in pieces of `low` to `high` characters, ending with an entry where that is possible.

    What is too short to stand alone, and a block longer than `high`, is left out.
    """
    parts = [said.blocks, *([Block("heading", e.signature or e.name), *e.blocks] for e in entries(said))]
    piece: list[Block] = []
    for part in (*parts, ()):
        if _length(piece) >= max(low, (low + high) / 3) or not part:
            if _length(piece) >= low:
                yield piece
            piece = []
        for block in part:
            if _length(piece) + _length([block]) > high:
                if _length(piece) >= low:
                    yield piece
                piece = []
            if _length([block]) <= high:
                piece.append(block)
