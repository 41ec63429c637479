"""Costs straight from the features, where token counts do not explain them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.routing.data.outcomes import Outcomes, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.fitting.training import train
from symbiosis.routing.model.cost_model import LogRidge, choose_costs, price_error
from symbiosis.routing.model.features import draw_folds
from symbiosis.routing.model.router import Router

OUTCOMES, VECTORS, DOMAIN = draw(300, 0)
LABELS = [DOMAINS[d] for d in DOMAIN]
# Nobody counted: the same token for all, and costs that depend on what the query is about.
FACTORS = np.array([1.0, 4.0, 16.0])[DOMAIN][:, None] * np.array([1.0, 1.2, 10.0, 0.1])
BLIND = replace(
    OUTCOMES,
    prompt_tokens=np.full((300, 4), 50.0),
    response_tokens=np.ones((300, 4)),
    cost_usd=FACTORS * np.exp(0.1 * np.random.default_rng(0).standard_normal((300, 4))) / 1e5,
    counted=np.zeros((300, 4), dtype=bool),
)


def trained(outcomes: Outcomes, **changes: object) -> tuple[Router, dict[str, object]]:
    llms = priced(LLMS, outcomes)
    return train(Split(outcomes, VECTORS, LABELS, LABELS), llms, train_params(**changes))


def test_log_costs_are_a_ridge_regression() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 3))
    logs = np.column_stack([x @ [1.0, 0, -1], x @ [0, 0.5, 0] - 3])
    model = LogRidge.fit(x, np.exp(logs))
    # Nothing is left unexplained, so nothing is corrected; no prediction exceeds what was seen.
    np.testing.assert_allclose(model.smear, 1, rtol=1e-2)
    np.testing.assert_allclose(model(x, np.zeros((500, 2))), np.exp(logs), rtol=0.05)
    assert (model(100 * x, np.zeros((500, 2))) <= np.exp(logs).max(axis=0)).all()
    # One query alone, as the service asks.
    np.testing.assert_allclose(model(x[0], np.zeros(2)), model(x[:1], np.zeros((1, 2)))[0])


def test_free_llms_stay_free_and_unknown_ones_keep_their_prices() -> None:
    x = np.random.default_rng(1).standard_normal((50, 3))
    model = LogRidge.fit(x, np.column_stack([np.zeros(50), np.exp(x[:, 0])])).with_unknown()
    otherwise = np.full((50, 3), 7.0)
    cost = model(x, otherwise)
    np.testing.assert_array_equal(cost[:, 0], 0)
    np.testing.assert_array_equal(cost[:, 2], 7)
    np.testing.assert_array_equal(model.take([2, 1])(x, otherwise[:, :2]), cost[:, [2, 1]])


def test_the_price_error_by_hand() -> None:
    one = Outcomes(*(np.array([[value]]) for value in (0, 1.0, 100.0, 10.0, 3e-4)))
    llms = LLMS.take([0])  # 1 and 2 USD per million tokens: 1.2e-4 for 100 and 10 tokens
    assert price_error(one, llms) == pytest.approx(0.6)
    assert price_error(OUTCOMES, LLMS) == pytest.approx(0, abs=1e-12)


def test_tokens_are_kept_where_they_explain_the_costs() -> None:
    router, report = trained(OUTCOMES)
    assert router.costs is None
    assert report["costs"] == {"kind": "tokens", "price_error": pytest.approx(0, abs=1e-5), "estimated_tokens_share": 0}


def test_features_tell_the_cost_where_nobody_counted_tokens() -> None:
    router, report = trained(BLIND)
    costs = report["costs"]
    assert costs["kind"] == "features"
    assert costs["estimated_tokens_share"] == 1
    assert costs["price_error"] > 0.05
    assert costs["error_by_features"] < 0.5 * costs["error_by_tokens"]
    predicted = router.predict(router.feature_map(VECTORS), BLIND.prompt_tokens).cost_usd
    plain = trained(BLIND, costs="tokens")[0].predict(router.feature_map(VECTORS), BLIND.prompt_tokens).cost_usd
    error, before = (np.abs(cost - BLIND.cost_usd).mean() for cost in (predicted, plain))
    assert error < 0.5 * before


def test_features_that_tell_nothing_are_not_taken() -> None:
    rng = np.random.default_rng(3)
    noise = replace(BLIND, cost_usd=rng.permuted(BLIND.cost_usd, axis=0))
    x = rng.standard_normal((300, 5))
    by_tokens = np.tile(noise.cost_usd.mean(axis=0), (300, 1))
    llms = priced(LLMS, noise)
    model, report = choose_costs("auto", x, draw_folds(300, 0), noise, llms, by_tokens)
    assert model is None
    assert report["kind"] == "tokens"
    assert {"error_by_tokens", "error_by_features"} <= set(report)
    assert choose_costs("features", x, draw_folds(300, 0), noise, llms, by_tokens)[0] is not None


def test_the_cost_model_is_saved_and_follows_the_llms(tmp_path: Path) -> None:
    router, _ = trained(BLIND)
    router.save(tmp_path / "router")
    back = Router.load(tmp_path / "router")
    x = router.feature_map(VECTORS[:7])
    tokens = BLIND.prompt_tokens[:7]
    np.testing.assert_array_equal(back.predict(x, tokens).cost_usd, router.predict(x, tokens).cost_usd)
    assert back.take([2, 0]).predict(x, tokens[:, :2]).cost_usd == pytest.approx(
        router.predict(x, tokens).cost_usd[:, [2, 0]]
    )
    more = router.with_llm("new", 1e-6, 2e-6, 0.5, 50.0, penalty=1.0)
    five = np.full((7, 5), 50.0)
    predicted = more.predict(x, five)
    np.testing.assert_array_equal(predicted.cost_usd[:, :4], router.predict(x, tokens).cost_usd)
    # Of a newcomer nothing was seen: tokens times prices.
    np.testing.assert_allclose(predicted.cost_usd[:, 4], 50e-6 + 2e-6 * predicted.response_tokens[:, 4])
