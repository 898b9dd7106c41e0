"""Errors that a user can act on: what, where, and what to do next.

    CurateError              exit code 1
    ├── SpecError            2   a spec, or a path it names, is wrong; nothing has run
    ├── InputError           3   an input file cannot be used at all
    ├── BudgetError          4   more documents failed than the spec allows
    ├── LedgerError          5   documents are unaccounted for: a bug, never the user's fault
    └── MissingExtra         6   an optional dependency is not installed

The command prints these without a traceback; anything else is a bug and prints one.
"""

from __future__ import annotations


class CurateError(Exception):
    """An error with its place and the next step. `where` and `hint` may be empty."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[CurateError], what: str, where: str, hint: str) -> CurateError:
    return kind(what, where=where, hint=hint)


class SpecError(CurateError):
    exit_code = 2


class InputError(CurateError):
    exit_code = 3


class BudgetError(CurateError):
    exit_code = 4


class LedgerError(CurateError):
    exit_code = 5


class MissingExtra(CurateError):
    exit_code = 6

    @classmethod
    def named(cls, package: str, extra: str, need: str) -> MissingExtra:
        """Say that `need` wants `package`, and how to install the extra that brings it."""
        return cls(f"{need} needs the package {package}", hint=f"pip install 'curate-lm[{extra}]'")
