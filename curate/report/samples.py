"""Sample documents for the report: a few per drop reason, chosen by a hash of the id, read shard by shard.

Only the first shards that have drops are searched, so the cost does not grow with the corpus; the samples are then those of a part of
it, which is said beside them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus import read_groups
from curate.workflow import Stage

MAX_SHARDS = 8  # per stage
MAX_CHARACTERS = 600


def samples(run: Path, stages: list[Stage], per_reason: int = 3) -> list[dict[str, Any]]:
    """Return the drop reasons of every stage, in order, with a few of their documents.

    Each is {stage, source, reason, documents: [{id, url, text, detail}]}.
    """
    found = []
    for k, stage in enumerate(stages):
        if stage.source == "together":
            continue
        chosen = _choose(run / stage.folder, per_reason)
        before = [run / s.folder for s in reversed(stages[:k]) if s.source == stage.source]
        texts = _texts(before, {(row["shard"], row["id"]) for rows in chosen.values() for row in rows})
        for reason, rows in sorted(chosen.items()):
            documents = [{name: row[name] for name in ("id", "url", "detail", "reasons")} | {"text": texts.get(row["id"], "")} for row in rows]
            found.append({"stage": Path(stage.folder).name, "source": stage.source, "reason": reason, "documents": documents})
    return found


def _choose(folder: Path, per_reason: int) -> dict[str, list[dict[str, Any]]]:
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("dropped/*.parquet"))[:MAX_SHARDS]:
        for row in pq.read_table(path, use_threads=False).to_pylist():
            by_reason.setdefault(row["reason"], []).append(row | {"shard": path.stem})
    for rows in by_reason.values():
        rows.sort(key=lambda row: hashlib.blake2b(f"sample\0{row['id']}".encode(), digest_size=8).digest())
        del rows[per_reason:]
    return by_reason


def _texts(folders: list[Path], wanted: set[tuple[str, str]]) -> dict[str, str]:
    """Return the beginnings of the texts of the documents (shard, id), from the first of `folders` that holds texts, and not annotations."""
    texts: dict[str, str] = {}
    for shard in sorted({shard for shard, _ in wanted}):
        files = (folder / f"{shard}.parquet" for folder in folders)
        path = next((file for file in files if file.is_file() and "text" in pq.read_schema(file).names), None)
        if path is None:
            continue
        ids = [key for one, key in wanted if one == shard]
        for batch in read_groups(path, ["id", "text"]):
            hits = batch.filter(pc.is_in(batch.column("id"), value_set=pa.array(ids, pa.string())))
            for row in hits.to_pylist():
                texts[row["id"]] = excerpt(row["text"])
    return texts


def excerpt(text: str) -> str:
    """Return the beginning of a text, with its white space pressed together."""
    pressed = "\n".join(" ".join(line.split()) for line in text[: 4 * MAX_CHARACTERS].splitlines() if line.strip())
    return pressed if len(pressed) <= MAX_CHARACTERS else pressed[:MAX_CHARACTERS] + " …"
