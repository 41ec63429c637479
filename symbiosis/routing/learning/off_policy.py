"""What another policy would have earned on a logged stream, of which only the rewards of the taken actions are known.

Direct method (DM), inverse propensity scoring (IPS; Horvitz and Thompson 1952), self-normalised IPS (SNIPS; Swaminathan
and Joachims 2015), doubly robust (DR; Dudik et al. 2011), self-normalised DR (SNDR) and SWITCH-DR (Wang et al. 2017).
All of them need propensities above zero wherever the target policy may act: a log of argmax decisions supports only
the direct method.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.core.statistics import bounds, resampled_means

Estimator = Literal["dm", "ips", "snips", "dr", "sndr", "switch"]
ESTIMATORS: tuple[Estimator, ...] = ("dm", "ips", "snips", "dr", "sndr", "switch")
PREDICTIONS_DOUBTED = "dm and dr differ"
"""How the alarm begins that speaks against the direct method alone."""
NEGLIGIBLE = 0.002
"""Of a mean weight or a reward: where hardly anything is explored, all noise is smaller, and its tests are too."""
CHUNK = 100  # bootstrap samples per product: bounds memory at CHUNK x N numbers


@dataclass(frozen=True)
class Logged:
    """A stream as it was logged.

    Attributes
    ----------
    arm
        (N,), the LLM that was asked.
    propensity
        (N,), the probability with which it was chosen, above 0 and at most 1.
    reward
        (N,), what came of it: quality, satisfaction or utility.
    """

    arm: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray

    def __post_init__(self) -> None:
        """Refuse a log that no estimate can be made from.

        Raises
        ------
        InputError
            It is empty, the columns differ in length, or a propensity or reward is impossible.
        """
        if not len(self.arm) == len(self.propensity) == len(self.reward) or not len(self.arm):
            raise InputError(
                "the log is empty or its columns differ in length: give one arm, propensity and reward each"
            )
        bad = ~((self.propensity > 0) & (self.propensity <= 1) & np.isfinite(self.reward))
        if bad.any():
            row = int(bad.argmax())
            raise InputError(
                f"row {row} of the log has propensity {self.propensity[row]} and reward {self.reward[row]}: the "
                "propensity must lie above 0 and not above 1, the reward must be finite"
            )


@dataclass(frozen=True)
class Estimate:
    """The estimated mean reward of a policy.

    Attributes
    ----------
    value
        Mean reward per query.
    standard_error
        Of `value`, over queries; the direct method's ignores the error of the predictions.
    low, high
        95 % bootstrap interval over queries.
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """All estimates for one target policy, and how far they can be trusted.

    Attributes
    ----------
    estimates
        By estimator.
    effective_sample_size
        (sum w)^2 / sum w^2 of the importance weights (Kish 1965), of N queries.
    largest_weight
        Before clipping.
    clipped
        Share of the queries whose weight was clipped.
    alarms
        Why the estimates should not be trusted; empty if nothing speaks against them.
    """

    estimates: dict[Estimator, Estimate]
    effective_sample_size: float
    largest_weight: float
    clipped: float
    alarms: tuple[str, ...]


def evaluate_policy(
    logged: Logged,
    target: np.ndarray,
    predicted: np.ndarray,
    *,
    clip: float = 100.0,
    switch: float = 10.0,
    samples: int = 1000,
    seed: int = 0,
    least_effective: float = 30.0,
) -> Report:
    """Estimate what a target policy would have earned.

    Parameters
    ----------
    logged
        N queries.
    target
        (N, L), the target policy's probabilities.
    predicted
        (N, L), predicted rewards, made without the logged rewards of these queries: those that the router had when it
        decided, or cross-fitted ones.
    clip
        Larger importance weights are set to this: less variance, some bias.
    switch
        SWITCH corrects the prediction only where the weight is at most this.
    samples, seed
        Of the bootstrap over queries.
    least_effective
        A smaller effective sample size raises an alarm.

    Raises
    ------
    InputError
        The shapes do not fit, or a row of `target` is no distribution.
    """
    _check(logged, target, predicted)
    parts = _Parts.of(logged, target, predicted, clip, switch)
    values = _values(parts.rows.mean(axis=0)[None])[0]
    drawn = _bootstrap(parts.rows, samples, seed)
    errors = parts.standard_errors(values)
    estimates = {
        name: Estimate(float(values[place]), errors[name], *_interval(drawn[:, place]))
        for place, name in enumerate(ESTIMATORS)
    }
    weight = np.minimum(parts.raw, clip)
    effective = effective_size(weight)
    return Report(
        estimates,
        effective,
        float(parts.raw.max()),
        float((parts.raw > clip).mean()),
        _alarms(drawn, weight, effective, least_effective),
    )


