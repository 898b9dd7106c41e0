"""The workflow spec: raw input → one corpus per source → a mix.

Every step is a mapping with exactly one key, which is also the name of the module that does the work and of the
folder that it writes.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from curate.specs.load import Spec

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
Paths = str | list[str]


class Extract(Spec, frozen=True, kw_only=True):
    """How text is taken from HTML."""

    engine: str = "resiliparse"  # resiliparse: fast; trafilatura: better on articles, needs its extra
    max_bytes: Positive = 20_000_000  # a page larger than this is dropped as `page_too_large`


class Columns(Spec, frozen=True, kw_only=True):
    """Which fields of a JSON line or a Parquet row become which columns; what is not named goes to `meta`."""

    text: str = "text"
    url: str = "url"
    date: str = "date"
    language: str = "language"
    license: str = "license"


class Ingest(Spec, frozen=True, kw_only=True):
    """Read raw input: exactly one of `warc`, `pdf`, `jsonl`, `parquet`, `files`, each a path or glob or a list of them.

    Shards: one per input file, or, with `shards: N`, files spread over N shards by a hash of their path (for
    many small files; an added file then re-reads the shard that it falls into).
    """

    warc: Paths | None = None
    pdf: Paths | None = None
    jsonl: Paths | None = None
    parquet: Paths | None = None
    files: Paths | None = None  # one document per file, as UTF-8 text
    extract: Extract = field(default_factory=Extract)  # for warc
    ocr: str = "default"  # for pdf: a spec in ocr/
    columns: Columns = field(default_factory=Columns)  # for jsonl and parquet
    shards: Positive | None = None
    sample: Share = 1.0  # keep this share, chosen by a hash of the id; the rest is counted as `not_sampled`
    license: str | None = None  # a license that holds for the whole source
    language: str | None = None  # a language that holds for the whole source

    def __post_init__(self) -> None:
        if len(self.given()) != 1:
            raise ValueError(f"ingest takes exactly one of warc, pdf, jsonl, parquet, files; got {', '.join(self.given()) or 'none'}")

    def given(self) -> list[str]:
        """Return the names of the kinds of input that are set."""
        return [kind for kind in ("warc", "pdf", "jsonl", "parquet", "files") if getattr(self, kind) is not None]


class Minhash(Spec, frozen=True, kw_only=True):
    """MinHash with banding (Broder 1997); the defaults are FineWeb's: word 5-grams, 14 bands of 8 rows."""

    ngram: Positive = 5
    bands: Positive = 14
    rows: Positive = 8
    verify: Share | None = 0.7  # keep a candidate pair only when its true Jaccard similarity reaches this; null: trust the bands


class Dedup(Spec, frozen=True, kw_only=True):
    """Remove copies across all sources at once. Removal is by id, and every removed document names its survivor."""

    exact: bool = True  # same text after Unicode NFC and white-space normalization
    minhash: Minhash | None = None
    keep: str = "longest"  # which copy survives: longest, newest, oldest, first
    prefer: list[str] = []  # sources whose copy survives before any other's, in this order


class Classify(Spec, frozen=True, kw_only=True):
    """Score every document with a trained classifier; the score becomes the annotation `NAME.score`."""

    classifier: str  # a spec in classifiers/


class Decontaminate(Spec, frozen=True, kw_only=True):
    """Find benchmark items in the documents, report them, and remove what the spec says."""

    against: list[str]  # names from the benchmarks spec
    benchmarks: str = "workflows/benchmarks.yaml"
    action: str = "document"  # document: drop the document; span: cut the match; record: only report
    threshold: Share | None = None  # null: calibrated on the corpus to `false_positives`
    false_positives: Share = 1e-4  # accepted share of clean documents that match
    max_documents_scanned: Positive | None = None


