"""Latent classes are found where they were planted, and only there."""

import numpy as np
import pytest
from routing_world import LLMS

from symbiosis.routing.baselines.base import Sample, Training
from symbiosis.routing.baselines.fixed import KnownClass, Oracle
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.latent_classes import LatentClasses, choose_classes

RATES = np.array([[0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.2, 0.8], [0.95, 0.9, 0.05, 0.1]])


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(RATES), size=n)
    return (rng.random((n, RATES.shape[1])) < RATES[kind]).astype(np.float64), kind


def test_planted_classes_are_found() -> None:
    quality, kind = planted(3000, 0)
    model = LatentClasses.fit(quality, 3, 1)
    order = [int(np.abs(model.rate - rate).sum(axis=1).argmin()) for rate in RATES]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(model.rate[order], RATES, atol=0.06)
    np.testing.assert_allclose(model.share, 1 / 3, atol=0.05)
    assert (model.members(quality)[:, order].argmax(axis=1) == kind).mean() > 0.85


def test_held_out_likelihood_wants_neither_fewer_nor_many_more_classes() -> None:
    chosen, tried = choose_classes(planted(3000, 0)[0], 0, (1, 2, 3, 8, 16, 24))
    assert chosen in (3, 8)
    assert tried[3] > tried[2] > tried[1]
    alone = np.random.default_rng(0).random((1000, 4)) < 0.6
    assert choose_classes(alone.astype(float), 0)[0] == 1


def test_one_class_is_the_mean_and_its_likelihood_by_hand() -> None:
    quality = np.array([[1.0], [1.0], [1.0], [0.0]])
    model = LatentClasses.fit(quality, 1, 0)
    np.testing.assert_allclose(model.rate, [[0.75]])  # smoothing towards the mean leaves the mean
    assert model.log_likelihood(quality) == pytest.approx((3 * np.log(0.75) + np.log(0.25)) / 4)


def test_unknown_answers_say_nothing() -> None:
    quality, _ = planted(2000, 0)
    hidden = np.where(np.random.default_rng(1).random(quality.shape) < 0.3, np.nan, quality)
    model = LatentClasses.fit(hidden, 3, 1)
    np.testing.assert_allclose(np.sort(model.rate[:, 0]), np.sort(RATES[:, 0]), atol=0.1)
    np.testing.assert_allclose(model.members(np.full((1, 4), np.nan))[0], model.share)


def test_the_ceiling_is_what_knowing_the_class_is_worth() -> None:
    """With equal costs, the best LLM of each class; the oracle is lucky beyond that."""

    def training(n: int, seed: int) -> Training:
        quality, _ = planted(n, seed)
        tokens = np.full(quality.shape, 100.0)
        outcomes = Outcomes(np.arange(n), quality, tokens, tokens, np.full(quality.shape, 0.001))
        sample = Sample(np.zeros((n, 2)), tokens, [""] * n, [""] * n)
        return Training(sample, outcomes, LLMS, seed)

    known, test = training(3000, 0), training(20_000, 9)
    ceiling = KnownClass(known)
    ceiling.fit()
    top = ceiling.play(test.sample, test.outcomes).quality.mean(axis=1).max()
    assert top == pytest.approx(RATES.max(axis=1).mean(), abs=0.01)
    oracle = Oracle(known)
    oracle.fit()
    assert oracle.play(test.sample, test.outcomes).quality.mean(axis=1).max() > top + 0.03
    assert ceiling.notes["classes"] >= 3
