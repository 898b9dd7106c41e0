"""The classify step: train the classifier if these labels have not been trained on yet, then score every source.

Training is one task with a folder of its own (`together/NN-classify`), since it sees all labels at once; scoring is one task per shard,
and writes an annotation column with the classifier's name. A changed label file trains and scores again; a changed
drop rule does neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from curate.classify.labels import label_files, load_classifier
from curate.console import counted
from curate.corpus import Corpus, Manifest
from curate.engine import StagePlan, Work, checksums, complete, complete_all, make_plan, shard_work
from curate.errors import BudgetError, SpecError
from curate.ledger import allowed_failures
from curate.specs.classifier import Classifier, Examples
from curate.specs.load import nearest, resolved
from curate.specs.workflow import Classify
from curate.tasks import Output, Plan, Task, code_version

if TYPE_CHECKING:
    from curate.workflow import Arguments

_FAILED = "failed"  # the note of a training whose `where` failed on some documents
_CODE = ("curate.classify", "curate.kernels", "curate.specs.classifier")


def classify(options: Classify, arguments: Arguments) -> dict[str, Manifest]:
    """Train and score; return the manifest of the annotations of each source."""
    from curate.project import find

    project = arguments.project
    spec = load_classifier(find("classifiers", options.classifier, project.root, project.beside), project.root)
    libraries = ["scikit-learn", "numpy"] if spec.engine == "logistic" else ["numpy"]
    code = code_version(*_CODE, libraries=libraries)
    trained = complete(_training(spec, arguments, code), arguments.context, source="together", code=code)
    model = [trained.files["classifier.json"], trained.files["model.bin"]]
    arguments.say(_line(spec, trained))
    for failures in trained.notes["training"].get(_FAILED, {}).values():
        allowed = allowed_failures(arguments.context.budget, failures["asked"])
        if failures["failed"] > allowed:
            hint = "mend the condition; or raise errors.max_share or errors.max_documents in the workflow to train without these documents"
            what = f"{_told(failures)} of {failures['asked']:,}; the spec allows {allowed:,}; the first error: {failures['error']}"
            raise BudgetError(what, where=f"classifier {spec.name}", hint=hint)
        left = "which is left out" if failures["failed"] == 1 else "which are left out"
        arguments.say(f"warning: classifier {spec.name}: {_told(failures)}, {left}")
    stages = []
    for source, corpus in arguments.sources.items():
        work = [
            msgspec.structs.replace(one, inputs=[*one.inputs, str(arguments.scratch)], checksums=[*one.checksums, *model])
            for one in shard_work(corpus)
        ]
        chosen = {"name": spec.name}
        plan = make_plan("classify", "curate.classify.stage:score_shard", arguments.targets[source], chosen, code, work)
        stages.append(StagePlan(plan, source, code, corpus.folder))
    return dict(zip(arguments.sources, complete_all(stages, arguments.context), strict=True))


def _training(spec: Classifier, arguments: Arguments, code: dict[str, str]) -> Plan:
    """Return the plan of the one training task; its key covers the content of the label files and of the sources it draws on."""
    project, sums, used = arguments.project, [], []
    for examples in [*spec.positive, *spec.negative]:
        if examples.source is None:
            sums += [project.fingerprints.of(path) for path in label_files(examples, project.root)]
        elif examples.source in arguments.sources:
            corpus = arguments.sources[examples.source]
            used.append(examples.source)
            sums += [checksum for shard in corpus.shards for checksum in checksums(corpus, shard)]
        else:
            raise _unknown(examples.source, spec, arguments)
    project.fingerprints.save()
    # Paths go into the inputs, which no key covers: a moved project trains nothing again.
    inputs = [str(project.root), *(str(arguments.sources[source].folder) for source in used)]
    work = [Work("training", inputs, sums, {"sources": used})]
    return make_plan("train_classifier", "curate.classify.stage:train_task", arguments.scratch, {"spec": resolved(spec)}, code, work)


def _unknown(source: str, spec: Classifier, arguments: Arguments) -> SpecError:
    """Return what is said of a source that this run does not have: it may be one that is rephrased where there is an endpoint."""
    where = f"classifier {spec.name}"
    steps = [step.options for step in arguments.project.workflow.together if step.kind == "rephrase"]
    skipped = next((options for options in steps if options.into == source), None)
    if skipped is None:
        return SpecError(f"no source '{source}'", where=where, hint=nearest(source, list(arguments.sources)))
    what = f"no source '{source}': its rephrase step was skipped, as no endpoint is configured ({skipped.base_url_env} is not set)"
    return SpecError(what, where=where, hint=f"set {skipped.base_url_env}, or take the examples from another source")


def _line(spec: Classifier, trained: Manifest) -> str:
    notes = trained.notes["training"]
    low, high = notes["auc_interval"]
    return (
        f"classifier {spec.name}: AUC {notes['auc']:.3f} ({low:.3f} to {high:.3f}) on {notes['num_held_out']:,} held-out texts, "
        f"trained on {notes['num_train']:,}"
    )


def _told(failures: dict[str, Any]) -> str:
    """Say on how many documents a `where` failed."""
    documents = counted(failures["failed"], "document")
    return f"'{failures['where']}' fails on {documents} of '{failures['source']}' (first: {failures['first']})"


def train_task(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: train one classifier. Writes its files and no documents. `inputs`: the project's root, then corpora."""
    from curate.classify.model import train

    spec = msgspec.convert(options["spec"], Classifier)
    folders = dict(zip(task.options["sources"], task.inputs[1:], strict=True))

    failed: dict[str, dict[str, Any]] = {}

    def documents(examples: Examples) -> Iterator[str]:
        return texts_of(Corpus.open(folders[examples.source]), examples, spec.name, failed)

    try:
        record, files = train(spec, Path(task.inputs[0]), documents)
    except SpecError as error:
        if failed:
            raise SpecError(f"{error.what}; {'; '.join(map(_told, failed.values()))}", where=error.where, hint=error.hint) from error
        raise
    for name, content in files.items():
        out.path(name).write_bytes(content)
    measured = record["evaluation"]
    out.note("auc", measured["auc"])
    out.note("auc_interval", measured["auc_interval"])
    out.note("num_held_out", measured["num_texts"])
    out.note("num_train", record["data"]["num_train"])
    if failed:
        out.note(_FAILED, failed)


