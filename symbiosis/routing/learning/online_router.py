"""The router while it runs: one object decides, learns from feedback, and takes LLMs in and out.

The service (`symbiosis.routing.serving.service`), the replay of a stream (`symbiosis.routing.simulation.replay`) and
the studies all call it, so what is served is what was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.learning.feedback import CAUTIOUS, Experience, Feedback, Noise
from symbiosis.routing.learning.onboarding import onboard
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.calibration import Ranges
from symbiosis.routing.model.predictors import QUALITY
from symbiosis.routing.model.router import Router
from symbiosis.routing.model.single_query import SingleQuery
from symbiosis.routing.policy.explanation import Bounds, Decision
from symbiosis.routing.policy.exploration import Kind, among_best, drawn, prefer_idle, with_burn_in
from symbiosis.routing.policy.goals import AS_EXPECTED, Circumstances, Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective, Outlook, decide
from symbiosis.routing.policy.response_time import completion_interval

NO_PROBES = np.zeros(0)


@dataclass(frozen=True)
class DecisionSettings:
    """How LLMs are tried that do not look best.

    Attributes
    ----------
    exploration, amount, tried
        See `symbiosis.routing.policy.exploration.among_best`.
    interval
        Half width of the interval of expected quality in standard deviations: 1.645 for 90 %.
    near_tie
        LLMs whose score is within so much of the best go to the shortest wait.
    burn_in, burn_in_share
        The first so many queries of an added LLM are drawn: each query goes with this probability to one of the
        LLMs that are still new.
    seed
        Of the draws.
    """

    exploration: Kind = "none"
    amount: float = 0.0
    tried: int = 3
    interval: float = 1.645
    near_tie: float = 0.0
    burn_in: int = 0
    burn_in_share: float = 0.1
    seed: int = 0


class OnlineRouter:
    """A router that decides one query at a time and learns from what is told of the answers.

    Parameters
    ----------
    router
        Where it starts; not changed.
    objective
        What it decides for; a `Budget` is paced on.
    deadline
        Whether the time to the answer counts.
    experience
        From offline data; the service takes it from ``models/router``.
    binary
        Learns from satisfied or not in the place of the router, which then learns from refined feedback alone.
    log_deviation
        (L,), see `symbiosis.routing.policy.objectives.Deadline.late`; if not given, the router's, or 0.
    settings
        See there.
    rng
        Of the draws; made from the settings' seed if not given.

    Raises
    ------
    InputError
        The published score is to be combined with a deadline.
    """

    def __init__(
        self,
        router: Router,
        objective: Objective,
        deadline: Deadline | None = None,
        *,
        experience: Experience = CAUTIOUS,
        binary: BinaryHead | None = None,
        log_deviation: np.ndarray | None = None,
        settings: DecisionSettings | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.goal = Goal(objective, deadline)
        self.experience, self.binary = experience, binary
        self.settings = settings or DecisionSettings()
        self.rng = rng or np.random.default_rng(self.settings.seed)
        if log_deviation is None:
            log_deviation = np.zeros(len(router.llms)) if router.ranges is None else router.ranges.lengths.sigma
        self.log_deviation = np.array(log_deviation, dtype=np.float64)
        self.burn_in = np.zeros(len(router.llms), dtype=np.int64)
        self._explores = self.settings.exploration != "none" and self.settings.amount > 0
        self._start(router.copy())

    def _start(self, router: Router) -> None:
        """Go on with other LLMs than before."""
        self.router, self._single = router, SingleQuery(router)
        self._certain = np.zeros(len(router.llms))
        noise = self.experience.noise
        self._deviation = float(np.sqrt(noise.own + noise.common))

    @property
    def objective(self) -> Objective:
        """What it decides for where a query has no goal of its own."""
        return self.goal.objective

    def features(self, vector: np.ndarray) -> np.ndarray:
        """Return the features (D,) of a query's vector (d,)."""
        return self._single.features(vector)

    def decide(
        self,
        key: str,
        x: np.ndarray,
        prompt_tokens: float | np.ndarray | None,
        waits_s: np.ndarray,
        prior: np.ndarray | None = None,
        goal: Goal | None = None,
        circumstances: Circumstances = AS_EXPECTED,
        draw: Callable[[], float] | None = None,
    ) -> Decision:
        """Decide one query, count it towards burn-in and budget, and explain the decision on demand.

        Parameters
        ----------
        key
            The decision's id.
        x
            (D,), from `features`.
        prompt_tokens
            One number, or (L,) by each LLM's tokenizer; None: as long as the router expects from the text.
        waits_s
            (L,), until a worker of each LLM is free.
        prior
            (L, 2), see `symbiosis.routing.model.single_query.SingleQuery.means`.
        goal
            Of this query; None: the router's own.
        circumstances
            Of this query.
        draw
            Gives the number in [0, 1) by which one of several LLMs is drawn; None: the next of `rng`.
        """
        router, llms, goal = self.router, self.router.llms, goal or self.goal
        expected, tokens = self._single.means(x, prior)
        quality, bonus = expected, None
        if self.binary is not None:
            surplus, bonus = self.binary.observe(x)
            quality = expected if surplus is None else expected + surplus
        # Nothing but an explanation looks at them otherwise, and they take longer than all the rest.
        uncertainty, lower, upper = self._certain, quality, quality
        if goal.objective.needs_uncertainty or self.settings.exploration == "thompson":
            uncertainty = np.sqrt(self._single.variance(x))
            half = self.settings.interval * self._deviation * uncertainty
            lower, upper = np.maximum(quality - half, 0.0), np.minimum(quality + half, 1.0)
        prompts = router.prompt_tokens(x) if prompt_tokens is None else prompt_tokens
        cost = llms.cost_usd(prompts, tokens)  # type: ignore[arg-type]
        if router.costs is not None:
            cost = router.costs(x, cost)
        startup, rate = llms.startup_s, llms.tokens_per_s
        if circumstances is not AS_EXPECTED:
            now = circumstances
            if now.response_factor is not None:
                longer = tokens * now.response_factor
                cost = cost + llms.price_response * (longer - tokens)
                tokens = longer
            cost = cost if now.extra_usd is None else np.maximum(cost + now.extra_usd, 0.0)
            startup = startup if now.startup_s is None else now.startup_s
            rate = rate if now.tokens_per_s is None else now.tokens_per_s
        service = startup + tokens / rate
        outlook = Outlook(quality, lower, upper, uncertainty, cost, waits_s, service, startup, router.cost_scale)
        verdict = decide(goal.objective, outlook, goal.deadline, self.log_deviation, circumstances.allowed)
        score, parts = verdict.total, verdict.parts
        if bonus is not None:
            parts["binary feedback"] = bonus
            score = score + bonus
        chances = self._chances(
            score, verdict.admissible, waits_s, uncertainty, goal.score_unit, x, circumstances.explores
        )
        if chances is None:
            arm, propensity = int(score.argmax()), 1.0
            if not verdict.admissible[arm]:
                arm = int(np.where(verdict.admissible, score, -np.inf).argmax())
        else:
            arm = drawn(chances, draw or self.rng.random)
            propensity = float(chances[arm])
        self.count(arm)
        if isinstance(goal.objective, Budget):
            goal.objective.charge(float(cost[arm]))
        half_width = self.settings.interval * self._deviation
        return Decision(
            key,
            llms.names[arm],
            arm,
            propensity,
            goal.name,
            llms.names,
            quality,
            tokens,
            cost,
            waits_s,
            service,
            parts,
            score,
            verdict.admissible,
            chances,
            partial(
                _bounds,
                self._single,
                router.ranges,
                half_width,
                x,
                quality,
                partial(completion_interval, waits_s, startup, service, self.log_deviation),
            ),
            x,
            expected,
            goal.trade_off,
        )

    def count(self, arm: int) -> None:
        """Count a decision for an LLM towards its burn-in."""
        if self.burn_in[arm]:
            self.burn_in[arm] -= 1

    def _chances(
        self,
        score: np.ndarray,
        admissible: np.ndarray,
        waits_s: np.ndarray,
        uncertainty: np.ndarray,
        score_unit: float,
        x: np.ndarray,
        explores: bool,
    ) -> np.ndarray | None:
        """Probability of each LLM, (L,); None: the best admissible one for certain."""
        settings = self.settings
        burning = explores and self.burn_in.any()
        if not ((self._explores and explores) or settings.near_tie or burning or self.binary):
            return None
        if settings.near_tie > 0:
            score = prefer_idle(score, admissible, waits_s, settings.near_tie)
        deviation = score_unit * self._deviation * uncertainty
        kind = settings.exploration if explores else "none"
        chances = among_best(score, deviation, admissible, settings.tried, kind, settings.amount)
        if self.binary is not None:
            chances = self.binary.mixed(chances, x, admissible)
        return with_burn_in(chances, (self.burn_in > 0) & admissible, settings.burn_in_share) if burning else chances

    def learn(
        self,
        x: np.ndarray,
        arms: Sequence[int],
        feedback: Sequence[Feedback],
        expected: Sequence[float],
        propensity: float,
        prior: np.ndarray | None = None,
    ) -> None:
        """Learn from the answers to one query; source: docs/methods.md, section 2.

        With one answer the whole error is put down to its LLM and counts the less, the more of it may be the query's;
        with several, what they have in common is put down to the query (`symbiosis.routing.learning.feedback.Noise`).

        Parameters
        ----------
        x
            (D,), the query's features.
        arms
            The k LLMs that answered, the one that was chosen first.
        feedback
            One for each of them, all refined or all binary.
        expected
            k qualities, `Decision.expected`.
        propensity
            Of the first.
        prior
            (L, 2), ``router.prior(x[None])[0]`` where it is at hand.
        """
        if feedback[0].quality is None and self.binary is not None:
            self.binary.learn(arms, x, [bool(one.satisfied) for one in feedback], expected, propensity)
            return
        noise, variance = self.experience.noise, 0.0
        if feedback[0].quality is None:
            satisfaction = self.experience.satisfaction
            quality, variance = (
                satisfaction.quality(np.array([one.satisfied for one in feedback])),
                satisfaction.variance,
            )
        else:
            quality = np.array([one.quality for one in feedback], dtype=np.float64)
        router, chosen = self.router, list(arms)
        known = router.prior(x[None])[0] if prior is None else prior
        heads = router.heads
        errors = quality - known[chosen, QUALITY] - x @ heads.weights[chosen, :, heads.dimension + QUALITY].T
        shared, weight = Noise(noise.own + variance, noise.common).attribute(errors)
        weight *= noise.own / (noise.own + variance)
        for place, arm in enumerate(chosen):
            router.learn(
                arm,
                x,
                float(quality[place]),
                feedback[place].response_tokens,
                known,
                shared=float(shared[place]),
                weight=weight,
            )
            self._single.refresh(arm)

    def add_llm(
        self,
        llm: Llms,
        vectors: np.ndarray | None = None,
        quality: np.ndarray = NO_PROBES,
        response_tokens: np.ndarray = NO_PROBES,
    ) -> None:
        """Take in an LLM: from its answers to probe queries, then by a burn-in of drawn queries.

        What the others are like says what it is like (`symbiosis.routing.learning.onboarding.onboard`); without probe
        answers it is expected to be like their mean, and very uncertain. The others stay as they are, to the last bit.

        Parameters
        ----------
        llm
            The one LLM.
        vectors, quality, response_tokens
            (m, d), (m,) and (m,): its answers to probe queries.

        Raises
        ------
        InputError
            The name is taken, or an answer is not finite or out of range.
        """
        router = self.router
        if vectors is not None and len(vectors):
            added = onboard(router, llm, vectors, quality, response_tokens, self.experience.noise)
        else:
            heads = router.heads
            penalty = heads.penalty[0] if heads.penalty[0].all() else np.ones(heads.dimension)
            added = router.with_llm(
                llm.names[0],
                float(llm.price_prompt[0]),
                float(llm.price_response[0]),
                float(llm.startup_s[0]),
                float(llm.tokens_per_s[0]),
                penalty,
            )
        self.log_deviation = np.append(self.log_deviation, self.log_deviation.mean())
        self.burn_in = np.append(self.burn_in, self.settings.burn_in)
        self.binary = None if self.binary is None else self.binary.with_llm()
        self._start(added)

    def reprice(self, name: str, price_prompt: float, price_response: float) -> None:
        """Change an LLM's prices, in USD per token; the others stay as they are, to the last bit.

        What was learned of costs at the old prices is forgotten: tokens times prices from now on.

        Raises
        ------
        InputError
            There is no such LLM.
        """
        router, arm = self.router, self._arm(name)
        prompt, response = router.llms.price_prompt.copy(), router.llms.price_response.copy()
        prompt[arm], response[arm] = price_prompt, price_response
        costs = None if router.costs is None else router.costs.without(arm)
        llms = replace(router.llms, price_prompt=prompt, price_response=response)
        self._start(replace(router, llms=llms, costs=costs))

    def _arm(self, name: str) -> int:
        names = self.router.llms.names
        if name not in names:
            raise InputError(f"there is no LLM {name!r}: there are {', '.join(names)}")
        return names.index(name)

    def remove_llm(self, name: str) -> list[int]:
        """Take out an LLM; the others stay as they are, to the last bit. Return the arms that were kept.

        Raises
        ------
        InputError
            There is no such LLM, or it is the last one.
        """
        names, removed = self.router.llms.names, self._arm(name)
        if len(names) == 1:
            raise InputError(f"{name!r} is the last LLM: add another before it is removed")
        kept = [arm for arm in range(len(names)) if arm != removed]
        self.log_deviation, self.burn_in = self.log_deviation[kept], self.burn_in[kept]
        self.binary = None if self.binary is None else self.binary.take(kept)
        self._start(self.router.take(kept))
        return kept

    def take_over(self, other: "OnlineRouter", burn_in: np.ndarray) -> None:
        """Go on with what another router has learned and with its LLMs; goal, settings and draws stay.

        Parameters
        ----------
        other
            It may go on, too.
        burn_in
            (L,), queries that are still drawn for each of its LLMs.
        """
        self.experience, self.log_deviation = other.experience, other.log_deviation.copy()
        self.burn_in = burn_in.astype(np.int64)
        self.binary = None if other.binary is None else other.binary.copy()
        self._start(other.router.copy())


def _bounds(
    single: SingleQuery,
    ranges: Ranges | None,
    half_width: float,
    x: np.ndarray,
    quality: np.ndarray,
    times: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> Bounds:
    """Intervals of quality (L,) of a query with features (D,), and of the time to its answer."""
    half = half_width * np.sqrt(single.variance(x))
    lower, upper = np.maximum(quality - half, 0.0), np.minimum(quality + half, 1.0)
    soonest, latest = times()
    if ranges is None:
        return Bounds(lower, upper, soonest_s=soonest, latest_s=latest)
    answer_lower, answer_upper = ranges.quality(quality[None])
    return Bounds(lower, upper, answer_lower[0], answer_upper[0], soonest, latest)
