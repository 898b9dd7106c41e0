"""`curate decontaminate` as a user and CI run it: outputs, exit codes, and the comparison of two searches."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus
from test_finding_items import DISGUISES, QUESTIONS, SOLUTION, prose

from curate.cli import main
from curate.corpus import Corpus, write_json
from curate.decontaminate.diff import folder_of
from curate.workflow import RunState, Stage

ROWS: list[dict[str, Any]] = [
    {"id": "m0", "question": QUESTIONS[0], "solution": SOLUTION, "answer": "385"},
    {"id": "m1", "question": QUESTIONS[1], "answer": "62"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with one leaked item, its benchmark, and the output of a search."""
    root = tmp_path_factory.mktemp("command")
    rng = random.Random(0)
    texts = [prose(rng, 120) for _ in range(20)]
    write_corpus(root / "corpus", {"a": [documents([*texts, f"{prose(rng, 80)}\n\n{DISGUISES['verbatim']}\n\n{prose(rng, 80)}"])]})
    write_corpus(root / "more", {"a": [documents([*texts, f"{prose(rng, 80)}\n\n{QUESTIONS[1]}\n\n{prose(rng, 80)}"])]})
    (root / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (root / "empty.jsonl").write_text("")
    assert search(root, "corpus", "out") == 0
    return root


def search(root: Path, corpus: str, output: str, *more: str, against: tuple[str, ...] = ("sums.jsonl",)) -> int:
    files = [str(root / name) for name in against]
    return main(["decontaminate", str(root / corpus), "--against", *files, "--output", str(root / output), "--workers", "0", *more])


def test_everything_that_people_need_is_on_top(home: Path) -> None:
    names = {path.name for path in (home / "out").iterdir()}
    assert {"report.html", "matches.parquet", "items.parquet", "summary.json", "clean_ids", "lm_eval_samples.json", "sources"} <= names
    assert json.loads((home / "out/lm_eval_samples.json").read_text()) == {"sums": [1]}
    assert {"doc_id", "url", "source", "benchmark", "item_id", "variant", "channels", "score", "threshold", "survivor"} <= set(
        pq.read_schema(home / "out/matches.parquet").names
    )
    match = pq.read_table(home / "out/matches.parquet").to_pylist()[0]
    assert (match["variant"], match["action"], match["survivor"]) == ("verbatim", "document", False)
    assert Corpus.open(home / "out/sources/web").manifest.rows == 20


def test_a_match_can_be_cut_out_of_its_documents_by_its_characters(home: Path) -> None:
    match = pq.read_table(home / "out/matches.parquet").to_pylist()[0]
    text = next(
        t
        for b in Corpus.open(home / "corpus").batches("a")
        for i, t in zip(b["id"].to_pylist(), b["text"].to_pylist(), strict=True)
        if i == match["doc_id"]
    )
    assert text[match["doc_start"] : match["doc_end"]].startswith("Marta sells 14 copper lanterns")
    assert ROWS[0][match["channel"]][match["item_start"] : match["item_end"]].strip("?. ") in text


def test_the_exit_code_goes_by_the_share_that_was_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(home, "corpus", "out", "--fail-over", "60%") == 0
    assert search(home, "corpus", "out", "--fail-over", "0.1%") == 1
    assert "50 % of sums was found; 0.1 % is allowed" in capsys.readouterr().err


def test_what_could_not_be_looked_for_has_not_passed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(home, "more", "unlooked", "--fail-over", "100%", "--action", "record", against=("sums.jsonl", "empty.jsonl")) == 1
    assert "empty could not be checked" in capsys.readouterr().err


def test_recording_copies_no_text(home: Path) -> None:
    assert search(home, "corpus", "recorded", "--action", "record") == 0
    assert [path.name for path in (home / "recorded/sources/web").glob("*.parquet")] == []
    summary = json.loads((home / "recorded/summary.json").read_text())
    assert (summary["documents"], summary["contaminated_documents"], summary["removal"]["bytes"]) == (21, 1, 0)
    assert pq.read_table(home / "recorded/matches.parquet")["survivor"].to_pylist() == [True]


def test_what_an_earlier_search_wrote_for_other_sources_goes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(home / "other", {"a": [documents([prose(random.Random(1), 120)], source="books")]}, source="books")
    assert search(home, "other", "twice") == 0
    (home / "twice/sources/mine").mkdir()
    (home / "twice/sources/mine/plan.json").write_text("of mine")
    capsys.readouterr()
    assert search(home, "corpus", "twice", "--action", "record") == 0
    assert sorted(path.name for path in (home / "twice/sources").iterdir()) == ["mine", "web"]
    assert "this one does not search 'books'" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["mine/corpus", "mine", "mine/corpus/found", "mine/other", "theirs", "run", "run/web/found"])
