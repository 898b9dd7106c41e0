"""The few hot loops, compiled by numba, over Arrow buffers: they walk UTF-8 in place and make no Python objects.

    characters      what a character is; the UTF-8 decoder
    words           words and their 64-bit hashes        lines           lines and their counts
    repetition      Gopher's Table A1                    phrases         fixed phrases in lines
    candidates      where personal data may stand        bytes_automaton language scores
    exponential     of float32, for kernels of proxies   compiled        what makes machine code of all these

Importing this package is cheap; each module imports numba.
"""

from __future__ import annotations

from typing import Any


def warm_up() -> None:
    """Compile every kernel, or load it from the cache: about 15 s of one core at most, once per version and machine.

    A process that forks workers, or that hands tasks to others, calls this first, so that they need not compile.
    """
    import numpy as np
    import pyarrow as pa

    from curate.kernels import bytes_automaton, candidates, lines, phrases, repetition, words

    text = pa.array(["One two, three.\n\nmail@host.org", None])
    data, starts, ends = words.views(text)
    words.segmented(data, starts, ends)
    split = lines.split(data, starts, ends)
    phrases.phrases_in(data, split.starts, split.ends, ["two"])
    candidates.candidates(data, starts, ends)
    repetition.measures(text)
    nothing: list[Any] = [
        np.zeros(256, np.uint32),
        np.zeros(1, np.int32),
        np.full(1, -1, np.int32),
        np.zeros((1, 1), np.float32),
        np.zeros(1, np.float32),
    ]
    for table in nothing:
        table.flags.writeable = False
    bytes_automaton.scores(bytes_automaton.Automaton(*nothing), data, starts, ends)
    words.forget()
    lines.forget()
