"""Verdicts, tables, exports: the honest words, the join by key, and files that say what the mix says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError, InputError, SpecError
from curate.mix.evaluate import SCORES
from curate.mix.export import FORMS, adding_up, check, export_mix, token_counts
from curate.mix.law import choose_law
from curate.mix.solved import diff_lines, diff_mixes, read_solved, solved_text
from curate.mix.table import predictions_csv, read_ratios, read_swarm
from curate.mix.verdict import compare
from curate.specs.load import load_spec, resolved
from curate.specs.mix import Mix, SolvedMix, SolvedScore, SolvedSource
from curate.verbs.mix_tables import print_result


def scores(shift: float, seed: int, items: int = 60, item_noise: float = 0.0, salt: int = 0) -> pa.Table:
    """Scores of two suites: items differ a lot, seeds a little, and `shift` bits per byte."""
    size = np.random.default_rng(1).integers(50, 150, items)
    rate = np.random.default_rng(2).uniform(1, 2, items) + np.random.default_rng(100 + seed).normal(0, 0.05)
    own = np.random.default_rng([seed, salt]).normal(0, 0.003) + np.random.default_rng([3, salt]).normal(0, item_noise, items)
    rows = [{"suite": suite, "item": i, "bits": float((rate[i] + (shift + own[i]) * sign) * size[i]), "bytes": int(size[i])} for suite, sign in
            (("docs", 1), ("math", 0.5)) for i in range(items)]  # fmt: skip
    return pa.Table.from_pylist([row | {"right": None} for row in rows], SCORES)


def sides(shift: float, **options: float) -> tuple[list[pa.Table], list[pa.Table]]:
    return [scores(shift, s, salt=1, **options) for s in range(3)], [scores(0.0, s) for s in range(3)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("shift", "verdict"), [(-0.06, "better"), (0.06, "worse"), (0.0, "no_difference_shown")])
def test_the_verdict_is_what_the_interval_shows(shift: float, verdict: str) -> None:
    found = compare(*sides(shift), {"docs": 1.0, "math": 1.0})
    assert found.overall.verdict == verdict
    assert found.suites["docs"].verdict == verdict
    assert found.suites["docs"].low <= found.suites["docs"].difference <= found.suites["docs"].high
    assert abs(found.suites["docs"].difference - shift) < 0.01
    assert found.num_seeds == 3


def test_pairing_removes_what_seeds_and_items_share() -> None:
    chosen, rival = sides(-0.02)
    found = compare(chosen, rival, {"docs": 1.0, "math": 0.0})
    assert found.suites["docs"].high - found.suites["docs"].low < 0.05
    assert compare(chosen, rival[::-1], {"docs": 1.0, "math": 0.0}).suites["docs"].verdict == "no_difference_shown"


def test_a_difference_that_only_a_few_items_carry_is_not_sure() -> None:
    sure, unsure = (compare(*sides(-0.03, item_noise=noise), {"docs": 1.0, "math": 1.0}).suites["docs"] for noise in (0.0, 0.4))
    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)


def test_items_are_joined_by_key_and_must_be_the_same() -> None:
    chosen, rival = sides(-0.05)
    shuffled = [table.take(np.random.default_rng(0).permutation(table.num_rows)) for table in chosen]
    importance = {"docs": 1.0, "math": 1.0}
    assert compare(shuffled, rival, importance).overall.difference == pytest.approx(compare(chosen, rival, importance).overall.difference, rel=1e-9)
    with pytest.raises(InputError, match="suite docs: the runs were not scored on the same items"):
        compare([table.slice(1) for table in chosen], rival, importance)
    with pytest.raises(InputError, match="1 and 1 runs cannot be compared"):
        compare(chosen[:1], rival[:1], importance)


def test_intervals_over_seeds_cover_the_truth() -> None:
    covered = 0
    for trial in range(200):
        random = np.random.default_rng(trial)
        tables = []
        for shift in (-0.01, 0.0):
            bits = 1.5 + shift + random.normal(0, 0.01, 3)
            tables.append([pa.Table.from_pylist([{"suite": "d", "item": 1, "bits": b * 100, "bytes": 100, "right": None}], SCORES) for b in bits])
        found = compare(tables[0], tables[1], {"d": 1.0}).suites["d"]
        covered += found.low <= -0.01 <= found.high
    assert 180 <= covered <= 199


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_rows_are_joined_by_run_id_whatever_their_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mixes = random.dirichlet(np.ones(3), 16)
    names = [f"run{i:02d}" for i in range(16)]
    ratios = [f"{name},{','.join(f'{share:.6f}' for share in mix)}" for name, mix in zip(names, mixes, strict=True)]
    metrics = [f"{name},{1 + mix[1]:.6f}" for name, mix in zip(names, mixes, strict=True)]
    order = random.permutation(16)
    straight = read_swarm(write(tmp_path / "r.csv", "run,web,math,code", *ratios), write(tmp_path / "m.csv", "run,docs", *metrics))
    shuffled = read_swarm(tmp_path / "r.csv", write(tmp_path / "n.csv", "id,docs", *(metrics[i] for i in order)))
    assert straight.sources == ["code", "math", "web"]
    assert straight.scores["docs"].tolist() == shuffled.scores["docs"].tolist()
    assert np.allclose(straight.scores["docs"], 1 + straight.mixes[:, 1], atol=2e-6)
    laws = {"docs": choose_law("docs", straight.mixes, straight.scores["docs"], "ridge")}
    runs, _, new = read_ratios(write(tmp_path / "new.csv", "run,math,code,web", "x,1,0,0", "a,0,0,1"), straight.sources)
    lines = predictions_csv(laws, runs, new).splitlines()
    assert lines[0] == "run,suite,mean,low,high"
    assert [line.split(",")[0] for line in lines[1:]] == ["a", "x"]
    assert float(lines[2].split(",")[2]) == pytest.approx(2.0, abs=0.01)


def test_ratios_that_were_rounded_to_three_digits_are_read(tmp_path: Path) -> None:
    """Six sources of 1/6 add up to 1.002 when printed as .167; printed with more digits, the same sum is a mistake."""
    shares = ",".join(["0.167"] * 6)
    metrics = write(tmp_path / "m.csv", "run,s", "x,1")
    swarm = read_swarm(write(tmp_path / "r.csv", "run,a,b,c,d,e,f", f"x,{shares}"), metrics)
    assert swarm.mixes.sum() == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match="the ratios add up to 1.002"):
        read_swarm(write(tmp_path / "r.csv", "run,a,b,c,d,e,f", "x," + shares.replace("0.167", "0.167001", 1)), metrics)
    exact = write(tmp_path / "r.csv", "run,a,b,c,d,e,f", f"x,{shares}", "y,0.1234,0.8766,0,0,0,0")
    assert len(read_swarm(exact, write(tmp_path / "m.csv", "run,s", "x,1", "y,1")).runs) == 2  # each row by itself


@pytest.mark.parametrize(
    ("ratios", "metrics", "message"),
    [
        (["run,a,b", "x,.5,.5", "y,.5,.5"], ["run,s", "x,1", "z,1"], r"run ids do not match: y is not in .*m.csv; z is not in .*r.csv"),
        (["run,a,b", "x,.5,.4", "y,.5,.5"], ["run,s", "x,1", "y,1"], r"r.csv:2: the ratios add up to 0.9, not to 1\nhint: run x"),
        (["run,a,b", "x,1.5,-.5"], ["run,s", "x,1"], r"r.csv:2: a ratio is negative"),
        (["run,a,b", "x,.5,.5", "", "x,.5,.5"], ["run,s", "x,1"], r"r.csv:4: run 'x' stands twice"),
        (["run,a,b", "x,.5,half"], ["run,s", "x,1"], r"r.csv:2: 'half' in column 'b' is not a number"),
        (["run,a,b", "x,.5"], ["run,s", "x,1"], r"r.csv:2: has 2 fields, the header has 3"),
        (["run,a,b", "x,.5,1,5"], ["run,s", "x,1"], r"r.csv:2: has 4 fields, the header has 3\nhint: run x: .* a number has a point"),
        (["run,a,b", "x,.5,.5"], ["run,s", "x,"], r"m.csv:2: the value in column 's' is missing\nhint: run x: write the number .* out of both files"),
        (["run,a,b", "x,.5,n/a"], ["run,s", "x,1"], r"r.csv:2: 'n/a' in column 'b' is not a number\nhint: run x: write the number \(0 for a source"),
        (["run,a,b", "x,.5,.5"], ["run,s", "x,inf"], r"m.csv:2: 'inf' in column 's' is not finite\nhint: run x: write the number"),
        (["run,a,b", "x,.5,.5", " ,.5,.5"], ["run,s", "x,1"], r"r.csv:3: the run id is missing: column 'run', the first one, .*\nhint: write the id"),
        (["run,a,a", "x,.5,.5"], ["run,s", "x,1"], r"r.csv:1: two columns have the same name"),
        (["run,a,b", "x,.5,.5"], ["run,s", "x,nan"], r"m.csv:2: 'nan' in column 's' is not finite"),
        (["run"], ["run,s", "x,1"], r"r.csv: needs a header"),
        (["run;a;b", "x;.5;.5"], ["run,s", "x,1"], r"r.csv:1: its fields are separated by semicolons, not by commas"),
        (["run\ta\tb", "x\t.5\t.5"], ["run,s", "x,1"], r"r.csv:1: its fields are separated by tabs, not by commas"),
        (["run,a,b", "x,49.9,50"], ["run,s", "x,1"], r"r.csv:2: the ratios add up to 99.9, .*\nhint: run x; they look like percent: divide them by"),
        (["run,a,b", "x,50%,50%"], ["run,s", "x,1"], r"r.csv:2: '50%' in column 'a' is not a number\nhint: 0.125 says 12.5 %"),
    ],
)
def test_csv_files_that_do_not_fit_are_refused(tmp_path: Path, ratios: list[str], metrics: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_swarm(write(tmp_path / "r.csv", *ratios), write(tmp_path / "m.csv", *metrics))


def solved(weights: dict[str, float], keep: str = "solved", **changes: object) -> SolvedMix:
    sources = {
        name: SolvedSource(weight=share, solved=share, low=share * 0.9, high=min(1.0, share * 1.1), natural=0.5, available_tokens=1000, repeats=1.0)
        for name, share in weights.items()
    }
    score = SolvedScore(
        law="power", natural=1.5, solved=1.4, low=1.3, high=1.45, confirmed=-0.1, confirmed_low=-0.2, confirmed_high=-0.01, verdict="better"
    )
    values: dict[str, object] = {"name": "m", "verdict": "better", "keep": keep, "target_tokens": 1001, "weights": sources, "scores": {"docs": score}}
    values |= {"predicted_gain": (0.02, 0.01, 0.03), "warnings": ["math is: at its limit"], "made_from": {"spec": "aa", "tokens/web": "bb"}}
    return SolvedMix(**{**values, **changes})  # type: ignore[arg-type]


def test_a_solved_mix_is_a_spec_that_reads_back_and_reads_well(tmp_path: Path) -> None:
    mix = solved({"math": 0.3, "web": 0.7})
    path = tmp_path / "m.solved.yaml"
    path.write_text(solved_text(mix), encoding="utf-8")
    assert load_spec(path, SolvedMix) == mix
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("  math:")]
    assert line.startswith("  math: {weight: 0.3, solved: 0.3,")
    path.write_text(solved_text(mix).replace("{weight: 0.3", "{weight: 0.2"))
    with pytest.raises(SpecError, match=r"the weights add up to 0.9"):
        load_spec(path, SolvedMix)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "m.solved.yaml"
    path.write_text(solved_text(solved({"a b": 0.333333, "math": 0.0, "web.high": 0.666667})), encoding="utf-8")
    return path


def test_megatron_gets_weights_and_prefixes(exported: Path) -> None:
    words = shlex.split(export_mix(exported, "megatron", "/data/{source}/tokens").text)
    assert words == ["--data-path", "0.333333", "/data/a b/tokens", "0.666667", "/data/web.high/tokens"]
    blend = json.loads(export_mix(exported, "megatron-json", "/data/{source}/tokens").text)
    assert blend == {"train": words[1:]}


def test_yaml_forms_have_the_keys_that_their_trainers_read(exported: Path) -> None:
    olmo = yaml.safe_load(export_mix(exported, "olmo-core").text)
    assert list(olmo) == ["sources"]  # what SourceMixtureList.from_yaml reads
    assert sum(entry["target_ratio"] for entry in olmo["sources"]) == 1.0
    assert olmo["sources"][0] == {
        "source_name": "a b", "target_ratio": 0.333333, "paths": ["data/a b/*.npy"], "max_repetition_ratio": 1.0,
    }  # fmt: skip
    streams = yaml.safe_load(export_mix(exported, "streaming", "s3://here/{source}").text)["streams"]
    assert streams["web.high"] == {"local": "s3://here/web.high", "proportion": 0.666667}
    nanosets = yaml.safe_load(export_mix(exported, "nanotron").text)["data"]["dataset"]
    assert nanosets == {"dataset_folder": ["data/a b", "data/web.high"], "dataset_weights": [0.333333, 0.666667]}


def test_olmo_core_finds_enough_tokens_of_each_source_however_its_numbers_round(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        available, repeats = int(random.integers(1, 10 ** random.integers(1, 12))), round(float(random.uniform(0.1, 6)), 6)
        mix = solved({"code": 0.400001, "web": 0.599999}, target_tokens=max(1, int(available * repeats / 0.400001)))
        source = msgspec.structs.replace(mix.weights["code"], available_tokens=available, repeats=round(repeats, 3))
        path = tmp_path / "m.solved.yaml"
        path.write_text(solved_text(msgspec.structs.replace(mix, weights=mix.weights | {"code": source})), encoding="utf-8")
        code = yaml.safe_load(export_mix(path, "olmo-core").text)["sources"][0]
        needed = int(mix.target_tokens * code["target_ratio"])
        assert int(available * code["max_repetition_ratio"]) >= needed
        assert code["max_repetition_ratio"] <= max(1.0, needed / available + 0.0201)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_back_as_the_mix_and_says_the_tokens(exported: Path, form: str) -> None:
    found = export_mix(exported, form)
    assert "math" not in found.text
    assert found.tokens == {"a b": 334, "web.high": 667}
    compile(found.text if form == "torchtitan" else "", "rows.py", "exec")


def test_an_export_that_is_not_the_mix_is_refused(exported: Path) -> None:
    assert json.loads(export_mix(exported, "datasets").text) == {"sources": ["a b", "web.high"], "probabilities": [0.333333, 0.666667]}
    with pytest.raises(SpecError, match="two sources would have the same data"):
        export_mix(exported, "megatron", "/data")
    with pytest.raises(CurateError, match="the share of web is not that of the mix"):
        check({"a": 0.5, "web": 0.5}, {"a": 0.5, "web": 0.4}, "here")
    with pytest.raises(CurateError, match=r"add up to 0.9"):
        check({"a": 0.5, "web": 0.4}, {"a": 0.5, "web": 0.4}, "here")
    assert sum(token_counts({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 100).values()) == 100


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_weights_add_up_to_one_to_the_last_bit(raw: list[float]) -> None:
    weights = {f"s{i}": round(value / sum(raw), 6) for i, value in enumerate(raw)}
    found = adding_up(weights)
    assert sum(found.values()) == pytest.approx(1.0, abs=1.2e-16)
    assert max(abs(found[name] - weights[name]) for name in weights) < 2e-5


def test_the_difference_of_two_mixes_says_what_moved_and_why(tmp_path: Path) -> None:
    before, after = tmp_path / "a.yaml", tmp_path / "b.yaml"
    before.write_text(solved_text(solved({"math": 0.3, "web": 0.7})))
    after.write_text(solved_text(solved({"code": 0.2, "math": 0.29, "web": 0.51}, made_from={"spec": "aa", "tokens/web": "cc", "tokens/code": "dd"})))
    found = diff_mixes(read_solved(before), read_solved(after))
    assert found["moved"] == 0.2
    assert [(row["source"], row["change"], row["outside_interval"]) for row in found["weights"]] == [
        ("code", 0.2, True), ("web", -0.19, True), ("math", -0.01, False),
    ]  # fmt: skip
    assert [cause["what"] for cause in found["causes"]] == ["tokens/code", "tokens/web"]
    lines = diff_lines(found)
    assert lines[0] == "20.0% of the tokens change their source"
    assert "  math: 30.00% → 29.00%  -1.00%  (within the earlier interval)" in lines
    assert lines[-1] == "because these changed: tokens/code, tokens/web"
    assert diff_lines(diff_mixes(read_solved(before), read_solved(before)))[-1] == "verdict: better, as before"


def test_the_difference_is_of_the_weights_that_are_kept_and_says_what_else_differs() -> None:
    """The laws recommend the same twice, but the second time fresh seeds said to keep the natural mix."""
    before = solved({"math": 0.3, "web": 0.7})
    natural = {name: msgspec.structs.replace(source, weight=0.5) for name, source in before.weights.items()}
    after = msgspec.structs.replace(before, keep="natural", weights=natural, target_tokens=2_000_000, scores={"code": before.scores["docs"]})
    found = diff_mixes(before, after)
    assert [row["outside_interval"] for row in found["weights"]] == [True, True]
    kept = diff_mixes(before, msgspec.structs.replace(after, scores=before.scores))
    assert [(row["before"], row["after"]) for row in kept["scores"]] == [(1.4, 1.5)]  # predicted for the natural mix
    assert not any(row["outside_interval"] for row in diff_mixes(after, after)["weights"])
    lines = diff_lines(found)
    assert "  math: 30.00% → 50.00%  +20.00%" in lines
    assert lines[-4:] == [
        "suites that only one of them has: code, docs",
        "verdict: better, as before",
        "what is kept: solved → natural",
        "target tokens: 1,001 → 2,000,000",
    ]


def test_the_difference_of_two_mixes_names_the_keys_of_the_spec_that_changed(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    text = "name: m\ntarget: {tokens: 20_000_000_000}\nevals: {docs: evals/docs.jsonl}\nsources: {a: x, b: runs/crawl-of-january/b/06-tokenize}\n"
    text += "phases: [{name: end, target: {tokens: 9}}]\nconstraints: {max_repeats: 4}\n"
    first.write_text(text)
    for old, new in (
        ("20_000", "25_000"),
        ("january", "february"),
        ("a: x,", "a: x, c: y,"),
        ("tokens: 9", "tokens: 8"),
        ("4}", "4.0, max_synthetic: 0.2}"),
    ):
        text = text.replace(old, new)
    second.write_text(text.replace("docs: evals/docs.jsonl", "docs: {file: evals/docs.jsonl, weight: 2}"))
    for path in (first, second):
        spec = resolved(load_spec(path, Mix))
        path.write_text(solved_text(solved({"a": 0.3, "b": 0.7}, spec=spec, made_from={"spec": path.name})))
    found = diff_mixes(read_solved(first), read_solved(second))
    assert [row["key"] for row in found["spec"]] == [
        "target.tokens", "evals.docs", "sources.b", "sources.c", "constraints.max_synthetic", "phases[0].target.tokens"
    ]  # fmt: skip
    assert found["spec"][0] == {"key": "target.tokens", "before": 20_000_000_000, "after": 25_000_000_000}
    lines = diff_lines(found)
    where = lines.index("because these changed: spec")
    assert [line for line in lines[where + 1 :] if "evals" not in line] == [
        "  spec: target.tokens: 20,000,000,000 → 25,000,000,000",
        "  spec: sources.b: runs/crawl-of-january/b/06-tokenize → runs/crawl-of-february/b/06-tokenize",
        "  spec: sources.c: null → y",
        "  spec: constraints.max_synthetic: null → 0.2",
        "  spec: phases[0].target.tokens: 9 → 8",
    ]
    assert max(map(len, lines)) < 100
    assert diff_mixes(read_solved(first), read_solved(first))["spec"] == []
    many, note = [f"runs/shard-{i:03d}" for i in range(200)], "of two\nlines"
    one, other = ({"sources": {"b": names}, "description": words} for names, words in ((many, "a"), ([*many[:90], "runs/new", *many[90:]], note)))
    told = diff_lines(diff_mixes(*(solved({"a": 1.0}, spec=spec, made_from={"spec": words}) for spec, words in ((one, "1"), (other, "2")))))
    assert [line for line in told if "sources.b" in line and "runs/new" in line and len(line) < 120]
    assert '  spec: description: a → "of two\\nlines"' in told
    older = solved({"a": 0.3, "b": 0.7})
    assert "which keys is not known" in diff_lines(diff_mixes(older, read_solved(first)))[-1]


def test_what_was_confirmed_against_each_rival_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"suite": suite, "rival": rival, "mean": mean, "low": mean - 0.01, "high": mean + 0.01, "word": word}
        for rival in ("natural", "uniform")
        for suite, mean, word in (
            ("all, relative", -0.02, "better"),
            ("docs", -0.05, "better"),
            ("code", 0.03, "worse"),
            ("math", 0.0, "no_difference_shown"),
        )
    ]
    print_result({"solved": msgspec.to_builtins(solved({"math": 0.3, "web": 0.7})), "comparison": rows, "verdict": "The solved mix is better."})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "solved against uniform: bits per byte change by −2.00 % (95 % interval −3.00 % to −1.00 %); better on docs; worse on code",
        "The solved mix is better.",
    ]
