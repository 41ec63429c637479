"""Replay a stream of queries: decide, wait, answer, learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.learning.feedback import Experience, Feedback
from symbiosis.routing.learning.online_router import DecisionSettings, OnlineRouter
from symbiosis.routing.learning.params import BinaryParams, LearningParams, UserParams
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.predictors import TagPrior
from symbiosis.routing.model.router import Predictions, Router
from symbiosis.routing.policy.objectives import Outlook, Paper, decide
from symbiosis.routing.policy.score import Rule, waiting_penalty
from symbiosis.routing.simulation.params import StreamParams
from symbiosis.routing.simulation.queues import Capacities
from symbiosis.routing.simulation.simulator import Dispatch, Trace, arrivals, drawn_failures, jittered, simulate

FeedbackKind = Literal["none", "refined", "binary"]
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
        self.outlook = Outlook.of(router, replace(predictions, quality=predictions.quality + surplus))
        self.bonus = bonus

    def scores(self, rule: Rule) -> np.ndarray:
        """Scores of all queries at idle LLMs without the waiting penalty, (N, L)."""
        return decide(Paper(replace(rule, waiting=0.0)), self.outlook).total + self.bonus

    def choose(self, rule: Rule) -> Choose:
        """Return decisions under waits."""
        scores = self.scores(rule)

        def choice(query: int, waits: np.ndarray) -> Dispatch:
            now = scores[query] - rule.waiting * waiting_penalty(waits, rule)
            return dispatch(int(now.argmax()), now, self.outlook.service_s[query])

        return choice


class ReplayedRouter:
    """A stream played to a router that decides and learns, as the service would: both drive the same object.

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
        feedback: FeedbackKind,
        experience: Experience,
        learning: LearningParams,
        binary: BinaryParams,
        user: UserParams,
        rng: np.random.Generator,
        newcomers: Sequence[int] = (),
    ) -> None:
        self.feedback, self.learning, self.user = feedback, learning, user
        head = None
        if feedback == "binary" and binary.learning != "posterior":
            settings = binary.model_dump(exclude={"learning"})
            head = BinaryHead.blank(router, binary.learning, **settings, seed=int(rng.integers(2**31)))
        # Nothing is tried where nothing is learned.
        kind = "none" if feedback == "none" else learning.sampling.kind
        self.online = OnlineRouter(
            router,
            Paper(rule),
            experience=experience,
            binary=head,
            settings=DecisionSettings(kind, learning.sampling.amount, tried=len(router.llms)),
            rng=rng,
        )
        self.online.router.heads.forgetting = learning.forgetting
        self._outcomes = outcomes
        self._features = np.stack([self.online.features(vector) for vector in embeddings])
        # Forests take long for one query after another.
        self._prior = None if isinstance(router.prior, TagPrior) else router.prior(self._features)
        self._newcomers = newcomers
        self._asked: dict[int, tuple[list[int], np.ndarray]] = {}
        self.propensity = np.ones(len(outcomes))
        self.extra_usd = np.zeros(len(outcomes))

    @property
    def router(self) -> Router:
        """What has been learned so far."""
        return self.online.router

    def _prior_of(self, query: int) -> np.ndarray | None:
        return None if self._prior is None else self._prior[query]

    def choose(self, query: int, waits: np.ndarray) -> Dispatch:
        """Decide one query."""
        decision = self.online.decide(str(query), self._features[query], None, waits, self._prior_of(query))
        arm = decision.arm
        self.propensity[query] = decision.propensity
        new = [other for other in self._newcomers if other != arm] if query < self.learning.burn_in else []
        others = [other for other in np.argsort(-decision.score).tolist() if other != arm and other not in new]
        self._asked[query] = [arm, *others[: self.learning.answers - 1], *new], decision.expected
        return dispatch(arm, decision.score, decision.service_s)

    def answered(self, query: int, arm: int, wait_s: float, dropped: bool) -> None:
        """Learn from the answers to one query, or from their absence."""
        arms, expected = self._asked.pop(query)
        fell_back = arm != arms[0]
        if fell_back:
            arms = [arm, *(other for other in arms[1:] if other != arm)]
        if self.feedback == "none":
            return
        if not dropped:
            self.extra_usd[query] = self._outcomes.cost_usd[query, arms[1:]].sum()
        quality = self._outcomes.quality[query, arms].tolist()
        told = [
            Feedback(*pair) for pair in zip(quality, self._outcomes.response_tokens[query, arms].tolist(), strict=True)
        ]
        if self.feedback == "binary":
            in_time = not dropped and wait_s < self.user.wait_below_s
            told = [Feedback(satisfied=good > self.user.quality_above and in_time) for good in quality]
            sampled = self.online.binary is not None and self.online.binary.samples
            # Who waited too long is dissatisfied whatever the answer, which says nothing of the LLM's quality: only a
            # policy of satisfaction learns from it, and only where it sampled the action.
            useless = fell_back if sampled else not in_time
            if useless:
                return
        elif dropped:
            return
        self.online.learn(
            self._features[query],
            arms,
            told,
            expected[arms].tolist(),
            float(self.propensity[query]),
            self._prior_of(query),
        )

    def policy(self, embeddings: np.ndarray) -> Policy:
        """Freeze what has been learned, for other queries.

        Parameters
        ----------
        embeddings
            (M, d).
        """
        router, head = self.router, self.online.binary
        features = router.feature_map(embeddings)
        predictions = router.predict(features)
        if head is None:
            return Policy(router, predictions)
        shares = [[0.0 if share is None else share for share in head.shares(x)] for x in features]
        surplus, bonus = (np.stack(part) if np.ndim(part[0]) else 0.0 for part in zip(*shares, strict=True))
        return Policy(router, predictions, surplus, bonus)
