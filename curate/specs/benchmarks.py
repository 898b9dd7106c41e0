"""The benchmarks spec: which benchmarks a corpus is searched for, and where their items are.

    gsm8k:
      file: benchmarks/gsm8k_test.jsonl.gz
    mmlu:
      hub: cais/mmlu
      config: all
      split: test
      task: mmlu_{subject}
    my_exam:
      file: exams/*.csv
      fields: {question: text, choices: options, id: number}
      canaries: ["exam canary 26b5c67b"]

The common formats need no `fields`: GSM8K, MATH, MMLU, ARC, HellaSwag, PIQA, TruthfulQA, HumanEval, MBPP,
LLM-Foundry's JSON lines and lm-evaluation-harness's sample files are recognized by their keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from curate.errors import SpecError
from curate.specs.load import Spec, load_spec, nearest

BenchmarkName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Pattern = Annotated[str, Meta(min_length=1)]
Action = Literal["document", "span", "record"]
Variant = Literal[
    "verbatim",
    "reformatted",
    "numbers_changed",
    "names_changed",
    "noisy",
    "truncated",
    "reordered",
    "split",
    "identifiers_renamed",
    "question_only",
    "solution_only",
    "choices_only",
    "canary",
    "paraphrase",
    "template_sibling",
]
Patterns = Pattern | Annotated[list[Pattern], Meta(min_length=1)]


class Fields(Spec, frozen=True, kw_only=True):
    """Where a benchmark's rows keep what; a dot goes into an object (`doc.question`). What is unset is recognized by its usual names."""

    id: str | None = None  # what names an item; its line without one
    question: str | None = None  # what is asked
    choices: str | None = None  # a list of texts, or an object with a list under `text`
    answer: str | None = None  # a text, or the number or letter of a choice
    solution: str | None = None  # worked steps that lead to the answer
    passage: str | None = None  # what the question is about
    code: str | None = None  # a program, compared by its shape


class Benchmark(Spec, frozen=True, kw_only=True):
    """One benchmark: its files or its Hugging Face id, and how to read them."""

    file: Patterns | None = None  # paths or globs, relative to the project: .jsonl, .json, .csv (each also .gz), .parquet
    hub: Pattern | None = None  # instead of `file`: a data set on the Hugging Face hub (`openai/gsm8k`), or a folder laid out like one
    config: str | None = None  # for `hub`: the configuration; needed where there are several
    split: str = "test"  # for `hub`: the split
    revision: str | None = None  # for `hub`: a branch, tag or commit; a commit makes a run repeatable
    fields: Fields = field(default_factory=Fields)  # where its parts are, if their names are unusual
    task: str | None = None  # its task in lm-evaluation-harness; {subject} is that field of the row. null: the benchmark's name
    canaries: list[Annotated[str, Meta(min_length=8)]] = []  # texts that stand in its files for no other purpose than to be found
    description: str = ""  # one line

    def __post_init__(self) -> None:
        if (self.file is None) == (self.hub is None):
            raise ValueError("name either `file` or `hub`")

    def patterns(self) -> list[str]:
        """Return the paths or globs as a list; none for a benchmark of the hub."""
        return [self.file] if isinstance(self.file, str) else list(self.file or [])


def load_benchmarks(path: Path) -> dict[str, Benchmark]:
    """Read the benchmarks spec at `path`. Raises SpecError, with file, line and the nearest known key."""
    spec: dict[str, Benchmark] = load_spec(path, dict[BenchmarkName, Benchmark])
    return spec


def choose(known: dict[str, Benchmark], names: list[str], where: str) -> dict[str, Benchmark]:
    """Return the benchmarks called `names`, in that order. Raises SpecError for one that is not known."""
    if not names:
        raise SpecError("no benchmark is named", where=where, hint=f"known: {', '.join(sorted(known))}")
    for name in names:
        if name not in known:
            raise SpecError(f"no benchmark is called '{name}'", where=where, hint=nearest(name, list(known)))
    return {name: known[name] for name in dict.fromkeys(names)}


def inferred(files: list[str]) -> dict[str, Benchmark]:
    """Return one benchmark per file, named after it: what `--against FILE …` means without a spec."""
    result: dict[str, Benchmark] = {}
    for file in files:
        name = Path(file).name.split(".")[0]
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name).lstrip("_-") or "benchmark"
        if name in result:
            raise SpecError(f"two benchmark files are called '{name}'", where=file, hint="name them in a benchmarks spec")
        result[name] = msgspec.convert({"file": file}, Benchmark)
    return result
