"""What a text is made of: its size, damage from wrong decoding, and shares of character classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.annotate.columns import ratio, struct_of, text_of


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Count characters by class, and look for the traces of a wrong decoding.

    Fields:
        count: number of code points
        bytes: number of bytes in UTF-8
        replacements: number of U+FFFD, left by bytes that could not be decoded
        controls: number of control characters other than tab, line feed and carriage return
        mojibake: share of characters in sequences such as "Ã©": UTF-8 that was read as Windows-1252 or Latin-1
        longest_line: number of code points in the longest line
        non_ascii: share of characters outside ASCII
        digits: share of characters that are decimal digits
        uppercase: share of letters that are upper case

    Rules that serve well:
        tiny       characters.count < 150   (Dolma 3)
        damaged    characters.replacements > 0.01 * characters.count or characters.mojibake > 0.01
        binary     characters.controls > 0.01 * characters.count
        shouting   characters.uppercase > 0.5
    """
    from curate.kernels import lines as line_kernel
    from curate.kernels.words import views

    text = text_of(batch)
    lines = line_kernel.lines_of(text)
    _, starts, ends = views(text)
    characters = lines.characters()
    return struct_of(
        {
            "count": characters,
            "bytes": ends.astype(np.int64) - starts,
            "replacements": lines.totals(line_kernel.REPLACEMENTS),
            "controls": lines.totals(line_kernel.CONTROLS),
            "mojibake": ratio(lines.totals(line_kernel.MOJIBAKE), characters),
            "longest_line": lines.largest(line_kernel.CHARACTERS),
            "non_ascii": ratio(lines.totals(line_kernel.NON_ASCII), characters),
            "digits": ratio(lines.totals(line_kernel.DIGITS), characters),
            "uppercase": ratio(lines.totals(line_kernel.UPPERCASE), lines.totals(line_kernel.LETTERS)),
        }
    )
