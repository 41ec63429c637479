"""Replay a stream of queries: decide, wait, answer, learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.learning.feedback import Experience, Noise
from symbiosis.routing.learning.params import BinaryParams, LearningParams, UserParams
from symbiosis.routing.learning.policy_network import PolicyNetwork
from symbiosis.routing.learning.satisfaction import Confidence, SupervisedHead
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.predictors import QUALITY
from symbiosis.routing.model.router import Predictions, Router
from symbiosis.routing.policy.exploration import probabilities
from symbiosis.routing.policy.score import Rule, Scores, score, waiting_penalty
from symbiosis.routing.simulation.params import StreamParams
from symbiosis.routing.simulation.queues import Capacities
from symbiosis.routing.simulation.simulator import Dispatch, Trace, arrivals, drawn_failures, jittered, simulate

Feedback = Literal["none", "refined", "binary"]
FALLBACKS = 2


@dataclass(frozen=True)
class Log:
    """What a policy got from a stream.

    Attributes
    ----------
    trace
        Times.
    quality
        (N,), 0 where the query was dropped or every attempt failed.
    cost_usd
        (N,), of dropped queries only if they are charged, of failed attempts never.
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
    *,
    seed: int = 0,
) -> Log:
    """Send a stream through the simulator.

    Parameters
    ----------
    outcomes
        True outcomes, in order of arrival.
    llms
        Their speeds.
    stream
        Pace, capacity, view of the waits, limit.
    choose, answered
        See `symbiosis.routing.simulation.simulator.simulate`.
    seed
        Of arrivals, jitter and failures: the same for every policy, whatever it chooses.

    Raises
    ------
    InputError
        The stream gives the capacity of an LLM that is not there.
    """
    capacities = Capacities.of(stream, llms.names)
    paced, jitter, failing = np.random.default_rng(seed).spawn(3)
    trace = simulate(
        arrivals(len(outcomes), stream.queries_per_s, stream.arrivals, paced),
        jittered(llms.service_s(outcomes.response_tokens), capacities.jitter, jitter),
        capacities.workers,
        choose if stream.on_failure == "fallback" else _without_fallback(choose),
        limit_s=stream.limit_s,
        refresh_s=stream.refresh_s,
        own_dispatches=stream.own_dispatches,
        answered=answered,
        limits=capacities.limits,
        tokens=outcomes.prompt_tokens + outcomes.response_tokens,
        failures=drawn_failures(stream.attempts, len(outcomes), capacities.failure, failing),
    )
    rows = np.arange(len(outcomes))
    cost = outcomes.cost_usd[rows, trace.arm]
    charged = trace.served | trace.dropped if stream.charge_dropped else trace.served
    return Log(
        trace,
        np.where(trace.served, outcomes.quality[rows, trace.arm], 0.0),
        np.where(charged, cost, 0.0),
    )


def _without_fallback(choose: Choose) -> Choose:
    return lambda query, waits: replace(choose(query, waits), fallback=())


def dispatch(arm: int, scores: np.ndarray, expected_s: np.ndarray) -> Dispatch:
    """Send a query to an LLM, and if that fails to the best of the others.

    Parameters
    ----------
    arm
        The chosen one.
    scores, expected_s
        (L,).
    """
    others = [other for other in np.argsort(-scores, kind="stable").tolist() if other != arm]
    fallback = tuple(Dispatch(other, float(expected_s[other])) for other in others[:FALLBACKS])
    return Dispatch(arm, float(expected_s[arm]), fallback)


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
            now = scores[query] - rule.waiting * waiting_penalty(waits, rule)
            return dispatch(int(now.argmax()), now, self.service_s[query])

        return decide


