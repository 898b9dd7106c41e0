"""Check a workflow, and every spec that it names, before anything runs: `curate check`.

What needs data (columns in drop rules, fields of a JSON line) is checked as far as it is known beforehand: the fields of shipped
annotators are. What trains or reads is left to its stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from curate.documents import SCHEMA
from curate.edit import named
from curate.errors import CurateError, InputError, SpecError
from curate.functions import checked_options, label
from curate.functions import find as find_function
from curate.project import find, resolve
from curate.select import Rules, check_reason
from curate.specs.load import line_of, load_spec, nearest
from curate.specs.workflow import Classify, Decontaminate, Dedup, Ingest, Rephrase, Step, Tokenize

_Placed = tuple[tuple[str | int, ...], Step]  # a step, and the keys that lead to it in the workflow


def check_workflow(project: Any) -> list[str]:
    """Raise SpecError for the first thing that is wrong; return the spec files that were read."""
    workflow, read = project.workflow, []
    if workflow.prepare is not None:
        with _placed(project, "prepare"):
            function = find_function(workflow.prepare.call, {}, project.beside, "function")
            checked_options(workflow.prepare.call, function, workflow.prepare.options, project.beside)
    names = set(workflow.sources)
    for source, steps in workflow.sources.items():
        for k, step in enumerate(steps):
            with _placed(project, "sources", source, k):
                read += _located(f"sources.{source}[{k}].{step.kind}", step, project, names)
    together: list[_Placed] = [(("together", k), step) for k, step in enumerate(workflow.together)]
    for k, step in enumerate(workflow.together):
        with _placed(project, "together", k):
            read += _located(f"together[{k}].{step.kind}", step, project, names)
        if step.kind == "rephrase":
            names.add(step.options.into)
            _check_rules(step.options.into, together[k + 1 :], project)  # it has the annotations that come after it
    for source, steps in workflow.sources.items():
        _check_rules(source, [*((("sources", source, k), step) for k, step in enumerate(steps)), *together], project)
    if workflow.mix is not None:
        from curate.specs.mix import Mix, check_own

        with _placed(project, "mix"):
            path = find("mixes", workflow.mix, project.root, project.beside)
        check_own(load_spec(path, Mix), str(path))
        read.append(path)
    return sorted({str(path) for path in read})


@contextmanager
def _placed(project: Any, *keys: str | int) -> Iterator[None]:
    """Let a SpecError tell the file and the line of what `keys` lead to in the workflow; of the rule in it, where the error names one."""
    try:
        yield
    except SpecError as error:
        if project.file is None:
            raise
        where = f"{project.file}:{line_of(project.file, [*keys, *error.where.rpartition(': ')[2].split('.')])}"
        raise SpecError(error.what, where=f"{where}: {error.where}" if error.where else where, hint=error.hint) from error


def _located(where: str, step: Step, project: Any, names: set[str]) -> list[Path]:
    try:
        return _check_step(step, project, names)
    except SpecError as error:
        raise SpecError(error.what, where=f"{where}: {error.where}" if error.where else where, hint=error.hint) from error


def _check_step(step: Step, project: Any, names: set[str]) -> list[Path]:
    """Check one step; return the spec files that it names."""
    root, beside, options = project.root, project.beside, step.options
    if isinstance(options, Ingest):
        if options.pdf is not None:
            from curate.specs.ocr import Ocr

            path = find("ocr", options.ocr, root, beside)
            load_spec(path, Ocr)
            return [path]
        _one_of("extract.engine", options.extract.engine, ["resiliparse", "trafilatura"])
    elif isinstance(options, Dedup):
        _one_of("keep", options.keep, ["longest", "newest", "oldest", "first"])
        for source in options.prefer:
            _one_of("prefer", source, sorted(names))
        if not options.exact and options.minhash is None:
            raise SpecError("neither exact nor minhash is on", hint="set minhash: {}, or remove the step")
    elif isinstance(options, Classify):
        return [_check_classifier(options, project, names)]
    elif isinstance(options, Decontaminate):
        from curate.specs.benchmarks import choose, load_benchmarks

        path = resolve(options.benchmarks, root, beside)
        choose(load_benchmarks(path), options.against, "against")
        return [path]
    elif isinstance(options, Rephrase):
        from curate.rephrase.styles import style_named

        for style in options.styles:
            style_named(style).with_gates(options.gates)
        for source in options.sources:
            _one_of("sources", source, sorted(names))
        if options.into in names:
            raise SpecError(f"there is a source '{options.into}' already", where="into", hint="choose another name for what is rephrased")
    elif isinstance(options, Tokenize):
        if options.tokenizer is not None:
            _check_tokenizer(resolve(options.tokenizer, root, beside), project)
    elif step.kind == "annotate":
        _check_annotators(options, beside)
    elif step.kind == "edit":
        from curate.edit import validate as validate_edit

        for name, chosen in named(options):
            validate_edit(name, chosen, beside)
    elif step.kind == "filter":
        from curate.filter import block_of, load_block

        load_block(*block_of(options), beside)
    elif step.kind == "drop":
        for reason in options:
            check_reason(reason, "drop")
    return []


def _check_classifier(options: Classify, project: Any, names: set[str]) -> Path:
    """Check the classifier of a step; return the file of its spec."""
    from curate.specs.classifier import Classifier

    path = find("classifiers", options.classifier, project.root, project.beside)
    spec = load_spec(path, Classifier)
    if spec.name in SCHEMA.names:
        raise SpecError(f"'{spec.name}' is a column of every document", where=str(path), hint="give the classifier another name")
    for examples in [*spec.positive, *spec.negative]:
        if examples.source is not None:
            _one_of(f"classifier {spec.name}: source", examples.source, sorted(names))
    return path


def _check_annotators(options: Any, beside: Path) -> None:
    """Check the annotators of a step: that there are such, and that each has a column of its own."""
    from curate.annotate import validate

    for name, chosen in named(options):
        validate(name, chosen, beside)
        if label(name) in SCHEMA.names:
            raise SpecError(f"'{label(name)}' is a column of every document", hint="give the function another name")
    labels = [label(name) for name, _ in named(options)]
    twice = next((one for one in labels if labels.count(one) > 1), None)
    if twice:
        raise SpecError(f"two annotators would write the column '{twice}'", hint="rename one function, or move it to a step of its own")


def _one_of(where: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise SpecError(f"'{value}' is unknown", where=where, hint=nearest(value, known))


def _check_tokenizer(path: Path, project: Any) -> None:
    """Raise SpecError unless `path` is a tokenizer.json that can be used, or will be made by the workflow's `prepare`."""
    from curate.tokens.tokenizer import Encoder

    prepare = project.workflow.prepare
    if prepare is not None and path.is_relative_to(resolve(prepare.into, project.root, project.beside)):
        return
    if not path.is_file():
        raise SpecError("no such file", where=str(path), hint="name a tokenizer.json, or leave out `tokenizer` to train one")
    try:
        Encoder.open(path)
    except InputError as error:
        raise SpecError(error.what, where=error.where, hint=error.hint) from error


