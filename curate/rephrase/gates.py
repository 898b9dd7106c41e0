"""Check what a model returned before it becomes a document: every rejection has a fixed word.

`clean` removes what models put around a result (thoughts, code fences, "Here is the rewritten text:", "Let me know if …").
`reject` then applies the gates in a fixed order and returns the first that closes:

    truncated           the answer ended at the token limit
    filtered            the endpoint's content filter stopped it
    unfinished          it stopped for any other reason than being done
    empty               nothing is left
    nothing_to_say      the model says that the text holds nothing of the kind
    refused             an apology or a refusal instead of a result
    prompt_echo         it repeats our instructions or markers
    wrong_layout        not the form that the style asks for
    too_short, too_long by the ratio of its length to the source's
    wrong_language      not the language of the source
    repetitive          the same few words over and over
    copied              most of it stands in the source word for word
    unrelated           too few of its words stand in the source
    invented_numbers    numbers that the source does not have
    lost_numbers        too few of the source's numbers

What these cannot see: a false statement made of true words. Words and numbers are compared by form, so "12" and "twelve"
differ; bounds below 1 leave room for that. Word gates need words between spaces and are silent for Chinese, Japanese and Thai.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from curate.rephrase.styles import BEGIN, END, NOTHING, Style

REASONS = (
    "truncated", "filtered", "unfinished", "empty", "nothing_to_say", "refused", "prompt_echo", "wrong_layout", "too_short", "too_long",
    "wrong_language", "repetitive", "copied", "unrelated", "invented_numbers", "lost_numbers",
)  # fmt: skip

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
# A word of assent goes only with what announces the result, or with an exclamation mark: "Of course, …" can begin a real sentence.
_ASSENT = r"(?:sure|certainly|of course|absolutely|okay|ok|understood)(?: thing)?"
_ABOUT = r"text|version|rewrit\w*|rephras\w*|paraphras\w*|summary|article|passage|questions?|pairs|facts|list|knowledge|result"
_PREAMBLE = re.compile(
    rf"\A(?:{_ASSENT}[!.,]\s*)?(?:here(?:'s|’s| is| are)|below (?:is|are)|the following (?:is|are))\b"
    rf"(?=[^\n:]{{0,120}}\b(?:{_ABOUT})\b)[^\n:]{{0,160}}:\s*"
    rf"|\A{_ASSENT}!\s+",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\A[#*_ \t]*(?:rewritten|rephrased|revised|distilled|condensed|edited)(?: (?:text|version|article|passage))?[*_ \t]*:[*_ \t]*\n*",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?<!\n)\n+[ \t]*(?:\(?note: (?:i |the (?:text|rewrit|original))|i hope (?:this|that)|(?:please )?let me know|feel free to|is there anything)"
    r"[^\n]{0,300}\Z",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|afraid|unable)|i (?:can(?:no|')t|can not|won't|will not|do not feel|must decline)|as an ai\b|"
    r"as a (?:large )?language model|i apologi[sz]e|no text (?:was|has been) (?:provided|given)|please provide (?:the|me|a) )",
    re.IGNORECASE,
)
# Patterns that begin anywhere stay within a line, or begin at the first of several line feeds: else a thousand of them cost a million steps.
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+", re.UNICODE)
_NUMBER = re.compile(r"\d{1,3}(?:[,.\u00a0\u202f]\d{3})+(?!\d)|\d+(?:[.,]\d+)?")
_ENUMERATION = re.compile(r"^[^\S\n]*(?:\(?\d+[.)]|[Qq]\d+[.:])\s", re.MULTILINE)
_QUESTION, _ANSWER = (re.compile(rf"^[^\w\n]*{word}\b[^:\n]{{0,5}}:", re.I | re.M) for word in ("question", "answer"))
_LONG_WORD = 5  # letters from which a word says something about the subject
_ECHO_WORDS = 8


@dataclass(frozen=True)
class Rejection:
    """Why an output was not kept: one of REASONS, and what was measured."""

    reason: str
    detail: str = ""


def clean(answer: str) -> str:
    """Return the result within a model's answer: without thoughts, fences, preamble and closing remark."""
    text = _THOUGHTS.sub("", answer).replace("\r\n", "\n").strip()
    fence = _FENCE.match(text)
    if fence:
        text = fence[1].strip()
    text = _PREAMBLE.sub("", text, count=1).lstrip()
    text = _HEADING.sub("", text, count=1)
    text = _CLOSING.sub("", text, count=1).strip()
    for marker in (BEGIN, END):
        text = text.removeprefix(marker).removesuffix(marker).strip()
    if len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    return text