def compare_policies(
    logged: Logged,
    first: np.ndarray,
    second: np.ndarray,
    predicted: np.ndarray,
    *,
    clip: float = 100.0,
    switch: float = 10.0,
    samples: int = 1000,
    seed: int = 0,
) -> dict[Estimator, Estimate]:
    """Estimate how much more one target policy would have earned than another.

    Both estimates are made from the same predictions and the same bootstrap samples. So queries for which the two
    policies act alike cancel in ``dm``, ``ips``, ``dr`` and ``switch``, and the interval is that of a paired
    difference.

    Parameters
    ----------
    logged
        N queries.
    first, second
        (N, L), the policies' probabilities.
    predicted, clip, switch, samples, seed
        See `evaluate_policy`.

    Returns
    -------
    dict
        By estimator: first less second.

    Raises
    ------
    InputError
        As in `evaluate_policy`.
    """
    sides = []
    for target in (first, second):
        _check(logged, target, predicted)
        parts = _Parts.of(logged, target, predicted, clip, switch)
        values = _values(parts.rows.mean(axis=0)[None])[0]
        sides.append((values, _bootstrap(parts.rows, samples, seed), parts.influence(values)))
    (one, one_drawn, one_rows), (other, other_drawn, other_rows) = sides
    return {
        name: Estimate(
            float(one[place] - other[place]),
            float((one_rows[name] - other_rows[name]).std() / np.sqrt(len(logged.arm))),
            *_interval(one_drawn[:, place] - other_drawn[:, place]),
        )
        for place, name in enumerate(ESTIMATORS)
    }


