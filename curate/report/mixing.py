"""The report's section on a mix: weights, verdict, what the laws saw, and how much each weight matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.mix.solved import phases_of
from curate.report.charts import Axes, percent, span
from curate.report.sections import read_json

Row = dict[str, Any]


def mix(folder: Path) -> Row | None:
    """Return the section of the mix in `folder`, None when no mix was finished there."""
    result = read_json(folder / "result.json")
    if result is None:
        return None
    solved, proposal = result["solved"], result["proposal"]
    columns = list(result["runs"][0])
    return {
        "name": solved["name"],
        "keep": solved["keep"],
        "verdict": result["verdict"],
        "weights": _weights(solved, proposal),
        "comparison": _comparison(result["comparison"]),
        "prices": proposal["sensitivity"]["sentences"],
        "suites": _suites(proposal),
        "curve": _curve(proposal),
        "scatter": [{"svg": _law_chart(suite, law, proposal), "caption": _law_caption(suite, law)} for suite, law in proposal["laws"].items()],
        "paths": [_path_chart(suite, result) for suite in proposal["laws"]],
        "runs": {"columns": columns, "rows": [[run.get(column) for column in columns] for run in result["runs"]]},
        "phases": [section for path in phases_of(folder, solved) if (section := mix(path))],
    }


def _weights(solved: Row, proposal: Row) -> list[Row]:
    flat = proposal["sensitivity"]["flat"]["ranges"]
    rows = []
    for name, row in solved["weights"].items():
        repeats = row["solved"] * solved["target_tokens"] / row["available_tokens"]
        shares = {"natural": row["natural"], "weight": row["solved"], "low": row["low"], "high": row["high"]}
        rows.append({"source": name, **shares, "repeats": repeats, "flat": flat.get(name)})
    return sorted(rows, key=lambda row: -row["weight"])


def _comparison(rows: list[Row]) -> list[Row]:
    return [
        {"suite": row["suite"], "rival": row["rival"], "theirs": row["theirs"], "solved": row["mine"], "difference": row["mean"]}
        | {"low": row["low"], "high": row["high"], "verdict": row["word"].replace("_", " ")}
        for row in rows
    ]


def _suites(proposal: Row) -> list[Row]:
    """Return what each suite pays for the others: the best that the limits allow for it alone, beside what it gets."""
    rows = []
    for suite, found in proposal["sensitivity"]["suites"].items():
        most, got = found["natural"] - found["best"], found["natural"] - found["solved"]
        rows.append({"suite": suite, **found, "reached": got / most if most > 1e-9 else None})
    return rows


def _curve(proposal: Row) -> Any:
    """Draw predicted gain over distance from the natural mix: how much of the gain a cautious mix already has."""
    points = sorted(proposal["sensitivity"]["curve"], key=lambda point: point["distance"])
    gains = [value for point in points for value in point["gain"]]
    chart = Axes(
        (0.0, max(0.01, points[-1]["distance"])), span([0.0, *gains]), ("share of tokens that change their source", "predicted gain"), "trade-off"
    )
    chart.band([(p["distance"], p["gain"][1]) for p in points], [(p["distance"], p["gain"][2]) for p in points])
    chart.line([(0.0, 0.0), (chart.x[1], 0.0)], "d")
    chart.line([(p["distance"], p["gain"][0]) for p in points])
    for point in points:
        mean, low, high = point["gain"]
        told = f"pull {point['pull']:g}: gain {percent(mean)} ({percent(low)} to {percent(high)}), {percent(point['distance'])} of the tokens moved"
        chart.dot(point["distance"], mean, told, "a")
    solved = 0.5 * sum(abs(proposal["weights"][name] - proposal["natural"][name]) for name in proposal["weights"])
    chart.dot(solved, proposal["gain"][0], f"the solved mix: gain {percent(proposal['gain'][0])}", "b")
    return chart.svg()


def _law_chart(suite: str, law: Row, proposal: Row) -> Any:
    """Draw measured over predicted, each run left out, with the law's 90 % intervals."""
    predicted = proposal["predicted"][suite]
    ends = span([*law["measured"], *law["left_out"]])
    chart = Axes(ends, ends, ("predicted, this run left out", "measured bits per byte"), f"{suite}: measured against predicted")
    chart.line([(chart.x[0], chart.x[0]), (chart.x[1], chart.x[1])], "d")
    rows = zip(law["left_out"], law["measured"], predicted["mean"], predicted["low"], predicted["high"], strict=True)
    for expected, measured, mean, low, high in rows:
        bottom, top = (min(max(expected + end - mean, ends[0]), ends[1]) for end in (low, high))
        chart.bar(expected, bottom, top)
        chart.dot(expected, measured, f"measured {measured:.3f}, predicted {expected:.3f}")
    return chart.svg()


def _law_caption(suite: str, law: Row) -> str:
    noise = f"; noise of a repeated run {law['noise']:.4f}" if law["noise"] is not None else ""
    return f"{suite}: {law['law'].replace('_', ' ')} law, {law['why']}{noise}."


def _path_chart(suite: str, result: Row) -> Row:
    """Draw what the law says on the way from the natural to the solved mix, and what was confirmed at its end."""
    path, at = result["proposal"]["path"]["suites"][suite], result["proposal"]["path"]["at"]
    score = result["solved"]["scores"][suite]
    ends = span([*path["mean"], *path["low"], *path["high"]])
    chart = Axes((0.0, 1.0), ends, ("from the natural (0) to the solved mix (1)", "bits per byte"), f"{suite}: from natural to solved")
    chart.band(list(zip(at, path["low"], strict=True)), list(zip(at, path["high"], strict=True)))
    chart.line(list(zip(at, path["mean"], strict=True)))
    caption = f"{suite}: predicted {score['natural']:.4f} to {score['solved']:.4f}"
    if score["confirmed"] is not None:
        low, middle, high = (min(max(path["mean"][0] + score[name], ends[0]), ends[1]) for name in ("confirmed_low", "confirmed", "confirmed_high"))
        chart.bar(1.0, low, high, "b")
        chart.dot(1.0, middle, f"confirmed difference {score['confirmed']:+.4f}", "b")
        caption += f", confirmed difference {score['confirmed']:+.4f}".replace("-", "\N{MINUS SIGN}")
    return {"svg": chart.svg(), "caption": caption + "."}
