"""The ledger: in + created = kept + dropped (by reason) + errored, for every shard and every stage.

A stage whose ledger does not balance fails: a document that is nowhere was lost silently, which is the worst that
this tool could do. Bytes are those of the text (UTF-8); they are reported, not balanced, since edits change them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from curate.errors import BudgetError, LedgerError
from curate.specs.workflow import Budget


class Ledger(msgspec.Struct):
    """Counts of documents, and of the UTF-8 bytes of their text."""

    entered: int = 0
    created: int = 0
    kept: int = 0
    errored: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    entered_bytes: int = 0
    kept_bytes: int = 0
    dropped_bytes: dict[str, int] = msgspec.field(default_factory=dict)

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


def total(ledgers: Iterable[Ledger]) -> Ledger:
    """Return the sum of ledgers, with reasons in alphabetical order."""
    result = Ledger()
    for one in ledgers:
        for name in ("entered", "created", "kept", "errored", "entered_bytes", "kept_bytes"):
            setattr(result, name, getattr(result, name) + getattr(one, name))
        for reason, count in one.dropped.items():
            result.dropped[reason] = result.dropped.get(reason, 0) + count
        for reason, count in one.dropped_bytes.items():
            result.dropped_bytes[reason] = result.dropped_bytes.get(reason, 0) + count
    result.dropped = dict(sorted(result.dropped.items()))
    result.dropped_bytes = dict(sorted(result.dropped_bytes.items()))
    return result


def check_budget(ledger: Ledger, budget: Budget, where: str, errors: str) -> None:
    """Raise BudgetError when more documents failed than `budget` allows; `errors` is where they are kept."""
    allowed = max(budget.max_documents, int(budget.max_share * (ledger.entered + ledger.created)))
    if ledger.errored > allowed:
        raise BudgetError(
            f"{ledger.errored:,} of {ledger.entered + ledger.created:,} documents failed; the spec allows {allowed:,}",
            where=where,
            hint=f"see {errors}; raise errors.max_share or errors.max_documents in the workflow to go on without them",
        )
