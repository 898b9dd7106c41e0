"""The step as a workflow runs it: two sources, real worker processes, and what a rerun does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import documents, write_corpus

from curate.corpus import Corpus, Manifest, verify
from curate.dedup import signatures, stage
from curate.engine import Context, Inline, Local
from curate.errors import LedgerError
from curate.specs.workflow import Dedup, Minhash
from curate.tasks import Plan, run_task
from curate.workflow import Arguments

TEXT = "the same text stands here and there with one word that is not the same at its very end"


def sources(root: Path) -> dict[str, Corpus]:
    web = {
        "a": [documents([TEXT + " page", "alone on the web", TEXT, ""], file="a")],
        "b": [documents([TEXT.replace(" ", "  "), "alone  on the web", "quite another text"], file="b")],
    }
    docs = {"a": [documents([TEXT, "documentation"], "docs")], "empty": [documents([], "docs")]}
    return {"web": write_corpus(root / "web/01-ingest", web), "docs": write_corpus(root / "docs/01-ingest", docs, "docs")}


def run(root: Path, options: Dedup, context: Context, corpora: dict[str, Corpus] | None = None) -> tuple[dict[str, Manifest], list[str]]:
    corpora = corpora or sources(root)
    said: list[str] = []
    targets = {source: root / source / "02-dedup" for source in corpora}
    project: Any = None  # this step reads nothing of it
    return stage.dedup(options, Arguments(corpora, targets, root / "together/02-dedup", project, context, said.append)), said


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet")) if "01-ingest" not in str(path)}


def receipts(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in sorted(root.rglob("receipts/*.json"))}


def rerun(before: dict[str, int], root: Path) -> set[str]:
    return {name for name, when in receipts(root).items() if before.get(name) != when}


PREFER_DOCS = Dedup(minhash=Minhash(), prefer=["docs"])


def test_copies_leave_every_source_and_name_their_survivor(tmp_path: Path) -> None:
    manifests, said = run(tmp_path, PREFER_DOCS, Context(Inline()))
    assert said == ["dedup: 3 exact and 1 near-duplicates among 9 documents"]
    assert manifests["docs"].ledger.dropped == {}
    ledger = manifests["web"].ledger
    assert (ledger.entered, ledger.kept, ledger.dropped) == (7, 3, {"exact_duplicate": 3, "near_duplicate": 1})
    web = Corpus.open(tmp_path / "web/02-dedup")
    kept = [text for shard in web.shards for batch in web.batches(shard) for text in batch.column("text").to_pylist()]
    assert kept == ["", "alone  on the web", "quite another text"]
    dropped = {(row["file"], row["offset"]): row for row in pq.read_table(web.folder / "dropped/a.parquet").to_pylist()}
    survivor = documents([TEXT], "docs").column("id")[0].as_py()
    assert json.loads(dropped["a", 2]["detail"]) == {"survivor": survivor, "similarity": 1.0}
    assert dropped["a", 0]["reason"] == "near_duplicate"
    assert json.loads(dropped["a", 0]["detail"])["survivor"] == survivor
    assert json.loads(dropped["a", 0]["detail"])["similarity"] == 15 / 16
    assert [verify(tmp_path / folder) for folder in ("web/02-dedup", "docs/02-dedup", "together/02-dedup", "together/02-dedup/signatures/web")] == [
        []
    ] * 4


def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    seen = []
    for n in (0, 2):
        engine: Any = Local(n, tmp_path / "logs") if n else Inline()
        run(tmp_path / str(n), PREFER_DOCS, Context(engine))
        engine.close()
        seen.append(bytes_of(tmp_path / str(n)))
    assert seen[0] == seen[1]


def test_a_rerun_does_nothing_and_a_new_policy_signs_nothing_again(tmp_path: Path) -> None:
    context = Context(Inline())
    run(tmp_path, PREFER_DOCS, context)
    before = receipts(tmp_path)
    run(tmp_path, PREFER_DOCS, context)
    assert rerun(before, tmp_path) == set()
    run(tmp_path, Dedup(minhash=Minhash(verify=0.99), prefer=["docs"]), context)
    assert rerun(before, tmp_path) == {"together/02-dedup/receipts/duplicates.json", "web/02-dedup/receipts/a.json"}
    before = receipts(tmp_path)
    run(tmp_path, Dedup(minhash=Minhash(rows=4), prefer=["docs"]), context)
    assert len([name for name in rerun(before, tmp_path) if "signatures" in name]) == 4


def test_an_added_shard_signs_only_itself(tmp_path: Path) -> None:
    context = Context(Inline())
    corpora = sources(tmp_path)
    run(tmp_path, PREFER_DOCS, context, corpora)
    before = receipts(tmp_path)
    grown = {"a": [documents([TEXT, "documentation"], "docs")], "b": [documents(["quite another text"], "docs", "b")]}
    run(tmp_path, PREFER_DOCS, context, corpora | {"docs": write_corpus(tmp_path / "docs/01-ingest", grown, "docs")})
    assert rerun(before, tmp_path) == {
        "together/02-dedup/signatures/docs/receipts/b.json",
        "together/02-dedup/receipts/duplicates.json",
        "docs/02-dedup/receipts/b.json",
        "web/02-dedup/receipts/b.json",  # its copy of the new document goes
    }
    assert not (tmp_path / "together/02-dedup/duplicates/docs.empty.parquet").exists()


def test_a_document_that_could_not_be_signed_is_quarantined_and_not_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[..., Any] = signatures.signatures

    def fails(batch: Any, minhash: Any) -> Any:
        if "quite another text" in batch.column("text").to_pylist():
            raise ValueError("cannot be signed")
        return whole(batch, minhash)

    monkeypatch.setattr(signatures, "signatures", fails)
    manifests, _ = run(tmp_path, PREFER_DOCS, Context(Inline()))
    assert (manifests["web"].ledger.kept, manifests["web"].ledger.errored) == (2, 1)
    error = pq.read_table(tmp_path / "web/02-dedup/errors/b.parquet").to_pylist()[0]
    assert "its signing failed" in error["error"]


def test_a_list_that_names_documents_of_another_shard_is_refused(tmp_path: Path) -> None:
    context = Context(Inline())
    run(tmp_path, PREFER_DOCS, context)
    folder = tmp_path / "together/02-dedup/duplicates"
    wrong = (folder / "web.b.parquet").read_bytes()
    (folder / "web.a.parquet").write_bytes(wrong)
    (tmp_path / "web/02-dedup/receipts/a.json").unlink()
    (tmp_path / "web/02-dedup/manifest.json").unlink()
    plan = msgspec.json.decode((tmp_path / "web/02-dedup/plan.json").read_bytes(), type=Plan)
    shard = next(i for i, task in enumerate(plan.tasks) if task.name == "a")
    with pytest.raises(LedgerError, match=r"0 of the 1 documents that the list of copies names are in this shard"):
        run_task(plan, shard)