def reject(text: str, source: str, style: Style, finish_reason: str, language: Callable[[str], str | None] | None = None) -> Rejection | None:
    """Return why the cleaned output `text` of `source` is not kept, None when it is.

    `language` gives the code of a text's language, or None when it is unsure; without it the language is not compared.
    """
    early = _by_finish(finish_reason) or _by_form(text, source, style)
    if early:
        return early
    ratio = len(text) / max(len(source), 1)
    if ratio < style.min_length_ratio:
        return Rejection("too_short", f"{ratio:.2f} of the source's length, at least {style.min_length_ratio:g}")
    if ratio > style.max_length_ratio:
        return Rejection("too_long", f"{ratio:.2f} of the source's length, at most {style.max_length_ratio:g}")
    if language is not None:
        had, has = language(source), language(text)
        if had is not None and has is not None and had != has:
            return Rejection("wrong_language", f"{had} became {has}")
    return _by_words(text, source, style) or _by_numbers(text, source, style)


def _by_finish(finish_reason: str) -> Rejection | None:
    if finish_reason in ("stop", "eos", "stop_sequence", "end_turn"):
        return None
    known = {"length": "truncated", "max_tokens": "truncated", "content_filter": "filtered"}
    return Rejection(known.get(finish_reason, "unfinished"), f"finish_reason {finish_reason or 'is missing'}")


def _by_form(text: str, source: str, style: Style) -> Rejection | None:
    if not text or not re.search(r"\w", text):
        return Rejection("empty")
    if style.may_be_nothing and text.strip(" .\"'*").upper() == NOTHING:
        return Rejection("nothing_to_say")
    refusal = _REFUSAL.search(text[:200])
    if refusal and refusal[0].lower() not in source.lower():
        return Rejection("refused", refusal[0])
    # Our words count as an echo only where the source does not happen to have them.
    ours = _grams(_words(style.instructions()), _ECHO_WORDS) - _grams(_words(source), _ECHO_WORDS)
    echo = next((gram for gram in _gram_list(_words(text), _ECHO_WORDS) if gram in ours), None)
    if echo or any(marker in text and marker not in source for marker in (BEGIN, END)):
        return Rejection("prompt_echo", " ".join(echo or ("a marker",)))
    if style.layout == "pairs":
        questions, answers = len(_QUESTION.findall(text)), len(_ANSWER.findall(text))
        if not questions or questions != answers:
            return Rejection("wrong_layout", f"{questions} questions, {answers} answers")
    if style.layout == "list":
        lines = [line for line in text.splitlines() if line.strip()]
        items = sum(bool(re.match(r"\s*(?:[-*•]|\d+[.)])\s", line)) for line in lines)
        if items < 0.8 * len(lines):
            return Rejection("wrong_layout", f"{items} of {len(lines)} lines are items")
    return None


def _by_words(text: str, source: str, style: Style) -> Rejection | None:
    words, source_words = _words(text), _words(source)
    fives = _gram_list(words, 5)
    if len(fives) >= 20 and len(set(fives)) < 0.5 * len(fives):
        return Rejection("repetitive", f"{len(set(fives)) / len(fives):.2f} of its word 5-grams are distinct")
    if fives:
        known = _grams(source_words, 5)
        copied = sum(gram in known for gram in fives) / len(fives)
        if copied > style.max_copied:
            return Rejection("copied", f"{copied:.2f} of its word 5-grams stand in the source, at most {style.max_copied:g}")
    long_words = {_stem(word) for word in words if len(word) >= _LONG_WORD and not word.isdigit()}
    if len(long_words) >= 5:
        grounded = len(long_words & {_stem(word) for word in source_words}) / len(long_words)
        if grounded < style.min_grounded_words:
            return Rejection("unrelated", f"{grounded:.2f} of its words stand in the source, at least {style.min_grounded_words:g}")
    return None


def _by_numbers(text: str, source: str, style: Style) -> Rejection | None:
    here, there = _numbers(text), _numbers(source)
    if here:
        grounded = len(here & there) / len(here)
        if grounded < style.min_grounded_numbers:
            strange = ", ".join(sorted(here - there)[:5])
            return Rejection("invented_numbers", f"{grounded:.2f} of its numbers stand in the source, not {strange}")
    if there:
        kept = len(here & there) / len(there)
        if kept < style.min_kept_numbers:
            return Rejection("lost_numbers", f"{kept:.2f} of the source's numbers are kept, at least {style.min_kept_numbers:g}")
    return None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _stem(word: str) -> str:
    """Return the beginning of a word, so that inflections count as the same."""
    return word[:_LONG_WORD]


def _gram_list(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _grams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return set(_gram_list(words, n))


def _numbers(text: str) -> set[str]:
    """Return the numbers of a text without their separators; numbers of list items do not count."""
    return {re.sub(r"\D", "", number) for number in _NUMBER.findall(_ENUMERATION.sub(" ", text))}
