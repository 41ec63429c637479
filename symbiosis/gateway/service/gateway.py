"""Everything that one process of a gateway holds: config, router, store, upstreams, keys, metrics."""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import Request

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig, KeyEntry, LlmConfig, UpstreamConfig
from symbiosis.gateway.monitoring.drift import Drift, drift
from symbiosis.gateway.monitoring.frames import Frames
from symbiosis.gateway.monitoring.metrics import Metrics
from symbiosis.gateway.monitoring.summary import LiveState
from symbiosis.gateway.monitoring.traces import Traces
from symbiosis.gateway.recommending.serving import RecommenderServing
from symbiosis.gateway.requests.checks import Checks
from symbiosis.gateway.requests.conversations import Conversations, Remembered
from symbiosis.gateway.requests.keys import Keys
from symbiosis.gateway.requests.policies import Policies
from symbiosis.gateway.service.engine import Engine
from symbiosis.gateway.service.guards import body_of
from symbiosis.gateway.service.learning import LEARNER, Learning
from symbiosis.gateway.service.memory import give_back, share_arenas
from symbiosis.gateway.service.problems import Problem
from symbiosis.gateway.service.recording import Recorder
from symbiosis.gateway.upstreams.client import Upstreams
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import StoreEntry
from symbiosis.routing.serving.workspace import Training

LOG = logging.getLogger("symbiosis.gateway")
LIFETIME_S = 86_400.0
"""Of decisions that take feedback."""
PAUSE_S = 1.0
"""Between two looks at what there is to learn: each that finds something saves a version."""
DRIFT_HOURS, DRIFT_PAUSE_S = 24.0, 60.0
DRAINED, PRICES = "drained", "prices"


