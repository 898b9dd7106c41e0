"""Specs are strict: what is wrong is named with its file, line, path and the nearest known key, before anything runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from curate.errors import SpecError
from curate.specs.load import load_spec, resolved
from curate.specs.mix import Mix
from curate.specs.workflow import Workflow

GOOD = """\
name: demo
sources:
  web:
    - ingest: {warc: data/*.warc.gz}
    - annotate: [language, {gopher: {stop_words: [the]}}]
    - drop:
        too_short: gopher.words < 50
  code:
    - ingest: {jsonl: code/*.jsonl}
together:
  - dedup:
      minhash: {ngram: 5}
"""


def load(tmp_path: Path, text: str) -> Workflow:
    path = tmp_path / "demo.yaml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path, Workflow)


def test_a_good_spec_loads_with_every_default_filled_in(tmp_path: Path) -> None:
    data = resolved(load(tmp_path, GOOD))
    assert data["together"][0]["dedup"]["minhash"] == {"ngram": 5, "bands": 14, "rows": 8, "verify": 0.7}
    assert data["errors"]["max_share"] == 0.01
    again = msgspec.convert(data, Workflow)
    assert resolved(again) == data


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ("minhash:", "minhsh:", 12, "unknown key 'minhsh' at together[0].dedup", "did you mean 'minhash'?"),
        ("{ngram: 5}", "{ngrm: 5}", 12, "unknown key 'ngrm' at together[0].dedup.minhash", "did you mean 'ngram'?"),
        ("{ngram: 5}", "{ngram: five}", 12, "Expected int, got str at together[0].dedup.minhash.ngram", ""),
        ("{ngram: 5}", "{ngram: 0}", 12, "Expected int >= 1 at together[0].dedup.minhash.ngram", ""),
        ("- annotate:", "- anotate:", 5, "unknown key 'anotate' at sources.web[1]", "did you mean 'annotate'?"),
        ("ingest: {jsonl: code/*.jsonl}", "ingest: {json: code/*.jsonl}", 9, "unknown key 'json' at sources.code[0].ingest", "did you mean 'jsonl'?"),
        ("ingest: {jsonl: code/*.jsonl}", "ingest: {}", 9, "exactly one of warc, pdf, jsonl, parquet, files; got none", ""),
        ("  code:\n    - ingest", "  code:\n    - drop: {a: b}\n    - ingest", 1, "source 'code' must begin with ingest", ""),
        ("  code:", "  Code:", 8, "Z', got 'Code' at sources", ""),
        ("name: demo\n", "", 1, "missing key name", "known keys: name"),
        ("name: demo\n", "name: demo\nname: again\n", 2, "key 'name' stands twice", "first on line 1"),
        ("name: demo\n", "name: demo: more\n", 1, "is not YAML", ""),
        (
            "together:\n",
            "together:\n  - decontaminate: {against: [x], span_margin: -5}\n",
            11,
            "Expected int >= 0 at together[0].decontaminate.span_margin",
            "",
        ),
        ("together:\n", "together:\n  - ingest: {warc: x}\n", 1, "'ingest' cannot stand under together", "put it first in a source"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, line: int, message: str, hint: str) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert message in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where.startswith(f"{tmp_path}/demo.yaml:")
    assert abs(int(caught.value.where.rpartition(":")[2]) - line) <= 1


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ("evals:\n  docs: x\n  _docs: y\nsources: {a: x, b: y}", 4, "got '_docs' at evals"),
        ("evals: {docs: x}\nsources:\n  a: x\n  (b): y", 5, "got '(b)' at sources"),
        ("evals: {docs: x}\nsources:\n  a: x\n  b: {buckets: {low: y,\n    h.igh: z}}", 6, "got 'h.igh' at sources.b.buckets"),
        ("evals: {docs: x}\nsources:\n  a: x\n  b: {shard: y}", 5, "unknown key 'shard' at sources.b"),
    ],
)
def test_a_key_that_is_no_name_is_named(tmp_path: Path, lines: str, line: int, message: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("name: m\n" + lines + "\ntarget: {tokens: 3}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path, Mix)
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.what.endswith(message)


def test_a_source_whose_tokens_are_counted_and_typed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    text = "name: m\nevals: {docs: x}\ntarget: {tokens: 3}\nsources:\n  a: x\n  b: {shards: y, tokens: 5000}\n"
    path.write_text(text)
    with pytest.raises(SpecError, match="a source has either shards or tokens") as caught:
        load_spec(path, Mix)
    assert caught.value.where == f"{path}:6" and caught.value.hint.startswith("shards are counted")
    for key in ("shards: y, ", ", tokens: 5000"):
        path.write_text(text.replace(key, ""))
        assert len(load_spec(path, Mix).sources) == 2


def test_an_empty_or_missing_spec_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is empty"):
        load(tmp_path, "# nothing\n")
    with pytest.raises(SpecError, match="no such spec") as caught:
        load_spec(tmp_path / "demos.yaml", Workflow)
    assert "did you mean 'demo'?" in caught.value.hint


def test_words_and_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD.replace("name: demo", "name: no\nseed: 7\ndescription: on\nerrors: {max_share: 1e-3}"))
    assert (spec.name, spec.description, spec.errors.max_share) == ("no", "on", 0.001)


BASE = "name: a\nsources:\n  web:\n    - ingest: {jsonl: x}\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100,000 values"),
        ("name: &a [*a]\n", "nested deeper"),
        ("name: " + "[" * 3000 + "]" * 3000, "nested deeper"),
        (BASE + "seed: !!python/object:os.system 3\n", "the tag !!python/object:os.system is not allowed"),
        (BASE + "? [1, 2]\n: 3\n", "a key must be a word"),
        (BASE + "seed: !!int abc\n", "'abc' is not a number"),
        (BASE + "seed: " + "9" * 5000 + "\n", "is not a number"),
        (BASE + "seed: " + "9" * 30 + "\n", "does not fit into 64 bits"),
        (BASE + "errors:\n  <<: 3\n", "expected a mapping"),
        (BASE + "errors: {<<: {max_share: 7}}\n", "at errors.max_share"),
        (BASE + "run: !!timestamp foo\n", "!!timestamp is not allowed"),
        (BASE + 'run: "a\\0b"\n', "zero character"),
        (BASE + "errors: {max_documents: -5}\n", ">= 0"),
        (BASE.replace("name: a", 'name: "a\\n"'), "matching regex"),
        (BASE.replace("web:", "together:"), "cannot name a source"),
        (BASE.replace("web:", "mix:"), "cannot name a source"),
        (BASE + "together:\n  - rephrase: {model: m, into: logs}\n", "cannot name what is rephrased"),
        (BASE + "    - classify: {classifier: q}\n", "move 'classify' under together:"),
        (BASE + "    - drop: {}\n", "length >= 1"),
        (BASE + "    - filter: {}\n", "length >= 1"),
        (BASE + "    - annotate: []\n", "length >= 1"),
        (BASE + "    - annotate: [{}]\n", "length >= 1"),
        (BASE.replace("jsonl: x", "jsonl: []"), "length >= 1"),
    ],
    ids=range(23),
)
def test_what_no_spec_needs_is_refused_without_a_traceback(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(path, Workflow)
    assert message in str(caught.value)
