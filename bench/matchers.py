"""What others do to find benchmark items, as far as it decides what is found: word n-grams of a fixed length, and whole lines."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable

from disguises import question

from curate.decontaminate.items import Item


def simple_words(text: str) -> list[str]:
    """Lower case, punctuation stripped."""
    return [w for w in (w.strip(string.punctuation) for w in text.lower().split()) if w]


def trove_words(text: str) -> list[str]:
    """Do what datatrove's `simplify_text` does by default: lower case, no punctuation, numbers 0, no accents; then nltk's words, if it is installed."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    text = re.sub(r"\d+", "0", unicodedata.normalize("NFD", re.sub(r"\s+", " ", text.strip())))
    text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    try:
        from nltk.tokenize import word_tokenize
    except ImportError:
        return text.split()
    words: list[str] = word_tokenize(text, preserve_line=True)
    return words


class NgramMatcher:
    """Share of an item's word n-grams that stand in the document. N-grams are looked up as joined strings, as datatrove does."""

    def __init__(self, size: int, words: Callable[[str], list[str]], with_answer: bool) -> None:
        self.size, self.words, self.with_answer = size, words, with_answer
        self.grams: dict[str, list[int]] = {}
        self.sizes: list[int] = []
        self.lengths: set[int] = set()

    def add(self, item: Item) -> None:
        """Add the next item. Without answers, one that is shorter than an n-gram is found by all its words, if it has five."""
        text = question(item) or item.channels.get("code", "")
        if self.with_answer:
            text += " " + item.channels.get("answer", "")
        words = self.words(text)
        size = self.size if self.with_answer else min(self.size, len(words))
        grams = {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)} if size >= 5 else set()
        if grams:
            self.lengths.add(size)
        for gram in grams:
            self.grams.setdefault(gram, []).append(len(self.sizes))
        self.sizes.append(len(grams))

    def scores(self, text: str) -> dict[int, float]:
        """Return the share per item of which anything was found."""
        words = self.words(text)
        found: dict[int, set[str]] = {}
        for size in self.lengths:
            for i in range(len(words) - size + 1):
                gram = " ".join(words[i : i + size])
                for item in self.grams.get(gram, ()):
                    found.setdefault(item, set()).add(gram)
        return {item: len(grams) / self.sizes[item] for item, grams in found.items()}

    def fitted(self, hosts: list[str]) -> float:
        """Return the lowest share above all that the hosts reach; an n-gram is enough when they reach none."""
        return max((share for text in hosts for share in self.scores(text).values()), default=0.0) + 1e-9


class LineMatcher:
    """Share of an item's lines that are lines of the document, but for case and white space."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = {}
        self.sizes: list[int] = []

    @staticmethod
    def split(text: str) -> set[str]:
        """Return the lines of five words and more."""
        return {" ".join(words) for line in text.lower().splitlines() if len(words := line.split()) >= 5}

    def add(self, item: Item) -> None:
        """Add the next item."""
        lines = self.split(question(item) or item.channels.get("code", ""))
        for line in lines:
            self.lines.setdefault(line, []).append(len(self.sizes))
        self.sizes.append(len(lines))

    def scores(self, text: str) -> dict[int, float]:
        """Return the share per item of which anything was found."""
        found: dict[int, int] = {}
        for line in self.split(text):
            for item in self.lines.get(line, ()):
                found[item] = found.get(item, 0) + 1
        return {item: count / self.sizes[item] for item, count in found.items()}

    def fitted(self, hosts: list[str]) -> float:
        """Return the lowest share above all that the hosts reach."""
        return max((share for text in hosts for share in self.scores(text).values()), default=0.0) + 1e-9


def peers() -> dict[str, NgramMatcher | LineMatcher]:
    """Return the matchers by name, without items."""
    return {"13-gram": NgramMatcher(13, simple_words, False), "12-gram": NgramMatcher(12, trove_words, True), "lines": LineMatcher()}
