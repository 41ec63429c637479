"""The router's baselines: by hand, their place between the bounds, what they may look at, and tuning."""

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw

from symbiosis.routing import baselines
from symbiosis.routing.baselines.base import Baseline, BaselineParams, Predictive, Sample, Training, tune
from symbiosis.routing.baselines.fixed import Oracle, Random, cheapest_of_best
from symbiosis.routing.baselines.means import LabelMeans
from symbiosis.routing.baselines.neighbours import NearestNeighbours
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.curves import TRADE_OFFS, Curve, summarise
from symbiosis.routing.outcomes import Outcomes

SETTINGS: dict[str, dict[str, Any]] = {
    "k_means": {"clusters": 4},
    "nearest_neighbours": {"neighbours": 30},
    "ridge": {"penalty": 3.0},
}
"""One setting that suits the small world; the others have nothing to set."""
PERMUTED = [2, 0, 3, 1]


def sample_of(outcomes: Outcomes, vectors: np.ndarray, domain: np.ndarray) -> Sample:
    names = [DOMAINS[d] for d in domain]
    return Sample(vectors, outcomes.prompt_tokens, names, [f"{name} / {name}" for name in names])


def permuted(outcomes: Outcomes, arms: list[int]) -> Outcomes:
    names = ("quality", "prompt_tokens", "response_tokens", "cost_usd")
    return replace(outcomes, **{name: getattr(outcomes, name)[:, arms] for name in names})


@cache
def world(n: int = 400) -> tuple[Training, Sample, Outcomes]:
    """Training queries and 300 new ones."""
    outcomes, vectors, domain = draw(n + 300, seed=5)
    sample = sample_of(outcomes, vectors, domain)
    old, new = np.arange(n), np.arange(n, n + 300)
    return Training(sample.take(old), outcomes.take(old), LLMS, seed=3), sample.take(new), outcomes.take(new)


@cache
def fitted(name: str) -> Baseline:
    """The baseline with one setting, fitted to the small world."""
    return fit(name, world()[0])


def fit(name: str, training: Training) -> Baseline:
    baseline = BASELINES[name](training)
    baseline.fit(**SETTINGS.get(name, {}))
    return baseline


@cache
def played(name: str) -> Curve:
    return fitted(name).play(*world()[1:])


def aiq(curve: Curve) -> float:
    training, _, outcomes = world()
    return summarise(curve.points(), training.reference.curve(outcomes).points()).aiq


# ---------------------------------------------------------------- all of them


