"""Off-policy estimates of routers on logged rows, against hand-computed values and the truth of a full matrix."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from routing_world import DOMAINS, FORM, LLMS, draw, train_params, write_router

from symbiosis.core.layout import ROUTER
from symbiosis.routing.data.logged import OUTCOMES
from symbiosis.routing.data.logged import Logged as Answers
from symbiosis.routing.data.outcomes import Outcomes, Split
from symbiosis.routing.experiments.logged_policy import PolicyEstimate, compare, estimate, report
from symbiosis.routing.experiments.logged_rows import LoggedRows, Served
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Satisfaction
from symbiosis.routing.learning.off_policy import Estimate, Estimator, Logged, compare_policies, evaluate_policy
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.exploration import probabilities

TRADE_OFF = 1.4


@cache
def router(n: int = 300, seed: int = 0, shuffled: bool = False) -> Router:
    outcomes, vectors, domain = draw(n, seed)
    if shuffled:
        outcomes = outcomes.take(np.random.default_rng(seed).permutation(n))
    names = [DOMAINS[d] for d in domain]
    return train(Split(outcomes, vectors, names, names), LLMS, train_params())[0]


def served(of: Router) -> Served:
    return Served(of, TRADE_OFF, FORM)


def worths(of: Router, outcomes: Outcomes) -> np.ndarray:
    return utility(outcomes.quality, scaled_cost(outcomes.cost_usd, of.cost_scale), TRADE_OFF)


def scores(of: Router, vectors: np.ndarray) -> np.ndarray:
    expected = of.predict(of.feature_map(vectors))
    return utility(expected.quality, scaled_cost(expected.cost_usd, of.cost_scale), TRADE_OFF)


def frame(vectors: np.ndarray, outcomes: Outcomes, arm: np.ndarray, propensity: np.ndarray) -> Answers:
    rows = np.arange(len(arm))
    columns = pl.DataFrame(
        {
            "query": [f"{row:064}" for row in rows],
            "llm": [LLMS.names[a] for a in arm],
            "propensity": propensity,
            "quality": outcomes.quality[rows, arm],
            "satisfied": [None] * len(arm),
            "cost_usd": outcomes.cost_usd[rows, arm],
            "expected_cost_usd": outcomes.cost_usd[rows, arm],
            "vector": vectors.astype(np.float32).tolist(),
        },
        schema_overrides={"satisfied": pl.Boolean(), "vector": pl.List(pl.Float32)},
    )
    others = [pl.lit(None, kind).alias(name) for name, kind in OUTCOMES.items() if name not in columns.columns]
    return Answers(columns.with_columns(others).select(list(OUTCOMES)))


def logged(behaviour: Router, n: int, seed: int, amount: float = 0.1) -> tuple[Answers, Outcomes, np.ndarray]:
    """Return a log of a router that explores by softmax, the outcomes of all LLMs, and the vectors."""
    outcomes, vectors, _ = draw(n, seed)
    chances = np.stack([probabilities(row, np.ones(len(row)), "softmax", amount) for row in scores(behaviour, vectors)])
    drawn = np.random.default_rng(seed).random((n, 1))
    arm = np.minimum((chances.cumsum(axis=1) <= drawn).sum(axis=1), len(LLMS) - 1)
    return frame(vectors, outcomes, arm, chances[np.arange(n), arm]), outcomes, vectors


def truth(of: Router, champion: Router, outcomes: Outcomes, vectors: np.ndarray) -> float:
    arm = scores(of, vectors).argmax(axis=1)
    return float(worths(champion, outcomes)[np.arange(len(arm)), arm].mean())


def estimates_of(one: PolicyEstimate | None) -> dict[Estimator, Estimate]:
    assert one is not None
    assert one.report is not None
    return one.report.estimates


def holds(one: Estimate, value: float) -> bool:
    return one.low <= value <= one.high


def test_a_difference_by_hand() -> None:
    # Two LLMs, four queries; the first policy takes LLM 0 always, the second LLM 1 in the last two.
    log = Logged(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.8, 0.2]), np.array([1.0, 0.0, 1.0, 1.0]))
    first, second = np.eye(2)[[0, 0, 0, 0]], np.eye(2)[[0, 0, 1, 1]]
    predicted = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]])
    found = compare_policies(log, first, second, predicted, samples=50)
    # DR of the first: .6 + (2*.4 + 0 + 1.25*.4 + 0)/4 = .925; of the second: (.6+.6+.4+.4)/4 + (2*.4 + 5*.6)/4 = 1.45
    assert found["dr"].value == pytest.approx(0.925 - 1.45)
    # SNIPS: (2*1 + 1.25*1) / 3.25 = 1, and (2*1 + 5*1) / 7 = 1
    assert found["snips"].value == pytest.approx(0.0)
    assert found["dm"].value == pytest.approx(0.1)
    # The first two queries cancel; the rows of DR differ by 0, 0, .2 + .5, .2 - 3.
    rows = np.array([0, 0, 0.7, -2.8])
    assert found["dr"].standard_error == pytest.approx(rows.std() / 2)
    apart = [evaluate_policy(log, policy, predicted, samples=50).estimates for policy in (first, second)]
    for name, one in found.items():
        assert one.value == pytest.approx(apart[0][name].value - apart[1][name].value)


def test_estimates_by_hand_of_a_router_that_always_takes_one_llm() -> None:
    outcomes, vectors, _ = draw(40, seed=5)
    of = router()
    arm, propensity = np.arange(40) % 4, np.full(40, 0.25)
    log = frame(vectors, outcomes, arm, propensity)
    chosen = scores(of, vectors).argmax(axis=1)
    found = estimate(served(of), log).candidate
    assert found.report is not None
    hit = chosen == arm
    rewards = worths(of, outcomes)[np.arange(40), arm]
    assert found.agreement == pytest.approx(hit.mean())
    assert found.report.estimates["snips"].value == pytest.approx(rewards[hit].mean(), abs=1e-6)
    assert found.report.effective_sample_size == pytest.approx(hit.sum())
    predicted = scores(of, vectors)
    corrections = 4 * hit * (rewards - predicted[np.arange(40), arm])
    assert found.report.estimates["dr"].value == pytest.approx((predicted.max(axis=1) + corrections).mean(), abs=1e-6)


def test_intervals_hold_the_truth_as_often_as_they_should() -> None:
    champion, candidate = router(40, seed=3), router(400, seed=4)
    outcomes, vectors, _ = draw(20_000, seed=999)
    values = [truth(one, champion, outcomes, vectors) for one in (candidate, champion)]
    worlds = 40
    hits = dict.fromkeys(("candidate", "champion", "difference"), 0)
    for seed in range(worlds):
        log, _, _ = logged(champion, 500, 100 + seed, amount=0.2)
        found = compare(served(candidate), served(champion), log, samples=200)
        assert found.difference is not None
        hits["candidate"] += holds(estimates_of(found.candidate)["dr"], values[0])
        hits["champion"] += holds(estimates_of(found.champion)["dr"], values[1])
        hits["difference"] += holds(found.difference["dr"], values[0] - values[1])
    for name, count in hits.items():
        assert count / worlds >= 0.85, name


def test_a_better_and_a_sabotaged_candidate_are_told_apart() -> None:
    champion = router()
    log, _, _ = logged(champion, 3000, seed=7)
    bad = compare(served(router(shuffled=True)), served(champion), log)
    assert bad.difference is not None
    assert bad.difference["dr"].high < 0
    good = compare(served(champion), served(router(shuffled=True)), log)
    assert good.difference is not None
    assert good.difference["dr"].low > 0


def test_the_same_router_differs_by_nothing() -> None:
    log, _, _ = logged(router(), 400, seed=8)
    found = compare(served(router()), served(router()), log)
    assert found.difference is not None
    assert found.alike == 1.0
    for name in ("dr", "snips"):
        one = found.difference[name]
        assert (one.value, one.low, one.high) == (0.0, 0.0, 0.0)
    assert not any("tell the two apart" in alarm for alarm in found.alarms)


def test_a_log_without_exploration_allows_no_estimate() -> None:
    outcomes, vectors, _ = draw(500, seed=9)
    arm = scores(router(), vectors).argmax(axis=1)
    log = frame(vectors, outcomes, arm, np.ones(500))
    told = report(served(router(400, seed=4)), served(router()), log)
    assert told["rows"] == 0
    assert told["left_out"] == {"nothing was explored": 500}
    for who in ("candidate", "champion", "difference"):
        assert not told[who]["trusted"]
        assert "dr" not in told[who]
        assert "500 left out: nothing was explored" in told[who]["alarms"][0]
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_too_few_rows_allow_no_estimate(rows: int) -> None:
    log, _, _ = logged(router(), 40, seed=10)
    told = report(served(router()), None, Answers(log.frame.head(rows)))
    assert told["candidate"] == {
        "trusted": False,
        "alarms": [f"{rows} rows, fewer than 30: nothing is estimated"],
    }
    assert "champion" not in told


def test_a_log_of_one_llm_raises_an_alarm() -> None:
    outcomes, vectors, _ = draw(400, seed=11)
    log = frame(vectors, outcomes, np.full(400, 2), np.full(400, 0.9))
    found = estimate(served(router()), log)
    assert any("asked 'dear-all' alone" in alarm for alarm in found.candidate.alarms)
    assert not found.numbers()["candidate"]["trusted"]


def test_a_log_that_cannot_tell_two_routers_apart_raises_an_alarm() -> None:
    champion, candidate = router(), router(shuffled=True)
    outcomes, vectors, _ = draw(400, seed=12)
    own, other = scores(champion, vectors).argmax(axis=1), scores(candidate, vectors).argmax(axis=1)
    third = np.array([next(arm for arm in range(4) if arm not in pair) for pair in zip(own, other, strict=True)])
    arm = np.where(own == other, own, third)
    log = frame(vectors, outcomes, arm, np.full(400, 0.5))
    found = compare(served(candidate), served(champion), log)
    assert 0 < found.alike < 1
    assert any("tell the two apart" in alarm for alarm in found.alarms)
    assert not found.numbers()["difference"]["trusted"]


def test_rows_that_do_not_fit_are_left_out_and_counted() -> None:
    log, _, _ = logged(router(), 100, seed=13)
    place = pl.int_range(pl.len())
    changes: dict[str, Any] = {
        "propensity": pl.when(place < 3).then(None).when(place < 5).then(1.0),
        "vector": pl.when(place == 11).then(pl.lit([], pl.List(pl.Float32))),
        "quality": pl.when(place.is_between(12, 15)).then(None),
        "cost_usd": pl.when(place == 16).then(None),
    }
    frame = log.frame.with_columns(
        pl.when(place.is_between(12, 13)).then(True).alias("satisfied"),
        pl.lit(0.001).alias("expected_cost_usd"),
        *(change.otherwise(name).alias(name) for name, change in changes.items()),
    )
    told = replace(served(router()), satisfaction=Satisfaction(0.9, 0.2, 0.0))
    rows = LoggedRows.of(Answers(frame), FORM, [told])
    assert rows.left_out == {
        "no router chose the LLM": 3,
        "nothing was explored": 2,
        "vectors of another form": 1,
        "no feedback or no cost": 2,
    }
    assert rows.assumed == {"satisfied": 2, "expected cost": 1}
    assert len(rows) == 100 - 8
    assert rows.vectors.shape == (92, 16)
    assert (rows.quality == 0.9).sum() == 2


def test_routers_of_other_forms_have_no_common_rows() -> None:
    log, _, _ = logged(router(), 100, seed=14)
    newer = replace(served(router()), form=FORM.model_copy(update={"precision": "int8"}))
    assert report(newer, None, log, form=FORM)["left_out"] == {"vectors of another form": 100}
    told = report(newer, served(router()), log)
    assert told["left_out"] == {"vectors of another form": 100}
    assert not told["difference"]["trusted"]


def test_repeated_texts_raise_an_alarm() -> None:
    log, _, _ = logged(router(), 200, seed=15)
    again = Answers(log.frame.with_columns(pl.lit("0" * 64).alias("query")))
    assert any("1 different texts" in alarm for alarm in estimate(served(router()), again).candidate.alarms)


def test_an_llm_that_only_one_router_knows() -> None:
    log, outcomes, vectors = logged(router(), 3000, seed=16, amount=0.2)
    without = router().take([0, 1, 3])
    found = compare(served(without), served(router()), log)
    arm = np.array([0, 1, 3])[scores(without, vectors).argmax(axis=1)]
    value = float(worths(router(), outcomes)[np.arange(3000), arm].mean())
    one = estimates_of(found.candidate)["dr"]
    assert abs(one.value - value) <= 3 * one.standard_error


def test_smoothing_makes_the_target_a_softmax() -> None:
    log, outcomes, _ = logged(router(), 3000, seed=17)
    found = estimate(served(router()), log, smoothing=0.1)
    assert found.candidate.report is not None
    # The log's own policy: every weight is 1.
    assert found.candidate.report.effective_sample_size == pytest.approx(3000, rel=1e-6)
    rewards = worths(router(), outcomes)
    arm = [LLMS.names.index(name) for name in log.frame["llm"]]
    assert found.candidate.report.estimates["ips"].value == pytest.approx(
        rewards[np.arange(3000), arm].mean(), rel=1e-6
    )


def test_a_bundle_is_opened_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / ROUTER).parent.mkdir(parents=True)
    write_router(tmp_path / ROUTER)
    opened = Served.open(tmp_path)
    assert opened.form == FORM
    assert opened.trade_off == train_params().serving.trade_off
    log, _, _ = logged(opened.router, 200, seed=18)
    told = report(opened, opened, log)
    assert told["rows"] == 200
    assert told["difference"]["dr"]["value"] == 0.0
    json.dumps(told, allow_nan=False)
