"""Which of a few fixed phrases occur in each line: a plain scan of the bytes, ASCII letters compared in any case.

For a handful of short phrases this is as fast as memory allows, since almost every position fails at its first byte;
for hundreds of phrases an automaton would be the right tool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.kernels.compiled import compiled


def phrases_in(data: NDArray[np.uint8], starts: NDArray[np.int32], ends: NDArray[np.int32], phrases: list[str]) -> NDArray[np.uint32]:
    """Return, per byte range, a bit for each phrase (bit k for phrases[k]) that occurs in it.

    Phrases are lower-cased; ValueError for an empty one or for more than 32.
    """
    if len(phrases) > 32 or not all(phrases):
        raise ValueError("between 1 and 32 phrases, none of them empty")
    encoded = [phrase.lower().encode() for phrase in phrases]
    offsets = np.cumsum([0, *(len(phrase) for phrase in encoded)]).astype(np.int64)
    first = np.zeros(256, np.uint32)
    for k, phrase in enumerate(encoded):
        first[phrase[0]] |= np.uint32(1 << k)
        first[ord(phrase[:1].upper())] |= np.uint32(1 << k)
    found = np.zeros(len(starts), np.uint32)
    _find(data, starts, ends, np.array(list(b"".join(encoded)), np.uint8), offsets, first, found)
    return found


@compiled
def _find(data, starts, ends, phrases, offsets, first, found):  # type: ignore[no-untyped-def]
    for n in range(len(starts)):
        for i in range(starts[n], ends[n]):
            candidates = first[data[i]] & ~found[n]
            if candidates == 0:
                continue
            for k in range(len(offsets) - 1):
                size = offsets[k + 1] - offsets[k]
                if (candidates >> np.uint32(k)) & 1 == 0 or i + size > ends[n]:
                    continue
                j = 1
                while j < size:
                    b = data[i + j]
                    if b >= 65 and b <= 90:
                        b += 32
                    if b != phrases[offsets[k] + j]:
                        break
                    j += 1
                if j == size:
                    found[n] |= np.uint32(1) << np.uint32(k)
