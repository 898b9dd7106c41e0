"""What to doubt about tables that somebody else filled: too little in them for any law is an error, the rest is said with the result.

Nobody here knows what the numbers are. They are taken as they stand, lower being better; what looks as if it were meant otherwise is named.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError
from curate.mix.table import Swarm

Array = NDArray[np.float64]
LOWER = "lower is better: turn around what is better the higher it is (1 − accuracy, say)"
_HIGHER = {"acc", "accuracy", "f1", "em", "bleu", "chrf", "rouge", "rouge1", "rouge2", "rougel", "auc", "auroc", "mcc", "precision", "recall"}
_HIGHER_TEXTS = ("exact_match", "exact match", "pass@", "win_rate", "win rate")
SAME = 6  # digits to which two mixes are the same
FAR = 20.0  # robust standard deviations above the median, from which on a score is named
FAR_TOO = 1.5  # times the median that it is then, at least


def refuse_undetermined(swarm: Swarm, where: str) -> None:
    """Raise InputError when no law could tell the sources apart: one source alone, or fewer different mixes than sources + 2."""
    sources = len(swarm.sources)
    if sources < 2:
        raise InputError("a mix needs two sources or more", where=where, hint="the first column is the run id, the others are sources")
    mixes = _mixes(swarm)
    if mixes < sources + 2:
        runs = f"{len(swarm.runs)} runs of " if mixes < len(swarm.runs) else ""
        what = f"{runs}{mixes} different mix{'es' if mixes > 1 else ''} cannot tell {sources} sources apart"
        raise InputError(what, where=where, hint=f"{sources + 2} are the least, {_enough(sources)} are usual")


def doubts(swarm: Swarm) -> list[str]:
    """Return what to say of a swarm that was trained elsewhere, a sentence each."""
    found, runs, mixes, least = [], len(swarm.runs), _mixes(swarm), _enough(len(swarm.sources))
    if mixes < least:
        of = f" of {mixes} different mixes" if mixes < runs else ""
        found.append(f"{runs} runs{of} are few for {len(swarm.sources)} sources: {least} are usual, and with fewer intervals may be too narrow")
    higher = [suite for suite in swarm.scores if _sounds_higher(suite)]
    if higher:
        found.append(f"{', '.join(higher)} sounds as if higher were better, and is taken to be better the lower it is")
    whole = [suite for suite, scores in swarm.scores.items() if (scores == np.round(scores)).all()]
    if whole:
        found.append(f"{', '.join(whole)} has whole numbers only: if it is no score, take the column out")
    for suite, scores in swarm.scores.items():
        found += [f"run {swarm.runs[i]} has {scores[i]:.4g} on {suite}, {_others(scores)}: if it diverged, take it out" for i in _far(scores)]
    return found


def _mixes(swarm: Swarm) -> int:
    """Return how many different mixes there are: what a run repeats tells of the noise only."""
    return len(np.unique(np.round(swarm.mixes, SAME), axis=0))


def _enough(sources: int) -> int:
    """Return the runs of a swarm that is trained here, unless its spec says otherwise."""
    return 3 * (sources + 1)


def _sounds_higher(suite: str) -> bool:
    name = suite.lower()
    return bool(_HIGHER & set(re.split(r"[^a-z0-9]+", name))) or any(text in name for text in _HIGHER_TEXTS)


def _far(scores: Array) -> NDArray[np.intp]:
    """Return the runs whose score is far above those of the others, measured by median and median deviation, which such runs do not move."""
    middle = np.median(scores)
    spread = 1.4826 * np.median(np.abs(scores - middle))
    return np.flatnonzero((scores > middle + FAR * spread) & (scores > FAR_TOO * middle))


def _others(scores: Array) -> str:
    return f"far above the others (median {np.median(scores):.4g})"
