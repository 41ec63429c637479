"""Route queries as they come, and learn from feedback that comes later; needs no network.

`symbiosis.routing.serving.snapshots` keeps on disk what was learned.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN, Llms
from symbiosis.routing.learning.feedback import CAUTIOUS, Experience, Feedback
from symbiosis.routing.learning.online_router import OnlineRouter
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.explanation import Bounds, Decision
from symbiosis.routing.policy.goals import AS_EXPECTED, Circumstances, Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective
from symbiosis.routing.serving.inputs import described, embedding, per_llm, probes
from symbiosis.routing.serving.journal import DecisionRecord, FeedbackRecord, Journal, Memory, checked
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings


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
        From a text to its vector (d,); None: only vectors are routed.
    experience, binary, log_deviation
        See `symbiosis.routing.learning.online_router.OnlineRouter`.
    workers
        (L,), queries that each LLM serves at once.
    settings
        See there.
    clock
        Seconds since the epoch.
    session
        Part of the decisions' ids, so that ids of another process are never taken for this one's; drawn if not given.
    journal
        Takes down every decision and every piece of feedback, if given.
    """

    def __init__(
        self,
        router: Router,
        objective: Objective,
        deadline: Deadline | None = None,
        *,
        encode: Callable[[str], np.ndarray] | None = None,
        experience: Experience = CAUTIOUS,
        binary: BinaryHead | None = None,
        log_deviation: np.ndarray | None = None,
        workers: np.ndarray | None = None,
        settings: ServiceSettings = DEFAULTS,
        clock: Callable[[], float] = time.time,
        session: str | None = None,
        journal: Journal | None = None,
    ) -> None:
        n_llms = len(router.llms)
        self.online = OnlineRouter(
            router,
            objective,
            deadline,
            experience=experience,
            binary=binary,
            log_deviation=log_deviation,
            settings=settings,
        )
        self.encode, self._clock, self.journal = encode, clock, journal
        self.workers = np.ones(n_llms) if workers is None else np.array(workers, dtype=np.float64)
        self._backlog, self._seen_at = np.zeros(n_llms), clock()
        self.memory = Memory(settings.contexts, settings.lifetime_s)
        # Pacing goes on whatever this service decides for: decisions for a budget may have come before.
        self.budget = objective if isinstance(objective, Budget) else Budget(1.0)
        self._session = session or uuid.uuid4().hex[:8]
        self.decisions = 0
        self.lessons = 0
        self.signature = "", 0
        """Digest of the trained router and version of the state, which decisions tell."""
        self.lock = threading.RLock()

    @property
    def router(self) -> Router:
        """What has been learned so far."""
        return self.online.router

    @property
    def objective(self) -> Objective:
        """What it decides for."""
        return self.online.objective

    def _expected_prompt(self, text: str | None, x: np.ndarray) -> np.ndarray:
        """Tokens that a query's prompt is expected to have with each LLM, (L,), from its features (D,).

        The router has seen no prompt longer than its longest in training; beyond, characters count.
        """
        by_characters = len(text or "") / CHARACTERS_PER_TOKEN
        prompts = self.router.prompts
        if prompts is None:
            return np.full(len(self.router.llms), max(by_characters, 1.0))
        expected = self.router.prompt_tokens(x)
        return np.where(by_characters > prompts.most.max(), by_characters, expected)

    def route(
        self,
        query: str | np.ndarray,
        prompt_tokens: float | np.ndarray | None = None,
        waits_s: np.ndarray | None = None,
        vector: np.ndarray | None = None,
        goal: Goal | None = None,
        circumstances: Circumstances = AS_EXPECTED,
    ) -> Decision:
        """Decide which LLM answers a query.

        Parameters
        ----------
        query
            Its text, or its vector (d,).
        prompt_tokens
            One number, or (L,) by each LLM's tokenizer. If not given, the router expects them from
            the text or its vector.
        waits_s
            (L,), seconds until a worker of each LLM is free, as of now. If not given, the last ones, less the time
            passed since, plus this service's own dispatches at their expected duration.
        vector
            Of a text that was encoded before.
        goal, circumstances
            Of this query alone; see `symbiosis.routing.learning.online_router.OnlineRouter.decide`.

        Raises
        ------
        InputError
            A text and no encoder, or a vector, token count or wait of the wrong shape or not finite.
        """
        if isinstance(query, str):
            if vector is None:
                if self.encode is None:
                    raise InputError("a text was given to a service without an encoder: give `encode`, or a vector")
                vector = self.encode(query)
            text: str | None = query
        else:
            vector, text = query, None
        checked_vector = embedding(vector, len(self.router.feature_map.mean))
        with self.lock:
            return self._route(checked_vector, prompt_tokens, waits_s, text, goal, circumstances)

    def _route(
        self,
        vector: np.ndarray,
        prompt_tokens: float | np.ndarray | None,
        waits_s: np.ndarray | None,
        text: str | None = None,
        goal: Goal | None = None,
        circumstances: Circumstances = AS_EXPECTED,
    ) -> Decision:
        now, n_llms = self._clock(), len(self.router.llms)
        x = self.online.features(vector)
        if prompt_tokens is None:
            prompts: float | np.ndarray = self._expected_prompt(text, x)
        else:
            prompts = per_llm(prompt_tokens, "prompt_tokens", n_llms)
        if waits_s is None:
            waits = np.maximum(self._backlog - max(now - self._seen_at, 0.0), 0.0)
        else:
            waits = np.broadcast_to(per_llm(waits_s, "waits_s", n_llms), n_llms)
        online = self.online
        key = f"{self._session}-{self.decisions}"
        decision = online.decide(key, x, prompts, waits, goal=goal, circumstances=circumstances)
        objective = (goal or online.goal).objective
        decision.interval = partial(self._locked, decision.interval)
        decision.router, decision.version = self.signature
        arm = decision.arm
        record = DecisionRecord(
            decision.id,
            decision.llm,
            now,
            decision.propensity,
            prompts if isinstance(prompts, float) else float(prompts[arm]),
            float(decision.cost_usd[arm]),
            float(decision.expected[arm]),
            vector,
            objective.usd_per_query if isinstance(objective, Budget) else None,
        )
        self._seen_at, self._backlog = now, waits.copy()
        self._backlog[arm] += decision.service_s[arm] / self.workers[arm]
        self.decisions += 1
        self.memory.remember(record)
        if self.journal:
            self.journal.decided(record)
        return decision

    def _locked(self, interval: Callable[[], Bounds]) -> Bounds:
        with self.lock:
            return interval()

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
            if learned and self.journal:
                self.journal.rewarded(decision_id, told)
            return learned

    def _reward(self, key: str, told: Feedback, now: float) -> bool:
        record = self.memory.recall(key, told, now)
        if record is None:
            return False
        names = self.router.llms.names
        if record.llm not in names:
            raise InputError(f"decision {key!r}: its LLM {record.llm!r} was removed; nothing can be learned")
        self.learn(record, told)
        self.memory.reward(key, told)
        return True

    def learn(self, record: DecisionRecord, told: Feedback) -> None:
        """Learn from feedback on a decision of an LLM that is there, whoever took the decision."""
        arm = self.router.llms.names.index(record.llm)
        x = self.online.features(record.vector)
        self.online.learn(x, [arm], [told], [record.quality], record.propensity)
        self.lessons += 1
        self._settle(record, told)

    def _settle(self, record: DecisionRecord, told: Feedback) -> None:
        """Correct what a budget was charged with, if the answer's length is known now."""
        if told.response_tokens is not None and record.budget_usd is not None:
            arm = self.router.llms.names.index(record.llm)
            spent = self.router.llms.cost_usd(np.array(record.prompt_tokens), np.array(told.response_tokens))[arm]
            self.budget.correct(record.cost_usd, float(spent), record.budget_usd)

    def catch_up(self, records: Iterable[DecisionRecord | FeedbackRecord], *, learning: bool = True) -> int:
        """Take in decisions and feedback of a process that ended before it saved them.

        What is expected of the LLMs, what awaits feedback and what is left of a budget are then as they were; draws and
        waits are not. Records of LLMs that are not there are passed over.

        Parameters
        ----------
        records
            In order.
        learning
            Without it the router stays as it is, and what was told counts as told all the same.

        Returns
        -------
        int
            The records that were taken in.
        """
        taken = 0
        with self.lock:
            for record in records:
                names = self.router.llms.names
                if isinstance(record, DecisionRecord):
                    if record.llm not in names or len(record.vector) != len(self.router.feature_map.mean):
                        continue
                    self.online.count(names.index(record.llm))
                    if record.budget_usd is not None:
                        self.budget.charge(record.cost_usd, record.budget_usd)
                    self.decisions += 1
                    self.memory.remember(record)
                else:
                    before = self.memory.records.get(record.feedback)
                    if before is None or before.llm not in names:
                        continue
                    if learning:
                        self._reward(record.feedback, record.told, before.at)
                    else:
                        self._settle(before, record.told)
                        self.memory.reward(record.feedback, record.told)
                taken += 1
        return taken

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
        """Add an LLM while running; see `symbiosis.routing.learning.online_router.OnlineRouter.add_llm`.

        Parameters
        ----------
        name, price_prompt, price_response, startup_s, tokens_per_s
            See `symbiosis.routing.data.outcomes.Llms`.
        vectors, quality, response_tokens
            (m, d), (m,) and (m,): vectors of the probe queries and its outcomes, all or none of them.
        workers
            Queries that it serves at once.

        Raises
        ------
        InputError
            The name is taken, a price or speed is missing, or the probe outcomes do not fit; nothing is added.
        """
        known = described(name, price_prompt, price_response, startup_s, tokens_per_s)
        answers = probes(name, vectors, quality, response_tokens, len(self.router.feature_map.mean))
        with self.lock:
            self.online.add_llm(Llms((name,), *(np.array([value]) for value in known)), *answers)
            self.workers = np.append(self.workers, workers)
            self._backlog = np.append(self._backlog, 0.0)
            self.lessons += 1

    def remove_llm(self, name: str) -> None:
        """Remove an LLM while running; the others stay as they are, to the last bit.

        Raises
        ------
        InputError
            There is no such LLM, or it is the last one.
        """
        with self.lock:
            kept = self.online.remove_llm(name)
            for part in ("workers", "_backlog"):
                setattr(self, part, getattr(self, part)[kept])
            self.lessons += 1
