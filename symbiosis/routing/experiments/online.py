"""Everything that is reported of a router: the online stream, then the untouched test queries, scored once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.core.statistics import resample
from symbiosis.routing.baselines.base import Predictive, Sample, Training
from symbiosis.routing.baselines.fixed import cheapest_of_best
from symbiosis.routing.baselines.lookups import DomainMean, GlobalMean, KMeans, NearestNeighbours, SubdomainMean
from symbiosis.routing.data.outcomes import Outcomes, Split
from symbiosis.routing.experiments import online_results
from symbiosis.routing.experiments.params import OnlineReplayParams
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, Reference, Summary, summarise
from symbiosis.routing.metrics.metrics import cumulative_regret
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.score import Rule
from symbiosis.routing.simulation.replay import FeedbackKind, Log, Policy, ReplayedRouter, fixed_choice, run

FEEDBACK: tuple[FeedbackKind, ...] = ("none", "refined", "binary")
LIMITED = ("domain_mean", "nearest_neighbours", "k_means", "oracle")
SHOWN = (*(f"router_{feedback}" for feedback in FEEDBACK), "domain_mean", "nearest_neighbours", "oracle")


@dataclass(frozen=True)
class Evaluation:
    """What the report is made of.

    Attributes
    ----------
    numbers
        For ``router.json``.
    curves
        By method: (cost, quality) of its operating points, (P, 2), and its summary.
    limited
        By method: (cost, quality) of its operating points under the time limit, (P, 2): of the headline router, as it
        is and blind to waits, and of `LIMITED`.
    regret
        By policy: cumulative regret against the best LLM of each query and against the best fixed LLM, (N,) each.
    shares
        By policy: share of the test queries that each LLM gets, (L,).
    """

    numbers: dict[str, Any]
    curves: dict[str, tuple[np.ndarray, Summary]]
    limited: dict[str, np.ndarray]
    regret: dict[str, tuple[np.ndarray, np.ndarray]]
    shares: dict[str, np.ndarray]


def rule_of(params: OnlineReplayParams) -> Rule:
    """Return the decision's weights."""
    return Rule(**params.score.model_dump(), limit_s=params.stream.limit_s)


def evaluate(
    router: Router, experience: Experience, offline: Split, online: Split, test: Split, params: OnlineReplayParams
) -> Evaluation:
    """Replay the online stream under each kind of feedback, then score the test queries.

    Parameters
    ----------
    router
        Trained on the offline split; not changed.
    experience
        From the offline split, as it was stored with the router.
    offline, online, test
        The splits; online queries arrive in a random order drawn from the seed.
    params
        The stage's.
    """
    # Nothing is learned on test queries, so nothing is explored there.
    rule = rule_of(params)
    still = replace(rule, exploration=0.0)
    reference = Reference.choose(offline.outcomes)
    rng = np.random.default_rng(params.seed)
    order = rng.permutation(len(online.outcomes))
    stream = replace(online, outcomes=online.outcomes.take(order), embeddings=online.embeddings[order])
    names, headline = router.llms.names, f"router_{params.feedback}"

    logs, policies = _learn(router, experience, stream, test, rule, params)
    for name, arms in _fixed(stream.outcomes, reference, rng).items():
        logs[name] = run(stream.outcomes, router.llms, params.stream, fixed_choice(arms), seed=params.seed)
    regret = _regret(logs, stream.outcomes, rule, router.cost_scale)

    lines = _lines(Training(Sample.of(offline), offline.outcomes, router.llms, params.seed), Sample.of(test), params)
    choices = {
        **{name: policy.scores(still).argmax(axis=1) for name, policy in policies.items()},
        **{
            name: _worth(line, still.trade_off, still, router.cost_scale).argmax(axis=1) for name, line in lines.items()
        },
        **_fixed(test.outcomes, reference, rng),
        "oracle": cheapest_of_best(test.outcomes),
    }
    lines["oracle"] = test.outcomes.quality, test.outcomes.cost_usd
    curves = _curves(policies, lines, test.outcomes, still, router.cost_scale)
    singles = reference.curve(test.outcomes).points()
    summarised = {name: (curve.points(), summarise(curve.points(), singles)) for name, curve in curves.items()}
    limited = _limited(policies, headline, choices, test.outcomes, router, still, params)

    weights = resample(len(test.outcomes), params.bootstrap_samples, params.seed)
    tested = online_results.test_numbers(choices, test.outcomes, reference, weights)
    timed = online_results.limited_numbers(limited, test.outcomes, reference, params.user.wait_below_s)
    curved = online_results.curve_numbers(curves, summarised, headline, test.outcomes, reference, weights)
    shares = {name: online_results.llm_shares(choices[name], len(names)) for name in SHOWN}
    numbers = {
        "headline": {
            "feedback": params.feedback,
            "trade_off": rule.trade_off,
            **{key: tested[headline][key] for key in ("quality", "quality_share", "cost_usd", "cost_share")},
            **{key: value for key, value in curved[headline].items() if key != "aiq_95"},
            **{f"limited_{key}": timed[headline][key] for key in ("quality_share", "cost_share", "dropped", "p99_s")},
        },
        "reference": {
            "cheapest": names[reference.cheapest],
            "best_single": names[reference.best],
            "queries_online": len(stream.outcomes),
            "queries_test": len(test.outcomes),
        },
        "test": tested,
        "test_with_time_limit": timed,
        "curves": curved,
        "online": {name: online_results.stream_numbers(log, *regret[name]) for name, log in logs.items()},
        "share_by_llm": {name: rounded(share) for name, share in zip(names, shares[headline], strict=True)},
    }
    limited_curves = _limited_curves(policies[headline], lines, test.outcomes, router, still, params)
    return Evaluation(numbers, summarised, limited_curves, regret, shares)


