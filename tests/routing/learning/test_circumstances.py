"""Goals and circumstances of single queries: what an online router does with them, and that it does nothing else."""

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.online_router import DecisionSettings, OnlineRouter
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.goals import Circumstances, Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, QualityFloor, TradeOff

IDLE = np.zeros(len(LLMS.names))
_, VECTORS, _ = draw(40, seed=5)


@pytest.fixture(scope="module")
def router() -> Router:
    outcomes, vectors, domain = draw(300, seed=0)
    labels = [DOMAINS[d] for d in domain]
    return train(Split(outcomes, vectors, labels, labels), LLMS, train_params())[0]


def features(online: OnlineRouter) -> list[np.ndarray]:
    return [online.features(vector) for vector in VECTORS]


@pytest.mark.parametrize("goal", [Goal(TradeOff(0.2)), Goal(QualityFloor(0.5)), Goal(TradeOff(3.0), Deadline(2.0))])
def test_a_goal_of_one_query_decides_as_a_router_made_for_it(router: Router, goal: Goal) -> None:
    general, own = OnlineRouter(router, TradeOff(1.4)), OnlineRouter(router, goal.objective, goal.deadline)
    for x in features(general):
        ours, theirs = general.decide("a", x, None, IDLE, goal=goal), own.decide("a", x, None, IDLE)
        assert ours.to_dict() == theirs.to_dict()


def test_a_budget_of_a_goal_is_paced_on_alone(router: Router) -> None:
    online = OnlineRouter(router, Budget(1e-3))
    mine, other = Budget(1e-6), online.goal.objective
    for x in features(online):
        online.decide("a", x, None, IDLE, goal=Goal(mine))
    assert mine.price > 0
    assert isinstance(other, Budget)
    assert other.price == 0


@pytest.mark.parametrize("objective", [TradeOff(1.4), QualityFloor(0.8), QualityFloor(0.0), Budget(1e-5)])
@pytest.mark.parametrize("deadline", [None, Deadline(3.0, risk=0.5), Deadline(0.01, risk=0.5)])
@pytest.mark.parametrize("exploration", ["none", "epsilon"])
def test_an_llm_that_is_not_allowed_is_never_chosen(
    router: Router, objective: TradeOff | QualityFloor | Budget, deadline: Deadline | None, exploration: str
) -> None:
    settings = DecisionSettings(exploration=exploration, amount=1.0, tried=4)  # type: ignore[arg-type]
    online = OnlineRouter(router, objective, deadline, settings=settings)
    for barred in range(len(LLMS.names)):
        allowed = np.arange(len(LLMS.names)) != barred
        for x in features(online):
            decision = online.decide("a", x, None, IDLE, circumstances=Circumstances(allowed=allowed))
            assert decision.arm != barred
            assert decision.propensity > 0
            assert decision.probability[barred] == 0
            assert not decision.admissible[barred]


def test_a_floor_is_looked_for_among_the_allowed(router: Router) -> None:
    online = OnlineRouter(router, QualityFloor(0.6))
    x = features(online)[0]
    open_to_all = online.decide("a", x, None, IDLE)
    good = open_to_all.lower >= 0.6
    assert good.any()
    allowed = ~good
    assert allowed.any()
    decision = online.decide("a", x, None, IDLE, circumstances=Circumstances(allowed=allowed))
    # None of the others reaches the floor: the best lower bound is taken.
    assert decision.arm == int(np.where(allowed, open_to_all.lower, -1.0).argmax())


def test_no_llm_allowed_is_an_error() -> None:
    with pytest.raises(InputError, match="no LLM can serve"):
        Circumstances(allowed=np.zeros(4, dtype=bool))


def test_observed_times_lengths_and_costs_count(router: Router) -> None:
    online = OnlineRouter(router, TradeOff(1.4))
    x = features(online)[0]
    plain = online.decide("a", x, 100.0, IDLE)
    now = Circumstances(
        startup_s=np.full(4, 2.0),
        tokens_per_s=np.full(4, 10.0),
        response_factor=np.full(4, 1.5),
        extra_usd=np.array([0.0, 1e-3, 0.0, -1.0]),
    )
    seen = online.decide("a", x, 100.0, IDLE, circumstances=now)
    tokens = plain.response_tokens * 1.5
    np.testing.assert_array_equal(seen.response_tokens, tokens)
    np.testing.assert_allclose(seen.service_s, 2.0 + tokens / 10.0)
    cost = plain.cost_usd + LLMS.price_response * plain.response_tokens * 0.5 + now.extra_usd
    np.testing.assert_allclose(seen.cost_usd, np.maximum(cost, 0.0))
    assert seen.cost_usd[3] == 0


def test_what_is_as_expected_changes_nothing(router: Router) -> None:
    online = OnlineRouter(router, TradeOff(1.4), Deadline(3.0))
    same = Circumstances(
        allowed=np.ones(4, dtype=bool), startup_s=LLMS.startup_s, tokens_per_s=LLMS.tokens_per_s, extra_usd=IDLE
    )
    for x in features(online):
        told = online.decide("a", x, None, IDLE, circumstances=same)
        assert told.to_dict() == online.decide("a", x, None, IDLE).to_dict()


def test_new_prices_count_from_now_on_for_that_llm_alone(router: Router) -> None:
    online = OnlineRouter(router, TradeOff(1.4))
    x = features(online)[0]
    before = online.decide("a", x, 100.0, IDLE)
    online.reprice("dear-all", 0.5e-6, 1e-6)
    after = online.decide("a", x, 100.0, IDLE)
    arm = LLMS.names.index("dear-all")
    assert after.cost_usd[arm] == 100.0 * 0.5e-6 + after.response_tokens[arm] * 1e-6
    others = np.arange(4) != arm
    np.testing.assert_array_equal(after.cost_usd[others], before.cost_usd[others])
    np.testing.assert_array_equal(after.quality, before.quality)
    with pytest.raises(InputError, match="there is no LLM 'nobody'"):
        online.reprice("nobody", 1e-6, 1e-6)
