"""Gather the labeled texts of a classifier spec, and split them into training, calibration and evaluation.

Everything goes by a hash of the text, never by its position: the order of files and lines does not matter, a copy of a text
stays in its own part (so evaluation never sees a training text), and an added text moves no other. A text that
stands under both labels teaches nothing and is left out, and counted.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from curate.errors import InputError, SpecError
from curate.specs.classifier import Classifier, Examples
from curate.specs.load import load_spec

Documents = Callable[[Examples], Iterable[str]]  # the texts of a source of the run
_MAX_LINE_BYTES = 64_000_000


@dataclass(frozen=True)
class Labeled:
    """Texts and whether each is positive, in the order of a hash of the text."""

    texts: list[str]
    labels: list[bool]

    def part(self, spec: Classifier, name: str) -> Labeled:
        """Return the texts that belong to `held_out`, `calibrate_on` or `train`."""
        chosen = [i for i, text in enumerate(self.texts) if part_of(text, spec) == name]
        return Labeled([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])


def gather(spec: Classifier, root: Path, documents: Documents | None = None) -> tuple[Labeled, dict[str, Any]]:
    """Return the labeled texts of `spec`, and the counts and hash that its model card states.

    Paths are relative to `root`; `documents` gives the texts of a `source`. Raises SpecError when a pattern matches nothing, when a
    source is named outside of a run, or when there are too few texts to train, calibrate and evaluate on.
    """
    sides: dict[bool, dict[str, None]] = {True: {}, False: {}}
    counts: dict[str, Any] = {"num_duplicates": 0}
    for positive, groups in ((True, spec.positive), (False, spec.negative)):
        for examples in groups:
            for text in _sampled(_texts(examples, root, spec.name, documents), examples.sample, spec.seed):
                if text in sides[positive]:
                    counts["num_duplicates"] += 1
                elif text.strip():
                    sides[positive][text] = None
    both = sides[True].keys() & sides[False].keys()
    rows = [(text, positive) for positive, texts in sides.items() for text in texts if text not in both]
    rows.sort(key=lambda row: _digest(spec.seed, row[0]))
    labeled = Labeled([text for text, _ in rows], [positive for _, positive in rows])
    counts |= {"num_conflicting": len(both), "num_positive": sum(labeled.labels), "num_negative": len(rows) - sum(labeled.labels)}
    content = hashlib.sha256()
    for text, positive in rows:
        content.update((b"+" if positive else b"-") + hashlib.sha256(text.encode()).digest())
    counts["sha256"] = content.hexdigest()
    _check_sizes(spec, labeled)
    return labeled, counts


def part_of(text: str, spec: Classifier) -> str:
    """Return the part that a text belongs to: `held_out`, `calibrate_on` or `train`."""
    place = int.from_bytes(_digest(spec.seed, text)[:8], "big") / 2**64
    if place < spec.held_out:
        return "held_out"
    calibrated = spec.calibrate_on if spec.calibration != "none" else 0.0
    return "calibrate_on" if place < spec.held_out + calibrated else "train"


def load_classifier(path: Path, root: Path) -> Classifier:
    """Read a classifier spec; patterns of labels that begin with `./` or `../`, beside the spec, come out relative to the project."""
    spec = load_spec(path, Classifier)
    beside = path.resolve().parent

    def placed(examples: Examples) -> Examples:
        patterns = [examples.jsonl] if isinstance(examples.jsonl, str) else examples.jsonl or []
        moved = [os.path.relpath(beside / pattern, root) if pattern.startswith(("./", "../")) else pattern for pattern in patterns]
        return msgspec.structs.replace(examples, jsonl=moved) if moved != patterns else examples

    return msgspec.structs.replace(spec, positive=[placed(one) for one in spec.positive], negative=[placed(one) for one in spec.negative])


def label_files(examples: Examples, root: Path) -> list[Path]:
    """Return the files that `jsonl` patterns match, sorted. Raises SpecError when a pattern matches none."""
    patterns = [examples.jsonl] if isinstance(examples.jsonl, str) else examples.jsonl or []
    files = []
    for pattern in patterns:
        found = sorted(glob.glob(str(Path(glob.escape(str(root))) / pattern), recursive=True))
        if not found:
            hint = "paths are relative to the project; the quickstart's labels appear when its workflow runs"
            raise SpecError(f"no labels match '{pattern}'", where=str(root), hint=hint)
        files += [Path(name) for name in found]
    return sorted(dict.fromkeys(files))


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON-lines file; .gz, .bz2 and .zst are unpacked. Raises InputError with the line."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream, pa.BufferedInputStream(stream, 1 << 16) as file:
            for number, line in enumerate(_split(file), 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise InputError(f"is not JSON: {error}", where=f"{path}:{number}") from error
                    if not isinstance(row, dict):
                        raise InputError("is not a JSON object", where=f"{path}:{number}")
                    yield number, row
    except OSError as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error


def _split(file: Any) -> Iterator[bytes]:
    """Yield lines; a line without end (a file that is no JSON lines at all) stops at _MAX_LINE_BYTES."""
    rest = b""
    while block := file.read(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE_BYTES:
            raise OSError(f"a line is longer than {_MAX_LINE_BYTES // 1_000_000} MB")
    if rest:
        yield rest


def _texts(examples: Examples, root: Path, name: str, documents: Documents | None) -> Iterator[str]:
    if examples.source is not None:
        if documents is None:
            hint = "it is trained by the classify step of a workflow; for one of its own, name jsonl files"
            raise SpecError(f"examples of source '{examples.source}' exist only within a run", where=f"classifier {name}", hint=hint)
        yield from documents(examples)
        return
    num_texts = 0
    for path in label_files(examples, root):
        for number, row in read_lines(path):
            if _matches(row, examples):
                text = row.get(examples.text)
                if not isinstance(text, str):
                    hint = f"fields here: {', '.join(sorted(row))[:200]}"
                    raise InputError(f"field '{examples.text}' is not a text", where=f"{path}:{number}", hint=hint)
                num_texts += 1
                yield text.encode("utf-8", "replace").decode()  # JSON can escape half a surrogate pair, which no file can hold
    if not num_texts:
        wanted = ", ".join(f"{key} = {value!r}" for key, value in examples.equals.items())
        what = f"no line of {examples.jsonl} has {wanted or 'a text'}"
        raise SpecError(what, where=f"classifier {name}", hint="check equals: in the classifier spec")


def _matches(row: dict[str, Any], examples: Examples) -> bool:
    for key, wanted in examples.equals.items():
        allowed = wanted if isinstance(wanted, list) else [wanted]
        # 1 and true are equal in Python, but not in a label file.
        if not any(type(row.get(key)) is type(value) and row[key] == value for value in allowed):
            return False
    return True


def _digest(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).digest()


def _sampled(texts: Iterable[str], sample: int | None, seed: int) -> Iterable[str]:
    """Return the `sample` texts with the lowest hash, which depends on nothing but the text; all where it is None."""
    if sample is None:
        return texts
    # Another seed than the split's, else a sample would fall into the held-out part alone.
    return heapq.nsmallest(sample, texts, key=lambda text: hashlib.blake2b(f"sample\0{seed}\0{text}".encode(), digest_size=16).digest())


def _check_sizes(spec: Classifier, labeled: Labeled) -> None:
    for name in ("train", "calibrate_on", "held_out"):
        if name == "calibrate_on" and spec.calibration == "none":
            continue
        part = labeled.part(spec, name)
        for label, count in (("positive", sum(part.labels)), ("negative", len(part.labels) - sum(part.labels))):
            if count < 2:
                raise SpecError(
                    f"{count} {label} texts in the part '{name}': too few, of {sum(labeled.labels)} positive and "
                    f"{len(labeled.labels) - sum(labeled.labels)} negative texts in all",
                    where=f"classifier {spec.name}",
                    hint="add examples, or set calibration: none to need fewer",
                )
