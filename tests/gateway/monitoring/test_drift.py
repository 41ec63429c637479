"""Drift: expectations against outcomes."""

import json
import math
from pathlib import Path

import pytest
from monitoring_frames import call, decision, frames, told

from symbiosis.gateway.monitoring.drift import LEAST, drift, training_error

MANY = range(LEAST)


def test_bias_and_calibration_by_hand() -> None:
    """Expected .5 of all, three quarters were right: observed is .25 above, and so is the calibration error."""
    given = frames(
        [decision(number) for number in range(100)],
        [call(number, cost_usd=2.0) for number in range(100)],
        [told(number, satisfied=number % 4 > 0) for number in range(80)],
    )
    found = drift(given, training_error=0.04)
    assert (found.judged, found.priced, found.training_error) == (80, 100, 0.04)
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


def test_training_error_is_read_from_the_report(tmp_path: Path) -> None:
    """From the report of the training; a report that is missing or of another form has none."""
    report = tmp_path / "report.json"
    assert training_error(report) is None
    for content, expected in (("{", None), ("[]", None), (json.dumps({"all": {"ece": 0.041}}), 0.041)):
        report.write_text(content)
        assert training_error(report) == expected
