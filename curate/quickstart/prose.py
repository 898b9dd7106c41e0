"""Plain documentation text (docstrings, pydoc's topics, comments) as blocks, and blocks as HTML or plain text.

Docstrings follow no one markup, so this goes by looks: underlined lines are headings, `>>>` and deeply spaced lines
are code, lines that begin with a mark are lists, and what remains is a paragraph whose lines are joined. It is
wrong now and then, as the authors of web pages are; the quickstart needs natural pages, not faithful ones.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape

_UNDERLINE = re.compile(r"^([=\-~*^\"'#+.])\1{2,}$")
_MARK = re.compile(r"^(?:[-*+•]|\d{1,2}[.)]|o)\s+(?=\S)")
_FIELD = re.compile(r"^:(?:param|arg|type|returns?|rtype|raises?|keyword)\b[^:]*:\s*")
_CODE = re.compile(r"::=|^\s*(?:>>>|\.\.\. |import \w|from \w+ import|def \w|class \w|if .*:$|for .*:$|return\b|[\w.]+ = |[\w.]+\(.*\)$|[$%#<{}|+])")
_GAPS = re.compile(r"\S {3,}\S")
_ROLE = re.compile(r":[a-z:]+:`~?\.?([^`<]+?)(?:\s*<[^>]*>)?`")
_TICKS = re.compile(r"``([^`]+)``|`([^`'\s]+)'?`?")
_STARS = re.compile(r"(?<![\w*])\*{1,2}(\w[\w .:-]*)\*{1,2}(?![\w*])")
_SENTENCE = re.compile(r"[.!?][\"')]?$")


@dataclass(frozen=True)
class Block:
    """One block of a page: `kind` is paragraph, heading, code, list, quote, or markup (HTML as it stands)."""

    kind: str
    text: str
    items: tuple[str, ...] = ()


def blocks(text: str) -> list[Block]:
    """Split documentation text into blocks."""
    found: list[Block] = []
    for chunk in re.split(r"\n[ \t]*\n", inspect.cleandoc(text.replace("\r", ""))):
        lines = [line.rstrip() for line in chunk.strip("\n").expandtabs(8).split("\n")]
        if any(lines):
            found.extend(_chunk([line for line in lines if line], found))
    return [block for block in found if block.text or block.items]


def prose_length(parts: Iterable[Block]) -> int:
    """Return the number of characters in paragraphs: the text that reads as sentences."""
    return sum(len(part.text) for part in parts if part.kind == "paragraph")


def html(parts: Iterable[Block], *, level: int = 2) -> str:
    """Return blocks as HTML, every character of the text escaped; headings are `<hLEVEL>`."""
    return "\n".join(_html(part, level) for part in parts)


def plain(parts: Iterable[Block]) -> str:
    """Return blocks as text, with an empty line between them."""
    return "\n\n".join("\n".join(clean(item) for item in p.items) if p.items else (p.text if p.kind == "code" else clean(p.text)) for p in parts)


def clean(text: str) -> str:
    """Return text without the marks of reStructuredText."""
    return _STARS.sub(r"\1", _TICKS.sub(lambda m: m[1] or m[2], _ROLE.sub(r"\1", text))).replace("::", ":")


def _chunk(lines: list[str], before: list[Block]) -> list[Block]:
    """Return the blocks of consecutive lines without an empty one between them."""
    if len(lines) >= 2 and _UNDERLINE.match(lines[1]) and len(lines[0]) <= 80:
        head = Block("heading", lines[0].strip().rstrip(":"))
        return [head, *(_chunk(lines[2:], [head]) if lines[2:] else [])]
    if len(lines) >= 3 and _UNDERLINE.match(lines[0]) and _UNDERLINE.match(lines[2]):
        return _chunk(lines[1:], before)
    if _UNDERLINE.match(lines[0].strip()):
        return _chunk(lines[1:], before) if lines[1:] else []
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    bare = [line[indent:] for line in lines]
    if _is_code(bare, indent, before):
        return [Block("code", "\n".join(bare))]
    if _MARK.match(bare[0]) or _FIELD.match(bare[0]):
        return [_list(bare)]
    for number, line in enumerate(bare[1:], 1):
        inner = len(line) - len(line.lstrip())
        if bare[number - 1].endswith(":") and (inner >= 2 or _MARK.match(line)):
            head = _paragraph(bare[:number])
            return [head, *_chunk(bare[number:], [head])]
        if line.startswith(">>>") or (_MARK.match(line) and _SENTENCE.search(bare[number - 1])):
            head = _paragraph(bare[:number])
            return [head, *_chunk(bare[number:], [head])]
    return [_paragraph(bare)]


def _is_code(lines: list[str], indent: int, before: list[Block]) -> bool:
    if lines[0].startswith(">>>"):
        return True
    coded = sum(1 for line in lines if _CODE.match(line) or _GAPS.search(line))
    below = indent >= 2 and bool(before) and (before[-1].text.endswith(":") or before[-1].kind == "code")
    return coded * 2 > len(lines) or (below and (coded > 0 or not any(map(_SENTENCE.search, lines)))) or (indent >= 8 and coded > 0)


def _list(lines: list[str]) -> Block:
    items: list[str] = []
    for line in lines:
        if _MARK.match(line) or _FIELD.match(line) or not items:
            items.append(_MARK.sub("", _FIELD.sub("", line.strip())))
        else:
            items[-1] += " " + line.strip()
    return Block("list", "", tuple(item for item in items if item))


def _paragraph(lines: list[str]) -> Block:
    return Block("paragraph", re.sub(r"\s+", " ", re.sub(r"(\w)-\n\s*(?=\w)", r"\1-", "\n".join(lines))).strip())


def _inline(text: str) -> str:
    """Escape text, and set what stands between backticks as code."""
    escaped = escape(_ROLE.sub(r"``\1``", text), quote=False)
    return _STARS.sub(r"<em>\1</em>", _TICKS.sub(lambda m: f"<code>{m[1] or m[2]}</code>", escaped)).replace("::", ":")


def _html(part: Block, level: int) -> str:
    if part.kind == "markup":
        return part.text
    if part.kind == "heading":
        return f"<h{level}>{_inline(part.text)}</h{level}>"
    if part.kind == "code":
        return f"<pre>{escape(part.text, quote=False)}</pre>"
    if part.kind == "list":
        return "<ul>\n" + "\n".join(f"  <li>{_inline(item)}</li>" for item in part.items) + "\n</ul>"
    if part.kind == "quote":
        return f"<blockquote><p>{_inline(part.text)}</p></blockquote>"
    return f"<p>{_inline(part.text)}</p>"


def retold(part: Block, text: str) -> Block:
    """Return the block with another text."""
    return replace(part, text=text)
