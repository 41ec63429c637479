"""One check of a candidate: a number, its interval, and what it may be at worst."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from symbiosis.core.errors import one_line
from symbiosis.core.rounding import rounded
from symbiosis.core.statistics import bounds


@dataclass(frozen=True)
class Check:
    """One check of a candidate.

    Attributes
    ----------
    name
        What was looked at.
    passed
        Whether it is well; of a check that does not decide, whether it would have passed.
    value, low, high
        What was measured, with its 95 % interval where there is one.
    threshold
        What the check compares with, if it is a number.
    words
        The same in one sentence.
    decides
        Whether the candidate is refused where the check fails; others are shown.
    """

    name: str
    passed: bool
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    words: str
    decides: bool = True

    @classmethod
    def failed(cls, name: str, reason: object) -> "Check":
        """Return a check that could not be done, which refuses the candidate."""
        return cls(name, False, None, None, None, None, one_line(reason, 400))


def not_worse(
    name: str,
    difference: float,
    samples: np.ndarray,
    margin: float,
    words: str,
    *,
    by: Literal["interval", "mean"] = "interval",
    decides: bool = True,
) -> Check:
    """Judge a difference, candidate less what it is compared with.

    Parameters
    ----------
    name
        What was measured.
    difference
        Its mean.
    samples
        (B,), the same in bootstrap samples, both on the same queries or users.
    margin
        How much worse a candidate may be, not below 0.
    words
        What was compared; the numbers are added.
    by
        ``interval``: the lower end of the 95 % interval must lie above the margin; ``mean``: the difference itself.
    decides
        See `Check`.
    """
    low, high = (rounded(float(bound)) for bound in bounds(samples))
    mean, worst = rounded(float(difference)), 0.0 - margin
    accepted = {"interval": f", down to {worst:g} is accepted", "mean": f", on average {worst:g} is accepted"}
    return Check(
        name,
        (low if by == "interval" else mean) > worst,
        mean,
        low,
        high,
        worst,
        f"{words}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]{accepted[by] if decides else ''}",
        decides,
    )
