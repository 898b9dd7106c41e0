"""Suites → bits per byte, item by item.

An item is a text, or a continuation given a context. Its score is the number of bits that the model needs for the scored part, over the
UTF-8 bytes of that part: a unit that does not depend on the tokenizer and moves smoothly where accuracy stays at chance, which is why
small proxies can be compared by it (Magnusson 2025). Multiple choice is scored by the bits of the right choice; accuracy counts how
often it has the fewest bits per byte among all choices.

Context and continuation are tokenized apart, so that the scored bytes are exactly those of the continuation. A part longer than the
model's context is read in windows that move by half a context, each token being scored once, with at least half a context before it
(but at the beginning). Scores are stored per item: other weights, or intervals over items, need no model.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix import model
from curate.tokens.tokenizer import Encoder

WINDOW_TOKENS = 4096  # tokens that go through the model at once
LN2 = float(np.log(2))

SCORES = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),  # the line of the suite's file, from 1
        pa.field("bits", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("right", pa.bool_()),  # multiple choice: the right one has the fewest bits per byte
    ]
)


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


def load_suite(name: str, spec: Mapping[str, Any], encoder: Encoder) -> Suite:
    """Read a suite; `spec` is a resolved Eval whose `file` leads somewhere.

    Raises InputError with file and line for what is not JSON, lacks a field, or has nothing to score.
    """
    path = Path(spec["file"])
    parts: list[Part] = []
    count = 0
    for line, row in read_rows(path):
        if spec["max_items"] is not None and count >= spec["max_items"]:
            break
        found = list(_parts(row, spec, encoder, line, f"{path}:{line}"))
        if sum(part.num_bytes for part in found if part.is_gold) == 0:
            raise InputError("has nothing to score: its text is empty", where=f"{path}:{line}")
        parts += found
        count += 1
    if not count:
        raise InputError(f"the suite '{name}' has no items", where=str(path))
    return Suite(name, parts, spec["choices"] is not None)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file (`.gz` allowed) with their line numbers; blank lines are skipped."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except ValueError as error:
                    raise InputError(f"is not JSON: {error}", where=f"{path}:{line}") from error
                if not isinstance(row, dict):
                    raise InputError("is not a JSON object", where=f"{path}:{line}")
                yield line, row
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error


def _parts(row: dict[str, Any], spec: Mapping[str, Any], encoder: Encoder, line: int, where: str) -> Iterator[Part]:
    context = _text(row, spec["context"], where) if spec["context"] else ""
    joint = spec["joined_by"] if context else ""
    if spec["choices"] is not None:
        choices, gold = _field(row, spec["choices"], where), _field(row, spec["gold"], where)
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise InputError(f"field '{spec['choices']}' is not a list of texts", where=where)
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
            raise InputError(f"field '{spec['gold']}' is {gold!r}, not the index of one of {len(choices)} choices", where=where)
        texts = [joint + choice for choice in choices]
    else:
        gold = 0
        texts = [joint + _text(row, spec["continuation"] or spec["text"], where)]
    begin, *encoded = list(encoder.encode([context, *texts]))
    for i, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
        whole = np.concatenate([[encoder.eos], begin, tokens]).astype(np.int64)
        yield Part(line, whole, 1 + len(begin), len(text.encode()), i == gold)


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
    return value


class Window(msgspec.Struct, frozen=True):
    """Tokens `begin … end` of a part go in; the last `scored` of them are scored."""

    part: int
    begin: int
    end: int
    scored: int


def windows(parts: list[Part], context: int) -> list[Window]:
    """Return the windows that score each scored token once, in at most `context` + 1 tokens each."""
    result = []
    for i, part in enumerate(parts):
        at, total = part.scored, len(part.tokens)
        while at < total:
            end = min(total, max(context + 1, at + max(1, context // 2)))
            result.append(Window(i, max(0, end - context - 1), end, end - at))
            at = end
    return result


def score_suites(parameters: model.Parameters, suites: list[Suite], heads: int, context: int) -> list[pa.Table]:
    """Return a table of SCORES for each of the K members."""
    members = parameters["embedding"].shape[0]
    tables: list[list[pa.Table]] = [[] for _ in range(members)]
    for suite in suites:
        nats = _nats(parameters, suite.parts, heads, context)
        for k in range(members):
            tables[k].append(_table(suite, nats[k] / LN2))
    return [pa.concat_tables(parts) for parts in tables]


def _nats(parameters: model.Parameters, parts: list[Part], heads: int, context: int) -> NDArray[np.float64]:
    """Return the summed losses, [K, parts]. Windows of about the same length go together, padded at their end."""
    members = parameters["embedding"].shape[0]
    result = np.zeros((members, len(parts)))
    todo = sorted(windows(parts, context), key=lambda w: (w.end - w.begin, w.part, w.begin))
    while todo:
        length = todo[-1].end - todo[-1].begin
        batch = [todo.pop() for _ in range(min(len(todo), max(1, WINDOW_TOKENS // length)))]
        tokens = np.zeros((len(batch), length), np.int64)
        for row, window in zip(tokens, batch, strict=True):
            row[: window.end - window.begin] = parts[window.part].tokens[window.begin : window.end]
        given = torch.from_numpy(tokens)[None].expand(members, -1, -1)
        lost = model.token_losses(parameters, given, heads).numpy().astype(np.float64)
        for row_index, window in enumerate(batch):
            last = window.end - window.begin - 1
            result[:, window.part] += lost[:, row_index, last - window.scored : last].sum(1)
    return result


def _table(suite: Suite, bits: NDArray[np.float64]) -> pa.Table:
    """Return the scores of one member; of multiple choice, those of the right choice."""
    gold = [i for i, part in enumerate(suite.parts) if part.is_gold]
    right: list[bool | None] = [None] * len(gold)
    if suite.has_choices:
        rates = bits / np.array([max(1, part.num_bytes) for part in suite.parts])
        best: dict[int, float] = {}
        for part, rate in zip(suite.parts, rates.tolist(), strict=True):
            best[part.item] = min(rate, best.get(part.item, np.inf))
        right = [bool(rates[i] <= best[suite.parts[i].item]) for i in gold]
    columns = [
        [suite.name] * len(gold), [suite.parts[i].item for i in gold], bits[gold], [suite.parts[i].num_bytes for i in gold], right,
    ]  # fmt: skip
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCORES, strict=True)], schema=SCORES)


def write_scores(table: pa.Table, path: Path) -> dict[str, float]:
    """Write a table of SCORES and return its bits per byte per suite."""
    pq.write_table(table, path, compression="zstd")
    return bits_per_byte(table)


def bits_per_byte(table: pa.Table) -> dict[str, float]:
    """Return all bits over all bytes, per suite."""
    totals: dict[str, list[float]] = {}
    for suite, bits, size in zip(*(table[name].to_pylist() for name in ("suite", "bits", "bytes")), strict=True):
        total = totals.setdefault(suite, [0.0, 0.0])
        total[0] += bits
        total[1] += size
    return {suite: bits / size for suite, (bits, size) in totals.items()}
