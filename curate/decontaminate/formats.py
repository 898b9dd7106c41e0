"""A benchmark's row → the channels of an item: which field is the question, which the choices, what is code.

The common formats are recognized by their keys, row by row. Names are compared without regard to case and blanks, so that
TruthfulQA's "Best Answer" is `best_answer`. `fields` of the benchmarks spec overrides any of them.
"""

from __future__ import annotations

import re
from typing import Any

from curate.specs.benchmarks import Fields

CHANNELS = ("question", "choices", "answer", "solution", "passage", "code")
# The usual names, in the order in which they are tried. The first that holds something counts.
USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "task_id", "item_id", "question_id", "qid", "ind", "unique_id", "doc_id"),
    "question": (
        *("question", "question.stem", "query", "problem", "goal", "prompt", "context", "ctx", "text", "input", "sentence"),
        *("sentence_good", "content"),
    ),
    "choices": ("choices", "question.choices", "options", "endings", "mc1_targets", "mc2_targets", "context_options", "answers.text"),
    "answer": (
        *("answer", "gold", "target", "label", "answerkey", "correct_answer", "best_answer", "continuation", "completion"),
        *("final_answer", "output", "answers"),
    ),
    "solution": ("solution", "chain_of_thought", "rationale", "explanation", "reasoning", "cot_content"),
    "passage": ("passage", "article", "story", "support", "paragraph"),
    "code": ("canonical_solution", "code", "reference_code"),
}
NAMED_CHOICES = ("sol1", "sol2", "option1", "option2", "choice1", "choice2", "a", "b", "c", "d", "e")
Row = dict[str, Any]


def channels_of(row: Row, fields: Fields) -> tuple[str | None, dict[str, str], list[str]]:
    """Return (id, channels, choices) of a row. Raises ValueError, with what the row has, when nothing in it can be looked for."""
    keys = ", ".join(sorted(map(str, row)))[:200]
    row = opened(row)
    folded = {**{folded_name(key): value for key, value in row.items()}, **row}
    found = {name: _find(folded, getattr(fields, name), usual, name) for name, usual in USUAL.items()}
    if fields.question is None and found["question"] is None:
        found["question"] = _together(folded)
    if found["passage"] is None and fields.passage is None and isinstance(folded.get("context"), str) and folded["context"] != found["question"]:
        found["passage"] = folded["context"]  # SQuAD and its kind; where there is no question, the context is one
    channels, choices = _channels(folded, found, fields)
    if not channels:
        wanted = [f for f in (fields.question, fields.passage, fields.code) if f]
        what = f"has nothing under {', '.join(wanted)}" if wanted else "has no field that could be a question"
        raise ValueError(f"{what}; its keys are {keys}")
    own = found["id"]
    return (str(own) if isinstance(own, (str, int)) and str(own) else None), channels, choices


def folded_name(key: str) -> str:
    """Return the name of a field as it is looked up: `Correct Answer` is `correct_answer`."""
    return str(key).strip().lower().replace(" ", "_")


def opened(row: Row) -> Row:
    """Return the row that a line of an lm-evaluation-harness sample file was made from; any other row as it is."""
    return {**row["doc"], "doc_id": row.get("doc_id")} if isinstance(row.get("doc"), dict) else row


def _find(row: Row, given: str | None, usual: tuple[str, ...], name: str) -> Any:
    for path in (given,) if given else usual:
        value: Any = row
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or value == "" or value == [] or (isinstance(value, dict) and name != "choices"):
            continue
        return value
    return None


def _together(row: Row) -> str | None:
    """COPA, natural language inference and the like: a premise in a field of its own name."""
    parts = [row[k] for k in ("premise", "hypothesis", "startphrase", "question_stem", "instruction") if isinstance(row.get(k), str)]
    return " ".join(parts) or None


