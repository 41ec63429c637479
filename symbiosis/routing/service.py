"""Route queries as they come, and learn from feedback that comes later; needs no network.

`symbiosis.routing.service_state` keeps on disk what was learned.
"""

import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.errors import InputError
from symbiosis.routing.decision import utility
from symbiosis.routing.explanation import Decision
from symbiosis.routing.exploration import Kind, among_best
from symbiosis.routing.feedback import Noise, Satisfaction
from symbiosis.routing.objectives import Budget, Deadline, Objective, Outlook, Paper, TradeOff, decide
from symbiosis.routing.router import Router
from symbiosis.routing.single_query import SingleQuery

CHARACTERS_PER_TOKEN = 4.0  # of English text, where the prompt's tokens were not counted

# Popoviciu: no quality in 0..1 has a larger variance.
WORST = Noise(own=0.25, common=0.0)
LITERAL = Satisfaction(1.0, 0.0, 0.0)


@dataclass(frozen=True)
class ServiceSettings:
    """How a service explores and what it remembers.

    Attributes
    ----------
    exploration, amount, tried
        See `symbiosis.routing.exploration.among_best`.
    interval
        Half width of the interval of quality in standard deviations: 1.645 for 90 %.
    near_tie
        LLMs whose score is within so much of the best go to the shortest wait.
    burn_in, burn_in_share
        The first so many queries of an added LLM are drawn: each query goes with this probability to one of the
        LLMs that are still new.
    contexts, lifetime_s
        Decisions that are remembered for feedback, at most so many and for so long; as many rewarded ones.
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
    contexts: int = 100_000
    lifetime_s: float = 86_400.0
    seed: int = 0


DEFAULTS = ServiceSettings()


@dataclass(frozen=True)
class Context:
    """What is remembered of a decision until its feedback."""

    llm: str
    x: np.ndarray
    at: float
    prompt_tokens: float
    cost_usd: float
    propensity: float


class RoutingService:
    """A router that decides, remembers and learns. Its methods may be called from several threads.

    Parameters
    ----------
    router
        Where it starts; not changed.
    objective
        What it decides for; a `Budget` is paced on.
    deadline
        Whether the time to the answer counts.
    encode
        From a text to its embedding (d,); None: only embeddings are routed.
    noise, satisfaction
        Offline experience with quality (`symbiosis.routing.replay.Experience`). Without noise the largest possible;
        without satisfaction, satisfied counts as quality 1 and dissatisfied as 0.
    log_deviation
        (L,), standard deviation of the log of the response tokens; see `symbiosis.routing.objectives.Deadline.late`.
    workers
        (L,), queries that each LLM serves at once.
    settings
        See there.
    clock
        Seconds since the epoch.
    session
        Part of the decisions' ids, so that ids of another process are never taken for this one's; drawn if not given.
    """

    def __init__(
        self,
        router: Router,
        objective: Objective,
        deadline: Deadline | None = None,
        *,
        encode: Callable[[str], np.ndarray] | None = None,
        noise: Noise = WORST,
        satisfaction: Satisfaction = LITERAL,
        log_deviation: np.ndarray | None = None,
        workers: np.ndarray | None = None,
        settings: ServiceSettings = DEFAULTS,
        clock: Callable[[], float] = time.time,
        session: str | None = None,
    ) -> None:
        if isinstance(objective, Paper) and deadline is not None:
            raise InputError("the published score has its own waiting penalty: leave the deadline out")
        n_llms = len(router.llms)
        self.router = router.copy()
        self.objective, self.deadline, self.settings = objective, deadline, settings
        self.noise, self.satisfaction = noise, satisfaction
        self._encode, self._clock = encode, clock
        self.log_deviation = np.zeros(n_llms) if log_deviation is None else np.array(log_deviation, dtype=np.float64)
        self.workers = np.ones(n_llms) if workers is None else np.array(workers, dtype=np.float64)
        self._backlog, self._seen_at = np.zeros(n_llms), clock()
        self.burn_in = np.zeros(n_llms, dtype=np.int64)
        self.contexts: OrderedDict[str, Context] = OrderedDict()
        self.rewarded: OrderedDict[str, list[float | bool | None]] = OrderedDict()
        self._session = session or uuid.uuid4().hex[:8]
        self.decisions = 0
        self.rng = np.random.default_rng(settings.seed)
        self.lock = threading.RLock()
        self._prepare()

    def _prepare(self) -> None:
        """Lay out what depends on which LLMs there are."""
        self._single = SingleQuery(self.router)
        self._deviation = math.sqrt(self.noise.own + self.noise.common)

    def route(
        self,
        query: str | np.ndarray,
        prompt_tokens: float | np.ndarray | None = None,
        waits_s: np.ndarray | None = None,
    ) -> Decision:
        """Decide which LLM answers a query.

        Parameters
        ----------
        query
            Its text, or its embedding (d,).
        prompt_tokens
            One number, or (L,) by each LLM's tokenizer. For a text it is guessed from the characters if not given.
        waits_s
            (L,), seconds until a worker of each LLM is free, as of now. If not given, the last ones, less the time
            passed since, plus this service's own dispatches at their expected duration.

        Raises
        ------
        InputError
            A text and no encoder, or an embedding, token count or wait of the wrong shape or not finite.
        """
        vector = self._vector(query)
        if prompt_tokens is None:
            if not isinstance(query, str):
                raise InputError("an embedding does not tell the prompt's length: give prompt_tokens")
            prompt_tokens = max(len(query) / CHARACTERS_PER_TOKEN, 1.0)
        with self.lock:
            return self._route(vector, prompt_tokens, waits_s)

    def _vector(self, query: str | np.ndarray) -> np.ndarray:
        if isinstance(query, str):
            if self._encode is None:
                raise InputError("a text was given to a service without an encoder: give `encode`, or an embedding")
            query = self._encode(query)
        vector = np.asarray(query, dtype=np.float64)
        expected = self.router.feature_map.mean.shape
        if vector.shape != expected or not np.isfinite(vector).all():
            raise InputError(
                f"the query's embedding has shape {vector.shape}: {expected[0]} finite numbers are needed, from the "
                "encoder that the router was trained with"
            )
        return vector

    def _numbers(self, values: Any, what: str) -> np.ndarray:
        numbers = np.asarray(values, dtype=np.float64)
        n_llms = len(self.router.llms)
        if numbers.shape not in ((), (n_llms,)) or not np.isfinite(numbers).all() or (numbers < 0).any():
            raise InputError(
                f"{what}: {values!r} must be finite, not negative, and one number or one per LLM ({n_llms})"
            )
        return numbers if numbers.shape else np.broadcast_to(numbers, n_llms)

    def _route(self, vector: np.ndarray, prompt_tokens: float | np.ndarray, waits_s: np.ndarray | None) -> Decision:
        llms, settings, now = self.router.llms, self.settings, self._clock()
        prompts = self._numbers(prompt_tokens, "prompt_tokens")
        if waits_s is not None:
            self._backlog = np.array(self._numbers(waits_s, "waits_s"))
        else:
            self._backlog = np.maximum(self._backlog - max(now - self._seen_at, 0.0), 0.0)
        self._seen_at = now
        x = self.router.feature_map(vector[None])[0]
        quality, tokens, variance = self._single(x)
        uncertainty = np.sqrt(variance)
        half = settings.interval * self._deviation * uncertainty
        cost, service = llms.cost_usd(prompts, tokens), llms.service_s(tokens)
        lower, upper = np.maximum(quality - half, 0.0), np.minimum(quality + half, 1.0)
        outlook = Outlook(
            quality[None],
            lower[None],
            upper[None],
            uncertainty[None],
            cost[None],
            self._backlog[None],
            service[None],
            llms.startup_s,
            self.router.cost_scale,
        )
        verdict = decide(self.objective, outlook, self.deadline, self.log_deviation)
        score, admissible = verdict.total[0], verdict.admissible[0]
        chances = self._chances(score, admissible, uncertainty)
        arm = int(chances.argmax())
        if chances[arm] < 1:
            arm = min(int(np.searchsorted(chances.cumsum(), self.rng.random(), side="right")), len(chances) - 1)
        decision = Decision(
            f"{self._session}-{self.decisions}",
            llms.names[arm],
            arm,
            float(chances[arm]),
            type(self.objective).__name__,
            llms.names,
            quality,
            lower,
            upper,
            tokens,
            cost,
            self._backlog.copy(),
            self._backlog + service,
            {name: part[0] for name, part in verdict.parts.items()},
            score,
            admissible,
            chances,
        )
        self._dispatched(decision, x, now, float(prompts[arm]), float(service[arm]))
        return decision

    def _chances(self, score: np.ndarray, admissible: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
        """Probability of each LLM, (L,)."""
        settings = self.settings
        if settings.near_tie > 0:
            best = np.where(admissible, score, -np.inf)
            near = np.flatnonzero(best >= best.max() - settings.near_tie)
            first, shortest = int(best.argmax()), int(near[self._backlog[near].argmin()])
            if self._backlog[shortest] < self._backlog[first]:
                score = score.copy()
                score[[first, shortest]] = score[[shortest, first]]
        unit = 1.0
        if isinstance(self.objective, TradeOff):
            unit = float(utility(np.array(1.0), np.array(0.0), self.objective.trade_off, self.objective.weighting))
        chances = among_best(
            score,
            unit * self._deviation * uncertainty,
            admissible,
            settings.tried,
            settings.exploration,
            settings.amount,
        )
        new = (self.burn_in > 0) & admissible
        if new.any():
            chances = (1 - settings.burn_in_share) * chances + settings.burn_in_share * new / new.sum()
        return chances

    def _dispatched(self, decision: Decision, x: np.ndarray, now: float, prompt: float, service_s: float) -> None:
        arm = decision.arm
        self._backlog[arm] += service_s / self.workers[arm]
        self.burn_in[arm] = max(self.burn_in[arm] - 1, 0)
        cost = float(decision.cost_usd[arm])
        if isinstance(self.objective, Budget):
            self.objective.charge(cost)
        self.decisions += 1
        self.contexts[decision.id] = Context(decision.llm, x, now, prompt, cost, decision.propensity)
        while self.contexts:
            oldest, context = next(iter(self.contexts.items()))
            if len(self.contexts) <= self.settings.contexts and now - context.at <= self.settings.lifetime_s:
                break
            del self.contexts[oldest]

    def feedback(
        self,
        decision_id: str,
        *,
        quality: float | None = None,
        response_tokens: float | None = None,
        satisfied: bool | None = None,
    ) -> bool:
        """Learn from the answer to a query; may come late and may be repeated.

        Parameters
        ----------
        decision_id
            `Decision.id`.
        quality, response_tokens
            Refined feedback: 0..1, and the answer's length if it is known.
        satisfied
            Binary feedback, instead.

        Returns
        -------
        bool
            False if the same feedback was given before: nothing is learned twice.

        Raises
        ------
        InputError
            Unknown, expired or otherwise rewarded decision; its LLM was removed; or a value that is not one. Nothing
            is changed, and right feedback may still follow.
        """
        if (quality is None) == (satisfied is None):
            raise InputError(f"feedback for decision {decision_id!r}: give either `quality` or `satisfied`")
        if quality is not None and not 0 <= quality <= 1:  # NaN too
            raise InputError(f"feedback for decision {decision_id!r}: quality {quality} must lie in 0..1")
        if satisfied is not None and satisfied not in (True, False):
            raise InputError(f"feedback for decision {decision_id!r}: satisfied {satisfied} must be true or false")
        if response_tokens is not None and not 0 <= response_tokens < math.inf:
            raise InputError(
                f"feedback for decision {decision_id!r}: response_tokens {response_tokens} must be a number not below 0"
            )
        told: list[float | bool | None] = [
            None if quality is None else float(quality),
            None if response_tokens is None else float(response_tokens),
            None if satisfied is None else bool(satisfied),
        ]
        with self.lock:
            return self._feedback(decision_id, told)

    def _feedback(self, decision_id: str, told: list[float | bool | None]) -> bool:
        if (before := self.rewarded.get(decision_id)) is not None:
            if before == told:
                return False
            raise InputError(f"decision {decision_id!r} has other feedback already: feedback cannot be changed")
        context = self.contexts.get(decision_id)
        if context is None or self._clock() - context.at > self.settings.lifetime_s:
            raise InputError(
                f"decision {decision_id!r} is unknown, or too old for feedback (kept: {self.settings.lifetime_s:g} s, "
                f"{self.settings.contexts} decisions): use the id of a recent decision"
            )
        llms = self.router.llms
        if context.llm not in llms.names:
            raise InputError(f"decision {decision_id!r}: its LLM {context.llm!r} was removed; nothing can be learned")
        arm = llms.names.index(context.llm)
        quality, tokens, satisfied = told
        variance = 0.0
        if quality is None:
            quality, variance = float(self.satisfaction.quality(np.array(satisfied))), self.satisfaction.variance
        # One answer: how hard the query was and how well the LLM did cannot be told apart (`Noise.attribute`).
        weight = self.noise.own / (self.noise.own + self.noise.common + variance)
        self.router.learn(arm, context.x, float(quality), None if tokens is None else float(tokens), weight=weight)
        self._single.refresh(arm)
        if tokens is not None and isinstance(self.objective, Budget):
            spent = llms.cost_usd(np.array(context.prompt_tokens), np.array(float(tokens)))[arm]
            self.objective.correct(context.cost_usd, float(spent))
        del self.contexts[decision_id]
        self.rewarded[decision_id] = told
        while len(self.rewarded) > self.settings.contexts:
            self.rewarded.popitem(last=False)
        return True

    def add_llm(
        self,
        name: str,
        *,
        price_prompt: float | None,
        price_response: float | None,
        startup_s: float,
        tokens_per_s: float,
        vectors: np.ndarray | None = None,
        quality: np.ndarray | None = None,
        response_tokens: np.ndarray | None = None,
        workers: int = 1,
    ) -> None:
        """Add an LLM while running: from its answers to a few probe queries, then by a burn-in of drawn queries.

        All other LLMs' parameters and predictions stay as they are, to the last bit.

        Parameters
        ----------
        name, price_prompt, price_response, startup_s, tokens_per_s
            See `symbiosis.routing.outcomes.Llms`.
        vectors, quality, response_tokens
            (m, d), (m,) and (m,): embeddings of the probe queries and its outcomes, all or none of them.
        workers
            Queries that it serves at once.

        Raises
        ------
        InputError
            The name is taken, a price or speed is missing, or the probe outcomes do not fit; nothing is added.
        """
        prompt, response = _given(name, "price_prompt", price_prompt), _given(name, "price_response", price_response)
        startup, rate = _given(name, "startup_s", startup_s), _given(name, "tokens_per_s", tokens_per_s)
        if rate == 0:
            raise InputError(f"LLM {name!r} has tokens_per_s 0: give a rate above 0")
        probe = self._probe(name, vectors, quality, response_tokens)
        with self.lock:
            heads = self.router.heads
            penalty = heads.penalty[0] if heads.penalty[0].all() else np.ones(heads.dimension)
            added = self.router.with_llm(name, prompt, response, startup, rate, penalty)
            arm = len(added.llms) - 1
            for x, good, tokens in probe:
                added.learn(arm, x, good, tokens)
            self.router = added
            self.log_deviation = np.append(self.log_deviation, self.log_deviation.mean())
            self.workers = np.append(self.workers, workers)
            self._backlog = np.append(self._backlog, 0.0)
            self.burn_in = np.append(self.burn_in, self.settings.burn_in)
            self._prepare()

    def _probe(
        self, name: str, vectors: np.ndarray | None, quality: np.ndarray | None, tokens: np.ndarray | None
    ) -> list[tuple[np.ndarray, float, float]]:
        if vectors is None and quality is None and tokens is None:
            return []
        if vectors is None or quality is None or tokens is None or not len(vectors) == len(quality) == len(tokens):
            raise InputError(f"LLM {name!r}: give one vector, quality and response_tokens for each probe query")
        for row, (good, length) in enumerate(zip(quality, tokens, strict=True)):
            if not 0 <= good <= 1 or not 0 <= length < math.inf:
                raise InputError(
                    f"LLM {name!r}, probe query {row}: quality {good} and response_tokens {length} are bad"
                )
        features = self.router.feature_map(np.stack([self._vector(vector) for vector in vectors]))
        return [(x, float(q), float(n)) for x, q, n in zip(features, quality, tokens, strict=True)]

    def remove_llm(self, name: str) -> None:
        """Remove an LLM while running; the others stay as they are, to the last bit.

        Raises
        ------
        InputError
            There is no such LLM, or it is the last one.
        """
        with self.lock:
            names = self.router.llms.names
            if name not in names:
                raise InputError(f"there is no LLM {name!r}: there are {', '.join(names)}")
            if len(names) == 1:
                raise InputError(f"{name!r} is the last LLM: add another before it is removed")
            kept = [arm for arm, other in enumerate(names) if other != name]
            self.router = self.router.take(kept)
            for part in ("log_deviation", "workers", "_backlog", "burn_in"):
                setattr(self, part, getattr(self, part)[kept])
            self._prepare()


def _given(name: str, what: str, value: float | None) -> float:
    if value is None or not 0 <= value < math.inf:
        raise InputError(f"LLM {name!r} has {what} {value}: give a number not below 0 (prices in USD per token)")
    return float(value)
