"""A trained classifier as a folder: train it, store it, open it, score documents with it.

    model.bin          the weights: a fastText file, which the fastText library loads as well (or a logistic model)
    classifier.json    the spec, the calibration, and the record that the model card is written from
    held_out.parquet   the texts that evaluation used, with labels and scores, so that `evaluate` can do it again
    README.md          the model card

Training never looks at a clock or a path, so the same spec and the same labels give the same four files. Scoring a document gives
the same number whatever batch it comes in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate import __version__
from curate.classify.calibrate import Calibration, calibrate
from curate.classify.card import markdown
from curate.classify.evaluate import evaluate
from curate.classify.labels import Documents, Labeled, gather, load_classifier, read_lines
from curate.classify.text import PREPARATION, prepare
from curate.errors import InputError, SpecError
from curate.specs.classifier import Classifier
from curate.specs.load import resolved

SCORE = pa.struct([("score", pa.float64()), ("raw", pa.float64())])
_ROWS_AT_ONCE = 1024
_FIRST = "model.bin"  # of the files, as they are written; classifier.json comes last
_FILES = {_FIRST, "held_out.parquet", "README.md", "classifier.json"}


class Scorer(Protocol):
    """A trained engine: probabilities of (positive, negative), float64[texts, 2], for prepared texts."""

    def probabilities(self, prepared: pa.StringArray) -> NDArray[np.float64]:
        """Return one row per text."""


@dataclass(frozen=True)
class Model:
    """A classifier that is ready to score."""

    spec: Classifier
    engine: Scorer
    calibration: Calibration
    record: dict[str, Any]

    def raw(self, texts: pa.Array) -> NDArray[np.float64]:
        """Return the engine's probability of the positive label, float64[texts], not calibrated."""
        return np.ascontiguousarray(self.engine.probabilities(prepare(texts, self.spec.max_characters))[:, 0])


def score(batch: pa.RecordBatch, model: Model) -> pa.StructArray:
    """Return struct<score, raw> for each row of `batch`: the calibrated probability of the positive label, and the engine's own."""
    raw = model.raw(batch.column("text"))
    return pa.StructArray.from_arrays([pa.array(model.calibration(raw)), pa.array(raw)], fields=list(SCORE))


