"""Drift: expectations against outcomes."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from monitoring_frames import call, decision, frames, told
from routing_world import draw, write_router

from symbiosis.gateway.monitoring.drift import LEAST, Drift, chance_error, drift, text
from symbiosis.gateway.monitoring.frames import Frames
from symbiosis.routing.learning.reference import LEVEL, Expectations, Reference
from symbiosis.routing.metrics.metrics import calibration_error
from symbiosis.routing.serving.records import DecisionEntry, DecisionRecord
from symbiosis.routing.serving.store import Store

MANY = range(LEAST)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Of a small router, its expectations of training taken to be right."""
    found = Reference.load(write_router(tmp_path_factory.mktemp("models") / "router"))
    assert found is not None
    return replace(found, served=Expectations(cost_log_ratio=0.0))


def window(seed: int, worse: float = 0.0, dearer: float = 1.0, n: int = 200) -> Frames:
    """Queries as in training, and outcomes as expected but for a loss of quality and a factor of cost."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0.4, 0.9, n)
    good = rng.random(n) < expected - worse
    costs = np.exp(rng.normal(math.log(dearer), 0.3, n))
    given = frames(
        [decision(number, quality=float(expected[number])) for number in range(n)],
        [call(number, cost_usd=float(costs[number])) for number in range(n)],
        [told(number, satisfied=bool(good[number])) for number in range(n)],
    )
    return replace(given, vectors=draw(n, 10_000 + seed)[1])


def test_no_drift_seldom_rings(reference: Reference) -> None:
    """Each check rings by mistake about as often as it says, or less; nothing else is hidden behind the tolerance."""
    windows = 100
    rung = Counter(name for seed in range(windows) for name in drift(window(seed), reference).alarms)
    assert sum(rung.values()) <= 5 * LEVEL * windows + 4, rung


def test_each_change_rings_its_own_check(reference: Reference) -> None:
    """Worse answers, dearer answers and other queries are told apart."""
    assert set(drift(window(1, worse=0.3), reference).alarms) == {"quality", "calibration"}
    assert drift(window(1, dearer=2.0), reference).alarms == ("cost",)
    _, vectors, domain = draw(3000, 5)
    other = drift(replace(window(1), vectors=vectors[domain == 0][:200]), reference)
    assert other.alarms == ("tags", "vectors")
    assert other.tags[0]["tag"] == "algebra"
    assert other.tags[0]["share"] > other.tags[0]["training"]
    assert "algebra: " in text(other)
    assert text(other).startswith("alarm: tags, vectors\n")


def test_what_is_known_from_training_is_no_drift(reference: Reference) -> None:
    """A router that was off in training, too, has not drifted."""
    known = replace(reference, served=Expectations(ece=0.3, bias=-0.3, cost_log_ratio=math.log(2)))
    assert drift(window(1, worse=0.3, dearer=2.0), known).alarms == ()


def test_chance_error_by_simulation() -> None:
    """Outcomes drawn as expected exceed it about as often as it says."""
    rng = np.random.default_rng(2)
    predicted = rng.uniform(0.1, 0.9, 100)
    bound = chance_error(predicted)
    above = [calibration_error(predicted, (rng.random(100) < predicted).astype(float)) > bound for _ in range(4000)]
    assert 0 < np.mean(above) < 3 * LEVEL


@pytest.mark.parametrize("vectors", [np.empty((0, 0)), np.ones((LEAST - 1, 16)), np.ones((LEAST, 15))])
def test_vectors_that_cannot_be_compared(vectors: np.ndarray, reference: Reference) -> None:
    """None, too few or of another length: nothing is said of queries."""
    found = drift(replace(frames(), vectors=vectors), reference)
    assert (found.seen, found.mean_shift, found.checks) == (0, None, ())
    assert text(found).startswith("no alarm: nothing could be compared (0 queries")


def test_plain_values(reference: Reference) -> None:
    """What a flow reads is JSON with an `alarm` that is true or false."""
    for found in (drift(window(1, worse=0.4), reference), Drift.nothing()):
        document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert document["alarm"] is bool(found.alarms)
        assert document["alarms"] == list(found.alarms)


def test_bias_and_calibration_by_hand() -> None:
    """Expected .5 of all, three quarters were right: observed is .25 above, and so is the calibration error."""
    given = frames(
        [decision(number) for number in range(100)],
        [call(number, cost_usd=2.0) for number in range(100)],
        [told(number, satisfied=number % 4 > 0) for number in range(80)],
    )
    found = drift(given)
    assert (found.judged, found.priced, found.training_error) == (80, 100, None)
    assert found.checks == found.alarms == ()
    assert found.feedback_rate == 0.8
    assert found.bias == found.calibration_error == 0.25
    assert found.bias_low is not None
    assert found.bias_high is not None
    assert found.bias_low < 0.25 < found.bias_high
    assert found.cost_log_ratio == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("other", [{"served": "large"}, {"mode": "explicit"}, {"mode": "failed-open"}])
def test_only_what_was_expected_counts(other: dict[str, str]) -> None:
    """An answer of another LLM, or without a router's expectation, tells nothing of the expectations."""
    own = [decision(number) for number in MANY]
    foreign = [decision(LEAST + number, quality=1.0, cost_usd=9.0, **other) for number in MANY]
    feedback = [told(number, quality=0.5) for number in range(2 * LEAST)]
    calls = [call(number) for number in range(2 * LEAST)]
    found = drift(frames(own + foreign, calls, feedback))
    assert found.judged == LEAST
    assert found.bias == found.calibration_error == 0.0
    assert found.priced == (2 * LEAST if "served" in other else LEAST) - (LEAST if "served" in other else 0)


def test_too_little_says_nothing() -> None:
    """Fewer than the least: counted, no number."""
    few = range(LEAST - 1)
    found = drift(frames([decision(n) for n in few], [call(n) for n in few], [told(n, quality=1.0) for n in few]))
    assert (found.judged, found.priced) == (LEAST - 1, LEAST - 1)
    assert found.bias is found.calibration_error is found.cost_log_ratio is None
    assert found.feedback_rate == 1.0
    assert drift(frames()).feedback_rate is None


def test_a_check_of_drift_reads_no_explanations(tmp_path: Path) -> None:
    record = DecisionRecord("d", "a", 1.0, 1.0, 10.0, 1e-4, 0.5, np.zeros(2))
    told = {"arms": [{"llm": "a", "quality": 0.5}]}
    with Store.in_file(tmp_path / "store.db") as store:
        store.write([DecisionEntry(record, "a", details=told)])
        assert Frames.read(store, 0.0).arms["llm"].to_list() == ["a"]
        without = Frames.read(store, 0.0, most_arms=0)
    assert without.arms.is_empty()
    assert without.decisions["id"].to_list() == ["d"]
