"""Split a long document into parts that fit a model, at paragraphs where that is possible.

Nothing is lost: the parts, joined, hold every non-space character of the text, in order (other tools drop a paragraph that
is too long). A paragraph that does not fit is split at sentence ends, a sentence at spaces, and a word, at last, anywhere.
"""

from __future__ import annotations

import math
import re

_BREAKS = (r"\n[ \t]*\n\s*", r"\n\s*", r"(?<=[.!?。！？])\s+|(?<=[。！？])", r"\s+")
_JOINTS = ("\n\n", "\n", " ", " ")


def split(text: str, max_characters: int) -> list[str]:
    """Return the parts of `text`, each of at most `max_characters` characters, about equally long; [] for blank text."""
    text = text.strip()
    if not text:
        return []
    if len(text) <= max_characters:
        return [text]
    # As many parts as full ones would need, but about equally long: else the last is a scrap that no style can do anything with.
    fewest = len(_pack(text, max_characters, max_characters, 0))
    return _pack(text, math.ceil(len(text) / fewest), max_characters, 0)


def _pack(text: str, target: int, most: int, level: int) -> list[str]:
    """Fill parts with the pieces between breaks of this level; a piece above `most` goes one level down.

    A part ends before the piece whose middle lies beyond the next multiple of `target`.
    """
    if level == len(_BREAKS):
        return [text[i : i + most] for i in range(0, len(text), most)]
    parts: list[str] = []
    joint, num_parts, done = _JOINTS[level], 0, 0  # of the current run of pieces that fit
    for piece in re.split(_BREAKS[level], text):
        if not piece.strip():
            continue
        if len(piece) > most:
            parts += _pack(piece, target, most, level + 1)
            num_parts = done = 0
            continue
        if num_parts and len(parts[-1]) + len(joint) + len(piece) <= most and done + len(piece) / 2 <= num_parts * target:
            parts[-1] += joint + piece
        else:
            parts.append(piece)
            num_parts += 1
        done += len(joint) + len(piece)
    return parts