def train(spec: Classifier, root: Path, documents: Documents | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Gather labels, train, calibrate, evaluate; return the record and the four files, name → content.

    Paths in the spec are relative to `root`; `documents` gives the texts of a source of the run.
    """
    labeled, data = gather(spec, root, documents)
    parts = {name: labeled.part(spec, name) for name in ("train", "calibrate_on", "held_out")}
    content, losses = _train(spec, parts["train"])
    engine = _read(spec, content, "model.bin")
    raw = {name: _raw(engine, part, spec) for name, part in parts.items()}
    calibration = calibrate(spec.calibration, raw["calibrate_on"], np.array(parts["calibrate_on"].labels, np.bool_))
    held_out = parts["held_out"]
    labels = np.array(held_out.labels, np.bool_)
    scores = calibration(raw["held_out"])
    record = {
        "spec": resolved(spec),
        "calibration": msgspec.to_builtins(calibration),
        "preparation": PREPARATION,
        "curate": __version__,
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "model_bytes": len(content),
        "data": data | {f"num_{name}": len(part.texts) for name, part in parts.items()},
        "losses": losses,
        "evaluation": evaluate(scores, labels, spec.threshold),
        "on_training_texts": {"auc": evaluate(raw["train"], np.array(parts["train"].labels, np.bool_), spec.threshold)["auc"]},
    }
    table = pa.table({"text": pa.array(held_out.texts, pa.string()), "positive": labels, "score": scores, "raw": raw["held_out"]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return record, {
        "model.bin": content,
        "held_out.parquet": sink.getvalue().to_pybytes(),
        "README.md": markdown(record).encode(),
        "classifier.json": msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n",
    }


def load(folder: Path) -> Model:
    """Open the classifier in `folder`. Raises InputError when it is missing, damaged, or prepared text in another way."""
    path = folder / "classifier.json"
    try:
        record = msgspec.json.decode(path.read_bytes())
        spec = msgspec.convert(record["spec"], Classifier)
        calibration = msgspec.convert(record["calibration"], Calibration)
        content = (folder / "model.bin").read_bytes()
        checksum, preparation = record["model_sha256"], record["preparation"]
    except FileNotFoundError as error:
        hint = "write one with `curate classifier train SPEC --output DIR`"
        raise InputError("no trained classifier here", where=str(folder), hint=hint) from error
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise InputError(f"is not a trained classifier: {error}", where=str(path), hint="train it again") from error
    if preparation != PREPARATION:
        raise InputError(f"its texts were prepared by '{preparation}', this version has '{PREPARATION}'", where=str(path), hint="train it again")
    if hashlib.sha256(content).hexdigest() != checksum:
        raise InputError("has changed since it was trained", where=str(folder / "model.bin"), hint="train it again")
    return Model(spec, _read(spec, content, str(folder / "model.bin")), calibration, record)


def train_command(spec: Path, root: Path, target: Path) -> dict[str, Any]:
    """`curate classifier train`: train the classifier of a spec file on its label files into the folder `target`; return the record.

    Raises SpecError when the folder holds anything but a classifier, of which files of the same names may be; what a training that was
    killed has left is written over.
    """
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    is_cut_short = _FIRST in names and names <= _FILES  # a model card alone may be somebody's README.md
    if names and not is_cut_short and not (target / "classifier.json").is_file():
        hint = "name a folder of its own for --output: a model card is written there as README.md"
        raise SpecError("is not empty, and holds no classifier", where=str(target), hint=hint)
    record, files = train(load_classifier(spec, root), root)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (target / name).write_bytes(content)
    return record


def evaluate_command(folder: Path) -> dict[str, Any]:
    """`curate classifier evaluate`: score the stored held-out texts again and return the evaluation."""
    model = load(folder)
    path = folder / "held_out.parquet"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), hint="train the classifier again") from error
    scores = [model.calibration(model.raw(batch.column("text"))) for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE)]
    return evaluate(np.concatenate(scores) if scores else np.zeros(0), table.column("positive").to_numpy(), model.spec.threshold)


def score_command(folder: Path, file: Path, text: str = "text", name: str | None = None) -> Iterator[dict[str, Any]]:
    """`curate classifier score`: yield each object of a JSON-lines file with `score` and `raw` added, in its order.

    With `name` they stand in an object of that name, as a classify step has them. Raises InputError where a field has that name already.
    """
    model = load(folder)
    waiting: list[dict[str, Any]] = []
    for number, row in read_lines(file):
        if not isinstance(row.get(text), str):
            raise InputError(f"field '{text}' is not a text", where=f"{file}:{number}", hint=f"fields here: {', '.join(sorted(row))[:200]}")
        taken = [field for field in ([name] if name else SCORE.names) if field in row]
        if taken:
            hint = "put the scores into an object of another name: --name quality"
            raise InputError(f"has a field '{taken[0]}' already", where=f"{file}:{number}", hint=hint)
        _check_writable(row, f"{file}:{number}")
        waiting.append(row)
        if len(waiting) == _ROWS_AT_ONCE:
            yield from _scored(waiting, text, model, name)
            waiting = []
    yield from _scored(waiting, text, model, name)


def _check_writable(row: dict[str, Any], where: str) -> None:
    """Raise InputError where a row cannot be written again as it was read: 1e400 is read as infinity, for which JSON has no word."""
    try:
        json.dumps(row, allow_nan=False)
    except ValueError as error:
        hint = "it would come out as null; write it as text, or leave it out"
        raise InputError("holds a number that is none (NaN), or too large to be read", where=where, hint=hint) from error
    except RecursionError as error:
        raise InputError("is nested too deep to be written again", where=where) from error


def _scored(rows: list[dict[str, Any]], text: str, model: Model, name: str | None) -> Iterator[dict[str, Any]]:
    texts = pa.array([row[text].encode("utf-8", "replace").decode() for row in rows], pa.string())
    for row, result in zip(rows, score(pa.RecordBatch.from_arrays([texts], names=["text"]), model).to_pylist(), strict=True):
        yield row | ({name: result} if name else result)


def _raw(engine: Scorer, part: Labeled, spec: Classifier) -> NDArray[np.float64]:
    pieces = [part.texts[i : i + _ROWS_AT_ONCE] for i in range(0, len(part.texts), _ROWS_AT_ONCE)]
    return np.concatenate([np.zeros(0), *(engine.probabilities(prepare(pa.array(p, pa.string()), spec.max_characters))[:, 0] for p in pieces)])


def _train(spec: Classifier, part: Labeled) -> tuple[bytes, list[float]]:
    if spec.engine == "logistic":
        from curate.classify import logistic

        return logistic.train(part.texts, part.labels, spec)
    from curate.classify import fasttext

    return fasttext.train(part.texts, part.labels, spec)


def _read(spec: Classifier, content: bytes, where: str) -> Scorer:
    if spec.engine == "logistic":
        from curate.classify import logistic

        return logistic.read(content, where)
    from curate.classify import fasttext

    return fasttext.read(content, where)
