"""The semantic channel: paraphrases and translations proposed by embeddings. Never on by default; see `semantic` in the spec.

Documents are cut into overlapping chunks of `chunk_words` words. A chunk proposes the item that is nearest to it (cosine), and
the proposal counts when it stands out on both sides: by how much it is nearer than the chunk's next nearest items and than the
item's nearest chunks of a background sample (the margin of Artetxe and Schwenk 2019, as a difference). The threshold of the
margin comes from the background's own margins, through whose 90 % and 99 % quantiles a normal tail is laid and followed to
`false_positives`; the topmost hundredth is not looked at, since the background may be contaminated. (An exponential tail, as the
words' evidence has, put the threshold half as high again: cosines are bounded.)

What is traded away: every chunk of the corpus is sent to the model, so it costs far more than all the rest; how well it finds
depends on the model, and nothing here knows the model. So a match is called `paraphrase`, is listed, and neither counts as
contamination nor is removed unless `actions` names it.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from curate.decontaminate.embed import Embedder, Vectors
from curate.decontaminate.index import Index
from curate.decontaminate.match import MATCHES, MAX_EXCERPT
from curate.specs.workflow import Semantic

NEIGHBORS = 4
MIN_WORDS = 6  # of an item or a chunk; what is shorter has no meaning of its own
MAX_WORD = 40  # characters that a word of a chunk counts with: a line without blanks is cut
TOKENS_PER_BYTE = 0.3
EVERY, MAX_OF_ONE = 4, 25  # of a sampled document every fourth chunk is background, and not more than so many
MIN_BACKGROUND = 100  # chunks from which a threshold can be set; with fewer nothing is proposed


Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Meaning:
    """The items as vectors. N items that have a text, D dimensions."""

    items: Integers
    vectors: Vectors  # [N, D]
    background: Vectors  # [N]: mean cosine to the nearest background chunks
    threshold: float


def cost(options: Semantic, num_bytes: int, item_bytes: int) -> tuple[int, int]:
    """Return about how many requests and tokens a corpus of `num_bytes` of text takes: each word is sent twice."""
    sent = 2 * num_bytes + item_bytes + options.background_chunks * options.chunk_words * 6
    chunks = 2 * num_bytes / (options.chunk_words * 6) + options.background_chunks
    return math.ceil(chunks / options.batch_size), round(sent * TOKENS_PER_BYTE)


def chunks(text: str, num_words: int) -> list[tuple[int, int]]:
    """Return the ranges, in characters, of overlapping chunks of `num_words` words, each half a chunk after the one before."""
    words = [(m.start(), m.end()) for m in re.finditer(rf"\S{{1,{MAX_WORD}}}", text)]
    step = max(1, num_words // 2)
    starts = range(0, max(1, len(words) - step), step)
    found = [(words[i][0], words[min(len(words), i + num_words) - 1][1]) for i in starts if words]
    return [span for span in found if len(text[span[0] : span[1]].split()) >= MIN_WORDS]


def item_texts(index: Index) -> tuple[list[int], list[str]]:
    """Return the numbers and texts of the items that have enough words to mean something: question, or passage, or solution."""
    numbers, texts = [], []
    for item in range(index.num_items):
        text = next((t for name in ("question", "passage", "solution") if len((t := index.item_text(item, name)).split()) >= MIN_WORDS), "")
        if text:
            numbers.append(item)
            texts.append(text[:8000])
    return numbers, texts


def sample_chunks(batches: Iterable[pa.RecordBatch], options: Semantic, seed: int) -> list[str]:
    """Return up to `background_chunks` chunks: every fourth of the documents with the smallest hash of (seed, document).

    So each chunk is as likely as any other, whether its document is long or short.
    """
    ranked: list[tuple[int, list[str]]] = []
    for batch in batches:
        for name, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
            digest = int.from_bytes(hashlib.blake2b(f"{seed}\0semantic\0{name}".encode(), digest_size=8).digest(), "big")
            if len(ranked) >= options.background_chunks and -digest <= ranked[0][0]:
                continue
            spans = chunks(text or "", options.chunk_words)[digest % EVERY :: EVERY]
            if spans:
                push = heapq.heappushpop if len(ranked) >= options.background_chunks else heapq.heappush
                push(ranked, (-digest, [text[start:end] for start, end in spans[:MAX_OF_ONE]]))
    return [chunk for _, own in sorted(ranked, reverse=True) for chunk in own][: options.background_chunks]


def learn(index: Index, background: list[str], embed: Embedder, options: Semantic) -> Meaning:
    """Embed the items and the background, and set the threshold of the margin."""
    numbers, texts = item_texts(index)
    vectors = embed(texts) if texts else np.zeros((0, 1), np.float32)
    others = embed(background) if background else np.zeros((0, vectors.shape[1]), np.float32)
    cosines = vectors @ others.T
    draft = Meaning(np.array(numbers, np.int64), vectors, _mean_of_nearest(cosines, 0), 0.0)
    margins = np.zeros(len(others))
    for row, (item, margin, cosine) in enumerate(nearest(draft, others)):
        if item >= 0:  # a chunk is no neighbor of its own: without it, the item's next nearest takes its place
            near = np.sort(cosines[item])[-NEIGHBORS - 1 :]
            if len(near) > NEIGHBORS and cosine >= near[1]:
                margin += (float(draft.background[item]) - float(near.sum() - cosine) / NEIGHBORS) / 2
            margins[row] = margin
    return Meaning(draft.items, vectors, draft.background, threshold(margins, options.false_positives))


def threshold(margins: Floats, rate: float) -> float:
    """Return the margin that a share of `rate` of clean chunks exceeds: the normal tail through the 90 % and the 99 % quantile."""
    if len(margins) < MIN_BACKGROUND or not 0 < rate < 1:
        return math.inf if rate < 1 else -1.0
    near, far = (float(value) for value in np.quantile(margins, (0.9, 0.99)))
    normal = NormalDist()
    step = (far - near) / (normal.inv_cdf(0.99) - normal.inv_cdf(0.9))
    return far + max(step, 1e-3) * (normal.inv_cdf(1 - rate) - normal.inv_cdf(0.99))


def nearest(meaning: Meaning, vectors: Vectors) -> list[tuple[int, float, float]]:
    """Return (place of the nearest item in `meaning`, margin, cosine) of each vector; (-1, 0, 0) where there is nothing to compare."""
    if not len(meaning.items):
        return [(-1, 0.0, 0.0)] * len(vectors)
    cosines = vectors @ meaning.vectors.T
    best = cosines.argmax(axis=1)
    found = []
    next_best = _mean_of_nearest(cosines, 1)
    for row, item in enumerate(best.tolist()):
        cosine = float(cosines[row, item])
        margin = cosine - (float(next_best[row]) + float(meaning.background[item])) / 2
        found.append((item, margin, cosine) if vectors[row].any() else (-1, 0.0, 0.0))
    return found


def _mean_of_nearest(cosines: Vectors, skipped: int) -> Vectors:
    """Return, per row, the mean of the NEIGHBORS largest cosines after the `skipped` largest; 0 where there are none."""
    wanted = min(cosines.shape[1], NEIGHBORS + skipped)
    if wanted <= skipped:
        return np.zeros(len(cosines), np.float32)
    top = np.sort(np.partition(cosines, cosines.shape[1] - wanted, axis=1)[:, -wanted:], axis=1)
    result: Vectors = top[:, : wanted - skipped].mean(axis=1).astype(np.float32)
    return result


def propose(batch: pa.RecordBatch, index: Index, meaning: Meaning, embed: Embedder, options: Semantic) -> pa.Table:
    """Return the paraphrases in `batch`, as rows of matches: of each document and item, the chunk that stands out most."""
    names, texts = batch.column("id").to_pylist(), batch.column("text").to_pylist()
    places = [(row, start, end) for row, text in enumerate(texts) for start, end in chunks(text or "", options.chunk_words)]
    vectors = embed([texts[row][start:end] for row, start, end in places]) if places else np.zeros((0, 1), np.float32)
    best: dict[tuple[int, int], tuple[float, float, int, int]] = {}
    for (row, start, end), (item, margin, cosine) in zip(places, nearest(meaning, vectors), strict=True):
        if item < 0 or margin < meaning.threshold or cosine < options.min_cosine:
            continue
        if (row, item) not in best or margin > best[row, item][0]:
            best[row, item] = margin, cosine, start, end
    rows = []
    for (row, item), (margin, cosine, start, end) in sorted(best.items()):
        number = int(meaning.items[item])
        channel = next(name for name in ("question", "passage", "solution") if len(index.item_text(number, name).split()) >= MIN_WORDS)
        text = index.item_text(number, channel)
        rows.append(
            {
                "doc_id": names[row],
                "url": batch.column("url")[row].as_py() if "url" in batch.schema.names else None,
                "source": batch.column("source")[row].as_py() if "source" in batch.schema.names else None,
                "benchmark": index.names[index.item_benchmark[number]],
                "item_id": index.item_ids[number],
                "item": number,
                "variant": "paraphrase",
                "counted": False,
                "channels": [channel],
                "channel": channel,
                "score": cosine,
                "threshold": max(options.min_cosine, cosine - (margin - meaning.threshold)),
                "information": 0.0,
                "numbers_equal": None,
                "doc_start": start,
                "doc_end": end,
                "item_start": 0,
                "item_end": len(text),
                "doc_excerpt": ("…" if start else "") + texts[row][start:end][:MAX_EXCERPT],
                "item_excerpt": text[:MAX_EXCERPT],
            }
        )
    return pa.Table.from_pylist(rows, MATCHES)


def merged(found: pa.Table, proposed: pa.Table) -> pa.Table:
    """Return both tables of matches in one, without proposals of an item that was found in the same document by its words."""
    if not proposed.num_rows:
        return found
    known = set(zip(found["doc_id"].to_pylist(), found["item"].to_pylist(), strict=True))
    new = [key not in known for key in zip(proposed["doc_id"].to_pylist(), proposed["item"].to_pylist(), strict=True)]
    return pa.concat_tables([found, proposed.filter(pa.array(new))])


def save(meaning: Meaning, path: Path) -> None:
    """Write the items' vectors and the threshold."""
    with path.open("wb") as file:
        np.savez(file, items=meaning.items, vectors=meaning.vectors, background=meaning.background, threshold=np.array([meaning.threshold]))


def load(path: Path) -> Meaning:
    """Read what `save` wrote."""
    with np.load(path) as arrays:
        return Meaning(arrays["items"], arrays["vectors"], arrays["background"], float(arrays["threshold"][0]))
