"""Blocks from elsewhere in a workflow: datatrove's filters and formatters by their dotted name, and a user's own functions.

    - filter: {datatrove.pipeline.filters.GopherQualityFilter: {min_doc_words: 50}}
    - filter: {./steps.py:no_shouting: {max_share: 0.5}}

A datatrove filter says True, or False with a reason; the reason is kept. Some of its filters also rewrite the text (C4QualityFilter
removes lines) or add metadata: both are taken over. A user's function is `f(batch, **options) -> list[bool | str]`: True keeps, a
string drops with that reason. The price of datatrove's blocks is one Python object per document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus import Corpus, sha256_of
from curate.engine import StagePlan, Work, checksums, make_plan
from curate.errors import CurateError, MissingExtra, SpecError
from curate.functions import checked_options, contents_of, find, sources
from curate.specs.load import nearest
from curate.tasks import Output, Task, code_version, hash_of

CLAIMS = {"url": "url", "date": "date", "language": "claimed_language", "license": "claimed_license"}  # as datatrove names them
Decision = tuple[pa.RecordBatch, list[str | None]]  # the rows, perhaps rewritten, and the reason to drop each, or None


def load_block(name: str, options: dict[str, Any], base: Path | None = None, seed: int = 0) -> Callable[[pa.RecordBatch], Decision]:
    """Return the function that applies the block `name`; raises SpecError or MissingExtra when there is none such.

    `seed` is that of a datatrove block which draws by chance, unless `options` has another one.
    """
    if name.startswith("datatrove."):
        return _datatrove_block(name, options, seed)
    if ":" not in name:
        raise SpecError(f"'{name}' is neither a datatrove block nor a function", where="filter", hint="./steps.py:name, or package.module:name")
    function = find(name, {}, base, "filter")
    options = checked_options(name, function, options, base)

    def apply(batch: pa.RecordBatch) -> Decision:
        return batch, _reasons(function(batch, **options), batch.num_rows, name)

    return apply


def _reasons(answers: Any, rows: int, name: str) -> list[str | None]:
    """Return the reason to drop each row, or None, from what a user's function answered: a list or an array of bool or str.

    Raises CurateError for anything else: dropping or keeping by mistake is worse than stopping.
    """
    for method in ("to_pylist", "tolist"):  # Arrow's and NumPy's own booleans are neither True nor False
        if hasattr(answers, method):
            answers = getattr(answers, method)()
    answers = answers if isinstance(answers, (list, tuple)) else [answers]
    answers = [answer.item() if type(answer).__module__ == "numpy" else answer for answer in answers]
    wrong = next((answer for answer in answers if not isinstance(answer, (bool, str)) or answer == ""), None)
    if wrong is not None or None in answers:
        raise CurateError(f"answered {wrong!r} for a document", where=name, hint="True keeps it; False, or a reason as text, drops it")
    if len(answers) != rows:
        raise CurateError(f"answered {len(answers)} times for {rows} documents", where=name, hint="one answer for each row, in their order")
    return [None if answer is True else _word(answer) if isinstance(answer, str) else "filtered" for answer in answers]


def _datatrove_block(name: str, options: dict[str, Any], seed: int) -> Callable[[pa.RecordBatch], Decision]:
    try:
        from datatrove.pipeline.filters.base_filter import BaseFilter
        from datatrove.pipeline.formatters.base import BaseFormatter
    except ImportError as error:
        raise MissingExtra.named("datatrove", "datatrove", f"filter {name}") from error
    import importlib
    import inspect

    module_name, _, class_name = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        kind = getattr(module, class_name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"no block {name}: {error}", where="filter") from error
    if not isinstance(kind, type) or not issubclass(kind, (BaseFilter, BaseFormatter)):
        raise SpecError(f"{name} is neither a filter nor a formatter", where="filter")
    known = [parameter for parameter in inspect.signature(kind).parameters if parameter != "exclusion_writer"]
    for option in options:
        if option not in known:
            raise SpecError(f"unknown option '{option}'", where=f"filter.{name}", hint=nearest(option, known))
    if "seed" in known and options.get("seed") is None:
        options = options | {"seed": seed}
    try:
        block = kind(**options)
    except Exception as error:  # theirs: of a regular expression that is none, for example
        raise SpecError(f"cannot be made: {type(error).__name__}: {error}", where=f"filter.{name}") from error
    reason = re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()
    decide = (lambda document: block.filter(document)) if isinstance(block, BaseFilter) else _formatting(block)

    def apply(batch: pa.RecordBatch) -> Decision:
        return _apply(batch, decide, reason)

    return apply


def _formatting(block: Any) -> Callable[[Any], bool]:
    def decide(document: Any) -> bool:
        document.text = block.format(document.text)
        return True

    return decide


def _apply(batch: pa.RecordBatch, decide: Callable[[Any], Any], default: str) -> Decision:
    from datatrove.data import Document

    texts: list[str] = []
    metas: list[str] = []
    reasons: list[str | None] = []
    names = ["id", "text", "url", "date", "claimed_language", "claimed_license", "meta"]
    for row in batch.select(names).to_pylist():
        known = {key: row[column] for key, column in CLAIMS.items() if row[column] is not None}
        meta = json.loads(row["meta"])
        document = Document(text=row["text"], id=row["id"], metadata={**meta, **known})
        try:
            answer = decide(document)
        except ImportError as error:  # its message names the package, spaCy for example
            raise MissingExtra(str(error), where="filter", hint="pip install 'curate-lm[datatrove]'") from error
        kept, reason = answer if isinstance(answer, tuple) else (answer, default)
        reasons.append(None if kept else _word(reason))
        texts.append(document.text)
        learned = {key: value for key, value in document.metadata.items() if key not in known and meta.get(key) != value}
        metas.append(json.dumps(meta | learned, sort_keys=True, ensure_ascii=False, default=str) if learned else row["meta"])
    for name, values in (("text", texts), ("meta", metas)):
        index = batch.schema.get_field_index(name)
        batch = batch.set_column(index, batch.schema.field(index), pa.array(values, pa.string()))
    return batch, reasons


def _word(reason: str) -> str:
    """Make a fixed word of a reason: numbers and punctuation would make one counter per value."""
    return re.sub(r"[^a-z]+", "_", re.sub(r"\d+(?:\.\d+)?", "", reason.lower())).strip("_") or "filtered"


def block_of(step: dict[str, dict[str, Any]] | str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of the one block that a step names."""
    if isinstance(step, dict) and len(step) != 1:
        raise SpecError(f"a filter step names one block; this one names {len(step)}", where="filter", hint="write one step for each")
    return (step, {}) if isinstance(step, str) else next(iter(step.items()))


