"""The hot loops of the fastText classifier (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification").

A document is the mean of the vectors of its words and of its hashed word n-grams; one softmax layer stands on top. The hash
functions, the order of the features and the single precision are those of the fastText library, so that a model file
means the same there and here. Training differs from the library on purpose:

- one thread, so that the same input gives the same bytes (the library's threads race on purpose);
- every row that occurs in the training texts is initialized, and the others are zero (below 11 threads, the library leaves
  part of its matrix as it finds it in memory);
- documents are shuffled anew for each epoch (the library reads its file in order).

Only additions, multiplications and divisions in a fixed order are used, also for the exponential: the result is the same on
every processor with IEEE arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from curate.kernels.compiled import compiled, inlined

_FNV_START, _FNV_FACTOR = np.uint64(2166136261), np.uint64(16777619)
_NGRAM_FACTOR = np.uint64(116049371)
_LOW32, _HIGH32, _SIGN32 = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000), np.uint64(0x80000000)
_BYTE_SIGN = np.uint64(0xFFFFFF00)
HASHED = -2
_END_HASH = np.uint64(0xFFFFFFFFD79C9359)  # of "</s>", widened
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.693147180369123816490, 1.90821492927058770002e-10


@inlined
def word_hash(data: Any, start: Any, end: Any) -> Any:
    """Return fastText's hash of a word: 32-bit FNV-1a whose bytes count as signed."""
    h = _FNV_START
    for i in range(start, end):
        byte = np.uint64(data[i])
        if byte >= np.uint64(0x80):
            byte |= _BYTE_SIGN
        h = ((h ^ byte) * _FNV_FACTOR) & _LOW32
    return h


@inlined
def _signed(h: Any) -> Any:
    """Return a 32-bit hash as fastText widens it to 64 bits: with its sign."""
    return h | _HIGH32 if h & _SIGN32 else h


@inlined
def _find(data: Any, start: Any, end: Any, h: Any, slots: Any, words: Any, word_offsets: Any) -> Any:
    """Return the row of the word in data[start:end], -1 where the vocabulary has it not."""
    mask = np.uint64(len(slots) - 1)
    at = h & mask
    while slots[at] >= 0:
        row = slots[at]
        first = word_offsets[row]
        if word_offsets[row + 1] - first == end - start:
            same = True
            for k in range(end - start):
                if words[first + k] != data[start + k]:
                    same = False
                    break
            if same:
                return np.int64(row)
        at = (at + np.uint64(1)) & mask
    return np.int64(-1)


@compiled
def build_slots(words: Any, word_offsets: Any) -> Any:
    """Return the hash table of a vocabulary, int32[a power of two]: row of the word, or -1; open addressing."""
    num = len(word_offsets) - 1
    size = 16
    while size < 2 * num:
        size *= 2
    slots = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    for row in range(num):
        at = word_hash(words, word_offsets[row], word_offsets[row + 1]) & mask
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = row
    return slots


@inlined
def _features(data: Any, start: Any, end: Any, vocabulary: Any, hashes: Any, out: Any) -> Any:
    """Write the feature rows of one prepared text into `out`, words first, then n-grams; return how many.

    `vocabulary` is (slots, words, word_offsets, end_row, ngrams, buckets); `end_row` is the row of fastText's end-of-line
    word, which closes every document, or -1; HASHED: there is no vocabulary, and words share the buckets. `hashes` is scratch.
    """
    slots, words, word_offsets, end_row, ngrams, buckets = vocabulary
    num_words = len(word_offsets) - 1
    found, tokens, i = 0, 0, start
    while i < end:
        while i < end and data[i] == 0x20:
            i += 1
        first = i
        while i < end and data[i] != 0x20:
            i += 1
        if i > first:
            h = word_hash(data, first, i)
            row = _find(data, first, i, h, slots, words, word_offsets)
            if row >= 0:
                out[found] = row
                found += 1
            hashes[tokens] = _signed(h)
            tokens += 1
    if end_row == HASHED:
        for k in range(tokens):
            out[found] = np.int64(hashes[k] % np.uint64(buckets))
            found += 1
    elif end_row >= 0:
        out[found] = end_row
        found += 1
    hashes[tokens] = _END_HASH
    tokens += 1
    if buckets > 0:
        for first in range(tokens):
            h = hashes[first]
            for k in range(first + 1, min(tokens, first + ngrams)):
                h = h * _NGRAM_FACTOR + hashes[k]
                out[found] = num_words + np.int64(h % np.uint64(buckets))
                found += 1
    return found


