"""FineWeb's own measures (Penedo et al. 2024, arXiv 2406.17557; datatrove's FineWebQualityFilter)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.annotate.columns import ratio, struct_of, text_of


def annotate(batch: pa.RecordBatch, *, short_line_characters: int = 30) -> pa.StructArray:
    """Measure punctuation at the ends of lines, repeated lines, short lines and line feeds. Blank lines are no lines.

    Fields:
        lines: number of lines, blank ones not counted
        lines_ending_in_punctuation: share of lines whose last character ends a sentence
        duplicated_line_characters: share of characters, line feeds not counted, in lines that have occurred before
        short_lines: share of lines of at most `short_line_characters` characters
        newline_ratio: line feeds per token (word, punctuation mark or symbol)

    Rules of FineWeb; the paper's thresholds, then those of the released code where it differs:
        list_like         fineweb.lines_ending_in_punctuation <= 0.12   (code: < 0.12)
        duplicated_lines  fineweb.duplicated_line_characters >= 0.1     (code: > 0.01)
        short_lines       fineweb.short_lines >= 0.67                   (code: > 0.67)
        many_newlines     fineweb.newline_ratio > 0.3                   (code only)
    """
    from curate.kernels import lines as line_kernel
    from curate.kernels.words import words_of

    text = text_of(batch)
    lines, words = line_kernel.lines_of(text), words_of(text)
    filled = ~lines.having(line_kernel.BLANK)
    characters = lines.counts[:, line_kernel.CHARACTERS]
    count = lines.summed(filled)
    return struct_of(
        {
            "lines": count,
            "lines_ending_in_punctuation": ratio(lines.summed(filled & lines.having(line_kernel.PUNCTUATED)), count),
            "duplicated_line_characters": ratio(
                lines.summed(np.where(filled & lines.having(line_kernel.REPEATED), characters, 0)), lines.totals(line_kernel.CHARACTERS)
            ),
            "short_lines": ratio(lines.summed(filled & (characters <= short_line_characters)), count),
            "newline_ratio": ratio(np.diff(lines.offsets) - 1, np.diff(words.offsets)),
        }
    )
