"""Drop rules: what is dropped, what is recorded, and what a rule cannot do."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from hypothesis import given
from hypothesis import strategies as st

from curate.engine import Context, Inline, complete, make_plan, shard_work
from curate.errors import SpecError
from curate.explain import Event, Trace, as_text
from curate.select import Rules, comparisons


def scored(words: list[int | None]) -> pa.RecordBatch:
    batch = documents([f"text {i}" for i in range(len(words))])
    kind = pa.struct([("words", pa.int64()), ("share", pa.float64())])
    return batch.append_column("gopher", pa.array([None if w is None else {"words": w, "share": w / 100} for w in words], kind))


def test_all_hits_are_recorded_in_the_order_of_the_spec() -> None:
    batch = scored([10, 60, 90])
    rules = Rules({"too_short": "gopher.words < 50", "low_share": "gopher.share < 0.7"}, batch.schema)
    assert rules.decide(batch) == [["too_short", "low_share"], ["low_share"], []]


def test_an_unknown_measure_drops_nothing() -> None:
    batch = scored([None])
    assert Rules({"too_short": "gopher.words < 50"}, batch.schema).decide(batch) == [[]]


def test_what_a_condition_fails_on_is_told_row_by_row() -> None:
    batch = documents(["1", "x", "30", "4", "y"])
    decided, failed = Rules({"large": "text::int > 3"}, batch.schema).decide_each(batch)
    assert decided == [[], [], ["large"], ["large"], []]
    assert {row: error.partition(":")[0] for row, error in failed.items()} == {1: "ConversionException", 4: "ConversionException"}


def test_a_condition_that_fails_on_every_row_asks_for_few_of_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = documents([str(i) if i % 10 == 0 else f"x{i}" for i in range(1000)])
    rules = Rules({"large": "text::int >= 500", "any": "length(text) > 3"}, batch.schema)
    asked: list[int] = []
    decide = rules.decide
    monkeypatch.setattr(rules, "decide", lambda rows: asked.append(rows.num_rows) or decide(rows))
    decided, failed = rules.decide_each(batch)
    assert asked[0] == 1000
    assert len(asked) < 20
    assert decided == [["large"] if i % 10 == 0 and i >= 500 else [] for i in range(1000)]
    assert sorted(failed) == [i for i in range(1000) if i % 10]
    assert "Could not convert string 'x2'" in failed[2]
    assert failed[999].startswith("fails, perhaps as another document did: ConversionException: ")
    assert "'x1'" in failed[999]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(0, 100))
def test_decisions_equal_a_loop(words: list[int], threshold: int) -> None:
    batch = scored(words)
    decided = Rules({"short": f"gopher.words < {threshold}", "odd": "gopher.words % 2 = 1"}, batch.schema).decide(batch)
    assert decided == [["short"] * (w < threshold) + ["odd"] * (w % 2) for w in words]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("gopher.word < 50", "word"),
        ("gopher.words", "not a condition"),
        ("gopher.words <", "syntax error"),
        ("", "is empty"),
        (" -- nothing yet", "is empty"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd')) > 0", "a subquery cannot stand in a rule"),
        ("true) or (false", ""),
        ("true), (false", "not one condition"),
        ("true) FROM documents WHERE (false", "not one condition"),
        ("avg(gopher.words) > 3", "avg looks at more than one row"),
        ("geomean(gopher.words) > 3", "geomean looks at more than one row"),
        ("unnest([true, false])", "unnest looks at more than one row"),
        ("row_number() over () > 1000", "a window function"),
        ("random() < 0.5", "random is not the same every time\nhint: a rule gives the same every time; to sample, compare hash(id)"),
        ("date < current_date", "current_date is not the same every time"),
        ("now() > date '2020-01-01'", "now is not the same every time"),
        ("age(date::timestamp) > interval 1 year", "age is not the same every time"),
        ("year(date::timestamp) - 1 < 2020 and date::timestamptz + interval 1 day < '2020-01-01'::timestamptz", ""),
        ("columns(*) is null", "a star"),
        ("list_sum(list_transform([1, 2], lambda x: x + 1)) > coalesce(nullif(gopher.words, 0), 3) and hash(id) % 10 < 3", ""),
        ("regexp_matches(split_part(url, '/', 3), '[.]de$') and url like '%x%' and date in ('1', '2')", ""),
        ("gopher.words < 50 -- a comment", ""),
    ],
)
def test_a_wrong_rule_is_named_and_cannot_read_files(rule: str, message: str) -> None:
    schema = scored([1]).schema
    if not message:
        Rules({"too_short": rule}, schema)
        return
    with pytest.raises(SpecError, match="drop.too_short") as caught:
        Rules({"too_short": rule}, schema)
    assert message in str(caught.value)


def test_reasons_are_fixed_words() -> None:
    with pytest.raises(SpecError, match="not a name for a reason"):
        Rules({"Too short (2)": "true"}, scored([1]).schema)


@pytest.mark.parametrize("reason", ["id", "document", "text", "hit_0", "select"])
def test_a_reason_may_be_named_as_a_column_is(reason: str) -> None:
    batch = scored([10, 60])
    assert Rules({reason: "gopher.words < 50", "other": "gopher.words > 0"}, batch.schema).decide(batch) == [[reason, "other"], ["other"]]


def test_a_reason_with_a_newline_is_none() -> None:
    with pytest.raises(SpecError, match="not a name for a reason"):
        Rules({"too_short\n": "true"}, scored([1]).schema)


def test_margins_are_read_off_a_condition() -> None:
    found = comparisons("gopher.words < 50 or language.code <> 'en'", {"gopher": {"words": 43}, "language": {"code": "de"}})
    assert found[0] == {"column": "gopher.words", "value": 43, "operator": "<", "threshold": "50", "margin": -7.0}
    assert found[1]["value"] == "de"
    assert found[1]["margin"] is None
    (found_by_table,) = comparisons("documents.gopher.words < 50", {"gopher": {"words": 43}})
    assert (found_by_table["value"], found_by_table["margin"]) == (43, -7.0)


def test_margins_are_those_of_the_whole_comparison() -> None:
    row = {"characters": {"replacements": 5, "count": 10_000}, "pii": {"emails": 30, "phone_numbers": 1}, "text": "abc", "date": None}
    (found,) = comparisons("characters.replacements > 0.01 * characters.count", row)
    assert found == {
        "column": "characters.replacements", "value": 5, "operator": ">", "threshold": "0.01 * characters.count", "limit": 100.0, "margin": -95.0,
    }  # fmt: skip
    (found,) = comparisons("pii.emails + pii.phone_numbers > 20", row)
    assert (found["column"], found["value"], found["margin"]) == ("pii.emails + pii.phone_numbers", 31, 11.0)
    (found,) = comparisons("40 > pii.emails", row)
    assert (found["column"], found["operator"], found["threshold"], found["margin"]) == ("pii.emails", "<", "40", -10.0)
    (found,) = comparisons("not (length(text) >= 5)", row)
    assert (found["column"], found["value"], found["margin"]) == ('length("text")', 3, -2.0)
    assert [f["value"] for f in comparisons("gopher.words < 50 or date < '2010'", row)] == [None, None], "what is not there is no error"
    assert comparisons("pii.emails between 3 and 5 or list_contains([pii.emails > 3], true)", row) == []


def test_explain_shows_the_condition_that_was_decided() -> None:
    row = {"characters": {"replacements": 5, "count": 10_000}, "c4": {"lorem_ipsum": True}}
    conditions = {"unreadable": "characters.replacements > 0.01 * characters.count", "lorem_ipsum": "c4.lorem_ipsum"}
    rules = [{"reason": name, "condition": text, "compared": comparisons(text, row)} for name, text in conditions.items()]
    shown = as_text(Trace("a", "web", None, {}, [Event("02-drop", "dropped", "lorem_ipsum", ["lorem_ipsum"], rules)], "text")).splitlines()
    assert "    pass  unreadable: characters.replacements = 5 (> 0.01 * characters.count = 100, margin -95)" in shown
    assert "    hit   lorem_ipsum: c4.lorem_ipsum" in shown


def test_a_shard_is_split_into_kept_and_dropped(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "in", {"a": [documents(["short", "a long enough text"])]})
    plan = make_plan("drop", "curate.select:drop_shard", tmp_path / "out", {"rules": [["too_short", "length(text) < 10"]]}, {}, shard_work(corpus))
    manifest = complete(plan, Context(Inline()), source="web", code={})
    assert manifest.ledger.dropped == {"too_short": 1}
    dropped = pq.read_table(tmp_path / "out/dropped/a.parquet").to_pylist()
    assert [(d["reason"], d["reasons"], d["bytes"]) for d in dropped] == [("too_short", ["too_short"], 5)]
