"""Route queries as they come, and learn from feedback that comes later; needs no network.

`symbiosis.routing.serving.snapshots` keeps on disk what was learned.
"""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from symbiosis.core.errors import InputError, quoted
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN, Llms
from symbiosis.routing.learning.feedback import CAUTIOUS, Experience, Feedback
from symbiosis.routing.learning.online_router import OnlineRouter
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.explanation import Bounds, Decision
from symbiosis.routing.policy.goals import AS_EXPECTED, Circumstances, Goal
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.routing.serving.inputs import checked, described, embedding, per_llm, probes
from symbiosis.routing.serving.memory import Memory
from symbiosis.routing.serving.records import DecisionRecord, Lesson
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Charge, Store


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
    store
        Keeps decisions and feedback; None: they are kept in this process alone.
    learns
        Feedback is numbered and learned as soon as it is in the store, with all that others have put there. Only one
        process at a time may do so. Without it feedback goes to the store, and another process learns.
    writes
        Decisions go to the store. Without it the caller writes `Decision.record`, when and with what he likes.
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
        store: "Store | None" = None,
        learns: bool = True,
        writes: bool = True,
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
        self.encode, self._clock = encode, clock
        self.store, self._learns, self._writes = store, learns, writes
        self.workers = np.ones(n_llms) if workers is None else np.array(workers, dtype=np.float64)
        self._backlog, self._seen_at = np.zeros(n_llms), clock()
        self.memory = Memory(settings.contexts, settings.lifetime_s)
        # Pacing goes on whatever this service decides for: decisions for a budget may have come before.
        self.budget = objective if isinstance(objective, Budget) else Budget(1.0)
        self.session = session or uuid.uuid4().hex[:8]
        self.decisions = 0
        self.lessons = 0
        self.learned = 0
        """Number of the last lesson of the store that was taken in."""
        self.position = 0
        """Sequence of the last decision in the store that pacing has taken in, beside this service's own."""
        self.fits_after = 0
        """Decisions up to this sequence have vectors of another form: they teach nothing."""
        self.trained_on = np.zeros(0, dtype=bool)
        """By number of a lesson of the store, whether the trained router knows it already: it is not learned again."""
        self.form: VectorForm | None = None
        """Of the vectors that are routed, if it is known."""
        if store is not None:
            self.learned, self.position = store.news()[0], store.position()
        self._first = 0
        self.draws_by_query = False
        """Draws follow from the query and the `signature`, whichever process decides; else they are the next of one."""
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
        key = f"{self.session}-{self.decisions}"
        draw = None
        if self.draws_by_query:
            query = vector.tobytes() if text is None else text.encode("utf-8", "replace")
            draw = partial(_number, *self.signature, query)
        decision = online.decide(key, x, prompts, waits, goal=goal, circumstances=circumstances, draw=draw)
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
        decision.record = record
        if self.store is None:
            self.memory.remember(record)
        elif self._writes:
            self.store.decided(record, decision, text)
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
        if self.store is not None:
            return self._tell(self.store, decision_id, told)
        with self.lock:
            record = self.memory.recall(decision_id, told, self._clock())
            if record is None:
                return False
            self._make_sure_of(decision_id, record.llm)
            self.learn(record, told)
            self.memory.reward(decision_id, told)
            return True

    def _tell(self, store: "Store", key: str, told: Feedback) -> bool:
        lifetime_s = self.memory.lifetime_s
        if not self._learns:
            return store.feedback(key, told, at=self._clock(), lifetime_s=lifetime_s)
        with self.lock:
            names = self.router.llms.names
            new = store.feedback(key, told, at=self._clock(), lifetime_s=lifetime_s, llms=names)
            if new:
                self.learn_new()
            return new

    def _make_sure_of(self, key: str, llm: str) -> None:
        if llm not in self.router.llms.names:
            raise InputError(f"decision {quoted(key)}: its LLM {llm!r} was removed; nothing can be learned")

    def learn_new(self) -> int:
        """Number the feedback in the store, and learn what has come since; return how many lessons were learned."""
        before = self.lessons
        with self.lock:
            if self.store is not None:
                self.store.number_lessons()
                for lesson in self.store.lessons(self.learned):
                    self._take_in(lesson, learning=True)
        return self.lessons - before

    def knows(self, lesson: Lesson) -> bool:
        """Tell whether the trained router was trained on a lesson of the store."""
        return lesson.number < len(self.trained_on) and bool(self.trained_on[lesson.number])

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

    def catch_up(self, *, learning: bool = True, until: int | None = None) -> int:
        """Take in the decisions and the lessons that the store holds beyond what this service knows.

        What is expected of the LLMs and what is left of a budget are then as they were in the processes that wrote
        them; draws and waits are not. What concerns LLMs that are not there is passed over.

        Parameters
        ----------
        learning
            Without it the router stays as it is, and lessons only correct what budgets were charged with.
        until
            Number of the last lesson that is taken in; None: all that have one.

        Returns
        -------
        int
            The decisions and lessons that were taken in.
        """
        if self.store is None:
            return 0
        taken = 0
        with self.lock:
            charges = self._charges()
            charge = next(charges, None)
            for lesson in self.store.lessons(self.learned):
                if until is not None and lesson.number > until:
                    break
                while charge is not None and charge.at <= lesson.at:
                    taken += self._count(charge)
                    charge = next(charges, None)
                taken += self._take_in(lesson, learning=learning)
            while charge is not None:
                taken += self._count(charge)
                charge = next(charges, None)
            self._first = self.decisions
        return taken

    def count_decisions(self) -> None:
        """Take in the decisions alone that the store holds beyond what this service knows, for burn-in and budgets."""
        with self.lock:
            for charge in self._charges():
                self._count(charge)

    def _charges(self) -> Iterator["Charge"]:
        """Give others' decisions since the last time, and move on."""
        if self.store is None:
            return
        after, self.position = self.position, self.store.position()
        for charge in self.store.charges(after, self.position):
            session, _, number = charge.decision.rpartition("-")
            if session != self.session or not number.isdigit() or int(number) < self._first:
                yield charge

    def _count(self, charge: "Charge") -> bool:
        names = self.router.llms.names
        if charge.llm not in names:
            return False
        self.online.count(names.index(charge.llm))
        if charge.budget_usd is not None:
            self.budget.charge(charge.cost_usd, charge.budget_usd)
        self.decisions += 1
        return True

    def _take_in(self, lesson: Lesson, *, learning: bool) -> bool:
        self.learned = lesson.number
        record = lesson.record
        fits = lesson.sequence > self.fits_after and len(record.vector) == len(self.router.feature_map.mean)
        if not fits or record.llm not in self.router.llms.names:
            return False
        if learning and not self.knows(lesson):
            self.learn(record, lesson.told)
        else:
            self._settle(record, lesson.told)
        return True

    def take_over(self, other: "RoutingService") -> None:
        """Go on with what another service has learned, and with its LLMs.

        What it decides for, its draws, waits, budgets and burn-in stay as they are; an LLM that was not there before
        comes with the other's. So does the encoder, where the other needs vectors of another form. The other may go on,
        too.
        """
        with self.lock, other.lock:
            names = self.router.llms.names
            places = [names.index(name) if name in names else None for name in other.router.llms.names]

            def kept(own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
                return np.array([new if at is None else own[at] for at, new in zip(places, theirs, strict=True)])

            self.workers = kept(self.workers, other.workers)
            self._backlog = kept(self._backlog, np.zeros(len(places)))
            self.online.take_over(other.online, kept(self.online.burn_in, other.online.burn_in))
            self.lessons, self.learned, self.signature = other.lessons, other.learned, other.signature
            self.fits_after, self.trained_on = other.fits_after, other.trained_on
            if other.form != self.form and other.encode is not None:
                self.form, self.encode = other.form, other.encode

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


def _number(router: str, version: int, query: bytes) -> float:
    """Return a number in [0, 1) that a query has under a version, evenly spread over queries."""
    digest = hashlib.blake2b(f"{router} {version} ".encode() + query, digest_size=7).digest()
    return (int.from_bytes(digest, "big") >> 3) / 2**53
