"""`curate mix`: laws and mixes from two CSV files, for swarms that were trained elsewhere; and every verb on a small swarm of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from test_mix_stage import SPEC, outputs, project, receipts, trained

from curate.cli import main
from curate.corpus import read_manifest
from curate.errors import InputError, SpecError
from curate.mix import export
from curate.mix.data import gather
from curate.mix.doubts import doubts
from curate.mix.elsewhere import read_tables, refuse_overwriting, setting_of, solve_fit
from curate.mix.fitted import FILES, read_fit
from curate.mix.solved import write_solved
from curate.specs.load import load_spec
from curate.specs.mix import LAWS, Mix, SolvedMix
from curate.verbs.mix import FORMS
from curate.verbs.mix import LAWS as OFFERED

__all__ = ["project"]


def run(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curate.cli", "mix", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """ratios.csv and metrics.csv of 24 runs; code helps docs, math helps sums."""
    mixes = np.random.default_rng(0).dirichlet(np.ones(3), 24)
    docs, sums = 0.9 + (mixes @ np.array([9.0, 1.0, 1.0])) ** -0.3, 0.8 + (mixes @ np.array([0.5, 8.0, 1.0])) ** -0.4
    rows = [f"r{i},{','.join(f'{w:.6f}' for w in mix)}" for i, mix in enumerate(mixes)]
    (tmp_path / "ratios.csv").write_text("run,code,math,web\n" + "\n".join(rows) + "\n")
    scored = [f"r{i},{y:.6f},{z:.6f}" for i, (y, z) in enumerate(zip(docs, sums, strict=True))]
    (tmp_path / "metrics.csv").write_text("run,docs,sums\n" + "\n".join(reversed(scored)) + "\n")
    return tmp_path


FIT = ("fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", "laws", "--json")


def test_fit_from_csv_predicts_and_refuses_what_does_not_match(tables: Path) -> None:
    found = json.loads(run(*FIT, cwd=tables).stdout)
    assert found["runs"] == 24
    assert {facts["law"] for facts in found["laws"].values()} <= set(LAWS)
    lines = [line.split(",") for line in (tables / "laws/predictions.csv").read_text().splitlines()]
    assert lines[0] == ["run", "suite", "mean", "low", "high"]
    measured = {line.split(",")[0]: float(line.split(",")[1]) for line in (tables / "metrics.csv").read_text().splitlines()[1:]}
    assert max(abs(float(mean) - measured[name]) for name, suite, mean, _, _ in lines[1:] if suite == "docs") < 0.02
    (tables / "new.csv").write_text("run,web,code,math\nx,0.2,0.5,0.3\n")
    run(*FIT, "--predict", "new.csv", cwd=tables)
    assert [line.split(",")[0] for line in (tables / "laws/predictions.csv").read_text().splitlines()[1:]] == ["x", "x"]
    (tables / "metrics.csv").write_text("run,docs\nr0,1.0\n")
    assert "the run ids do not match" in run(*FIT, cwd=tables, code=3).stderr


def test_a_fit_leaves_other_files_alone_reads_pipes_and_repeats_nothing(tables: Path) -> None:
    theirs = tables / "out/laws"
    theirs.mkdir(parents=True)
    for name in ("us.parquet", "manifest.json"):
        (theirs / name).write_text("a corpus that happens to be called so")
    command = f"{sys.executable} -m curate.cli mix fit --ratios <(cat ratios.csv) --metrics <(cat metrics.csv) --output out --json"
    done = subprocess.run(["bash", "-c", command], cwd=tables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in theirs.iterdir()} == {"us.parquet", "manifest.json"}
    assert {path.name for path in (tables / "out").iterdir()} == {"laws", ".lock", *FILES}
    first = {name: (tables / "out" / name).read_bytes() for name in FILES}

    again = run("fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", "out", "--workers", "1", cwd=tables)
    assert len(again.stderr.splitlines()) == 1  # where the files are; no stage ran
    assert {name: (tables / "out" / name).read_bytes() for name in FILES} == first
    lines = [line.split(",") for line in (tables / "metrics.csv").read_text().splitlines()]
    (tables / "metrics.csv").write_text(
        "\n".join(",".join([run, docs, "1.0" if i == 3 else sums]) for i, (run, docs, sums) in enumerate(lines)) + "\n"
    )
    run("fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", "out", "--workers", "1", cwd=tables)
    facts = json.loads((tables / "out/laws.json").read_text())
    assert facts["docs"] == json.loads(first["laws.json"])["docs"]
    assert facts["sums"] != json.loads(first["laws.json"])["sums"]

    missing = run("fit", "--ratios", "nowhere.csv", "--metrics", "metrics.csv", "--output", "new", cwd=tables, code=3)
    assert "nowhere.csv: no such file" in missing.stderr
    assert not (tables / "new").exists()


def test_a_fit_never_writes_over_the_tables_of_its_user(tables: Path) -> None:
    before = {name: (tables / name).read_bytes() for name in ("ratios.csv", "metrics.csv")}
    done = run("fit", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--output", ".", cwd=tables, code=3)
    assert "ratios.csv: is one of the tables to be fitted, and would be written over\nhint: choose another --output" in done.stderr
    assert {path.name for path in tables.iterdir()} == set(before)
    swarm, _ = read_tables(tables / "ratios.csv", tables / "metrics.csv", None)
    other = tables / "other"
    other.mkdir()
    for name in ("linked.csv", "theirs.csv"):
        (tables / name).write_bytes(before["ratios.csv"])
    (other / "metrics.csv").symlink_to(tables / "metrics.csv")
    with pytest.raises(InputError, match=r"other/metrics.csv: is one of the tables"):
        refuse_overwriting(other, swarm, [tables / "ratios.csv", tables / "metrics.csv"])
    (other / "metrics.csv").unlink()
    (other / "predictions.csv").write_text("of somebody")
    with pytest.raises(InputError, match=r"other/predictions.csv: is in the way: no fit wrote it"):
        refuse_overwriting(other, swarm, [tables / "ratios.csv", tables / "metrics.csv"])
    assert {name: (tables / name).read_bytes() for name in before} == before


def test_a_fit_may_be_fitted_again_where_it_is_but_an_edited_table_stays(tables: Path) -> None:
    run(*FIT, "--law", "ridge", cwd=tables)
    own = ("fit", "--ratios", "laws/ratios.csv", "--metrics", "laws/metrics.csv", "--output", "laws")
    before = {name: (tables / "laws" / name).read_bytes() for name in FILES}
    run(*own, "--law", "ridge", cwd=tables)
    assert {name: (tables / "laws" / name).read_bytes() for name in FILES} == before
    lines = (tables / "laws/metrics.csv").read_text().splitlines()
    (tables / "laws/metrics.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    edited = (tables / "laws/metrics.csv").read_bytes()
    assert "metrics.csv: is one of the tables" in run(*own, cwd=tables, code=3).stderr
    assert (tables / "laws/metrics.csv").read_bytes() == edited
    run(*FIT, "--law", "ridge", cwd=tables)  # from elsewhere the tables of a fit are written anew
    assert (tables / "laws/metrics.csv").read_bytes() == before["metrics.csv"]
    (tables / "laws/metrics.csv").write_text("\n".join([lines[0], "r0,9.9,9.9", *lines[2:]]) + "\n")
    edited = (tables / "laws/metrics.csv").read_bytes()
    assert "laws/metrics.csv: was edited since the fit, and would be written over" in run(*FIT, "--law", "ridge", cwd=tables, code=3).stderr
    assert (tables / "laws/metrics.csv").read_bytes() == edited


def test_a_folder_is_not_a_fit_because_a_file_is_called_so(tables: Path) -> None:
    (tables / "theirs").mkdir()
    (tables / "theirs/laws.json").write_text('{"a": 1}')
    swarm, _ = read_tables(tables / "ratios.csv", tables / "metrics.csv", None)
    with pytest.raises(InputError, match=r"theirs/laws.json: is in the way: no fit wrote it"):
        refuse_overwriting(tables / "theirs", swarm, [])


def test_laws_of_another_version_are_chosen_anew_as_they_were_asked_for(tables: Path) -> None:
    run(*FIT, cwd=tables)
    path = tables / "laws/laws.json"
    facts = json.loads(path.read_text())
    chosen = {suite: found["law"] for suite, found in facts.items()}
    path.write_text(json.dumps({suite: found | {"law": "ridge", "code": "older"} for suite, found in facts.items()}))
    proposal, _ = solve_fit(tables / "laws", None)
    assert {suite: found["law"] for suite, found in proposal["laws"].items()} == chosen != dict.fromkeys(chosen, "ridge")
    assert "another version of curate fitted the laws of docs, sums: they were fitted again" in proposal["warnings"]
    path.write_text(json.dumps({suite: found | {"law": "ridge"} for suite, found in facts.items()}))  # by hand
    proposal, _ = solve_fit(tables / "laws", None)
    assert {found["law"] for found in proposal["laws"].values()} == {"ridge"}


def rewritten(tables: Path, name: str, head: str, row: Callable[[list[str]], list[str]], rows: int = 99) -> None:
    lines = [line.split(",") for line in (tables / name).read_text().splitlines()[1:]]
    (tables / name).write_text("\n".join([head, *(",".join(row(line)) for line in lines[:rows])]) + "\n")


@pytest.mark.parametrize(
    ("head", "row", "rows", "message"),
    [
        ("run,code", lambda row: [row[0], "1"], 24, "ratios.csv: a mix needs two sources or more"),
        ("run,a,b,c", lambda row: [row[0], "0.3", "0.3", "0.4"], 24, "24 runs of 1 different mix cannot tell 3 sources apart\nhint: 5 are the least"),
        ("run,a,b,c", lambda row: row, 4, "ratios.csv: 4 different mixes cannot tell 3 sources apart\nhint: 5 are the least, 12 are usual"),
    ],
)
def test_tables_that_no_law_follows_from_are_refused(tables: Path, head: str, row: Callable[[list[str]], list[str]], rows: int, message: str) -> None:
    rewritten(tables, "ratios.csv", head, row, rows)
    if rows < 24:
        (tables / "metrics.csv").write_text("run,docs\n" + "\n".join(f"r{i},{1 + i / 10}" for i in range(rows)) + "\n")
    with pytest.raises(InputError) as caught:
        read_tables(tables / "ratios.csv", tables / "metrics.csv", None)
    assert message in str(caught.value)


def test_what_looks_wrong_in_tables_is_said_with_the_result(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        return doubts(read_tables(tables / "ratios.csv", tables / "metrics.csv", None)[0])

    assert told() == []
    rewritten(tables, "metrics.csv", "run,step,docs,mmlu_acc", lambda row: [row[0], "1000", "1e6" if row[0] == "r7" else row[1], row[2]])
    assert told() == [
        "mmlu_acc sounds as if higher were better, and is taken to be better the lower it is",
        "step has whole numbers only: if it is no score, take the column out",
        "run r7 has 1e+06 on docs, far above the others (median 1.59): if it diverged, take it out",
    ]
    rewritten(tables, "ratios.csv", "run,code,math,web", lambda row: row, 11)
    (tables / "metrics.csv").write_text("run,docs\n" + "\n".join(f"r{i},{1.5 + i / 10}" for i in range(11)) + "\n")
    assert told() == ["11 runs are few for 3 sources: 12 are usual, and with fewer intervals may be too narrow"]
    few = read_tables(tables / "ratios.csv", tables / "metrics.csv", None)[0]
    twice = msgspec.structs.replace(
        few, runs=[*few.runs, *few.runs], mixes=np.vstack([few.mixes] * 2), scores={suite: np.tile(y, 2) for suite, y in few.scores.items()}
    )
    assert doubts(twice) == ["22 runs of 11 different mixes are few for 3 sources: 12 are usual, and with fewer intervals may be too narrow"]
    monkeypatch.chdir(tables)
    for verb in ([*FIT[:-1], "--law", "ridge"], ["solve", "--fit", "laws"]):
        assert main(["mix", *verb]) == 0
        found = capsys.readouterr().out
        assert "note: lower is better" in found and "note: 11 runs are few" in found
    assert main(["mix", *FIT, "--law", "ridge"]) == 0
    assert any("11 runs are few" in note for note in json.loads(capsys.readouterr().out)["notes"])


def test_published_tables_keep_their_names_and_their_suites_need_no_file(tables: Path) -> None:
    rewritten(tables, "ratios.csv", "index,Common Crawl,c4/en: old,web.2", lambda row: row)
    rewritten(tables, "metrics.csv", "index,metric/the_pile_arxiv_val_loss,sums", lambda row: row)
    assert (
        main(["mix", *(word if word not in FILES else str(tables / word) for word in FIT[:-3]), "--output", str(tables / "laws"), "--law", "ridge"])
        == 0
    )
    spec = """
