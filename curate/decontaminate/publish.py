"""What a search leaves for people: matches, items, numbers, lists of clean items, and the report.

    matches.parquet                 every match of every source, with places in both texts, the action, and whether the document stays
    items.parquet                   every item: whether it can be looked for, why not, whether it was found
    summary.json                    the numbers of the report, and what the search was made of (for `curate decontaminate diff`)
    clean_ids/NAME.json             ids of the clean, contaminated, proposed (as paraphrased) and unscannable items
    lm_eval_samples.json            positions of the clean items per task: what `lm_eval --samples` takes
    report.html                     all of it to read

Matches are copied file by file, and only what the numbers need is held in memory: no text but that of the worst matches.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.corpus import Manifest, read_manifest
from curate.decontaminate.act import PARAPHRASE, recorded
from curate.decontaminate.evidence import evidence
from curate.decontaminate.index import CHANNEL_NAMES, Index, load_index
from curate.decontaminate.items import CHANNELS, Items
from curate.decontaminate.match import MATCHES
from curate.decontaminate.power import Probe, probe
from curate.decontaminate.tally import item_table, summarize, worst_rows
from curate.ledger import Ledger, total
from curate.tasks import Output, Task

STORED = recorded(MATCHES)
EXCERPTS = ("doc_excerpt", "item_excerpt")
NUM_UNSCANNABLE = 50  # shown per benchmark


def probe_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: try which disguises of the items are found. `inputs`: the calibrated index."""
    index = load_index(Path(task.inputs[0]) / "index")
    probes = probe(index, item_table(MATCHES.empty_table(), index).to_pylist())
    out.path("probes.json").write_bytes(msgspec.json.encode(probes))


def write_positions(items: Items, out: Output) -> None:
    """Keep how lm-evaluation-harness calls each item: [task, position], in the order of the index."""
    out.path("positions.json").write_text(json.dumps([[item.task, item.position] for item in items.items]), encoding="utf-8")


def report_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: gather the matches and say what they mean. `inputs`: folders of index, calibrated index, probes and sources.

    `task.options` is {settings, corpora, code}: what the search was made of.
    """
    from curate.report import page
    from curate.report.sections import decontamination_view

    folder, calibrated, probed, *sources = (Path(name) for name in task.inputs)
    index = load_index(calibrated / "index")
    positions = json.loads((folder / "positions.json").read_text(encoding="utf-8"))
    probes = msgspec.json.decode((probed / "probes.json").read_bytes(), type=list[Probe])
    manifests = [read_manifest(source) for source in sources]
    matches = _gathered(sources, manifests, out.path("matches.parquet"))
    items = item_table(matches, index)
    pq.write_table(items, out.path("items.parquet"), compression="zstd")
    ledger = total(manifest.ledger for manifest in manifests)
    semantic = task.options["settings"]["semantic"]
    summary = summarize(matches, index, ledger.entered - ledger.errored, probes, semantic is not None)
    summary["semantic"] = semantic
    summary["unscannable"] = _unscannable(items, index)
    summary["removal"] = _removal(matches, ledger, task.options["settings"])
    summary["inputs"] = {"benchmarks": _digests(index), **task.options}
    summary["worst"] = _worst(out.path("matches.parquet"), worst_rows(matches), index)
    summary["tasks_without_clean_items"] = _write_ids(items, positions, matches, index.names, out)
    out.path("summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
    out.path("report.html").write_text(page("decontamination.html", {"decontamination": decontamination_view(summary)}), encoding="utf-8")


def _gathered(sources: list[Path], manifests: list[Manifest], target: Path) -> pa.Table:
    """Write the matches of all sources into one file; return them without their texts."""
    light = [name for name in STORED.names if name not in EXCERPTS]
    tables = [pa.table({name: pa.array([], STORED.field(name).type) for name in light})]
    with pq.ParquetWriter(target, STORED, compression="zstd") as writer:
        for folder, manifest in zip(sources, manifests, strict=True):
            for name in manifest.files:
                if name.startswith("matches/"):
                    table = pq.read_table(folder / name, schema=STORED)
                    if table.num_rows:
                        writer.write_table(table)
                        tables.append(table.select(light))
    schema = pa.schema([STORED.field(name) for name in light])
    return pa.concat_tables([table.cast(schema) for table in tables])


def _worst(path: Path, rows: list[int], index: Index) -> list[dict[str, Any]]:
    """Return the matches at `rows` of the file, in that order, each with what to show of it."""
    wanted, found, first = set(rows), {}, 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            here = [row - first for row in wanted if first <= row < first + batch.num_rows]
            for at in here:
                found[first + at] = batch.slice(at, 1).to_pylist()[0]
            first += batch.num_rows
    shown = []
    for row in rows:
        match = found[row]
        if match["item"] < 0:  # a canary
            texts = {match["channel"]: match["item_excerpt"]}
        else:
            names = [name for name in CHANNELS if name in match["channels"] or name in ("question", "choices", "answer")]
            texts = {name: text for name in names if (text := index.item_text(match["item"], name))}
        shown.append(match | {"shown": evidence(match, texts)})
    return shown


def _unscannable(items: pa.Table, index: Index) -> dict[str, list[dict[str, Any]]]:
    """Return, per benchmark, the first items that cannot be looked for, with the reason and the beginning of their text."""
    result: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(items.select(["benchmark", "item_id", "place", "indexed", "reason"]).to_pylist()):
        rows = result.setdefault(row["benchmark"], [])
        if not row["indexed"] and len(rows) < NUM_UNSCANNABLE:
            texts = [index.item_text(number, name) for name in ("question", "passage", "choices", "code")]
            text = " / ".join(" ".join(text.split()) for text in texts if text)
            rows.append({"item_id": row["item_id"], "place": row["place"], "reason": row["reason"], "text": text[:160]})
    return {name: rows for name, rows in result.items() if rows}


def _removal(matches: pa.Table, ledger: Ledger, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what acting on the matches costs; tokens are estimated from bytes, as everywhere before a tokenizer was trained."""
    from curate.funnel import BYTES_PER_TOKEN

    dropped_bytes = sum(ledger.dropped_bytes.values())
    cut_bytes = max(0, ledger.entered_bytes - ledger.kept_bytes - dropped_bytes) if not ledger.errored else 0
    removed = dropped_bytes + cut_bytes
    gone = set(matches.filter(pc.invert(matches["survivor"]))["doc_id"].to_pylist())
    cut = set(matches.filter(pc.equal(matches["action"], "span"))["doc_id"].to_pylist()) - gone
    return {
        "action": settings["action"],
        "actions": settings["actions"],
        "min_score": settings["min_score"],
        "documents": len(gone),
        "documents_cut": len(cut),
        "dropped_bytes": dropped_bytes,
        "cut_bytes": cut_bytes,
        "bytes": removed,
        "tokens_estimated": round(removed / BYTES_PER_TOKEN),
        "entered_documents": ledger.entered,
        "entered_bytes": ledger.entered_bytes,
        "share_of_bytes": removed / ledger.entered_bytes if ledger.entered_bytes else 0.0,
    }