class Gateway:
    """One process of a gateway.

    Parameters
    ----------
    config
        Its upstreams filled in.

    Raises
    ------
    InputError
        There is no trained router, no store, or the key of an upstream is missing.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.learning = Learning(config)
        self.store = self.learning.store
        self.recorder = Recorder(self.store)
        self.engine = Engine(self.learning.service, config.encoder.batch)
        self.upstreams = Upstreams(config)
        self.policies = Policies(config.policies)
        self.keys = Keys(config.keys, self._spent, config.listen.workers)
        self.conversations = Conversations(config.conversations, recall=self._recall)
        self.checks = Checks(config.checks)
        self.metrics = Metrics(config.policies)
        self.recommending = RecommenderServing(config.recommender)
        self.traces = Traces(config.traces, texts=config.store_texts)
        self._training = Training()
        self.started_at = time.time()
        self.ready = False
        self._in_flight = 0
        self._drained: frozenset[str] = frozenset()
        self._prices: dict[str, LlmConfig] = {}
        self._learner: dict[str, Any] = {}
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spending: dict[tuple[str, str], tuple[float, float]] = {}
        self._failed_at = -1e9

    @property
    def llms(self) -> Mapping[str, tuple[UpstreamConfig, LlmConfig]]:
        """The LLMs that upstreams serve, by name, at today's prices."""
        if not self._prices:
            return self.config.llms
        return {name: (upstream, self._prices.get(name, llm)) for name, (upstream, llm) in self.config.llms.items()}

    def llm(self, name: str) -> LlmConfig | None:
        """Return what is configured of an LLM; None: no upstream serves it."""
        found = self._prices.get(name) or self.config.llms.get(name)
        return found[1] if isinstance(found, tuple) else found

    def is_drained(self, name: str) -> bool:
        """Whether an LLM gets no new queries."""
        return name in self._drained

    def learner(self) -> dict[str, Any]:
        """Return who learned for all gateways of the store a moment ago, and whether it is this process."""
        here = self.learning.is_learner
        # What this process knows of itself is newer than what it last read in the store.
        known = self.learning.told if here else self._learner
        told = {name: known.get(name) for name in ("instance", "host", "pid", "since")}
        return {**told, "instance_here": self.learning.instance, "here": here}

    async def start(self) -> None:
        """Begin to learn, or to follow the one who does, and load the encoder before the first query."""
        share_arenas()
        asyncio.get_running_loop().set_exception_handler(_log_fault)
        self.synchronise()
        self.later(self._follow())
        self.later(self._watch_drift())
        self.later(self._follow_recommender())
        self.later(self._warm())

    async def _warm(self) -> None:
        await self.engine.encode("warm up")
        self.ready = True

    async def stop(self) -> None:
        """Finish what is under way and close everything."""
        self.ready = False
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        await self.recorder.close()
        await self.upstreams.aclose()
        self.engine.close()
        self.recommending.close()
        await asyncio.to_thread(self.traces.close)
        await asyncio.to_thread(self.learning.close)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that no client waits for; a failure is logged in a line."""
        task = asyncio.create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Awaitable[None]) -> None:
        try:
            await work
        except InputError as error:
            LOG.warning("%s", error)
        except Exception as error:
            LOG.warning("%s: %s", type(error).__name__, error)

    async def _follow(self) -> None:
        """Learn what came in, or take over what another process has learned, every moment until the end."""
        parent = os.getppid()
        while not self._stopping.is_set():
            if self.config.listen.workers > 1 and os.getppid() != parent:
                LOG.warning("the process that started this worker is gone: it ends, too")
                signal.raise_signal(signal.SIGTERM)
                return
            try:
                await self.catch_up()
            except InputError as error:
                self.metrics.store_failed("learn")
                LOG.warning("%s", error)
            await self._pause(self._stopping, PAUSE_S)

    async def _follow_recommender(self) -> None:
        """Load the recommender, and whichever is promoted after it, beside the requests."""
        while self.config.recommender.enabled and not self._stopping.is_set():
            if await asyncio.to_thread(self.recommending.look):
                LOG.info("the recommender %s serves", self.recommending.current.parts.digest)
            await self._pause(self._stopping, PAUSE_S)

    def synchronise(self, changed: bool = True) -> None:
        """Take over what all gateways of the store have agreed on: drained LLMs and prices."""
        settings = self.store.settings()
        self._learner = json.loads(settings.get(LEARNER, "{}"))
        self._drained = frozenset(json.loads(settings.get(DRAINED, "[]")))
        for name in self.upstreams.arms:
            self.upstreams.drain(name, name in self._drained)
        given = json.loads(settings.get(PRICES, "{}"))
        prices = {
            name: self.config.llms[name][1].model_copy(update=new)
            for name, new in given.items()
            if name in self.config.llms
        }
        if changed or prices != self._prices:
            self._prices = prices
            self.learning.reprice(prices)
            self.upstreams.configure(self.config.with_prices(prices) if prices else self.config)
        service = self.engine.service
        self.metrics.learned(service.signature[1], service.lessons, self.learning.is_learner)
        self.note_state()

    def set_drained(self, name: str, drained: bool) -> list[str]:
        """Send an LLM no new queries, or send them again, in all gateways of the store; return all drained ones."""
        self._known(name)
        names = self._drained | {name} if drained else self._drained - {name}
        self.store.set_setting(DRAINED, json.dumps(sorted(names)))
        self.synchronise(False)
        return sorted(names)

    def set_prices(self, name: str, prices: Mapping[str, float]) -> dict[str, Any]:
        """Change an LLM's prices, in USD per million tokens, in all gateways of the store; return the LLM."""
        self._known(name)
        given = json.loads(self.store.settings().get(PRICES, "{}"))
        given[name] = {**given.get(name, {}), **prices}
        self.store.set_setting(PRICES, json.dumps(given))
        self.synchronise(False)
        return self.llms[name][1].model_dump()

    def _known(self, name: str) -> None:
        if name not in self.config.llms:
            raise Problem(404, f"no upstream serves {name!r}: name one of {', '.join(self.config.llms)}", "no_such_llm")

    def admit(self, request: Request) -> KeyEntry | None:
        """Return whose key a request brings.

        Raises
        ------
        symbiosis.gateway.requests.keys.KeyRefused
            It is not admitted.
        """
        header = request.headers.get("authorization")
        if header is None and (given := request.headers.get("x-api-key")):
            header = f"Bearer {given}"
        return self.keys.admit(header)

    def _spent(self, key: str, period: str) -> float:
        """USD that a key has spent, as of at most a second ago."""
        at, usd = self._spending.get((key, period), (-1e9, 0.0))
        if time.monotonic() - at > 1.0:
            usd = self.store.spent(key, period)
            self._spending[key, period] = time.monotonic(), usd
        return usd

    def _recall(self, conversation: str) -> Remembered | None:
        """Return what the store knows of a conversation that another worker, or an earlier process, has served."""
        found = self.store.conversation(conversation)
        if found is None or found.entry.served is None:
            return None
        tokens = [(call.prompt_tokens or 0) + (call.response_tokens or 0) for call in found.calls if call.error is None]
        return Remembered(found.entry.served, int(max(tokens, default=0)), found.entry.record.at)

    async def body(self, request: Request) -> bytes:
        """Read a request's body, within the config's limit."""
        return await body_of(request, self.config)

    def enter(self) -> None:
        """Count a request in.

        Raises
        ------
        Problem
            There are as many as the config allows: 429 with ``retry-after``.
        """
        limits = self.config.limits
        if self._in_flight >= limits.in_flight:
            self.metrics.refused("overload")
            raise Problem(429, "the gateway is full: try again", "overloaded", max(limits.retry_after_s, 1.0))
        self._in_flight += 1

    def leave(self) -> None:
        """Count a request out."""
        self._in_flight -= 1

    async def catch_up(self) -> bool:
        """Learn what came in and take over what is newer, now; tell whether another version decides since."""
        changed = await asyncio.to_thread(self.learning.step)
        await asyncio.to_thread(self.synchronise, changed)
        return changed

    async def _watch_drift(self) -> None:
        """Note now and then how far queries and expectations are off; one process of the store is enough."""
        while not self._stopping.is_set():
            try:
                self._training = await asyncio.to_thread(self.learning.workspace.training)
                if self.learning.is_learner:
                    self.metrics.drifted(await asyncio.to_thread(self._drift))
            except InputError as error:
                self.metrics.store_failed("read")
                LOG.warning("%s", error)
            await asyncio.to_thread(give_back)
            await self._pause(self._stopping, DRIFT_PAUSE_S)

    def _drift(self) -> Drift:
        begin = time.time() - DRIFT_HOURS * 3600
        frames = Frames.read(self.store, begin, most_arms=0, fits_after=self._training.fits_after)
        return drift(frames, self._training.reference)

    @staticmethod
    async def _pause(until: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), seconds)

    def note_state(self) -> None:
        """Note the state of circuits and the calls under way in the metrics."""
        live = self.live()
        self.metrics.observed(live.circuits, live.in_flight)

    def live(self) -> LiveState:
        """Return what only the running gateway knows."""
        router, version = self.engine.service.signature
        names = list(self.config.llms)
        counts = self.upstreams.observed.in_flight(names).tolist()
        return LiveState(
            {name: upstream.name for name, (upstream, _) in self.config.llms.items()},
            self.upstreams.circuits(),
            dict(zip(names, counts, strict=True)),
            self._drained,
            self.config.mode,
            router,
            version,
            self._training,
        )

    async def record(self, entries: Sequence[StoreEntry], patience_s: float = 0.0) -> None:
        """Write to the store; returns once it is committed, see `symbiosis.gateway.service.recording.Recorder.write`.

        Raises
        ------
        InputError
            It could not be written.
        """
        if not entries:
            return
        try:
            await self.recorder.write(entries, patience_s)
        except InputError:
            self.metrics.store_failed("write")
            raise

    async def feedback(
        self, decision: str, told: Feedback, *, source: str = "user", idempotency_key: str | None = None
    ) -> bool:
        """Write feedback to the store; see `symbiosis.routing.serving.store.Store.feedback`."""
        new = await asyncio.to_thread(
            self.store.feedback,
            decision,
            told,
            at=time.time(),
            source=source,
            idempotency_key=idempotency_key,
            lifetime_s=LIFETIME_S,
        )
        if new:
            found = await asyncio.to_thread(self.store.decision, decision)
            if found is not None:
                self.metrics.told(found.entry.served or "", source)
                trace = (found.entry.details or {}).get("trace")
                self.traces.feedback(trace, decision, quality=told.quality, satisfied=told.satisfied, source=source)
        return new

    def failed_open(self, error: Exception) -> None:
        """Take note that the router failed; at most a line a second."""
        if time.monotonic() - self._failed_at > 1.0:
            self._failed_at = time.monotonic()
            LOG.error("the router failed, the default LLM answers: %s: %s", type(error).__name__, error)


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log in a line what went wrong outside all requests, such as a connection for which no descriptor was left."""
    error = context.get("exception")
    told = "" if error is None else f": {type(error).__name__}: {error}"
    LOG.error("%s%s", context["message"], told)
