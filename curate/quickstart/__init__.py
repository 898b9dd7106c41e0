"""The quickstart's input: a small crawl and its companions, made from Python's own installation.

Text that every machine has, so that the first run needs no download: documentation rendered as web pages in WARC
files, papers as PDFs, the standard library's source, arithmetic word problems, and what to measure and train on.
What a crawl really contains is planted among it, and `summary.json` says what and where. Seeded: the same Python and
the same seed give the same bytes. The price: it is small, it is about Python, and it is another text under another
Python, so its numbers say that everything works and nothing about how well a recipe does on the web.

    web/pages-0000{0..3}.warc.gz    pages, good and bad; two gzip members are cut short
    papers/*.pdf                    with text layers, scanned, broken, encrypted, no PDF at all
    code/stdlib-{0,1}.jsonl.gz      {"id", "text", "license", "path"}
    math/problems.jsonl.gz          {"id", "text"}
    benchmarks/word_problems.jsonl  {"id", "question", "answer"}
    evals/{docs,code}.jsonl         {"text"}
    evals/math.jsonl                {"context", "continuation"}: the benchmark's items
    labels/quality.jsonl            {"text", "label"}: good or bad
    summary.json                    what was planted where, and the files' checksums
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import InputError

if TYPE_CHECKING:
    from curate.quickstart.library import Documentation, Module
    from curate.quickstart.problems import Problem

    Said = Mapping[str, Sequence[Documentation]]  # by role

NUM_PROBLEMS, NUM_REPEATED, NUM_ITEMS = 5_500, 40, 200  # at scale 1; the benchmark's size does not scale
NUM_DOCUMENTATION, NUM_CODE, NUM_LABELS = 150, 100, 300
WEB_CHARACTERS, LABEL_CHARACTERS, SUITE_CHARACTERS = 3_000_000, 300_000, 300_000  # of prose to read, at scale 1


def write(folder: Path | str, *, seed: int = 0, scale: float = 1.0, library: Path | str | None = None) -> dict[str, object]:
    """Fill `folder` with the quickstart's input, and return the summary that is also its `summary.json`, written last.

    `scale` multiplies the number of pages, files and problems; there is at least one of everything. `library` is the
    folder whose modules are read; None means this Python's own. Files of an earlier call that are no longer made are
    removed. Raises InputError when `scale` is not positive or the library has too few modules.
    """
    if not scale > 0:
        raise InputError(f"scale must be above 0, and is {scale}", where="prepare.options.scale")
    target = Path(folder)
    files, planted = _content(seed, scale, Path(library) if library is not None else None)
    _remove_stale(target, files)
    for name, data in files.items():
        _write(target / name, data)
    summary: dict[str, object] = {"seed": seed, "scale": scale, "python": sys.version.split()[0], **planted}
    summary["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    _write(target / "summary.json", (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode())
    return summary


def _content(seed: int, scale: float, library: Path | None) -> tuple[dict[str, bytes], dict[str, object]]:
    """Return every file's bytes by its path, and what was planted in them."""
    from curate.quickstart import library as shelves
    from curate.quickstart.code import NUM_SHARDS, code
    from curate.quickstart.papers import TOPICS, papers
    from curate.quickstart.web import web

    modules = shelves.modules(library, seed)
    said = {
        "web": shelves.shelf(modules, "web", seed, enough=WEB_CHARACTERS * scale),
        "papers": shelves.shelf(modules, "papers", seed, enough=60_000),
        "labels": shelves.shelf(modules, "labels", seed, enough=LABEL_CHARACTERS * scale),
        "evals": shelves.shelf(modules, "evals", seed, enough=SUITE_CHARACTERS * scale),
    }
    benchmark = _benchmark(seed)
    archives, web_planted = web(said["web"], benchmark, frozenset(TOPICS), seed=seed, scale=scale)
    pdfs, papers_planted = papers(said["papers"], seed=seed, scale=scale)
    rows = code(modules, seed=seed, scale=scale)
    files = {f"web/pages-{n:05d}.warc.gz": data for n, data in enumerate(archives)} | {f"papers/{name}": data for name, data in pdfs.items()}
    files |= {f"code/stdlib-{n}.jsonl.gz": _zipped(_lines(rows[n::NUM_SHARDS])) for n in range(NUM_SHARDS)}
    problems, repeated = _problems(seed, scale)
    files["math/problems.jsonl.gz"] = _zipped(_lines(problems))
    measured = _measured(modules, said, [row["text"] for row in rows], benchmark, seed=seed, scale=scale)
    files |= {name: _lines(found) for name, found in measured.items()}
    counts = {"code": len(rows), "math": len(problems), **{name: len(found) for name, found in measured.items()}}
    roles = {role: sorted({m.package for m in modules if m.role == role}) for role in ("evals", "labels", "papers")}
    return files, {"web": web_planted, "papers": papers_planted, "math": {"repeated": repeated}, "rows": counts, "packages": roles}