def _digests(index: Index) -> dict[str, str]:
    """Return a hash of the items of each benchmark: ids and texts."""
    digests = {name: hashlib.blake2b(digest_size=8) for name in index.names}
    owners, starts = index.text_owner.tolist(), index.text_start.tolist()
    for at, item in enumerate(owners):
        head = f"{index.item_ids[item]}\0{CHANNEL_NAMES[int(index.text_channel[at])]}\0"
        digests[index.names[index.item_benchmark[item]]].update(head.encode("utf-8", "replace") + index.text[starts[at] : starts[at + 1]].tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _write_ids(items: pa.Table, positions: list[tuple[str, int]], matches: pa.Table, names: list[str], out: Output) -> list[str]:
    """Write which items are clean: searched for and not found, nor proposed as paraphrased. Return the tasks that have no clean item.

    Such a task is in no list for lm-evaluation-harness, which takes an empty list for no list, and would evaluate all of it.
    """
    proposed = set(matches.filter(pc.equal(matches["variant"], PARAPHRASE))["item"].to_pylist())
    ids: dict[str, dict[str, list[str]]] = {name: {kind: [] for kind in ("clean", "contaminated", "proposed", "unscannable")} for name in names}
    samples: dict[str, list[int]] = {}
    rows = items.select(["benchmark", "item_id", "indexed", "matched"]).to_pylist()
    for number, (row, (task, position)) in enumerate(zip(rows, positions, strict=True)):
        found = "contaminated" if row["matched"] else "proposed" if number in proposed else None
        kind = found or ("clean" if row["indexed"] else "unscannable")
        ids[row["benchmark"]][kind].append(row["item_id"])
        samples.setdefault(task, [])
        if kind == "clean":
            samples[task].append(position)
    for name in names:
        out.path(f"clean_ids/{name}.json").write_text(json.dumps(ids[name], indent=1, ensure_ascii=False), encoding="utf-8")
    clean = {task: sorted(own) for task, own in samples.items() if own}
    out.path("lm_eval_samples.json").write_text(json.dumps(clean, ensure_ascii=False), encoding="utf-8")
    return sorted(set(samples) - set(clean))
