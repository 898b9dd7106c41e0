"""Edits: pure functions from a batch to a batch with the same rows and another text. They never drop a document.

A document that an edit empties keeps its row, with an empty text: drop rules decide. Shipped are `mask_pii` (FineWeb's
PII step, and more), `drop_citations` and `drop_lines` (the line rules of C4 and DCLM) and `fix_mojibake`. A user's own edit is a function
`(batch, *, options) -> batch`, by `./steps.py:name` or `package.module:name`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.annotate.columns import text_of
from curate.corpus import Corpus, sha256_of
from curate.documents import SCHEMA
from curate.engine import StagePlan, Work, checksums, make_plan
from curate.errors import CurateError
from curate.functions import checked_options, contents_of, find, label, sources
from curate.tasks import Output, Task, code_version

NAMES = ("drop_citations", "drop_lines", "fix_mojibake", "mask_pii")

_SHIPPED = {name: f"curate.edit:{name}" for name in NAMES}

_CITATION = r"\[\d*\]|\[edit\]|\[citation needed\]"
_COUNTER = re.compile(
    r"^\W*\d[\d.,]*[kKmMbB]?\s+(?:likes?|shares?|comments?|retweets?|reposts?|quotes?|bookmarks?|upvotes?|downvotes?|downloads?|views?|followers?)\W*$",
    re.IGNORECASE,
)
_CALLS = ["sign in", "sign-in", "signin", "sign up", "log in", "read more", "items in cart", "add to cart", "skip to content", "back to top"]


def edits() -> dict[str, Callable[..., pa.RecordBatch]]:
    """Return the shipped edits, name → function, sorted by name."""
    return {name: find(name, _SHIPPED, None, "edit") for name in NAMES}


def validate(name: str, options: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return the options of an edit as it will get them; raises SpecError as `curate.annotate.validate` does."""
    return checked_options(name, find(name, _SHIPPED, folder, "edit"), options, folder)


