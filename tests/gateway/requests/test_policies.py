"""Policies: from a model's name to what is decided for."""

import pytest

from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.requests.chat import BadRequest
from symbiosis.gateway.requests.policies import Policies
from symbiosis.routing.policy.goals import Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, Paper, QualityFloor, TradeOff
from symbiosis.routing.policy.score import Rule

CONFIG = {
    "cheap": {"trade_off": 0.1},
    "careful": {"floor": 0.8, "deadline_s": 9},
    "capped": {"usd_per_query": 0.001},
    "quick": {"deadline_s": 5},
}


@pytest.fixture
def policies() -> Policies:
    return Policies(GatewayConfig.model_validate({"policies": CONFIG}).policies)


def test_named_policies_become_objectives(policies: Policies) -> None:
    usual = Goal(TradeOff(1.0), Deadline(30))
    expected = {
        "auto": usual,
        "auto:cheap": Goal(TradeOff(0.1), Deadline(30)),
        "auto:careful": Goal(QualityFloor(0.8), Deadline(9)),
        "auto:capped": Goal(Budget(0.001), Deadline(30)),
        "auto:quick": Goal(TradeOff(1.0), Deadline(5)),
    }
    assert policies.models == list(expected)
    for model, goal in expected.items():
        policy = policies.parse(model)
        assert policy is not None
        assert policy.goal(usual) == goal
    assert policies.parse("small") is None
    assert policies.parse("automatic") is None


def test_parts_are_written_out_by_clients(policies: Policies) -> None:
    policy = policies.parse("auto:floor=0.8, deadline=5")
    assert policy is not None
    assert (policy.objective, policy.deadline) == (QualityFloor(0.8), Deadline(5))
    assert policy == policies.parse("auto:deadline_s=5.0,floor=.8")
    assert policy.name == "deadline_s=5.0,floor=0.8"
    assert policy != policies.parse("auto:floor=0.8000001,deadline=5")


def test_budget_is_one_object(policies: Policies) -> None:
    for model in ("auto:capped", "auto:budget=0.002"):
        first, second = policies.parse(model), policies.parse(model)
        assert first is not None
        assert second is not None
        assert isinstance(first.objective, Budget)
        assert first.objective is second.objective


def test_written_budgets_are_forgotten_only_when_there_are_many(policies: Policies) -> None:
    kept = policies.parse("auto:budget=1")
    for number in range(2, 1000):
        policies.parse(f"auto:budget={number}")
        if number % 100 == 0:
            assert policies.parse("auto:budget=1") is kept
    for number in range(2, 1000):
        policies.parse(f"auto:budget={number}")
    assert policies.parse("auto:budget=1") is not kept


def test_published_score_gives_way_to_a_deadline(policies: Policies) -> None:
    rule = Rule(2.0, "linear", exploration=0.1, root=True, waiting=0.2, growth_per_s=0.1, onset=0.5, limit_s=60)
    quick, usual = policies.parse("auto:quick"), Goal(Paper(rule))
    assert quick is not None
    assert quick.goal(usual) == Goal(TradeOff(2.0, rule.weighting), Deadline(5))
    assert policies.usual.goal(usual) is usual


def test_unknown_policy_is_404_and_lists_the_others(policies: Policies) -> None:
    with pytest.raises(BadRequest) as caught:
        policies.parse("auto:dear")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert all(model in str(caught.value) for model in policies.models)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("auto:floor=2", "did you mean 0.02"),
        ("auto:floor=high", "valid number"),
        ("auto:floor=nan", "finite"),
        ("auto:floor=inf", "finite"),
        ("auto:floor=", "valid number"),
        ("auto:flor=0.5", "`flor`: unknown key"),
        ("auto:floor=0.5,floor=0.6", "there twice"),
        ("auto:floor=0.5,trade_off=1", "exclude each other"),
        ("auto:budget=0", "greater than or equal to 0.000000000001"),
        ("auto:=", "unknown key"),
        ("auto:floor=1,", "unknown key"),
    ],
)
def test_wrong_parts_are_400(model: str, told: str, policies: Policies) -> None:
    with pytest.raises(BadRequest) as caught:
        policies.parse(model)
    assert caught.value.status == 400
    assert told in str(caught.value)
