"""One proxy on one core: forward and backward of curate.mix.model written out, for float32 on a CPU.

A small model in plain PyTorch spends most of a step on passes over its activations, not on products. Here a step goes through
the model a few sequences at a time; what lies between two products is one kernel of curate.mix.passes; logits exist for CHUNK positions, and become
exponentials in place; gradients are added where they belong; attention skips what lies in the future, block by block; and buffers are made
once, on huge pages. There is no compiler to install, nothing that is compiled on one machine and not on another, and the same run gives the
same bits.

A product of small matrices is up to twice as fast in one layout as in another, so logits have the vocabulary first, attention has keys and
values transposed and its blocks of scores packed, and a matrix that many rows are multiplied with is transposed before.

The price is a second definition of the model, with its derivative by hand; tests hold it to the first, which autograd differentiates.

Attention takes no maximum before its exponentials: queries and keys have norm √size, so that no score exceeds √size. Flash attention's
order of sums (Dao 2022), Liger's chunked cross-entropy (Hsu 2024).
"""

from __future__ import annotations

import functools
import math
import mmap

import msgspec
import torch
from torch import Tensor

from curate.mix import passes
from curate.mix.model import EPSILON, Parameters, rotary

MICRO_TOKENS = 4096  # positions that go through the model at once; at least one sequence
BLOCK = 128  # queries of a block of attention
SCORES = 1 << 19  # scores of attention that are worked on at once, where a core's cache holds them; at least one head's block
SLICE = 1024  # positions of the product that a tall matrix's gradient is
CHUNK = 512  # positions whose logits exist at once
LARGEST = 60.0  # logits of which a vocabulary's exponentials have a sum in float32
HUGE = 1 << 21  # bytes of a huge page


