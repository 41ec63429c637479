"""Conformal intervals, risk control, lengths as distributions, and the published length families."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics import metrics
from symbiosis.routing.model import lengths
from symbiosis.routing.model.calibration import Intervals, spread
from symbiosis.routing.model.forests import Forest
from symbiosis.routing.model.lengths import LengthDistribution, Neighbours, Network
from symbiosis.routing.model.router import Router

LEVEL = 0.9


def graded(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and observed quality of two LLMs, the second noisier, and two domains, the second noisier, too."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(2, size=n)
    predicted = rng.uniform(0.3, 0.7, (n, 2))
    noise = rng.uniform(-1, 1, (n, 2)) * np.array([0.1, 0.2]) * (1 + domain[:, None] * 0.5)
    return predicted, predicted + noise, domain


# ---------------------------------------------------------------- intervals


def test_the_quantile_by_hand() -> None:
    """Of 9 residuals the 9th smallest covers ceil(10 * 0.9) = 9; of 8 none does."""
    observed = np.arange(1.0, 10.0)[:, None] / 10
    nine = Intervals.fit(np.zeros((9, 1)), observed, np.full((9, 1), 2.0), LEVEL)
    assert nine.factor.tolist() == [[0.45]]
    low, high = nine(np.array([[0.2]]), np.array([[1.0]]))
    assert (low.tolist(), high.tolist()) == ([[0.0]], [[0.65]])
    eight = Intervals.fit(np.zeros((8, 1)), observed[:8], np.ones((8, 1)), LEVEL)
    low, high = eight(np.array([[0.2]]), np.array([[1.0]]))
    assert (low.tolist(), high.tolist()) == ([[0.0]], [[1.0]])


def test_intervals_cover_what_they_promise_per_llm_and_per_domain() -> None:
    covered, mondrian = [], []
    for seed in range(60):
        predicted, observed, domain = graded(600, seed)
        one = np.ones_like(predicted)
        fit, new = slice(0, 300), slice(300, 600)
        plain = Intervals.fit(predicted[fit], observed[fit], one[fit], LEVEL)
        low, high = plain(predicted[new], one[new])
        inside = (low <= observed[new]) & (observed[new] <= high)
        covered.append([[inside[domain[new] == group, arm].mean() for group in range(2)] for arm in range(2)])
        grouped = Intervals.fit(predicted[fit], observed[fit], one[fit], LEVEL, domain[fit], 2)
        low, high = grouped(predicted[new], one[new], domain[new])
        inside = (low <= observed[new]) & (observed[new] <= high)
        mondrian.append([[inside[domain[new] == group, arm].mean() for group in range(2)] for arm in range(2)])
    plain_mean, mondrian_mean = np.mean(covered, axis=0), np.mean(mondrian, axis=0)
    error = np.std(mondrian, axis=0) / np.sqrt(len(mondrian))
    np.testing.assert_allclose(plain_mean.mean(axis=1), LEVEL, atol=0.01)
    assert (plain_mean[:, 1] < LEVEL - 0.05).all()  # the noisier domain pays for the other
    assert (mondrian_mean >= LEVEL - 2 * error).all()
    assert (mondrian_mean <= LEVEL + 2 / 150 + 2 * error).all()


def test_intervals_fail_under_shift() -> None:
    """What is calibrated on queries of the quiet domain does not hold for the other: fit again after a shift."""
    predicted, observed, domain = graded(4000, 1)
    one, quiet = np.ones_like(predicted), domain == 0
    intervals = Intervals.fit(predicted[quiet], observed[quiet], one[quiet], LEVEL)
    low, high = intervals(predicted[~quiet], one[~quiet])
    assert metrics.coverage(low, high, observed[~quiet]) < 0.7


def test_normalised_intervals_are_narrow_where_outcomes_are_sure() -> None:
    rng = np.random.default_rng(3)
    predicted = rng.choice([0.02, 0.5], size=(4000, 1))
    observed = (rng.random((4000, 1)) < predicted).astype(float)
    intervals = Intervals.fit(predicted[:2000], observed[:2000], spread(predicted[:2000]), LEVEL)
    low, high = intervals(predicted[2000:], spread(predicted[2000:]))
    width = (high - low)[:, 0]
    assert metrics.coverage(low, high, observed[2000:]) >= LEVEL - 0.02
    assert width[predicted[2000:, 0] == 0.02].max() < width[predicted[2000:, 0] == 0.5].min()


def test_the_spread_grows_with_variance() -> None:
    quality = np.array([0.0, 0.5, 1.2])
    assert (spread(quality) > 0).all()
    assert (spread(quality, 1.0) > spread(quality)).all()


# ---------------------------------------------------------------- risk control


# ---------------------------------------------------------------- lengths


def test_length_quantiles_hold_on_new_queries() -> None:
    rng = np.random.default_rng(4)
    sigma = np.array([0.2, 0.4, 0.6, 0.8])
    expected = rng.uniform(50, 200, (8000, 4))
    observed = expected * np.exp(sigma * rng.standard_normal((8000, 4)) - 0.1)
    lengths = LengthDistribution.fit(expected[:4000], observed[:4000])
    np.testing.assert_allclose(lengths.sigma, sigma, rtol=0.05)
    np.testing.assert_allclose(lengths.centre, -0.1, atol=0.05)
    new = expected[4000:]
    for share in (0.5, 0.9):
        below = (observed[4000:] <= lengths.quantile(new, share)).mean(axis=0)
        np.testing.assert_allclose(below, share, atol=0.03)
    assert (lengths.quantile(new, 1 - 1e-12) <= lengths.longest).all()


# ---------------------------------------------------------------- length families


def test_neighbours_equal_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    known, new, target = rng.standard_normal((40, 3)), rng.standard_normal((9, 3)), rng.random(40)
    near = np.argsort(((new[:, None] - known) ** 2).sum(axis=2), axis=1)[:, :5]
    model = Neighbours(known, target, np.array([5]))
    np.testing.assert_allclose(model.predict(new), target[near].mean(axis=1))


def test_the_network_learns_and_stays_small() -> None:
    rng = np.random.default_rng(6)
    features = rng.standard_normal((400, 5)) * 3 + 1
    target = 4 + np.abs(features[:, 0])
    network = Network.fit(features, target, seed=1)
    assert ((network.predict(features) - target) ** 2).mean() < 0.5 * target.var()
    again = Network.fit(features, target, seed=1)
    for field in fields(Network):
        assert getattr(network, field.name).tobytes() == getattr(again, field.name).tobytes()
    wide = Network.fit(rng.standard_normal((50, 768)), rng.random(50), seed=1)
    assert sum(getattr(wide, field.name).nbytes for field in fields(Network)) < 2_000_000


def test_the_network_does_not_blow_up_rounding() -> None:
    rng = np.random.default_rng(8)
    features = rng.standard_normal((200, 3))
    features[:, 1] = 1 + rng.choice([-1.1e-16, 0, 2.2e-16], 200)  # a sum of chances
    network = Network.fit(features, features[:, 0], seed=1)
    asked = features[:1].copy()
    asked[0, 1] = 1 + 2.2e-16
    other = asked.copy()
    other[0, 1] = 1 - 1.1e-16
    np.testing.assert_allclose(network.predict(asked), network.predict(other), rtol=1e-9)


@pytest.mark.parametrize(("kind", "best"), [("steps", "forest"), ("cloud", "neighbours"), ("plane", "mlp")])
def test_the_family_that_validates_best_is_chosen(kind: str, best: str) -> None:
    rng = np.random.default_rng(7)
    if kind == "cloud":  # three queries each at many places, each place with a level of its own
        centre = np.arange(400) % 133
        features = rng.standard_normal((133, 6))[centre] + 0.01 * rng.standard_normal((400, 6))
        target = rng.random(133)[centre] * 5
    else:
        features = rng.standard_normal((400, 6))
        target = features @ np.ones(6) if kind == "plane" else 4.0 * (features[:, 0] > 0.3)
    folds = np.arange(400) % 4
    chosen = lengths.choose(features, target, folds, 30, 5, 2, seed=2)
    assert chosen.family == best == min(chosen.errors, key=lambda name: chosen.errors[name])
    assert lengths.family_of(chosen.model) == best
    assert ((chosen.model.predict(features) - target) ** 2).mean() < target.var()
    assert chosen.model.level == pytest.approx(target.mean(), abs=0.6 * target.std())
    # Errors are of models that did not see the validation queries, and so are the predictions held out.
    for fold in (0, 3):
        own, other = folds == fold, np.where(folds == fold, target + 100, target)
        alone = lengths.fit_family(best, features[~own], other[~own], 30, 5, 2, 2).predict(features[own])
        if fold == 0:
            assert ((alone - target[own]) ** 2).mean() == pytest.approx(chosen.errors[best])
        if best != "forest":
            np.testing.assert_allclose(chosen.held_out[own], alone)
    if best == "forest":
        np.testing.assert_array_equal(chosen.held_out, Forest.fit(features, target, 30, 5, 2)[1])


def test_brier_and_coverage_by_hand() -> None:
    assert metrics.brier(np.array([0.5, 1.0]), np.array([1.0, 1.0])) == 0.125
    assert metrics.coverage(np.array([0.0, 0.4, 0.4]), np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.3, 0.45])) == (
        pytest.approx(2 / 3)
    )


# ---------------------------------------------------------------- kept with the router


def test_ranges_are_trained_kept_and_follow_the_llms(tmp_path: Path) -> None:
    outcomes, vectors, domain = draw(900, seed=8)
    rows = np.arange(600)
    names = [DOMAINS[d] for d in domain]
    router, _ = train(Split(outcomes.take(rows), vectors[:600], names[:600], names[:600]), LLMS, train_params())
    assert router.ranges is not None
    new = outcomes.take(np.arange(600, 900))
    predictions = router.predict(router.feature_map(vectors[600:]), new.prompt_tokens)
    low, high = router.ranges.quality(predictions.quality)
    error = np.sqrt(0.1 * 0.9 * (1 / 300 + 1 / 600))
    assert (((low <= new.quality) & (new.quality <= high)).mean(axis=0) >= LEVEL - 3 * error).all()
    below = new.response_tokens <= router.ranges.lengths.quantile(predictions.response_tokens, 0.9)
    np.testing.assert_allclose(below.mean(axis=0), 0.9, atol=4 * error)

    router.save(tmp_path / "router")
    kept = Router.load(tmp_path / "router").ranges
    assert kept is not None
    for name, tensor in router.ranges.tensors().items():
        np.testing.assert_array_equal(kept.tensors()[name], tensor)
    more = router.with_llm("new", 1e-6, 1e-6, 0.1, 50.0, 1.0).ranges
    assert more is not None
    for name, tensor in router.ranges.tensors().items():
        np.testing.assert_array_equal(more.tensors()[name][:4], tensor)
    low, high = more.quality(np.full((1, 5), 0.5))
    assert (low[0, 4], high[0, 4]) == (0.0, 1.0)
    two = router.take([2, 0]).ranges
    assert two is not None
    np.testing.assert_array_equal(two.lengths.sigma, router.ranges.lengths.sigma[[2, 0]])
