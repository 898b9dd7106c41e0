"""The workflow spec: raw input → one corpus per source → a mix.

Every step is a mapping with exactly one key, which is also the name of the module that does the work and of the
folder that it writes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from curate.specs.benchmarks import Action, Variant
from curate.specs.load import Spec

RESERVED = ("together", "mix", "logs", "input")  # folders of a run that are no sources
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
Paths = str | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
One = Annotated[dict[str, dict[str, Any]], Meta(min_length=1, max_length=1)]  # a name with its options
Rules = Annotated[dict[str, str], Meta(min_length=1)]
Named = Annotated[list[str | One], Meta(min_length=1)]


class Extract(Spec, frozen=True, kw_only=True):
    """How text is taken from HTML."""

    engine: Literal["resiliparse", "trafilatura"] = "resiliparse"  # resiliparse: fast; trafilatura: better on articles, needs its extra
    max_bytes: Positive = 20_000_000  # a page larger than this is dropped as `page_too_large`


class Columns(Spec, frozen=True, kw_only=True):
    """Which fields of a JSON line or a Parquet row become which columns; what is not named goes to `meta`."""

    text: str = "text"  # the document's text; a row without it is dropped
    url: str = "url"  # where it is from
    date: str = "date"  # ISO 8601
    language: str = "language"  # a language code
    license: str = "license"  # a license name or address


class Ingest(Spec, frozen=True, kw_only=True):
    """Read raw input: exactly one of `warc`, `pdf`, `jsonl`, `parquet`, `files`, each a path or glob or a list of them.

    Shards: one per input file, or, with `shards: N`, files spread over N shards by a hash of their path (for
    many small files; an added file then re-reads the shard that it falls into).
    """

    warc: Paths | None = None  # WARC files, compressed or not; responses and WET conversions become documents
    pdf: Paths | None = None  # PDF files, one document each
    jsonl: Paths | None = None  # JSON-lines files: plain, .gz or .zst
    parquet: Paths | None = None  # Parquet files
    files: Paths | None = None  # one document per file, as UTF-8 text
    extract: Extract = field(default_factory=Extract)  # for warc
    ocr: str = "default"  # for pdf: a spec in ocr/
    columns: Columns = field(default_factory=Columns)  # for jsonl and parquet
    shards: Positive | None = None  # spread many small files over so many shards; null: one shard per file
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

    ngram: Annotated[int, Meta(ge=1, le=100)] = 5  # words per shingle
    bands: Annotated[int, Meta(ge=1, le=256)] = 14  # hash bands; a pair is a candidate when one band is equal
    rows: Annotated[int, Meta(ge=1, le=64)] = 8  # hashes per band; more rows want more similar documents
    verify: Share | None = 0.7  # keep a candidate pair only when its true Jaccard similarity reaches this; null: trust the bands, and what they chain


class Dedup(Spec, frozen=True, kw_only=True):
    """Remove copies across all sources at once. Removal is by id, and every removed document names its survivor."""

    exact: bool = True  # same text after Unicode NFC and white-space normalization
    minhash: Minhash | None = None  # near-duplicates; null: exact copies only
    keep: str = "longest"  # which copy survives: longest, newest, oldest, first
    prefer: list[str] = []  # sources whose copy survives before any other's, in this order


class Classify(Spec, frozen=True, kw_only=True):
    """Score every document with a trained classifier; the score becomes the annotation `NAME.score`."""

    classifier: str  # a spec in classifiers/


class Semantic(Spec, frozen=True, kw_only=True):
    """Also propose paraphrases and translations of benchmark items, by embeddings. They are listed as `paraphrase`, and not counted.

    Every chunk of the corpus is sent to the model; what that costs is said before anything is sent.
    """

    model: str  # the embedding model's name, as the endpoint or sentence-transformers knows it
    engine: Literal["endpoint", "sentence_transformers"] = "endpoint"  # an endpoint with OpenAI's embeddings protocol, or a model on this machine
    base_url_env: str = "CURATE_EMBEDDINGS_BASE_URL"  # environment variable with the endpoint's address, up to /v1
    api_key_env: str = "CURATE_EMBEDDINGS_API_KEY"  # environment variable with its key
    max_tokens: Positive = 10_000_000  # with more to send than this, by estimate, the step stops before it has sent anything
    chunk_words: Annotated[int, Meta(ge=10, le=2000)] = 60  # words of a chunk; chunks overlap by half
    background_chunks: Annotated[int, Meta(ge=100)] = 2000  # of documents chosen by a hash of the id; the threshold comes from them
    false_positives: Share = 1e-4  # accepted share of clean chunks that are proposed
    min_cosine: Share = 0.5  # a proposal is at least this near to its item
    batch_size: Positive = 64  # texts of one request
    concurrency: Positive = 4  # requests at once, per worker
    timeout_seconds: Annotated[float, Meta(gt=0)] = 120.0  # of one request
    attempts: Positive = 6  # of one request, with growing pauses


class Decontaminate(Spec, frozen=True, kw_only=True):
    """Find benchmark items in the documents, report them, and remove what the spec says."""

    against: list[str]  # names from the benchmarks spec
    benchmarks: str = "workflows/benchmarks.yaml"  # the benchmarks spec that holds these names
    action: Action = "document"  # document: drop the document; span: cut the match; record: only report
    actions: dict[Variant, Action] = {}  # other actions for single variants, such as {numbers_changed: record, truncated: span}
    min_score: Share = 0.0  # a match with a lower score is only reported
    threshold: Share | None = None  # null: calibrated on the corpus to `false_positives`
    false_positives: Share = 1e-4  # accepted share of clean documents that match
    background_documents: Positive = 20_000  # documents of the background sample, chosen by a hash of the id: weights and threshold come from it
    span_margin: Annotated[int, Meta(ge=0)] = 100  # for span: a cut may reach so many characters beyond the match, to the end of a line or sentence
    min_characters: Positive = 200  # for span: a document with less left is dropped
    semantic: Semantic | None = None  # also look for paraphrases and translations, with embeddings


class Gates(Spec, frozen=True, kw_only=True):
    """Bounds on what a model returns; null: the style's own. Shares are between 0 and 1."""

    min_length_ratio: float | None = None  # characters of the output to characters of its source
    max_length_ratio: float | None = None  # the same, at most
    max_copied: Share | None = None  # share of the output's word 5-grams that stand in the source
    min_grounded_words: Share | None = None  # share of the output's longer words that stand in the source
    min_grounded_numbers: Share | None = None  # share of the output's numbers that stand in the source
    min_kept_numbers: Share | None = None  # share of the source's numbers that stand in the output
    same_language: bool = True  # the output must be in the language of its source


