"""C4's line and document measures (Raffel et al. 2020, jmlr.org/papers/v21/20-074; TensorFlow Datasets' c4_utils.py).

C4 first drops lines, then counts sentences in what is left. Here `sentences` is that count, without changing the
text; the edit `drop_lines` changes it. Two simplifications against datatrove: sentences are found by their marks
(see `curate.kernels.lines`), and lorem ipsum and braces count wherever they stand, also in a line that C4 would have
dropped before looking.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.annotate.columns import struct_of, text_of

POLICY_PHRASES = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]


def annotate(
    batch: pa.RecordBatch, *, min_words_per_line: int = 3, max_word_characters: int = 1000, terminal_punctuation: bool = False
) -> pa.StructArray:
    """Count the lines that C4 drops, and the sentences in the others.

    With `terminal_punctuation` lines that do not end in . ! ? or a quote count as dropped too: C4 does this, FineWeb does not.

    Fields:
        lines: number of lines, blank ones not counted
        kept_lines: number of lines that C4 keeps
        sentences: number of sentences in the lines that C4 keeps
        javascript_lines: number of lines with "javascript"
        policy_lines: number of lines with a phrase such as "privacy policy" or "use cookies"
        short_lines: number of lines with fewer than `min_words_per_line` words
        long_word_lines: number of lines with a word of more than `max_word_characters` characters
        unterminated_lines: number of lines that do not end in . ! ? or a quote, or that end in an ellipsis
        lorem_ipsum: whether "lorem ipsum" occurs
        curly_braces: number of opening curly braces

    Rules of C4, and of FineWeb:
        lorem_ipsum        c4.lorem_ipsum
        code               c4.curly_braces > 0
        too_few_sentences  c4.sentences < 5
    """
    from curate.kernels import lines as line_kernel
    from curate.kernels.phrases import phrases_in

    lines = line_kernel.lines_of(text_of(batch))
    found = phrases_in(lines.data, lines.starts, lines.ends, ["javascript", "lorem ipsum", *POLICY_PHRASES])
    filled = ~lines.having(line_kernel.BLANK)
    javascript, policy = found & 1 != 0, found >> 2 != 0
    short = filled & (lines.counts[:, line_kernel.WORDS] < min_words_per_line)
    long_word = lines.counts[:, line_kernel.LONGEST_WORD] > max_word_characters
    unterminated = filled & ~lines.having(line_kernel.TERMINATED)
    kept = filled & ~(javascript | policy | short | long_word)
    if terminal_punctuation:
        kept &= ~unterminated
    return struct_of(
        {
            "lines": lines.summed(filled),
            "kept_lines": lines.summed(kept),
            "sentences": lines.summed(np.where(kept, lines.counts[:, line_kernel.SENTENCES], 0)),
            "javascript_lines": lines.summed(javascript),
            "policy_lines": lines.summed(policy),
            "short_lines": lines.summed(short),
            "long_word_lines": lines.summed(long_word),
            "unterminated_lines": lines.summed(unterminated),
            "lorem_ipsum": lines.summed(found & 2 != 0) > 0,
            "curly_braces": lines.totals(line_kernel.CURLY),
        }
    )
