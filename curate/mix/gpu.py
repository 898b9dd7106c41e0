"""The stacked model's two dear passes on a GPU, as Triton kernels: heads cut, normalized and rotated, and logits turned into their gradient.

A small model on a GPU is bound by memory, and these two are what a compiler of tensor programs does badly: it reads the logits three times
where once is enough, and gathers the halves of a head one by one. Everything else is left to it. The price is a second definition of both, which
tests compare with the first (curate.mix.model), on a GPU or in Triton's interpreter.

One pass from logits to their gradient, in place: Liger (Hsu 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from curate.mix.model import EPSILON, Operations

LOGITS = 1 << 28  # that exist at once, over all members; but always those of one
ROWS = 32  # heads of tokens that a program cuts
COLUMNS = 8192  # logits that a program reads at once

jit: Callable[[Any], Any] = triton.jit


# ── heads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@jit
def _cut(
    products, out, cos, sin, rows, length, epsilon: tl.constexpr, heads: tl.constexpr, half: tl.constexpr, ROWS: tl.constexpr, HALF: tl.constexpr
):
    """Program (i, part): some rows, which are heads of tokens, of queries (part 0), keys (1) or values (2)."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, HALF)
    part = tl.program_id(1)
    inside = (row < rows)[:, None] & (column < half)[None, :]
    token = row // heads
    begin = ((token.to(tl.int64) * 3 + part) * heads + row % heads) * 2 * half
    at = begin[:, None] + column[None, :]
    a = tl.load(products + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(products + at + half, mask=inside, other=0.0).to(tl.float32)
    if part < 2:
        angle = (token % length)[:, None] * half + column[None, :]
        c, s = tl.load(cos + angle, mask=inside, other=0.0), tl.load(sin + angle, mask=inside, other=0.0)
        inverse = tl.rsqrt(tl.sum(a * a + b * b, 1) / (2 * half) + epsilon)[:, None]
        turned = (a * c - b * s) * inverse
        b = (a * s + b * c) * inverse
        a = turned
    to = (row.to(tl.int64) + part.to(tl.int64) * rows)[:, None] * 2 * half + column[None, :]
    tl.store(out + to, a.to(out.dtype.element_ty), mask=inside)
    tl.store(out + to + half, b.to(out.dtype.element_ty), mask=inside)


@jit
def _cut_back(
    dq,
    dk,
    dv,
    products,
    out,
    cos,
    sin,
    rows,
    length,
    epsilon: tl.constexpr,
    heads: tl.constexpr,
    half: tl.constexpr,
    ROWS: tl.constexpr,
    HALF: tl.constexpr,
):
    """The same programs, from the gradients by queries, keys and values to that by the products."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, HALF)
    part = tl.program_id(1)
    inside = (row < rows)[:, None] & (column < half)[None, :]
    token = row // heads
    at = row.to(tl.int64)[:, None] * 2 * half + column[None, :]
    if part == 0:
        da, db = tl.load(dq + at, mask=inside, other=0.0), tl.load(dq + at + half, mask=inside, other=0.0)
    elif part == 1:
        da, db = tl.load(dk + at, mask=inside, other=0.0), tl.load(dk + at + half, mask=inside, other=0.0)
    else:
        da, db = tl.load(dv + at, mask=inside, other=0.0), tl.load(dv + at + half, mask=inside, other=0.0)
    da, db = da.to(tl.float32), db.to(tl.float32)
    begin = ((token.to(tl.int64) * 3 + part) * heads + row % heads) * 2 * half
    to = begin[:, None] + column[None, :]
    if part < 2:
        a = tl.load(products + to, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(products + to + half, mask=inside, other=0.0).to(tl.float32)
        angle = (token % length)[:, None] * half + column[None, :]
        c, s = tl.load(cos + angle, mask=inside, other=0.0), tl.load(sin + angle, mask=inside, other=0.0)
        inverse = tl.rsqrt(tl.sum(a * a + b * b, 1) / (2 * half) + epsilon)[:, None]
        a, b = a * inverse, b * inverse
        back = da * c + db * s  # turned back; the norm does not see the turning
        db = db * c - da * s
        da = back
        along = (tl.sum(da * a + db * b, 1) / (2 * half))[:, None]
        da, db = (da - a * along) * inverse, (db - b * along) * inverse
    tl.store(out + to, da.to(out.dtype.element_ty), mask=inside)
    tl.store(out + to + half, db.to(out.dtype.element_ty), mask=inside)


class _Heads(torch.autograd.Function):
    """Products, [K, T, 3 · heads · size] → queries, keys and values, [K · T, heads, size] each."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        size = 2 * cos.shape[1]
        rows = products.numel() // (3 * size)
        products = products.contiguous()
        out = torch.empty((3, rows // heads, heads, size), dtype=products.dtype, device=products.device)
        _cut[(triton.cdiv(rows, ROWS), 3)](
            products, out, cos, sin, rows, len(cos), EPSILON, heads, size // 2, ROWS, triton.next_power_of_2(size // 2)
        )
        ctx.save_for_backward(products, cos, sin)
        ctx.heads = heads
        return out[0], out[1], out[2]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        products, cos, sin = ctx.saved_tensors
        dq, dk, dv = (grad.contiguous() for grad in grads)
        out, size = torch.empty_like(products), 2 * cos.shape[1]
        rows = products.numel() // (3 * size)
        _cut_back[(triton.cdiv(rows, ROWS), 3)](
            dq, dk, dv, products, out, cos, sin, rows, len(cos), EPSILON, ctx.heads, size // 2, ROWS, triton.next_power_of_2(size // 2)
        )
        return out, None, None, None


def cut_heads(products: Tensor, heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do what curate.mix.model.cut_heads does."""
    q, k, v = _Heads.apply(products, cos, sin, heads)  # type: ignore[no-untyped-call]
    shape = (-1, len(cos), heads, 2 * cos.shape[1])
    return q.view(shape).transpose(1, 2), k.view(shape).transpose(1, 2), v.view(shape).transpose(1, 2)


# ── loss ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@jit
def _slope(logits, targets, lost, VOCAB: tl.constexpr, COLUMNS: tl.constexpr):
    """A program per position: its loss, and the gradient by its logits in their place."""
    row = tl.program_id(0).to(tl.int64)
    target, columns = tl.load(targets + row), tl.arange(0, COLUMNS)
    logits += row * VOCAB
    largest, total = -float("inf"), 0.0
    for start in range(0, VOCAB, COLUMNS):
        here = start + columns
        x = tl.load(logits + here, mask=here < VOCAB, other=-float("inf")).to(tl.float32)
        top = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - top) + tl.sum(tl.exp(x - top), 0)
        largest = top
    sums = largest + tl.log(total)
    tl.store(lost + row, sums - tl.load(logits + target).to(tl.float32))
    tl.debug_barrier()  # nobody may write a logit that somebody has yet to read
    for start in range(0, VOCAB, COLUMNS):
        here = start + columns
        x = tl.load(logits + here, mask=here < VOCAB, other=-float("inf")).to(tl.float32)
        slope = tl.exp(x - sums) - tl.where(here == target, 1.0, 0.0)
        tl.store(logits + here, slope.to(logits.dtype.element_ty), mask=here < VOCAB)


def _loss_and_gradients(x: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean loss of each member, [K], and its gradients by `x` and by `embedding`.

    Some members at a time, each with all of its positions: cutting these into blocks that the GPU's cache holds was measured to take longer.
    """
    (K, vocab, _), (_, count, _) = embedding.shape, x.shape
    rows, targets = embedding.to(x.dtype), targets.contiguous()
    lost = torch.empty(targets.shape, dtype=torch.float32, device=x.device)
    grad_x, grad_embedding = torch.empty_like(x), torch.empty_like(embedding)
    step = max(1, LOGITS // (count * vocab))
    columns = min(COLUMNS, triton.next_power_of_2(vocab))
    for k in range(0, K, step):
        some = slice(k, min(K, k + step))
        logits = torch.bmm(x[some], rows[some].transpose(1, 2))
        _slope[(logits.shape[0] * count,)](logits, targets[some], lost[some], vocab, columns, num_warps=8 if vocab > 2048 else 4)
        torch.bmm(logits, rows[some], out=grad_x[some])
        grad_embedding[some] = torch.bmm(logits.transpose(1, 2), x[some])
    return lost.mean(1), grad_x.div_(count), grad_embedding.div_(count)


# One operation to the compiler, which would make copies of what is filled in part by part.
_SCHEMA = "(Tensor x, Tensor embedding, Tensor targets) -> (Tensor, Tensor, Tensor)"
_loss = torch.library.custom_op("curate::loss_and_gradients", _loss_and_gradients, mutates_args=(), schema=_SCHEMA)


@_loss.register_fake
def _shapes(x: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(len(x), dtype=torch.float32), torch.empty_like(x), torch.empty_like(embedding)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])


def _back(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
    grad_x, grad_embedding = ctx.saved_tensors
    scale = grads[0][:, None, None]
    return (grad_x * scale).to(grad_x.dtype), grad_embedding * scale, None


_loss.register_autograd(_back, setup_context=_keep)


def mean_loss(x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Do what curate.mix.model.mean_loss does."""
    return _loss(x.contiguous(), embedding, targets)[0]  # type: ignore[no-any-return]


OPERATIONS = Operations(cut_heads, mean_loss)
