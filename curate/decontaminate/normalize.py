"""Text → word tokens that survive disguise, each with its place in the original bytes.

One pass over the UTF-8, without a Python string. A token is a run of letters (folded: case, accents, look-alikes,
compatibility forms; see `fold`) or a number. What a token is not:

- invisible characters, control characters and combining marks: they are not there (a word goes on across them);
- HTML tags and entities, Markdown marks, link targets, LaTeX formatting commands, GSM8K's calculator marks
  (`<<2*3=6>>`), option letters and line numbers ("A.", "(b)", "3)"): left out; a tag such as <b> does not end a word;
- an apostrophe between letters, a hyphen at a line break: left out, the word goes on.

Every number, in digits of any script or in English words up to a million, is the same token NUMBER; its value is
kept apart, as a hash, to be compared after texts have matched. Punctuation and white space only separate.

The trade: what is folded cannot be told apart by a match ("us" and "US", 2.5 and 25 per cent, `\\alpha` and "alpha").
What is an option letter is a guess from its surroundings. LaTeX commands that are not formatting are words.
"""

from __future__ import annotations

import html.entities
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.decontaminate.fold import fold_table
from curate.decontaminate.walk import BRACKET, COMMAND, ENTITY, HYPHEN, MAX_ENTITY_BYTES, MULTIPLIER, TAG, WIDE, walk_pieces

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


INLINE_TAGS = [
    "a",
    "abbr",
    "b",
    "big",
    "code",
    "em",
    "font",
    "i",
    "ins",
    "kbd",
    "mark",
    "s",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "tt",
    "u",
    "var",
    "wbr",
]
FORMATTING = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "textsc",
    "textnormal",
    "emph",
    "underline",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "mathcal",
    "mathbb",
    "boldsymbol",
    "operatorname",
    "mbox",
    "hbox",
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "displaystyle",
    "textstyle",
    "limits",
    "nolimits",
    "quad",
    "qquad",
    "dfrac",
    "tfrac",
    "frac",
    "begin",
    "end",
    "item",
    "section",
    "subsection",
    "paragraph",
    "hspace",
    "vspace",
    "noindent",
    "par",
    "newline",
    "label",
    "ref",
    "n",
    "t",
    "r",
    "nn",
    "nt",
    "tn",
    "rn",
    "rm",
    "bf",
    "it",
    "sf",
    "tt",
    "em",
    "sc",
]
NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one or several texts. Places are byte offsets into the buffer that was walked.

    `hashes` uint64, `values` uint64 (hash of a number's value; 0 for words), `starts` and `ends` int64: one element per token.
    `capital` bool: the token begins with a capital letter.
    """

    hashes: Hashes
    values: Hashes
    starts: Places
    ends: Places
    capital: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.hashes)


def tokenize(text: str) -> Tokens:
    """Return the tokens of one text; places are byte offsets into its UTF-8."""
    data = text_bytes(text)
    return tokenize_pieces(data, np.zeros(1, np.int64), np.array([len(data)], np.int64), len(data) + 1)[0]


def text_bytes(text: str) -> Bytes:
    """Return the UTF-8 of `text` as a read-only array."""
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written, so that each kernel is compiled for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


def tokenize_pieces(data: Bytes, begins: Places, ends: Places, capacity: int) -> tuple[Tokens, Places, int, int]:
    """Tokenize the texts data[begins[i]:ends[i]] until `capacity` tokens are found.

    Returns (tokens, bounds, num_whole, place): bounds int64 [pieces + 1] are where each text's tokens begin in `tokens`,
    num_whole is how many texts were done to their end, and place is where the next one must go on (0 if none was begun).
    """
    room = int(min(capacity, (ends - begins + 1).sum()))
    hashes, values = np.empty(room, np.uint64), np.empty(room, np.uint64)
    starts, stops, capital = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.bool_)
    bounds = np.zeros(len(begins) + 1, np.int64)
    done, place = walk_pieces(read_only(data), begins, ends, *tables(), hashes, values, starts, stops, capital, bounds)
    n = int(bounds[done + 1] if place else bounds[done])
    return Tokens(hashes[:n], values[:n], starts[:n], stops[:n], capital[:n]), bounds, done, place


def word_hash(word: str) -> int:
    """Return the hash of a token that is spelled `word` after folding."""
    h = 0
    for letter in word:
        h = ((h ^ ord(letter)) * int(MULTIPLIER)) & 0xFFFFFFFFFFFFFFFF
    return h ^ (h >> 29)


@cache
def tables() -> tuple[Any, ...]:
    """Return the arrays that `walk` reads: class, reading, class of a byte, a hash table of names with their meanings, a bitmap of number words."""
    kind, reading = fold_table()
    byte_kind = np.full(256, WIDE, kind.dtype)
    byte_kind[:128] = kind[:128]
    for char, value in {"<": TAG, "&": ENTITY, "\\": COMMAND, "-": HYPHEN, "]": BRACKET}.items():
        byte_kind[ord(char)] = value
    meanings: dict[int, int] = {}
    for name, chars in html.entities.html5.items():
        if name.endswith(";") and len(name) <= MAX_ENTITY_BYTES and len(chars) == 1:
            meanings[word_hash("&" + name[:-1])] = ord(chars)
    meanings.update({word_hash("<" + name): 1 for name in INLINE_TAGS})
    meanings.update({word_hash("\\" + name): 1 for name in FORMATTING})
    spoken = {word: value for value, word in enumerate(NUMBER_WORDS)} | {word: 20 + 10 * i for i, word in enumerate(TENS)} | SCALES
    numerals = np.zeros(64, np.uint64)
    for word, value in spoken.items():
        key = word_hash(word)
        meanings[key] = value
        numerals[key >> 58] |= np.uint64(1 << (key >> 52 & 63))
    keys, slots = np.zeros(8192, np.uint64), np.zeros(8192, np.int64)
    for key, meaning in meanings.items():
        slot = key & 8191
        while keys[slot]:
            slot = (slot + 1) & 8191
        keys[slot], slots[slot] = key, meaning
    result = (kind, reading, byte_kind, keys, slots, numerals)
    for array in result:
        array.flags.writeable = False
    return result
