"""Suites: bits and bytes counted exactly, and files that are not what the spec says are named with their line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.mix import model
from curate.mix.evaluate import LN2, bits_per_byte, score_suites, token_losses, windows
from curate.mix.suites import Part, load_once, load_suite
from curate.specs.load import resolved
from curate.specs.mix import Eval
from curate.tokens.tokenizer import Encoder, train_tokenizer


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(train_tokenizer(["what is 2 + 3 ? five apples and Größe 数学 for all"] * 3, 280))


@pytest.fixture(scope="module")
def parameters() -> model.Parameters:
    made = model.init_parameters({"vocab": 280, "width": 16, "layers": 1}, [0, 1])
    generator = torch.Generator().manual_seed(5)
    return {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in made.items()}


def suite_of(tmp_path: Path, rows: list[Any], **options: Any) -> dict[str, Any]:
    path = tmp_path / "suite.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return resolved(Eval(file=str(path), **options))  # type: ignore[no-any-return]


def bits(parameters: model.Parameters, tokens: list[int], start: int) -> float:
    """The obvious way: one text at a time, no padding, no windows."""
    one = {name: value[:1] for name, value in parameters.items()}
    lost = token_losses(one, torch.tensor([tokens]), 2, torch.ones(1, len(tokens) - 1, dtype=torch.bool))[0]
    return float(lost[start - 1 :].double().sum()) / LN2


def test_bits_and_bytes_are_those_of_the_continuation(tmp_path: Path, encoder: Encoder, parameters: model.Parameters) -> None:
    rows = [{"q": "what is 2 + 3 ?", "a": "five"}, {"q": "Größe", "a": "数学 for all and apples"}, {"q": "", "a": "and"}]
    spec = suite_of(tmp_path, rows, context="q", continuation="a")
    table = score_suites(parameters, [load_suite("math", spec, encoder)], 2, 64)[0].to_pylist()
    for row, scored, joint in zip(rows, table, (" ", " ", ""), strict=True):
        begin, end = (tokens.tolist() for tokens in encoder.encode([row["q"], joint + row["a"]]))
        assert scored["bytes"] == len((joint + row["a"]).encode())
        assert scored["bits"] == pytest.approx(bits(parameters, [encoder.eos, *begin, *end], 1 + len(begin)), rel=1e-5)
    assert [row["item"] for row in table] == [1, 2, 3]


def test_multiple_choice_scores_the_right_choice_and_counts_the_likeliest(tmp_path: Path, encoder: Encoder, parameters: model.Parameters) -> None:
    rows = [{"query": "2 + 3", "choices": ["five", "apples", "and Größe"], "gold": gold} for gold in (0, 1, 2)]
    spec = suite_of(tmp_path, rows, context="query", choices="choices", gold="gold")
    table = score_suites(parameters, [load_suite("mc", spec, encoder)], 2, 64)[0].to_pylist()
    assert [row["bytes"] for row in table] == [5, 7, 12]
    assert [row["right"] for row in table] == [row["bits"] / row["bytes"] == min(r["bits"] / r["bytes"] for r in table) for row in table]
    assert sum(row["right"] for row in table) == 1


def test_members_of_a_group_get_tables_of_their_own(tmp_path: Path, encoder: Encoder, parameters: model.Parameters) -> None:
    suite = load_suite("docs", suite_of(tmp_path, [{"text": "apples for all"}] * 2), encoder)
    first, second = score_suites(parameters, [suite], 2, 64)
    alone = score_suites({name: value[1:] for name, value in parameters.items()}, [suite], 2, 64)[0]
    assert second["bits"].to_numpy() == pytest.approx(alone["bits"].to_numpy(), rel=1e-5)
    assert bits_per_byte(first)["docs"] == pytest.approx(sum(first["bits"].to_pylist()) / 28)
    assert first["bits"].to_pylist() != second["bits"].to_pylist()


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=5), context=st.integers(1, 40))
def test_windows_score_every_token_once_with_half_a_context_before_it(sizes: list[tuple[int, int]], context: int) -> None:
    parts = [Part(i, np.zeros(1 + before + scored, np.int64), 1 + before, 1, True) for i, (before, scored) in enumerate(sizes)]
    seen: list[list[int]] = [[] for _ in parts]
    for window in windows(parts, context):
        assert window.end - window.begin <= context + 1
        for position in range(window.end - window.scored, window.end):
            assert position - window.begin >= min(position, context // 2, 1)
            assert position - window.begin >= min(position, context - context // 2)
            seen[window.part].append(position)
    assert seen == [list(range(part.scored, len(part.tokens))) for part in parts]


def test_a_long_text_is_scored_in_windows(tmp_path: Path, encoder: Encoder, parameters: model.Parameters) -> None:
    text = "apples and Größe " * 60
    suite = load_suite("docs", suite_of(tmp_path, [{"text": text}]), encoder)
    table = score_suites(parameters, [suite], 2, 32)[0].to_pylist()
    assert table[0]["bytes"] == len(text.encode())
    (tokens,) = encoder.encode([text])
    whole = [encoder.eos, *tokens.tolist()]
    expected = bits(parameters, whole[:33], 1)
    for begin in range(33, len(whole), 16):
        end = min(len(whole), begin + 16)
        expected += bits(parameters, whole[end - 33 : end], 33 - (end - begin))
    assert table[0]["bits"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ("{", {}, r"suite.jsonl:2: is not JSON"),
        ("[1]", {}, r"suite.jsonl:2: is not a JSON object"),
        ({"txt": "a"}, {}, r"suite.jsonl:2: has no field 'text'"),
        ({"text": 5}, {}, r"suite.jsonl:2: field 'text' is not a text"),
        ({"text": ""}, {}, r"suite.jsonl:2: has nothing to score"),
        ({"text": "a", "c": ["x"], "g": 1}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: field 'g' is 1, not the index of one of 1 choices"),
        ({"text": "a", "c": ["x", "y"], "g": "C"}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: field 'g' is 'C', not the index of one of 2"),
        ({"text": "a", "c": ["B", "A"], "g": "B"}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: field 'g' is 'B', not the index of one of 2"),
        ({"text": "a", "c": ["x", "y"], "g": "y"}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: .* not the index .*\nhint: name choices and gold"),
        ({"text": "a \ud800 b"}, {}, r"suite.jsonl:2: field 'text' holds half a character, '\\ud800'"),
        ({"c": ["x", "y \udfff"], "g": 0}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: field 'c' holds half a character, '\\udfff'"),
        ('{"text": "x", "a": ' + "[" * 100_000 + "]" * 100_000 + "}", {}, r"suite.jsonl:2: is not JSON: .*recursion"),
        ({"text": "a", "c": "xy", "g": 1}, {"choices": "c", "gold": "g"}, r"suite.jsonl:2: field 'c' is not a list of texts"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, encoder: Encoder, row: Any, options: dict[str, Any], message: str) -> None:
    fine = {"text": "fine", "c": ["x", "y"], "g": 0}
    with pytest.raises(InputError, match=message):
        load_suite("docs", suite_of(tmp_path, [fine, row], **options), encoder)


def test_missing_empty_and_torn_files_are_named(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(InputError, match="the suite 'docs' has no items"):
        load_suite("docs", suite_of(tmp_path, ["", " "]), encoder)
    with pytest.raises(InputError, match="no such file"):
        load_suite("docs", resolved(Eval(file=str(tmp_path / "none.jsonl"))), encoder)
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(b'{"text": "abc"}\n' * 1000)[:-20])
    with pytest.raises(InputError, match=r"torn.jsonl.gz: cannot be read"):
        load_suite("docs", resolved(Eval(file=str(torn))), encoder)
    assert len(load_suite("docs", suite_of(tmp_path, [{"text": "a"}] * 5, max_items=3), encoder).parts) == 3


@pytest.mark.parametrize(
    ("row", "context", "joint", "gold", "has_choices"),
    [
        ({"query": "Question: how?", "choices": ["so", "thus"], "gold": 1}, "Question: how?", " ", "thus", True),  # LLM Foundry, multiple choice
        ({"query": "Question: how?\n", "choices": ["so", "thus"], "gold": 0}, "Question: how?\n", "", "so", True),  # the same, PIQA
        ({"id": "1", "question": "how?", "choices": ["so", "thus"], "answer": 1}, "how?", " ", "thus", True),  # MMLU
        ({"question": "how?", "choices": ["so", "thus"], "answer": "B"}, "how?", " ", "thus", True),  # MMLU, with letters
        ({"question": "how?", "choices": ["A", "B"], "answer": "B"}, "how?", " ", "B", True),
        ({"question": "how?", "options": ["so", "thus"], "answer": "A", "answer_index": 0}, "how?", " ", "so", True),  # MMLU-Pro
        ({"context": "all for", "continuation": "one"}, "all for", " ", "one", False),  # LLM Foundry, LAMBADA
        ({"context": "2 + 3", "chain_of_thought": "it is five", "answer": "5"}, "2 + 3", " ", "it is five", False),  # LLM Foundry, GSM8K and MATH
        ({"context": "who?\nAnswer:", "answer": "he", "aliases": ["He"]}, "who?\nAnswer:", " ", "he", False),  # LLM Foundry, TriviaQA
        ({"id": "1", "question": "2 + 3", "answer": "five\n#### 5"}, "2 + 3", " ", "five\n#### 5", False),  # GSM8K
        ({"prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "", "entry_point": "f"}, "def f():\n", "", "    return 1\n", False),
    ],
)
def test_common_formats_load_as_they_are(
    tmp_path: Path, encoder: Encoder, row: dict[str, Any], context: str, joint: str, gold: str, has_choices: bool
) -> None:
    suite = load_suite("s", suite_of(tmp_path, [row]), encoder)
    (right,) = [part for part in suite.parts if part.is_gold]
    assert suite.has_choices == has_choices
    assert encoder.decode(right.tokens[1 : right.scored]) == context
    assert encoder.decode(right.tokens[right.scored :]) == joint + gold
    assert right.num_bytes == len((joint + gold).encode())


def test_what_fits_no_format_or_several_is_named_with_its_fields(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"suite.jsonl:1: has no field 'text' and is of no known format\n.*its fields are body, title"):
        load_suite("s", suite_of(tmp_path, [{"title": "a", "body": "b"}]), encoder)
    several = {"context": "a", "continuation": "b", "query": "c", "choices": ["d"], "gold": 0}
    with pytest.raises(InputError, match=r"fits 2 formats\n.*its fields are choices, context, continuation, gold, query"):
        load_suite("s", suite_of(tmp_path, [several]), encoder)
    named = load_suite("s", suite_of(tmp_path, [several], context="context", continuation="continuation"), encoder)
    assert encoder.decode(named.parts[0].tokens[named.parts[0].scored :]) == " b"


def test_a_row_with_choices_is_never_scored_without_them(tmp_path: Path, encoder: Encoder) -> None:
    rows = {"choices": {"prompt": "a", "canonical_solution": "B"}, "options": {"problem": "a", "solution": "B"}}
    for name, row in rows.items():
        with pytest.raises(InputError, match=rf"suite.jsonl:1: .*has {name} of no known format\nhint: .*; name choices and gold"):
            load_suite("s", suite_of(tmp_path, [row | {name: ["x", "y"]}]), encoder)
    with pytest.raises(InputError, match=r"field 'answer' is 'thus', not the index of one of 2 choices\nhint: name choices and gold"):
        load_suite("s", suite_of(tmp_path, [{"question": "how?", "choices": ["so", "thus"], "answer": "thus"}]), encoder)


def test_shots_stand_before_each_item_and_are_not_scored(tmp_path: Path, encoder: Encoder, parameters: model.Parameters) -> None:
    rows = [{"question": f"{i} + 2", "answer": f"{i + 2}"} for i in range(5)]
    suite = load_suite("s", suite_of(tmp_path, rows) | {"shots": 2}, encoder)
    assert [part.item for part in suite.parts] == [3, 4, 5]
    assert encoder.decode(suite.parts[0].tokens[1:]) == "0 + 2 2\n\n1 + 2 3\n\n2 + 2 4"
    assert suite.parts[0].num_bytes == 2
    table = score_suites(parameters, [suite], 2, 64)[0].to_pylist()
    assert table[0]["bits"] == pytest.approx(bits(parameters, suite.parts[0].tokens.tolist(), suite.parts[0].scored), rel=1e-5)
    with pytest.raises(InputError, match="has no items after its 5 shots"):
        load_suite("s", suite_of(tmp_path, rows) | {"shots": 5}, encoder)


def test_a_process_reads_a_suite_once_and_again_when_it_has_changed(tmp_path: Path, encoder: Encoder) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(train_tokenizer(["five apples for all"] * 3, 280))
    first = load_once("s", suite_of(tmp_path, [{"text": "apples"}]), tokenizer)
    assert load_once("s", suite_of(tmp_path, [{"text": "apples"}]), tokenizer).parts[0].num_bytes == 6
    changed = load_once("s", suite_of(tmp_path, [{"text": "five apples"}]), tokenizer)
    assert (first.parts[0].num_bytes, changed.parts[0].num_bytes) == (6, 11)
