"""Blocks of datatrove, and a user's own functions, in a workflow."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.engine import Context, Inline, complete, make_plan, shard_work
from curate.errors import SpecError
from curate.filter import load_block

LONG = "The people of the town have to go to the market and to that of the river with the baskets that they have. " * 12


def test_a_datatrove_filter_drops_with_its_own_reason(tmp_path: Path) -> None:
    pytest.importorskip("datatrove")
    pytest.importorskip("spacy")
    options = {"block": "datatrove.pipeline.filters.GopherQualityFilter", "options": {"min_doc_words": 20}}
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["too short", LONG])]})
    plan = make_plan("filter", "curate.filter:filter_shard", tmp_path / "out", options, {}, shard_work(corpus))
    manifest = complete(plan, Context(Inline()), source="web", code={})
    assert manifest.ledger.dropped == {"gopher_short_doc": 1}
    assert manifest.ledger.kept == 1


def test_a_datatrove_filter_that_rewrites_the_text_is_followed() -> None:
    pytest.importorskip("datatrove")
    block = load_block("datatrove.pipeline.filters.LambdaFilter", {"filter_function": lambda d: setattr(d, "text", d.text.upper()) is None})
    batch, reasons = block(documents(["quiet"]))
    assert batch.column("text").to_pylist() == ["QUIET"]
    assert reasons == [None]


def test_a_datatrove_formatter_rewrites_the_text() -> None:
    pytest.importorskip("datatrove")
    block = load_block("datatrove.pipeline.formatters.PIIFormatter", {})
    batch, reasons = block(documents(["write to jane@company.com today"]))
    assert "jane@company.com" not in batch.column("text").to_pylist()[0]
    assert reasons == [None]


def test_a_users_function_drops_with_its_reasons(tmp_path: Path) -> None:
    steps = tmp_path / "steps.py"
    steps.write_text("def calm(batch, mark='!'):\n    return ['shouting' if mark in t else True for t in batch.column('text').to_pylist()]\n")
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["hey!", "hello"])]})
    plan = make_plan("filter", "curate.filter:filter_shard", tmp_path / "out", {"block": f"{steps}:calm", "options": {}}, {}, shard_work(corpus))
    assert complete(plan, Context(Inline()), source="web", code={}).ledger.dropped == {"shouting": 1}
    assert pq.read_table(tmp_path / "out/a.parquet")["text"].to_pylist() == ["hello"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("datatrove.pipeline.filters.GopherQualityFilter", {"min_doc_wrds": 1}, "did you mean 'min_doc_words'"),
        ("datatrove.pipeline.filters.NoSuchFilter", {}, "no block"),
        ("datatrove.data.Document", {}, "neither a filter nor a formatter"),
        ("gopher", {}, "neither a datatrove block nor a function"),
    ],
)
def test_a_wrong_block_is_named(name: str, options: dict[str, object], message: str) -> None:
    pytest.importorskip("datatrove")
    with pytest.raises(SpecError) as caught:
        load_block(name, options)
    assert message in str(caught.value)
