"""A suite: JSON lines → texts to score, tokenized.

An item is held-out text, a continuation given a context, or one of several choices given a context. The spec names the fields; where it names
none and there is no field `text`, the formats in FORMATS are known by theirs, so that files of LLM Foundry, MMLU, GSM8K or HumanEval load as
they are. Anything else is an error that lists the fields.

Context and continuation are tokenized apart, so that the scored bytes are exactly those of the continuation. With `shots`, the first so many
items, solved, stand before each of the others, and are not scored themselves.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.tokens.tokenizer import Encoder

# Fields that a format is known by (and of which type) → what they are. The first that fits counts, so that the most special come first.
FORMATS: list[tuple[dict[str, type], dict[str, str]]] = [
    ({"query": str, "choices": list, "gold": int}, {"context": "query", "choices": "choices", "gold": "gold"}),
    ({"question": str, "choices": list, "answer": int}, {"context": "question", "choices": "choices", "gold": "answer"}),
    ({"question": str, "choices": list, "answer": str}, {"context": "question", "choices": "choices", "gold": "answer"}),
    ({"question": str, "options": list, "answer": int}, {"context": "question", "choices": "options", "gold": "answer"}),
    ({"question": str, "options": list, "answer": str}, {"context": "question", "choices": "options", "gold": "answer"}),
    ({"context": str, "continuation": str}, {"context": "context", "continuation": "continuation"}),
    ({"context": str, "chain_of_thought": str, "answer": str}, {"context": "context", "continuation": "chain_of_thought"}),
    ({"context": str, "answer": str}, {"context": "context", "continuation": "answer"}),
    ({"question": str, "answer": str}, {"context": "question", "continuation": "answer"}),
    ({"prompt": str, "canonical_solution": str}, {"context": "prompt", "continuation": "canonical_solution"}),
    ({"problem": str, "solution": str}, {"context": "problem", "continuation": "solution"}),
]
CHOICES = ("choices", "options")  # a list of this name makes a row multiple choice
BETWEEN_SHOTS = "\n\n"


class Part(msgspec.Struct, frozen=True):
    """One text to score: the whole of `tokens` from `scored` on."""

    item: int
    tokens: NDArray[np.int64]
    scored: int  # position of the first scored token
    num_bytes: int
    is_gold: bool


class Suite(msgspec.Struct, frozen=True):
    """A suite ready to be scored."""

    name: str
    parts: list[Part]
    has_choices: bool


def load_once(name: str, spec: Mapping[str, Any], tokenizer: Path) -> Suite:
    """Read a suite as `load_suite` does, or return what this process read before, if neither file has changed."""
    return _load_once(name, json.dumps(dict(spec), sort_keys=True), tokenizer, _state(Path(spec["file"])), _state(tokenizer))


@functools.lru_cache(maxsize=64)
def _load_once(name: str, spec: str, tokenizer: Path, *_: tuple[int, int]) -> Suite:
    return load_suite(name, json.loads(spec), Encoder.open(tokenizer))


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0  # whoever reads it will say so
    return found.st_mtime_ns, found.st_size


def load_suite(name: str, spec: Mapping[str, Any], encoder: Encoder) -> Suite:
    """Read a suite; `spec` is a resolved Eval whose `file` leads somewhere.

    Raises InputError with file and line for what is not JSON, lacks a field, or has nothing to score.
    """
    parts: list[Part] = []
    has_choices = False
    for line, before, item in _items(name, spec):
        parts += _parts(item, before, encoder, line)
        has_choices = item.has_choices
    return Suite(name, parts, has_choices)


def measure_suite(name: str, spec: Mapping[str, Any]) -> dict[str, int]:
    """Return {items, bytes of their right answers} of a suite, without tokenizing it, which takes most of the time. Raises what `load_suite` does."""
    sizes = [len((item.joint + item.texts[item.gold]).encode()) for _, _, item in _items(name, spec)]
    return {"items": len(sizes), "bytes": sum(sizes)}


def _items(name: str, spec: Mapping[str, Any]) -> Iterator[tuple[int, str, Item]]:
    """Yield the line, the solved items that stand before it, and the item, for each that is scored. Raises what `load_suite` does."""
    path, shots = Path(spec["file"]), spec.get("shots") or 0
    solved: list[str] = []
    count = 0
    fields: dict[str, Any] = {}
    for line, row in read_rows(path):
        if spec["max_items"] is not None and count >= spec["max_items"]:
            break
        where = f"{path}:{line}"
        fields = fields or fields_of(row, spec, where)
        item = _item(row, fields, where)
        if not item.texts[item.gold]:
            raise InputError("has nothing to score: its text is empty", where=where)
        if len(solved) < shots:
            solved.append(item.context + item.joint + item.texts[item.gold] + BETWEEN_SHOTS)
            continue
        yield line, "".join(solved), item
        count += 1
    if not count:
        raise InputError(f"the suite '{name}' has no items" + (f" after its {shots} shots" if shots else ""), where=str(path))


def fields_of(row: Mapping[str, Any], spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the spec with the fields that it names, or else with those of the known format that `row` has.

    Raises InputError when it names none and no format fits, or several.
    """
    named = dict(spec)
    if spec["continuation"] is not None or spec["choices"] is not None or spec["text"] != "text" or "text" in row:
        return named
    fitting = [(keys, roles) for keys, roles in FORMATS if all(isinstance(row.get(key), kind) for key, kind in keys.items())]
    best = [roles for keys, roles in fitting if not any(keys.keys() < others.keys() for others, _ in fitting)]
    lists = [name for name in CHOICES if isinstance(row.get(name), list)]
    passed_over = bool(lists) and len(best) == 1 and "choices" not in best[0]  # its answer would be scored as a text of its own
    if len(best) == 1 and not passed_over:
        return named | best[0]
    problem = f"fits {len(best)} formats" if len(best) > 1 else f"has {lists[0]} of no known format" if lists else "is of no known format"
    wanted = "choices and gold" if lists and len(best) < 2 else "text, or context and continuation, or choices and gold"
    listed = ", ".join(sorted(map(str, row)))
    raise InputError(f"has no field 'text' and {problem}", where=where, hint=f"its fields are {listed}; name {wanted}")


