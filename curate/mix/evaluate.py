"""A proxy and suites → bits per byte, item by item.

An item is a text, or a continuation given a context. Its score is the number of bits that the model needs for the scored part, over the
UTF-8 bytes of that part: a unit that does not depend on the tokenizer and moves smoothly where accuracy stays at chance, which is why
small proxies can be compared by it (Magnusson 2025). Multiple choice is scored by the bits of the right choice; accuracy counts how
often it has the fewest bits per byte among all choices.

A part longer than the model's context is read in windows that move by half a context, each token being scored once, with at least half a
context before it (but at the beginning). Logits are made for scored tokens only. Scores are stored per item: other weights, or intervals
over items, need no model.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.mix import fused, model
from curate.mix.suites import Part, Suite

WINDOW_TOKENS = 4096  # tokens that go through the model at once
CHUNK = 256  # positions whose logits exist at once
ON_GPU = 16  # times as many of both on a GPU
GPU_LOGITS = 1 << 27  # but no more logits at once, since several processes score there
LN2 = float(np.log(2))

SCORES = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),  # the line of the suite's file, from 1
        pa.field("bits", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("right", pa.bool_()),  # multiple choice: the right one has the fewest bits per byte
    ]
)


class Window(msgspec.Struct, frozen=True):
    """Tokens `begin … end` of a part go in; the last `scored` of them are scored."""

    part: int
    begin: int
    end: int
    scored: int


def windows(parts: list[Part], context: int) -> list[Window]:
    """Return the windows that score each scored token once, in at most `context` + 1 tokens each."""
    result = []
    for i, part in enumerate(parts):
        at, total = part.scored, len(part.tokens)
        while at < total:
            end = min(total, max(context + 1, at + max(1, context // 2)))
            result.append(Window(i, max(0, end - context - 1), end, end - at))
            at = end
    return result


def score_suites(parameters: model.Parameters, suites: list[Suite], heads: int, context: int) -> list[pa.Table]:
    """Return a table of SCORES for each of the K members."""
    members = parameters["embedding"].shape[0]
    tables: list[list[pa.Table]] = [[] for _ in range(members)]
    for suite in suites:
        nats = _nats(parameters, suite.parts, heads, context)
        for k in range(members):
            tables[k].append(_table(suite, nats[k] / LN2))
    return [pa.concat_tables(parts) for parts in tables]


def _nats(parameters: model.Parameters, parts: list[Part], heads: int, context: int) -> NDArray[np.float64]:
    """Return the summed losses, [K, parts]. Windows of about the same length go together, padded at their end."""
    embedding = parameters["embedding"]
    result = np.zeros((len(embedding), len(parts)))
    todo = sorted(windows(parts, context), key=lambda w: (w.end - w.begin, w.part, w.begin))
    room = WINDOW_TOKENS * (ON_GPU if embedding.is_cuda else 1)
    while todo:
        length = todo[-1].end - todo[-1].begin
        batch = [todo.pop() for _ in range(min(len(todo), max(1, room // length)))]
        tokens, wanted = np.zeros((len(batch), length), np.int64), np.zeros((len(batch), length - 1), bool)
        for row, window in enumerate(batch):
            size = window.end - window.begin
            tokens[row, :size] = parts[window.part].tokens[window.begin : window.end]
            wanted[row, size - 1 - window.scored : size - 1] = True
        given = torch.from_numpy(tokens).to(embedding.device)
        lost = token_losses(parameters, given, heads, torch.from_numpy(wanted).to(embedding.device)).double().cpu().numpy()
        ends = np.cumsum([window.scored for window in batch])
        sums = np.add.reduceat(lost, np.concatenate([[0], ends[:-1]]), axis=1)
        for i, window in enumerate(batch):  # a part may have several
            result[:, window.part] += sums[:, i]
    return result


@torch.no_grad()
def token_losses(parameters: model.Parameters, tokens: Tensor, heads: int, wanted: Tensor) -> Tensor:
    """Return the losses of predicted tokens, nats, for the same sequences, int64 [rows, length + 1], under each member.

    `wanted`, bool [rows, length], says which tokens; the result is [K, their number] in their order.
    """
    embedding = parameters["embedding"].detach()
    given = tokens[:, :-1].contiguous()
    if len(embedding) == 1 and tokens.device.type == "cpu":
        x = fused.hidden_states(parameters, given, heads, fused.shared_scratch())[None]
    else:
        x = model.hidden_states(parameters, given.expand(len(embedding), -1, -1), heads)
    chosen = wanted.reshape(-1).nonzero()[:, 0]
    x, targets = x[:, chosen], tokens[:, 1:].reshape(-1)[chosen]
    parts, chunk = [], CHUNK
    if embedding.is_cuda:
        chunk = max(CHUNK, min(ON_GPU * CHUNK, GPU_LOGITS // (embedding.shape[0] * embedding.shape[1])))
    for start in range(0, len(targets), chunk):
        logits = torch.bmm(x[:, start : start + chunk], embedding.transpose(1, 2))
        right = targets[start : start + chunk].expand(len(embedding), -1)[..., None]
        parts.append(torch.logsumexp(logits, -1) - logits.gather(2, right)[..., 0])
    return torch.cat(parts, 1)


def _table(suite: Suite, bits: NDArray[np.float64]) -> pa.Table:
    """Return the scores of one member; of multiple choice, those of the right choice."""
    gold = [i for i, part in enumerate(suite.parts) if part.is_gold]
    right: list[bool | None] = [None] * len(gold)
    if suite.has_choices:
        rates = bits / np.array([max(1, part.num_bytes) for part in suite.parts])
        best: dict[int, float] = {}
        for part, rate in zip(suite.parts, rates.tolist(), strict=True):
            best[part.item] = min(rate, best.get(part.item, np.inf))
        right = [bool(rates[i] <= best[suite.parts[i].item]) for i in gold]
    columns = [
        [suite.name] * len(gold), [suite.parts[i].item for i in gold], bits[gold], [suite.parts[i].num_bytes for i in gold], right,
    ]  # fmt: skip
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCORES, strict=True)], schema=SCORES)


def write_scores(table: pa.Table, path: Path) -> dict[str, float]:
    """Write a table of SCORES and return its bits per byte per suite."""
    pq.write_table(table, path, compression="zstd")
    return bits_per_byte(table)


def bits_per_byte(table: pa.Table) -> dict[str, float]:
    """Return all bits over all bytes, per suite."""
    totals: dict[str, list[float]] = {}
    for suite, bits, size in zip(*(table[name].to_pylist() for name in ("suite", "bits", "bytes")), strict=True):
        total = totals.setdefault(suite, [0.0, 0.0])
        total[0] += bits
        total[1] += size
    return {suite: bits / size for suite, (bits, size) in totals.items()}
