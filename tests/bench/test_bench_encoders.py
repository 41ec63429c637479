"""The comparison of encoders: what it counts, and what it prints."""

import numpy as np
import pytest

from bench import encoders
from bench.encoder_quality import FOLDS, RESEEDED, TODAY, folds_of, judge
from symbiosis.core.params import read_document, validate_block
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.model.params import RouterTrainParams

QUERIES = 150


@pytest.fixture(scope="module")
def world() -> tuple[Split, list[str], Llms]:
    """Two LLMs, of which one is good at what the first number of a vector says, at one price."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((QUERIES, 8))
    vectors[:, 0] = np.where(np.arange(QUERIES) % 2, 3, -3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    good = vectors[:, 0] > 0
    tokens = np.full((QUERIES, 2), 100.0)
    quality = np.column_stack([good, ~good]).astype(float)
    cost = np.broadcast_to([1e-3, 2e-3], (QUERIES, 2)).copy()
    outcomes = Outcomes(np.arange(QUERIES), quality, tokens, tokens, cost)
    llms = Llms(("one", "two"), *(np.array(pair) for pair in ((1.0, 2.0), (9.0, 18.0), (0.1, 0.1), (50.0, 50.0))))
    names = ["all"] * QUERIES
    return Split(outcomes, vectors.astype(np.float32), names, names), [f"text {n}" for n in range(QUERIES)], llms


def test_equal_texts_share_a_fold() -> None:
    texts = [f"Text {number % 20}" for number in range(60)] + [f"text  {number}" for number in range(20)]
    folds = folds_of(texts, 3)
    assert (folds.reshape(4, 20) == folds[:20]).all()
    assert np.bincount(folds[:20]).tolist() == [4] * FOLDS
    assert not np.array_equal(folds, folds_of(texts, 4))


def test_vectors_that_say_nothing_route_worse_and_the_same_vectors_alike(world: tuple[Split, list[str], Llms]) -> None:
    whole, texts, llms = world
    params = validate_block(read_document(), "router_train", RouterTrainParams)
    params = params.model_copy(update={"predictor": "linear", "tags": "none", "dimension": 4})
    noise = np.random.default_rng(1).standard_normal(whole.embeddings.shape).astype(np.float32)
    given = {"same": lambda rows: whole.embeddings, "noise": lambda rows: noise}
    rows = judge(whole, texts, llms, given, params, seeds=2)
    assert list(rows) == [TODAY, RESEEDED, "same", "noise"]
    assert rows["same"] == rows[TODAY]
    assert rows["same"].flips == rows["same"].swapped_flips == 0
    assert rows["noise"].high < 0
    assert rows["noise"].swapped_high < 0
    assert rows["noise"].flips > 0
    assert len(rows["noise"].gains) == 2


def test_times_are_counted_in_turns() -> None:
    calls: list[str] = []
    found = encoders.timed({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 8  # five rounds warm up
    assert set(found) == {"a", "b"}
    assert set(found["a"]) == {"wall_ms", "p99_ms", "cpu_ms"}


def test_texts_have_the_words_that_are_asked_for() -> None:
    assert [len(encoders.text_of(words).split()) for words in encoders.WORDS] == list(encoders.WORDS)
