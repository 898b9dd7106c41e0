"""Pages into which benchmark items have leaked, and pages with problems that only look like it.

The leaks stand at the end of essays and forum threads as good as any other, so that what removes those pages is the
decontamination and not a filter before it. Four kinds: the item as it is, the question alone, the same sentences with
other numbers, and the item with tags and entities inside its sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from curate.quickstart.draw import Draw
from curate.quickstart.problems import Problem, renumbered
from curate.quickstart.prose import Block

CHANGES = ("verbatim", "question_only", "numbers_changed", "markup")

_LEAD = (
    "To practice, here are some exercises that I give to my students. Try to solve them on paper before you write a program for them.",
    "A reader sent me the following exercises and asked how to solve them step by step. They are a nice test for a small program.",
    "Finally, some word problems. Each of them can be solved with a few lines of code, and it is instructive to print the steps in between.",
)
_TRY = (
    "Write a function that takes the numbers as arguments, and check that it gives the same result as your calculation by hand.",
    "Once it works, change the numbers and see whether your program still gives a sensible answer.",
)


@dataclass(frozen=True)
class Leak:
    """One item on one page: which, how it was changed, and the blocks that carry it."""

    item: str
    change: str
    blocks: tuple[Block, ...]


def leak(item: str, known: Problem, change: str, words: Mapping[str, Sequence[str]], draw: Draw) -> Leak:
    """Return the blocks of a leaked item; `change` is one of CHANGES."""
    if change == "markup":
        return Leak(item, change, (Block("markup", _marked_up(known, draw)),))
    shown = renumbered(known, words, f"leak/{item}") if change == "numbers_changed" else known
    solution = () if change == "question_only" else exercise(shown)[1:]
    return Leak(item, change, (Block("paragraph", shown.question), *solution))


def exercise(shown: Problem) -> tuple[Block, ...]:
    """Return a problem with its solution as blocks."""
    steps, _, answer = shown.solution.partition("\n#### ")
    return (Block("paragraph", shown.question), Block("paragraph", f"{steps} The answer is {answer}."))


def inserts(parts: Sequence[Sequence[Block]], draw: Draw) -> list[Block]:
    """Return exercises with the sentences around them, to be put into an article."""
    found = [Block("paragraph", draw.pick(_LEAD))]
    for part in parts:
        found.extend(part)
    return [*found, Block("paragraph", draw.pick(_TRY))]


def _marked_up(known: Problem, draw: Draw) -> str:
    """Return the item as HTML with tags around words, a line break after each sentence, and numbers as entities."""
    words = []
    for word in known.question.split():
        tag = draw.pick(("b", "em", "span", "i")) if draw.chance(0.15) else ""
        text = "".join(f"&#{ord(c)};" if c.isdigit() and draw.chance(0.3) else escape(c) for c in word)
        text = f"<{tag}>{text}</{tag}>" if tag else text
        words.append(text + "<br>" if word.endswith(".") else text)
    solution = escape(exercise(known)[1].text)
    return f'<div class="exercise"><p>{" ".join(words)}</p>\n<details open><summary>Solution</summary><p>{solution}</p></details></div>'