@inlined
def _room(offsets: Any, ngrams: Any) -> Any:
    """Return (tokens, features) that the longest text can have."""
    longest = np.int64(0)
    for row in range(len(offsets) - 1):
        longest = max(longest, np.int64(offsets[row + 1] - offsets[row]))
    tokens = longest // 2 + 3
    return tokens, tokens * (ngrams + 1)


@compiled
def all_features(data: Any, offsets: Any, vocabulary: Any) -> Any:
    """Return (rows int32[features], offsets int64[texts + 1]) for prepared texts; `vocabulary` as in `_features`."""
    tokens, most = _room(offsets, vocabulary[4])
    hashes, scratch = np.empty(tokens, np.uint64), np.empty(most, np.int32)
    ends = np.zeros(len(offsets), np.int64)
    out = np.empty(1024, np.int32)
    for row in range(len(offsets) - 1):
        found = _features(data, np.int64(offsets[row]), np.int64(offsets[row + 1]), vocabulary, hashes, scratch)
        at = ends[row]
        if at + found > len(out):
            grown = np.empty(2 * (at + found), np.int32)
            grown[:at] = out[:at]
            out = grown
        out[at : at + found] = scratch[:found]
        ends[row + 1] = at + found
    return out[: ends[-1]].copy(), ends