def test_every_baseline_is_registered() -> None:
    found = set()
    for info in pkgutil.iter_modules(baselines.__path__):
        module = importlib.import_module(f"{baselines.__name__}.{info.name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Baseline) and kind.__module__ == module.__name__:
                found |= set() if kind.__abstractmethods__ or kind.__name__.startswith("_") else {kind}
    assert set(BASELINES.values()) == found - {Baseline, Predictive}


@pytest.mark.parametrize("name", BASELINES)
def test_settings_are_few_and_known(name: str) -> None:
    settings = list(BASELINES[name].Params().settings())
    assert 1 <= len(settings) <= 6
    assert set(settings[0]) == set(SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", BASELINES)
def test_place_between_the_bounds(name: str) -> None:
    """Every curve lies between the cheapest LLM and the oracle, and all that learn lie above chance."""
    curve = played(name)
    value = aiq(curve)
    assert aiq(played("cheapest")) <= value <= aiq(played("oracle"))
    if name not in ("random", "cheapest"):
        assert value > aiq(played("random"))
    assert curve.quality.shape == curve.cost.shape == (len(curve.cost), 300)
    assert np.isfinite(curve.quality).all()
    assert (curve.cost >= world()[2].cost_usd.min(axis=1) - 1e-12).all()


KNOWING = [n for n, kind in BASELINES.items() if n not in ("random", "cheapest", "best_single", "zero", "global_mean")]


@pytest.mark.parametrize("name", KNOWING)
def test_who_looks_at_queries_beats_who_does_not(name: str) -> None:
    """In a world of three domains with an expert each, knowing the query pays."""
    assert aiq(played(name)) > aiq(played("zero")) + 0.02


@pytest.mark.parametrize("name", BASELINES)
def test_fitting_twice_gives_the_same(name: str) -> None:
    training, sample, outcomes = world()
    again = fit(name, Training(training.sample, training.outcomes, training.llms, training.seed))
    curve = again.play(sample, outcomes)
    np.testing.assert_array_equal(curve.quality, played(name).quality)
    np.testing.assert_array_equal(curve.cost, played(name).cost)


@pytest.mark.parametrize("name", BASELINES)
def test_a_second_fit_forgets_the_first(name: str) -> None:
    """Tuning fits one object with many settings."""
    training, sample, outcomes = world()
    baseline = BASELINES[name](training)
    for setting in [*list(BASELINES[name].Params().settings())[-1:], SETTINGS.get(name, {})]:
        baseline.fit(**setting)
    np.testing.assert_array_equal(baseline.play(sample, outcomes).cost, played(name).cost)


@pytest.mark.parametrize("name", BASELINES)
def test_the_order_of_the_llms_does_not_matter(name: str) -> None:
    """With the LLMs in another order the same LLMs are called, a few near ties aside."""
    training, sample, outcomes = world()
    other = Training(
        replace(training.sample, prompt_tokens=training.sample.prompt_tokens[:, PERMUTED]),
        permuted(training.outcomes, PERMUTED),
        training.llms.take(PERMUTED),
        training.seed,
    )
    moved = replace(sample, prompt_tokens=sample.prompt_tokens[:, PERMUTED])
    curve = fit(name, other).play(moved, permuted(outcomes, PERMUTED))
    if name == "zero":  # its points are the LLMs
        curve = Curve(curve.quality[np.argsort(PERMUTED)], curve.cost[np.argsort(PERMUTED)])
    assert np.isclose(curve.cost, played(name).cost, rtol=1e-9).mean() > 0.99


@pytest.mark.parametrize("name", [n for n, kind in BASELINES.items() if not kind.told_outcomes])
def test_held_out_quality_changes_no_choice_and_teaches_nothing(name: str) -> None:
    _, sample, outcomes = world()
    turned = fitted(name).play(sample, replace(outcomes, quality=1 - outcomes.quality))
    np.testing.assert_array_equal(turned.cost, played(name).cost)
    np.testing.assert_allclose(turned.quality, 1 - played(name).quality)
    np.testing.assert_array_equal(fitted(name).play(sample, outcomes).quality, played(name).quality)


@pytest.mark.parametrize("name", [n for n, kind in BASELINES.items() if not kind.told_labels])
def test_test_labels_are_not_read(name: str) -> None:
    _, sample, outcomes = world()
    untold = replace(sample, domains=["?"] * len(sample), subdomains=["?"] * len(sample))
    np.testing.assert_array_equal(fitted(name).play(untold, outcomes).cost, played(name).cost)


@pytest.mark.parametrize("name", [n for n, kind in BASELINES.items() if issubclass(kind, Predictive)])
def test_predictions(name: str) -> None:
    """Of every LLM for every query; what is played is chosen from them alone."""
    _, sample, outcomes = world()
    baseline = fitted(name)
    assert isinstance(baseline, Predictive)
    quality, cost = baseline.predict(sample)
    assert quality.shape == cost.shape == outcomes.quality.shape
    assert np.isfinite(quality).all()
    assert (cost >= 0).all()
    np.testing.assert_array_equal(played(name).quality, Curve.of(baseline.choices(sample), outcomes).quality)
    assert len(played(name).quality) == len(TRADE_OFFS)
    # Predicted cost is of the right size: within a factor of two of what each LLM costs.
    assert (np.abs(np.log(cost.mean(axis=0) / outcomes.cost_usd.mean(axis=0))) < np.log(2)).all()


# ---------------------------------------------------------------- tuning


class Noted(NearestNeighbours):
    """Remembers which outcomes it was fitted to and played on."""

    fits: list[np.ndarray] = []  # noqa: RUF012
    plays: list[np.ndarray] = []  # noqa: RUF012

    def fit(self, neighbours: int) -> None:
        self.fits.append(self.training.outcomes.queries)
        super().fit(neighbours)

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        self.plays.append(outcomes.queries)
        return super().play(sample, outcomes)


class Neighbours(BaselineParams):
    neighbours: tuple[int, ...] = (1, 30)


def test_tuning_cross_validates_and_takes_the_best() -> None:
    training = world()[0]
    Noted.fits.clear()
    Noted.plays.clear()
    tuned = tune(Noted, Neighbours(), training)
    everyone = set(training.outcomes.queries.tolist())
    assert len(Noted.fits) == 2 * 5 + 1
    assert set(Noted.fits[-1].tolist()) == everyone
    for train, test in zip(Noted.fits, Noted.plays, strict=False):
        assert set(train.tolist()) | set(test.tolist()) == everyone
        assert not set(train.tolist()) & set(test.tolist())
    assert sorted(np.concatenate(Noted.plays).tolist()) == sorted([*everyone] * 2)
    # One neighbour is noise; thirty tell the domain.
    assert tuned.setting == {"neighbours": 30}
    assert [trial["setting"] for trial in tuned.tried] == [{"neighbours": 1}, {"neighbours": 30}]
    assert tuned.tried[1]["aiq"] > tuned.tried[0]["aiq"]
    assert isinstance(tuned.baseline, Noted)
    assert tuned.baseline.neighbours == 30


def test_nothing_is_tried_where_there_is_no_choice() -> None:
    tuned = tune(Random, Random.Params(), world()[0])
    assert (tuned.setting, tuned.tried) == ({}, [])


# ---------------------------------------------------------------- one by one


def test_means_over_labels_by_hand() -> None:
    quality = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    outcomes = Outcomes(np.arange(3), quality, quality, quality, quality * 2)
    means, cost = LabelMeans(outcomes, ["a", "a", "b"])(["b", "a", "new"])
    np.testing.assert_allclose(means, [[1.0, 1.0], [0.5, 0.0], [2 / 3, 1 / 3]])
    np.testing.assert_allclose(cost, 2 * means)


def test_neighbours_by_hand() -> None:
    angles = np.deg2rad([0, 10, 20, 90])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    quality = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    outcomes = Outcomes(np.arange(4), quality, quality, quality, quality)
    line = NearestNeighbours(Training(Sample(vectors, quality, [""] * 4, [""] * 4), outcomes, LLMS.take([0, 1]), 0))
    new = Sample(np.array([[1.0, 0.0], [0.0, 1.0]]), quality[:2], [""] * 2, [""] * 2)
    line.fit(2)
    np.testing.assert_allclose(line.predict(new)[0], [[0.5, 0], [0.5, 1]])
    line.fit(99)
    np.testing.assert_allclose(line.predict(new)[0], np.tile(quality.mean(axis=0), (2, 1)))


def test_the_oracle_takes_the_cheapest_of_the_best() -> None:
    quality = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.2, 0.9, 1.0]])
    cost = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    outcomes = Outcomes(np.arange(3), quality, cost, cost, cost)
    assert cheapest_of_best(outcomes).tolist() == [1, 2, 2]
    sample = Sample(np.eye(3), cost, [""] * 3, [""] * 3)
    curve = Oracle(Training(sample, outcomes, LLMS.take([0, 1, 2]), 0)).play(sample, outcomes)
    # Willing to pay anything it takes those, willing to pay nothing the cheapest of all.
    np.testing.assert_array_equal(curve.quality[-1], [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(curve.cost[-1], [2.0, 1.0, 3.0])
    np.testing.assert_array_equal(curve.cost[0], [1.0, 1.0, 1.0])


def test_fixed_choices_by_hand() -> None:
    outcomes = world()[2]
    np.testing.assert_allclose(played("random").quality[0], outcomes.quality.mean(axis=1))
    np.testing.assert_array_equal(played("zero").cost, outcomes.cost_usd.T)
    np.testing.assert_array_equal(played("cheapest").cost[0], outcomes.cost_usd[:, 3])
    np.testing.assert_array_equal(played("best_single").cost[0], outcomes.cost_usd[:, 2])


def test_costs_are_learned_from_the_text() -> None:
    """Each domain has its own length of answers, which the embedding tells."""
    training, sample, outcomes = world()
    error = np.abs(training.costs(sample.embeddings, sample.prompt_tokens) - outcomes.cost_usd).mean(axis=0)
    guess = np.abs(training.outcomes.cost_usd.mean(axis=0) - outcomes.cost_usd).mean(axis=0)
    assert (error < 0.75 * guess).all()
