"""What a proxy on one core does between two matrix products, forward and back: one pass over each array (curate.mix.fused).

All arrays are float32. Sums are taken in lanes, so that another kind of machine may give other last bits; the same machine gives the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.kernels.compiled import compiled, reassociated
from curate.kernels.exponential import exponential


@reassociated
def normalize(x: Any, gain: Any, y: Any, inverse: Any, epsilon: float) -> None:
    count, width = x.shape
    for t in range(count):
        total = np.float32(0)
        for j in range(width):
            total += x[t, j] * x[t, j]
        r = np.float32(1 / np.sqrt(total / width + epsilon))
        inverse[t] = r
        for j in range(width):
            y[t, j] = x[t, j] * r * gain[j]


@reassociated
def normalize_back(dy: Any, x: Any, gain: Any, inverse: Any, dx: Any, dgain: Any) -> None:
    """Add to `dx` and `dgain`."""
    count, width = x.shape
    for t in range(count):
        r = inverse[t]
        dot = np.float32(0)
        for j in range(width):
            dot += dy[t, j] * gain[j] * x[t, j]
        pull = np.float32(dot / width) * r * r * r
        for j in range(width):
            dx[t, j] += dy[t, j] * gain[j] * r - x[t, j] * pull
            dgain[j] += dy[t, j] * x[t, j] * r


@reassociated
def rotate(products: Any, angles: Any, qkv: Any, inverses: Any, epsilon: float) -> None:
    """Cut the products into heads; rotate and normalize queries and keys; divide queries by the root of their size."""
    _, length, half = angles.shape
    heads, size = inverses.shape[2], 2 * half
    root = np.float32(1 / np.sqrt(size))
    for t in range(len(products)):
        row, at = t // length, t % length
        cos, sin = angles[0, at], angles[1, at]
        for h in range(heads):
            for which in range(2):
                first = (which * heads + h) * size
                a, b = products[t, first : first + half], products[t, first + half : first + size]
                low, high = qkv[which, row * heads + h, at, :half], qkv[which, row * heads + h, at, half:]
                total = np.float32(0)
                for j in range(half):
                    total += a[j] * a[j] + b[j] * b[j]
                r = np.float32(1 / np.sqrt(total / size + epsilon))
                inverses[t, which, h] = r
                if which == 0:
                    r *= root
                for j in range(half):
                    low[j] = (a[j] * cos[j] - b[j] * sin[j]) * r
                    high[j] = (a[j] * sin[j] + b[j] * cos[j]) * r
            first = (2 * heads + h) * size
            qkv[2, row * heads + h, at, :] = products[t, first : first + size]


@reassociated
def rotate_back(dqkv: Any, qkv: Any, inverses: Any, angles: Any, dproducts: Any) -> None:
    _, length, half = angles.shape
    heads, size = inverses.shape[2], 2 * half
    root = np.float32(1 / np.sqrt(size))
    for t in range(len(dproducts)):
        row, at = t // length, t % length
        cos, sin = angles[0, at], angles[1, at]
        for h in range(heads):
            for which in range(2):
                first = (which * heads + h) * size
                n = row * heads + h
                low, high, dlow, dhigh = qkv[which, n, at, :half], qkv[which, n, at, half:], dqkv[which, n, at, :half], dqkv[which, n, at, half:]
                a, b = dproducts[t, first : first + half], dproducts[t, first + half : first + size]
                dot = np.float32(0)
                for j in range(half):
                    dot += low[j] * dlow[j] + high[j] * dhigh[j]
                r = inverses[t, which, h]
                pull = np.float32(dot / size)
                if which == 0:  # what is kept is the normalized vector times root
                    r *= root
                    pull = dot
                for j in range(half):
                    da, db = dlow[j] - low[j] * pull, dhigh[j] - high[j] * pull
                    a[j] = (da * cos[j] + db * sin[j]) * r
                    b[j] = (db * cos[j] - da * sin[j]) * r
            first = (2 * heads + h) * size
            dproducts[t, first : first + size] = dqkv[2, row * heads + h, at]


@reassociated
def shift(dmixed: Any, mixed: Any, sums: Any, dout: Any, shift: Any) -> None:
    """Cut the gradient of attention's output into heads, over the sums of exponentials; `shift`: its product with that output."""
    count, length, size = dout.shape
    heads = dmixed.shape[1] // size
    for n in range(count):
        row, first = n // heads, (n % heads) * size
        for at in range(length):
            t = row * length + at
            over = np.float32(1) / sums[n, at, 0]
            given, gave, to = dmixed[t, first : first + size], mixed[t, first : first + size], dout[n, at]
            dot = np.float32(0)
            for j in range(size):
                dot += given[j] * gave[j]
            for j in range(size):
                to[j] = given[j] * over
            shift[n, at, 0] = dot * over