@inlined
def _mix(state: Any) -> Any:
    """Return splitmix64's output for a counter (Steele, Lea, Flood 2014)."""
    z = state * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def _exp(x: Any) -> Any:
    """Return e^x for x <= 0 by range reduction and a Taylor polynomial; relative error below 1e-15."""
    if x < -700.0:
        return 0.0
    n = math.floor(x * _LOG2_E + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    total = 1.0
    for k in range(13, 0, -1):
        total = 1.0 + total * r / k
    return math.ldexp(total, int(n))


@inlined
def _softmax(hidden: Any, output: Any, probabilities: Any) -> Any:
    """Write the softmax of output · hidden into `probabilities`, float64[labels]."""
    most = -np.inf
    for label in range(output.shape[0]):
        dot = np.float32(0)
        for d in range(output.shape[1]):
            dot += output[label, d] * hidden[d]
        probabilities[label] = dot
        most = max(most, probabilities[label])
    total = 0.0
    for label in range(output.shape[0]):
        probabilities[label] = _exp(probabilities[label] - most)
        total += probabilities[label]
    for label in range(output.shape[0]):
        probabilities[label] /= total


@inlined
def _mean(features: Any, first: Any, last: Any, matrix: Any, hidden: Any) -> Any:
    """Write the mean of the rows features[first:last] of `matrix` into `hidden`; zeros where there are none."""
    hidden[:] = np.float32(0)
    for k in range(first, last):
        row = features[k]
        for d in range(hidden.shape[0]):
            hidden[d] += matrix[row, d]
    if last > first:
        scale = np.float32(1.0 / (last - first))
        for d in range(hidden.shape[0]):
            hidden[d] *= scale


@compiled
def initialize(matrix: Any, features: Any, seed: int) -> None:
    """Fill each row of `matrix`, float32[rows, dim], that occurs in `features` with uniform(-1/dim, 1/dim)."""
    rows, dim = matrix.shape
    seen = np.zeros(rows, np.bool_)
    for k in range(len(features)):
        seen[features[k]] = True
    start = _mix(np.uint64(seed) + np.uint64(1))
    for row in range(rows):
        if seen[row]:
            for d in range(dim):
                bits = _mix(start + np.uint64(row * dim + d)) >> np.uint64(40)
                matrix[row, d] = np.float32((np.float64(bits) / 8388608.0 - 1.0) / dim)


@compiled
def descend(texts: Any, model: Any, epochs: int, rate: float, seed: int) -> Any:
    """Train in place by stochastic gradient descent, one document at a time; return the mean loss of each epoch.

    `texts` is (features int32[n], offsets int64[documents + 1], labels int32[documents]), `model` is (matrix
    float32[rows, dim], output float32[labels, dim]). The learning rate falls linearly to zero.
    """
    features, offsets, labels = texts
    matrix, output = model
    documents, dim, num_labels = len(labels), matrix.shape[1], output.shape[0]
    order = np.arange(documents)
    hidden, gradient = np.empty(dim, np.float32), np.empty(dim, np.float32)
    probabilities, losses = np.empty(num_labels, np.float64), np.zeros(epochs, np.float64)
    state, done, total = _mix(np.uint64(seed) + np.uint64(2)), np.int64(0), np.int64(epochs) * offsets[documents]
    for epoch in range(epochs):
        for k in range(documents - 1, 0, -1):
            state += np.uint64(1)
            other = np.int64(_mix(state) % np.uint64(k + 1))
            order[k], order[other] = order[other], order[k]
        for step in range(documents):
            document = order[step]
            first, last = offsets[document], offsets[document + 1]
            if last == first:
                continue
            speed = rate * (1.0 - done / total)
            _mean(features, first, last, matrix, hidden)
            _softmax(hidden, output, probabilities)
            losses[epoch] -= math.log(max(probabilities[labels[document]], 1e-12))
            gradient[:] = np.float32(0)
            for label in range(num_labels):
                target = 1.0 if labels[document] == label else 0.0
                alpha = np.float32(speed * (target - probabilities[label]))
                for d in range(dim):
                    gradient[d] += alpha * output[label, d]
                    output[label, d] += alpha * hidden[d]
            scale = np.float32(1.0 / (last - first))
            for d in range(dim):
                gradient[d] *= scale
            for k in range(first, last):
                row = features[k]
                for d in range(dim):
                    matrix[row, d] += gradient[d]
            done += last - first
        losses[epoch] /= max(documents, 1)
    return losses


@compiled
def probabilities_of(data: Any, offsets: Any, vocabulary: Any, matrix: Any, output: Any) -> Any:
    """Return the probability of each label for prepared texts, float64[texts, labels]; `vocabulary` as in `_features`."""
    texts = len(offsets) - 1
    tokens, most = _room(offsets, vocabulary[4])
    hashes, scratch = np.empty(tokens, np.uint64), np.empty(most, np.int32)
    hidden = np.empty(matrix.shape[1], np.float32)
    out = np.empty((texts, output.shape[0]), np.float64)
    for row in range(texts):
        found = _features(data, np.int64(offsets[row]), np.int64(offsets[row + 1]), vocabulary, hashes, scratch)
        _mean(scratch, 0, found, matrix, hidden)
        _softmax(hidden, output, out[row])
    return out


@inlined
def _entries(features: Any, first: Any, last: Any, frequency: Any, columns: Any, values: Any) -> Any:
    """Write the distinct features of a document and their TF-IDF weights, of length 1 together; return how many."""
    ordered = np.sort(features[first:last])
    found, k, square = 0, 0, 0.0
    while k < len(ordered):
        run = k
        while run < len(ordered) and ordered[run] == ordered[k]:
            run += 1
        weight = (1.0 + math.log(run - k)) * frequency[ordered[k]]
        columns[found], values[found] = ordered[k], weight
        square += weight * weight
        found += 1
        k = run
    if square > 0.0:
        scale = 1.0 / math.sqrt(square)
        for j in range(found):
            values[j] *= scale
    return found


@compiled
def weigh(features: Any, offsets: Any, buckets: int) -> Any:
    """Return (frequency float32[buckets], columns int32[n], values float64[n], ends int64[documents + 1]): a TF-IDF matrix.

    The term frequency is 1 + ln(count), the inverse document frequency 1 + ln((1 + documents) / (1 + documents that have it)).
    """
    documents = len(offsets) - 1
    counts, latest = np.zeros(buckets, np.int64), np.full(buckets, -1, np.int64)
    for document in range(documents):
        for k in range(offsets[document], offsets[document + 1]):
            if latest[features[k]] != document:
                latest[features[k]] = document
                counts[features[k]] += 1
    frequency = np.empty(buckets, np.float32)
    for bucket in range(buckets):
        frequency[bucket] = 1.0 + math.log((1.0 + documents) / (1.0 + counts[bucket]))
    columns, values, ends = np.empty(len(features), np.int32), np.empty(len(features), np.float64), np.zeros(documents + 1, np.int64)
    for document in range(documents):
        at = ends[document]
        ends[document + 1] = at + _entries(features, offsets[document], offsets[document + 1], frequency, columns[at:], values[at:])
    return frequency, columns[: ends[-1]].copy(), values[: ends[-1]].copy(), ends


@compiled
def logits_of(features: Any, offsets: Any, frequency: Any, weights: Any) -> Any:
    """Return the sum of weight · TF-IDF of each document, float64[documents]."""
    out = np.zeros(len(offsets) - 1, np.float64)
    for document in range(len(out)):
        first, last = offsets[document], offsets[document + 1]
        columns, values = np.empty(last - first, np.int32), np.empty(last - first, np.float64)
        for k in range(_entries(features, first, last, frequency, columns, values)):
            out[document] += weights[columns[k]] * values[k]
    return out
