"""Edits: the same rows, another text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from conftest import documents
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import edit
from curate.annotate import annotate
from curate.errors import CurateError


def edited(name: str, *texts: str | None, **options: object) -> list[str | None]:
    batch = pa.record_batch({"id": [str(k) for k in range(len(texts))], "text": pa.array(texts, pa.string())})
    result: list[str | None] = edit.edit(batch, name, options).column("text").to_pylist()
    return result


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=4), st.sampled_from(edit.NAMES))
def test_rows_stay_and_a_second_time_changes_nothing(texts: list[str | None], name: str) -> None:
    batch = pa.record_batch({"id": pa.array([str(k) for k in range(len(texts))]), "text": pa.array(texts, pa.string())})
    once = edit.edit(batch, name)
    assert once.num_rows == len(texts)
    once.validate(full=True)
    if name != "drop_citations":  # "[[1]1]" holds another one
        assert edit.edit(once, name).equals(once)


def test_a_row_is_edited_alike_in_any_slice() -> None:
    texts = ["Mail a@host.org now", "Ã©tÃ©", "one two three\nshort\nfour five six", None, "12.8.8.8.8 or 8.8.8.8"]
    batch = pa.record_batch({"text": pa.array(["padding", *texts])}).slice(1)
    for name in edit.NAMES:
        whole = edit.edit(batch, name).column("text").to_pylist()
        assert [edit.edit(batch.slice(k, 1), name).column("text")[0].as_py() for k in range(len(texts))] == whole


def test_nothing_to_do_is_the_same_batch() -> None:
    batch = pa.record_batch({"text": ["plain text that has nothing wrong"]})
    assert all(edit.edit(batch, name) is batch for name in edit.NAMES)


STEPS = """
import pyarrow as pa

def plainly(batch, *, to: str | None = "new"):
    return batch.set_column(batch.schema.get_field_index("text"), "text", pa.array([to] * batch.num_rows, pa.string()))

def emptied(batch):
    at = batch.schema.get_field_index("text")
    return batch.set_column(at, batch.schema.field(at), pa.array([None] * batch.num_rows, pa.string()))

def moved(batch):
    names = batch.schema.names
    return pa.RecordBatch.from_arrays([pa.array(["x"] * batch.num_rows) if n in ("url", "source") else batch.column(n) for n in names], names=names)

def typed(batch):
    return batch.set_column(batch.schema.get_field_index("text"), "text", pa.array([1] * batch.num_rows))
"""


def test_a_text_set_without_its_field_is_taken(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    batch = documents(["old", "older"])
    result = edit.edit(batch, "./steps.py:plainly", {}, tmp_path)
    assert result.schema.equals(batch.schema)
    assert result.column("text").to_pylist() == ["new", "new"]
    for name, options in (("plainly", {"to": None}), ("emptied", {})):
        with pytest.raises(CurateError, match=r"put 2 nulls into the column 'text'.*\n?hint: .*empty text"):
            edit.edit(batch, f"./steps.py:{name}", options, tmp_path)
    with pytest.raises(CurateError, match="changed the columns of the batch .no text: string, has text: int64."):
        edit.edit(batch, "./steps.py:typed", {}, tmp_path)
    with pytest.raises(CurateError, match=r"changed the values of source, url\nhint: an edit changes the text only"):
        edit.edit(batch, "./steps.py:moved", {}, tmp_path)


def test_mask_pii() -> None:
    text = "é: jane@host.org (8.8.8.8), DE89 3704 0044 0532 0130 00, 4111 1111 1111 1111, +49 711 1234567."
    assert edited("mask_pii", text) == ["é: email@example.com (192.0.2.1), [IBAN], [CARD], +49 711 1234567."]
    assert edited("mask_pii", text, phone_number="[PHONE]", email=None, ip_address=None, iban=None, credit_card=None) == [
        "é: jane@host.org (8.8.8.8), DE89 3704 0044 0532 0130 00, 4111 1111 1111 1111, [PHONE]."
    ]


def test_masked_text_has_no_personal_data() -> None:
    masked = edited("mask_pii", "a@b.org b@c.org 9.9.9.9 and 4111111111111111 or GB82 WEST 1234 5698 7654 32")
    counts = annotate(pa.record_batch({"text": masked}), "pii")[0].as_py()
    assert set(counts.values()) == {0}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("A line of words.\nPlease enable JavaScript to continue.\nAnother line of words.", {}, "A line of words.\nAnother line of words."),
        ("We use cookies on this site.\nReal text stands here.", {}, "Real text stands here."),
        ("Home\n\nReal text stands here.\n\nMenu\n\nMore real text here.\n\nTop", {}, "Real text stands here.\n\nMore real text here."),
        ("Home\n\nReal text stands here.\n \nMore real text here.\n", {"blank": True}, "Real text stands here.\nMore real text here."),
        ("Home\nMenu", {}, ""),
        ("\n\nKept as it is.\n\n\nAnd so on here.\n", {}, "\n\nKept as it is.\n\n\nAnd so on here.\n"),
        ("x" * 1001 + " and words\nReal text stands here.", {}, "Real text stands here."),
        ("No mark at the end\nA mark stands here.", {"terminal_punctuation": True}, "A mark stands here."),
        ("12 likes today\n1,204 comments\n3 likes for ever and ever", {"counters": True, "min_words_per_line": 1},
         "12 likes today\n3 likes for ever and ever"),
        ("Sign in to read\nWords that he would sign in the presence of ten other witnesses.", {"calls": True},
         "Words that he would sign in the presence of ten other witnesses."),
        ("1 2 3 4\nroom 1 2 3", {"numbers": True}, "room 1 2 3"),
        ("BUY IT RIGHT NOW\nBuy it right now", {"max_uppercase": 0.5}, "Buy it right now"),
        ("Home\nReal text stands here.", {"min_words_per_line": 1}, "Home\nReal text stands here."),
    ],
)  # fmt: skip
def test_drop_lines(text: str, options: dict[str, object], expected: str) -> None:
    assert edited("drop_lines", text, **options) == [expected]


def test_drop_citations() -> None:
    assert edited("drop_citations", "Known[1][23] facts[citation needed] here[edit].", "a[i] = [1, 2]") == ["Known facts here.", "a[i] = [1, 2]"]


@pytest.mark.parametrize("text", ["é", "naïve café", "“quoted” – dash…", "日本語のテキスト", "Привет, мир", "👍 ok"])
@pytest.mark.parametrize("times", [1, 2])
def test_mojibake_is_undone(text: str, times: int) -> None:
    garbled = text
    for _ in range(times):
        garbled = garbled.encode().decode("latin-1")
    assert edited("fix_mojibake", garbled) == [text]


def test_windows_mojibake_is_undone_and_sound_text_is_kept() -> None:
    assert edited("fix_mojibake", "â€œquotedâ€\x9d â€“ itâ€™s", "Ã‰tÃ© à la plage") == ["“quoted” – it’s", "Été à la plage"]
    sound = ["AÑO «Ñandú»", "São Paulo â la carte", "£5 ©", "Größe", "漢字"]
    assert edited("fix_mojibake", *sound) == sound


def test_a_lossy_conversion_is_left_alone() -> None:
    assert edited("fix_mojibake", "caf\ufffd and na\ufffdve") == ["caf\ufffd and na\ufffdve"]
