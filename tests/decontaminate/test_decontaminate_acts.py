"""What is removed, and what the report says."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_finding_items import DISGUISES, ITEMS, QUESTIONS, batch_of, prose

from curate.decontaminate import match as match_module
from curate.decontaminate import variant as variant_module
from curate.decontaminate.act import PARAPHRASE, VARIANTS, Policy, cut, decide, settled, with_verdicts
from curate.decontaminate.index import Options, build_index
from curate.decontaminate.match import MATCHES, scan
from curate.decontaminate.tally import item_table, summarize, wilson
from curate.decontaminate.variant import SIBLING


def test_documents_are_dropped_with_the_item_that_they_hold() -> None:
    index = build_index(ITEMS)
    batch = batch_of(["clean text", "Before. " + QUESTIONS[1] + " After."])
    verdicts = decide(batch, scan(batch, index), Policy())
    assert verdicts.kept == [True, False]
    detail = json.loads(verdicts.details[1] or "")
    assert (detail["benchmark"], detail["item"], detail["matches"]) == ("sums", "m1", 1)
    assert decide(batch, scan(batch, index), Policy("record")).kept == [True, True]


def test_spans_are_cut_to_the_end_of_their_sentence() -> None:
    index = build_index(ITEMS)
    before, after = prose(random.Random(1), 60), prose(random.Random(2), 60)
    batch = batch_of([f"{before} {QUESTIONS[1]} {after}", QUESTIONS[1]])
    verdicts = decide(batch, scan(batch, index), Policy("span"))
    assert verdicts.texts == [f"{before}\n\n{after}", None]
    assert verdicts.changed == [True, True]


def test_an_item_that_stands_in_a_document_again_and_again_is_cut_everywhere() -> None:
    index = build_index(ITEMS)
    parts = [prose(random.Random(seed), 132) for seed in range(4)]
    batch = batch_of([f" {QUESTIONS[1]} ".join(parts), " ".join([QUESTIONS[1]] * 30), parts[0]])

    def search(part: pa.RecordBatch) -> pa.Table:
        return scan(part, index)

    verdicts = settled(batch, decide(batch, search(batch), Policy("span")), search, Policy("span"))
    assert verdicts.texts == ["\n\n".join(parts), None, parts[0]]


def match_of(document: str, variant: str = "verbatim", score: float = 1.0, span: tuple[int, int] = (0, 0), counted: bool = True) -> dict[str, Any]:
    """A row of matches, with what acting looks at."""
    row: dict[str, Any] = dict.fromkeys(MATCHES.names) | {"doc_id": document, "benchmark": "b", "item_id": "i", "item": 0}
    row |= {"variant": variant, "counted": counted, "channels": ["question"], "channel": "question", "doc_excerpt": "", "item_excerpt": ""}
    row |= {"score": score, "threshold": 0.5, "information": 5.0, "item_start": 0, "item_end": 0}
    return row | {"doc_start": span[0], "doc_end": span[1]}


def test_siblings_remove_nothing_unless_a_rule_names_them() -> None:
    matches = pa.Table.from_pylist([match_of("d0", "template_sibling", counted=False)], MATCHES)
    batch = batch_of(["text"])
    assert decide(batch, matches, Policy()).kept == [True]
    assert decide(batch, matches, Policy()).details == [None]
    assert decide(batch, matches, Policy(actions={"template_sibling": "document"})).kept == [False]


def test_rules_go_by_variant_and_score_and_the_strongest_of_a_document_counts() -> None:
    text = "One. " + "keep this sentence here " * 12 + "end.\nLEAK one two.\n" + "and also keep this here " * 12
    at = text.index("LEAK")
    span = (at, at + len("LEAK one two."))
    batch = batch_of([text] * 4)
    rows = [
        match_of("d0", "numbers_changed"),
        match_of("d1", "truncated", span=span),
        match_of("d2", "verbatim", 0.6),
        match_of("d3", "truncated", span=span),
    ]
    matches = pa.Table.from_pylist([*rows, match_of("d3")], MATCHES)
    policy = Policy(actions={"numbers_changed": "record", "truncated": "span"}, min_score=0.7)
    verdicts = decide(batch, matches, policy)
    assert verdicts.kept == [True, True, True, False]
    assert verdicts.changed == [False, True, False, True]
    assert "LEAK" not in (verdicts.texts[1] or "")
    stored = with_verdicts(matches, batch, verdicts, policy).to_pylist()
    assert [(row["doc_id"], row["action"], row["survivor"]) for row in stored] == [
        ("d0", "record", True),
        ("d1", "span", True),
        ("d2", "record", True),
        ("d3", "span", False),
        ("d3", "document", False),
    ]


def test_rules_know_every_variant_that_a_match_can_have() -> None:
    named = {"canary", PARAPHRASE, SIBLING}
    for module, function in ((variant_module, "variant"), (match_module, "_named")):
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        (body,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
        for returned in [node.value for node in ast.walk(body) if isinstance(node, ast.Return) and node.value]:
            ends = [returned]
            while ends:
                end = ends.pop()
                if isinstance(end, ast.IfExp):
                    ends += [end.body, end.orelse]
                elif isinstance(end, ast.Constant):
                    named.add(end.value)
    assert len(named) > 10
    assert named == set(VARIANTS)


def test_a_paraphrase_is_recorded_unless_a_rule_names_it() -> None:
    matches = pa.Table.from_pylist([match_of("d0", "paraphrase")], MATCHES)
    assert decide(batch_of(["text"]), matches, Policy()).kept == [True]
    assert decide(batch_of(["text"]), matches, Policy(actions={"paraphrase": "document"})).kept == [False]


@given(st.text(alphabet="ab .\n", max_size=80), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), max_size=4), st.integers(0, 30))
def test_a_cut_removes_at_least_its_spans_and_adds_nothing(text: str, raw: list[tuple[int, int]], margin: int) -> None:
    spans = [(min(a, len(text)), min(a + n, len(text))) for a, n in raw]
    gone = {i for a, b in spans for i in range(a, b)}
    left = cut(text, spans, margin)
    kept = [c for i, c in enumerate(text) if i not in gone and not c.isspace()]
    got = [c for c in left if not c.isspace()]
    assert len(got) <= len(kept)
    remaining = iter(kept)
    assert all(c in remaining for c in got)  # a subsequence
    if margin == 0:
        assert got == kept


def test_the_report_counts_items_and_says_what_could_not_be_found() -> None:
    index = build_index(ITEMS)
    matches = scan(batch_of([DISGUISES["verbatim"], DISGUISES["numbers_changed"], "nothing"]), index)
    summary = summarize(matches, index, 3)
    sums, quiz, empty = (summary["benchmarks"][name] for name in ("sums", "quiz", "empty"))
    assert (sums["items"], sums["scannable"], sums["contaminated"], sums["documents"]) == (2, 2, 1, 2)
    assert sums["variants"] == {"numbers_changed": 1, "verbatim": 1}
    assert sums["domains"] == [("x.org", 2)]
    assert quiz["unscannable"] == {"too_short": 1}
    assert (empty["items"], empty["rate"], empty["interval"]) == (0, None, (0.0, 1.0))
    assert "nothing was looked for" in empty["note"]
    assert summary["contaminated_documents"] == 2
    assert "paraphrase" in summary["meaning"]
    assert "1 of 5 items could not be looked for" in summary["meaning"]
    json.dumps(summary)


def test_every_item_is_listed_once_with_a_reason_if_it_cannot_be_found() -> None:
    index = build_index(ITEMS, Options(min_information=500.0, min_whole_information=500.0))
    items = item_table(MATCHES.empty_table(), index).to_pylist()
    assert [row["item_id"] for row in items] == ["m0", "m1", "q0", "q1", "c0"]
    assert not any(row["indexed"] for row in items)
    assert {row["reason"] for row in items} <= {"too_short", "too_common", "only_template_text"}
    assert summarize(MATCHES.empty_table(), index)["meaning"].startswith("Nothing could have been found")


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 100, 0.0, 0.0370), (50, 100, 0.4038, 0.5962), (100, 100, 0.9630, 1.0), (0, 0, 0.0, 1.0)]
)
def test_wilson_intervals(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