def _learn(
    router: Router, experience: Experience, stream: Split, test: Split, rule: Rule, params: OnlineReplayParams
) -> tuple[dict[str, Log], dict[str, Policy]]:
    """Run the stream under each kind of feedback: what happened, and what is known afterwards."""
    logs, policies = {}, {}
    for feedback in FEEDBACK:
        learner = ReplayedRouter(
            router,
            stream.outcomes,
            stream.embeddings,
            rule,
            feedback,
            experience,
            params.learning,
            params.binary,
            params.user,
            np.random.default_rng(params.seed),
        )
        name = f"router_{feedback}"
        log = run(stream.outcomes, router.llms, params.stream, learner.choose, learner.answered, seed=params.seed)
        logs[name] = replace(log, cost_usd=log.cost_usd + learner.extra_usd)
        policies[name] = learner.policy(test.embeddings)
    return logs, policies


def _fixed(outcomes: Outcomes, reference: Reference, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Choices that look at nothing."""
    n, n_llms = outcomes.quality.shape
    return {
        "random": np.asarray(rng.integers(n_llms, size=n)),
        "cheapest": np.full(n, reference.cheapest),
        "best_single": np.full(n, reference.best),
    }


def _regret(
    logs: Mapping[str, Log], outcomes: Outcomes, rule: Rule, cost_scale: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cumulative regret in utility against the best LLM of each query and against the best fixed LLM, both idle."""
    worth = _worth((outcomes.quality, outcomes.cost_usd), rule.trade_off, rule, cost_scale)
    best, fixed = worth.max(axis=1), worth[:, worth.sum(axis=0).argmax()]
    gained = {name: log.utility(rule, cost_scale) for name, log in logs.items()}
    return {name: (cumulative_regret(own, best), cumulative_regret(own, fixed)) for name, own in gained.items()}


def _worth(line: tuple[np.ndarray, np.ndarray], trade_off: float, rule: Rule, cost_scale: float) -> np.ndarray:
    """Utility of (quality, cost) under a trade-off."""
    return utility(line[0], scaled_cost(line[1], cost_scale), trade_off, rule.weighting)


def _lines(training: Training, sample: Sample, params: OnlineReplayParams) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Quality and cost of the test queries as the simple lines predict them."""
    settings: dict[str, tuple[type[Predictive], dict[str, int]]] = {
        "subdomain_mean": (SubdomainMean, {}),
        "domain_mean": (DomainMean, {}),
        "nearest_neighbours": (NearestNeighbours, {"neighbours": params.lines.neighbours}),
        "k_means": (KMeans, {"clusters": params.lines.clusters}),
        "global_mean": (GlobalMean, {}),
    }
    lines = {}
    for name, (kind, setting) in settings.items():
        line = kind(training)
        line.fit(**setting)
        lines[name] = line.predict(sample)
    return lines


def _curves(
    policies: Mapping[str, Policy],
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    outcomes: Outcomes,
    rule: Rule,
    cost_scale: float,
) -> dict[str, Curve]:
    """Quality and cost of every method over the trade-offs, at idle LLMs."""
    curves = {}
    for name, policy in policies.items():
        choices = [policy.scores(replace(rule, trade_off=float(weight))).argmax(axis=1) for weight in TRADE_OFFS]
        curves[name] = Curve.of(np.stack(choices), outcomes)
    for name, line in lines.items():
        choices = [_worth(line, float(weight), rule, cost_scale).argmax(axis=1) for weight in TRADE_OFFS]
        curves[name] = Curve.of(np.stack(choices), outcomes)
    # A random mix of single LLMs: RouterBench's zero router is the hull of these points.
    curves["singles"] = Curve(outcomes.quality.T, outcomes.cost_usd.T)
    return curves


def _limited(
    policies: Mapping[str, Policy],
    headline: str,
    choices: Mapping[str, np.ndarray],
    outcomes: Outcomes,
    router: Router,
    rule: Rule,
    params: OnlineReplayParams,
) -> dict[str, Log]:
    """Replay the test queries with waits and the time limit."""
    decisions = {name: policy.choose(rule) for name, policy in policies.items()}
    decisions["router_without_penalty"] = policies[headline].choose(replace(rule, waiting=0.0))
    decisions |= {name: fixed_choice(choices[name]) for name in ("random", "cheapest", "best_single", "oracle")}
    return {
        name: run(outcomes, router.llms, params.stream, choose, seed=params.seed) for name, choose in decisions.items()
    }


def _limited_curves(
    policy: Policy,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    outcomes: Outcomes,
    router: Router,
    rule: Rule,
    params: OnlineReplayParams,
) -> dict[str, np.ndarray]:
    """Mean cost and quality under the time limit over the trade-offs, (P, 2) each; the lines do not know of waits."""
    points: dict[str, list[tuple[float, float]]] = {}
    for weight in TRADE_OFFS:
        now = replace(rule, trade_off=float(weight))
        decisions = {"router": policy.choose(now), "router_without_penalty": policy.choose(replace(now, waiting=0.0))}
        for name in LIMITED:
            worth = _worth(lines[name], now.trade_off, now, router.cost_scale)
            decisions[name] = fixed_choice(worth.argmax(axis=1))
        for name, choose in decisions.items():
            log = run(outcomes, router.llms, params.stream, choose, seed=params.seed)
            points.setdefault(name, []).append((float(log.cost_usd.mean()), float(log.quality.mean())))
    return {name: np.array(pairs) for name, pairs in points.items()}