def _benchmark(seed: int) -> list[Problem]:
    from curate.quickstart.problems import book, problems

    return problems(book("benchmark"), NUM_ITEMS, seed, "benchmark")


def _problems(seed: int, scale: float) -> tuple[list[dict[str, str]], list[str]]:
    """Return the maths source's rows, and the ids of those that repeat another one."""
    from curate.quickstart.draw import Draw, hashed
    from curate.quickstart.problems import book, problems
    from curate.quickstart.web import counted

    made = problems(book("problems"), counted(NUM_PROBLEMS, scale), seed, "math")
    draw = Draw(seed, "math", "repeated")
    again = {f"problem-{number:05d}-again": p for number, p in draw.some(list(enumerate(made)), counted(NUM_REPEATED, scale))}
    named = {f"problem-{number:05d}": p for number, p in enumerate(made)} | again
    rows = [{"id": key, "text": p.text} for key, p in named.items()]
    return sorted(rows, key=lambda row: hashed(seed, "math", row["id"])), sorted(again)


def _measured(
    modules: Sequence[Module], said: Said, sources: Sequence[str], benchmark: Sequence[Problem], *, seed: int, scale: float
) -> dict[str, list[dict[str, str]]]:
    """Return the rows of the benchmark, the suites and the labels, by file; `sources` is the text of the code source."""
    from curate.quickstart import held_out
    from curate.quickstart.library import topics
    from curate.quickstart.web import counted, item_id

    seen = held_out.sentences_of([*said["web"], *said["papers"], *said["labels"]])
    seen |= {key for _, text in topics() for block in text for key in held_out.keys(block)}
    apart = [module for module in modules if module.role == "evals"]
    return {
        "benchmarks/word_problems.jsonl": [{"id": item_id(n), "question": p.question, "answer": p.solution} for n, p in enumerate(benchmark)],
        "evals/docs.jsonl": held_out.documentation_suite(said["evals"], seen, counted(NUM_DOCUMENTATION, scale)),
        "evals/code.jsonl": held_out.code_suite(apart, sources, counted(NUM_CODE, scale), seed=seed),
        "evals/math.jsonl": [{"context": f"Question: {p.question}\nAnswer:", "continuation": f" {p.solution}"} for p in benchmark],
        "labels/quality.jsonl": held_out.labels(said["labels"], counted(NUM_LABELS, scale), seed=seed),
    }


def _lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _zipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _remove_stale(target: Path, files: Mapping[str, bytes]) -> None:
    """Remove what an earlier summary lists and this call does not make; never anything else, and nothing outside."""
    try:
        listed = json.loads((target / "summary.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    (target / "summary.json").unlink()
    root = target.resolve()
    for name in listed:
        path = target / name
        if name not in files and path.is_file() and path.resolve().is_relative_to(root):
            path.unlink()
