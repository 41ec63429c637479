"""Off-policy estimates on real queries, beside the truth: the full matrix of outcomes tells what each policy earns."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.learning.feedback import Noise
from symbiosis.routing.learning.off_policy import Logged, Report, evaluate_policy, true_value
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.exploration import Kind, probabilities
from symbiosis.routing.policy.objectives import Outlook, Paper, decide
from symbiosis.routing.policy.score import Rule


@dataclass(frozen=True)
class EstimateCheck:
    """Estimates for one target policy.

    Attributes
    ----------
    report
        The estimates.
    truth
        Mean utility of the target policy on the same queries.
    """

    report: Report
    truth: float


def check_estimates(
    router: Router,
    stream: Split,
    rule: Rule,
    noise: Noise,
    targets: Mapping[str, np.ndarray],
    kind: Kind,
    amount: float,
    seed: int,
    samples: int = 1000,
) -> dict[str, EstimateCheck]:
    """Log a stream under a router that explores, then estimate what other policies would have earned on it.

    The LLMs are idle and the router does not learn meanwhile, so that the truth is known; rewards are utilities at the
    rule's trade-off.

    Parameters
    ----------
    router
        Decides and predicts; trained on other queries.
    stream
        The N queries.
    rule
        Weights of the score.
    noise
        Of predicted quality, for Thompson sampling.
    targets
        By name: probabilities of a policy, (N, L).
    kind, amount
        Of exploration, see `symbiosis.routing.policy.exploration.probabilities`.
    seed
        Of the drawn actions and the bootstrap.
    samples
        Of the bootstrap.

    Returns
    -------
    dict
        By name of the target policy.
    """
    outcomes = stream.outcomes
    n, n_llms = outcomes.quality.shape
    predictions = router.predict(router.feature_map(stream.embeddings))
    scores = decide(Paper(rule), Outlook.of(router, predictions)).total

    def worth(quality: np.ndarray, cost_usd: np.ndarray) -> np.ndarray:
        return utility(quality, scaled_cost(cost_usd, router.cost_scale), rule.trade_off, rule.weighting)

    per_quality = float(utility(np.array(1.0), np.array(0.0), rule.trade_off, rule.weighting))
    deviation = per_quality * np.sqrt((noise.own + noise.common) * predictions.variance)
    behaviour = np.stack([probabilities(scores[row], deviation[row], kind, amount) for row in range(n)])
    draws = np.random.default_rng(seed).random((n, 1))
    arm = np.minimum((behaviour.cumsum(axis=1) <= draws).sum(axis=1), n_llms - 1)
    rows = np.arange(n)
    rewards = worth(outcomes.quality, outcomes.cost_usd)
    logged = Logged(arm, behaviour[rows, arm], rewards[rows, arm])
    predicted = worth(predictions.quality, predictions.cost_usd)
    return {
        name: EstimateCheck(
            evaluate_policy(logged, target, predicted, samples=samples, seed=seed), true_value(target, rewards)
        )
        for name, target in targets.items()
    }


def certain(arms: np.ndarray, n_llms: int) -> np.ndarray:
    """Return the policy that always takes the given arms (N,), as probabilities (N, L)."""
    return np.eye(n_llms)[arms]