def effective_size(weights: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 of weights (N,) (Kish 1965); 0 where all are 0."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0


def _check(logged: Logged, target: np.ndarray, predicted: np.ndarray) -> None:
    n = len(logged.arm)
    if (
        target.shape != predicted.shape
        or len(target) != n
        or not (0 <= logged.arm.min() <= logged.arm.max() < target.shape[1])
    ):
        raise InputError(
            f"{n} logged queries of LLMs up to {logged.arm.max()}, but target {target.shape} and predictions "
            f"{predicted.shape}: one row per query and one column per LLM are needed"
        )
    if (target < 0).any() or np.abs(target.sum(axis=1) - 1).max() > 1e-6:
        row = int(np.abs(target.sum(axis=1) - 1).argmax())
        raise InputError(f"row {row} of the target policy is no distribution: {target[row]}")


@dataclass(frozen=True)
class _Parts:
    """What every query adds to the estimates, each of which is a function of the columns' means.

    Attributes
    ----------
    rows
        (N, 5): predicted reward of the target, weight, weight times reward, weight times error of the prediction, and
        the same where the weight is not above `switch`.
    raw
        (N,), weights before clipping.
    """

    rows: np.ndarray
    raw: np.ndarray

    @classmethod
    def of(cls, logged: Logged, target: np.ndarray, predicted: np.ndarray, clip: float, switch: float) -> "_Parts":
        rows = np.arange(len(logged.arm))
        raw = target[rows, logged.arm] / logged.propensity
        weight = np.minimum(raw, clip)
        error = logged.reward - predicted[rows, logged.arm]
        kept = np.where(raw <= switch, raw, 0.0)
        direct = (target * predicted).sum(axis=1)
        return cls(np.column_stack([direct, weight, weight * logged.reward, weight * error, kept * error]), raw)

    def influence(self, values: np.ndarray) -> dict[Estimator, np.ndarray]:
        """Return what each query adds to each estimate, (N,), as far as its spread goes; `values` are the estimates."""
        direct, weight, rewarded, corrected, switched = self.rows.T
        mean = max(float(weight.mean()), 1e-300)
        return {
            "dm": direct,
            "ips": rewarded,
            "snips": (rewarded - weight * values[2]) / mean,
            "dr": direct + corrected,
            "sndr": direct + (corrected - weight * (values[4] - values[0])) / mean,
            "switch": direct + switched,
        }

    def standard_errors(self, values: np.ndarray) -> dict[Estimator, float]:
        """Return the standard error of each estimate over queries."""
        return {name: float(one.std() / np.sqrt(len(one))) for name, one in self.influence(values).items()}


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = bounds(drawn)
    return float(low), float(high)


def _values(means: np.ndarray) -> np.ndarray:
    """Return the estimates, (B, 6) in the order of `ESTIMATORS`, from the means of the parts, (B, 5)."""
    direct, weight, rewarded, corrected, switched = means.T
    safe = np.maximum(weight, 1e-300)
    columns = (direct, rewarded, rewarded / safe, direct + corrected, direct + corrected / safe, direct + switched)
    return np.column_stack(columns)


def _bootstrap(parts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Return the estimates of each bootstrap sample, (samples, 6)."""
    starts = range(0, samples, CHUNK)
    means = [resampled_means(parts, min(CHUNK, samples - s), seed + i, "counts") for i, s in enumerate(starts)]
    return _values(np.concatenate(means))


def _alarms(drawn: np.ndarray, weight: np.ndarray, effective: float, least: float) -> tuple[str, ...]:
    """Say what speaks against the estimates: few effective queries, weights that miss mean 1, disagreement.

    DM and DR differ by the mean weighted error of the predictions, IPS and DR by noise of mean zero, as long as the
    propensities are right. Differences are taken within each bootstrap sample, at 99 %.
    """
    alarms = []
    if effective < least:
        alarms.append(
            f"effective sample size {effective:.1f} is below {least:g}: the log hardly ever acts as the target"
        )
    spread = weight.std() / np.sqrt(len(weight))
    if abs(weight.mean() - 1) > 3 * spread + NEGLIGIBLE:
        alarms.append(
            f"importance weights have mean {weight.mean():.3f} instead of 1: propensities are wrong, some are clipped, "
            "or the log lacks actions of the target"
        )
    doubly_robust = drawn[:, ESTIMATORS.index("dr")]
    for name in ("dm", "ips", "snips", "switch"):
        low, high = bounds(drawn[:, ESTIMATORS.index(name)] - doubly_robust, 0.99)
        if low > NEGLIGIBLE or high < -NEGLIGIBLE:
            alarms.append(f"{name} and dr differ by {low:+.4f} to {high:+.4f}")
    return tuple(alarms)


def true_value(target: np.ndarray, rewards: np.ndarray) -> float:
    """Return the mean reward of a policy (N, L) where the rewards of all arms, (N, L), are known."""
    return float((target * rewards).sum(axis=1).mean())


def table(report: Report, truth: float | None = None) -> list[dict[str, float | str | None]]:
    """Return one row per estimator: its value, and how far it is from the truth where that is known."""
    rows: list[dict[str, float | str | None]] = []
    for name, estimate in report.estimates.items():
        error = None if truth is None else estimate.value - truth
        rows.append(
            {
                "estimator": name,
                "value": estimate.value,
                "standard_error": estimate.standard_error,
                "low": estimate.low,
                "high": estimate.high,
                "truth": truth,
                "error": error,
                "error_in_standard_errors": None if error is None else error / max(estimate.standard_error, 1e-300),
            }
        )
    return rows
