"""The tokenize step: one tokenizer for all sources, then token shards for each.

The vocabulary is trained on an equal share of text per source (documents chosen by a hash of their id), so that a large source does
not take all of it. Training is one task, in `together/NN-tokenize`; encoding is one task per shard. An index lies beside its
documents as their annotation: nothing is dropped here.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.corpus import Corpus, Manifest, sha256_of, text_sizes
from curate.engine import StagePlan, Work, checksums, complete, complete_all, make_plan
from curate.specs.workflow import Tokenize
from curate.tasks import Output, Task, code_version
from curate.tokens.pack import document_order
from curate.tokens.shards import TokenWriter
from curate.tokens.tokenizer import INDEX, Encoder, encode_batch, train_tokenizer

if TYPE_CHECKING:
    from curate.workflow import Arguments

_CODE = ("curate.tokens",)
_LIBRARIES = ("tokenizers", "numpy")
TOKENIZER = "tokenizer.json"


def tokenize(options: Tokenize, arguments: Arguments) -> dict[str, Manifest]:
    """Train the tokenizer, or take the one that the spec names, and encode every source; return their manifests."""
    from curate.project import resolve

    project, context = arguments.project, arguments.context
    given = resolve(options.tokenizer, project.root, project.beside) if options.tokenizer else None
    path = _tokenizer(options, arguments, given)
    code, checksum = code_version(*_CODE, libraries=_LIBRARIES), sha256_of(path)
    stages = []
    for source, corpus in arguments.sources.items():
        work = [Work(n, [str(corpus.folder), str(path)], [*checksums(corpus, n), checksum], {}, shard.rows) for n, shard in corpus.shards.items()]
        plan = make_plan("tokenize", "curate.tokens.stage:tokenize_shard", arguments.targets[source], {}, code, work)
        stages.append(StagePlan(plan, source, code, corpus.folder))
    return dict(zip(arguments.sources, complete_all(stages, context), strict=True))


def _tokenizer(options: Tokenize, arguments: Arguments, given: Path | None) -> Path:
    code = code_version(*_CODE, libraries=_LIBRARIES)
    if given is not None:
        Encoder.open(given)  # so that a wrong file is named before anything runs
        work = [Work("tokenizer", [str(given)], [sha256_of(given)])]
        plan = make_plan("tokenizer", "curate.tokens.stage:take_tokenizer", arguments.scratch, {}, code, work)
    else:
        sources = {name: str(corpus.folder) for name, corpus in arguments.sources.items()}
        sums = [sum_ for corpus in arguments.sources.values() for name in corpus.shards for sum_ in checksums(corpus, name)]
        work = [Work("tokenizer", list(sources.values()), sums, {"names": list(sources)})]
        wanted = {"vocab_size": options.vocab_size, "train_bytes": options.train_megabytes * 1_000_000, "seed": arguments.project.seed}
        plan = make_plan("tokenizer", "curate.tokens.stage:train_on_sources", arguments.scratch, wanted, code, work)
    complete(plan, arguments.context, source="together", code=code)
    return arguments.scratch / TOKENIZER


def take_tokenizer(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: keep a copy of the user's tokenizer with the run."""
    shutil.copyfile(task.inputs[0], out.path(TOKENIZER))


def train_on_sources(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: train the tokenizer. `options`: vocab_size, train_bytes (over all sources), seed."""
    share = options["train_bytes"] // len(task.inputs)
    used = {}
    texts: list[str] = []
    for name, folder in sorted(zip(task.options["names"], task.inputs, strict=True)):
        chosen = list(sample_texts(Corpus.open(folder), share, options["seed"]))
        used[name] = len(chosen)
        texts += chosen
    text = train_tokenizer(texts, options["vocab_size"])
    out.path(TOKENIZER).write_text(text, encoding="utf-8")
    out.note("documents", used)
    out.note("vocab_size", Encoder(text).vocab_size)
    out.note("sha256", hashlib.sha256(text.encode()).hexdigest())


def sample_texts(corpus: Corpus, num_bytes: int, seed: int) -> Iterator[str]:
    """Yield the texts of documents that a hash of their ids puts first, until they fill `num_bytes`."""
    ids: list[str] = []
    sizes: list[int] = []
    for shard in corpus.shards:
        for batch in corpus.batches(shard, ["text"]):
            ids += batch.column("id").to_pylist()
            sizes += text_sizes(batch).tolist()
    chosen: set[str] = set()
    left = num_bytes
    for i in document_order(ids, seed).tolist():
        if left <= 0:
            break
        chosen.add(ids[i])
        left -= sizes[i]
    for shard in corpus.shards:
        for batch in corpus.batches(shard, ["text"]):
            for identifier, text in zip(batch.column("id"), batch.column("text"), strict=True):
                if identifier.as_py() in chosen:
                    yield text.as_py()


def tokenize_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: encode one shard into SHARD.npy and its index."""
    corpus, encoder = Corpus.open(task.inputs[0]), Encoder.open(Path(task.inputs[1]))
    writer = TokenWriter(out.path(f"{task.name}.npy"), encoder.dtype)
    out.empty(INDEX)
    for _, (tokens, index) in out.map(corpus.batches(task.name, ["text"]), lambda batch: encode_batch(batch, encoder)):
        start = writer.write(tokens)
        moved = pa.array(index["start"].to_numpy() + start)
        batch = pa.RecordBatch.from_arrays([c.combine_chunks() for c in index.set_column(1, INDEX.field(1), moved).columns], schema=INDEX)
        out.write(batch)
        out.ledger.kept_bytes += int(index["num_bytes"].to_numpy().sum())  # an index has no text of its own to count
    writer.close()
    out.note("num_tokens", writer.num_tokens)
