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
from curate.mix.evaluate import LN2, Part, bits_per_byte, load_suite, score_suites, windows
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
    lost = model.token_losses(one, torch.tensor([[tokens]]), 2)[0, 0]
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