class Rephrase(Spec, frozen=True, kw_only=True):
    """Have a language model rewrite documents; results become documents of the source `into`, linked by `parent`.

    The endpoint speaks OpenAI's chat completions protocol. Its address and key come from the environment, since
    they belong to a machine and not to a spec; where the address is unset the step is skipped, and says so.
    """

    model: str
    styles: list[str] = field(default_factory=lambda: ["wikipedia"])
    into: str = "rephrased"
    sources: list[str] = []  # which sources to rephrase; empty: all
    where: str | None = None  # a SQL condition over documents and annotations that chooses which to rephrase
    share: Share = 1 / 3  # share of the chosen documents that is rephrased, by a hash of the id
    base_url_env: str = "CURATE_LLM_BASE_URL"
    api_key_env: str = "CURATE_LLM_API_KEY"
    temperature: float = 0.5
    top_p: float = 0.9
    max_output_tokens: Positive = 1024
    max_input_characters: Positive = 8000  # longer documents are split at paragraphs
    concurrency: Positive = 8
    timeout_seconds: float = 120
    attempts: Positive = 4


class Tokenize(Spec, frozen=True, kw_only=True):
    """Train a byte-level BPE on the sources (or take one), and write token shards."""

    tokenizer: str | None = None  # a tokenizer.json; null: train one
    vocab_size: Positive = 4096
    train_megabytes: Positive = 20  # text that the vocabulary is trained on, an equal share per source


class Step(Spec, frozen=True, kw_only=True):
    """One step: exactly one of these keys."""

    ingest: Ingest | UnsetType = UNSET
    annotate: list[str | dict[str, dict[str, Any]]] | UnsetType = UNSET
    drop: dict[str, str] | UnsetType = UNSET
    edit: list[str | dict[str, dict[str, Any]]] | UnsetType = UNSET
    filter: dict[str, dict[str, Any]] | str | UnsetType = UNSET
    dedup: Dedup | UnsetType = UNSET
    classify: Classify | UnsetType = UNSET
    decontaminate: Decontaminate | UnsetType = UNSET
    rephrase: Rephrase | UnsetType = UNSET
    tokenize: Tokenize | UnsetType = UNSET

    def __post_init__(self) -> None:
        if len(self._given()) != 1:
            raise ValueError(f"a step has exactly one key; this one has {', '.join(self._given()) or 'none'}")

    def _given(self) -> list[str]:
        return [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]

    @property
    def kind(self) -> str:
        """The step's one key."""
        return self._given()[0]

    @property
    def options(self) -> Any:
        """The value of the step's one key."""
        return getattr(self, self.kind)


class Prepare(Spec, frozen=True, kw_only=True):
    """A function that makes or fetches input before anything is read: called as `call(folder, **options)`."""

    call: str  # package.module:function, or ./file.py:function relative to the workflow file
    into: str  # the folder that it fills, relative to the project
    options: dict[str, Any] = {}


class Budget(Spec, frozen=True, kw_only=True):
    """How many documents of a stage may fail (they are quarantined and counted) before the stage fails."""

    max_share: Share = 0.01
    max_documents: int = 10  # below this many, the share does not matter


class Workflow(Spec, frozen=True, kw_only=True):
    """The top level of workflows/NAME.yaml."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    sources: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")], list[Step]]
    description: str = ""
    seed: int = 0
    run: str | None = None  # the run's folder; null: runs/NAME
    prepare: Prepare | None = None
    together: list[Step] = []  # steps over all sources at once, after each source's own
    mix: str | None = None  # a spec in mixes/
    errors: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a workflow needs at least one source")
        for name, steps in self.sources.items():
            if not steps or steps[0].kind != "ingest":
                raise ValueError(f"source '{name}' must begin with ingest")
            late = next((s.kind for s in steps[1:] if s.kind in ("ingest", "dedup", "decontaminate", "rephrase", "tokenize")), None)
            if late:
                hint = "a second input is a second source" if late == "ingest" else f"move '{late}' under together:"
                raise ValueError(f"source '{name}': '{late}' cannot stand here\nhint: {hint}")
        if any(s.kind == "ingest" for s in self.together):
            raise ValueError("'ingest' cannot stand under together:\nhint: put it first in a source")
