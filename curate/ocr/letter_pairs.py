"""How often each letter follows each other letter, in the Latin-script languages of this machine's message catalogs.

The table `letter_pairs.txt` holds figures only: one line per language, its name and 27 x 27 characters. The character
at row `a`, column `b` codes the probability that `b` follows `a`, in eighths of a bit above a shared floor; the 27th
symbol is "no letter" (a space, a digit, a line's end). Diacritics are folded away, so `é` counts as `e`: that loses
little for telling language from noise, and keeps the table at 27 symbols for every language.

It was counted from what a Linux system and Python have on their disks, and can be counted again:

    python -m curate.ocr.letter_pairs /usr/share/locale > curate/ocr/letter_pairs.txt

Trade-off: program messages are not literature, but their letter pairs are the language's. Measured on passages of 300 characters in 24
languages that have no line here: medians of -3.3 to -4.3 bits; the lowest single passage, in Xhosa, -4.8.
"""

from __future__ import annotations

import functools
import gettext
import inspect
import pkgutil
import sys
import unicodedata
from importlib import import_module, resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

NUM_SYMBOLS = 27
OTHER = 26  # the symbol for everything that is not a Latin letter
STEPS_PER_BIT = 8
TABLE_DIGEST = "fad4c13dba00a901"  # of letter_pairs.txt; here, so that another table is another version of the code, which stage keys count
FLOOR_BITS = -11.0  # log2 of the smallest probability that the table can say
_CODE_ZERO = ord("#")  # the first printable character that needs no quoting anywhere
# Letters that Unicode does not decompose into a base letter and a mark.
_FOLDS = {"ß": "s", "æ": "a", "œ": "o", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "t", "ı": "i", "ħ": "h", "ŧ": "t", "ŋ": "n", "ə": "e"}
_LANGUAGES = [
    "de",
    "fr",
    "es",
    "it",
    "pt_BR",
    "nl",
    "sv",
    "da",
    "nb",
    "fi",
    "pl",
    "cs",
    "sk",
    "hu",
    "ro",
    "tr",
    "vi",
    "id",
    "ca",
    "hr",
    "sl",
    "et",
    "lt",
    "lv",
    "ga",
    "eu",
    "eo",
    "sq",
    "cy",
    "is",
]

Symbols = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float32]


@functools.cache
def _fold_table() -> Symbols:
    """Return the symbol of every code point of the Basic Multilingual Plane."""
    table = np.full(0x10000, OTHER, dtype=np.uint8)
    latin = [
        *range(0x41, 0x250),
        *range(0x1E00, 0x1F00),
        *range(0x2C60, 0x2C80),
        *range(0xA720, 0xA7A0),
        *range(0xFB00, 0xFB07),
        *range(0xFF21, 0xFF5B),
    ]
    for code in latin:
        character = chr(code).lower()
        base = _FOLDS.get(character) or unicodedata.normalize("NFKD", character)[:1]
        if "a" <= base <= "z" and chr(code).isalpha():
            table[code] = ord(base) - ord("a")
    return table


def symbols(text: str) -> Symbols:
    """Return one symbol per character of `text`: 0–25 for a Latin letter (marks and case folded), OTHER for the rest.

    Combining marks that follow a letter are dropped with no trace, so decomposed text reads as composed text does.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
    codes = codes[(codes < 0x300) | (codes > 0x36F)]
    return _fold_table()[np.minimum(codes, 0xFFFF)]


@functools.cache
def tables() -> tuple[tuple[str, ...], Table]:
    """Return the names of the languages and their tables, log2 P(b | a), shape (languages, 27, 27)."""
    lines = resources.files("curate.ocr").joinpath("letter_pairs.txt").read_text(encoding="ascii").splitlines()
    rows = [line.split(" ", 1) for line in lines if line]
    codes = np.array([list(code.encode("ascii")) for _, code in rows], dtype=np.float32)
    logs = FLOOR_BITS + (codes - _CODE_ZERO) / STEPS_PER_BIT
    return tuple(name for name, _ in rows), logs.reshape(len(rows), NUM_SYMBOLS, NUM_SYMBOLS).astype(np.float32)


def count_pairs(text: str) -> npt.NDArray[np.int64]:
    """Count the pairs of `text`, shape (27, 27); pairs without a letter are not counted."""
    found = symbols(f" {text} ")
    pairs = np.bincount(found[:-1].astype(np.int64) * NUM_SYMBOLS + found[1:], minlength=NUM_SYMBOLS**2)
    pairs[OTHER * NUM_SYMBOLS + OTHER] = 0
    return pairs.reshape(NUM_SYMBOLS, NUM_SYMBOLS)


def encode_table(pairs: npt.NDArray[np.int64]) -> str:
    """Return counted pairs as 729 characters: add-one-half smoothing, then rounding to an eighth of a bit."""
    smooth = pairs + 0.5
    logs = np.log2(smooth / smooth.sum(axis=1, keepdims=True))
    steps = np.rint((np.maximum(logs, FLOOR_BITS) - FLOOR_BITS) * STEPS_PER_BIT).astype(np.uint8)
    return bytes(steps.ravel() + _CODE_ZERO).decode("ascii")


def _english() -> str:
    """Return the docstrings of Python's standard library."""
    texts: list[str] = []
    for module in sorted(pkgutil.iter_modules(), key=lambda found: found.name):
        if module.name not in sys.stdlib_module_names or module.name in ("antigravity", "this", "idlelib", "turtledemo", "lib2to3", "test"):
            continue
        try:
            loaded = import_module(module.name)
        except ImportError:
            continue
        texts += [inspect.getdoc(thing) or "" for _, thing in sorted(vars(loaded).items()) if inspect.isroutine(thing) or inspect.isclass(thing)]
        texts.append(loaded.__doc__ or "")
    return "\n".join(texts)


def _messages(folder: Path, language: str) -> str:
    """Return the translated messages of `language`; one that equals its source is untranslated and left out."""
    texts: list[str] = []
    for path in sorted(folder.glob(f"{language}/LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalog: dict[object, str] = vars(gettext.GNUTranslations(file))["_catalog"]
        except (UnicodeDecodeError, LookupError):  # a catalog that lies about its encoding
            continue
        texts += [text for source, text in catalog.items() if source and source != text]
    return "\n".join(texts)


def main(folder: str) -> None:
    """Print the table, counted from this machine's Python and the message catalogs in `folder`."""
    print("en", encode_table(count_pairs(_english())))
    for language in _LANGUAGES:
        print(language, encode_table(count_pairs(_messages(Path(folder), language))))


if __name__ == "__main__":
    main(sys.argv[1])
