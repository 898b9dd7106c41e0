"""The ledger: in + created = kept + dropped (by reason) + errored, for every shard and every stage.

A stage whose ledger does not balance fails: a document that is nowhere was lost silently, which is the worst that
this tool could do. Bytes are those of the text (UTF-8); they are reported, not balanced, since edits change them.

A damaged region of an input, such as the rest of a file whose compression breaks, held nobody knows how many documents. It counts as one,
so that the ledger holds what was seen and nothing that was guessed. The error budget takes it for as many documents as equally many
bytes of the same source hold elsewhere: otherwise most of a corpus could be lost as a handful of failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from curate.errors import BudgetError, LedgerError
from curate.specs.workflow import Budget


class Ledger(msgspec.Struct):
    """Counts of documents, and of the UTF-8 bytes of their text.

    `damaged` counts those of `errored` that are regions with an unknown number of documents; `damaged_bytes` of the `input_bytes` of
    the files that ingest read lie in them. What is missing at the end of a file that was cut off is in no file, and in no count.
    `errored_bytes` are those of rows that a stage over documents failed on; in runs from before 2026-11-27 they are 0.
    """

    entered: int = 0
    created: int = 0
    kept: int = 0
    errored: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    entered_bytes: int = 0
    kept_bytes: int = 0
    dropped_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    damaged: int = 0
    damaged_bytes: int = 0
    input_bytes: int = 0
    errored_bytes: int = 0

    def in_damaged(self) -> int:
        """Return about how many documents the damaged regions held: by their bytes, and at least one each."""
        known, read = self.entered + self.created - self.damaged, self.input_bytes - self.damaged_bytes
        return max(self.damaged, round(known * self.damaged_bytes / read)) if read > 0 else self.damaged

    def check(self, where: str, expected: int | None = None) -> None:
        """Raise LedgerError when documents are unaccounted for; `expected` is how many rows the input holds."""
        out = self.kept + sum(self.dropped.values()) + self.errored
        if self.entered + self.created != out:
            raise LedgerError(
                f"{self.entered:,} documents entered and {self.created:,} were created, but {out:,} came out "
                f"({self.kept:,} kept, {sum(self.dropped.values()):,} dropped, {self.errored:,} errored)",
                where=where,
            )
        if expected is not None and self.entered != expected:
            raise LedgerError(f"the input holds {expected:,} documents, {self.entered:,} entered", where=where)


_SUMMED = ("entered", "created", "kept", "errored", "entered_bytes", "kept_bytes", "damaged", "damaged_bytes", "input_bytes", "errored_bytes")


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """Return the sum of ledgers, with reasons in alphabetical order."""
    result = Ledger()
    for one in ledgers:
        for name in _SUMMED:
            setattr(result, name, getattr(result, name) + getattr(one, name))
        for reason, count in one.dropped.items():
            result.dropped[reason] = result.dropped.get(reason, 0) + count
        for reason, count in one.dropped_bytes.items():
            result.dropped_bytes[reason] = result.dropped_bytes.get(reason, 0) + count
    result.dropped = dict(sorted(result.dropped.items()))
    result.dropped_bytes = dict(sorted(result.dropped_bytes.items()))
    return result


def describe_damage(ledger: Ledger) -> str:
    """Say how many damaged regions there are and what is known of their size; "" where there is none."""
    if not ledger.damaged:
        return ""
    regions = "1 damaged region" if ledger.damaged == 1 else f"{ledger.damaged:,} damaged regions"
    share = ledger.damaged_bytes / ledger.input_bytes if ledger.input_bytes else 0.0
    return f"{regions} ({100 * share:.1f} % of the input) held an unknown number of documents"


def check_budget(ledger: Ledger, budget: Budget, where: str, errors: str) -> None:
    """Raise BudgetError, with the most frequent error, when more documents failed than `budget` allows; `errors` is where they are kept.

    Damaged regions count as the documents that they are estimated to have held; where no document was read, nothing can be estimated,
    and bytes that could not be read are over any budget below 100 %.
    """
    held = ledger.in_damaged()
    entered = ledger.entered + ledger.created - ledger.damaged + held
    failed = ledger.errored - ledger.damaged + held
    allowed = allowed_failures(budget, entered)
    lost = ledger.damaged_bytes > 0 and ledger.entered + ledger.created == ledger.damaged and budget.max_share < 1
    if failed > allowed or lost:
        hint = f"see {errors}; raise errors.max_share or errors.max_documents in the workflow to go on without them"
        what = f"{failed:,} of {entered:,} documents failed; the spec allows {allowed:,}"
        if held > ledger.damaged:
            what = f"about {what}; {describe_damage(ledger)}, about {held:,}"
        elif lost:
            what = f"no document could be read; {describe_damage(ledger)}"
            hint = f"see {errors}; mend these files or leave them out, or set errors.max_share to 1 to go on without them"
        raise BudgetError(what + _most_frequent(errors), where=where, hint=hint)


def allowed_failures(budget: Budget, num_documents: int) -> int:
    """Return how many of so many documents may fail."""
    return max(budget.max_documents, int(budget.max_share * num_documents))


def _most_frequent(errors: str) -> str:
    """Say which error stands most often in the folder `errors`; "" where there is none, or no such folder."""
    files = sorted(Path(errors).glob("*.parquet")) if errors else []
    counts = Counter(error for file in files for error in pq.read_table(file, columns=["error"])["error"].to_pylist())
    return f"; most often: {min(counts, key=lambda error: (-counts[error], error))}" if counts else ""
