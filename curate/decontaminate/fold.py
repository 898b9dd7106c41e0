"""The folding table: which characters are letters, digits, separators or nothing, and what each stands for.

Every code point below 0x20000 gets a class and up to three code points that it is read as. The table is made
from `unicodedata` (compatibility decomposition, case, marks, invisible characters) and from the hand-made list
of look-alike letters below. Two texts that a reader cannot tell apart, and most that differ by accents only, fold
to the same letters.

Trade-offs: accents are dropped in Latin, Greek and Cyrillic, so `resume` is `résumé`; a Cyrillic word is spelled
partly with Latin letters (on both sides of a comparison, so it still matches itself); Greek letters fold by their
look in each case, so a Greek word in capitals can differ from itself in small letters. Scripts without spaces
between words (Han, kana, Thai, Lao, Khmer, Burmese) give one token per character.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

SEPARATOR, LETTER, DIGIT, NOTHING, SINGLE, APOSTROPHE = 0, 1, 2, 3, 4, 5
SIZE = 0x20000

# Letters that look like ASCII letters and that Unicode's own decompositions do not lead to ASCII.
# "xyz:abc" reads: x looks like a, y like b, z like c.
LOOK_ALIKES = (
    "абвгеѕзіјкмнорстухһԁԛԝҽӏ:abbreszijkmhopctyxhdqwel",  # Cyrillic, small; в к м н т by the look of their capitals
    "АВСЕНІЈКМОРЅТУХҮԌԚԜӀ:abcehijkmopstyxygqwl",  # Cyrillic, capital
    "αβγεηικνορτυχωϲϳ:abyenikvoptuxwcj",  # Greek, small
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ:abezhikmnoptyxcj",  # Greek, capital
    "օսհոցզքյլ:ouhngqpjl",  # Armenian
    "ᎪᏴᏟᎠᎬᎻᎫᏦᏞᎷΝᏢᎡᏚᎢᏙᏔᏃ:abcdehjklmnprstvwz",  # Cherokee
    "ᴀʙᴄᴅᴇғɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ:abcdefghijklmnoprstuvwyz",  # small capitals
    "ıȷɑɡɩʋøđłħŧƒɓɗɠɨɫɵʉƶƚ:ijagivodlhtfbdgilouzl",  # Latin with strokes and hooks
    "ØĐŁĦŦƁƊƓƗƟƵ:odlhtbdgioz",
    "ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓞꓟꓠꓡꓢꓣꓤꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ:bpdttgkjczfemnlsrrvhwxyaeiou",  # Lisu
)
LIGATURES = {"ß": "ss", "ẞ": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "þ": "th", "Þ": "th", "ð": "d", "Ð": "d"}
APOSTROPHES = "'’‘ʼʻ＇‛′ʹ´`"
INVISIBLE = (
    *(range(0x09), range(0x0E, 0x20), range(0x7F, 0x85), range(0x86, 0xA0), (0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5)),
    *(range(0x180B, 0x1810), range(0x200B, 0x2010), range(0x202A, 0x202F), range(0x2060, 0x2070), (0x3164, 0xFEFF, 0xFFA0)),
    *(range(0xFE00, 0xFE10), range(0xFFF0, 0xFFFC), range(0x1D173, 0x1D17B)),
    *(
        range(0x0300, 0x0370),
        range(0x0483, 0x048A),
        range(0x1AB0, 0x1B00),
        range(0x1DC0, 0x1E00),
        range(0x20D0, 0x2100),
        range(0xFE20, 0xFE30),
    ),  # marks
    *(range(0x0591, 0x05BE), (0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7), (0x640, 0x670), range(0x064B, 0x0660), range(0x06D6, 0x06DD)),
)
WITHOUT_SPACES = (
    *(range(0x0E00, 0x0E80), range(0x0E80, 0x0F00), range(0x1000, 0x10A0), range(0x1780, 0x1800)),
    *(range(0x3005, 0x3008), range(0x3041, 0x3100), range(0x31F0, 0x3200), range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00)),
)


@cache
def fold_table() -> tuple[np.ndarray, np.ndarray]:
    """Return (class uint8[SIZE], reading uint64[SIZE]): a reading packs up to three code points, 21 bits each."""
    invisible = frozenset(c for group in INVISIBLE for c in group)
    single = frozenset(c for group in WITHOUT_SPACES for c in group)
    alike = {ord(a): b for line in LOOK_ALIKES for a, b in zip(*line.split(":"), strict=True)}
    kind, reading = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint64)
    for code in range(SIZE):
        if 0xD800 <= code < 0xE000:
            continue
        k, letters = _folded(code, invisible, single, alike)
        kind[code] = k
        packed = 0
        for at, letter in enumerate(letters[:3]):
            packed |= ord(letter) << (21 * at)
        reading[code] = packed
    kind.flags.writeable = reading.flags.writeable = False
    return kind, reading


def _folded(code: int, invisible: frozenset[int], single: frozenset[int], alike: dict[int, str]) -> tuple[int, str]:
    char = chr(code)
    if code in invisible:
        return NOTHING, ""
    if char in APOSTROPHES and char != "`":
        return APOSTROPHE, ""
    if code in alike:
        return LETTER, alike[code]
    if char in LIGATURES:
        return LETTER, LIGATURES[char]
    category = unicodedata.category(char)
    if code < 128 or (category == "Lo" and 0xAC00 <= code < 0xD7A4):  # a Hangul syllable stays whole
        plain = char.lower()
    else:
        plain = "".join(c for c in unicodedata.normalize("NFKD", char).casefold() if ord(c) not in invisible)
    if code in single and category[0] in "LMN":
        return SINGLE, plain[:1] or char
    if 0xFF66 <= code < 0xFFA0:  # half-width kana
        return SINGLE, plain[:1]
    plain = "".join(alike.get(ord(c), LIGATURES.get(c, c)) for c in plain)
    if plain and all(c.isdecimal() for c in plain):
        return DIGIT, "".join(str(unicodedata.decimal(c)) for c in plain)
    letters = "".join(c for c in plain if unicodedata.category(c)[0] in "LM")
    if not letters:
        return SEPARATOR, ""
    return LETTER, letters
