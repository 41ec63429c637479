"""Whether the router still expects what happens: quality and cost, expected against observed, in the last window."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.gateway.monitoring.frames import NOT_ROUTED, Frames
from symbiosis.gateway.monitoring.intervals import mean_interval
from symbiosis.routing.metrics.metrics import calibration_error

LEAST = 50
"""With less feedback or fewer priced calls than this, a number would be noise and is left out."""
TRAINING_REPORT = Path("reports/router_train.json")


@dataclass(frozen=True)
class Drift:
    """Expectations against outcomes; None: too little was observed.

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
        The same of the trained router, cross-validated over all LLMs.
    priced
        Calls whose cost is known.
    cost_log_ratio
        Mean log of actual over expected cost of the answering LLM; 0.1: ten percent dearer than expected.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def drift(frames: Frames, training_error: float | None = None) -> Drift:
    """Compare what the router expected with what was observed.

    Only queries that the chosen LLM answered itself count: what a decision keeps is expected of that LLM.

    Parameters
    ----------
    frames
        Of the window.
    training_error
        See `training_error`.
    """
    served = frames.decisions.filter(pl.col("served").is_not_null())
    expected = (pl.col("served") == pl.col("llm")) & ~pl.col("mode").is_in(NOT_ROUTED)
    judged = frames.judged().filter(expected)
    bias = error = None
    if judged.height >= LEAST:
        predicted = np.clip(judged["quality"].to_numpy(), 0.0, 1.0)
        observed = judged["observed"].to_numpy()
        bias, error = mean_interval(observed - predicted), calibration_error(predicted, observed)
    priced = (
        frames.calls.filter(pl.col("cost_usd") > 0)
        .join(served.filter(expected), left_on=["decision", "llm"], right_on=["id", "llm"], suffix="_expected")
        .filter(pl.col("cost_usd_expected") > 0)
        .select((pl.col("cost_usd") / pl.col("cost_usd_expected")).log().alias("ratio"))
    )
    ratio = priced["ratio"].mean() if priced.height >= LEAST else None
    told = served.join(frames.feedback, left_on="id", right_on="decision", how="semi").height
    return Drift(
        judged=judged.height,
        feedback_rate=_rounded(told / served.height) if served.height else None,
        bias=_rounded(bias.mean if bias else None),
        bias_low=_rounded(bias.low if bias else None),
        bias_high=_rounded(bias.high if bias else None),
        calibration_error=_rounded(error),
        training_error=_rounded(training_error),
        priced=priced.height,
        cost_log_ratio=_rounded(ratio),
    )


def training_error(report: Path = TRAINING_REPORT) -> float | None:
    """Return the trained router's expected calibration error from the report of its training; None if there is none."""
    try:
        return float(json.loads(report.read_text(encoding="utf-8"))["all"]["ece"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)