def _channels(row: Row, found: Row, fields: Fields) -> tuple[dict[str, str], list[str]]:
    question = _text(found["question"])
    question = re.sub(r"^\s*(?:Question|Q)\s*:\s*", "", question)
    question = re.sub(r"\s*\n?\s*(?:Answer|A)\s*:\s*$", "", question)
    choices, labels = _choices(row, found["choices"])
    answer, solution = _answer(row, found["answer"], choices, labels), _text(found["solution"])
    if "####" in answer and not solution:  # GSM8K: worked steps, then the result
        solution, _, answer = answer.rpartition("####")
    elif len(answer.split()) > 30 and not solution:
        solution, answer = answer, ""
    code = _text(found["code"])
    if "canonical_solution" in row and isinstance(row.get("prompt"), str) and fields.code is None:  # HumanEval
        code, question = row["prompt"] + code, documentation(row["prompt"]) if fields.question is None else question
    values = {"question": question, "choices": "\n".join(choices), "answer": answer, "solution": solution}
    values |= {"passage": _text(found["passage"]), "code": code}
    channels = {name: values[name] for name in CHANNELS if values[name].strip()}
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


def _choices(row: Row, value: Any) -> tuple[list[str], list[str]]:
    """Return the texts of the choices, and what an answer may call them (nothing where they are numbered or lettered)."""
    labels: list[str] = []
    if isinstance(value, dict):
        texts = next((value[k] for k in ("text", "choices") if isinstance(value.get(k), list)), None)
        if texts is not None:  # ARC, TruthfulQA
            labels = [str(label) for label in value["label"]] if isinstance(value.get("label"), list) else []
            value = texts
        elif all(isinstance(v, (int, bool)) for v in value.values()):  # TruthfulQA's own files: {choice: whether it is true}
            value = list(value)
        else:
            labels, value = [str(k) for k in sorted(value)], [value[k] for k in sorted(value)]
    if not isinstance(value, list):
        named = [k for k in NAMED_CHOICES if isinstance(row.get(k), str) or isinstance(row.get(k.upper()), str)]
        value = [row.get(k) or row.get(k.upper()) for k in named] if len(named) > 1 else []
        labels = ["1", "2"] if named[:2] == ["option1", "option2"] else []  # WinoGrande counts from one
    elif value and all(isinstance(v, dict) for v in value):  # ARC's own files
        labels = [str(v["label"]) for v in value if "label" in v]
    texts = [v["text"] if isinstance(v, dict) and isinstance(v.get("text"), str) else _text(v) for v in value]
    kept = [i for i, text in enumerate(texts) if text.strip()]
    labels = [labels[i] for i in kept] if len(labels) == len(texts) else []
    return [re.sub(r"^\s*\(?[A-Ha-h][.):]\s+", "", texts[i]) for i in kept], labels


def _answer(row: Row, answer: Any, choices: list[str], labels: list[str]) -> str:
    if answer is None and isinstance(row.get("mc1_targets"), dict):  # TruthfulQA: which choices are true
        told = row["mc1_targets"]
        truth = told["labels"] if isinstance(told.get("labels"), list) else list(told.values())
        answer = truth.index(1) if 1 in truth and len(truth) == len(choices) else None
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if isinstance(answer, (int, str)) and not isinstance(answer, bool) and choices:
        answer = _chosen(answer, choices, labels)
    return _text(answer)


def _chosen(answer: int | str, choices: list[str], labels: list[str]) -> str:
    """Return the text of the choice that `answer` names by its label, numbers (from 0) or letters (from A)."""
    if str(answer).strip() in labels:
        return choices[labels.index(str(answer).strip())]
    if isinstance(answer, str) and re.fullmatch(r"\s*[A-J]\s*", answer):
        answer = ord(answer.strip()) - ord("A")
    elif isinstance(answer, str) and re.fullmatch(r"\d", answer.strip()) and answer.strip() not in choices:
        answer = int(answer)
    if isinstance(answer, int):
        return choices[answer] if 0 <= answer < len(choices) else ""
    return answer


def documentation(prompt: str) -> str:
    """Return the docstring's prose: what a HumanEval prompt asks for, without signature and doctests."""
    strings = re.findall(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', prompt, re.S)
    text = "\n".join(a or b for a, b in strings)
    kept, example = [], False
    for line in text.splitlines():
        example = line.strip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            kept.append(line)
    return "\n".join(kept) if text.strip() else ""
