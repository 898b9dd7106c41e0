"""Benchmark files → items with channels. Every line becomes an item, or is named with the reason why it did not.

A channel is a part of an item that is looked for by itself: question, choices, answer, solution, passage, code.
Formats are recognized by their keys, line by line; `fields` of the benchmarks spec overrides any of them.
lm-evaluation-harness sample files keep the original row under `doc`, which is opened first.
"""

from __future__ import annotations

import glob
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.specs.benchmarks import Benchmark

CHANNELS = ("question", "choices", "answer", "solution", "passage", "code")
# The usual names, in the order in which they are tried. The first that holds something counts.
USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "task_id", "item_id", "question_id", "qid", "ind", "doc_id"),
    "question": ("question", "query", "problem", "goal", "prompt", "context", "ctx", "text", "input", "sentence"),
    "choices": ("choices", "options", "endings", "mc1_targets.choices", "mc2_targets.choices", "answers.text"),
    "answer": ("answer", "gold", "target", "label", "answerKey", "best_answer", "continuation", "completion", "final_answer", "output"),
    "solution": ("solution", "chain_of_thought", "rationale", "explanation", "reasoning"),
    "passage": ("passage", "article", "story", "support", "paragraph"),
    "code": ("canonical_solution", "code", "reference_code"),
}
MAX_LINE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark item. `channels` maps channel names to texts, `choices` has the options one by one."""

    benchmark: str
    id: str
    place: str  # file:line
    channels: dict[str, str]
    choices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not an item, and why."""

    benchmark: str
    place: str
    reason: str