def contents(name: str, options: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """Return what stands for the files that an edit's result depends on: those that its options name, and the user's own code."""
    return [sha256_of(file) for file in sources(name, folder)] + contents_of(validate(name, options, folder), options)


def edit(batch: pa.RecordBatch, name: str, options: Mapping[str, Any] | None = None, folder: Path | None = None) -> pa.RecordBatch:
    """Run one edit. Return a batch with the same rows, columns and ids.

    Raises SpecError as `validate` does; CurateError when a user's function changes anything but the text.
    """
    function = find(name, _SHIPPED, folder, "edit")
    result = function(batch, **checked_options(name, function, options or {}, folder))
    if not isinstance(result, pa.RecordBatch):
        raise CurateError(f"must return a pyarrow.RecordBatch, not {type(result).__name__}", where=name)
    result = _as_it_was(result, batch.schema, name)
    if ("id" in batch.schema.names and not result.column("id").equals(batch.column("id"))) or result.num_rows != batch.num_rows:
        raise CurateError("changed the rows of the batch", where=name, hint="an edit that empties a document leaves its row, with an empty text")
    own = [column for column in SCHEMA.names if column != "text" and column in batch.schema.names]
    changed = [column for column in own if not result.column(column).equals(batch.column(column))]
    if changed:
        raise CurateError(f"changed the values of {', '.join(changed)}", where=name, hint="an edit changes the text only")
    return result


def _as_it_was(result: pa.RecordBatch, schema: pa.Schema, name: str) -> pa.RecordBatch:
    """Return an edited batch in the schema that it had: `set_column(at, "text", array)` forgets that there are no nulls."""
    if result.schema.names != schema.names or result.schema.types != schema.types:
        was, now = ([f"{field.name}: {field.type}" for field in fields] for fields in (schema, result.schema))
        changes = [f"no {entry}" for entry in was if entry not in now] + [f"has {entry}" for entry in now if entry not in was]
        raise CurateError(
            f"changed the columns of the batch ({', '.join(changes) or 'their order'})", where=name, hint="an edit changes the text only"
        )
    for field, column in zip(schema, result.columns, strict=True):
        if not field.nullable and column.null_count:
            hint = "an edit that empties a document leaves its row, with an empty text"
            raise CurateError(f"put {column.null_count} nulls into the column '{field.name}'", where=name, hint=hint)
    return result if result.schema.equals(schema) else pa.RecordBatch.from_arrays(result.columns, schema=schema)


def mask_pii(
    batch: pa.RecordBatch,
    *,
    email: str | None = "email@example.com",
    ip_address: str | None = "192.0.2.1",
    phone_number: str | None = None,
    iban: str | None = "[IBAN]",
    credit_card: str | None = "[CARD]",
) -> pa.RecordBatch:
    """Replace personal data, as the annotator `pii` finds it, by a placeholder per kind; null leaves that kind alone.

    Phone numbers are left alone unless asked for, since what looks like one often is not. The default e-mail and IP
    addresses are reserved for documentation: they read naturally, and nobody has them.
    """
    from curate.annotate.pii import spans
    from curate.kernels.words import views

    text = text_of(batch)
    placeholders = [None if p is None else p.encode() for p in (email, ip_address, phone_number, iban, credit_card)]
    changes: dict[int, list[tuple[int, int, bytes]]] = {}
    for row, begin, end, kind in spans(text):
        placeholder = placeholders[kind]
        if placeholder is not None:
            changes.setdefault(row, []).append((begin, end, placeholder))
    if not changes:
        return batch
    data, starts, ends = views(text)
    new = {}
    for row, found in changes.items():
        pieces, position = [], int(starts[row])
        for begin, end, placeholder in found:
            pieces += [data[position:begin].tobytes(), placeholder]
            position = end
        pieces.append(data[position : ends[row]].tobytes())
        new[row] = b"".join(pieces)
    return _with_texts(batch, text, new)


def drop_lines(
    batch: pa.RecordBatch,
    *,
    javascript: bool = True,
    policy: bool = True,
    min_words_per_line: int = 3,
    max_word_characters: int = 1000,
    terminal_punctuation: bool = False,
    counters: bool = False,
    calls: bool = False,
    numbers: bool = False,
    max_uppercase: float = 1.0,
    blank: bool = False,
) -> pa.RecordBatch:
    """Drop lines by the rules of C4 and DCLM. Blank lines stay as they are, except where a dropped line leaves one at an end or two together.

    C4: lines with "javascript" or a policy phrase, with fewer than `min_words_per_line` words, with a longer word than
    `max_word_characters`, blank ones with `blank: true`, and, with `terminal_punctuation: true`, those without . ! ? or a quote
    at the end; FineWeb leaves out terminal punctuation. DCLM: `counters` ("3 likes"), `calls` (lines of at most ten
    words with "sign in", "read more", "items in cart" …), `numbers` (lines of digits and punctuation), and
    `max_uppercase: 0.5`, the largest share of letters in upper case (1 keeps all), with `min_words_per_line: 2`.
    """
    from curate.annotate.c4 import POLICY_PHRASES
    from curate.kernels import lines as kernel
    from curate.kernels.phrases import phrases_in

    text = text_of(batch)
    lines = kernel.lines_of(text)
    counts = lines.counts
    words = counts[:, kernel.WORDS]
    found = phrases_in(lines.data, lines.starts, lines.ends, ["javascript", *POLICY_PHRASES, *_CALLS])
    dropped = (words < min_words_per_line) | (counts[:, kernel.LONGEST_WORD] > max_word_characters)
    if javascript:
        dropped |= found & 1 != 0
    if policy:
        dropped |= found & (((1 << len(POLICY_PHRASES)) - 1) << 1) != 0
    if calls:
        dropped |= (found >> (1 + len(POLICY_PHRASES)) != 0) & (words <= 10)
    if numbers:
        dropped |= (counts[:, kernel.DIGITS] > 0) & (counts[:, kernel.LETTERS] == 0)
    if terminal_punctuation:
        dropped |= ~lines.having(kernel.TERMINATED)
    if counters:
        for line in np.flatnonzero((words <= 4) & (counts[:, kernel.DIGITS] > 0) & ~dropped).tolist():
            value = lines.data[lines.starts[line] : lines.ends[line]].tobytes().decode("utf-8", "replace")
            dropped[line] = len(value) <= 200 and _COUNTER.match(value) is not None
    dropped |= counts[:, kernel.UPPERCASE] > max_uppercase * counts[:, kernel.LETTERS]
    empty = lines.having(kernel.BLANK)
    dropped = dropped | empty if blank else dropped & ~empty
    rows = np.flatnonzero(lines.summed(dropped) > 0)
    return _with_texts(batch, text, {int(row): _kept(lines, dropped, int(row)) for row in rows})


def _kept(lines: Any, dropped: Any, row: int) -> bytes:
    """Return a row's text without its dropped lines, and without blank lines that would stand at an end or side by side for it."""
    from curate.kernels.lines import BLANK

    kept: list[bytes] = []
    gap = True  # a blank line here would be at the beginning, or the second one
    for line in range(int(lines.offsets[row]), int(lines.offsets[row + 1])):
        if dropped[line]:
            gap = gap or not kept or not kept[-1].strip()
            continue
        blank = bool(lines.flags[line] & BLANK)
        if blank and gap:
            continue
        gap = False
        kept.append(lines.data[lines.starts[line] : lines.ends[line]].tobytes())
    while kept and not kept[-1].strip():
        kept.pop()
    return b"\n".join(kept)


def drop_citations(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Cut Wikipedia's marks out of the text: [1], [], [edit] and [citation needed], as C4 does."""
    import pyarrow.compute as pc

    text = text_of(batch)
    marked = pc.fill_null(pc.match_substring_regex(text, _CITATION), False)
    if not pc.any(marked).as_py():
        return batch
    return _with_column(batch, pc.replace_substring_regex(text, _CITATION, ""))


def fix_mojibake(batch: pa.RecordBatch, *, max_rounds: int = 2) -> pa.RecordBatch:
    """Undo UTF-8 that was read as Windows-1252 or Latin-1 ("Ã©" for "é"), where that is certain to be an improvement.

    Only runs of characters that together are valid UTF-8 are decoded again, and only in a text in which no such sequence
    is left afterwards, or fewer, and no replacement or control character is added; so the step can be undone. Text that
    was damaged twice is repaired in up to `max_rounds` rounds. A lossy conversion (with U+FFFD) cannot be undone, and is left alone.
    """
    from curate.kernels import lines as kernel

    for _ in range(max_rounds):
        text = text_of(batch)
        before = kernel.lines_of(text)
        rows = np.flatnonzero(before.totals(kernel.MOJIBAKE) > 0)
        if not len(rows):
            break
        repaired = [_decoded_again(text[int(row)].as_py()) for row in rows]
        old = _damage(before)[rows]
        new = _damage(kernel.split(*_views_of(repaired)))
        better = (new[:, 0] < old[:, 0]) & (new[:, 1] <= old[:, 1])
        if not better.any():
            break
        batch = _with_texts(batch, text, {int(row): value.encode() for row, value, ok in zip(rows, repaired, better, strict=True) if ok})
    return batch


def _damage(lines: Any) -> Any:
    """Return int64[rows, 2]: garbled characters; replacement and control characters."""
    from curate.kernels import lines as kernel

    return np.stack([lines.totals(kernel.MOJIBAKE), lines.totals(kernel.REPLACEMENTS) + lines.totals(kernel.CONTROLS)], axis=1)


def _views_of(strings: list[str]) -> Any:
    from curate.kernels.words import views

    return views(pa.array(strings, pa.string()))


# Windows-1252 characters by their byte; bytes that it does not define are Latin-1's control characters.
_WINDOWS = {bytes([b]).decode("cp1252"): b for b in range(0x80, 0xA0) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_BYTE_OF = {**{chr(b): b for b in range(0x80, 0x100)}, **_WINDOWS}
_FOLLOW = "".join(re.escape(c) for c, b in sorted(_BYTE_OF.items()) if 0x80 <= b <= 0xBF)
_GARBLED = re.compile(f"[\u00c2-\u00df][{_FOLLOW}]|[\u00e0-\u00ef][{_FOLLOW}]{{2}}|[\u00f0-\u00f4][{_FOLLOW}]{{3}}")


def _decoded_again(text: str) -> str:
    def again(match: re.Match[str]) -> str:
        try:
            return bytes(_BYTE_OF[c] for c in match[0]).decode("utf-8")
        except UnicodeDecodeError:  # surrogates and overlong forms
            return match[0]

    return _GARBLED.sub(again, text)


def _with_texts(batch: pa.RecordBatch, text: pa.StringArray, new: Mapping[int, bytes]) -> pa.RecordBatch:
    """Return the batch with the texts of some rows replaced."""
    import pyarrow.compute as pc

    if not new:
        return batch
    rows = np.zeros(batch.num_rows, bool)
    rows[list(new)] = True
    values = pa.array([new[row].decode("utf-8", "replace") for row in sorted(new)], pa.string())
    return _with_column(batch, pc.replace_with_mask(text, pa.array(rows), values))


def _with_column(batch: pa.RecordBatch, changed: pa.Array) -> pa.RecordBatch:
    """Return the batch with another text column, of the type that it had."""
    index = batch.schema.get_field_index("text")
    return batch.set_column(index, batch.schema.field(index), changed.cast(batch.schema.field(index).type))


__all__ = ["NAMES", "contents", "drop_citations", "drop_lines", "edit", "edits", "fix_mojibake", "label", "mask_pii", "validate"]


# ── the step ──────────────────────────────────────────────────────────────────────────────────────────────────────


def named(step: list[str | dict[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the functions that a step names, each with its options, in order."""
    found: list[tuple[str, dict[str, Any]]] = []
    for entry in step:
        found += [(entry, {})] if isinstance(entry, str) else list(entry.items())
    return found


def plan(step: list[str | dict[str, dict[str, Any]]], corpus: Corpus, source: str, target: Path, beside: Path) -> StagePlan:
    """Plan one edit step over one source; `beside` is the folder of the spec, where the paths in options begin."""
    wanted = named(step)
    code = code_version("curate.edit", "curate.annotate", "curate.kernels")
    sums = [checksum for name, options in wanted for checksum in contents(name, options, beside)]
    work = [Work(name, [str(corpus.folder), str(beside)], [*checksums(corpus, name), *sums], {}, shard.rows) for name, shard in corpus.shards.items()]
    return StagePlan(make_plan("edit", "curate.edit:edit_shard", target, {"edits": wanted}, code, work), source, code)


def edit_shard(task: Task, options: dict[str, Any], out: Output) -> None:
    """Task function: apply edits to a shard, one after the other. `options`: {"edits": [[name, options], …]}."""
    corpus, beside = Corpus.open(task.inputs[0]), Path(task.inputs[1])
    out.empty(corpus.schema())

    def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, chosen in options["edits"]:
            batch = edit(batch, name, chosen, beside)
        return batch

    for _, edited in out.map(corpus.batches(task.name), apply):
        out.write(edited)