class Rephrase(Spec, frozen=True, kw_only=True):
    """Have a language model rewrite documents; results become documents of the source `into`, linked by `parent`.

    The endpoint speaks OpenAI's chat completions protocol. Its address and key come from the environment, since
    they belong to a machine and not to a spec; where the address is unset the step is skipped, and says so.
    """

    model: str  # the model's name, as the endpoint knows it
    styles: list[str] = field(default_factory=lambda: ["wikipedia"])  # wikipedia, qa, distill, extract_knowledge, knowledge_list
    every_style: bool = False  # true: each document in every style; false: in one of them, by a hash of its id
    into: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z")] = "rephrased"  # the source that the results become
    sources: list[str] = []  # which sources to rephrase; empty: all
    where: str | None = None  # a SQL condition over documents and annotations that chooses which to rephrase
    share: Share = 1 / 3  # share of the chosen documents that is rephrased, by a hash of the id
    base_url_env: str = "CURATE_LLM_BASE_URL"  # environment variable with the endpoint's address, up to /v1
    api_key_env: str = "CURATE_LLM_API_KEY"  # environment variable with its key
    temperature: float = 0.5  # of the first try
    ladder: list[float] = []  # temperatures of further tries after an output was rejected, such as [0.7, 0.9]
    top_p: float = 0.9  # nucleus sampling
    max_output_tokens: Positive = 1024  # of one answer; a cut-off answer is rejected
    max_input_characters: Positive = 8000  # longer documents are split at paragraphs, and each part is rephrased
    min_input_characters: Positive = 200  # shorter documents are left alone
    concurrency: Positive = 8  # requests in flight, per worker
    timeout_seconds: Annotated[float, Meta(gt=0)] = 120  # for one answer
    attempts: Positive = 4  # per request, for errors that may pass
    patience_seconds: Annotated[float, Meta(gt=0)] = 900  # how long one request waits while the server says "later" (429, 503)
    gates: Gates = field(default_factory=Gates)  # what an answer must satisfy to be kept


