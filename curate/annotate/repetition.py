"""Gopher's repetition measures (Rae et al. 2021, arXiv 2112.11446, Table A1); see `curate.kernels.repetition`."""

from __future__ import annotations

import pyarrow as pa

from curate.annotate.columns import struct_of, text_of


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Measure how much of a text is repeated within it.

    Fields:
        duplicate_lines: share of lines that have occurred before
        duplicate_paragraphs: share of paragraphs that have occurred before
        duplicate_line_characters: share of the text's characters in lines that have occurred before
        duplicate_paragraph_characters: share of the text's characters in paragraphs that have occurred before
        top_2gram_characters: share of the text's characters in all occurrences of the most frequent word 2-gram
        top_3gram_characters: the same for 3-grams
        top_4gram_characters: the same for 4-grams
        duplicate_5gram_characters: share of the text's characters in word 5-grams that have occurred before, without overlap
        duplicate_6gram_characters: the same for 6-grams
        duplicate_7gram_characters: the same for 7-grams
        duplicate_8gram_characters: the same for 8-grams
        duplicate_9gram_characters: the same for 9-grams
        duplicate_10gram_characters: the same for 10-grams

    Rules of Gopher, FineWeb and DCLM (Table A1), one threshold for each field:
        duplicate_lines                 repetition.duplicate_lines > 0.3
        duplicate_paragraphs            repetition.duplicate_paragraphs > 0.3
        duplicate_line_characters       repetition.duplicate_line_characters > 0.2
        duplicate_paragraph_characters  repetition.duplicate_paragraph_characters > 0.2
        frequent_phrases                repetition.top_2gram_characters > 0.20 or repetition.top_3gram_characters > 0.18
                                        or repetition.top_4gram_characters > 0.16
        repeated_phrases                repetition.duplicate_5gram_characters > 0.15 or repetition.duplicate_6gram_characters > 0.14
                                        or repetition.duplicate_7gram_characters > 0.13 or repetition.duplicate_8gram_characters > 0.12
                                        or repetition.duplicate_9gram_characters > 0.11 or repetition.duplicate_10gram_characters > 0.10
    """
    from curate.kernels.repetition import measures

    return struct_of(measures(text_of(batch)))
