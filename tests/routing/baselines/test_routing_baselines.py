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
from symbiosis.routing.baselines import bandits
from symbiosis.routing.baselines.bandits import Bandit, LinUCB, MetaLLM, Thompson
from symbiosis.routing.baselines.base import Baseline, BaselineParams, Predictive, Sample, Training
from symbiosis.routing.baselines.cascades import Cascade, Cascading, crossed_scores, pool
from symbiosis.routing.baselines.classifiers import weak_and_strong
from symbiosis.routing.baselines.fixed import Oracle, Random, cheapest_of_best
from symbiosis.routing.baselines.lookups import LabelMeans, NearestNeighbours
from symbiosis.routing.baselines.optimisation import BUDGETS, assign
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.baselines.tuning import tune
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, summarise
from symbiosis.routing.model.linear_heads import LinearHeads

SETTINGS: dict[str, dict[str, Any]] = {
    "k_means": {"clusters": 4},
    "nearest_neighbours": {"neighbours": 30},
    "ridge": {"penalty": 3.0},
    "random_forest": {"minimum_leaf": 20},
    "mlp": {"decay": 0.3},
    "forc": {"decay": 0.3},
    "embed_llm": {"decay": 0.3},
    "irt": {"decay": 0.3},
    "route_llm_logistic": {"inverse_penalty": 1.0},
    "route_llm_factorisation": {"decay": 0.3},
    "zooter": {"decay": 1.0, "own": 0.3},
    "frugal_gpt": {"inverse_penalty": 0.1},
    "auto_mix": {"inverse_penalty": 0.1},
    "opt_llm": {"penalty": 30.0, "caution": 0.0},
    "lin_ucb": {"penalty": 30.0, "exploration": 0.3},
    "thompson": {"penalty": 30.0, "exploration": 0.3},
    "meta_llm": {"penalty": 30.0, "exploration": 0.3},
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
def test_fitting_again_gives_the_same(name: str) -> None:
    """To the last bit, from new training data, and with another setting before: tuning fits one object with many."""
    training, sample, outcomes = world()
    baseline = BASELINES[name](Training(training.sample, training.outcomes, training.llms, training.seed))
    for setting in [*list(BASELINES[name].Params().settings())[-1:], SETTINGS.get(name, {})]:
        baseline.fit(**setting)
    curve = baseline.play(sample, outcomes)
    np.testing.assert_array_equal(curve.quality, played(name).quality)
    np.testing.assert_array_equal(curve.cost, played(name).cost)


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
    assert len(played(name).quality) == (BUDGETS if name == "opt_llm" else len(TRADE_OFFS))
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


# ---------------------------------------------------------------- cascades


def cascading(name: str) -> Cascading:
    baseline = fitted(name)
    assert isinstance(baseline, Cascading)
    return baseline


@pytest.mark.parametrize("name", ["frugal_gpt", "auto_mix"])
def test_cascades_never_look_at_answers_that_they_did_not_buy(name: str) -> None:
    _, sample, outcomes = world()
    baseline = cascading(name)
    assert len({len(cascade.arms) for cascade in baseline.cascades} - {1}) >= 1
    for cascade in set(baseline.cascades):
        quality, cost, called = cascade.play(baseline.scorer, sample, outcomes)
        hidden = {
            part: np.where(called, getattr(outcomes, part), np.nan)
            for part in ("quality", "response_tokens", "cost_usd")
        }
        again = cascade.play(baseline.scorer, sample, replace(outcomes, **hidden))
        np.testing.assert_array_equal(again[0], quality)
        np.testing.assert_array_equal(again[1], cost)
        np.testing.assert_array_equal(again[2], called)


def test_cascades_pay_for_every_call() -> None:
    _, sample, outcomes = world()
    baseline = cascading("frugal_gpt")
    cascade = Cascade((3, 0, 2), (0.6, 0.6))
    quality, cost, called = cascade.play(baseline.scorer, sample, outcomes)
    np.testing.assert_allclose(cost, np.where(called, outcomes.cost_usd, 0).sum(axis=1))
    first = baseline.scorer(sample, 3, outcomes.response_tokens[:, 3])
    second = baseline.scorer(sample, 0, outcomes.response_tokens[:, 0])
    assert called[:, 3].all()
    np.testing.assert_array_equal(called[:, 0], first < 0.6)
    np.testing.assert_array_equal(called[:, 2], (first < 0.6) & (second < 0.6))
    last = np.where(called[:, 2], 2, np.where(called[:, 0], 0, 3))
    np.testing.assert_array_equal(quality, outcomes.quality[np.arange(300), last])
    assert 0 < called[:, 2].sum() < called[:, 0].sum() < 300


def test_a_self_check_is_paid_for() -> None:
    _, sample, outcomes = world()
    scorer = cascading("auto_mix").scorer
    bare, checked = (Cascade((3, 2), (0.5,), checks).play(scorer, sample, outcomes) for checks in (False, True))
    np.testing.assert_array_equal(bare[0], checked[0])
    read = outcomes.prompt_tokens[:, 3] + outcomes.response_tokens[:, 3]
    np.testing.assert_allclose(checked[1] - bare[1], (read * 0.1 + 10 * 0.2) / 1e6)


def test_frugal_gpt_finds_the_best_cascade_by_the_means_it_would_get() -> None:
    """Brute force: play every chosen cascade on the training queries with the held-out scores."""
    training = world()[0]
    baseline = cascading("frugal_gpt")
    scores = crossed_scores(training, SETTINGS["frugal_gpt"]["inverse_penalty"])

    def look_up(sample: Sample, arm: int, tokens: np.ndarray) -> np.ndarray:
        rows = [place[key] for key in map(bytes, sample.embeddings)]
        return scores[rows, arm]

    place = {bytes(row): number for number, row in enumerate(training.sample.embeddings)}
    look_up.training = training  # type: ignore[attr-defined]

    def worth(cascade: Cascade, trade_off: float) -> float:
        quality, cost, _ = cascade.play(look_up, training.sample, training.outcomes)  # type: ignore[arg-type]
        return trade_off * quality.mean() - cost.mean() / training.cost_scale

    others = [Cascade((arm,), ()) for arm in range(4)] + [Cascade((3, 2), (0.7,)), Cascade((3, 0, 2), (0.7, 0.7))]
    for point in range(20, 60, 8):
        best = worth(baseline.cascades[point], TRADE_OFFS[point])
        assert all(best >= worth(other, TRADE_OFFS[point]) - 1e-9 for other in others)


def test_cascades_are_made_of_llms_near_the_hull() -> None:
    quality, cost = np.array([0.9, 0.2, 0.3, 0.3, 0.6]), np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    # Corners (1, 0.2), (3, 0.6) and (5, 0.9); below it by 0.1 at cost 2, and by 0.45 at cost 4.
    assert pool(quality, cost, 3) == [1, 4, 0]
    assert pool(quality, cost, 4) == [1, 3, 4, 0]
    assert pool(quality, cost, 9) == [1, 3, 4, 2, 0]


def test_scores_of_training_answers_come_from_other_folds() -> None:
    """Turning one fold's outcomes round does not change that fold's scores."""
    training = world()[0]
    own = training.folds[0][1]
    quality = training.outcomes.quality.copy()
    quality[own] = 1 - quality[own]
    turned = Training(training.sample, replace(training.outcomes, quality=quality), training.llms, training.seed)
    before, after = crossed_scores(training, 0.1), crossed_scores(turned, 0.1)
    np.testing.assert_array_equal(before[own], after[own])
    assert not np.allclose(before, after)


def test_the_pair_is_the_best_llm_and_whom_it_is_best_mixed_with() -> None:
    quality = np.array([[0.1, 0.7, 0.5, 0.9]])
    outcomes = Outcomes(np.arange(1), quality, quality, quality, np.array([[1.0, 2.0, 3.0, 10.0]]))
    sample = Sample(np.ones((1, 1)), quality, [""], [""])
    assert weak_and_strong(Training(sample, outcomes, LLMS, 0)) == (1, 3)


# ---------------------------------------------------------------- set-level optimisation


def test_assignment_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        quality, cost = rng.random((4, 3)), rng.random((4, 3))
        every = np.stack(np.meshgrid(*[range(3)] * 4), axis=-1).reshape(-1, 4)
        rows = np.arange(4)
        totals, bills = quality[rows, every].sum(axis=1), cost[rows, every].sum(axis=1)
        for budget in (cost.min(axis=1).sum(), 1.5, 9.0):
            if budget < cost.min(axis=1).sum():
                continue
            chosen = assign(quality, cost, budget)
            best = totals[bills <= budget * (1 + 1e-9)].max()
            assert cost[rows, chosen].sum() <= budget * (1 + 1e-6)
            assert quality[rows, chosen].sum() > best - 1  # at most one query misses its better LLM
        assert (assign(quality, cost, 99.0) == quality.argmax(axis=1)).all()
        assert (assign(quality, cost, cost.min(axis=1).sum()) == cost.argmin(axis=1)).all()


# ---------------------------------------------------------------- bandits


@pytest.mark.parametrize("kind", [LinUCB, Thompson, MetaLLM])
def test_bandits_never_look_at_answers_that_they_did_not_buy(
    kind: type[Bandit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes of LLMs that were not called may be anything; each round's call is paid by one update."""
    training, sample, outcomes = world()
    called = np.zeros(training.outcomes.quality.shape, dtype=bool)
    bought: list[int] = []

    class Noting(LinearHeads):
        def update(self, arm: int, x: np.ndarray, y: np.ndarray) -> None:
            bought.append(arm)
            super().update(arm, x, y)

    monkeypatch.setattr(bandits, "LinearHeads", Noting)
    baseline = kind(training)
    baseline.fit(**SETTINGS["lin_ucb"])
    points = len(MetaLLM.trade_offs) if kind is MetaLLM else 1
    assert len(bought) == points * len(training.sample)
    for turn, arm in enumerate(bought):
        called[baseline.order[turn // points], arm % 4] = True
    assert called.mean() < 0.9
    hidden = {
        part: np.where(called, getattr(training.outcomes, part), 1e9) for part in ("quality", "response_tokens")
    } | {"cost_usd": np.where(called, training.outcomes.cost_usd, 1e9)}
    poisoned = Training(training.sample, replace(training.outcomes, **hidden), training.llms, training.seed)
    vars(poisoned)["cost_scale"] = training.cost_scale  # a constant that is told
    again = kind(poisoned)
    again.fit(**SETTINGS["lin_ucb"])
    np.testing.assert_array_equal(again.play(sample, outcomes).cost, baseline.play(sample, outcomes).cost)