def plan(step: dict[str, dict[str, Any]] | str, corpus: Corpus, source: str, target: Path, beside: Path, seed: int = 0) -> StagePlan:
    """Plan one filter step over one source; `beside` is the folder of the spec, where the paths in it begin; `seed` is the workflow's."""
    name, options = block_of(step)
    theirs = name.startswith("datatrove.")
    code = code_version("curate.filter", libraries=["datatrove"] if theirs else [])
    content: list[str] = []
    if not theirs:
        checked = checked_options(name, find(name, {}, beside, "filter"), options, beside)
        content = [*(sha256_of(file) for file in sources(name, beside)), *contents_of(checked, options)]
    inputs = [str(corpus.folder), str(beside)]
    work = [Work(name, inputs, [*checksums(corpus, name), *content], {}, shard.rows) for name, shard in corpus.shards.items()]
    settings: dict[str, Any] = {"block": name, "options": options}
    if theirs and options.get("seed") is None:  # whether it draws by chance is known when it is imported, which takes long
        settings["seed"] = seed
    return StagePlan(make_plan("filter", "curate.filter:filter_shard", target, settings, code, work), source, code)


def filter_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: apply one block to a shard.

    `inputs`: the corpus, the folder of the spec; `options`: {"block": name, "options": {…}}, and the workflow's "seed" for blocks of datatrove.
    """
    corpus = Corpus.open(task.inputs[0])
    out.empty(corpus.schema())
    seed = int(hash_of(options.get("seed", 0), task.name)[:8], 16)  # of this shard: with one for all, the same rows of each would be drawn
    block = load_block(options["block"], options["options"], Path(task.inputs[1]), seed)
    for rows, (batch, reasons) in out.map(corpus.batches(task.name), block):
        keep = pa.array([reason is None for reason in reasons], pa.bool_())
        out.write(batch.filter(keep))
        out.drop(rows.filter(pc.invert(keep)), [[reason] for reason in reasons if reason is not None])
