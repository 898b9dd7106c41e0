"""What came of a mix: the verdict of the confirmation in numbers and in words, and the solved mix.

The laws propose and fresh seeds decide: the solved mix is kept when it is better than the natural one and no protected suite got worse.
Everything else keeps the natural mix, which is an answer and not a failure. (Where limits do not allow that mix, the nearest one that they do
allow stands for it throughout: curate.mix.setting.baseline.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.errors import InputError
from curate.mix import verdict
from curate.mix.setting import Setting
from curate.specs.load import resolved
from curate.specs.mix import SolvedMix, SolvedScore, SolvedSource


def conclude(
    setting: Setting, proposal: Mapping[str, Any], scores: Mapping[str, pa.Table], made_from: dict[str, str]
) -> tuple[SolvedMix, list[dict[str, Any]], str]:
    """Return the solved mix, the table of paired differences (natural first), and the verdict in words.

    `scores`: run → its table of scores per item, without rows for a run that diverged. A seed counts when all its runs worked.
    """
    spec = setting.spec
    importance = {name: suite.weight for name, suite in spec.suites.items()}
    rivals = spec.confirm.rivals
    sides = ["solved", *rivals]
    seeds = [i for i in range(spec.confirm.seeds) if all(scores[f"{side}-{i}"].num_rows for side in sides)]
    if len(seeds) < 2:
        raise InputError("too few confirming proxies trained without failing", where="confirm", hint="lower proxy.learning_rate")
    tables = {side: [scores[f"{side}-{i}"] for i in seeds] for side in sides}
    found = {rival: verdict.compare(tables["solved"], tables[rival], importance) for rival in dict.fromkeys(["natural", *rivals])}
    against_natural = found["natural"]
    hurt = [name for name, suite in spec.suites.items() if suite.protect and against_natural.suites[name].verdict == "worse"]
    keep = "solved" if against_natural.overall.verdict == "better" and not hurt else "natural"
    gain = tuple(round(value, 5) for value in proposal["gain"])
    solved = SolvedMix(
        name=spec.name,
        verdict=against_natural.overall.verdict,
        keep=keep,
        target_tokens=spec.target.tokens,
        weights={leaf: _source(leaf, keep, setting, proposal) for leaf in setting.leaves},
        scores=_scores(proposal, against_natural),
        predicted_gain=(gain[0], gain[1], gain[2]),
        warnings=proposal["warnings"],
        made_from=made_from,
        spec=resolved(setting.spec),
    )
    return solved, _rows(found), _in_words(setting, proposal, against_natural, hurt)


def unconfirmed(setting: Setting, proposal: Mapping[str, Any], made_from: dict[str, str]) -> SolvedMix:
    """Return the proposal as a solved mix that says that nobody has confirmed it."""
    gain = tuple(round(value, 5) for value in proposal["gain"])
    return SolvedMix(
        name=setting.spec.name,
        verdict="not_confirmed",
        keep="solved",
        target_tokens=setting.spec.target.tokens,
        weights={leaf: _source(leaf, "solved", setting, proposal) for leaf in setting.leaves},
        scores=_scores(proposal, None),
        predicted_gain=(gain[0], gain[1], gain[2]),
        warnings=proposal["warnings"],
        made_from=made_from,
        spec=resolved(setting.spec),
    )


def _scores(proposal: Mapping[str, Any], found: verdict.Verdict | None) -> dict[str, SolvedScore]:
    suites = {}
    for suite, predicted in proposal["predictions"].items():
        values: dict[str, Any] = {name: round(predicted[name], 5) for name in ("natural", "solved", "low", "high")}
        if found is not None:
            row = found.suites[suite]
            values |= {"confirmed": round(row.difference, 5), "confirmed_low": round(row.low, 5), "confirmed_high": round(row.high, 5)}
            values["verdict"] = row.verdict
        suites[suite] = SolvedScore(law=proposal["laws"][suite]["law"], **values)
    return suites


def _rows(found: Mapping[str, verdict.Verdict]) -> list[dict[str, Any]]:
    """Return one row per rival and suite, and first, per rival, the row of all suites together (relative: 1 is the rival)."""
    rows = []
    for rival, one in found.items():
        for suite, row in {"all, relative": one.overall, **one.suites}.items():
            numbers = {"mine": row.chosen, "theirs": row.rival, "mean": row.difference, "low": row.low, "high": row.high}
            rows.append({"suite": suite, "rival": rival, **numbers, "word": row.verdict})
    return rows


def _source(leaf: str, keep: str, setting: Setting, proposal: Mapping[str, Any]) -> SolvedSource:
    weight = round(proposal["weights" if keep == "solved" else "natural"][leaf], 6)
    available = setting.tokens[leaf]
    return SolvedSource(
        weight=weight,
        solved=proposal["weights"][leaf],
        low=round(proposal["low"][leaf], 6),
        high=round(proposal["high"][leaf], 6),
        natural=round(proposal["natural"][leaf], 6),
        available_tokens=available,
        repeats=round(weight * setting.spec.target.tokens / available, 3),
    )


def _in_words(setting: Setting, proposal: Mapping[str, Any], found: verdict.Verdict, hurt: list[str]) -> str:
    """Return the verdict as a few plain sentences."""
    gain, measured = proposal["gain"], found.overall
    ordered = sorted(proposal["weights"].items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in ordered)
    natural = ", ".join(f"{name} {100 * proposal['natural'][name]:.1f} %" for name, _ in ordered)
    what = {
        "better": "The solved mix is better than the natural one",
        "worse": "The solved mix is worse than the natural one: keep the natural mix",
        "no_difference_shown": "No difference between the solved and the natural mix was shown: keep the natural mix, or train more seeds",
    }[measured.verdict]
    worse = [name for name, suite in found.suites.items() if suite.verdict == "worse"]
    but = f", but worse on {', '.join(worse)}" if worse and measured.verdict == "better" else ""
    lines = [
        f"{what}{but}.",
        *([f"{', '.join(hurt)} may not get worse: keep the natural mix."] if hurt else []),
        f"Confirmed with {found.num_seeds} fresh seeds: bits per byte change by {percent(measured.difference)} "
        f"(95 % interval {percent(measured.low)} to {percent(measured.high)}).",
        f"Predicted from the swarm: {percent(-gain[0])} (90 % interval {percent(-gain[2])} to {percent(-gain[1])}); "
        f"{_agreement(setting, proposal, found)}",
        f"solved   {shares}",
        f"natural  {natural}",
    ]
    return "\n".join([*lines, *(f"note: {warning}" for warning in proposal["warnings"])])


def _agreement(setting: Setting, proposal: Mapping[str, Any], found: verdict.Verdict) -> str:
    """Say whether what was confirmed lies in the predicted interval, and if not, what is known of the reason."""
    (_, low, high), measured, spec = proposal["gain"], found.overall, setting.spec
    if low <= -measured.difference <= high:
        return "what was confirmed lies inside."
    if -measured.high <= high and -measured.low >= low:
        return "what was confirmed lies outside, but its own interval reaches into it."
    confirm, proxy = spec.confirm, spec.proxy
    if (confirm.proxy is not None and confirm.proxy != proxy) or confirm.tokens not in (None, proxy.tokens):
        why = "the confirming proxies are of another size than the swarm's"
    elif proposal["nearest_run"] > proposal["usual_distance"]:
        why = "the laws extrapolate: no run of the swarm is near the solved mix"
    elif -measured.difference < low:
        why = "the swarm is too small or too noisy for its laws to know how little there is to gain; more runs would show it"
    else:
        why = "the correction for the winner's curse took off more than there was to take"
    return f"what was confirmed lies outside: {why}."


def percent(share: float) -> str:
    """Return a share as a signed percentage."""
    return f"{100 * share:+.2f} %".replace("-", "\N{MINUS SIGN}")
