"""The report: the A/B test, and what other policies would have earned, against the truth of a simulated log."""

import json

import numpy as np
import pytest
from monitoring_frames import arm, call, decision, frames, told

from symbiosis.gateway.monitoring.frames import Frames
from symbiosis.gateway.monitoring.report import GREEDY, LOGGED, judged_queries, report, text
from symbiosis.routing.policy.goals import Goal
from symbiosis.routing.policy.objectives import Budget, QualityFloor, TradeOff

QUERIES = 1500
GOALS = {
    "cheap": Goal(TradeOff(0.01)),
    "careful": Goal(QualityFloor(0.55)),
    "paced": Goal(Budget(0.5)),
}


def simulated(truth: dict[str, float], expected: dict[str, float]) -> Frames:
    """A log of a policy that asks `large` with probability 3/4; users judge every answer."""
    rng = np.random.default_rng(3)
    decisions, calls, feedback, arms = [], [], [], []
    for number in range(QUERIES):
        llm = "large" if rng.random() < 0.75 else "small"
        decisions.append(decision(number, llm, propensity=0.75 if llm == "large" else 0.25))
        calls.append(call(number, llm, 5.0 if llm == "large" else 1.0))
        feedback.append(told(number, satisfied=bool(rng.random() < truth[llm])))
        arms.append(arm(number, "small", expected["small"], 1.0, probability=0.25))
        arms.append(arm(number, "large", expected["large"], 5.0, probability=0.75))
    return frames(decisions, calls, feedback, arms)


def test_policies_are_estimated_without_bias() -> None:
    """The expectations are wrong; the doubly robust estimates are right all the same, within their intervals."""
    truth = {"small": 0.4, "large": 0.9}
    document = report(simulated(truth, {"small": 0.6, "large": 0.7}), 24, GOALS, cost_scale=5.0, now=86400.0)
    found = {one["policy"]: one for one in document["policies"]}
    assert set(found) == {LOGGED, GREEDY, "cheap", "careful", "always small", "always large"}
    wanted = {
        LOGGED: 0.25 * 0.4 + 0.75 * 0.9,
        GREEDY: 0.9,
        "cheap": 0.4,
        "careful": 0.9,
        "always small": 0.4,
        "always large": 0.9,
    }
    for name, value in wanted.items():
        assert found[name]["quality"]["low"] <= value <= found[name]["quality"]["high"], name
        assert found[name]["quality"]["high"] - found[name]["quality"]["low"] < 0.15
    costs = {"always small": 1.0, "always large": 5.0, "careful": 5.0, "cheap": 1.0, LOGGED: 4.0}
    assert {name: found[name]["usd_per_query"] for name in costs} == costs
    assert found["always small"]["estimators"]["dm"] == 0.6
    assert found["always small"]["effective_sample_size"] == pytest.approx(QUERIES / 4, rel=0.1)
    assert found[LOGGED]["effective_sample_size"] == QUERIES
    assert any("dm and dr differ" in alarm for alarm in found["always small"]["alarms"])
    json.dumps(document, allow_nan=False)
    shown = text(document)
    assert f"policies, estimated from {QUERIES:,} answers" in shown
    assert "A/B: no control group" in shown
    assert "saved" in shown


def test_a_log_without_chance_raises_alarms() -> None:
    """Where only one LLM was ever asked, nothing is known of the other, and the report says so."""
    given = simulated({"small": 0.5, "large": 0.5}, {"small": 0.5, "large": 0.5})
    only = given.decisions.filter(given.decisions["llm"] == "large").with_columns(propensity=1.0)
    document = report(Frames(only, given.calls, given.feedback, given.arms), 24, now=86400.0)
    (never,) = (one for one in document["policies"] if one["policy"] == "always small")
    assert never["effective_sample_size"] == 0
    assert never["alarms"]
    shown = text(document)
    assert "see alarms" in shown
    assert shown.splitlines()[-1].startswith("  every choice of the log was certain (propensity 1)")


def test_only_the_present_llms_count() -> None:
    """Queries that were decided among other LLMs, or answered by another one, are passed over."""
    both = [arm(number, llm, 0.5, 1.0) for number in (2, 3, 4) for llm in ("large", "small")]
    given = frames(
        [decision(1), decision(2), decision(3, served="large"), decision(4, "large")],
        feedback=[told(number, quality=0.25 * number) for number in (1, 2, 3, 4)],
        arms=[arm(1, "small", 0.5, 1.0), *both],
    )
    judged = judged_queries(given)
    assert judged is not None
    assert judged.llms == ("large", "small")
    assert judged.logged.arm.tolist() == [1, 0]
    assert judged.logged.reward.tolist() == [0.5, 1.0]
    assert judged.arms["quality"].shape == (2, 2)
    assert judged.passed_over == 1


def test_what_was_not_allowed_is_not_chosen() -> None:
    """An LLM that could not serve is no choice of a goal, however good it seems."""
    given = frames(
        [decision(1, "small", propensity=1.0)],
        feedback=[told(1, quality=1.0)],
        arms=[arm(1, "small", 0.5, 1.0), arm(1, "large", 0.9, 1.0, admissible=False)],
    )
    document = report(given, 1, {"careful": Goal(QualityFloor(0.7))}, now=3600.0)
    found = {one["policy"]: one for one in document["policies"]}
    assert found["careful"]["quality"]["mean"] == found[GREEDY]["quality"]["mean"] == 1.0


def test_an_empty_log() -> None:
    """Nothing to estimate, and said so."""
    document = report(frames(), 24, GOALS, now=86400.0)
    assert document["policies"] == []
    shown = text(document)
    assert "no routed query with feedback" in shown
    assert "too little feedback" in shown


def test_the_experiment_is_shown() -> None:
    """Differences with their signs and intervals."""
    decisions = [decision(number, mode="apply" if number % 2 else "control") for number in range(8)]
    calls = [call(number, cost_usd=1.0 if number % 2 else 3.0) for number in range(8)]
    document = report(frames(decisions, calls, [told(1, quality=1.0), told(2, quality=0.5)]), 1, now=3600.0)
    shown = text(document)
    assert "A/B: 4 routed, 4 control queries" in shown
    assert "USD per query: -2.0000 [-2.0000, -2.0000]" in shown
    assert "routed less control, quality: +0.5000" in shown
