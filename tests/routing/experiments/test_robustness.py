"""How often a method changes its mind."""

import numpy as np
import pytest
from routing_world import draw

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.experiments.robustness import flip_rates, sample_of
from symbiosis.routing.queries.perturbations import INVISIBLE, PERTURBATIONS


def part(n: int) -> Split:
    outcomes, vectors, _ = draw(n, 0)
    return Split(outcomes, vectors, [""] * n, [""] * n)


def by_length(asked: Split) -> np.ndarray:
    """Trade-off 0 always asks the first LLM; trade-off 1 asks the second if the text has more than five letters."""
    return np.stack([np.zeros(len(asked), dtype=int), (asked.embeddings[:, 0] > 5).astype(int)])


def test_flips_are_counted_at_the_operating_point() -> None:
    texts = ["aaaa?", "bbbbbbbbb"]
    encode = lambda forms: np.array([[float(len(text))] for text in forms])  # noqa: E731
    found = flip_rates({"router": by_length, "other": by_length}, part(2), texts, encode, 1)
    assert found["queries"] == 2
    router = found["methods"]["router"]
    # The first text has five letters: one more sends it on; without its question mark, or in capitals, it stays.
    assert router["flips"]["trailing_space"] == 0.5
    assert router["flips"]["upper_case"] == router["flips"]["end_mark"] == 0.0
    assert router["invisible"] == pytest.approx(np.mean([router["flips"][name] for name in INVISIBLE]))
    assert found["methods"]["other"] == router
    at_zero = flip_rates({"router": by_length}, part(2), texts, encode, 0)["methods"]["router"]
    assert set(at_zero["flips"]) == set(PERTURBATIONS)
    assert at_zero["mean"] == at_zero["quality_change"] == at_zero["cost_change"] == 0.0


def test_a_sample_holds_each_query_once() -> None:
    rows = sample_of(part(30), 10, 1)
    assert len(set(rows.tolist())) == 10
    np.testing.assert_array_equal(rows, np.sort(rows))
    assert len(sample_of(part(5), 10, 1)) == 5
