"""The summary: what was saved, by LLM, over time, and between the groups of an experiment."""

import json
import math

import numpy as np
import polars as pl
import pytest
from monitoring_frames import arm, call, decision, frames, told

from symbiosis.gateway.monitoring.frames import arms
from symbiosis.gateway.monitoring.intervals import mean_difference, mean_interval, quality_difference, wilson
from symbiosis.gateway.monitoring.summary import LiveState, savings, summary

LIVE = LiveState(upstreams={"small": "one", "large": "two"}, circuits={"large": "open"}, in_flight={"small": 3})


def test_nothing_yet() -> None:
    """An empty store has a summary without divisions by zero, and is plain JSON."""
    document = summary(frames(), 24, LIVE, now=86400.0)
    assert (document["queries"], document["spend_usd"], document["saved_usd"]) == (0, 0, 0)
    assert document["best_single"] is document["saved_share"] is document["ab"] is document["drift"] is None
    assert [row["llm"] for row in document["llms"]] == ["small", "large"]
    assert [row["circuit"] for row in document["llms"]] == ["closed", "open"]
    assert len({row["at"] for row in document["series"]}) == len(document["series"]) > 1
    json.dumps(document, allow_nan=False)


def test_savings_against_the_best_single_llm() -> None:
    """The best LLM by expectation costs what it did cost where it answered, and what was expected elsewhere."""
    given = frames(
        [decision(1), decision(2, "large"), decision(3), decision(4, mode="explicit"), decision(5)],
        [call(1, cost_usd=1.0), call(2, "large", 12.0), call(3, cost_usd=None), call(4, cost_usd=100.0), call(5)],
        arms=[
            row
            for number in (1, 2, 3, 5)
            for row in (arm(number, "small", 0.5, 1.0), arm(number, "large", 0.75, 10.0), arm(number, "same", 0.75, 11))
        ],
    )
    found = savings(given)
    assert (found.llm, found.total) == ("large", 3)
    assert sorted(found.queries["baseline_usd"]) == [10.0, 10.0, 12.0]
    document = summary(given, 1, LIVE, now=3600.0)
    assert document["best_single"] == {"llm": "large", "usd": 32.0}
    assert document["routed"] == {"queries": 3, "spend_usd": 14.0}
    assert document["saved_usd"] == 18.0
    assert document["saved_share"] == pytest.approx(18 / 32)
    assert document["spend_usd"] == 114.0
    assert math.fsum(row["spend_usd"] for row in document["series"]) == 114.0
    assert math.fsum(row["baseline_usd"] for row in document["series"]) == pytest.approx(114.0 + 18.0)
    assert sum(row["queries"] for row in document["series"]) == 5


def test_a_sample_of_arms_stands_for_all() -> None:
    """Where every second decision's arms were read, each stands for two."""
    given = frames(
        [decision(number) for number in range(1, 5)],
        [call(number) for number in range(1, 5)],
        arms=[row for number in (2, 4) for row in (arm(number, "small", 0.5, 1.0), arm(number, "large", 0.9, 6.0))],
    )
    document = summary(given, 1, LIVE, now=3600.0)
    assert document["best_single"] == {"llm": "large", "usd": 24.0}
    assert document["routed"] == {"queries": 4, "spend_usd": 4.0}


def test_a_newcomer_is_not_the_best_of_what_it_never_saw() -> None:
    """An LLM that joined late is passed over until it was expected of half of the queries."""
    known = [arm(number, "small", 0.5, 1.0) for number in range(1, 5)]
    decisions, calls = [decision(number) for number in range(1, 5)], [call(number) for number in range(1, 5)]
    assert savings(frames(decisions, calls, arms=[*known, arm(4, "new", 0.9, 1.0)])).llm == "small"
    late = [arm(number, "new", 0.9, 1.0) for number in (3, 4)]
    assert savings(frames(decisions, calls, arms=known + late)).llm == "new"