def _check_rules(source: str, steps: list[_Placed], project: Any) -> None:
    """Compile the conditions on one source against the columns that its steps will have made."""
    schema = SCHEMA
    for k, (place, step) in enumerate(steps):
        with _placed(project, *place):
            schema = _schema_after(step, schema, source, f"sources.{source}: step {k + 1}", project)


def _schema_after(step: Step, schema: pa.Schema, source: str, where: str, project: Any) -> pa.Schema:
    """Check one step of a source whose documents have the columns of `schema`; return the columns that they have after it."""
    from curate.annotate import annotate

    if step.kind == "annotate":
        for name, options in named(step.options):
            try:
                column = annotate(pa.RecordBatch.from_pylist([], schema), name, options, project.beside)
            except CurateError:
                raise
            except (Exception, SystemExit) as error:  # a user's own function
                what = f"fails on a batch without rows: {type(error).__name__}: {error}"
                hint = "an annotator is asked with no rows for the type of its column"
                raise SpecError(what, where=f"{where}: annotate.{name}", hint=hint) from error
            unknown = _without_type(column.type)
            if unknown is not None:
                what = f"the type of {unknown or 'the column'} cannot be told from a batch without rows"
                hint = "give pa.array a type, such as pa.array(values, pa.float64())"
                raise SpecError(what, where=f"{where}: annotate.{name}", hint=hint)
            schema = _with(schema, pa.field(label(name), column.type))
    elif step.kind == "classify":
        from curate.classify.model import SCORE
        from curate.specs.classifier import Classifier

        classifier = load_spec(find("classifiers", step.options.classifier, project.root, project.beside), Classifier)
        for examples in [*classifier.positive, *classifier.negative]:
            if examples.source == source and examples.where is not None:
                _compile({"where": examples.where}, schema, f"classifier {classifier.name}", where)
        schema = _with(schema, pa.field(classifier.name, SCORE))
    elif step.kind == "rephrase":
        if step.options.where is not None and source in (step.options.sources or [source]):
            _compile({"where": step.options.where}, schema, "rephrase", where)
    elif step.kind == "drop":
        _compile(step.options, schema, "drop", where)
    return schema


def _compile(rules: dict[str, str], schema: pa.Schema, what: str, where: str) -> None:
    try:
        Rules(rules, schema, what)
    except CurateError as error:
        raise SpecError(error.what, where=f"{where}: {error.where}", hint=error.hint) from error


def _without_type(kind: pa.DataType) -> str | None:
    """Return the first field of an annotator's column that has no type: its name, "" for the column itself, None when all have one."""
    if pa.types.is_null(kind):
        return ""
    fields = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return next((f"field '{field.name}'" for field in fields if pa.types.is_null(field.type)), None)


def _with(schema: pa.Schema, field: pa.Field) -> pa.Schema:
    at = schema.get_field_index(field.name)
    return schema.set(at, field) if at >= 0 else schema.append(field)


def as_text(spec: Any) -> str:
    """Return a resolved spec as JSON, for `curate check --resolved`."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2).decode()