name: mine
target: {tokens: 100_000}
evals: {metric/the_pile_arxiv_val_loss: {weight: 2, protect: true}, sums: {}}
sources: {Common Crawl: {tokens: 90_000}, "c4/en: old": {tokens: 30_000}, web.2: {tokens: 5_000_000_000}}
constraints: {sources: {Common Crawl: {min: 0.2}}}
"""
    (tables / "mine.yaml").write_text(spec)
    proposal, solved = solve_fit(tables / "laws", tables / "mine.yaml")
    assert solved is not None and set(proposal["weights"]) == set(solved.weights) == {"Common Crawl", "c4/en: old", "web.2"}
    write_solved(tables / "mine.solved.yaml", solved)
    for form in FORMS:
        assert set(export.export_mix(tables / "mine.solved.yaml", form).tokens) <= set(solved.weights)
    for old, new, message in (
        ("metric/the_pile_arxiv_val_loss", "docs", r"sources: 'Common Crawl' is a name for tables from elsewhere alone"),
        ("Common Crawl", "crawl", r"sources: 'c4/en: old' is a name for tables"),
    ):
        (tables / "own.yaml").write_text(spec.replace(old, new))
        with pytest.raises(SpecError, match=message):
            gather(load_spec(tables / "own.yaml", Mix), tables / "own.yaml", {}, None)
    (tables / "own.yaml").write_text("name: m\ntarget: {tokens: 9}\nevals: {docs: {weight: 2}}\nsources: {a: x, b: y}\n")
    with pytest.raises(SpecError, match=r"own.yaml: evals.docs: which file is it\?"):
        gather(load_spec(tables / "own.yaml", Mix), tables / "own.yaml", {}, None)
    (tables / "own.yaml").write_text("name: m\ntarget: {tokens: 9}\nevals: {sums: {}}\n")
    with pytest.raises(SpecError, match=r"hint: sources: \{web: \{tokens: 5_000_000_000\}\}"):
        solve_fit(tables / "laws", tables / "own.yaml")
    (tables / "own.yaml").write_text("name: m\ntarget: {tokens: 9}\nevals: {sums: {}}\nsources: {w: {buckets: {a: x, b: y}}, w.b: {tokens: 9}}\n")
    with pytest.raises(SpecError, match=r"a bucket and a source are both called 'w.b'"):
        solve_fit(tables / "laws", tables / "own.yaml")


def test_a_spec_for_tables_names_every_column_that_there_is_and_one_for_proxies_names_only(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tables)
    rewritten(tables, "ratios.csv", "run,_code,(math) of web,2020 [old]: *", lambda row: row)
    rewritten(tables, "metrics.csv", "run,_docs,#sums", lambda row: row)
    assert main(["mix", *FIT[:-1], "--law", "ridge"]) == 0
    spec = """
