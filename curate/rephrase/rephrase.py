"""Rephrase a batch of documents: choose, split, ask, clean, check; what passes becomes documents of their own.

A new document carries the id of the one that it was made from (`parent`), its license, language, date and address, and in
`meta.rephrase` the style, model, part and token counts. Its id follows from parent, style and part, and from the source that it is of
(`into`), so the same request made again gives the same id, and two steps over one document give two. The order of what comes out is
that of what went in, whichever answer came first.

Every request carries a seed. Whether a server honors it is its own affair: outputs of a language model are repeatable only as
far as the server is; answers that were received once are kept (see curate.rephrase.client).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from curate.documents import SCHEMA, child_id
from curate.rephrase.client import PASSING, Completion, Failure
from curate.rephrase.gates import Rejection, clean, reject
from curate.rephrase.split import split
from curate.rephrase.styles import Style, style_named
from curate.specs.workflow import Rephrase

_USUAL = "rephrased"  # the source whose documents are named by parent, style and part alone
Language = Callable[[str], str | None]


class Asks(Protocol):
    """What answers requests: curate.rephrase.client.Client."""

    def ask(self, bodies: list[dict[str, Any]]) -> list[Completion | Failure]:
        """Return one answer or failure per request, in their order."""


@dataclass(frozen=True)
class Job:
    """One request for one part of one document. `row` is that of the batch."""

    row: int
    id: str
    asked: str  # from parent, style and part alone: the seed follows from it, so a source that is renamed asks for nothing else
    text: str
    style: Style
    part: int
    num_parts: int


@dataclass(frozen=True)
class Rephrased:
    """What became of a batch. Every job is in exactly one of the first three."""

    documents: pa.RecordBatch  # SCHEMA, by row, style and part
    rejected: list[dict[str, Any]]  # id, reason, detail, parent, row, bytes (of the output)
    errors: list[dict[str, Any]]  # id, reason, detail, parent, row
    unanswered: list[str]  # why jobs have no answer to a request that another run may get one to: those in errors, and rungs of the ladder


def chosen(ids: list[str], share: float, seed: int) -> list[bool]:
    """Return which documents are rephrased: about `share` of them, by a hash of seed and id, never by position."""
    return [_unit("chosen", seed, key) < share for key in ids]


def styles_for(key: str, options: Rephrase, seed: int) -> list[Style]:
    """Return the styles that the document with this id is rephrased in: all, or one that a hash picks."""
    names = list(dict.fromkeys(options.styles))
    if not options.every_style:
        names = [names[int(_unit("style", seed, key) * len(names))]]
    return [style_named(name).with_gates(options.gates) for name in names]


def jobs_of(batch: pa.RecordBatch, options: Rephrase, seed: int) -> list[Job]:
    """Return the requests that the documents of `batch` make, by row, style and part."""
    jobs = []
    for row, (key, text) in enumerate(zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)):
        if len(text.strip()) < options.min_input_characters:
            continue
        parts = split(text, options.max_input_characters)
        for style in styles_for(key, options, seed):
            for k, part in enumerate(parts):
                asked = child_id(key, f"rephrase/{style.name}/{k}")
                own = asked if options.into == _USUAL else child_id(key, f"rephrase/{style.name}/{k}/{options.into}")
                jobs.append(Job(row, own, asked, part, style, k, len(parts)))
    return jobs


def body_of(job: Job, options: Rephrase, seed: int, temperature: float) -> dict[str, Any]:
    """Return the request for a job at a temperature."""
    digest = hashlib.blake2b(f"{seed}\0{job.asked}\0{temperature:g}".encode(), digest_size=4).digest()
    return {
        "model": options.model,
        "messages": job.style.messages(job.text),
        "temperature": temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_output_tokens,
        "seed": int.from_bytes(digest, "big") >> 1,
        "stream": False,
    }


def rephrase(batch: pa.RecordBatch, options: Rephrase, client: Asks, seed: int = 0, language: Language | None = None) -> Rephrased:
    """Rephrase every document of `batch` (choose before, with `chosen`) and return what came of it.

    `language` gives a text's language code, or None where it is unsure; with it, outputs in another language are rejected. Raises
    CurateError when the endpoint cannot be used at all.
    """
    jobs = jobs_of(batch, options, seed)
    compare = language if options.gates.same_language else None
    results: dict[int, tuple[Completion | Failure, str, Rejection | None, int]] = {}
    unanswered: dict[int, str] = {}
    waiting = list(range(len(jobs)))
    for attempt, temperature in enumerate([options.temperature, *options.ladder], 1):
        answers = client.ask([body_of(jobs[i], options, seed, temperature) for i in waiting])
        for i, answer in zip(waiting, answers, strict=True):
            if isinstance(answer, Failure):
                # An error on a later step does not undo that an earlier answer was received and rejected.
                results.setdefault(i, (answer, "", None, attempt))
                if answer.reason in PASSING:
                    unanswered[i] = f"{answer.reason} ({answer.detail})"
                continue
            text = clean(answer.text)
            results[i] = (answer, text, reject(text, jobs[i].text, jobs[i].style, answer.finish_reason, compare), attempt)
        # A job without an answer waits for the next run: further up the ladder it would become what it never becomes undisturbed.
        waiting = [i for i in waiting if results[i][2] is not None and i not in unanswered]
        if not waiting:
            break
    return _sorted_out(batch, jobs, results, list(unanswered.values()), options)


def _sorted_out(batch: pa.RecordBatch, jobs: list[Job], results: dict[int, Any], unanswered: list[str], options: Rephrase) -> Rephrased:
    names = [name for name in ("url", "date", "claimed_language", "claimed_license", "origin") if name in batch.schema.names]
    parents = batch.select(["id", *names]).to_pylist()
    documents, rejected, errors = [], [], []
    for i, job in enumerate(jobs):
        answer, text, rejection, attempt = results[i]
        parent = parents[job.row]
        what = {"id": job.id, "parent": parent["id"], "row": job.row}
        if isinstance(answer, Failure):
            errors.append(what | {"reason": answer.reason, "detail": answer.detail})
        elif rejection is not None:
            rejected.append(what | {"reason": rejection.reason, "detail": rejection.detail, "bytes": len(text.encode())})
        else:
            meta = {"rephrase": _provenance(job, answer, attempt, options)}
            made = {"id": job.id, "text": text, "source": options.into, "parent": parent["id"], "meta": json.dumps(meta, sort_keys=True)}
            documents.append({name: parent.get(name) for name in names} | made)
    return Rephrased(pa.RecordBatch.from_pylist(documents, SCHEMA), rejected, errors, unanswered)


def _provenance(job: Job, answer: Completion, attempt: int, options: Rephrase) -> dict[str, Any]:
    return {
        "attempts": attempt,  # answers that were asked for until one passed the gates; retries for errors do not count
        "chunk": job.part,
        "chunks": job.num_parts,
        "completion_tokens": answer.completion_tokens,
        "finish_reason": answer.finish_reason,
        "model": options.model,
        "prompt_tokens": answer.prompt_tokens,
        "served_model": answer.model,
        "style": job.style.name,
    }


def _unit(what: str, seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments."""
    return int.from_bytes(hashlib.blake2b(f"rephrase/{what}\0{seed}\0{key}".encode(), digest_size=8).digest(), "big") / 2**64
