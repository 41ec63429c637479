"""The test queries as a timed stream: what waits and a time limit leave of each method's operating points.

Every method meets the same arrivals, service times and failures. Which LLMs a method asks is what it would ask of idle
LLMs; only the policies of `symbiosis.routing.experiments.waits` see the waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.experiments.params import CompareStreamParams
from symbiosis.routing.metrics.curves import NOBODY, Curve
from symbiosis.routing.metrics.metrics import hull
from symbiosis.routing.simulation.queues import Capacities
from symbiosis.routing.simulation.replay import Choose, Log, run
from symbiosis.routing.simulation.simulator import Dispatch, Trace

SINGLES = "singles"  # the cheapest and the best single LLM, chosen on training queries
WAITS_SEEN = "_waits_seen"  # ends the names of methods that see the waits
NEAR = 1e-3  # along a hull, in units of its range of cost and quality: two operating points so near are one


@dataclass(frozen=True)
class TimedCurve:
    """Some operating points of a method in the stream; M points, N queries in the order of the split.

    Attributes
    ----------
    idle
        What the same points get and pay where no LLM is ever busy.
    timed
        What they get and pay in the stream: quality is 0 where the query was dropped or failed.
    dropped, failed
        (M, N), whether the wait was above the limit, and whether every attempt failed.
    completion_s
        (M, N), seconds from arrival to the answer; NaN where there is none.
    """

    idle: Curve
    timed: Curve
    dropped: np.ndarray
    failed: np.ndarray
    completion_s: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, in single precision."""
        return {
            "idle_quality": self.idle.quality.astype(np.float32),
            "idle_cost": self.idle.cost.astype(np.float32),
            "quality": self.timed.quality.astype(np.float32),
            "cost": self.timed.cost.astype(np.float32),
            "dropped": self.dropped,
            "failed": self.failed,
            "completion_s": self.completion_s.astype(np.float32),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> "TimedCurve":
        """Return what `tensors` gave."""
        wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if tensor.dtype == np.float32}
        return cls(
            Curve(wide["idle_quality"], wide["idle_cost"]),
            Curve(wide["quality"], wide["cost"]),
            tensors["dropped"],
            tensors["failed"],
            wide["completion_s"],
        )


@dataclass(frozen=True)
class Traffic:
    """The stream that every method meets.

    Attributes
    ----------
    outcomes
        Of the N test queries, in the order of the split.
    llms
        Their speeds.
    params
        Pace, capacity, limit.
    seed
        Of the order in which the queries arrive, and of arrivals, jitter and failures.
    """

    outcomes: Outcomes
    llms: Llms
    params: CompareStreamParams
    seed: int

    @cached_property
    def order(self) -> np.ndarray:
        """Which query arrives first, second and so on, (N,)."""
        return np.random.default_rng([self.seed, 1]).permutation(len(self.outcomes))

    def send(self, choose: Choose, own_dispatches: bool | None = None) -> Log:
        """Play one policy.

        Parameters
        ----------
        choose
            From the query's place in the split, and the waits that are seen, to the decision.
        own_dispatches
            Whether the policy reckons with what it sent since the waits were last looked at; None: as params say.

        Returns
        -------
        Log
            In the order of the split.
        """
        order, params = self.order, self.params
        if own_dispatches is not None:
            params = params.model_copy(update={"own_dispatches": own_dispatches})
        log = run(
            self.outcomes.take(order),
            self.llms,
            params,
            lambda place, waits: choose(int(order[place]), waits),
            seed=self.seed,
        )
        back = np.argsort(order)
        trace = Trace(*(getattr(log.trace, field.name)[back] for field in fields(Trace)))
        return Log(trace, log.quality[back], log.cost_usd[back])

    def blind(self, curve: Curve) -> TimedCurve:
        """Play all operating points of a curve that has calls, whatever the waits.

        The LLMs of a cascade are asked one after another: the query queues at each of them, occupies a worker for that
        LLM's whole service time, and what it spent on earlier ones counts as waiting, so that it may be dropped
        halfway. The answers in hand are then lost, and paid for. Judging an answer takes no time. A failed call is
        repeated with the same LLM as often as params say.
        """
        if curve.calls is None:
            raise ValueError("a stream needs the calls of its operating points")
        logs = []
        for quality, dollars, calls in zip(curve.quality, curve.cost, curve.calls, strict=True):
            log = self.send(one_after_another(calls))
            kept = np.where(log.trace.served, quality, 0.0)
            logs.append(Log(log.trace, kept, self._paid(log.trace, dollars, calls)))
        return _gathered(curve, logs)

    def seeing(self, policies: Sequence[Choose], own_dispatches: bool) -> TimedCurve:
        """Play policies that see the waits, and once more at LLMs that are always idle.

        Parameters
        ----------
        policies
            One for each operating point.
        own_dispatches
            See `send`.
        """
        none = np.zeros(len(self.llms))
        queries = range(len(self.outcomes))
        arms = np.array([[choose(query, none).arm for query in queries] for choose in policies])
        return _gathered(Curve.of(arms, self.outcomes), [self.send(choose, own_dispatches) for choose in policies])

    def _paid(self, trace: Trace, dollars: np.ndarray, calls: np.ndarray) -> np.ndarray:
        """Dollars (N,) for the calls that were answered, given those for all calls (N,) and the calls (N, K)."""
        rows, cost = np.arange(len(calls)), self.outcomes.cost_usd
        each = np.where(calls == NOBODY, 0.0, cost[rows[:, None], calls])
        paid = np.where(np.arange(calls.shape[1]) < trace.answers[:, None], each, 0.0).sum(axis=1)
        # What a cascade pays beside its calls is the check of its first answer.
        checks = dollars - each.sum(axis=1) if calls.shape[1] > 1 else np.zeros(len(calls))
        paid += np.where(trace.answers > 0, checks, 0.0)
        if self.params.charge_dropped:
            paid += np.where(trace.dropped, cost[rows, trace.arm], 0.0)
        return np.where(trace.served, dollars, paid)

    def load(self) -> dict[str, float]:
        """Share of its workers' time that each LLM would be busy if it got every query; above 1 its queue grows."""
        workers = np.array(Capacities.of(self.params, self.llms.names).workers)
        busy = self.params.queries_per_s * self.llms.service_s(self.outcomes.response_tokens).mean(axis=0) / workers
        return {name: rounded(share) for name, share in zip(self.llms.names, busy.tolist(), strict=True)}