name: mine
target: {tokens: 100_000}
evals: {_docs: {weight: 2, protect: true}, "#sums": {}}
sources: {_code: {tokens: 30_000}, (math) of web: {tokens: 10_000}, "2020 [old]: *": {tokens: 90_000}}
constraints: {sources: {_code: {max: 0.3}, (math) of web: {min: 0.2}, "2020 [old]: *": {min: 0.25}}}
"""
    (tables / "mine.yaml").write_text(spec)
    capsys.readouterr()
    assert main(["mix", "solve", "--fit", "laws", "--spec", "mine.yaml", "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert weights["_code"] <= 0.3 + 1e-6 and weights["(math) of web"] >= 0.2 - 1e-6 and weights["2020 [old]: *"] >= 0.25 - 1e-6
    assert set(load_spec(tables / "laws/mine.proposed.yaml", SolvedMix).weights) == set(weights)
    (tables / "mine.yaml").write_text(spec.partition("constraints")[0].replace("100_000", "1_000_000"))
    with pytest.raises(SpecError, match=r"\(math\) of web 0.04 \(max_repeats 4\)"):
        solve_fit(tables / "laws", tables / "mine.yaml")
    with pytest.raises(SpecError, match=r"got '_docs' at evals"):
        load_spec(tables / "mine.yaml", Mix)  # where names become folders


def test_options_and_keys_that_would_do_nothing_are_refused(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tables)
    for more in (["--law", "gp"], ["--predict", "new.csv"]):
        assert main(["mix", "fit", "mine.yaml", *more, "--output", "own"]) == 2
        assert "--law and --predict are for --ratios" in capsys.readouterr().err
    assert main(["mix", "solve", "mine.yaml", "--spec", "other.yaml", "--output", "own"]) == 2
    assert "--spec is for --fit DIR" in capsys.readouterr().err
    assert main(["mix", *FIT, "--law", "ridge"]) == 0
    spec = "name: mine\ntarget: {tokens: 100_000}\nevals: {sums: sums.jsonl}\n"
    spec += "sources: {code: {tokens: 30_000}, math: {tokens: 10_000}, web: {tokens: 90_000}}\n"
    keys = {"reuse": "reuse: old.solved.yaml\n", "phases": "phases: [{name: end, target: {tokens: 10}}]\n"}
    for key, line in keys.items():
        (tables / "mine.yaml").write_text(spec + line)
        with pytest.raises(SpecError, match=f"mine.yaml: {key}: `{key}` needs proxies that are trained here"):
            solve_fit(tables / "laws", tables / "mine.yaml")
    (tables / "mine.yaml").write_text(spec + "law: power\n")
    proposal, solved = solve_fit(tables / "laws", tables / "mine.yaml")
    note = "the laws are those of the fit (ridge), not of the spec (power): `curate mix fit --law power` fits them"
    assert note in proposal["warnings"] and solved is not None and note in solved.warnings
    assert proposal["laws"]["sums"]["law"] == "ridge"


def test_tables_that_were_edited_are_fitted_again_and_said(tables: Path) -> None:
    run(*FIT, "--law", "power", cwd=tables)
    before = json.loads(run("solve", "--fit", "laws", "--json", cwd=tables).stdout)
    assert not any("edited" in warning for warning in before["warnings"])
    for name in ("ratios.csv", "metrics.csv"):
        lines = (tables / "laws" / name).read_text().splitlines()
        (tables / "laws" / name).write_text("\n".join(line for line in lines if not line.startswith("r7,")) + "\n")
    after = json.loads(run("solve", "--fit", "laws", "--json", cwd=tables).stdout)
    assert "the tables were edited since the fit: the laws of docs, sums were fitted again" in after["warnings"]
    assert len(after["runs"]) == len(after["laws"]["docs"]["measured"]) == len(after["laws"]["docs"]["left_out"]) == 23


def test_solve_from_csv_with_and_without_a_spec(tables: Path) -> None:
    run(*FIT, "--law", "power", cwd=tables)
    free = json.loads(run("solve", "--fit", "laws", "--json", cwd=tables).stdout)
    assert sum(free["weights"].values()) == pytest.approx(1.0)
    assert free["weights"]["web"] < 0.2
    table = run("solve", "--fit", "laws", cwd=tables).stdout
    assert "predicted gain over the mean of all runs" in table  # no run is called natural
    assert "natural" not in table.splitlines()[0] and free["baseline"] == "mean of all runs"
    spec = """
