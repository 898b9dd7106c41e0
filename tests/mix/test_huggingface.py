"""A proxy in the form of Hugging Face's transformers: the same logits, the same tokens, and nothing fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from curate.errors import InputError
from curate.mix import model
from curate.mix.huggingface import export_proxy
from curate.specs.load import resolved
from curate.specs.mix import Proxy
from curate.tokens.tokenizer import Encoder, train_tokenizer

SHAPE = resolved(Proxy(layers=2, width=48, heads=3, context=64))
TEXT = "five apples and Größe 数学 for all 123"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(train_tokenizer([TEXT] * 3, 290), encoding="utf-8")
    vocab = Encoder.open(tmp_path / "tokenizer.json").vocab_size
    parameters, draw = model.init_parameters({**SHAPE, "vocab": vocab}, [0]), torch.Generator().manual_seed(1)
    parameters = {name: value + 0.2 * torch.randn(value.shape, generator=draw) for name, value in parameters.items()}
    model.write_weights(tmp_path / "proxy.safetensors", parameters, 0, {"run": {"proxy": SHAPE}, "vocab": vocab})
    return tmp_path


def test_transformers_gives_the_same_logits(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers: Any = pytest.importorskip("transformers")
    files = export_proxy(stored / "proxy.safetensors", stored / "out", stored / "tokenizer.json")
    assert sorted(file.name for file in files) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(stored / "out", output_loading_info=True)
    assert not any(loading.values())
    tokenizer = transformers.AutoTokenizer.from_pretrained(stored / "out")
    (tokens,) = Encoder.open(stored / "tokenizer.json").encode([TEXT])
    assert tokenizer(TEXT).input_ids == tokens.tolist()
    assert tokenizer.decode(tokenizer.eos_token_id) == "<|end|>"
    parameters, _ = model.read_weights(stored / "proxy.safetensors")
    given = torch.randint(0, len(tokenizer), (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(given).logits
        ours = model.hidden_states(parameters, given[None], SHAPE["heads"])[0] @ parameters["embedding"][0].t()
    assert expected.abs().max() > 1
    assert torch.allclose(ours.view_as(expected), expected, atol=1e-4)


def test_without_a_tokenizer_the_model_is_written_alone(stored: Path) -> None:
    files = export_proxy(stored / "proxy.safetensors", stored / "out")
    assert sorted(file.name for file in files) == ["config.json", "model.safetensors"]
    assert json.loads((stored / "out" / "config.json").read_text())["eos_token_id"] is None


def test_a_tokenizer_of_another_proxy_is_refused(stored: Path) -> None:
    (stored / "other.json").write_text(train_tokenizer(["a"], 257), encoding="utf-8")
    with pytest.raises(InputError, match=r"other.json: has 257 tokens; the proxy was trained on"):
        export_proxy(stored / "proxy.safetensors", stored / "out", stored / "other.json")
