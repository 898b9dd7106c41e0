"""A classifier from its spec to its scores: labels, split, files, card, and the step of a workflow."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.classify.labels import gather, label_files, part_of
from curate.classify.model import evaluate_command, load, score, score_command, train, train_command
from curate.classify.stage import classify
from curate.cli import main
from curate.corpus import Corpus, verify
from curate.engine import Context, Inline
from curate.errors import BudgetError, InputError, SpecError
from curate.project import Fingerprints
from curate.specs.classifier import Classifier, Examples
from curate.specs.load import load_spec
from curate.specs.workflow import Budget, Classify, Ingest, Rephrase, Step, Workflow
from curate.workflow import Arguments, Project

REPOSITORY = Path(__file__).parents[2]
SPEC = """
name: quality
positive: [{jsonl: labels/*.jsonl, equals: {label: good}}]
negative: [{jsonl: labels/*.jsonl, equals: {label: [bad, spam]}}]
features: {buckets: 1000, dim: 8, min_count: 1}
"""


def good(rng: random.Random) -> str:
    return "The function returns " + " ".join(rng.choices(["value", "argument", "list", "error", "module", "object", "type"], k=12))


def bad(rng: random.Random) -> str:
    return "Buy now " + " ".join(rng.choices(["cheap", "offer", "casino", "click", "free", "winner", "object", "type"], k=12))


def rows(num: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    made = []
    for i in range(num):
        positive = rng.random() < 0.5
        made.append({"text": good(rng) if positive else bad(rng), "label": "good" if positive else rng.choice(["bad", "spam"]), "n": i})
    return made


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "labels" / "a.jsonl", rows(400))
    (tmp_path / "classifiers").mkdir()
    (tmp_path / "classifiers" / "quality.yaml").write_text(SPEC)
    return tmp_path


def spec(root: Path, **changes: Any) -> Classifier:
    loaded = load_spec(root / "classifiers" / "quality.yaml", Classifier)
    return Classifier(**{name: getattr(loaded, name) for name in loaded.__struct_fields__} | changes)


# ── labels ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_do_not_depend_on_files_or_lines(root: Path) -> None:
    before, counts = gather(spec(root), root)
    lines = rows(400)[::-1]
    write(root / "labels" / "a.jsonl", lines[:150])
    write(root / "labels" / "b.jsonl", [*lines[150:], lines[160]])
    after, again = gather(spec(root), root)
    assert after == before
    assert again == counts | {"num_duplicates": counts["num_duplicates"] + 1}
    write(root / "labels" / "a.jsonl.gz", lines)
    packed = [Examples(jsonl="labels/a.jsonl.gz", equals={"label": "good"})]
    assert gather(spec(root, positive=packed), root)[0] == before


def test_a_project_whose_name_looks_like_a_pattern_has_labels_of_its_own(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "crawl1" / "labels" / "theirs.jsonl", rows(4))
    write(tmp_path / "crawl[12]" / "labels" / "ours.jsonl", rows(4))
    assert [path.name for path in label_files(Examples(jsonl="labels/*.jsonl"), tmp_path / "crawl[12]")] == ["ours.jsonl"]


def test_a_text_stays_in_its_part_when_others_come(root: Path) -> None:
    chosen = spec(root)
    labeled, _ = gather(chosen, root)
    parts = [part_of(text, chosen) for text in labeled.texts]
    shares = {name: parts.count(name) / len(parts) for name in ("train", "calibrate_on", "held_out")}
    assert shares["held_out"] == pytest.approx(0.2, abs=0.06)
    assert shares["calibrate_on"] == pytest.approx(0.1, abs=0.05)
    assert sum(shares.values()) == 1
    assert set(labeled.part(chosen, "train").texts).isdisjoint(labeled.part(chosen, "held_out").texts)


def test_texts_under_both_labels_are_left_out(root: Path) -> None:
    before, _ = gather(spec(root), root)
    first = rows(400)[0]
    write(root / "labels" / "b.jsonl", [first | {"label": "bad" if first["label"] == "good" else "good"}, {"text": " \n", "label": "good"}])
    labeled, counts = gather(spec(root), root)
    assert counts["num_conflicting"] == 1
    assert set(before.texts) - set(labeled.texts) == {first["text"]}


def test_samples_are_of_the_size_asked_for_and_by_hash(root: Path) -> None:
    sampled = [Examples(jsonl="labels/a.jsonl", equals={"label": "good"}, sample=60)]
    labeled, _ = gather(spec(root, positive=sampled), root)
    assert sum(labeled.labels) == 60
    write(root / "labels" / "a.jsonl", rows(400)[::-1])
    assert gather(spec(root, positive=sampled), root)[0] == labeled


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "x", "label": "good"}\n{"text": 5, "label": "good"}\n', r"a.jsonl:2: field 'text' is not a text"),
        ('{"text": "x", "label": "good"}\n{"tex', r"a.jsonl:2: is not JSON"),
        ("[1]\n", r"a.jsonl:1: is not a JSON object"),
        ('{"text": "x", "label": "fine"}\n', r"no line of .* has label = 'good'"),
        ('{"text": "x", "label": "good"}\n{"text": "y", "label": "bad"}\n', r"too few"),
    ],
)
def test_what_is_wrong_with_labels_is_said(root: Path, content: str, message: str) -> None:
    (root / "labels" / "a.jsonl").write_text(content)
    with pytest.raises((InputError, SpecError), match=message):
        gather(spec(root), root)


def test_missing_labels_and_sources_outside_of_a_run(root: Path) -> None:
    with pytest.raises(SpecError, match="no labels match 'nowhere/"):
        gather(spec(root, positive=[Examples(jsonl="nowhere/*.jsonl")]), root)
    with pytest.raises(SpecError, match="exist only within a run"):
        gather(spec(root, positive=[Examples(source="web")]), root)


def test_true_is_not_one_in_a_label_file(root: Path) -> None:
    write(root / "labels" / "a.jsonl", [row | {"label": row["label"] == "good"} for row in rows(400)])
    numbers = [Examples(jsonl="labels/a.jsonl", equals={"label": 1})]
    with pytest.raises(SpecError, match="no line"):
        gather(spec(root, positive=numbers), root)
    flags = {
        "positive": [Examples(jsonl="labels/a.jsonl", equals={"label": True})],
        "negative": [Examples(jsonl="labels/a.jsonl", equals={"label": False})],
    }
    assert gather(spec(root, **flags), root)[1]["num_positive"] > 100


# ── the spec ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_spec_states_every_key() -> None:
    path = REPOSITORY / "classifiers" / "quality.yaml"
    loaded, text = load_spec(path, Classifier), path.read_text()
    assert loaded.name == "quality"
    for field in [*Classifier.__struct_fields__, *Examples.__struct_fields__, *loaded.features.__struct_fields__]:
        assert f"{field}:" in text, field


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("positve: []", "did you mean 'positive'"),
        ("held_out: 0", "nobody evaluated"),
        ("held_out: 0.9", "leave less than a tenth"),
        ("engine: bert", "engine"),
        ("features: {dims: 3}", "did you mean 'dim'"),
        ("calibrate_on: 0.0", "calibration needs texts"),
    ],
)
def test_wrong_specs_fail_with_a_hint(root: Path, line: str, message: str) -> None:
    path = root / "classifiers" / "quality.yaml"
    path.write_text("\n".join(old for old in SPEC.splitlines() if not old.startswith(line.partition(":")[0] + ":")) + f"\n{line}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path, Classifier)
    assert message in str(caught.value)


def test_examples_name_one_thing(root: Path) -> None:
    for wrong in ({}, {"jsonl": "x", "source": "y"}, {"source": "x", "equals": {"a": 1}}, {"jsonl": "x", "where": "true"}):
        with pytest.raises(ValueError, match="examples take exactly one|belongs to"):
            Examples(**wrong)


# ── a trained classifier ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", ["fasttext", "logistic"])
@pytest.mark.parametrize("calibration", ["platt", "isotonic", "none"])
def test_train_store_open_score(root: Path, engine: str, calibration: str) -> None:
    path = root / "classifiers" / "quality.yaml"
    path.write_text(f"{SPEC}engine: {engine}\ncalibration: {calibration}\n")
    record = train_command(path, root, root / "out")
    assert record["evaluation"]["auc"] > 0.95
    assert evaluate_command(root / "out") == record["evaluation"]
    model = load(root / "out")
    rng = random.Random(9)
    batch = documents([good(rng), bad(rng), "", "漢字 \x00 nothing known", good(rng) * 2000])
    scores = score(batch, model).to_pylist()
    assert scores[0]["score"] > 0.7 > 0.3 > scores[1]["score"]
    assert all(0 <= row["score"] <= 1 and 0 <= row["raw"] <= 1 for row in scores)
    for i, row in enumerate(scores):
        assert score(batch.slice(i, 1), model).to_pylist() == [row]
    assert score(batch.slice(0, 0), model).to_pylist() == []


def test_training_again_gives_the_same_files(root: Path) -> None:
    first, second = train(spec(root), root)[1], train(spec(root), root)[1]
    assert first == second
    shutil.copytree(root / "labels", root / "elsewhere" / "labels")
    assert train(spec(root), root / "elsewhere")[1] == first  # no path in them


def test_only_the_first_characters_count(root: Path) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    model = load(root / "out")
    rng = random.Random(3)
    long = (good(rng) + " ") * 100
    head, tail = documents([long[:5000]]), documents([long[:5000] + " " + bad(rng) * 500])
    assert score(head, model) == score(tail, model)


def test_the_model_card(root: Path) -> None:
    path = root / "classifiers" / "quality.yaml"
    path.write_text(SPEC + "description: 'Pages | with <script>alert(1)</script>'\n")
    record = train_command(path, root, root / "out")
    card = (root / "out" / "README.md").read_text()
    assert "<script>" not in card
    for what in (record["model_sha256"], record["data"]["sha256"], "labels/*.jsonl", "## Limits", f"{record['evaluation']['auc']:.4f}"):
        assert what in card
    assert "read the interval" in card  # fewer than 100 held-out texts of the rarer label
    table = [line for line in card.splitlines() if line.startswith("| ")]
    assert all(line.count("|") - line.count("\\|") in (3, 5, 9) for line in table)


def test_damaged_folders_are_refused(root: Path) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    with pytest.raises(InputError, match="no trained classifier here"):
        load(root / "nothing")
    weights = root / "out" / "model.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="has changed since it was trained"):
        load(root / "out")
    weights.write_bytes(content)
    record = json.loads((root / "out" / "classifier.json").read_text())
    for wrong, message in (
        (record | {"preparation": "other"}, "prepared by 'other'"),
        ({}, "not a trained classifier"),
        ([], "not a trained classifier"),
    ):
        (root / "out" / "classifier.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            load(root / "out")


def test_scoring_a_file(root: Path) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    write(root / "many.jsonl", rows(1500))
    found = list(score_command(root / "out", root / "many.jsonl"))
    assert [row["n"] for row in found] == list(range(1500))
    right = sum((row["score"] > 0.5) == (row["label"] == "good") for row in found)
    assert right > 1400
    (root / "many.jsonl").write_text('{"text": "\\ud800 half"}\n{"body": "x"}\n')
    with pytest.raises(InputError, match="many.jsonl:2: field 'text' is not a text"):
        list(score_command(root / "out", root / "many.jsonl"))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "[{}, [NaN]]"])
def test_a_number_that_cannot_be_written_again_is_refused(root: Path, number: str) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    (root / "odd.jsonl").write_text(f'{{"text": "some words", "n": {2**53}}}\n{{"text": "some words", "n": {number}}}\n')
    with pytest.raises(InputError, match="odd.jsonl:2: holds a number"):
        list(score_command(root / "out", root / "odd.jsonl"))


def test_a_line_may_be_nested_deep_and_one_that_is_too_deep_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    command = ["classifier", "score", str(root / "out"), str(root / "deep.jsonl")]
    for depth, code in ((500, 0), *((depth, None) for depth in range(900, 1000, 7)), (100_000, 3)):
        nested = "[" * depth + "]" * depth
        (root / "deep.jsonl").write_text(f'{{"text": "some words", "x": {nested}}}\n')
        found = main(command)
        assert found in ((0, 3) if code is None else (code,))
        said = capsys.readouterr()
        assert nested in said.out if found == 0 else "deep.jsonl:1: is n" in said.err


def test_a_folder_that_holds_something_else_is_not_written_into(root: Path) -> None:
    spec = root / "classifiers" / "quality.yaml"
    (root / "README.md").write_text("mine")
    with pytest.raises(SpecError, match="is not empty, and holds no classifier"):
        train_command(spec, root, root)
    assert (root / "README.md").read_text() == "mine"
    (root / "out").mkdir()
    train_command(spec, root, root / "out")
    train_command(spec, root, root / "out")


def test_a_training_that_was_killed_while_it_wrote_is_done_again(root: Path) -> None:
    spec, out = root / "classifiers" / "quality.yaml", root / "out"
    train_command(spec, root, out)
    (out / "classifier.json").unlink()
    (out / "model.bin").write_bytes(b"cut")
    train_command(spec, root, out)
    load(out)
    for names in (["README.md"], ["model.bin", "mine"]):
        for path in out.iterdir():
            path.unlink()
        for name in names:
            (out / name).write_text("mine")
        with pytest.raises(SpecError, match="is not empty, and holds no classifier"):
            train_command(spec, root, out)


def test_what_a_line_had_is_still_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_command(root / "classifiers" / "quality.yaml", root, root / "out")
    line = r'{"text":"some words","title":"\ud800 half","score":7}'
    (root / "scored.jsonl").write_text(f'{{"text":"\xe9"}}\n{line}\n', encoding="utf-8")
    command = ["classifier", "score", str(root / "out"), str(root / "scored.jsonl")]
    assert main(command) == 3
    assert "scored.jsonl:2: has a field 'score' already" in capsys.readouterr().err
    assert main([*command, "--name", "quality"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('{"text":"\xe9","quality":{"score":')
    assert second.startswith(line[:-1] + ',"quality":{"score":')


# ── the step ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def arguments(root: Path) -> Arguments:
    run, rng = root / "runs" / "w", random.Random(5)
    web = write_corpus(run / "web" / "01-ingest", {"00000": [documents([good(rng), bad(rng), ""])], "00001": [documents([bad(rng)] * 2, file="b")]})
    code = write_corpus(run / "code" / "01-ingest", {"00000": [documents([good(rng) for _ in range(30)], "code")]}, "code")
    workflow = Workflow(name="w", sources={"web": [Step(ingest=Ingest(warc="*.warc.gz"))]})
    project = Project(root, root / "classifiers", run, 0, Fingerprints(root / "f.json"), workflow)
    targets = {source: run / source / "02-classify" for source in ("web", "code")}
    said: list[str] = []
    return Arguments({"web": web, "code": code}, targets, run / "together" / "02-classify", project, Context(Inline()), said.append)


def test_the_step_trains_once_and_scores_every_source(arguments: Arguments, context: Context) -> None:
    arguments = msgspec.structs.replace(arguments, context=context)  # real worker processes
    manifests = classify(Classify(classifier="quality"), arguments)
    assert list(manifests) == ["web", "code"]
    assert (manifests["web"].ledger.entered, manifests["web"].ledger.kept) == (5, 5)
    corpus = Corpus.open(arguments.targets["web"])
    found = [row for shard in corpus.shards for batch in corpus.batches(shard) for row in batch.to_pylist()]
    assert found[0]["quality"]["score"] > 0.7 > 0.3 > found[1]["quality"]["score"]
    model = load(arguments.scratch)
    assert found[0]["quality"] == score(pa.RecordBatch.from_pylist([{"text": found[0]["text"]}]), model).to_pylist()[0]
    assert "classifier quality: AUC" in arguments.say.__self__[0]
    assert verify(arguments.scratch) == []
    assert verify(arguments.targets["code"]) == []
    before = (arguments.scratch / "model.bin").stat().st_mtime_ns
    assert classify(Classify(classifier="quality"), arguments) == manifests
    assert (arguments.scratch / "model.bin").stat().st_mtime_ns == before
    absolute = str(arguments.project.root).encode()
    assert not [path for path in arguments.project.run.rglob("manifest.json") if absolute in path.read_bytes()]


def test_changed_labels_train_and_score_again(arguments: Arguments, root: Path) -> None:
    first = classify(Classify(classifier="quality"), arguments)
    write(root / "labels" / "b.jsonl", [{"text": "a value of some type", "label": "good"}])
    second = classify(Classify(classifier="quality"), arguments)
    assert first["web"].key != second["web"].key


def test_examples_from_a_source_of_the_run(arguments: Arguments, root: Path) -> None:
    path = root / "classifiers" / "quality.yaml"
    path.write_text(SPEC.replace("{jsonl: labels/*.jsonl, equals: {label: good}}", "{source: code, where: 'length(text) > 10', sample: 25}"))
    classify(Classify(classifier="quality"), arguments)
    texts = {row["text"] for batch in arguments.sources["code"].batches("00000") for row in batch.to_pylist()}
    held_out = pq.read_table(arguments.scratch / "held_out.parquet").to_pylist()
    assert {row["text"] for row in held_out if row["positive"]} <= texts
    assert json.loads((arguments.scratch / "classifier.json").read_text())["data"]["num_positive"] == 25
    path.write_text(path.read_text().replace("source: code", "source: cod"))
    with pytest.raises(SpecError, match="no source 'cod'") as caught:
        classify(Classify(classifier="quality"), arguments)
    assert "did you mean 'code'" in caught.value.hint


def test_a_condition_that_fails_on_a_document_leaves_it_out_and_says_so(arguments: Arguments, root: Path) -> None:
    path = root / "classifiers" / "quality.yaml"
    corpus = arguments.sources["code"]
    one = next(corpus.batches("00000")).column("id")[7].as_py()

    def train(where: str) -> None:
        path.write_text(SPEC.replace("{jsonl: labels/*.jsonl, equals: {label: good}}", f'{{source: code, where: "{where}"}}'))
        classify(Classify(classifier="quality"), arguments)

    with pytest.raises(SpecError, match=r"too few, .*; 'text::int > 5' fails on 30 documents of 'code' \(first: [0-9a-f]{32}\)"):
        train("text::int > 5")
    train(f"case when id = '{one}' then text::int else 1 end = 1")
    assert json.loads((arguments.scratch / "classifier.json").read_text())["data"]["num_positive"] == 29
    assert any(f"fails on 1 document of 'code' (first: {one}), which is left out" in line for line in arguments.say.__self__)


def test_a_condition_that_fails_on_too_many_documents_stops_the_run(arguments: Arguments, root: Path) -> None:
    path, texts = root / "classifiers" / "quality.yaml", [f"def f{i}(value): return value + {i}" for i in range(80)]
    where = "case when text like 'def f1%' then text::int = 1 else true end"
    path.write_text(SPEC.replace("{jsonl: labels/*.jsonl, equals: {label: good}}", f'{{source: code, where: "{where}"}}'))
    corpus = write_corpus(root / "more", {"00000": [documents(texts[:40], "code"), documents(texts[40:], "code", file="b")]}, "code")
    arguments = msgspec.structs.replace(arguments, sources=arguments.sources | {"code": corpus})
    for _ in range(2):  # that it was trained already forgives nothing
        with pytest.raises(BudgetError, match=r"fails on 11 documents of 'code' .* of 80; the spec allows 10; the first error: Conversion"):
            classify(Classify(classifier="quality"), arguments)
    context = msgspec.structs.replace(arguments.context, budget=Budget(max_documents=11))
    classify(Classify(classifier="quality"), msgspec.structs.replace(arguments, context=context))
    assert json.loads((arguments.scratch / "classifier.json").read_text())["data"]["num_positive"] == 69


def test_a_source_that_was_not_rephrased_is_told_from_a_typing_error(arguments: Arguments, root: Path) -> None:
    (root / "classifiers" / "quality.yaml").write_text(SPEC.replace("{jsonl: labels/*.jsonl, equals: {label: good}}", "{source: told}"))
    workflow = msgspec.structs.replace(arguments.project.workflow, together=[Step(rephrase=Rephrase(model="m", into="told"))])
    arguments = msgspec.structs.replace(arguments, project=msgspec.structs.replace(arguments.project, workflow=workflow))
    with pytest.raises(SpecError, match=r"its rephrase step was skipped, .*CURATE_LLM_BASE_URL is not set"):
        classify(Classify(classifier="quality"), arguments)