def one_after_another(calls: np.ndarray) -> Choose:
    """Ask the LLMs of a list (N, K), whatever the waits."""
    plans = [[arm for arm in row if arm != NOBODY] for row in calls.tolist()]
    return lambda query, _: Dispatch(plans[query][0], 0.0, then=tuple(Dispatch(arm, 0.0) for arm in plans[query][1:]))


def spread_points(curve: Curve, most: int) -> list[int]:
    """Choose operating points for the stream: all if they are few, else those that part the hull at idle LLMs evenly.

    Corners of the hull come first; if they are fewer than `most`, other points fill the gaps, since under a limit what
    lies between two corners is not known from them.

    Parameters
    ----------
    curve
        P operating points.
    most
        How many.

    Returns
    -------
    list of int
        Positions, by cost.
    """
    cost, quality = curve.points().T
    order = np.lexsort((-quality, cost))
    if len(cost) <= most:
        return [int(place) for place in order]
    corners = hull(cost, quality)
    # Where each point lies along the hull, whose length counts in units of its range of cost and of quality.
    steps = np.diff(corners, axis=0) / np.maximum(np.ptp(corners, axis=0), 1e-300)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*steps.T))])
    along = np.interp(cost, corners[:, 0], lengths)
    places = [int(np.flatnonzero((cost == x) & (quality == y))[0]) for x, y in corners.tolist()]
    chosen = sorted({places[0], places[-1]})
    for pool in (places, order.tolist()):
        while len(chosen) < most:
            gaps = np.abs(along[pool][:, None] - along[chosen]).min(axis=1)
            if gaps.max() < NEAR:
                break
            chosen.append(pool[int(gaps.argmax())])
    return sorted(chosen, key=lambda place: (cost[place], -quality[place]))


def _gathered(idle: Curve, logs: Sequence[Log]) -> TimedCurve:
    traces = [log.trace for log in logs]
    took = [np.where(trace.served, trace.finish_s - trace.arrival_s, np.nan) for trace in traces]
    return TimedCurve(
        Curve(idle.quality, idle.cost),
        Curve(np.stack([log.quality for log in logs]), np.stack([log.cost_usd for log in logs])),
        np.stack([trace.dropped for trace in traces]),
        np.stack([trace.failed for trace in traces]),
        np.stack(took),
    )
