"""What the verbs of `curate mix` print: tables for people, and the same as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate.console import print_table
from curate.errors import InputError

Row = dict[str, Any]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _read(path: Path, what: str, hint: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(what, where=str(path.parent), hint=hint) from error
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", where=str(path)) from error


def read_proposal(folder: Path) -> Any:
    """Read proposal.json."""
    return _read(folder / "proposal.json", "no proposal", "run `curate mix solve` first")


def read_result(folder: Path) -> Any:
    """Read result.json; those of later phases are in it as `phases`, by name, in the order of the spec."""
    from curate.mix.solved import phases_of

    result = _read(folder / "result.json", "no finished mix", "name RUN/mix of a finished run")
    phases = {path.name: read_result(path) for path in phases_of(folder, result["solved"])}
    return result | ({"phases": phases} if phases else {})


def print_plan(found: dict[str, Any]) -> None:
    """Print what a mix would train."""
    print_table(["what", "how much"], [[name, _told(name, value)] for name, value in found["summary"].items() if value])


def _told(name: str, value: Any) -> Any:
    """Return a value of a plan as it is told to people."""
    if name == "sources":
        return ", ".join(f"{source} ({tokens:,} tokens)" for source, tokens in value.items())
    if name == "suites":
        return ", ".join(f"{suite} ({_counted(size['items'], 'item')}, {size['bytes']:,} bytes)" for suite, size in value.items())
    if name == "suites of later phases":
        return "; ".join(f"{phase}: {_told('suites', suites)}" for phase, suites in value.items())
    if name.startswith("floating-point operations"):
        return f"{value:.3g}"
    if name == "memory of a worker":
        return f"about {value / 1e6:,.0f} MB"
    return "yes" if value is True else value


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _rounds(folder: Path) -> list[Path]:
    found = [path.parent for path in (folder / "swarm").glob("*/proxies") if path.parent.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def training(folder: Path) -> list[Row]:
    """Return one row per proxy of the swarm: run, round, weights, final_loss, most_repeats, failed."""
    from curate.corpus import read_manifest

    rows = []
    for place in _rounds(folder):
        plan = json.loads((place / "proxies" / "plan.json").read_text(encoding="utf-8"))
        weights = {run["run"]: run["weights"] for task in plan["tasks"] for run in task["options"]["runs"]}
        for note in read_manifest(place / "proxies").notes.values():
            for run, report in note["reports"].items():
                row = {"run": run, "round": int(place.name), "weights": weights[run], "final_loss": report["final_loss"]}
                rows.append(row | {"most_repeats": max(report["repeats"].values(), default=0.0), "failed": report["failed"]})
    return rows


def print_training(rows: list[Row]) -> None:
    """Print the proxies of a swarm."""
    lines = []
    for row in rows:
        shares = sorted(row["weights"].items(), key=lambda item: -item[1])[:4]
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        loss = "–" if row["final_loss"] is None else f"{row['final_loss']:.4f}"
        lines.append([row["run"], row["round"], told, loss, f"{row['most_repeats']:.1f}", row["failed"] or ""])
    print_table(["run", "round", "largest shares", "final loss", "most repeats", "failed because"], lines)


def scores(folder: Path, suites: list[str]) -> list[Row]:
    """Return one row per proxy of the swarm: run, and bits per byte of each suite (None where the proxy failed)."""
    from curate.corpus import read_manifest

    rows: dict[str, Row] = {}
    for place in _rounds(folder):
        for suite in suites:
            for run, note in read_manifest(place / "scores" / suite).notes.items():
                rows.setdefault(run, {"run": run})[suite] = None if note["scores"] is None else note["scores"][suite]
    return list(rows.values())


def print_scores(rows: list[Row]) -> None:
    """Print the scores of a swarm."""
    columns = [name for name in rows[0] if name != "run"]
    print_table(["run", *columns], [[row["run"], *("–" if row[name] is None else f"{row[name]:.4f}" for name in columns)] for row in rows])


def print_laws(laws: dict[str, Row]) -> None:
    """Print the law of each suite."""
    rows = [[suite, facts["law"].replace("_", " "), f"{facts['errors'][facts['law']]:.4f}", facts["why"]] for suite, facts in laws.items()]
    print_table(["suite", "law", "leave-one-out error", "why"], rows)


def print_notes(notes: list[str]) -> None:
    """Print what to know, a line each."""
    for note in notes:
        print(f"note: {note}")


def print_proposal(found: Row) -> None:
    """Print what the laws recommend, what it would gain, and what each limit costs."""
    from curate.mix.conclude import percent

    natural = found.get("baseline", "natural")  # where nobody knows the natural mix, something else stands for it
    flat, repeats = found["sensitivity"]["flat"]["ranges"], found.get("repeats")  # without a spec nobody knows what there is of a source
    rows = []
    for name, weight in sorted(found["weights"].items(), key=lambda item: -item[1]):
        free = f"{_share(flat[name][0])} to {_share(flat[name][1])}" if name in flat else "as in the reused mix"
        row = [name, _share(weight), f"{_share(found['low'][name])} to {_share(found['high'][name])}", _share(found["natural"][name]), free]
        rows.append(row + ([f"{repeats[name]:.2f}"] if repeats else []))
    print_table(["source", "weight", "90 % interval", natural, "may move within, for 0.1 %", *(["repeats"] if repeats else [])], rows)
    best = {suite: f"{alone['best']:.4f}" for suite, alone in found["sensitivity"]["suites"].items()}
    rows = [
        [suite, found["laws"][suite]["law"].replace("_", " "), *(f"{p[key]:.4f}" for key in ("natural", "solved")), _interval(p), best[suite]]
        for suite, p in found["predictions"].items()
    ]
    print_table(["suite", "law", natural, "solved", "90 % interval", "best for it alone"], rows)
    for rival, gain in {found.get("baseline", "natural mix"): found["gain"], "uniform mix": found["gain_over_uniform"]}.items():
        mean, low, high = (percent(value).removeprefix("+") for value in gain)
        print(f"predicted gain over the {rival}: {mean} ({low} to {high}), corrected for the winner's curse")
    _print_chance(found)
    for sentence in found["sensitivity"]["sentences"]:
        print(sentence)
    print_notes(found["warnings"])


def _print_chance(proposal: Row) -> None:
    """Print the chance of beating the natural mix, where that is what was solved for."""
    chance = proposal.get("chance")
    if chance is not None:
        print(f"predicted chance of beating the natural mix: {_share(chance) if chance <= 0.999 else 'over 99.9 %'}")


def with_direction(laws: dict[str, Row]) -> dict[str, Row]:
    """Return suite → facts of its law, and which way its scores are taken: bits per byte are better the lower, and so is all that tables hold."""
    return {suite: facts | {"lower_is_better": True} for suite, facts in laws.items()}


def _interval(score: Row) -> str:
    return f"{score['low']:.4f} to {score['high']:.4f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def print_result(result: Row) -> None:
    """Print the weights, predictions and verdict of a finished mix."""
    solved = result["solved"]
    rows = [
        [n, _share(w["weight"]), _share(w["solved"]), f"{_share(w['low'])} to {_share(w['high'])}", _share(w["natural"]), f"{w['repeats']:.2f}"]
        for n, w in solved["weights"].items()
    ]
    print_table(["source", "weight", "solved", "90 % interval", "natural", "repeats"], rows)
    rows = [
        [n, s["law"].replace("_", " "), f"{s['natural']:.4f}", f"{s['solved']:.4f}", _interval(s), *_confirmed(s)]
        for n, s in solved["scores"].items()
    ]
    print_table(["suite", "law", "natural", "solved", "90 % interval", "confirmed difference", "verdict"], rows)
    for line in _against_others(result["comparison"]):
        print(line)
    _print_chance(result.get("proposal", {}))
    print(result["verdict"])
    for name, phase in result.get("phases", {}).items():
        print(f"\nphase {name}")
        print_result(phase)


def _against_others(rows: list[Row]) -> list[str]:
    """Return a line per rival beside the natural mix: the overall change, and on which suites it is better or worse."""
    from curate.mix.conclude import percent

    lines = []
    for rival in dict.fromkeys(row["rival"] for row in rows if row["rival"] != "natural"):
        overall, *suites = (row for row in rows if row["rival"] == rival)
        mean, low, high = (percent(overall[key]) for key in ("mean", "low", "high"))
        told = [f"{word} on {', '.join(names)}" for word in ("better", "worse") if (names := [row["suite"] for row in suites if row["word"] == word])]
        lines.append("; ".join([f"solved against {rival}: bits per byte change by {mean} (95 % interval {low} to {high})", *told]))
    return lines


def _confirmed(score: Row) -> list[str]:
    if score["confirmed"] is None:
        return ["–", "–"]
    return [f"{score['confirmed']:+.4f}".replace("-", "\N{MINUS SIGN}"), score["verdict"].replace("_", " ")]