@compiled
def through_scores(dscores: Any, shift: Any, scores: Any) -> None:
    """Turn the gradient by the normalized scores into that by their logarithms."""
    count, rows, columns = dscores.shape
    for n in range(count):
        for i in range(rows):
            less = shift[n, i, 0]
            for j in range(columns):
                dscores[n, i, j] = (dscores[n, i, j] - less) * scores[n, i, j]


@compiled
def merge(out: Any, sums: Any, mixed: Any) -> None:
    """Divide by the sums of exponentials, and put the heads side by side."""
    count, length, size = out.shape
    heads = mixed.shape[1] // size
    for n in range(count):
        row, first = n // heads, (n % heads) * size
        for at in range(length):
            over = np.float32(1) / sums[n, at, 0]
            for j in range(size):
                mixed[row * length + at, first + j] = out[n, at, j] * over


@reassociated
def gated(gate_up: Any, hidden: Any) -> None:
    count, width = hidden.shape
    one = np.float32(1)
    for t in range(count):
        for j in range(width):
            gate = gate_up[t, j]
            hidden[t, j] = gate / (one + exponential(-gate)) * gate_up[t, width + j]


@reassociated
def gated_back(dhidden: Any, gate_up: Any, dgate_up: Any) -> None:
    count, width = dhidden.shape
    one = np.float32(1)
    for t in range(count):
        for j in range(width):
            gate, up, d = gate_up[t, j], gate_up[t, width + j], dhidden[t, j]
            s = one / (one + exponential(-gate))
            dgate_up[t, j] = d * up * s * (one + gate * (one - s))
            dgate_up[t, width + j] = d * gate * s


@reassociated
def exponentials(logits: Any, top: Any, sums: Any) -> None:
    """Turn logits, [vocabulary, positions], less `top` of their position into exponentials; add these to `sums`."""
    vocabulary, count = logits.shape
    for v in range(vocabulary):
        for t in range(count):
            e = exponential(logits[v, t] - top[t])
            logits[v, t] = e
            sums[t] += e


@reassociated
def past_exponentials(scores: Any, sums: Any) -> None:
    """Turn scores of a block of queries into exponentials, 0 for keys after the query; the last keys are the queries' own."""
    count, rows, columns = scores.shape
    for n in range(count):
        for i in range(rows):
            past = columns - rows + i + 1
            total = np.float32(0)
            for j in range(past):
                e = exponential(scores[n, i, j])
                scores[n, i, j] = e
                total += e
            scores[n, i, past:] = 0
            sums[n, i, 0] = total


@compiled
def through_head(most: Any, over: Any, x: Any, targets: Any, embedding: Any, scale: float, dx: Any, grad: Any) -> None:
    """Put the gradient by x together: `most`, [width, positions], times `over`, and the targets' part; add the latter to `grad`, too."""
    count, width = x.shape
    factor = np.float32(scale)
    for t in range(count):
        target = targets[t]
        for j in range(width):
            dx[t, j] = most[j, t] * over[t] - factor * embedding[target, j]
            grad[target, j] -= factor * x[t, j]


@compiled
def scatter(rows: Any, tokens: Any, grad: Any) -> None:
    """Add each row to that of its token."""
    count, width = rows.shape
    for t in range(count):
        for j in range(width):
            grad[tokens[t], j] += rows[t, j]
