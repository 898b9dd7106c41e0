"""Proxies: bit-identical reruns, members of a group that do not touch each other, and runs that differ by their mix alone."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.mix import checkpoints, fused, model, proxy, stream, throughput
from curate.mix.evaluate import token_losses
from curate.mix.proxy import evaluate_run, learning_rate, single_thread, train_group, train_runs
from curate.mix.stream import Stream, pool_tokens, slots
from curate.mix.throughput import How, choose_group_size, gradients_of
from curate.specs.load import resolved
from curate.specs.mix import Eval, Proxy
from curate.tokens.shards import TokenWriter
from curate.tokens.tokenizer import Encoder, encode_batch, train_tokenizer

SMALL = resolved(Proxy(layers=1, width=32, heads=2, context=32, tokens=4096, batch_tokens=256, learning_rate=1e-2))
TEXTS = {
    "abc": [f"the letters of item {i} are a b c d e f g h in this order" for i in range(150)],
    "sums": [f"{i} plus {i + 1} is {2 * i + 1}, and that is all there is to say" for i in range(150)],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    text = train_tokenizer([text for texts in TEXTS.values() for text in texts], 300)
    (folder / "tokenizer.json").write_text(text)
    encoder = Encoder(text)
    for name, texts in TEXTS.items():
        (folder / name).mkdir()
        writer = TokenWriter(folder / name / "0.npy", encoder.dtype)
        tokens, index = encode_batch(pa.record_batch({"id": [f"{name}{i}" for i in range(len(texts))], "text": texts}), encoder)
        writer.write(tokens)
        writer.close()
        pq.write_table(index, folder / name / "0.parquet")
        (folder / f"{name}.jsonl").write_text(f'{{"text": "{texts[3]}"}}\n{{"text": "{texts[77]}"}}\n')
    return folder


def run(weights: Mapping[str, float], seed: int = 0, pools: Mapping[str, int] | None = None, **proxy: Any) -> dict[str, Any]:
    return {"run": "r", "weights": dict(weights), "seed": seed, "proxy": SMALL | proxy, "pools": dict(pools or {})}


def folders(data: Path) -> dict[str, list[Path]]:
    return {name: [data / name] for name in TEXTS}


def suites(data: Path) -> dict[str, Any]:
    return {name: resolved(Eval(file=str(data / f"{name}.jsonl"))) for name in TEXTS}


def test_the_fused_loss_and_its_gradient_are_those_of_cross_entropy() -> None:
    single_thread()
    parameters = model.init_parameters({"vocab": 50, "width": 16, "layers": 1}, [0, 1])
    tokens = torch.randint(0, 50, (2, 20, 33), generator=torch.Generator().manual_seed(0))
    grads = []
    for by_chunks in (True, False):
        for value in parameters.values():
            value.requires_grad_().grad = None
        if by_chunks:
            loss = model.losses(parameters, tokens, 2)
        else:
            x = model.hidden_states(parameters, tokens[:, :, :-1], 2)
            logits = torch.bmm(x, parameters["embedding"].transpose(1, 2))
            loss = torch.stack([torch.nn.functional.cross_entropy(logits[k], tokens[k, :, 1:].reshape(-1)) for k in range(2)])
        (loss * torch.tensor([1.0, 3.0])).sum().backward()
        grads.append((loss.detach(), {name: value.grad.clone() for name, value in parameters.items() if value.grad is not None}))
    assert torch.allclose(grads[0][0], grads[1][0], rtol=1e-5)
    for name, value in grads[0][1].items():
        assert torch.allclose(value, grads[1][1][name], rtol=1e-3, atol=1e-6), name


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 9),
    length=st.sampled_from([1, 7, 33, 128, 150]),
    heads=st.sampled_from([1, 3]),
    seed=st.integers(0, 3),
    size=st.sampled_from([1, 30]),
)
def test_the_derivative_by_hand_is_that_of_autograd(rows: int, length: int, heads: int, seed: int, size: int) -> None:
    single_thread()
    draw = torch.Generator().manual_seed(seed)
    parameters = model.init_parameters({"vocab": 60, "width": 12 * heads, "layers": 2}, [seed])
    parameters = {name: value + 0.2 * torch.randn(value.shape, generator=draw) for name, value in parameters.items()}
    parameters["embedding"] *= size  # by 30: logits of 100 and more, whose exponentials have no float32
    tokens = torch.randint(0, 60, (1, rows, length + 1), generator=draw)
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    loss = fused.add_gradients(parameters, grads, tokens[0], heads, fused.Scratch())
    for value in parameters.values():
        value.requires_grad_()
    expected = model.losses(parameters, tokens, heads)
    expected.sum().backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, value in parameters.items():
        assert value.grad is not None
        assert torch.allclose(grads[name], value.grad, rtol=1e-3, atol=1e-5 * float(value.grad.abs().max()) + 1e-8), name


def test_a_loss_that_is_not_a_number_stays_so() -> None:
    for name, value in (("embedding", math.nan), ("embedding", math.inf), ("layers.0.qkv", math.nan), ("layers.1.gate_up", math.inf)):
        parameters = model.init_parameters({"vocab": 60, "width": 24, "layers": 2}, [0])
        parameters[name][0, 3] = value
        grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
        tokens = torch.randint(0, 60, (3, 34), generator=torch.Generator().manual_seed(1))
        assert math.isnan(fused.add_gradients(parameters, grads, tokens, 2, fused.Scratch())), (name, value)


def test_buffers_that_were_used_before_do_not_show() -> None:
    draw = torch.Generator().manual_seed(0)
    parameters = model.init_parameters({"vocab": 60, "width": 24, "layers": 2}, [0])
    parameters = {name: value + 0.2 * torch.randn(value.shape, generator=draw) for name, value in parameters.items()}
    scratch, found = fused.Scratch(), []
    for shape in ((7, 151), (3, 34), (7, 151)):
        tokens = torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(1))
        grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
        found.append((fused.add_gradients(parameters, grads, tokens, 2, scratch), grads))
        again = {name: torch.zeros_like(value) for name, value in parameters.items()}
        assert fused.add_gradients(parameters, again, tokens, 2, fused.Scratch()) == found[-1][0]
        assert all(torch.equal(again[name], grads[name]) for name in grads)


def test_bfloat16_products_change_gradients_little() -> None:
    parameters = model.init_parameters({"vocab": 300, "width": 32, "layers": 2}, [0, 1])
    tokens = torch.randint(0, 300, (2, 8, 65), generator=torch.Generator().manual_seed(0))
    grads = []
    for precision in ("float32", "bfloat16"):
        for value in parameters.values():
            value.requires_grad_().grad = torch.zeros_like(value)
        how = How("cpu", is_fused=False, precision=precision, is_compiled=False)
        assert gradients_of(how)(parameters, tokens, 2) == pytest.approx(math.log(300), rel=0.05)
        grads.append(torch.cat([value.grad.flatten() for value in parameters.values() if value.grad is not None]))
    assert 1e-6 < float((grads[0] - grads[1]).norm() / grads[0].norm()) < 0.03


def test_a_core_trains_one_member_at_a_time() -> None:
    assert choose_group_size({**SMALL, "vocab": 300}, "cpu") == 1


def test_attention_sees_the_past_and_not_the_future() -> None:
    parameters = model.init_parameters({"vocab": 50, "width": 16, "layers": 2}, [0])
    for name in parameters:
        if name.endswith(("output", "down")):
            parameters[name] = torch.randn(parameters[name].shape, generator=torch.Generator().manual_seed(1)) * 0.2
    tokens = torch.randint(0, 50, (1, 1, 17), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 0, 9] = (changed[0, 0, 9] + 1) % 50
    every = torch.ones(1, 16, dtype=torch.bool)
    before, after = (token_losses(parameters, one[0], 2, every)[0] for one in (tokens, changed))
    assert torch.equal(before[:8], after[:8])
    assert not torch.allclose(before[12:], after[12:])


def test_a_rerun_gives_the_same_bits_and_other_suites_need_no_training(data: Path, tmp_path: Path) -> None:
    tokenizer = data / "tokenizer.json"
    for name in ("a", "b"):
        (report,) = train_runs([run({"abc": 0.7, "sums": 0.3})], folders(data), tokenizer, [tmp_path / f"{name}.safetensors"])
        assert report["trained_on"] == "cpu, fused, float32"
        evaluate_run(tmp_path / f"{name}.safetensors", tokenizer, suites(data), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    one = evaluate_run(tmp_path / "a.safetensors", tokenizer, {"abc": suites(data)["abc"]}, tmp_path / "c.parquet")
    both = pq.read_table(tmp_path / "a.parquet")
    assert one["abc"] == pytest.approx(sum(both["bits"].to_pylist()[:2]) / sum(both["bytes"].to_pylist()[:2]), rel=1e-9)
    assert both["item"].to_pylist() == [1, 2, 1, 2]


def test_a_member_of_a_group_is_what_it_is_alone(data: Path) -> None:
    runs = [run({"abc": 0.9, "sums": 0.1}), run({"abc": 0.2, "sums": 0.8}, seed=1), run({"abc": 0.0, "sums": 1.0})]
    together, reports = train_group(runs, folders(data), 300)
    for k, one in enumerate(runs):
        alone, (report,) = train_group([one], folders(data), 300)
        assert report["realized_tokens"] == reports[k]["realized_tokens"]
        assert abs(report["final_loss"] - reports[k]["final_loss"]) < 1e-3
        for name, value in alone.items():
            assert torch.allclose(value[0], together[name][k], atol=2e-3), name


def test_a_group_reads_a_source_once_and_each_run_what_it_would_read_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run({"abc": share, "sums": 1 - share}, seed, {"sums": pool}) for share, seed, pool in ((0.9, 0, 500), (0.2, 0, 300), (0.0, 1, 400))]
    reads: list[int] = []
    read = stream._read

    def counted(of: Mapping[str, Any], where: Any, most: int) -> Any:
        reads.append(most)
        return read(of, where, most)

    monkeypatch.setattr(stream, "_read", counted)
    together = stream.streams_of(runs, folders(data))
    assert len(reads) == 3  # abc and sums in the order of seed 0, sums in that of seed 1
    for one, mine in zip(runs, together, strict=True):
        alone = Stream(one, folders(data))
        assert (alone.repeats, alone.realized) == (mine.repeats, mine.realized)
        assert all(np.array_equal(alone.batch(step), mine.batch(step)) for step in range(alone.num_steps))


def test_a_gpu_is_claimed_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks are real, the two GPUs are not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"{tmp_path.name}-{i}"))
    monkeypatch.setattr(throughput, "POLL_SECONDS", 0.01)
    claimed: list[str] = []

    def third() -> None:
        with throughput.claimed() as where:
            claimed.append(where)

    with throughput.claimed("cpu") as asked, throughput.claimed() as first:
        with throughput.claimed() as second:
            assert (asked, first, second) == ("cpu", "cuda:0", "cuda:1")
            waits = threading.Thread(target=third)
            waits.start()
            waits.join(0.2)
            assert claimed == []
        waits.join(10)
    assert claimed == ["cuda:1"]


def test_a_member_that_diverges_is_reported_and_hurts_no_other(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init = model.init_parameters

    def poisoned(shape: Mapping[str, int], seeds: list[int]) -> model.Parameters:
        parameters = init(shape, seeds)
        parameters["layers.0.qkv"][seeds.index(7)] = math.nan
        return parameters

    runs = [run({"abc": 0.5, "sums": 0.5}), run({"abc": 0.5, "sums": 0.5}, seed=7)]
    _, (fine,) = train_group(runs[:1], folders(data), 300)
    monkeypatch.setattr(model, "init_parameters", poisoned)
    _, (first, second) = train_group(runs, folders(data), 300)
    assert second["failed"] == "the loss was not finite from step 0 on"
    assert second["final_loss"] is None
    assert first["failed"] is None
    assert abs(first["final_loss"] - fine["final_loss"]) < 1e-3


def test_a_run_that_ends_worse_than_guessing_has_failed(data: Path, tmp_path: Path) -> None:
    wild = run({"abc": 0.5, "sums": 0.5}, learning_rate=30.0)
    (report,) = train_runs([wild], folders(data), data / "tokenizer.json", [tmp_path / "p.safetensors"])
    assert report["failed"] is not None
    assert report["final_loss"] is None
    assert (tmp_path / "p.safetensors").exists()


def test_a_proxy_learns_what_its_mix_holds(data: Path, tmp_path: Path) -> None:
    scores = []
    for share in (0.9, 0.1):
        mix = run({"abc": share, "sums": 1 - share})
        train_runs([mix], folders(data), data / "tokenizer.json", [tmp_path / "p.safetensors"])
        scores.append(evaluate_run(tmp_path / "p.safetensors", data / "tokenizer.json", suites(data), tmp_path / "s.parquet"))
    assert scores[0]["abc"] < scores[1]["abc"] - 0.05
    assert scores[0]["sums"] > scores[1]["sums"] + 0.05


@settings(max_examples=50, deadline=None)
@given(raw=st.lists(st.floats(0, 1), min_size=2, max_size=5).filter(lambda raw: sum(raw) > 0.1), seed=st.integers(0, 5), other=st.integers(0, 4))
def test_every_stretch_has_its_mix_and_near_mixes_share_most_slots(raw: list[float], seed: int, other: int) -> None:
    weights = {f"s{i}": value / sum(raw) for i, value in enumerate(raw)}
    names, source, draw = slots(weights, 512, seed)
    for stretch in (source, source[128:384]):
        shares = np.bincount(stretch, minlength=len(names)) / len(stretch)
        assert np.abs(shares - [weights[name] for name in names]).max() < 6 / len(stretch)
    assert all(draw[source == s].tolist() == list(range(int((source == s).sum()))) for s in range(len(names)))
    moved = dict(weights)
    first = names[other % len(names)]
    moved[first] += 0.05
    near = slots({name: value / 1.05 for name, value in moved.items()}, 512, seed)[1]
    assert np.mean(near == source) > 0.8


def test_a_proxy_repeats_a_source_as_often_as_the_target_would(data: Path) -> None:
    tokens = {name: Stream(run({name: 1.0, **{o: 0.0 for o in TEXTS if o != name}}, tokens=256), folders(data)).realized[name] for name in TEXTS}
    assert tokens == {"abc": 256, "sums": 256}
    available = {"abc": 10_000, "sums": 2_000}
    pools = pool_tokens(available, 8_000, 4_096)
    assert pools == {"abc": None, "sums": 1_024}
    stream = Stream(run({"abc": 0.5, "sums": 0.5}, pools={"sums": pools["sums"] or 0}), folders(data))
    assert stream.repeats["sums"] == pytest.approx(0.5 * 8_000 / 2_000, rel=0.05)
    seen = np.concatenate([stream.batch(step) for step in range(stream.num_steps)])
    assert len(np.unique(seen, axis=0)) < len(seen)


def test_runs_read_the_same_sequences_of_a_source_in_the_same_order(data: Path) -> None:
    first, second = (Stream(run({"abc": share, "sums": 1 - share}), folders(data)) for share in (0.6, 0.5))
    rows = [np.concatenate([stream.batch(step) for step in range(stream.num_steps)])[stream._source == 0] for stream in (first, second)]
    assert rows[0][: len(rows[1])].tolist() == rows[1].tolist()


def test_a_stream_names_missing_and_tiny_sources(data: Path) -> None:
    with pytest.raises(InputError, match="the mix names abc, web; there are tokens of abc, sums"):
        Stream(run({"abc": 0.5, "web": 0.5}), folders(data))
    with pytest.raises(InputError, match="are too few for one sequence of 8192"):
        Stream(run({"abc": 0.5, "sums": 0.5}, context=8192, batch_tokens=8192, tokens=16384), folders(data))


def test_weights_are_safetensors_and_a_torn_file_is_refused(tmp_path: Path) -> None:
    parameters = model.init_parameters({"vocab": 20, "width": 8, "layers": 1}, [3, 4])
    path = tmp_path / "p.safetensors"
    model.write_weights(path, parameters, 1, {"run": {"x": 1}})
    read, about = model.read_weights(path)
    assert about == {"run": {"x": 1}}
    assert all(torch.equal(read[name][0], parameters[name][1]) for name in parameters)
    assert model.num_parameters({"vocab": 20, "width": 8, "layers": 1}) == sum(value[0].numel() for value in parameters.values())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="is not the weights of a proxy"):
        model.read_weights(path)


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    rates = [learning_rate(SMALL, step, 100) for step in range(100)]
    assert max(rates) == rates[9] == 1e-2
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-3)
    assert rates[9:] == sorted(rates[9:], reverse=True)


CHILD = """
import json, sys
from pathlib import Path
from curate.mix import proxy
proxy.CHECKPOINT_SECONDS = 0.0
run, folders, tokenizer, file, checkpoint = json.loads(sys.argv[1])
print("begun", flush=True)
proxy.train_runs([run], folders, Path(tokenizer), [Path(file)], Path(checkpoint))
"""


def test_a_killed_training_goes_on_to_the_same_bits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, tokenizer, kept = run({"abc": 0.6, "sums": 0.4}, tokens=60 * 256), data / "tokenizer.json", tmp_path / "kept" / "a.pt"
    given = [one, {name: [str(path) for path in paths] for name, paths in folders(data).items()}, str(tokenizer), str(tmp_path / "a"), str(kept)]
    child = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(given)])
    while not kept.exists() and child.poll() is None:
        time.sleep(0.001)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    steps: list[int] = []
    restore = checkpoints.restore

    def watched(*arguments: Any) -> int:
        steps.append(restore(*arguments))
        return steps[-1]

    monkeypatch.setattr(checkpoints, "restore", watched)
    (resumed,) = train_runs([one], folders(data), tokenizer, [tmp_path / "a"], kept)
    (whole,) = train_runs([one], folders(data), tokenizer, [tmp_path / "b"], tmp_path / "other.pt")
    assert 0 < steps[0] < 60
    assert steps[1] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert resumed == whole
    assert list(kept.parent.iterdir()) == []


def test_a_torn_or_foreign_checkpoint_counts_for_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "CHECKPOINT_SECONDS", 0.0)
    one, kept = run({"abc": 0.6, "sums": 0.4}), tmp_path / "a.pt"
    fine, _ = train_group([one], folders(data), 300)
    train_group([run({"abc": 0.5, "sums": 0.5})], folders(data), 300, kept)  # leaves its checkpoint
    foreign = kept.read_bytes()
    for content in (foreign, foreign[:-1000], b"", b"not a checkpoint"):
        kept.write_bytes(content)
        found, _ = train_group([one], folders(data), 300, kept)
        assert all(torch.equal(found[name], fine[name]) for name in fine)


def test_a_run_continues_from_a_stored_proxy(data: Path, tmp_path: Path) -> None:
    tokenizer, first = data / "tokenizer.json", tmp_path / "first.safetensors"
    (before,) = train_runs([run({"abc": 1.0, "sums": 0.0})], folders(data), tokenizer, [first])
    (after,) = train_runs([run({"abc": 1.0, "sums": 0.0}) | {"start": str(first)}], folders(data), tokenizer, [tmp_path / "second.safetensors"])
    assert after["losses"][0] < before["losses"][0] - 1
    assert after["final_loss"] < before["final_loss"]
    with pytest.raises(InputError, match=r"first.safetensors: has another shape"):
        train_group([run({"abc": 1.0, "sums": 0.0}, width=16) | {"start": str(first)}], folders(data), 300)