def test_an_output_is_written_over_no_corpus_and_no_run(home: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine/corpus", "mine/other", "theirs/sources/web"):
        write_corpus(home / name, {"a": [documents([prose(random.Random(1), 120)])]})
    (home / "run").mkdir(exist_ok=True)
    write_json(home / "run/run.json", RunState("r", "", {}))
    before = sorted(home.rglob("*"))
    assert search(home, "mine/corpus", output) == 2
    assert "--output" in capsys.readouterr().err
    assert sorted(home.rglob("*")) == before


def test_no_documents_are_not_clean(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(home / "none", {"a": []})
    write_corpus(home / "empty", {})
    assert search(home, "corpus", "ci", "--action", "record") == 0
    assert "1 of 21" in capsys.readouterr().out
    for corpus in ("none", "empty", "ci", "ci/sources/web"):
        assert search(home, corpus, "unsearched", "--action", "record", "--fail-over", "0.1%") == 3
        assert "holds no documents to search" in capsys.readouterr().err


def test_an_empty_corpus_beside_another_is_named_and_the_other_is_searched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(home / "nobooks", {}, source="books")
    against = ["--against", str(home / "sums.jsonl"), "--workers", "0"]
    assert main(["decontaminate", str(home / "nobooks"), str(home / "corpus"), *against, "--output", str(home / "beside")]) == 0
    said = capsys.readouterr()
    assert "1 of 21" in said.out
    assert "nobooks holds no documents to search" in said.err
    assert [path.name for path in (home / "beside/sources").iterdir()] == ["web"]


def test_a_run_json_of_another_program_makes_no_run(home: Path) -> None:
    (home / "tool").mkdir()
    (home / "tool/run.json").write_text('{"name": "mine"}')
    assert search(home, "corpus", "tool/out") == 0


def test_a_wrong_number_of_workers_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["decontaminate", str(home / "corpus")], ["run", "w.yaml"]):
        with pytest.raises(SystemExit):
            main([*verb, "--workers", "many"])
        assert "'many': a whole number between 0 and 1024" in capsys.readouterr().err


def test_verify_reads_a_search_with_the_corpora_that_it_cleaned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(home, "more", "checked") == 0
    assert main(["verify", str(home / "checked")]) == 0
    shard = next((home / "checked/sources/web").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert main(["verify", str(home / "checked")]) == 1
    assert shard.name in capsys.readouterr().out


def test_two_searches_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(home, "more", "later", "--action", "record") == 0
    capsys.readouterr()
    assert main(["decontaminate", "diff", str(home / "out"), str(home / "later"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sums = found["benchmarks"]["sums"]
    assert [row["item_id"] for row in sums["newly_found"]] == ["m1"]
    assert [row["item_id"] for row in sums["gone"]] == ["m0"]
    assert (len(found["documents"]["newly_found"]), len(found["documents"]["gone"])) == (1, 1) or found["documents"]["both"] == 1
    assert any(line.startswith("corpus web differs: 21 → 21 documents") for line in found["why"])
    assert 'setting action: "document" → "record"' in found["why"]
    assert main(["decontaminate", "diff", str(home / "out"), str(home / "out")]) == 0
    assert "made of the same benchmarks, corpora, settings and code" in capsys.readouterr().out


def test_the_search_of_a_run_is_that_of_its_last_finished_step(tmp_path: Path) -> None:
    for name in ("02-decontaminate", "03-decontaminate", "04-decontaminate", "05-decontaminate"):
        (tmp_path / "together" / name).mkdir(parents=True)
        (tmp_path / "together" / name / "summary.json").write_text("{}")
    stages = [Stage("web", "decontaminate", f"web/{n:02d}-decontaminate", key) for n, key in ((2, "a"), (3, "b"), (4, ""))]
    write_json(tmp_path / "run.json", RunState("r", "", {}, stages))
    assert folder_of(tmp_path).name == "03-decontaminate"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["decontaminate", "corpus"], 2, "--against and --output must be given"),
        (["decontaminate", "diff", "a"], 2, "diff compares two"),
        (["decontaminate", "diff", "a", "b"], 3, "holds no search"),
        (["decontaminate", "corpus", "--against", "none.jsonl", "--output", "o"], 2, "no such file"),
    ],
)
def test_mistakes_are_named(
    home: Path, arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert main(arguments) == code
    assert message in capsys.readouterr().err
