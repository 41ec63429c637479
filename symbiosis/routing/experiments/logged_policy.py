"""What a router would have earned on queries that another one served: off-policy estimates from logged feedback.

Doubly robust (DR) and self-normalised inverse propensity (SNIPS) estimates of the mean utility, see
`symbiosis.routing.learning.off_policy`, for a candidate, for the champion, and for the difference of the two. Only
queries that no router under test was trained on may be given. An estimate that cannot be trusted says why; where the
log allows none, there is none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.logged import Logged as Answers
from symbiosis.routing.experiments.logged_rows import LoggedRows, Served
from symbiosis.routing.learning.off_policy import (
    PREDICTIONS_DOUBTED,
    Estimate,
    Estimator,
    Logged,
    Report,
    compare_policies,
    effective_size,
    evaluate_policy,
)
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.exploration import Kind, probabilities
from symbiosis.routing.queries.vector_form import VectorForm

LEAST_ROWS = 30
"""Rows below which nothing is estimated."""
LEAST_EFFECTIVE = 50
"""Effective rows below which no estimate is trusted: with fewer, intervals hold the truth too seldom, see
`bench.logged_feedback`."""
SHOWN: tuple[Estimator, ...] = ("dr", "snips")
MOST_REPEATED = 0.5
"""Share of the rows whose text came before; with more, intervals over rows are too narrow."""


@dataclass(frozen=True)
class PolicyEstimate:
    """What one router would have earned.

    Attributes
    ----------
    report
        Estimates of the mean utility, weights and alarms; None where there are too few rows.
    agreement
        Share of the rows in which it would have asked the LLM that was asked.
    alarms
        Why the estimates should not be trusted.
    notes
        What does not speak against them but should be known.
    """

    report: Report | None
    agreement: float
    alarms: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def numbers(self) -> dict[str, Any]:
        """Return it for JSON."""
        if self.report is None:
            return {"trusted": False, "alarms": list(self.alarms)}
        return {
            **{name: _numbers(self.report.estimates[name]) for name in SHOWN},
            "effective_sample_size": rounded(self.report.effective_sample_size),
            "largest_weight": rounded(self.report.largest_weight),
            "clipped_share": rounded(self.report.clipped),
            "agreement": rounded(self.agreement),
            "trusted": not self.alarms,
            "alarms": list(self.alarms),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Comparison:
    """Two routers on the same logged queries.

    Attributes
    ----------
    candidate, champion
        Each by itself; the champion's is None where there is none.
    difference
        Candidate less champion, paired, by estimator; None where there is no champion or too few rows.
    alike
        Share of the rows that both would send to the same LLM.
    informative
        Effective number of rows that tell the two apart.
    alarms
        Why the difference should not be trusted.
    rows
        What it was made from.
    trade_off, cost_scale
        Of the utility.
    """

    candidate: PolicyEstimate
    champion: PolicyEstimate | None
    difference: dict[Estimator, Estimate] | None
    alike: float
    informative: float
    alarms: tuple[str, ...]
    rows: LoggedRows
    trade_off: float
    cost_scale: float

    def numbers(self) -> dict[str, Any]:
        """Return it for JSON."""
        told: dict[str, Any] = {
            "rows": len(self.rows),
            "texts": self.rows.texts,
            "left_out": self.rows.left_out,
            "assumed": self.rows.assumed,
            "trade_off": self.trade_off,
            "cost_scale_usd": rounded(self.cost_scale),
            "candidate": self.candidate.numbers(),
        }
        if self.champion is None:
            return told
        estimates: dict[str, Any] = (
            {} if self.difference is None else {name: _numbers(self.difference[name]) for name in SHOWN}
        )
        return told | {
            "champion": self.champion.numbers(),
            "difference": {
                **estimates,
                "alike": rounded(self.alike),
                "informative_rows": rounded(self.informative),
                "trusted": self.difference is not None and not self.alarms,
                "alarms": list(self.alarms),
            },
        }


def estimate(served: Served, logged: Answers, **options: Any) -> Comparison:
    """Estimate one router; see `compare`, whose options it takes."""
    return compare(served, None, logged, **options)


def report(candidate: Served, champion: Served | None, logged: Answers, **options: Any) -> dict[str, Any]:
    """Return for a JSON report what `compare` finds, whose options it takes."""
    return compare(candidate, champion, logged, **options).numbers()


def compare(
    candidate: Served,
    champion: Served | None,
    logged: Answers,
    *,
    form: VectorForm | None = None,
    trade_off: float | None = None,
    smoothing: float = 0.0,
    clip: float = 100.0,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Estimate what a candidate and the champion would have earned on logged queries that neither was trained on.

    Both decide on idle LLMs. Rewards are utilities in the champion's units of cost, whatever a router's own are. Both
    estimates use the mean of the two routers' predictions, so that queries which both send to the same LLM cancel in
    the difference: one's own predictions flatter one's own choice, and differ where the decisions do not.

    Parameters
    ----------
    candidate
        The newer one.
    champion
        The one that serves; None: there is none yet.
    logged
        Held-out rows of the log, `symbiosis.routing.data.logged.Logged.held_out`.
    form
        Of their vectors, such as ``VectorForm.read("data/embeddings")``; None: that of the routers.
    trade_off
        lambda of all decisions and of the utility; None: the candidate's.
    smoothing
        Temperature of a softmax over the score, by which routers are taken to decide; 0: always the best.
    clip
        Larger importance weights are set to this.
    samples, seed
        Of the bootstrap over queries.
    """
    sides = [candidate] if champion is None else [candidate, champion]
    rows = LoggedRows.of(logged, form, sides)
    weight = candidate.trade_off if trade_off is None else trade_off
    cost_scale = sides[-1].router.cost_scale
    if len(rows) < LEAST_ROWS:
        blank = PolicyEstimate(None, 0.0, (_too_few(rows),))
        other = None if champion is None else blank
        return Comparison(blank, other, None, 0.0, 0.0, blank.alarms, rows, weight, cost_scale)
    names = tuple(dict.fromkeys((*(name for one in sides for name in one.router.llms.names), *rows.llm)))
    targets, predictions = [], []
    for one in sides:
        target, predicted = _decided(one.router, rows.vectors, names, weight, smoothing, cost_scale)
        targets.append(target)
        predictions.append(predicted)
    # An LLM that only one of them knows has that one's prediction; an LLM that none knows is never asked.
    seen = ~np.isnan(np.stack(predictions))
    shared = np.where(seen, predictions, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    arm = np.array([names.index(name) for name in rows.llm])
    stream = Logged(arm, rows.propensity, _worth(rows.quality, rows.cost_usd, weight, cost_scale))
    judged = []
    for target in targets:
        found = evaluate_policy(
            stream, target, shared, clip=clip, samples=samples, seed=seed, least_effective=LEAST_EFFECTIVE
        )
        judged.append(_judged(found, target, stream, rows))
    if champion is None:
        return Comparison(judged[0], None, None, 1.0, 0.0, (), rows, weight, cost_scale)
    difference = compare_policies(stream, targets[0], targets[1], shared, clip=clip, samples=samples, seed=seed)
    alike = float(np.minimum(targets[0], targets[1]).sum(axis=1).mean())
    place = np.arange(len(rows))
    told_apart = np.abs(targets[0][place, arm] - targets[1][place, arm]) / rows.propensity
    informative = effective_size(np.minimum(told_apart, clip))
    names_of_sides = zip(("candidate", "champion"), judged, strict=True)
    alarms = [f"{who}: {alarm}" for who, one in names_of_sides for alarm in one.alarms]
    if alike < 1 and informative < LEAST_EFFECTIVE:
        alarms.append(
            f"{informative:.1f} effective rows tell the two apart, fewer than {LEAST_EFFECTIVE}: they decide alike in "
            f"{alike:.1%} of the rows, and the log hardly ever asked what one of them alone would"
        )
    return Comparison(judged[0], judged[1], difference, alike, informative, tuple(alarms), rows, weight, cost_scale)


def _decided(
    router: Router, vectors: np.ndarray, names: tuple[str, ...], trade_off: float, smoothing: float, cost_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a router's probabilities and its predicted utilities, (N, U) each, of LLMs by name.

    It decides by its own units of cost, the predicted utilities are in the given ones; NaN for LLMs it does not know.
    """
    expected = router.predict(router.feature_map(vectors))
    score = _worth(expected.quality, expected.cost_usd, trade_off, router.cost_scale)
    kind: Kind = "softmax" if smoothing > 0 else "none"
    own = np.stack([probabilities(row, np.ones(len(row)), kind, smoothing) for row in score])
    places = [names.index(name) for name in router.llms.names]
    target, predicted = np.zeros((len(vectors), len(names))), np.full((len(vectors), len(names)), np.nan)
    target[:, places] = own
    predicted[:, places] = _worth(expected.quality, expected.cost_usd, trade_off, cost_scale)
    return target, predicted


def _worth(quality: np.ndarray, cost_usd: np.ndarray, trade_off: float, cost_scale: float) -> np.ndarray:
    return utility(quality, scaled_cost(cost_usd, cost_scale), trade_off)


def _judged(found: Report, target: np.ndarray, logged: Logged, rows: LoggedRows) -> PolicyEstimate:
    """Add what the log itself says for and against estimates."""
    alarms = [alarm for alarm in found.alarms if not alarm.startswith(PREDICTIONS_DOUBTED)]
    # Of the direct method alone: the others correct the predictions.
    notes = [alarm for alarm in found.alarms if alarm.startswith(PREDICTIONS_DOUBTED)]
    agreement = float(target[np.arange(len(rows)), logged.arm].mean())
    if len(set(rows.llm)) == 1:
        others = 1 - float(target[:, logged.arm[0]].mean())
        if others > 0:
            alarms.append(f"the log asked {rows.llm[0]!r} alone, the router asks others in {others:.1%} of the rows")
    if rows.texts < (1 - MOST_REPEATED) * len(rows):
        alarms.append(f"{len(rows)} rows have {rows.texts} different texts: intervals over rows are too narrow")
    if rows.left_out.get("nothing was explored", 0):
        notes.append("only of the queries that were explored: the others can say nothing of an LLM that had no chance")
    return PolicyEstimate(found, agreement, tuple(alarms), tuple(notes))


def _too_few(rows: LoggedRows) -> str:
    why = "".join(f", {count} left out: {reason}" for reason, count in rows.left_out.items())
    return f"{len(rows)} rows, fewer than {LEAST_ROWS}{why}: nothing is estimated"


def _numbers(one: Estimate) -> dict[str, float]:
    return {name: rounded(getattr(one, name)) for name in ("value", "standard_error", "low", "high")}
