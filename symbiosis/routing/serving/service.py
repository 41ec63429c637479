"""Route queries as they come, and learn from feedback that comes later; needs no network.

`symbiosis.routing.serving.snapshots` keeps on disk what was learned.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Noise, Satisfaction
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective, Paper
from symbiosis.routing.serving.decider import Decider
from symbiosis.routing.serving.inputs import described, embedding, per_llm, probes
from symbiosis.routing.serving.journal import Context, Decided, DecisionLog, Memory, Rewarded, Told, checked
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings

CHARACTERS_PER_TOKEN = 4.0  # of English text, where the prompt's tokens were not counted

# Popoviciu: no quality in 0..1 has a larger variance.
WORST = Noise(own=0.25, common=0.0)
LITERAL = Satisfaction(1.0, 0.0, 0.0)


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
        Offline experience with quality (`symbiosis.routing.learning.feedback.Experience`). Without noise the
        largest possible; without satisfaction, satisfied counts as quality 1 and dissatisfied as 0.
    binary
        Learns from satisfied or not in the place of the router, which then learns from refined feedback alone.
    log_deviation
        (L,), standard deviation of the log of the response tokens, see
        `symbiosis.routing.policy.objectives.Deadline.late`;
        if not given, the router's, or 0 where it knows none.
    workers
        (L,), queries that each LLM serves at once.
    settings
        See there.
    clock
        Seconds since the epoch.
    session
        Part of the decisions' ids, so that ids of another process are never taken for this one's; drawn if not given.
    log
        Takes down every decision and every piece of feedback, if given.
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
        binary: BinaryHead | None = None,
        log_deviation: np.ndarray | None = None,
        workers: np.ndarray | None = None,
        settings: ServiceSettings = DEFAULTS,
        clock: Callable[[], float] = time.time,
        session: str | None = None,
        log: DecisionLog | None = None,
    ) -> None:
        if isinstance(objective, Paper) and deadline is not None:
            raise InputError("the published score has its own waiting penalty: leave the deadline out")
        n_llms = len(router.llms)
        self.router = router.copy()
        self.objective, self.deadline, self.settings = objective, deadline, settings
        self.noise, self.satisfaction, self.binary = noise, satisfaction, binary
        self.encode, self._clock, self.log = encode, clock, log
        if log_deviation is None:
            log_deviation = np.zeros(n_llms) if router.ranges is None else router.ranges.lengths.sigma
        self.log_deviation = np.array(log_deviation, dtype=np.float64)
        self.workers = np.ones(n_llms) if workers is None else np.array(workers, dtype=np.float64)
        self._backlog, self._seen_at = np.zeros(n_llms), clock()
        self.burn_in = np.zeros(n_llms, dtype=np.int64)
        self.memory = Memory(settings.contexts, settings.lifetime_s)
        self._session = session or uuid.uuid4().hex[:8]
        self.decisions = 0
        self.rng = np.random.default_rng(settings.seed)
        self.lock = threading.RLock()
        self._serve(self.router)

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
        if isinstance(query, str):
            if self.encode is None:
                raise InputError("a text was given to a service without an encoder: give `encode`, or an embedding")
            if prompt_tokens is None:
                prompt_tokens = max(len(query) / CHARACTERS_PER_TOKEN, 1.0)
            query = self.encode(query)
        elif prompt_tokens is None:
            raise InputError("an embedding does not tell the prompt's length: give prompt_tokens")
        vector = embedding(query, len(self.router.feature_map.mean))
        with self.lock:
            return self._route(vector, prompt_tokens, waits_s)

    def _route(self, vector: np.ndarray, prompt_tokens: float | np.ndarray, waits_s: np.ndarray | None) -> Decision:
        now, n_llms = self._clock(), len(self.router.llms)
        prompts = per_llm(prompt_tokens, "prompt_tokens", n_llms)
        if waits_s is None:
            waits = np.maximum(self._backlog - max(now - self._seen_at, 0.0), 0.0)
        else:
            waits = np.broadcast_to(per_llm(waits_s, "waits_s", n_llms), n_llms)
        key = f"{self._session}-{self.decisions}"
        decision, context = self._decide(key, vector, prompts, waits, now, self.burn_in)
        self._dispatched(decision, context)
        return decision

    def _dispatched(self, decision: Decision, context: Context) -> None:
        arm = decision.arm
        self._seen_at, self._backlog = context.at, decision.wait_s.copy()
        self._backlog[arm] += decision.service_s[arm] / self.workers[arm]
        self._remember(decision.id, arm, context)
        if self.log:
            self.log.decided(decision.id, context)

    def _remember(self, key: str, arm: int, context: Context) -> None:
        if self.burn_in[arm]:
            self.burn_in[arm] -= 1
        if isinstance(self.objective, Budget):
            self.objective.charge(context.cost_usd)
        self.decisions += 1
        self.memory.remember(key, context)

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
        told = checked(decision_id, quality, response_tokens, satisfied)
        with self.lock:
            learned = self._reward(decision_id, told, self._clock())
            if learned and self.log:
                self.log.rewarded(decision_id, told)
            return learned

    def _reward(self, key: str, told: Told, now: float) -> bool:
        context = self.memory.recall(key, told, now)
        if context is None:
            return False
        names = self.router.llms.names
        if context.llm not in names:
            raise InputError(f"decision {key!r}: its LLM {context.llm!r} was removed; nothing can be learned")
        self._learn(names.index(context.llm), context, told)
        self.memory.reward(key, told)
        return True

    def catch_up(self, lines: Iterable[Decided | Rewarded]) -> int:
        """Take in decisions and feedback of a process that ended before it saved them.

        What is expected of the LLMs, what awaits feedback and what is left of a budget are then as they were; draws and
        waits are not. Lines about LLMs that are not there are passed over.

        Returns
        -------
        int
            The lines that were taken in.
        """
        taken = 0
        with self.lock:
            for line in lines:
                names = self.router.llms.names
                if isinstance(line, Decided):
                    if line.llm not in names:
                        continue
                    self._remember(line.decision, names.index(line.llm), line.context)
                else:
                    context = self.memory.contexts.get(line.feedback)
                    if context is None or context.llm not in names:
                        continue
                    self._reward(line.feedback, line.told, context.at)
                taken += 1
        return taken

    def _learn(self, arm: int, context: Context, told: Told) -> None:
        quality, tokens, satisfied = told
        if quality is None and self.binary is not None:
            self.binary.learn(arm, context.x, bool(satisfied), context.quality, context.propensity)
        else:
            variance = 0.0
            if quality is None:
                quality, variance = float(self.satisfaction.quality(np.array(satisfied))), self.satisfaction.variance
            # One answer: how hard the query was and how well the LLM did cannot be told apart (`Noise.attribute`).
            weight = self.noise.own / (self.noise.own + self.noise.common + variance)
            self.router.learn(arm, context.x, float(quality), None if tokens is None else float(tokens), weight=weight)
            self._decide.refresh(arm)
        if tokens is not None and isinstance(self.objective, Budget):
            spent = self.router.llms.cost_usd(np.array(context.prompt_tokens), np.array(float(tokens)))[arm]
            self.objective.correct(context.cost_usd, float(spent))

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
            See `symbiosis.routing.data.outcomes.Llms`.
        vectors, quality, response_tokens
            (m, d), (m,) and (m,): embeddings of the probe queries and its outcomes, all or none of them.
        workers
            Queries that it serves at once.

        Raises
        ------
        InputError
            The name is taken, a price or speed is missing, or the probe outcomes do not fit; nothing is added.
        """
        known = described(name, price_prompt, price_response, startup_s, tokens_per_s)
        dimension = len(self.router.feature_map.mean)
        vectors, quality, response_tokens = probes(name, vectors, quality, response_tokens, dimension)
        with self.lock:
            heads = self.router.heads
            penalty = heads.penalty[0] if heads.penalty[0].all() else np.ones(heads.dimension)
            added = self.router.with_llm(name, *known, penalty)
            arm = len(added.llms) - 1
            for x, good, tokens in zip(added.feature_map(vectors), quality, response_tokens, strict=True):
                added.learn(arm, x, float(good), float(tokens))
            self.log_deviation = np.append(self.log_deviation, self.log_deviation.mean())
            self.workers = np.append(self.workers, workers)
            self._backlog = np.append(self._backlog, 0.0)
            self.burn_in = np.append(self.burn_in, self.settings.burn_in)
            self.binary = None if self.binary is None else self.binary.with_llm()
            self._serve(added)

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
            for part in ("log_deviation", "workers", "_backlog", "burn_in"):
                setattr(self, part, getattr(self, part)[kept])
            self.binary = None if self.binary is None else self.binary.take(kept)
            self._serve(self.router.take(kept))

    def _serve(self, router: Router) -> None:
        """Decide with another router from now on."""
        self.router = router
        self._decide = Decider(
            router,
            self.objective,
            self.deadline,
            self.settings,
            self.noise,
            self.log_deviation,
            self.binary,
            self.rng,
            self.lock,
        )
