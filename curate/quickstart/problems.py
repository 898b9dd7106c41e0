"""Arithmetic word problems with worked solutions, drawn from the templates in problems.yaml and benchmark.yaml.

The training problems and the benchmark share this generator and no template: the benchmark's templates are reserved,
with scenes and sentences of their own. So a benchmark item found in a document was leaked there, and a training
problem never looks like a benchmark item with other numbers. Layout as GSM8K (arXiv 2110.14168): steps, then `#### n`.
"""

from __future__ import annotations

import ast
import operator
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from curate.quickstart.draw import Draw

Values = dict[str, int]
Sentence = tuple[str, ...]  # variants of one sentence, with fields: numbers, or lists of words
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}


@dataclass(frozen=True)
class Template:
    """A kind of problem. `derive` names the numbers that follow from the drawn ones, among them `answer`."""

    name: str
    numbers: Mapping[str, tuple[int, int]]  # lowest and highest, both included
    derive: Mapping[str, ast.expr]
    sentences: tuple[Sentence, ...]
    steps: tuple[Sentence, ...]


@dataclass(frozen=True)
class Book:
    """Templates, and the words that fill their fields."""

    templates: tuple[Template, ...]
    words: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Problem:
    """A question with its solution; `wording` is the key that draws the same words again."""

    template: Template
    question: str
    solution: str
    answer: int
    wording: str

    @property
    def text(self) -> str:
        """The problem as a training document."""
        return f"Question: {self.question}\nAnswer: {self.solution}"


@cache
def book(name: str) -> Book:
    """Return the templates of `problems`, for training, or of `benchmark`."""
    import yaml

    content = yaml.safe_load(files("curate.quickstart").joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    return Book(tuple(_template(key, value) for key, value in content["templates"].items()), content["words"])


def problem(template: Template, words: Mapping[str, Sequence[str]], *, wording: str, numbers: str) -> Problem:
    """Return the problem of a template whose words follow from one key and whose numbers from another."""
    draw = Draw("wording", template.name, wording)
    sentences = [draw.pick(variants) for variants in template.sentences]
    steps = [draw.pick(variants) for variants in template.steps]
    used = sorted({name for text in (*sentences, *steps) for _, name, _, _ in string.Formatter().parse(text) if name})
    values = _values(template, numbers)
    fields: dict[str, object] = {name: draw.pick(words[name]) for name in used if name not in values}
    filled = fields | values
    solution = " ".join(step.format_map(filled) for step in steps) + f"\n#### {values['answer']}"
    return Problem(template, " ".join(s.format_map(filled) for s in sentences), solution, values["answer"], wording)


def renumbered(known: Problem, words: Mapping[str, Sequence[str]], key: str) -> Problem:
    """Return the same problem with other numbers and the solution that they lead to."""
    others = (problem(known.template, words, wording=known.wording, numbers=f"{key}/{attempt}") for attempt in range(1000))
    return next(other for other in others if other.answer != known.answer)


def problems(chosen: Book, count: int, *names: object) -> list[Problem]:
    """Return `count` different problems, the templates in turn, from the stream `names`."""
    found: dict[str, Problem] = {}
    number = 0
    while len(found) < count:
        key = "/".join(map(str, (*names, number)))
        made = problem(chosen.templates[number % len(chosen.templates)], chosen.words, wording=key, numbers=key)
        found.setdefault(made.question, made)
        number += 1
    return list(found.values())


def _template(name: str, content: Mapping[str, Any]) -> Template:
    numbers = {key: (int(low), int(high)) for key, (low, high) in content["numbers"].items()}
    derive = {key: ast.parse(str(text), mode="eval").body for key, text in content["derive"].items()}
    sentences = tuple(map(tuple, (*content["story"], *content["ask"])))
    return Template(name, numbers, derive, sentences, tuple(map(tuple, content["steps"])))


def _values(template: Template, key: str) -> Values:
    draw = Draw("numbers", template.name, key)
    while True:
        values = {name: draw.whole(low, high) for name, (low, high) in template.numbers.items()}
        for name, expression in template.derive.items():
            values[name] = _value(expression, values)
        if min(values.values()) >= 1:
            return values


def _value(node: ast.expr, values: Values) -> int:
    """Compute an expression of whole numbers, names, and + - * //; nothing else can be written in a template."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return int(_OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values)))
    raise ValueError(f"a template cannot compute {ast.unparse(node)}")