class Item(msgspec.Struct, frozen=True):
    """What a row holds: a context, what joins it to what follows, and the texts that may follow."""

    context: str
    joint: str
    texts: list[str]
    gold: int
    has_choices: bool


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file (`.gz` allowed) with their line numbers; blank lines are skipped."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"is not JSON: {error}", where=f"{path}:{line}") from error
                if not isinstance(row, dict):
                    raise InputError("is not a JSON object", where=f"{path}:{line}")
                yield line, row
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error


def _item(row: dict[str, Any], fields: Mapping[str, Any], where: str) -> Item:
    context = _text(row, fields["context"], where) if fields["context"] else ""
    joint = fields["joined_by"] if context else ""
    if joint == " " and context[-1].isspace():
        joint = ""  # the context ends in white space of its own, as a prompt of code does
    if fields["choices"] is None:
        return Item(context, joint, [_text(row, fields["continuation"] or fields["text"], where)], 0, False)
    choices, gold = _field(row, fields["choices"], where), _field(row, fields["gold"], where)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise InputError(f"field '{fields['choices']}' is not a list of texts", where=where)
    index = _index(gold, choices)
    if index is None:
        what = f"field '{fields['gold']}' is {gold!r:.60}, not the index of one of {len(choices)} choices"
        raise InputError(what, where=where, hint="name choices and gold in evals; gold is a field with an index from 0, or with a letter from A")
    return Item(context, joint, [_encodable(choice, fields["choices"], where) for choice in choices], index, True)


def _index(gold: Any, choices: list[str]) -> int | None:
    """Return which choice an index or a letter means; None when it is neither, or when the letter is itself another choice."""
    if isinstance(gold, str) and len(gold) == 1 and "A" <= gold <= "Z":
        index = ord(gold) - ord("A")
        gold = None if index >= len(choices) or (gold in choices and choices[index] != gold) else index
    return gold if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(choices) else None


def _parts(item: Item, before: str, encoder: Encoder, line: int) -> Iterator[Part]:
    texts = [item.joint + text for text in item.texts]
    begin, *encoded = list(encoder.encode([before + item.context, *texts]))
    for i, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
        whole = np.concatenate([[encoder.eos], begin, tokens]).astype(np.int64)
        yield Part(line, whole, 1 + len(begin), len(text.encode()), i == item.gold)


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise InputError(
            f"has no field '{name}'", where=where, hint=f"its fields are {', '.join(sorted(map(str, row)))}; name the right one in evals"
        )
    return row[name]


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = _field(row, name, where)
    if not isinstance(value, str):
        raise InputError(f"field '{name}' is not a text", where=where)
    return _encodable(value, name, where)


def _encodable(text: str, name: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"field '{name}' holds half a character, {text[error.start]!a}", where=where) from error
    return text
