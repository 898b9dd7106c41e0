"""The funnel of a run: documents and tokens per stage, and where the others went. Read from the manifests, so always whole.

Tokens are counted by the run's own tokenizer where a stage stored them; in all other stages they are bytes of text divided by the
bytes per token that the last of these measured on the same source ("≈"), and by 4 where nothing was measured yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from curate.corpus import Corpus, Manifest, read_manifest
from curate.errors import InputError
from curate.ledger import Ledger
from curate.workflow import RunState, Stage

BYTES_PER_TOKEN = 4.0  # of English text under the usual vocabularies; only used before a tokenizer has been trained


class Row(msgspec.Struct):
    """One stage of one source."""

    source: str
    folder: str
    kind: str
    ledger: Ledger
    kept_tokens: int
    dropped_tokens: dict[str, int]
    exact: bool  # whether the tokens were counted, and not estimated from bytes
    complete: bool = True


def open_run(run: Path) -> RunState:
    """Read the state of a run. Raises InputError when `run` is no run."""
    try:
        return msgspec.json.decode((run / "run.json").read_bytes(), type=RunState)
    except (FileNotFoundError, NotADirectoryError) as error:
        near = sorted(p.parent.name for p in run.parent.glob("*/run.json")) if run.parent.is_dir() else []
        hint = f"runs there: {', '.join(near)}" if near else "name the folder that `curate run` printed, such as runs/quickstart"
        raise InputError("is not a run", where=str(run), hint=hint) from error
    except msgspec.DecodeError as error:
        raise InputError(f"is damaged: {error}", where=str(run / "run.json")) from error


def funnel(run: Path) -> list[Row]:
    """Return the rows of the funnel, source by source, in the order of the stages."""
    state = open_run(run)
    rates = bytes_per_token(run, state.stages)
    sources = list(dict.fromkeys(stage.source for stage in state.stages))
    rows = []
    for source in sources:
        rate, _ = rates.get(source, (BYTES_PER_TOKEN, False))
        for stage in state.stages:
            if stage.source == source:
                rows.append(_row(run, stage, rate))
    return rows


def bytes_per_token(run: Path, stages: list[Stage]) -> dict[str, tuple[float, bool]]:
    """Return, per source, the bytes of text per token that its last tokenize stage measured, and True."""
    rates = {}
    for stage in stages:
        if stage.kind == "tokenize":
            try:
                manifest = read_manifest(run / stage.folder)
            except InputError:
                continue
            tokens = _counted(manifest)
            if tokens:
                rates[stage.source] = (manifest.ledger.kept_bytes / tokens, True)
    return rates


def _counted(manifest: Manifest) -> int:
    """Return the tokens that a tokenize stage wrote."""
    return sum(note.get("num_tokens", 0) for note in manifest.notes.values())


def _row(run: Path, stage: Stage, rate: float) -> Row:
    try:
        manifest = read_manifest(run / stage.folder)
        ledger, exact = manifest.ledger, stage.kind == "tokenize"
        corpus, failed = Corpus(run / stage.folder, manifest), 0
        while (base := corpus.base) is not None:  # annotations hold no text: their documents do
            failed += corpus.manifest.ledger.errored_bytes
            corpus, ledger.kept_bytes = base, base.manifest.ledger.kept_bytes - failed
    except InputError:
        return Row(stage.source, stage.folder, stage.kind, Ledger(), 0, {}, False, complete=False)
    dropped = {reason: round(size / rate) for reason, size in ledger.dropped_bytes.items()}
    kept = _counted(manifest) if exact else round(ledger.kept_bytes / rate)
    return Row(stage.source, stage.folder, stage.kind, ledger, kept, dropped, exact)


def reasons(rows: list[Row]) -> dict[str, int]:
    """Return how many documents each reason dropped, over all stages, most first."""
    counts: dict[str, int] = {}
    for row in rows:
        for reason, count in row.ledger.dropped.items():
            counts[reason] = counts.get(reason, 0) + count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def as_data(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data, for `--json`."""
    return [msgspec.to_builtins(row) for row in rows]
