"""Whether the router still sees the queries that it was trained on and expects what happens, in the last window.

Five checks: the mix of tags and the vectors of the queries against the training queries; quality, calibration and cost
of the answers against what was expected of the LLM that answered. Each has a threshold that it exceeds with a
probability of at most `symbiosis.routing.learning.reference.LEVEL` if nothing has changed and queries are independent:
one window in a hundred rings by mistake. Expectations may be off by a tolerance besides.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtrit

from symbiosis.gateway.monitoring.frames import NOT_ROUTED, Frames
from symbiosis.gateway.monitoring.intervals import Estimate, mean_interval
from symbiosis.routing.learning.reference import LEVEL, Distance, Expectations, Reference
from symbiosis.routing.metrics.metrics import calibration_error

LEAST = 50
"""With fewer queries, feedback or priced calls than this, a number would be noise and is left out."""
QUALITY_TOLERANCE, CALIBRATION_TOLERANCE, COST_TOLERANCE = 0.05, 0.02, float(np.log(1.2))
"""Beside what chance does: of quality, of the calibration error, of the log of costs."""
BINS = 10
SHOWN_TAGS = 5


_WORDS = {
    "tags": "distance of the mix of tags",
    "vectors": "distance of the queries' vectors",
    "quality": "observed less expected quality",
    "calibration": "calibration error",
    "cost": "log of actual over expected cost",
}


@dataclass(frozen=True)
class Check:
    """One number of a window against the training.

    Attributes
    ----------
    name
        ``tags``, ``vectors``, ``quality``, ``calibration`` or ``cost``.
    value, threshold
        A value above the threshold, or below its negative, is an alarm.
    n
        Queries that it comes from.
    alarm
        Whether it rings.
    words
        What the value is.
    """

    name: str
    value: float
    threshold: float
    n: int
    alarm: bool
    words: str

    @classmethod
    def of(cls, name: str, value: float, threshold: float, n: int) -> "Check":
        """Compare a value with its threshold."""
        return cls(name, round(value, 6), round(threshold, 6), n, abs(value) > threshold, f"{_WORDS[name]}, n {n:,}")


@dataclass(frozen=True)
class Drift:
    """Expectations against outcomes, and queries against those of the training; None: too little was observed.

    Attributes
    ----------
    judged
        Answers with feedback that the router had an expectation of.
    feedback_rate
        Share of the served queries with feedback.
    bias, bias_low, bias_high
        Mean of observed less expected quality with its 95 % interval; below 0: answers are worse than expected.
    calibration_error
        Expected calibration error of the window, ten bins.
    training_error
        The same of the LLM that the router would choose, cross-validated on its training queries.
    priced
        Calls whose cost is known.
    cost_log_ratio
        Mean log of actual over expected cost of the answering LLM; 0.1: ten percent dearer than expected.
    seen
        Queries whose vectors were compared.
    mean_shift, spread_ratio
        See `symbiosis.routing.learning.reference.Reference.shift`.
    tags
        The tags whose share differs most from training: ``tag``, ``share``, ``training``.
    checks
        What could be compared.
    """

    judged: int
    feedback_rate: float | None
    bias: float | None
    bias_low: float | None
    bias_high: float | None
    calibration_error: float | None
    training_error: float | None
    priced: int
    cost_log_ratio: float | None
    seen: int = 0
    mean_shift: float | None = None
    spread_ratio: float | None = None
    tags: tuple[dict[str, Any], ...] = ()
    checks: tuple[Check, ...] = ()

    @classmethod
    def nothing(cls) -> "Drift":
        """Return what is known before anything was routed."""
        return cls(0, None, None, None, None, None, None, 0, None)

    @property
    def alarms(self) -> tuple[str, ...]:
        """Names of the checks that ring."""
        return tuple(check.name for check in self.checks if check.alarm)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        told = asdict(self)
        del told["checks"]
        return told | {
            "tags": list(self.tags),
            "measures": [asdict(check) for check in self.checks],
            "alarm": bool(self.alarms),
            "alarms": list(self.alarms),
        }


def drift(frames: Frames, reference: Reference | None = None) -> Drift:
    """Compare a window with the training.

    Of expectations only queries that the chosen LLM answered itself count: what a decision keeps is expected of that
    LLM.

    Parameters
    ----------
    frames
        Of the window.
    reference
        Of the trained router; None: there is none, and nothing rings.
    """
    served = frames.decisions.filter(pl.col("served").is_not_null())
    expected = (pl.col("served") == pl.col("llm")) & ~pl.col("mode").is_in(NOT_ROUTED)
    judged = frames.judged().filter(expected)
    predicted = np.clip(judged["quality"].to_numpy(), 0.0, 1.0)
    observed = judged["observed"].to_numpy()
    priced = (
        frames.calls.filter(pl.col("cost_usd") > 0)
        .join(served.filter(expected), left_on=["decision", "llm"], right_on=["id", "llm"], suffix="_expected")
        .filter(pl.col("cost_usd_expected") > 0)
        .select((pl.col("cost_usd") / pl.col("cost_usd_expected")).log().alias("ratio"))
    )["ratio"].to_numpy()
    bias = mean_interval(observed - predicted) if judged.height >= LEAST else None
    error = calibration_error(predicted, observed, BINS) if judged.height >= LEAST else None
    ratio = mean_interval(priced) if len(priced) >= LEAST else None
    told = served.join(frames.feedback, left_on="id", right_on="decision", how="semi").height
    vectors = frames.vectors
    comparable = reference is not None and len(vectors) >= LEAST and vectors.shape[1] == len(reference.mean)
    queries = _Queries.compare(vectors, reference) if comparable and reference is not None else _Queries()
    checks = [*queries.checks]
    if reference is not None:
        checks += _expectations(reference.served, bias, error, predicted, ratio)
    return Drift(
        judged=judged.height,
        feedback_rate=_rounded(told / served.height) if served.height else None,
        bias=_rounded(bias.mean if bias else None),
        bias_low=_rounded(bias.low if bias else None),
        bias_high=_rounded(bias.high if bias else None),
        calibration_error=_rounded(error),
        training_error=_rounded(reference.served.ece if reference else None),
        priced=len(priced),
        cost_log_ratio=_rounded(ratio.mean if ratio else None),
        seen=len(vectors) if comparable else 0,
        mean_shift=_rounded(queries.mean_shift),
        spread_ratio=_rounded(queries.spread_ratio),
        tags=queries.tags,
        checks=tuple(checks),
    )


@dataclass(frozen=True)
class _Queries:
    """The queries of a window against those of the training."""

    mean_shift: float | None = None
    spread_ratio: float | None = None
    tags: tuple[dict[str, Any], ...] = ()
    checks: tuple[Check, ...] = ()

    @classmethod
    def compare(cls, vectors: np.ndarray, reference: Reference) -> "_Queries":
        counts = reference.tag_counts(vectors)
        distances: dict[str, Distance | None] = {
            "tags": reference.tag_distance(counts),
            "vectors": reference.vector_distance(vectors),
        }
        checks = [
            Check.of(name, found.value, found.threshold, len(vectors)) for name, found in distances.items() if found
        ]
        share, trained = counts / len(vectors), reference.counts / reference.queries
        shown = SHOWN_TAGS if len(counts) > 1 else 0
        most = np.argsort(-np.abs(share - trained), kind="stable")[:shown]
        tags = [
            {"tag": reference.tags[tag], "share": _rounded(share[tag]), "training": _rounded(trained[tag])}
            for tag in most
        ]
        return cls(*reference.shift(vectors), tuple(tags), tuple(checks))


def text(found: Drift) -> str:
    """Return what was found as text for people."""
    if not found.checks:
        few = f"{found.seen:,} queries with a vector, {found.judged:,} answers with feedback, {found.priced:,} priced"
        return f"no alarm: nothing could be compared ({few}; each check needs {LEAST})"
    lines = [f"alarm: {', '.join(found.alarms)}" if found.alarms else "no alarm"]
    for check in found.checks:
        sign = ">" if check.alarm else "<"
        lines.append(f"  {check.name}: |{check.value:.4f}| {sign} {check.threshold:.4f}, {check.words}")
    if found.mean_shift is not None and found.spread_ratio is not None:
        lines.append(f"  mean vector {found.mean_shift:.3f} spreads away, spread {found.spread_ratio:.3f} of training")
    if "tags" in found.alarms:
        lines += [
            f"  {one['tag']}: {one['share']:.1%} of queries, {one['training']:.1%} in training" for one in found.tags
        ]
    return "\n".join(lines)


def _expectations(
    known: Expectations,
    bias: Estimate | None,
    error: float | None,
    predicted: np.ndarray,
    ratio: Estimate | None,
) -> list[Check]:
    """Compare outcomes with expectations, by as much as these were off in training."""
    checks = []
    if bias is not None:
        checks.append(Check.of("quality", bias.mean - known.bias, QUALITY_TOLERANCE + _reach(bias), bias.n))
    if error is not None:
        threshold = known.ece + CALIBRATION_TOLERANCE + chance_error(predicted)
        checks.append(Check.of("calibration", error, threshold, len(predicted)))
    if ratio is not None and known.cost_log_ratio is not None:
        threshold = COST_TOLERANCE + _reach(ratio)
        checks.append(Check.of("cost", ratio.mean - known.cost_log_ratio, threshold, ratio.n))
    return checks


def _reach(estimate: Estimate) -> float:
    """Return the half width of the interval with the probability `LEVEL` outside, from that of 95 %."""
    usual, wide = stdtrit(estimate.n - 1, [0.975, 1 - LEVEL / 2])
    return float((estimate.high - estimate.mean) * wide / usual)


def chance_error(predicted: np.ndarray, draws: int = 5000) -> float:
    """Return the calibration error that chance alone exceeds with the probability `LEVEL`, (N,) being predicted.

    The sum of the bins' gaps, each normal as a mean of outcomes that are 0 or 1; graded ones spread less. By the
    triangle inequality the error of a window exceeds that of the training by no more.
    """
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    variance = np.bincount(place, weights=predicted * (1 - predicted), minlength=BINS)
    normal = np.random.default_rng(0).standard_normal((draws, BINS))
    drawn = (np.abs(normal) * np.sqrt(variance)).sum(axis=1) / len(predicted)
    return float(np.quantile(drawn, 1 - LEVEL))


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)