class Tokenize(Spec, frozen=True, kw_only=True):
    """Train a byte-level BPE on the sources (or take one), and write token shards."""

    tokenizer: str | None = None  # a tokenizer.json; null: train one
    vocab_size: Annotated[int, Meta(ge=257)] = 4096  # entries of the vocabulary, the 256 bytes and the end of a document included
    train_megabytes: Positive = 20  # text that the vocabulary is trained on, an equal share per source


class Step(Spec, frozen=True, kw_only=True):
    """One step: exactly one of these keys."""

    ingest: Ingest | UnsetType = UNSET  # read raw input; the first step of every source
    annotate: Named | UnsetType = UNSET  # annotators by name, or {name: {option: value}}; they measure and never drop
    drop: Rules | UnsetType = UNSET  # reason: SQL condition over columns and annotations; the first that holds is the reason that counts
    edit: Named | UnsetType = UNSET  # edits by name, or {name: {option: value}}; they change texts and never drop
    filter: One | str | UnsetType = UNSET  # a datatrove block by its dotted name, or a function of your own, with its options
    dedup: Dedup | UnsetType = UNSET  # remove exact and near copies
    classify: Classify | UnsetType = UNSET  # score with a trained classifier
    decontaminate: Decontaminate | UnsetType = UNSET  # find and remove benchmark items
    rephrase: Rephrase | UnsetType = UNSET  # have a language model rewrite documents
    tokenize: Tokenize | UnsetType = UNSET  # write tokens for trainers and proxies

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
    options: dict[str, Any] = {}  # keyword arguments of the function


class Budget(Spec, frozen=True, kw_only=True):
    """How many documents of a stage may fail (they are quarantined and counted) before the stage fails.

    A damaged region of an input whose documents nobody can count is taken for as many as its bytes hold elsewhere in the source.
    """

    max_share: Share = 0.01  # of the documents of a stage
    max_documents: Annotated[int, Meta(ge=0)] = 10  # below this many, the share does not matter


class Workflow(Spec, frozen=True, kw_only=True):
    """The top level of workflows/NAME.yaml."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z")]  # of the workflow, and of its run's folder
    sources: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z")], list[Step]]  # for each source, its steps; they begin with ingest
    description: str = ""  # one line, shown in the report
    seed: int = 0  # of everything that is drawn by chance
    run: str | None = None  # the run's folder; null: runs/NAME
    prepare: Prepare | None = None  # a function that makes or fetches the input first
    together: list[Step] = []  # steps over all sources at once, after each source's own
    mix: str | None = None  # a spec in mixes/
    errors: Budget = field(default_factory=Budget)  # how many failures a stage may have

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a workflow needs at least one source")
        for name, steps in self.sources.items():
            if name in RESERVED:
                raise ValueError(f"'{name}' cannot name a source\nhint: a run keeps other things in the folder of that name")
            if not steps or steps[0].kind != "ingest":
                raise ValueError(f"source '{name}' must begin with ingest")
            late = next((s.kind for s in steps[1:] if s.kind in ("ingest", "dedup", "classify", "decontaminate", "rephrase", "tokenize")), None)
            if late:
                hint = "a second input is a second source" if late == "ingest" else f"move '{late}' under together:"
                raise ValueError(f"source '{name}': '{late}' cannot stand here\nhint: {hint}")
        if any(s.kind == "ingest" for s in self.together):
            raise ValueError("'ingest' cannot stand under together:\nhint: put it first in a source")
        if self.mix is not None and all(step.kind != "tokenize" for step in self.together):
            raise ValueError("a mix needs tokens\nhint: end together: with a tokenize step")
        for step in self.together:
            if step.kind == "rephrase" and step.options.into in RESERVED:
                raise ValueError(f"'{step.options.into}' cannot name what is rephrased\nhint: a run keeps other things in the folder of that name")
