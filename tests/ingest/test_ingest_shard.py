"""A shard of documents from raw files: whatever a record holds, the others and the run survive it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.ingest.read
from curate.corpus import Manifest, read_manifest
from curate.engine import Context, Inline
from curate.errors import BudgetError
from curate.tasks import Output
from curate.workflow import Run

BAD = "http://x/caf\ud83d"


def ingest(folder: Path, rows: list[dict[str, Any]], options: str = "") -> Manifest:
    """Run the ingest of these JSON lines."""
    for name in ("workflows", "data"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "data/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "workflows/demo.yaml").write_text(f"name: demo\nsources:\n  web:\n    - ingest: {{jsonl: data/*.jsonl{options}}}\n")
    Run(folder / "workflows/demo.yaml", Context(Inline()), lambda line: None)()
    return read_manifest(folder / "runs/demo/web/01-ingest")


def urls(folder: Path, kind: str = "") -> list[str]:
    (path,) = (folder / "runs/demo/web/01-ingest" / kind).glob("*.parquet")
    return pq.read_table(path)["url"].to_pylist()


def test_a_lone_surrogate_in_an_address_costs_no_document_and_no_run(tmp_path: Path) -> None:
    rows = [{"text": "kept", "url": BAD}, {"text": "", "url": BAD}, {"text": "kept, too", "url": "http://x/1"}]
    ledger = ingest(tmp_path, rows).ledger
    assert (ledger.kept, ledger.dropped) == (2, {"no_text": 1})
    assert urls(tmp_path) == ["http://x/caf\ufffd", "http://x/1"] and urls(tmp_path, "dropped") == ["http://x/caf\ufffd"]
    assert ingest(tmp_path, rows, ", sample: 0").ledger.dropped == {"no_text": 1, "not_sampled": 2}


def test_a_record_that_raises_is_quarantined_whatever_its_address_and_its_error_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = curate.ingest.read.to_document

    def fail(record: Any, *rest: Any) -> Any:
        if record.url == BAD:
            raise ValueError(f"no good: {BAD}")
        return whole(record, *rest)

    monkeypatch.setattr("curate.ingest.read.to_document", fail)
    ledger = ingest(tmp_path, [{"text": "bad", "url": BAD}, {"text": "kept", "url": "http://x/1"}]).ledger
    assert (ledger.kept, ledger.errored) == (1, 1)
    assert urls(tmp_path, "errors") == ["http://x/caf\ufffd"]


def test_rows_whose_meta_is_large_are_not_gathered_by_the_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, write = [], Output.write

    def note(out: Output, batch: pa.RecordBatch) -> None:
        sizes.append(batch.nbytes)
        write(out, batch)

    monkeypatch.setattr(Output, "write", note)
    assert ingest(tmp_path, [{"text": f"document {i}", "raw_html": "<p>abc</p>" * 200_000} for i in range(24)]).ledger.kept == 24
    assert sum(sizes) > 48_000_000 and max(sizes) < 20_000_000


def test_half_of_a_corpus_is_not_lost_as_one_failure(tmp_path: Path) -> None:
    rows = [{"text": f"document {i} with words"} for i in range(1000)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b.jsonl").write_text(json.dumps(rows))
    with pytest.raises(BudgetError, match=r"1,000 of 2,000 documents failed"):
        ingest(tmp_path, rows)


def test_what_stands_under_another_name_has_a_size(tmp_path: Path) -> None:
    row = {"body": "x" * 1000}
    ledger = ingest(tmp_path, [{"text": "kept"}, row, {"text": None}]).ledger
    assert ledger.dropped_bytes == {"no_text_field": len(json.dumps(row)), "no_text": 0}