class Scratch:
    """Named float32 buffers that are made on first use and come back with what was left in them.

    They lie on huge pages where the system has them: on a virtual machine, where a missed translation is dear, that saves a tenth of a step.
    """

    def __init__(self) -> None:
        self._named: dict[str, Tensor] = {}
        self._free = torch.empty(0)

    def take(self, name: str, *shape: int) -> Tensor:
        """Return the buffer `name` in this shape."""
        size = math.prod(shape)
        if name not in self._named or self._named[name].numel() < size:
            self._named[name] = self._cut(size)
        return self._named[name][:size].view(shape)

    def _cut(self, size: int) -> Tensor:
        room = -(-size // 16) * 16
        if self._free.numel() < room:
            pages = mmap.mmap(-1, max(16 * HUGE, -(-room * 4 // HUGE) * HUGE))
            if hasattr(mmap, "MADV_HUGEPAGE"):
                pages.madvise(mmap.MADV_HUGEPAGE)
            self._free = torch.frombuffer(pages, dtype=torch.float32)
        taken, self._free = self._free[:size], self._free[room:]
        return taken


@functools.cache
def shared_scratch() -> Scratch:
    """Return the buffers of this process, which one proxy after another uses."""
    return Scratch()


class Layer(msgspec.Struct, frozen=True):
    """The parameters of one layer, or their gradients."""

    attention_norm: Tensor
    qkv: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class Kept(msgspec.Struct, frozen=True):
    """What the backward pass of a layer needs. T positions, of `width` D; N = sequences · heads; S = D / heads."""

    x: Tensor  # [T, D], the input
    inverse: Tensor  # [T], of its norm
    y: Tensor  # [T, D], normalized
    qkv: Tensor  # [3, N, length, S], queries and keys rotated and normalized, queries over √S
    inverses: Tensor  # [T, 2, heads], of the norms of queries and keys
    scores: list[Tensor]  # for each block of queries [N, block, keys up to its end], exponentials
    sums: Tensor  # [N, length, 1], of the exponentials
    mixed: Tensor  # [T, D], what attention gives
    x2: Tensor  # [T, D], after attention
    inverse2: Tensor  # [T]
    y2: Tensor  # [T, D]
    gate_up: Tensor  # [T, 2 · hidden]
    hidden: Tensor  # [T, hidden], gated


class Last(msgspec.Struct, frozen=True):
    """What is left at the two ends: embeddings of the tokens, the last layer's output, and the inverses of their norms."""

    embedded: Tensor
    inverse: Tensor
    x: Tensor
    inverse_last: Tensor
    y: Tensor  # [T, D], the last hidden states


def layers_of(parameters: Parameters) -> list[Layer]:
    """Return the layers of the only member of `parameters`."""
    count = sum(name.endswith(".qkv") for name in parameters)
    return [Layer(**{name: parameters[f"layers.{i}.{name}"].detach()[0] for name in Layer.__struct_fields__}) for i in range(count)]


@torch.no_grad()
def hidden_states(parameters: Parameters, tokens: Tensor, heads: int, scratch: Scratch) -> Tensor:
    """Return the last hidden states, [rows · length, width], for `tokens`, int64 [rows, length]. `parameters` have one member."""
    return _forward(parameters, tokens, heads, scratch, None).y


@torch.no_grad()
def add_gradients(parameters: Parameters, grads: Parameters, tokens: Tensor, heads: int, scratch: Scratch) -> float:
    """Add the gradient of the mean loss to `grads` and return that loss, nats per token, for sequences int64 [rows, length + 1].

    `parameters` and `grads` have one member, float32 on a CPU.
    """
    rows, length = tokens.shape[0], tokens.shape[1] - 1
    step = max(1, MICRO_TOKENS // length)
    total = 0.0
    for start in range(0, rows, step):
        total += _micro(parameters, grads, tokens[start : start + step], heads, scratch, 1 / (rows * length))
    return total / (rows * length)


def _micro(parameters: Parameters, grads: Parameters, tokens: Tensor, heads: int, scratch: Scratch, scale: float) -> float:
    """Add the gradient of `scale` times the summed loss of some sequences; return the summed loss."""
    given = tokens[:, :-1].contiguous()
    kept: list[Kept] = []
    last = _forward(parameters, given, heads, scratch, kept)
    embedding = grads["embedding"][0]
    loss, dy = _head(last.y, parameters["embedding"].detach()[0], tokens[:, 1:].reshape(-1), embedding, scale, scratch)
    dx = scratch.take("dx", *last.x.shape).zero_()
    _norm_back(dy, last.x, parameters["norm"].detach()[0], last.inverse_last, dx, grads["norm"][0])
    angles = _angles(given.shape[1], dx.shape[1] // heads)
    for layer, grad, saved in zip(reversed(layers_of(parameters)), reversed(layers_of(grads)), reversed(kept), strict=True):
        _mlp_back(layer, grad, saved, dx, scratch)
        _attention_back(layer, grad, saved, dx, angles, scratch)
    ones = torch.ones(dx.shape[1])
    dembedded = scratch.take("dy", *dx.shape).zero_()
    _norm_back(dx, last.embedded, ones, last.inverse, dembedded, torch.zeros_like(ones))
    passes.scatter(dembedded.numpy(), given.view(-1).numpy(), embedding.numpy())
    return loss


def _forward(parameters: Parameters, tokens: Tensor, heads: int, scratch: Scratch, kept: list[Kept] | None) -> Last:
    rows, length = tokens.shape
    table = parameters["embedding"].detach()[0]
    width, count = table.shape[1], rows * length
    embedded = torch.index_select(table, 0, tokens.view(-1), out=scratch.take("embedded", count, width))
    angles = _angles(length, width // heads)
    x, inverse = _norm(embedded, torch.ones(width), scratch, "first")
    for i, layer in enumerate(layers_of(parameters)):
        at = f"{i}." if kept is not None else ""
        y, inverse1 = _norm(x, layer.attention_norm, scratch, f"{at}attention")
        products = torch.mm(y, layer.qkv, out=scratch.take("products", count, 3 * width))
        qkv, inverses = _split(products, rows, angles, scratch, at)
        mixed, sums, scores = _attend(qkv, heads, scratch, at)
        x2 = torch.addmm(x, mixed, layer.output, out=scratch.take(f"{at}x2", count, width))
        y2, inverse2 = _norm(x2, layer.mlp_norm, scratch, f"{at}mlp")
        gate_up = torch.mm(y2, layer.gate_up, out=scratch.take(f"{at}gate_up", count, layer.gate_up.shape[1]))
        hidden = scratch.take(f"{at}hidden", count, layer.down.shape[0])
        passes.gated(gate_up.numpy(), hidden.numpy())
        if kept is not None:
            kept.append(Kept(x, inverse1, y, qkv, inverses, scores, sums, mixed, x2, inverse2, y2, gate_up, hidden))
        x = torch.addmm(x2, hidden, layer.down, out=scratch.take(f"{at}x" if kept is not None else f"x{i % 2}", count, width))
    y, inverse_last = _norm(x, parameters["norm"].detach()[0], scratch, "last")
    return Last(embedded, inverse, x, inverse_last, y)


def _head(x: Tensor, embedding: Tensor, targets: Tensor, grad: Tensor, scale: float, scratch: Scratch) -> tuple[float, Tensor]:
    """Return the summed loss and the gradient of `scale` times it by x; add that by the embedding to `grad`.

    Exponentials stay undivided: their sums divide hidden states and gradients, which are smaller.
    """
    total, dx = 0.0, scratch.take("dy", *x.shape)
    turned_embedding = _turned(embedding, scratch)
    longest = float(torch.linalg.vector_norm(embedding, dim=1).max())
    for start in range(0, len(x), CHUNK):
        here, wanted = x[start : start + CHUNK], targets[start : start + CHUNK]
        count, width = here.shape
        logits = torch.mm(embedding, here.t(), out=scratch.take("logits", len(embedding), count))
        right = logits.gather(0, wanted[None])[0]
        safe = longest * float(torch.linalg.vector_norm(here, dim=1).max()) < LARGEST  # false as well if one is not a number
        top = torch.zeros(count) if safe else logits.amax(0)
        sums = torch.zeros(count)
        passes.exponentials(logits.numpy(), top.numpy(), sums.numpy())
        total += float((sums.log() + top - right).sum())
        over = scale / sums
        grad.addmm_(logits, torch.mul(here, over[:, None], out=scratch.take("weighted", count, width)))
        most = torch.mm(turned_embedding, logits, out=scratch.take("turned dx", width, count))
        some = dx[start : start + CHUNK]
        passes.through_head(most.numpy(), over.numpy(), here.numpy(), wanted.numpy(), embedding.numpy(), scale, some.numpy(), grad.numpy())
    return total, dx


def _turned(matrix: Tensor, scratch: Scratch) -> Tensor:
    """Return the transpose of a matrix, or of each of several, laid out anew."""
    turned = matrix.transpose(-2, -1)
    return scratch.take("turned", *turned.shape).copy_(turned)


def _norm(x: Tensor, gain: Tensor, scratch: Scratch, name: str) -> tuple[Tensor, Tensor]:
    y, inverse = scratch.take(f"{name} y", *x.shape), scratch.take(f"{name} inverse", len(x))
    passes.normalize(x.numpy(), gain.numpy(), y.numpy(), inverse.numpy(), EPSILON)
    return y, inverse


def _norm_back(dy: Tensor, x: Tensor, gain: Tensor, inverse: Tensor, dx: Tensor, dgain: Tensor) -> None:
    """Add the gradients by x and by the gain to `dx` and `dgain`."""
    passes.normalize_back(dy.numpy(), x.numpy(), gain.numpy(), inverse.numpy(), dx.numpy(), dgain.numpy())


@functools.lru_cache(maxsize=8)
def _angles(length: int, size: int) -> Tensor:
    """Return cosines and sines, [2, length, size / 2]."""
    return torch.stack(rotary(length, size, torch.device("cpu")))


def _split(products: Tensor, rows: int, angles: Tensor, scratch: Scratch, at: str) -> tuple[Tensor, Tensor]:
    length, size = angles.shape[1], 2 * angles.shape[2]
    heads = products.shape[1] // (3 * size)
    qkv = scratch.take(f"{at}qkv", 3, rows * heads, length, size)
    inverses = scratch.take(f"{at}inverses", rows * length, 2, heads)
    passes.rotate(products.numpy(), angles.numpy(), qkv.numpy(), inverses.numpy(), EPSILON)
    return qkv, inverses


def _attend(qkv: Tensor, heads: int, scratch: Scratch, at: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Causal attention: return what it gives, [T, D], the sums of the exponentials, and these."""
    q, k, v = qkv.unbind()
    count, length, size = q.shape
    turned = _turned(k, scratch)
    sums = scratch.take(f"{at}sums", count, length, 1)
    out, scores = scratch.take("out", count, length, size), []
    for begin, end in _blocks(length):
        all_scores = scratch.take(f"{at}scores {begin}" if at else "scores", count, end - begin, end)
        for some in _groups(count, length):
            here = all_scores[some]
            torch.bmm(q[some, begin:end], turned[some, :, :end], out=here)
            passes.past_exponentials(here.numpy(), sums[some, begin:end].numpy())
            torch.bmm(here, v[some, :end], out=out[some, begin:end])
        scores.append(all_scores)
    mixed = scratch.take(f"{at}mixed", count // heads * length, heads * size)
    passes.merge(out.numpy(), sums.numpy(), mixed.numpy())
    return mixed, sums, scores


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(begin, min(length, begin + BLOCK)) for begin in range(0, length, BLOCK)]


def _groups(count: int, length: int) -> list[slice]:
    """Cut `count` heads into groups whose scores of a block are at most SCORES."""
    step = max(1, SCORES // (BLOCK * length))
    return [slice(first, min(count, first + step)) for first in range(0, count, step)]


def _attention_back(layer: Layer, grad: Layer, kept: Kept, dx: Tensor, angles: Tensor, scratch: Scratch) -> None:
    q, k, v = kept.qkv.unbind()
    count, length, size = q.shape
    grad.output.addmm_(kept.mixed.t(), dx)
    dmixed = torch.mm(dx, layer.output.t(), out=scratch.take("dy", *dx.shape))
    dout, shift = scratch.take("out", *q.shape), scratch.take("shift", *kept.sums.shape)
    passes.shift(dmixed.numpy(), kept.mixed.numpy(), kept.sums.numpy(), dout.numpy(), shift.numpy())
    dqkv = scratch.take("dqkv", *kept.qkv.shape)
    dq, dk, dv = dqkv.unbind()
    turned = _turned(v, scratch)
    dk_turned, dv_turned = scratch.take("turned dkv", 2, count, size, length).zero_()
    for (begin, end), scores in zip(_blocks(length), kept.scores, strict=True):
        for some in _groups(count, length):
            here = scratch.take("dscores", some.stop - some.start, end - begin, end)
            torch.bmm(dout[some, begin:end], turned[some, :, :end], out=here)
            passes.through_scores(here.numpy(), shift[some, begin:end].numpy(), scores[some].numpy())
            torch.bmm(here, k[some, :end], out=dq[some, begin:end])
            dk_turned[some, :, :end].baddbmm_(q[some, begin:end].transpose(1, 2), here)
            dv_turned[some, :, :end].baddbmm_(dout[some, begin:end].transpose(1, 2), scores[some])
    dk.copy_(dk_turned.transpose(1, 2))
    dv.copy_(dv_turned.transpose(1, 2))
    dproducts = scratch.take("products", len(dx), 3 * dx.shape[1])
    passes.rotate_back(dqkv.numpy(), kept.qkv.numpy(), kept.inverses.numpy(), angles.numpy(), dproducts.numpy())
    grad.qkv.addmm_(kept.y.t(), dproducts)
    dy = torch.mm(dproducts, _turned(layer.qkv, scratch), out=dmixed)
    _norm_back(dy, kept.x, layer.attention_norm, kept.inverse, dx, grad.attention_norm)


def _mlp_back(layer: Layer, grad: Layer, kept: Kept, dx: Tensor, scratch: Scratch) -> None:
    for begin in range(0, len(dx), SLICE):
        grad.down.addmm_(kept.hidden[begin : begin + SLICE].t(), dx[begin : begin + SLICE])
    dhidden = torch.mm(dx, layer.down.t(), out=scratch.take("dhidden", *kept.hidden.shape))
    dgate_up = scratch.take("dgate_up", *kept.gate_up.shape)
    passes.gated_back(dhidden.numpy(), kept.gate_up.numpy(), dgate_up.numpy())
    grad.gate_up.addmm_(kept.y2.t(), dgate_up)
    dy = torch.mm(dgate_up, _turned(layer.gate_up, scratch), out=scratch.take("dy", *dx.shape))
    _norm_back(dy, kept.x2, layer.mlp_norm, kept.inverse2, dx, grad.mlp_norm)