name: mine
target: {tokens: 100_000}
evals: {sums: sums.jsonl}
sources: {code: {tokens: 30_000}, math: {tokens: 10_000}, web: {tokens: 90_000}}
constraints: {max_repeats: 4, sources: {web: {min: 0.4}}}
"""
    (tables / "mine.yaml").write_text(spec)
    found = json.loads(run("solve", "--fit", "laws", "--spec", "mine.yaml", "--json", cwd=tables).stdout)
    assert found["weights"]["math"] <= 0.4 + 1e-6
    assert found["weights"]["web"] >= 0.4 - 1e-6
    assert found["natural"]["web"] == pytest.approx(9 / 13)
    assert any("math" in sentence for sentence in found["sensitivity"]["sentences"])
    solved = load_spec(tables / "laws/mine.proposed.yaml", SolvedMix)
    assert solved.verdict == "not_confirmed"
    assert {name: round(value, 3) for name, value in found["repeats"].items()} == {name: source.repeats for name, source in solved.weights.items()}
    assert "chance" not in found and "repeats" not in free
    export = json.loads(run("export", "laws/mine.proposed.yaml", "--format", "olmo-core", "--json", cwd=tables).stdout)
    assert sum(export["tokens"].values()) == 100_000
    assert "requested_tokens=100000" in export["text"]


def test_the_table_of_a_proposal_says_repeats_the_best_for_each_suite_and_its_chance(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tables)

    def printed(*words: str) -> str:
        capsys.readouterr()
        assert main(["mix", *words]) == 0
        return capsys.readouterr().out

    laws = json.loads(printed(*FIT, "--law", "ridge"))["laws"]
    assert {suite: facts["lower_is_better"] for suite, facts in laws.items()} == {"docs": True, "sums": True}
    spec = "name: mine\ntarget: {tokens: 100_000}\nevals: {docs: {}, sums: {}}\nobjective: chance\n"
    (tables / "mine.yaml").write_text(spec + "sources: {code: {tokens: 30_000}, math: {tokens: 10_000}, web: {tokens: 90_000}}\n")
    solve = ("solve", "--fit", "laws", "--spec", "mine.yaml")
    found = json.loads(printed(*solve, "--json"))
    assert {suite: facts["lower_is_better"] for suite, facts in found["laws"].items()} == {"docs": True, "sums": True}
    assert 0.5 < found["chance"] <= 1
    lines = printed(*solve).splitlines()
    (sources,), (suites,) = ([line for line in lines if line.startswith(word)] for word in ("source ", "suite "))
    assert sources.split()[-1] == "repeats" and suites.rstrip().endswith("best for it alone")
    (code,) = (line.split() for line in lines if line.startswith("code "))
    assert code[-1] == f"{found['repeats']['code']:.2f}"
    (docs,) = (line.split() for line in lines if line.startswith("docs "))
    assert docs[-1] == f"{found['sensitivity']['suites']['docs']['best']:.4f}"
    told = f"{100 * found['chance']:.1f} %" if found["chance"] <= 0.999 else "over 99.9 %"
    assert f"predicted chance of beating the natural mix: {told}" in lines
    assert max(len(sources.rstrip()), len(suites.rstrip()), len(" ".join(code)), len(" ".join(docs))) <= 100
    without = printed("solve", "--fit", "laws").splitlines()
    assert "repeats" not in without[0] and not any("chance" in line for line in without)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sums: sums.jsonl", "sum: sums.jsonl", "no law was fitted for the suite 'sum'\nhint: did you mean 'sums'?"),
        ("web: {tokens: 90_000}", "forum: {tokens: 90_000}", "do not have the same sources: only the spec has forum; only the swarm has web"),
        ("math: {tokens: 10_000}", "math: {}", "sources.math: how much is there of it?"),
        ("{web: {min: 0.4}}", "{web: {min: 0.7}, code: {min: 0.5}}", "add up to 1.2, more than 1"),
    ],
)
def test_a_spec_that_does_not_fit_the_tables_is_refused(tables: Path, old: str, new: str, message: str) -> None:
    run(*FIT, "--law", "ridge", cwd=tables)
    spec = "name: mine\ntarget: {tokens: 100_000}\nevals: {sums: sums.jsonl}\n"
    spec += "sources: {code: {tokens: 30_000}, math: {tokens: 10_000}, web: {tokens: 90_000}}\nconstraints: {sources: {web: {min: 0.4}}}\n"
    (tables / "mine.yaml").write_text(
        spec.replace(old, new).replace("{sources: {web: {min: 0.4}}}", "{}") if "forum" in new else spec.replace(old, new)
    )
    assert message in run("solve", "--fit", "laws", "--spec", "mine.yaml", cwd=tables, code=2).stderr


def test_sources_that_are_counted_beside_tables_are_found_as_in_every_mix(tables: Path, project: Path) -> None:
    run(*FIT, "--law", "ridge", cwd=tables)
    fitted = read_fit(tables / "laws")
    spec = project / "mixes/counted.yaml"
    text = "name: mine\ntarget: {tokens: 10_000}\nevals: {sums: {}}\nsources: {code: 'tokens/lett*', math: tokens/sums, web: {tokens: 90_000}}\n"
    spec.write_text(text)
    notes = {name: read_manifest(project / "tokens" / name).notes.values() for name in ("letters", "sums")}
    counts = {name: sum(note["num_tokens"] for note in found) for name, found in notes.items()}
    assert setting_of(fitted, spec).tokens == {"code": counts["letters"], "math": counts["sums"], "web": 90_000}
    spec.write_text(text.replace("tokens/lett*", "tokens/[ls]*"))
    with pytest.raises(InputError, match=r"counted.yaml: sources: .*tokens/sums belongs to both code and math"):
        setting_of(fitted, spec)
    spec.write_text(text.replace("tokens/lett*", "tokens/none*"))
    with pytest.raises(SpecError, match=r"sources.code: no such folder: .*tokens/none\*"):
        setting_of(fitted, spec)
    spec.write_text(text.replace("tokens/lett*", "docs/lett*"))
    with pytest.raises(InputError, match="no tokens in code"):
        setting_of(fitted, spec)


def test_verbs_say_what_they_miss(tables: Path) -> None:
    assert "give a mix spec, or both --ratios and --metrics" in run("fit", "--ratios", "ratios.csv", "--output", "laws", cwd=tables, code=2).stderr
    assert "give either a mix spec, or --fit DIR" in run("solve", "--output", "laws", cwd=tables, code=2).stderr
    assert "no fitted laws" in run("solve", "--fit", "nowhere", cwd=tables, code=3).stderr
    assert "no finished mix" in run("show", "nowhere", cwd=tables, code=3).stderr


def test_what_the_command_offers_is_what_there_is() -> None:
    assert list(FORMS) == list(export.FORMS)
    assert OFFERED == LAWS


@pytest.fixture
def spec(project: Path) -> Path:
    path = project / "mixes/own.yaml"
    sources = f"sources: {{letters: {project}/tokens/letters, sums: {project}/tokens/sums}}\n"
    path.write_text(SPEC.replace("name: toy", "name: own") + sources + f"tokenizer: {project}/tokens/together/tokenizer.json\n")
    return path


def test_an_output_folder_with_a_corpus_in_it_is_refused_before_anything_is_trained(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "full/eu").mkdir(parents=True)
    (tmp_path / "full/eu/eu.parquet").write_text("a corpus of somebody")
    done = run("train", spec, "--output", "full", "--json", cwd=tmp_path, code=3)
    assert "full/eu/eu.parquet: is in the way" in done.stderr
    assert (tmp_path / "full/eu/eu.parquet").read_text() == "a corpus of somebody"
    assert not (tmp_path / "full/swarm").exists()


def test_every_step_goes_on_where_the_one_before_it_ended(spec: Path, tmp_path: Path) -> None:
    def step(verb: str) -> Any:
        return json.loads(run(verb, spec, "--output", "mix", "--workers", 2, "--json", cwd=tmp_path).stdout)

    planned = json.loads(run("plan", spec, "--json", cwd=tmp_path).stdout)
    assert planned["summary"]["proxies in the swarm"] == len(planned["runs"]) == 7
    assert not (tmp_path / "mix").exists()
    rows = step("train")
    assert [row["run"] for row in rows] == [run["run"] for run in planned["runs"]]
    assert [row["weights"] for row in rows] == [run["weights"] for run in planned["runs"]]
    before = receipts(tmp_path / "mix")
    assert set(step("evaluate")[0]) == {"run", "sums"}
    assert step("fit")["laws"]["sums"]["law"] == "power"
    assert set(step("solve")["weights"]) == {"letters", "sums"}
    assert trained(before, tmp_path / "mix") == set()
    assert step("confirm")["solved"]["verdict"] == "better"
    page = (tmp_path / "mix/report.html").read_text()
    for part in ("Confirmed with fresh seeds", "What it hangs on", "best for it alone", "from the natural (0) to the solved mix (1)", "run-005"):
        assert part in page
    assert "<script" not in page
    shown = run("show", "mix", cwd=tmp_path).stdout
    assert "The solved mix is better than the natural one" in shown
    for verb in ("train", "evaluate", "solve"):
        assert "sums" in run(verb, spec, "--output", "mix", cwd=tmp_path).stdout
    assert run("diff", "mix/own.solved.yaml", "mix/own.solved.yaml", "--json", cwd=tmp_path).stdout.startswith("{")


def test_a_mix_that_was_killed_ends_as_if_it_had_not_been(spec: Path, tmp_path: Path) -> None:
    run("run", spec, "--output", "whole", "--workers", 2, cwd=tmp_path)
    command = [sys.executable, "-m", "curate.cli", "mix", "run", str(spec), "--output", "killed", "--workers", "2"]
    for wait in (1.5, 2.5):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run("run", spec, "--output", "killed", "--workers", 2, cwd=tmp_path)
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