def test_by_llm() -> None:
    """Share, latency of good calls, failures, quality with interval of those that answered."""
    given = frames(
        [decision(1), decision(2), decision(3, "large"), decision(4, served=None)],
        [
            call(1, total_s=1.0),
            call(2, total_s=3.0),
            call(3, status=500, total_s=90.0, cost_usd=None),
            call(3, "large", 5.0, attempt=1),
            call(4, status=None, error="connection: refused", cost_usd=None),
            call(4, status=200, error="client: left before the end", total_s=70.0, cost_usd=None, attempt=1),
        ],
        [told(1, satisfied=True), told(2, quality=0.0), told(3, quality=0.5), told(4, quality=1.0)],
    )
    small, large = summary(given, 1, LIVE, now=3600.0)["llms"]
    assert (small["share"], large["share"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert small["latency_s"] == {"p50": 2.0, "p90": pytest.approx(2.8)}
    assert (small["errors"], large["errors"]) == (2, 0)
    assert (small["in_flight"], small["upstream"]) == (3, "one")
    assert (small["quality"]["mean"], small["quality"]["n"]) == (0.5, 2)
    assert large["quality"]["mean"] == 0.5
    assert large["spend_usd"] == 5.0


def test_the_experiment_compares_the_groups() -> None:
    """Routed against control: observed quality, and cost per query."""
    decisions = [decision(number, mode="apply" if number % 2 else "control") for number in range(8)]
    calls = [call(number, cost_usd=1.0 if number % 2 else 3.0) for number in range(8)]
    given = frames(decisions, calls, [told(number, satisfied=bool(number % 2)) for number in range(6)])
    ab = summary(given, 1, LIVE, now=3600.0)["ab"]
    assert (ab["routed"]["queries"], ab["control"]["queries"]) == (4, 4)
    assert ab["quality_difference"]["mean"] == 1.0
    assert ab["quality_difference"]["low"] > 0
    assert ab["usd_difference"] == {"mean": -2.0, "low": -2.0, "high": -2.0, "n": 4}
    assert summary(frames(decisions[::2]), 1, LIVE, now=3600.0)["ab"] is None


def test_wilson_is_the_score_interval() -> None:
    """Wilson's own example by R's prop.test without correction: 15 of 50 lie in [0.191, 0.4375]."""
    found = wilson(np.repeat([1.0, 0.0], [15, 35]))
    assert found is not None
    assert (found.mean, found.n) == (0.3, 50)
    from scipy.stats import binomtest

    bounds = binomtest(15, 50).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(bounds.low), pytest.approx(bounds.high))
    ends = wilson(np.zeros(3)), wilson(np.ones(3))
    assert ends[0] is not None
    assert ends[1] is not None
    assert (ends[0].low, ends[1].high) == (0.0, 1.0)
    assert ends[0].high > 0.3


def test_newcombe_reproduces_his_table() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 gives [0.0524, 0.3339]."""
    found = quality_difference(np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32]))
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of skewed costs and graded qualities, 95 % intervals cover about that often."""
    rng = np.random.default_rng(1)
    costs = [mean_interval(rng.gamma(2.0, size=60)) for _ in range(400)]
    differences = [mean_difference(rng.gamma(2.0, size=60), rng.gamma(1.0, size=80)) for _ in range(400)]
    grades = [wilson(rng.beta(4, 2, size=40)) for _ in range(400)]
    covered = [
        np.mean([one is not None and one.low <= truth <= one.high for one in found])
        for found, truth in ((costs, 2.0), (differences, 1.0), (grades, 2 / 3))
    ]
    assert covered[0] == pytest.approx(0.95, abs=0.035)
    assert covered[1] == pytest.approx(0.95, abs=0.035)
    assert covered[2] >= 0.95


def test_nothing_to_estimate() -> None:
    """No values, no interval."""
    none, one = np.array([]), np.array([1.0])
    assert wilson(none) is quality_difference(none, one) is mean_interval(one) is mean_difference(one, one) is None


def test_arms_are_read_from_explanations() -> None:
    """One row per LLM; what the explanation has beyond the columns is passed over, and decisions without one, too."""
    document = {
        "id": "a",
        "parts": {},
        "arms": [{"llm": "small", "quality": 0.5, "cost_usd": 1, "answer_low": None, "parts": {"cost": 1.0}}],
    }
    given = pl.DataFrame({"id": ["a", "b"], "details": [json.dumps(document), None]})
    rows = arms(given).to_dicts()
    assert [(row["decision"], row["llm"], row["cost_usd"], row["score"]) for row in rows] == [("a", "small", 1.0, None)]
    assert arms(given.filter(pl.col("id") == "b")).is_empty()


def test_intervals_are_those_of_scipy() -> None:
    from scipy.stats import t, ttest_ind

    rng = np.random.default_rng(4)
    one, other = rng.gamma(2.0, size=40), rng.gamma(1.0, size=13)
    low, high = t.interval(0.95, 39, one.mean(), one.std(ddof=1) / np.sqrt(40))
    mean = mean_interval(one)
    assert mean is not None
    assert (mean.low, mean.high) == pytest.approx((low, high), rel=1e-12)
    expected = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    difference = mean_difference(one, other)
    assert difference is not None
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
