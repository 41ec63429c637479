"""One check by hand, and what no interval may do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.registry.checks.check import Check, not_worse
from symbiosis.registry.verdict import Judged, Verdict

STEPS = np.arange(41) / 100  # 2.5 % of it lie at or below .01, 97.5 % at or below .39


@pytest.mark.parametrize(
    ("shift", "margin", "passed"),
    [
        (0.0, 0.0, True),  # from .01 on
        (-0.02, 0.0, False),  # from -.01 on
        (-0.01, 0.005, True),
        (-0.03, 0.01, False),
        (-0.03, 0.021, True),  # from -.02 on
    ],
)
def test_interval_by_hand(shift: float, margin: float, passed: bool) -> None:
    """The lower end of the interval must lie above the margin, whatever the mean."""
    check = not_worse("utility", 0.2 + shift, STEPS + shift, margin, "compared")
    assert (check.low, check.high) == (pytest.approx(0.01 + shift), pytest.approx(0.39 + shift))
    assert check.passed is passed
    assert check.threshold == -margin
    assert check.words == f"compared: {0.2 + shift:+.4f} [{check.low:+.4f}, {check.high:+.4f}], " + (
        f"down to {0.0 - margin:g} is accepted"
    )


def test_by_the_mean() -> None:
    """Without a champion the mean decides, however wide the interval."""
    assert not_worse("utility", 0.0, STEPS - 0.2, 0.01, "", by="mean").passed
    assert not not_worse("utility", -0.02, STEPS - 0.22, 0.01, "", by="mean").passed


differences = st.lists(st.floats(-1, 1), min_size=5, max_size=30).map(np.array)


@given(differences, st.floats(0, 0.5), st.floats(1, 5))
def test_noise_never_opens_the_gate(samples: np.ndarray, margin: float, wider: float) -> None:
    """Samples that spread wider about the same median pass only if the narrow ones do."""
    middle = float(np.median(samples))
    noisy = middle + wider * (samples - middle)
    if not_worse("x", middle, noisy, margin, "").passed:
        assert not_worse("x", middle, samples, margin, "").passed


@given(differences, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1))
def test_more_leave_or_a_better_candidate_never_shuts_it(
    samples: np.ndarray, margin: float, more: float, better: float
) -> None:
    mean = float(samples.mean())
    if not_worse("x", mean, samples, margin, "").passed:
        assert not_worse("x", mean, samples, margin + more, "").passed
        assert not_worse("x", mean + better, samples + better, margin, "").passed


def check(passed: bool, decides: bool = True) -> Check:
    return Check("c", passed, 0.0, -0.1, 0.1, -0.2, "passed words" if passed else "failed words", decides)


@pytest.mark.parametrize(
    ("checks", "standing"),
    [
        ([check(True)], "passed"),
        ([check(True), check(False)], "refused"),
        ([check(True), check(False, decides=False)], "passed"),
        ([check(True, decides=False)], "refused"),  # nothing that decides was checked
        ([], "refused"),
        ([check(True), Check.failed("c", "the data\nlack")], "refused"),
    ],
)
def test_verdict(checks: list[Check], standing: str) -> None:
    """Every check that decides must pass, and there must be one."""
    verdict = Verdict.of("router", checks, Judged(2, "b"), Judged(1, "a"), "now")
    assert verdict.standing == standing
    assert verdict.passed is (standing == "passed")
    assert "version 2 (b)" in verdict.words
    failed = [one.words for one in checks if one.decides and not one.passed]
    assert all(words in verdict.words for words in failed)
    assert "\n" not in verdict.words