def texts_of(corpus: Corpus, examples: Examples, name: str, failed: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the texts of the documents of `corpus` that `examples.where` holds for; all of them without one.

    Documents on which it fails are left out; `failed` then says, for source and `where`, on how many of how many, and on which first.
    """
    from curate.select import Rules

    if examples.where is None:
        for shard in corpus.shards:
            for batch in corpus.batches(shard, ["text"]):
                yield from batch.column("text").to_pylist()
        return
    rules = Rules({"chosen": examples.where}, corpus.schema(), f"classifier {name}, source {examples.source}, where")
    failures: dict[str, Any] = {"where": examples.where, "source": examples.source, "asked": 0, "failed": 0}
    for shard in corpus.shards:
        for batch in corpus.batches(shard):
            hits, errors = rules.decide_each(batch)
            failures["asked"] += batch.num_rows
            if errors:
                row = min(errors)
                failures = {"first": batch.column("id")[row].as_py(), "error": errors[row]} | failures
                failures["failed"] += len(errors)
            if failures["failed"]:
                failed[f"{examples.source}: {examples.where}"] = failures
            yield from batch.column("text").filter(pa.array([bool(hit) for hit in hits])).to_pylist()


def score_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: score one shard. `inputs`: the corpus and the folder of the classifier; `options`: {"name": column}."""
    from curate.classify.model import SCORE, load, score

    model = load(Path(task.inputs[1]))
    corpus = Corpus.open(task.inputs[0])
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field(options["name"], SCORE)])
    out.empty(schema)
    for batch, scores in out.map(corpus.batches(task.name, ["text"]), lambda rows: score(rows, model)):
        out.write(pa.RecordBatch.from_arrays([batch.column("id"), scores], schema=schema))
