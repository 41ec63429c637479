"""Replay a stream of queries: decide, wait, answer, learn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from symbiosis.routing.decision import Predictions, Rule, Scores, scaled_cost, score, utility, waiting_penalty
from symbiosis.routing.feedback import Confidence, PolicyHead, SupervisedHead
from symbiosis.routing.outcomes import Llms, Outcomes
from symbiosis.routing.params import BinaryParams, StreamParams, UserParams
from symbiosis.routing.router import Router
from symbiosis.routing.simulator import Dispatch, Trace, arrivals, simulate

Feedback = Literal["none", "refined", "binary"]


@dataclass(frozen=True)
class Log:
    """What a policy got from a stream.

    Attributes
    ----------
    trace
        Times.
    quality
        (N,), 0 where the query was dropped.
    cost_usd
        (N,), of dropped queries only if they are charged.
    """

    trace: Trace
    quality: np.ndarray
    cost_usd: np.ndarray

    def utility(self, rule: Rule, cost_scale: float) -> np.ndarray:
        """What each query was worth under the rule's trade-off, (N,)."""
        return utility(self.quality, scaled_cost(self.cost_usd, cost_scale), rule.trade_off, rule.weighting)


Choose = Callable[[int, np.ndarray], Dispatch]


def run(
    outcomes: Outcomes,
    llms: Llms,
    stream: StreamParams,
    choose: Choose,
    answered: Callable[[int, int, float, bool], None] | None = None,
) -> Log:
    """Send a stream through the simulator.

    Parameters
    ----------
    outcomes
        True outcomes, in order of arrival.
    llms
        Their speeds.
    stream
        Pace, workers, view of the waits, limit.
    choose, answered
        See `symbiosis.routing.simulator.simulate`.
    """
    trace = simulate(
        arrivals(len(outcomes), stream.queries_per_s),
        llms.service_s(outcomes.response_tokens),
        [stream.workers] * len(llms),
        choose,
        limit_s=stream.limit_s,
        refresh_s=stream.refresh_s,
        own_dispatches=stream.own_dispatches,
        answered=answered,
    )
    rows = np.arange(len(outcomes))
    cost = outcomes.cost_usd[rows, trace.arm]
    return Log(
        trace,
        np.where(trace.dropped, 0.0, outcomes.quality[rows, trace.arm]),
        cost if stream.charge_dropped else np.where(trace.dropped, 0.0, cost),
    )


def fixed_choice(choices: np.ndarray) -> Choose:
    """Send each query where a list (N,) says, whatever the waits."""
    return lambda query, _: Dispatch(int(choices[query]), 0.0)


class Policy:
    """The router's decisions with a state that no longer changes, ready for many replays.

    Parameters
    ----------
    predictions
        Of all N queries.
    surplus
        (N, L), what binary feedback adds to predicted quality.
    bonus
        (N, L), what binary feedback adds to the score.
    """

    def __init__(
        self,
        router: Router,
        predictions: Predictions,
        surplus: np.ndarray | float = 0.0,
        bonus: np.ndarray | float = 0.0,
    ) -> None:
        self.predictions = replace(predictions, quality=predictions.quality + surplus)
        self.bonus = bonus
        self.cost_scale = router.cost_scale
        self.service_s = router.llms.service_s(predictions.response_tokens)

    def scores(self, rule: Rule) -> np.ndarray:
        """Scores of all queries at idle LLMs without the waiting penalty, (N, L)."""
        idle = np.zeros(self.predictions.quality.shape[1])
        return score(self.predictions, idle, replace(rule, waiting=0.0), self.cost_scale).total + self.bonus

    def choose(self, rule: Rule) -> Choose:
        """Return decisions under waits."""
        scores = self.scores(rule)

        def decide(query: int, waits: np.ndarray) -> Dispatch:
            arm = int((scores[query] - rule.waiting * waiting_penalty(waits, rule)).argmax())
            return Dispatch(arm, float(self.service_s[query, arm]))

        return decide


