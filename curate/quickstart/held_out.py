"""What is measured on and what the classifier learns from: text of modules that no source contains.

Packages are set apart by `library`; beyond that, a sentence or a line of code that a source contains as well (an
inherited docstring, a license, a common idiom) is taken out here, so that no piece was seen in training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from curate.quickstart import junk
from curate.quickstart.draw import Draw, hashed
from curate.quickstart.leaks import exercise, inserts
from curate.quickstart.library import Documentation, Module, entries, source
from curate.quickstart.pages import chunks, essay
from curate.quickstart.problems import book, problems
from curate.quickstart.prose import Block, plain

MIN_CHARACTERS, MAX_CHARACTERS = 500, 3_000
T = TypeVar("T")

_PER_MODULE = 8  # no module may make up more of a suite than this
_MIN_SHARED = 60  # characters: shorter sentences ("Return the result.") are shared by chance
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_DEFINITION = re.compile(r"^(?=(?:@|def |class |async def ))", re.MULTILINE)


def sentences_of(said: Iterable[Documentation]) -> set[str]:
    """Return what the modules' documentation says, sentence by sentence."""
    return {key for s in said for part in (s.blocks, *(e.blocks for e in entries(s))) for b in part for key in keys(b)}


def documentation_suite(said: Sequence[Documentation], seen: set[str], count: int) -> list[dict[str, str]]:
    """Return `{"text"}` rows: pieces of documentation of 500 to 3,000 characters, without what is in `seen`."""
    found: list[dict[str, str]] = []
    known = set(seen)  # and what the suite says already
    for module in said:
        told = (*module.blocks, *(b for e in entries(module) for b in (Block("heading", e.signature or e.name), *e.blocks)))
        fresh = []
        for block in told:
            if not known.intersection(said_by := keys(block)):
                fresh.append(block)
                known.update(said_by)
        pieces = chunks(_alone(module, fresh), low=MIN_CHARACTERS, high=1_800)
        found += [{"text": text} for piece in _first(pieces) if len(text := plain(piece)) <= MAX_CHARACTERS]
    return found[:count]


def code_suite(modules: Sequence[Module], sources: Iterable[str], count: int, *, seed: int) -> list[dict[str, str]]:
    """Return `{"text"}` rows: runs of whole definitions of 500 to 3,000 characters, of which the sources share next to nothing."""
    seen = {line for text in sources for raw in text.splitlines() if len(line := raw.strip()) >= 30}
    found: list[dict[str, str]] = []
    for module in sorted(modules, key=lambda m: hashed(seed, "code suite", m.name)):
        if len(found) >= count:
            break
        found += [{"text": piece} for piece in _first(p for p in _definitions(source(module)) if _is_new(p, seen))]
    return found[:count]


def labels(said: Sequence[Documentation], count: int, *, seed: int) -> list[dict[str, str]]:
    """Return `{"text", "label"}` rows, `count` good ones and as many bad ones, in turn.

    Good: documentation, essays about it, and essays with exercises. Bad: what `junk` makes, and good text scrambled.
    """
    draw = Draw(seed, "labels")
    prose = [plain(piece) for module in said for piece in chunks(module, low=250, high=1_100)]
    prose = draw.some(prose, len(prose))
    scrambled_from, told = prose[: len(prose) // 6], prose[len(prose) // 6 :]
    shown = problems(book("problems"), 2 * (count // 12 + 1), seed, "labels")
    rows = []
    for number in range(count):
        if number % 3 == 1 or not told:
            parts = [exercise(p) for p in shown[number // 12 * 2 : number // 12 * 2 + 2]] if number % 12 == 1 else []
            good = plain(essay(said, draw, number, inserts=inserts(parts, draw) if parts else ()).blocks)
        else:
            good = told[number % len(told)]
        kind = (*junk.JUNK, "short", "scrambled")[number % 7]
        if kind == "scrambled":
            bad = junk.scrambled(draw.pick(scrambled_from or prose or [good]), draw)
        else:
            bad = junk.short(draw) if kind == "short" else junk.JUNK[kind](draw)
        rows += [{"text": good, "label": "good"}, {"text": "\n\n".join(bad), "label": "bad"}]
    unique = {row["text"]: row for row in rows}
    return list(unique.values())


def keys(block: Block) -> list[str]:
    """Return what a block is recognized by: its sentences with white space normalized, where they are long enough."""
    sentences = (s for text in (block.text, *block.items) for s in _SENTENCE_END.split(" ".join(text.split())))
    return [sentence for sentence in sentences if len(sentence) >= _MIN_SHARED]


def _alone(module: Documentation, said: Sequence[Block]) -> Documentation:
    return Documentation(module.module, tuple(said), (), (), ())


def _first(pieces: Iterable[T]) -> Iterator[T]:
    for number, piece in enumerate(pieces):
        if number == _PER_MODULE:
            return
        yield piece


def _definitions(text: str) -> Iterator[str]:
    """Yield runs of top-level definitions of the right length; a longer one is skipped."""
    run = ""
    for part in _DEFINITION.split(text)[1:]:
        if len(run) + len(part) > MAX_CHARACTERS:
            if len(run) >= MIN_CHARACTERS:
                yield run.rstrip() + "\n"
            run = ""
        if len(part) <= MAX_CHARACTERS:
            run += part
    if len(run) >= MIN_CHARACTERS:
        yield run.rstrip() + "\n"


def _is_new(piece: str, seen: set[str]) -> bool:
    lines = [line for raw in piece.splitlines() if len(line := raw.strip()) >= 30]
    return bool(lines) and sum(line in seen for line in lines) <= 0.1 * len(lines)