@dataclass(slots=True)
class Items:
    """All items of some benchmarks; `renamed` lists ids that stood twice, as (benchmark, id, place)."""

    items: list[Item] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    renamed: list[tuple[str, str, str]] = field(default_factory=list)
    canaries: list[tuple[str, str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # items per benchmark, zero included


def read_benchmarks(benchmarks: dict[str, Benchmark], root: Path) -> Items:
    """Read the files of `benchmarks`, relative to `root`, in order of name and line.

    Raises InputError when a file is missing or unreadable, or when no benchmark has an item. A single bad line, an
    empty benchmark or an id that stands twice is recorded, not raised.
    """
    result = Items()
    for name, benchmark in benchmarks.items():
        before = len(result.items)
        seen: dict[str, int] = {}
        for path in files_of(name, benchmark, root):
            shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
            for number, line in _lines(path):
                place = f"{shown}:{number}"
                try:
                    item = _item(name, line, place, benchmark, len(result.items) - before)
                except (ValueError, RecursionError) as error:
                    result.bad.append(BadLine(name, place, str(error)))
                    continue
                if item.id in seen:
                    seen[item.id] += 1
                    result.renamed.append((name, item.id, place))
                    item = Item(name, f"{item.id}#{seen[item.id]}", place, item.channels, item.choices)
                seen.setdefault(item.id, 1)
                result.items.append(item)
        result.sizes[name] = len(result.items) - before
        result.canaries += [(name, canary) for canary in benchmark.canaries]
    if not result.items and not result.canaries:
        first = f": {result.bad[0].place} {result.bad[0].reason}" if result.bad else ""
        raise InputError(
            f"no benchmark item could be read{first}", where=", ".join(benchmarks), hint="each line must be a JSON object with a question"
        )
    return result


def files_of(name: str, benchmark: Benchmark, root: Path) -> list[Path]:
    """Return the files of a benchmark, sorted within each pattern. Raises InputError when a pattern finds none."""
    found: list[Path] = []
    for pattern in benchmark.patterns():
        paths = sorted(Path(p) for p in glob.glob(str(root / pattern), recursive=True))
        if not paths:
            raise InputError(f"the file of benchmark '{name}' does not exist", where=str(root / pattern), hint="see `file` in the benchmarks spec")
        found += paths
    return list(dict.fromkeys(found))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read to its end: {error}", where=str(path), hint="is the download complete?") from error


def _item(benchmark: str, line: bytes, place: str, spec: Benchmark, number: int) -> Item:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    if isinstance(row.get("doc"), dict):
        row = {**row["doc"], "doc_id": row.get("doc_id")}
    found = {name: _find(row, getattr(spec.fields, name), usual) for name, usual in USUAL.items()}
    if spec.fields.question is None and not isinstance(found["question"], str):
        found["question"] = _together(row)
    if found["passage"] is None and spec.fields.passage is None and isinstance(row.get("context"), str) and row["context"] != found["question"]:
        found["passage"] = row["context"]  # SQuAD and its kind; where there is no question, the context is one
    channels, choices = _channels(row, found, spec)
    if not channels:
        wanted = [f for f in (spec.fields.question, spec.fields.passage, spec.fields.code) if f]
        what = f"has nothing under {', '.join(wanted)}" if wanted else "has no field that could be a question"
        raise ValueError(f"{what}; its keys are {', '.join(sorted(map(str, row)))[:200]}")
    own = found["id"]
    return Item(benchmark, str(own) if isinstance(own, (str, int)) and str(own) else str(number), place, channels, choices)


def _find(row: dict[str, Any], given: str | None, usual: tuple[str, ...]) -> Any:
    for path in (given,) if given else usual:
        value: Any = row
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and value != "" and value != []:
            return value
    return None


def _together(row: dict[str, Any]) -> str | None:
    """WinoGrande, COPA and the like: a premise in a field of its own name."""
    parts = [row[k] for k in ("premise", "hypothesis", "startphrase", "question_stem", "instruction") if isinstance(row.get(k), str)]
    return " ".join(parts) or None


def _channels(row: dict[str, Any], found: dict[str, Any], spec: Benchmark) -> tuple[dict[str, str], list[str]]:
    channels: dict[str, str] = {}
    question = _text(found["question"])
    question = re.sub(r"^\s*(?:Question|Q)\s*:\s*", "", question)
    question = re.sub(r"\s*\n?\s*(?:Answer|A)\s*:\s*$", "", question)
    choices = _choices(row, found["choices"])
    answer, solution = found["answer"], _text(found["solution"])
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if isinstance(answer, (int, str)) and not isinstance(answer, bool) and choices:
        answer = _chosen(answer, choices)
    answer = _text(answer)
    if "####" in answer and not solution:  # GSM8K: worked steps, then the result
        solution, _, answer = answer.rpartition("####")
    elif len(answer.split()) > 30 and not solution:
        solution, answer = answer, ""
    code = _text(found["code"])
    if "canonical_solution" in row and isinstance(row.get("prompt"), str) and spec.fields.code is None:  # HumanEval
        code, question = row["prompt"] + code, _documentation(row["prompt"]) if spec.fields.question is None else question
    values = {
        "question": question,
        "choices": "\n".join(choices),
        "answer": answer,
        "solution": solution,
        "passage": _text(found["passage"]),
        "code": code,
    }
    for name in CHANNELS:
        if values[name].strip():
            channels[name] = values[name]
    if not {"question", "passage", "code", "solution", "choices"} & channels.keys():
        return {}, []
    return channels, choices


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        return ""
    if isinstance(value, (int, float)):
        return str(value)
    return "\n".join(_text(v) for v in value) if isinstance(value, list) else ""


def _choices(row: dict[str, Any], value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("text") if isinstance(value.get("text"), list) else [value[k] for k in sorted(value)]
    if not isinstance(value, list):
        named = [row[k] for k in ("sol1", "sol2", "option1", "option2", "choice1", "choice2", "A", "B", "C", "D", "E") if isinstance(row.get(k), str)]
        value = named if len(named) > 1 else []
    texts = [v["text"] if isinstance(v, dict) and isinstance(v.get("text"), str) else _text(v) for v in value]
    return [re.sub(r"^\s*\(?[A-Ha-h][.):]\s+", "", t) for t in texts if t.strip()]


def _chosen(answer: int | str, choices: list[str]) -> str:
    """Return the text of the choice that `answer` numbers (from 0) or letters (from A)."""
    if isinstance(answer, str) and re.fullmatch(r"\s*[A-H]\s*", answer):
        answer = ord(answer.strip()) - ord("A")
    elif isinstance(answer, str) and re.fullmatch(r"\d", answer.strip()) and answer.strip() not in choices:
        answer = int(answer)
    if isinstance(answer, int):
        return choices[answer] if 0 <= answer < len(choices) else ""
    return answer


def _documentation(prompt: str) -> str:
    """Return the docstring's prose: what a HumanEval prompt asks for, without signature and doctests."""
    strings = re.findall(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', prompt, re.S)
    text = "\n".join(a or b for a, b in strings)
    kept, example = [], False
    for line in text.splitlines():
        example = line.strip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            kept.append(line)
    return "\n".join(kept) if text.strip() else ""
