"""Continual learning: the effect of feedback on a stream on queries that come later.

The protocol of MixLLM (arXiv 2502.18482): train offline on a share of the training queries, replay the rest as a
stream with no, refined or binary feedback, then score untouched test queries. Beside it a control of each feedback,
whose rewards are permuted over the queries: whatever it gains, it did not learn from what the queries were answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symbiosis.core.statistics import interval
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.experiments.online import rule_of
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, Reference, summarise
from symbiosis.routing.metrics.metrics import cumulative_regret, ratio
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.simulation.replay import FeedbackKind, ReplayedRouter, run

KINDS: dict[str, tuple[FeedbackKind, bool]] = {
    "none": ("none", False),
    "refined": ("refined", False),
    "binary": ("binary", False),
    "refined_shuffled": ("refined", True),
    "binary_shuffled": ("binary", True),
}
"""By name: the feedback, and whether its rewards are permuted over the queries."""


@dataclass(frozen=True)
class FeedbackResult:
    """Quality, cost and utility of a router on the stream and, afterwards, on the test queries.

    Attributes
    ----------
    queries
        (M,), the test queries.
    quality, cost_usd, utility
        (M,), at the rule's trade-off, on idle LLMs.
    curve
        Quality and cost of the M queries at every trade-off.
    singles
        The same of the cheapest and the best single LLM of the offline data.
    stream_utility
        (N,), of each query of the stream, with waits; the further LLMs that were asked are paid for.
    stream_regret
        (N,), cumulative, against the best LLM of each query.
    """

    queries: np.ndarray
    quality: np.ndarray
    cost_usd: np.ndarray
    utility: np.ndarray
    curve: Curve
    singles: Curve
    stream_utility: np.ndarray
    stream_regret: np.ndarray


def divide(training: Split, offline_share: float, seed: int) -> tuple[Split, Split]:
    """Divide training queries at random into offline ones and a stream."""
    order = np.random.default_rng(seed).permutation(len(training.outcomes))
    n = round(offline_share * len(order))
    return training.take(order[:n]), training.take(order[n:])


def continual(
    training: Split,
    test: Split,
    llms: Llms,
    offline_share: float,
    train_params: RouterTrainParams,
    params: OnlineReplayParams,
    seed: int,
    kinds: Sequence[str] = tuple(KINDS),
) -> dict[str, FeedbackResult]:
    """Train offline, learn from the stream under each kind of feedback, score the test queries.

    Parameters
    ----------
    training, test
        The splits.
    llms
        The LLMs.
    offline_share
        Of the training queries: 0.8, 0.5 and 0.3 in MixLLM.
    train_params, params
        Of the two stages.
    seed
        Of the division and the order of the stream; and of sampled actions and permuted rewards.
    kinds
        Of `KINDS`.

    Returns
    -------
    dict
        By kind.
    """
    offline, stream = divide(training, offline_share, seed)
    router, _ = train(offline, llms, train_params)
    experience = Experience.fit(router, offline.embeddings, offline.outcomes, train_params.serving.satisfied_above)
    reference = Reference.choose(offline.outcomes)
    return {kind: _learn(router, experience, stream, test, reference, params, kind, seed) for kind in kinds}


def _learn(
    router: Router,
    experience: Experience,
    stream: Split,
    test: Split,
    reference: Reference,
    params: OnlineReplayParams,
    kind: str,
    seed: int,
) -> FeedbackResult:
    feedback, shuffled = KINDS[kind]
    rng = np.random.default_rng(seed)
    told = stream.outcomes
    if shuffled:
        told = replace(told, quality=told.quality[rng.permutation(len(told))])
    rule = rule_of(params)
    learner = ReplayedRouter(
        router,
        told,
        stream.embeddings,
        rule,
        feedback,
        experience,
        params.learning,
        params.binary,
        params.user,
        rng,
    )
    log = run(stream.outcomes, router.llms, params.stream, learner.choose, learner.answered, seed=seed)
    log = replace(log, cost_usd=log.cost_usd + learner.extra_usd)
    gained = log.utility(rule, router.cost_scale)
    worth = utility(
        stream.outcomes.quality,
        scaled_cost(stream.outcomes.cost_usd, router.cost_scale),
        rule.trade_off,
        rule.weighting,
    )
    policy = learner.policy(test.embeddings)
    still = replace(rule, exploration=0.0)
    arms = policy.scores(still).argmax(axis=1)
    rows = np.arange(len(arms))
    quality, cost = test.outcomes.quality[rows, arms], test.outcomes.cost_usd[rows, arms]
    swept = np.stack([policy.scores(replace(still, trade_off=float(weight))).argmax(axis=1) for weight in TRADE_OFFS])
    return FeedbackResult(
        test.outcomes.queries,
        quality,
        cost,
        utility(quality, scaled_cost(cost, router.cost_scale), rule.trade_off, rule.weighting),
        Curve.of(swept, test.outcomes),
        reference.curve(test.outcomes),
        gained,
        cumulative_regret(gained, worth.max(axis=1)),
    )


def pooled(rounds: Sequence[FeedbackResult]) -> FeedbackResult:
    """Join several rounds (splits, divisions): each test query once, with its mean over the rounds that tested it."""
    queries, place = np.unique(np.concatenate([one.queries for one in rounds]), return_inverse=True)
    counts = np.bincount(place)

    def mean(values: Sequence[np.ndarray]) -> np.ndarray:
        joined = np.concatenate(values, axis=-1)
        if joined.ndim == 1:
            return np.bincount(place, joined) / counts
        return np.stack([np.bincount(place, row) / counts for row in joined])

    shortest = min(len(one.stream_utility) for one in rounds)
    return FeedbackResult(
        queries,
        mean([one.quality for one in rounds]),
        mean([one.cost_usd for one in rounds]),
        mean([one.utility for one in rounds]),
        Curve(mean([one.curve.quality for one in rounds]), mean([one.curve.cost for one in rounds])),
        Curve(mean([one.singles.quality for one in rounds]), mean([one.singles.cost for one in rounds])),
        np.mean([one.stream_utility[:shortest] for one in rounds], axis=0),
        np.mean([one.stream_regret[:shortest] for one in rounds], axis=0),
    )


def gains(learned: dict[str, FeedbackResult], weights: np.ndarray) -> dict[str, dict[str, Any]]:
    """Compare every kind of feedback with none on the test queries.

    Parameters
    ----------
    learned
        By kind, ``none`` among them, of one round or `pooled`; all on the same test queries.
    weights
        (B, M), bootstrap weights of the test queries, see `symbiosis.core.statistics.resample`.

    Returns
    -------
    dict
        By kind: quality, its share of the best single LLM's, cost, utility, AIQ; of the other kinds also
        ``gain_quality``, ``gain_utility`` and ``gain_aiq`` with their 95 % intervals (paired over queries).
    """
    base = learned["none"]
    if any((one.queries != base.queries).any() for one in learned.values()):
        raise ValueError("all kinds of feedback must be scored on the same queries")
    singles = base.singles.points(weights)
    result = {}
    for kind, one in learned.items():
        numbers: dict[str, Any] = {
            "quality": float(one.quality.mean()),
            "quality_share": float(ratio(one.quality.mean(), base.singles.quality[1].mean())),
            "cost_usd": float(one.cost_usd.mean()),
            "cost_share": float(ratio(one.cost_usd.mean(), base.singles.cost[1].mean())),
            "utility": float(one.utility.mean()),
            "aiq": summarise(one.curve.points(), base.singles.points()).aiq,
            "stream_utility": float(one.stream_utility.mean()),
            "stream_regret": float(one.stream_regret[-1]),
        }
        if kind != "none":
            for measure in ("quality", "utility"):
                difference = getattr(one, measure) - getattr(base, measure)
                numbers[f"gain_{measure}"] = float(difference.mean())
                numbers[f"gain_{measure}_95"] = interval(weights @ difference)
            drawn = [
                summarise(own, ends).aiq - summarise(none, ends).aiq
                for own, none, ends in zip(one.curve.points(weights), base.curve.points(weights), singles, strict=True)
            ]
            numbers["gain_aiq"] = numbers["aiq"] - summarise(base.curve.points(), base.singles.points()).aiq
            numbers["gain_aiq_95"] = interval(np.array(drawn))
        result[kind] = numbers
    return result


def stratified(labels: Sequence[str], n: int, seed: int) -> np.ndarray:
    """Draw `n` rows such that every label has its share, up to one: systematic sampling of randomly ordered labels."""
    names = np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(names)), names))
    n = min(n, len(names))
    return np.sort(order[((np.arange(n) + rng.random()) * len(names) / n).astype(np.int64)])