class OnlineRouter:
    """A router that learns from the answers to the queries that it routes.

    Parameters
    ----------
    router
        Where it starts; not changed.
    outcomes
        True outcomes in order of arrival. A query's outcomes are looked at after it was answered, and only those of
        the LLM that answered.
    embeddings
        (N, d).
    rule
        Weights of the score.
    feedback
        What it is told.
    binary
        How binary feedback is learned.
    user
        Who gives it.
    rng
        For sampled actions.
    """

    def __init__(
        self,
        router: Router,
        outcomes: Outcomes,
        embeddings: np.ndarray,
        rule: Rule,
        feedback: Feedback,
        binary: BinaryParams,
        user: UserParams,
        rng: np.random.Generator,
    ) -> None:
        self.router = router.copy()
        self.rule, self.feedback, self.binary, self.user = rule, feedback, binary, user
        self._outcomes = outcomes
        self._features = router.feature_map(embeddings)
        self._prior = router.prior(self._features)
        self._rng = rng
        self._confidence = Confidence(binary.maximum_kappa, binary.warm_up)
        self._supervised = SupervisedHead.blank(router.heads.precision)
        self._policy = PolicyHead.blank(len(router.llms), router.heads.dimension, binary.rate)
        self._expected = np.empty(len(outcomes))
        self.propensity = np.ones(len(outcomes))

    def choose(self, query: int, waits: np.ndarray) -> Dispatch:
        """Decide one query."""
        x = self._features[query]
        predictions = self.router.predict(x[None], self._outcomes.prompt_tokens[query][None], self._prior[query][None])
        scores = self._score(x, predictions, waits)
        arm = int(scores.total[0].argmax())
        if self.feedback == "binary" and self.binary.learning == "policy_gradient":
            arm = self._sample(query, x, arm)
        self._expected[query] = predictions.quality[0, arm]
        return Dispatch(arm, float(self.router.llms.service_s(predictions.response_tokens)[0, arm]))

    def _score(self, x: np.ndarray, predictions: Predictions, waits: np.ndarray) -> Scores:
        if self.feedback != "binary":
            return score(predictions, waits, self.rule, self.router.cost_scale)
        output = self._head(x)
        self._confidence.observe(output)
        surplus, bonus = self._shares(output)
        scores = score(
            replace(predictions, quality=predictions.quality + surplus), waits, self.rule, self.router.cost_scale
        )
        return replace(scores, total=scores.total + bonus)

    def _head(self, x: np.ndarray) -> np.ndarray:
        head = self._supervised if self.binary.learning == "supervised" else self._policy
        return head.output(x)

    def _shares(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split the head's weighted output: a surplus of quality (supervised) or a bonus on the score (Eq. 15)."""
        weighted = self._confidence.kappa() * output
        none = np.zeros_like(output)
        return (weighted, none) if self.binary.learning == "supervised" else (none, weighted)

    def _sample(self, query: int, x: np.ndarray, best: int) -> int:
        """Draw a known share of the actions from the softmax, and log the propensity of the one taken."""
        policy = self._policy.policy(x)
        arm = best
        if self._rng.random() < self.binary.sampled_share:
            arm = int(self._rng.choice(len(policy), p=policy))
        self.propensity[query] = self.binary.sampled_share * policy[arm] + (1 - self.binary.sampled_share) * (
            arm == best
        )
        return arm

    def answered(self, query: int, arm: int, wait_s: float, dropped: bool) -> None:
        """Learn from one answer, or from its absence."""
        quality = float(self._outcomes.quality[query, arm])
        x = self._features[query]
        if self.feedback == "refined" and not dropped:
            tokens = float(self._outcomes.response_tokens[query, arm])
            self.router.learn(arm, x, quality, tokens, self._prior[query])
        if self.feedback == "binary":
            in_time = not dropped and wait_s < self.user.wait_below_s
            satisfied = in_time and quality > self.user.quality_above
            self._confidence.rewarded()
            if self.binary.learning == "policy_gradient":
                self._policy.learn(arm, x, 1.0 if satisfied else -1.0, float(self.propensity[query]))
            elif in_time:
                # Who waited too long is dissatisfied whatever the answer: that tells nothing of the LLM's quality.
                self._supervised.learn(arm, x, satisfied, float(self._expected[query]))

    def policy(self, embeddings: np.ndarray, prompt_tokens: np.ndarray) -> Policy:
        """Freeze what has been learned, for other queries.

        Parameters
        ----------
        embeddings
            (M, d).
        prompt_tokens
            (M, L).
        """
        features = self.router.feature_map(embeddings)
        predictions = self.router.predict(features, prompt_tokens)
        if self.feedback != "binary":
            return Policy(self.router, predictions)
        shares = [self._shares(self._head(x)) for x in features]
        return Policy(self.router, predictions, *(np.stack(part) for part in zip(*shares, strict=True)))
