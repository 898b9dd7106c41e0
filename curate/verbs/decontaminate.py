"""`curate decontaminate`: search corpora for benchmark items outside of a workflow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verb = Callable[..., argparse.ArgumentParser]


def add(verbs: Any, verb: Verb) -> None:
    """Add `decontaminate`."""
    example = "curate decontaminate runs/demo/web/04-dedup --against benchmarks/*.jsonl.gz --output decontaminated"
    one = verb(verbs, "decontaminate", run, "find benchmark items in corpora, and write what is clean", example)
    one.add_argument("corpus", type=Path, nargs="+", help="the folder of a corpus; several are searched together")
    against = "files of items (.jsonl, .jsonl.gz), or names from --benchmarks"
    one.add_argument("--against", nargs="+", required=True, metavar="BENCHMARK", help=against)
    one.add_argument("--benchmarks", type=Path, help="a benchmarks spec; --against then names its entries")
    one.add_argument("--output", type=Path, required=True, help="the folder for matches, the summary and the cleaned corpora")
    actions = ("document", "span", "record")
    one.add_argument("--action", choices=actions, default="document", help="drop documents, cut the matches out, or only report")
    one.add_argument("--fail-over", type=_share, help="exit with 1 when more than this share of a benchmark's items is found, such as 0.1%%")
    one.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="worker processes (default: one per core)")
    one.add_argument("--json", action="store_true", help="print the summary as JSON")


def _share(text: str) -> float:
    value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a share between 0 and 1, or a percentage")
    return value


def run(arguments: argparse.Namespace) -> int:
    """`curate decontaminate CORPUS … --against …`."""
    import msgspec

    from curate.console import Progress, print_table, say
    from curate.corpus import Corpus
    from curate.decontaminate.stage import decontaminate
    from curate.engine import Context, Local
    from curate.errors import InputError
    from curate.lock import locked
    from curate.project import Fingerprints
    from curate.specs.workflow import Decontaminate, Workflow
    from curate.workflow import Arguments, Project

    output = arguments.output.resolve()
    sources: dict[str, Corpus] = {}
    for folder in arguments.corpus:
        corpus = Corpus.open(folder.resolve())
        if corpus.manifest.source in sources:
            raise InputError(f"two corpora are of the source '{corpus.manifest.source}'", where=str(folder), hint="search them one after the other")
        sources[corpus.manifest.source] = corpus
    with locked(output):
        spec, names = _benchmarks(arguments, output)
        options = Decontaminate(against=names, benchmarks=str(spec), action=arguments.action)
        nothing = msgspec.convert({"name": "decontaminate", "sources": {"x": [{"ingest": {"warc": "x"}}]}}, Workflow)
        project = Project(Path.cwd(), Path.cwd(), output, 0, Fingerprints(output / ".fingerprints.json"), nothing)
        engine = Local(arguments.workers, output / "logs")
        try:
            with Progress() as progress:
                targets = {source: output / source for source in sources}
                decontaminate(options, Arguments(sources, targets, output / "report", project, Context(engine, progress), lambda line: None))
        finally:
            engine.close()
    summary = msgspec.json.decode((output / "report" / "summary.json").read_bytes())
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
    else:
        rows = [
            [
                name,
                b["items"],
                sum(b["unscannable"].values()),
                b["contaminated"],
                "–" if b["rate"] is None else f"{100 * b['rate']:.2f} %",
                b["documents"],
            ]
            for name, b in summary["benchmarks"].items()
        ]
        print_table(["benchmark", "items", "unscannable", "found", "share", "documents"], rows)
    say(f"matches, items and the summary are in {output / 'report'}, the cleaned corpora beside it")
    worst = max((b["rate"] or 0.0 for b in summary["benchmarks"].values()), default=0.0)
    return 1 if arguments.fail_over is not None and worst > arguments.fail_over else 0


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
