"""How a routing service decides one query, as fast as it can: `symbiosis.routing.policy.objectives` without batches."""

import threading
from functools import partial

import numpy as np

from symbiosis.routing.learning.feedback import Noise
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.metrics.utility import utility
from symbiosis.routing.model.ranges import Ranges
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.explanation import Bounds, Decision
from symbiosis.routing.policy.exploration import among_best, drawn, prefer_idle, with_burn_in
from symbiosis.routing.policy.objectives import Deadline, Objective, Outlook, TradeOff, decide
from symbiosis.routing.serving.journal import Context
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.single_query import SingleQuery


class Decider:
    """Decisions with the LLMs that there are at present; made anew when one comes or goes.

    Parameters
    ----------
    router
        Its heads may go on learning: call `refresh` with the LLM that did.
    objective, deadline, settings, noise, log_deviation, binary
        See `symbiosis.routing.serving.service.RoutingService`.
    rng
        For draws.
    lock
        Held by whoever decides or learns.
    """

    def __init__(
        self,
        router: Router,
        objective: Objective,
        deadline: Deadline | None,
        settings: ServiceSettings,
        noise: Noise,
        log_deviation: np.ndarray,
        binary: BinaryHead | None,
        rng: np.random.Generator,
        lock: threading.RLock,
    ) -> None:
        self._router, self._single = router, SingleQuery(router)
        self._objective, self._deadline, self._settings = objective, deadline, settings
        self._log_deviation, self._binary = log_deviation, binary
        self._rng, self._lock = rng, lock
        self._name = type(objective).__name__
        self._needs_uncertainty = objective.needs_uncertainty or settings.exploration == "thompson"
        self._explores = settings.exploration != "none" and settings.amount > 0
        self._certain = np.zeros(len(router.llms))
        deviation = float(np.sqrt(noise.own + noise.common))
        self._half_width = settings.interval * deviation
        self._score_deviation = deviation
        if isinstance(objective, TradeOff):
            unit = utility(np.array(1.0), np.array(0.0), objective.trade_off, objective.weighting)
            self._score_deviation *= float(unit)

    def refresh(self, arm: int) -> None:
        """Take over what an LLM's heads have learned."""
        self._single.refresh(arm)

    def __call__(
        self, key: str, vector: np.ndarray, prompts: float | np.ndarray, waits: np.ndarray, now: float, new: np.ndarray
    ) -> tuple[Decision, Context]:
        """Decide one query.

        Parameters
        ----------
        key
            The decision's id.
        vector
            (d,), its embedding.
        prompts, waits
            One number or (L,); (L,).
        now
            Seconds since the epoch.
        new
            (L,), queries for which an LLM is still in its burn-in.
        """
        router, llms = self._router, self._router.llms
        x = self._single.features(vector)
        expected, tokens = self._single.means(x)
        quality, bonus = expected, None
        if self._binary is not None:
            surplus, bonus = self._binary.observe(x)
            quality = expected if surplus is None else expected + surplus
        # Nothing but an explanation looks at them otherwise, and they take longer than all the rest.
        uncertainty, lower, upper = self._certain, quality, quality
        if self._needs_uncertainty:
            uncertainty = np.sqrt(self._single.variance(x))
            half = self._half_width * uncertainty
            lower, upper = np.maximum(quality - half, 0.0), np.minimum(quality + half, 1.0)
        cost, service = llms.cost_usd(prompts, tokens), llms.service_s(tokens)  # type: ignore[arg-type]
        outlook = Outlook(
            quality,
            lower,
            upper,
            uncertainty,
            cost,
            waits,
            service,
            llms.startup_s,
            router.cost_scale,
        )
        verdict = decide(self._objective, outlook, self._deadline, self._log_deviation)
        score, parts = verdict.total, verdict.parts
        if bonus is not None:
            parts["binary feedback"] = bonus
            score = score + bonus
        chances = self._chances(score, verdict.admissible, waits, uncertainty, x, new)
        if chances is None:
            arm, propensity = int(score.argmax()), 1.0
            if not verdict.admissible[arm]:
                arm = int(np.where(verdict.admissible, score, -np.inf).argmax())
        else:
            arm = drawn(chances, self._rng)
            propensity = float(chances[arm])
        decision = Decision(
            key,
            llms.names[arm],
            arm,
            propensity,
            self._name,
            llms.names,
            quality,
            tokens,
            cost,
            waits,
            service,
            parts,
            score,
            verdict.admissible,
            chances,
            partial(self._bounds, router.ranges, x, quality),
        )
        prompt = prompts if isinstance(prompts, float) else float(prompts[arm])
        context = Context(decision.llm, x, now, prompt, float(cost[arm]), propensity, float(expected[arm]))
        return decision, context

    def _bounds(
        self,
        ranges: Ranges | None,
        x: np.ndarray,
        quality: np.ndarray,
    ) -> Bounds:
        """Intervals of quality (L,) of a query with features (D,)."""
        with self._lock:
            half = self._half_width * np.sqrt(self._single.variance(x))
        lower, upper = np.maximum(quality - half, 0.0), np.minimum(quality + half, 1.0)
        if ranges is None:
            return Bounds(lower, upper)
        answer_lower, answer_upper = ranges.quality(quality[None])
        return Bounds(lower, upper, answer_lower[0], answer_upper[0])

    def _chances(
        self,
        score: np.ndarray,
        admissible: np.ndarray,
        waits_s: np.ndarray,
        uncertainty: np.ndarray,
        x: np.ndarray,
        new: np.ndarray,
    ) -> np.ndarray | None:
        """Probability of each LLM, (L,); None: the best admissible one for certain."""
        settings = self._settings
        burning = new.any()
        if not (self._explores or settings.near_tie or burning or self._binary):
            return None
        if settings.near_tie > 0:
            score = prefer_idle(score, admissible, waits_s, settings.near_tie)
        deviation = self._score_deviation * uncertainty
        chances = among_best(score, deviation, admissible, settings.tried, settings.exploration, settings.amount)
        if self._binary is not None:
            chances = self._binary.mixed(chances, x, admissible)
        return with_burn_in(chances, (new > 0) & admissible, settings.burn_in_share) if burning else chances
