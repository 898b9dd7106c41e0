"""`curate decontaminate`: search corpora for benchmark items outside of a workflow, and compare two searches."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.verbs import number_of_workers

if TYPE_CHECKING:
    from curate.corpus import Corpus

Verb = Callable[..., argparse.ArgumentParser]
DIFF = "diff"


def add(verbs: Any, verb: Verb) -> None:
    """Add `decontaminate`."""
    example = (
        "curate decontaminate runs/demo/web/04-dedup --against benchmarks/*.jsonl.gz --output decontaminated\n"
        "  curate decontaminate runs/demo/web/04-dedup --against exams/*.csv --output ci --action record --fail-over 0.1%\n"
        "  curate decontaminate diff decontaminated ci"
    )
    one = verb(verbs, "decontaminate", run, "find benchmark items in corpora, and write what is clean; or compare two such searches (diff)", example)
    one.usage = (
        "curate decontaminate CORPUS [CORPUS ...] --against BENCHMARK [BENCHMARK ...] --output DIR [options]\n"
        "       curate decontaminate diff RUN_A RUN_B [--json]"
    )
    corpus = "the folder of a corpus (any stage of a run); several are searched together. Or: diff, and the outputs or runs to compare"
    one.add_argument("corpus", type=Path, nargs="+", metavar="CORPUS", help=corpus)
    against = "files of items (.jsonl, .json, .csv, each also .gz; .parquet), or names from --benchmarks"
    one.add_argument("--against", nargs="+", metavar="BENCHMARK", help=against)
    one.add_argument("--benchmarks", type=Path, help="a benchmarks spec; --against then names its entries")
    output = "the folder for the report, the matches, the lists of clean items and, in sources/, the cleaned corpora"
    one.add_argument("--output", type=Path, metavar="DIR", help=output)
    actions = ("document", "span", "record")
    action = "drop the documents (default), cut the matches out of them, or only report: record writes no copy of the corpus"
    one.add_argument("--action", choices=actions, default="document", help=action)
    semantic = "also propose paraphrases with this embedding model, of the endpoint in CURATE_EMBEDDINGS_BASE_URL; says first what it costs"
    one.add_argument("--semantic", metavar="MODEL", help=semantic)
    one.add_argument("--fail-over", type=_share, metavar="SHARE", help="exit with 1 when more than this share of a benchmark's items is found: 0.1%%")
    workers = "worker processes (default: one per core; 0: none, in this process)"
    one.add_argument("--workers", type=number_of_workers, default=os.cpu_count() or 1, help=workers)
    one.add_argument("--json", action="store_true", help="print the summary, or the differences, as JSON")


def _share(text: str) -> float:
    value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a share between 0 and 1, or a percentage")
    return value


def run(arguments: argparse.Namespace) -> int:
    """`curate decontaminate CORPUS … --against …`, or `curate decontaminate diff RUN_A RUN_B`."""
    if arguments.corpus[0] == Path(DIFF):
        return _diff(arguments)
    from curate.errors import SpecError

    missing = [f"--{name}" for name in ("against", "output") if getattr(arguments, name) is None]
    if missing:
        raise SpecError(f"{' and '.join(missing)} must be given", hint="curate decontaminate CORPUS --against FILE … --output DIR")
    import msgspec

    from curate.console import say

    output = arguments.output.resolve()
    _search(arguments, output)
    summary = msgspec.json.decode((output / "summary.json").read_bytes())
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
    else:
        _print(summary)
    say(f"report: {arguments.output / 'report.html'}; matches.parquet, items.parquet, clean_ids/ and lm_eval_samples.json are beside it")
    if arguments.action != "record":
        say(f"the cleaned corpora are in {arguments.output / 'sources'}")
    return 0 if arguments.fail_over is None else _judge(summary, arguments.fail_over)


def _search(arguments: argparse.Namespace, output: Path) -> None:
    """Search the corpora, and write everything into `output`."""
    import msgspec

    from curate.console import Progress
    from curate.decontaminate.stage import decontaminate
    from curate.engine import Context, Inline, Local
    from curate.lock import locked
    from curate.project import Fingerprints
    from curate.specs.workflow import Decontaminate, Semantic, Workflow
    from curate.workflow import Arguments, Project

    opened = _sources(arguments.corpus)
    _check_output(output, opened)
    sources = {source: corpus for source, corpus in opened.items() if corpus.manifest.rows}
    with locked(output):
        spec, names = _benchmarks(arguments, output)
        semantic = Semantic(model=arguments.semantic) if arguments.semantic else None
        options = Decontaminate(against=names, benchmarks=str(spec), action=arguments.action, semantic=semantic)
        nothing = msgspec.convert({"name": "decontaminate", "sources": {"x": [{"ingest": {"warc": "x"}}]}}, Workflow)
        project = Project(Path.cwd(), Path.cwd(), output, 0, Fingerprints(output / ".fingerprints.json"), nothing)
        engine = Local(arguments.workers, output / "logs") if arguments.workers else Inline()
        try:
            with Progress() as progress:
                targets = {source: output / "sources" / source for source in sources}
                context = Context(engine, progress)
                say = progress.say if semantic else lambda line: None  # the cost of embeddings; the rest is in the table
                asked = Arguments(sources, targets, output, project, context, say)
                decontaminate(options, asked, copies=arguments.action != "record")
                _remove_older(targets, progress.say)
        finally:
            engine.close()


def _remove_older(targets: dict[str, Path], say: Callable[[str], None]) -> None:
    """Remove what an earlier search wrote for sources that this one did not search: it was made by other benchmarks or settings."""
    import shutil

    import msgspec

    from curate.tasks import Plan

    for plan in sorted(next(iter(targets.values())).parent.glob("*/plan.json")):
        folder = plan.parent
        try:
            ours = msgspec.json.decode(plan.read_bytes(), type=Plan).stage == "decontaminate"
        except msgspec.DecodeError:
            ours = False
        if ours and folder not in targets.values():
            shutil.rmtree(folder)
            say(f"removed {folder}: an earlier search wrote it, and this one does not search '{folder.name}'")


def _check_output(output: Path, sources: dict[str, Corpus]) -> None:
    """Raise SpecError where a search would write over a corpus or a run: it removes what it did not write itself."""
    from curate.corpus import read_manifest
    from curate.errors import SpecError
    from curate.strangers import decoded
    from curate.workflow import RunState

    hint = "name a folder of its own for --output"
    for opened in sources.values():
        corpus: Corpus | None = opened
        while corpus is not None:
            if corpus.folder.is_relative_to(output) or output.is_relative_to(corpus.folder):
                raise SpecError(f"--output cannot be, hold or lie in the corpus that is searched: {corpus.folder}", where=str(output), hint=hint)
            corpus = corpus.base
    for folder in (output, *output.parents):
        if (folder / "run.json").is_file() and decoded(folder / "run.json", RunState) is not None:
            raise SpecError(f"--output cannot lie in a run: {folder}", where=str(output), hint=hint)
    written = {output: "report_matches"} | {output / "sources" / source: "decontaminate" for source in sources}
    for folder, stage in written.items():
        if (folder / "manifest.json").is_file() and read_manifest(folder).stage != stage:
            raise SpecError(f"--output would write over a corpus: {folder}", where=str(output), hint=hint)


def _sources(folders: list[Path]) -> dict[str, Corpus]:
    """Open the corpora, by source, and name those without documents. Raises InputError when two are of one source, or there is nothing to search."""
    from curate.console import say
    from curate.corpus import Corpus
    from curate.errors import InputError

    hint = "name the folder of a stage of one source, such as runs/demo/web/04-dedup; a search with --action record keeps no documents"
    sources: dict[str, Corpus] = {}
    empty: list[Path] = []
    for folder in folders:
        corpus = Corpus.open(folder.resolve())
        if not corpus.manifest.rows:
            empty.append(folder)
        elif "text" not in corpus.schema().names:
            raise InputError("has no column 'text' to search", where=str(folder), hint=hint)
        if corpus.manifest.source in sources:
            raise InputError(f"two corpora are of the source '{corpus.manifest.source}'", where=str(folder), hint="search them one after the other")
        sources[corpus.manifest.source] = corpus
    if len(empty) == len(sources):  # no documents hold no items: it would pass as clean
        raise InputError("holds no documents to search", where=", ".join(map(str, empty)), hint=hint)
    for folder in empty:
        say(f"warning: {folder} holds no documents to search")
    return sources


def _print(summary: dict[str, Any]) -> None:
    """Print the table of benchmarks, what it costs, and what a clean result means."""
    from curate.console import print_table, say, two_digits, visible

    rows = []
    for name, b in summary["benchmarks"].items():
        low, high = (two_digits(100 * value) for value in b["interval"])
        share = "–" if b["rate"] is None else f"{100 * b['rate']:.2f} % ({low} to {high})"
        least = "–" if b["smallest_share"] is None else f"{b['smallest_share']:.0%} of a question"
        documents = f"{b['documents']:,} of {summary['documents']:,}"
        rows.append([name, b["items"], b["items"] - b["scannable"], b["contaminated"], share, documents, least])
    print_table(["benchmark", "items", "unscannable", "found", "share (95 % interval)", "documents", "surely found from"], rows)
    for name, b in summary["benchmarks"].items():
        if b["note"]:
            say(f"{name}: {b['note']}")
    if summary["bad_lines"]:
        first = summary["bad_lines"][0]
        say(f"lines that are no items: {len(summary['bad_lines']):,}; the first is {visible(first['place'])}: {visible(first['reason'])}")
    removal = summary["removal"]
    if removal["documents"] or removal["documents_cut"]:
        say(
            f"removed: {removal['documents']:,} of {removal['entered_documents']:,} documents, {removal['documents_cut']:,} more were cut; "
            f"{removal['bytes']:,} bytes (≈{removal['tokens_estimated']:,} tokens, {removal['share_of_bytes']:.2%} of the text)"
        )


def _judge(summary: dict[str, Any], allowed: float) -> int:
    """Return the exit code of --fail-over. What could not be looked for has not passed."""
    from curate.console import say

    failed = 0
    for name, b in summary["benchmarks"].items():
        if b["rate"] is None:
            say(f"failed: {name} could not be checked: {b['note']}")
            failed = 1
        elif b["rate"] > allowed:
            say(f"failed: {100 * b['rate']:.4g} % of {name} was found; {100 * allowed:.4g} % is allowed")
            failed = 1
    return failed


def _benchmarks(arguments: argparse.Namespace, output: Path) -> tuple[Path, list[str]]:
    """Return the benchmarks spec and the names in it; files become a spec of their own, kept with the output."""
    if arguments.benchmarks is not None:
        return arguments.benchmarks.resolve(), list(arguments.against)
    from curate.corpus import write_json
    from curate.errors import SpecError
    from curate.specs.benchmarks import inferred
    from curate.specs.load import resolved

    for file in arguments.against:
        if not Path(file).is_file():
            raise SpecError("no such file", where=file, hint="name files of items, or a spec with --benchmarks")
    found = inferred([str(Path(file).resolve()) for file in arguments.against])
    spec = output / "benchmarks.yaml"  # JSON is YAML
    write_json(spec, resolved(found))
    return spec, list(found)


def _diff(arguments: argparse.Namespace) -> int:
    """`curate decontaminate diff RUN_A RUN_B`."""
    import msgspec

    from curate.decontaminate.diff import as_text, differences
    from curate.errors import SpecError

    if len(arguments.corpus) != 3:
        hint = "curate decontaminate diff RUN_A RUN_B; a corpus in a folder called diff is ./diff"
        raise SpecError(f"diff compares two outputs or runs, and {len(arguments.corpus) - 1} were named", hint=hint)
    found = differences(arguments.corpus[1], arguments.corpus[2])
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        print(as_text(found))
    return 0