class OnlineRouter:
    """A router that learns from the answers to the queries that it routes.

    Parameters
    ----------
    router
        Where it starts; not changed.
    outcomes
        True outcomes in order of arrival. A query's outcomes are looked at after it was answered, and only those of
        the LLMs that answered.
    embeddings
        (N, d).
    rule
        Weights of the score.
    feedback
        What it is told.
    experience
        From offline data.
    learning
        How it explores, how many LLMs it asks per query, and what it forgets. With several, the first serves the user;
        the others' answers teach only, are paid for (`extra_usd`) and keep no worker busy.
    binary
        How binary feedback is learned.
    user
        Who gives it.
    rng
        For sampled actions.
    newcomers
        Arms of LLMs that have just joined: they are asked besides for the first ``learning.burn_in`` queries. What
        decides is how they compare with the LLM chosen, and that is learned fastest from answers to the same query.
    """

    def __init__(
        self,
        router: Router,
        outcomes: Outcomes,
        embeddings: np.ndarray,
        rule: Rule,
        feedback: Feedback,
        experience: Experience,
        learning: LearningParams,
        binary: BinaryParams,
        user: UserParams,
        rng: np.random.Generator,
        newcomers: Sequence[int] = (),
    ) -> None:
        self.router = router.copy()
        self.router.heads.forgetting = learning.forgetting
        self.rule, self.feedback, self.experience = rule, feedback, experience
        self.learning, self.binary, self.user = learning, binary, user
        self._outcomes = outcomes
        self._features = router.feature_map(embeddings)
        self._prior = router.prior(self._features)
        self._rng = rng
        self._newcomers = newcomers
        self._confidence = Confidence(binary.maximum_kappa, binary.warm_up)
        self._supervised = SupervisedHead.blank(router.heads.precision)
        self._policy = PolicyNetwork.blank(
            len(router.llms), router.heads.dimension, binary.hidden, binary.rate, seed=int(rng.integers(2**31))
        )
        self._asked: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.propensity = np.ones(len(outcomes))
        self.extra_usd = np.zeros(len(outcomes))

    @property
    def _has_head(self) -> bool:
        return self.feedback == "binary" and self.binary.learning != "posterior"

    def choose(self, query: int, waits: np.ndarray) -> Dispatch:
        """Decide one query."""
        x = self._features[query]
        predictions = self.router.predict(x[None], self._outcomes.prompt_tokens[query][None], self._prior[query][None])
        scores = self._score(x, predictions, waits).total[0]
        chances = self._chances(x, scores, predictions)
        arm = int(scores.argmax())
        if chances[arm] < 1:
            arm = int(self._rng.choice(len(chances), p=chances))
        self.propensity[query] = chances[arm]
        new = [other for other in self._newcomers if other != arm] if query < self.learning.burn_in else []
        others = [other for other in np.argsort(-scores).tolist() if other != arm and other not in new]
        arms = np.array([arm, *others[: self.learning.answers - 1], *new])
        self._asked[query] = arms, predictions.quality[0]
        return dispatch(arm, scores, self.router.llms.service_s(predictions.response_tokens)[0])

    def _chances(self, x: np.ndarray, scores: np.ndarray, predictions: Predictions) -> np.ndarray:
        """Probability of each LLM, (L,); nothing is tried where nothing is learned."""
        if self.feedback == "none":
            return probabilities(scores, scores, "none", 0.0)
        if self._has_head and self.binary.learning == "policy_gradient":
            # A known share of the actions is drawn from the softmax that is trained.
            share = self.binary.sampled_share
            return share * self._policy.policy(x) + (1 - share) * probabilities(scores, scores, "none", 0.0)
        noise = self.experience.noise
        scale = utility(np.array(1.0), np.array(0.0), self.rule.trade_off, self.rule.weighting)
        deviation = scale * np.sqrt((noise.own + noise.common) * predictions.variance[0])
        return probabilities(scores, deviation, self.learning.sampling.kind, self.learning.sampling.amount)

    def _score(self, x: np.ndarray, predictions: Predictions, waits: np.ndarray) -> Scores:
        if not self._has_head:
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

    def answered(self, query: int, arm: int, wait_s: float, dropped: bool) -> None:
        """Learn from the answers to one query, or from their absence."""
        arms, predicted = self._asked.pop(query)
        fell_back = arm != arms[0]
        if fell_back:
            arms = np.array([arm, *(other for other in arms[1:].tolist() if other != arm)])
        expected = predicted[arms]
        if self.feedback == "none":
            return
        if not dropped:
            self.extra_usd[query] = self._outcomes.cost_usd[query, arms[1:]].sum()
        quality = self._outcomes.quality[query, arms]
        x = self._features[query]
        if self.feedback == "refined":
            if not dropped:
                self._observe(query, arms, quality, self._outcomes.response_tokens[query, arms])
            return
        in_time = not dropped and wait_s < self.user.wait_below_s
        satisfied = (quality > self.user.quality_above) & in_time
        if self.binary.learning == "policy_gradient":
            if fell_back:  # an action that nothing sampled
                return
            self._confidence.rewarded()
            self._policy.learn(arm, x, 1.0 if satisfied[0] else -1.0, float(self.propensity[query]))
        elif in_time and self.binary.learning == "supervised":
            # Who waited too long is dissatisfied whatever the answer: that tells nothing of the LLM's quality.
            self._confidence.rewarded()
            for place, asked in enumerate(arms.tolist()):
                self._supervised.learn(asked, x, bool(satisfied[place]), float(expected[place]))
        elif in_time:
            meaning = self.experience.satisfaction
            self._observe(query, arms, meaning.quality(satisfied), None, meaning.variance)

    def _observe(
        self, query: int, arms: np.ndarray, quality: np.ndarray, tokens: np.ndarray | None, variance: float = 0.0
    ) -> None:
        """Update the posterior of the LLMs that answered; `variance` is that of observed around true quality."""
        x, prior = self._features[query], self._prior[query]
        heads = self.router.heads
        errors = quality - prior[arms, QUALITY] - x @ heads.weights[arms, :, heads.dimension + QUALITY].T
        noise = self.experience.noise
        shared, weight = Noise(noise.own + variance, noise.common).attribute(errors)
        weight *= noise.own / (noise.own + variance)
        for place, arm in enumerate(arms.tolist()):
            length = None if tokens is None else float(tokens[place])
            self.router.learn(arm, x, float(quality[place]), length, prior, shared=float(shared[place]), weight=weight)

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
        if not self._has_head:
            return Policy(self.router, predictions)
        shares = [self._shares(self._head(x)) for x in features]
        return Policy(self.router, predictions, *(np.stack(part) for part in zip(*shares, strict=True)))
