"""MinHash signatures: curate against datatrove, and the quality of what each of them finds. One table; CPU seconds of one run.

    python bench/dedup.py FILE.jsonl[.gz] …      documents are the `text` of each line

Both read the same documents from memory, with word 5-grams, 14 bands of 8 rows and 64-bit hashes, on one core. datatrove's step also
writes its signatures to a folder and sorts them there; curate's makes its exact hashes and dates as well. The second table plants a copy
of each of the first documents, with some of its words changed, and says how many share a band, beside what theory says for the
true similarity of the two (over curate's words).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.dedup.minhash import band_keys, chance, shingles_of
from curate.dedup.signatures import signatures
from curate.documents import SCHEMA, document_id
from curate.kernels.words import forget
from curate.specs.workflow import Minhash

BATCH = 1000
OPTIONS = Minhash()


def read_texts(paths: list[Path]) -> list[str]:
    """Return the texts of JSON lines."""
    texts = []
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        texts += [json.loads(line)["text"] for line in data.splitlines()]
    return texts


def batches_of(texts: list[str]) -> list[pa.RecordBatch]:
    """Return the texts as document batches."""
    rows = [dict.fromkeys(SCHEMA.names) | {"id": document_id("bench", "", i), "text": text} for i, text in enumerate(texts)]
    for i, row in enumerate(rows):
        row |= {"source": "bench", "origin": {"file": "", "offset": i, "length": 1}, "meta": "{}"}
    return [pa.RecordBatch.from_pylist(rows[i : i + BATCH], SCHEMA) for i in range(0, len(rows), BATCH)]


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU time of `work`, of this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def curate_step(texts: list[str]) -> Callable[[], None]:
    """Return curate's signature step over `texts`, compiled."""
    batches = batches_of(texts)
    signatures(batches[0].slice(0, 1), OPTIONS)

    def work() -> None:
        for batch in batches:
            forget()
            signatures(batch, OPTIONS)

    return work


def datatrove_hash() -> str:
    """Return the name of the hash that datatrove prefers, or the slower one where that does not work.

    datatrove does not declare xxhash, and gives it strings, which xxhash 4 refuses.
    """
    try:
        import xxhash

        xxhash.xxh64_intdigest("a string")
    except (ImportError, TypeError):
        return "sha1"
    return "xxhash"


def datatrove_step(texts: list[str], folder: str) -> Callable[[], None] | None:
    """Return datatrove's signature step over `texts`, or None where it is not installed."""
    try:
        from datatrove.data import Document
        from datatrove.pipeline.dedup import MinhashDedupSignature
        from datatrove.pipeline.dedup.minhash import MinhashConfig
        from datatrove.utils.hashing import HashConfig
        from datatrove.utils.logging import logger
    except ImportError:
        return None
    logger.remove()
    hashing = HashConfig(precision=64, hash_fc=datatrove_hash())
    config = MinhashConfig(n_grams=OPTIONS.ngram, num_buckets=OPTIONS.bands, hashes_per_bucket=OPTIONS.rows, hash_config=hashing)
    step = MinhashDedupSignature(folder, config)
    step.get_signature(step.get_shingles("loads the word splitter before the clock starts"))
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]

    def work() -> None:
        with contextlib.redirect_stderr(None):
            step.run(iter(documents))

    step_signature, step_shingles = step.get_signature, step.get_shingles
    work.keys = lambda text: [tuple(band) for band in step_signature(step_shingles(text))]  # type: ignore[attr-defined]
    return work


def planted(texts: list[str], count: int) -> list[tuple[str, str]]:
    """Return the first `count` texts of 100 words or more, each with a copy in which up to a tenth of the words are others."""
    pairs = []
    for i, text in enumerate(texts):
        words = text.split()
        if len(words) >= 100 and len(pairs) < count:
            rng = random.Random(i)
            for at in rng.sample(range(len(words)), rng.randint(1, max(2, len(words) // 25))):
                words[at] = rng.choice(words)
            pairs.append((text, " ".join(words)))
    return pairs


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts."""
    shingles = shingles_of(pa.array([one, other]), OPTIONS.ngram)
    a, b = set(shingles.hashes[: shingles.offsets[1]].tolist()), set(shingles.hashes[shingles.offsets[1] :].tolist())
    return len(a & b) / max(1, len(a | b))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--documents", type=int, help="at most so many")
    arguments = parser.parse_args()
    texts = read_texts(arguments.files)[: arguments.documents]
    size = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = curate_step(texts), datatrove_step(texts, folder)
        rows = [("curate", cpu_seconds(ours))] + ([("datatrove", cpu_seconds(theirs))] if theirs else [])
        settings = f"word {OPTIONS.ngram}-grams, {OPTIONS.bands} bands of {OPTIONS.rows}; datatrove with {datatrove_hash()}"
        print(f"{len(texts):,} documents, {size:.1f} MB, {settings}\n")
        print(f"{'':<12}{'documents/s':>14}{'MB/s':>10}{'speed':>10}")
        slowest = rows[-1][1]
        for name, seconds in rows:
            print(f"{name:<12}{len(texts) / seconds:>14,.0f}{size / seconds:>10.2f}{slowest / seconds:>9.1f}×")
        pairs = planted(texts, 300)
        expected = [chance(similarity(*pair), OPTIONS.bands, OPTIONS.rows) for pair in pairs]
        print(f"\n{len(pairs)} planted copies, share that shares a band: theory {np.mean(expected):.3f}")
        keys = [band_keys(shingles_of(pa.array(pair), OPTIONS.ngram), OPTIONS) for pair in pairs]
        print(f"  {'curate':<12}{np.mean([(k[0] == k[1]).any() for k in keys]):.3f}")
        if theirs:
            found = [any(a == b for a, b in zip(*map(theirs.keys, pair), strict=True)) for pair in pairs]  # type: ignore[attr-defined]
            print(f"  {'datatrove':<12}{np.mean(found):.3f}")
        else:
            print("  datatrove is not installed: pip install 'curate-lm[datatrove]'")


if __name__ == "__main__":
    main()
