"""The suite's disguises: what becomes of a benchmark's item before it is hidden in a page, and where on the page it is hidden.

A disguise takes an item and a random generator and returns a text, or None where it does not apply. `SUITE` has them by content,
edit, format, noise, embedding and code, with some on top of each other; `negatives` makes pages that look like leaks and are none.
"""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from curate.decontaminate.items import Item

NAMES = ["Alice", "Boris", "Carmen", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jamal", "Katya", "Luis", "Mina", "Nils", "Olga"]
NAMES += ["Pedro", "Quinn", "Rosa", "Sven", "Tariq"]
HOMOGLYPHS = str.maketrans("aeopcxyi", "аеорсхуі")
AD = "Sign up for our newsletter today and get twenty percent off your first order of garden furniture, delivered free to your door this week only."
Disguise = Callable[[Item, random.Random], str | None]


def question(item: Item) -> str:
    return item.channels.get("question", "")


def whole(item: Item, rng: random.Random) -> str:
    parts = [
        question(item),
        *item.choices,
        item.channels.get("solution", ""),
        item.channels.get("answer", "") if not item.choices else "",
        item.channels.get("code", ""),
    ]
    return "\n".join(p for p in parts if p)


def question_only(item: Item, rng: random.Random) -> str | None:
    return question(item) or None


def solution_only(item: Item, rng: random.Random) -> str | None:
    return item.channels.get("solution") or None


def numbers_changed(item: Item, rng: random.Random) -> str | None:
    text = question(item)
    changed = re.sub(r"\d+", lambda m: str(int(m[0]) + rng.randint(1, 40)) if len(m[0]) < 9 else m[0], text)
    return changed if changed != text else None


def names_changed(item: Item, rng: random.Random) -> str | None:
    text = question(item)
    counts: dict[str, bool] = {}
    for match in re.finditer(r"\b[A-Z][a-z]{2,}\b", text):
        first = match.start() == 0 or text[: match.start()].rstrip()[-1:] in ".?!"
        counts[match[0]] = counts.get(match[0], False) or not first
    names = [name for name, inside in counts.items() if inside]
    if not names:
        return None
    new = dict(zip(names, rng.sample(NAMES, min(len(names), len(NAMES))), strict=False))
    return re.sub(r"\b[A-Z][a-z]{2,}\b", lambda m: new.get(m[0], m[0]), text)


def zero_width(item: Item, rng: random.Random) -> str | None:
    return "".join(c + ("\u200b" if c.isalpha() and rng.random() < 0.3 else "") for c in question(item)) or None


def homoglyphs(item: Item, rng: random.Random) -> str | None:
    return "".join(c.translate(HOMOGLYPHS) if rng.random() < 0.5 else c for c in question(item)) or None


def unicode_forms(item: Item, rng: random.Random) -> str | None:
    text = unicodedata.normalize("NFD", question(item)).replace("'", "’").replace('"', "“")
    return "".join(chr(0xFF01 + ord(c) - 33) if "a" <= c <= "z" and rng.random() < 0.2 else c for c in text) or None


def markup(item: Item, rng: random.Random) -> str | None:
    wraps = ["<b>{}</b>", '<span class="x">{}</span>', "**{}**", "\\textbf{{{}}}", "[{}](http://example.com/a)", "<i>{}</i>", "_{}_", "{}<br/>"]
    words = question(item).split(" ")
    return " ".join(rng.choice(wraps).format(w) if w and rng.random() < 0.35 else w for w in words).replace("&", "&amp;") or None


def typos(item: Item, rng: random.Random) -> str | None:
    words = question(item).split()
    for i in range(rng.randrange(10), len(words), 10):
        w = words[i]
        at = rng.randrange(len(w))
        words[i] = w[:at] + rng.choice(string.ascii_lowercase) + w[at + (rng.random() < 0.5) :]
    return " ".join(words) or None


def hard_wrap(item: Item, rng: random.Random) -> str | None:
    words, lines, line = question(item).split(), [], ""
    for word in words:
        if len(line) + len(word) > 38:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n> ".join([*lines, line])


def part(share: float) -> Disguise:
    def first_part(item: Item, rng: random.Random) -> str | None:
        words = question(item).split()
        return " ".join(words[: round(share * len(words))]) if len(words) >= 8 else None

    return first_part


def middle(share: float) -> Disguise:
    """A part from anywhere, as a quotation has it."""

    def middle_part(item: Item, rng: random.Random) -> str | None:
        words = question(item).split()
        size = round(share * len(words))
        at = rng.randint(0, max(0, len(words) - size))
        return " ".join(words[at : at + size]) if len(words) >= 8 else None

    return middle_part


def both(first: Disguise, second: Disguise) -> Disguise:
    """One disguise on top of another, as `second` changes the question that `first` leaves."""

    def twice(item: Item, rng: random.Random) -> str | None:
        text = first(item, rng)
        return second(replace(item, channels={**item.channels, "question": text}), rng) if text else None

    return twice


def answer_only(item: Item, rng: random.Random) -> str | None:
    return "\n".join(p for p in (item.channels.get("solution", ""), item.channels.get("answer", "")) if p) or None


def few_shot(item: Item, rng: random.Random) -> str | None:
    shown = "Question: What is the capital of France?\nAnswer: Paris\n\nQuestion: How many legs do two spiders have?\nAnswer: Let's think step by step. 16"
    lines = "".join(f"\n{string.ascii_uppercase[i]}. {choice}" for i, choice in enumerate(item.choices))
    return f"Answer the following questions.\n\n{shown}\n\nQuestion: {question(item)}{lines}\nAnswer:" if question(item) else None


def sentences_shuffled(item: Item, rng: random.Random) -> str | None:
    sentences = re.split(r"(?<=[.?!])\s+", question(item).strip())
    if len(sentences) < 3:
        return None
    rng.shuffle(sentences)
    return " ".join(sentences)


def split_by_ad(item: Item, rng: random.Random) -> str | None:
    words = question(item).split()
    if len(words) < 12:
        return None
    at = rng.randint(len(words) // 3, 2 * len(words) // 3)
    return " ".join(words[:at]) + f"\n\n{AD}\n\n" + " ".join(words[at:])


def options(style: str, shuffled: bool) -> Disguise:
    def with_options(item: Item, rng: random.Random) -> str | None:
        if not item.choices:
            return None
        choices = list(item.choices)
        if shuffled:
            rng.shuffle(choices)
        lines = [style.format(letter=string.ascii_uppercase[i], small=string.ascii_lowercase[i], number=i + 1, text=c) for i, c in enumerate(choices)]
        return question(item) + "\n" + "\n".join(lines)

    return with_options


def cloze(item: Item, rng: random.Random) -> str | None:
    return f"{question(item)} {item.channels['answer']}" if item.choices and item.channels.get("answer") else None


def identifiers_renamed(item: Item, rng: random.Random) -> str | None:
    code = item.channels.get("code")
    return _renamed(code, rng) if code else None


def code_only_renamed(item: Item, rng: random.Random) -> str | None:
    """Without the docstring, which alone would give it away."""
    code = item.channels.get("code")
    return _renamed(DOCSTRING.sub("", code), rng) if code else None


DOCSTRING = re.compile(r'"""(?:.|\n)*?"""|\'\'\'(?:.|\n)*?\'\'\'')


def docstring_removed(item: Item, rng: random.Random) -> str | None:
    code = item.channels.get("code")
    return DOCSTRING.sub("", code) if code else None


def comments_changed(item: Item, rng: random.Random) -> str | None:
    """Other comments after every third line, other words in the docstring, and identifiers as they were."""
    code = item.channels.get("code")
    if not code:
        return None
    lines = DOCSTRING.sub('"""Written anew for the course, see the notes of week three."""', code).splitlines()
    return "\n".join(line + ("  # checked by hand" if line.strip() and i % 3 == 0 and '"""' not in line else "") for i, line in enumerate(lines))


def _renamed(code: str, rng: random.Random) -> str:
    import keyword

    own = set(re.findall(r"\bdef\s+(\w+)", code)) | set(re.findall(r"[(,]\s*(\w+)\s*:", code))
    own |= set(re.findall(r"^\s*(\w+)\s*(?:[+\-*/]?=)[^=]", code, re.M)) | set(re.findall(r"\bfor\s+(\w+)", code))
    own = {name for name in own if not keyword.iskeyword(name)}
    new = {name: f"{rng.choice('pqrvwz')}{rng.choice(['tmp', 'val', 'aux', 'obj'])}{i}" for i, name in enumerate(sorted(own))}
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda m: new.get(m[0], m[0]), code)


Place = Callable[[str, str, random.Random], tuple[str, int, int]]  # text, host, generator → page, where the text begins and ends


def page(size: int = 5000, where: str = "lines") -> Place:
    """Return what hides a text in the first `size` characters of a host: between two lines, at an end, or inside a line."""

    def hide(text: str, host: str, rng: random.Random) -> tuple[str, int, int]:
        host = host[:size]
        breaks = [m.start() for m in re.finditer(r"\n|(?<=\.) " if where == "lines" else r" ", host)] or [len(host)]
        at = {"begin": 0, "end": len(host)}.get(where) if where in ("begin", "end") else rng.choice(breaks)
        assert at is not None
        gap = " " if where == "inside" else "\n\n"
        before = host[:at] + (gap if at else "")
        return before + text + gap + host[at:].lstrip(), len(before), len(before) + len(text)

    return hide


def filled(size: int) -> Place:
    """Return what hides a text in a page of about `size` characters, made of the host again and again."""

    def hide(text: str, host: str, rng: random.Random) -> tuple[str, int, int]:
        return page(size)(text, "\n".join([host] * (size // max(1, len(host)) + 1)), rng)

    return hide


LETTERS, ROUND, LIST, NUMBERS = "{letter}. {text}", "({small}) {text}", "- {text}", "{number}) {text}"
SUITE: dict[str, list[tuple[str, Disguise, Place]]] = {
    "content": [
        ("question + answer, verbatim", whole, page()),
        ("question only", question_only, page()),
        ("solution only", solution_only, page()),
        ("answer and solution only", answer_only, page()),
        *((f"{share}0 % of the question", part(share / 10), page()) for share in range(9, 0, -1)),
        ("60 % from anywhere", middle(0.6), page()),
        ("40 % from anywhere", middle(0.4), page()),
    ],
    "edit": [
        ("numbers changed", numbers_changed, page()),
        ("names changed", names_changed, page()),
        ("names and numbers changed", both(names_changed, numbers_changed), page()),
        ("typo every 10 words", typos, page()),
        ("shuffled sentences", sentences_shuffled, page()),
        ("60 %, typo every 10 words", both(part(0.6), typos), page()),
        ("60 %, names changed", both(part(0.6), names_changed), page()),
    ],
    "format": [
        ("options A. B. C.", options(LETTERS, False), page()),
        ("options (a) (b), other order", options(ROUND, True), page()),
        ("options as a list, other order", options(LIST, True), page()),
        ("options 1) 2)", options(NUMBERS, False), page()),
        ("cloze", cloze, page()),
        ("few-shot template", few_shot, page()),
    ],
    "noise": [
        ("Unicode forms", unicode_forms, page()),
        ("zero-width characters", zero_width, page()),
        ("homoglyphs", homoglyphs, page()),
        ("HTML, Markdown, LaTeX", markup, page()),
        ("hard wrap", hard_wrap, page()),
        ("numbers changed, homoglyphs", both(numbers_changed, homoglyphs), page()),
        ("names changed, hard wrap", both(names_changed, hard_wrap), page()),
    ],
    "embedding": [
        ("at the page's beginning", question_only, page(where="begin")),
        ("at the page's end", question_only, page(where="end")),
        ("inside a line", question_only, page(where="inside")),
        ("60 %, inside a line", part(0.6), page(where="inside")),
        ("in a page of 500 characters", question_only, page(500)),
        ("in a page of 100,000 characters", question_only, filled(100_000)),
        ("split by an advertisement", split_by_ad, page()),
    ],
    "code": [
        ("identifiers renamed", identifiers_renamed, page()),
        ("docstring removed", docstring_removed, page()),
        ("comments and docstring changed", comments_changed, page()),
        ("docstring removed, renamed", code_only_renamed, page()),
    ],
}


def suite(items: list[tuple[int, Item]], hosts: list[str], seed: int) -> Iterator[tuple[str, int, str, int, int]]:
    """Yield (disguise, item number, document, where the leak begins, where it ends)."""
    for disguises in SUITE.values():
        for name, disguise, place in disguises:
            for number, item in items:
                rng = random.Random(f"{seed}/{name}/{item.benchmark}/{item.id}")
                text = disguise(item, rng)
                if text and text.strip():
                    yield (name, number, *place(text, rng.choice(hosts), rng))


def negatives(items: list[Item], hosts: list[str], seed: int, num_pages: int) -> dict[str, list[str]]:
    """Return pages that share a benchmark's phrases or sources and hold no item of it, by kind."""
    rng = random.Random(f"{seed}/negatives")
    openings: Counter[str] = Counter()
    for item in items:
        words = question(item).split()
        openings.update(" ".join(words[i : i + 4]) for i in (0, max(0, len(words) - 4)) if len(words) > 8)
    phrases = [phrase for phrase, count in openings.most_common(60) if count > 2] or ["Which of the following is"]
    templates = [
        "\n".join(
            f"Question {i + 1}: {rng.choice(phrases)} … {rng.choice(phrases)}?\nA. True\nB. False\nC. All of the above\nAnswer: B" for i in range(12)
        )
        for _ in range(num_pages)
    ]
    licenses = [path.read_text(encoding="utf-8") for path in Path(__file__).resolve().parents[1].glob("LICENSE*")]
    headed = [page(where="begin")(rng.choice(licenses), rng.choice(hosts), rng)[0] for _ in range(num_pages)] if licenses else []
    passages = [item.channels["passage"] for item in items if item.channels.get("passage")]
    sources = [page()(rng.choice(passages), rng.choice(hosts), rng)[0] for _ in range(num_pages)] if passages else []
    return {"template-only pages": templates, "license headers": headed, "source passages": sources}
