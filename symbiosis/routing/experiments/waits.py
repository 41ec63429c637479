"""The router's decisions in a stream when it sees the waits.

MixLLM's penalty on the wait, a deadline on the completion, and the worth per service cycle.
"""

from collections.abc import Sequence

import numpy as np

from symbiosis.routing.experiments.timed import WAITS_SEEN, TimedCurve, Traffic
from symbiosis.routing.metrics.curves import TRADE_OFFS
from symbiosis.routing.model.router import Predictions, Router
from symbiosis.routing.policy.objectives import Deadline, Outlook, Paper, ServiceCycle, TradeOff, decide
from symbiosis.routing.policy.score import Rule
from symbiosis.routing.simulation.replay import Choose, dispatch
from symbiosis.routing.simulation.simulator import Dispatch

LEADER = f"router{WAITS_SEEN}"
PENALTY = "router_waits_penalty"
CYCLE = "router_waits_cycle"


def seeing_waits(
    router: Router,
    predictions: Predictions,
    objective: TradeOff | Paper | ServiceCycle,
    deadline: Deadline | None = None,
) -> Choose:
    """Return decisions that know the waits; a deadline counts the answer's own time, too, at idle LLMs as well.

    Parameters
    ----------
    router
        The speeds of its LLMs and its scale of cost.
    predictions
        Of all N queries.
    objective, deadline
        See `symbiosis.routing.policy.objectives`.
    """
    llms, quality, cost = router.llms, predictions.quality, predictions.cost_usd
    service = llms.service_s(predictions.response_tokens)
    uncertainty = np.sqrt(predictions.variance)

    def choose(query: int, waits: np.ndarray) -> Dispatch:
        own = quality[query]
        outlook = Outlook(
            own, own, own, uncertainty[query], cost[query], waits, service[query], llms.startup_s, router.cost_scale
        )
        verdict = decide(objective, outlook, deadline)
        ranked = np.where(verdict.admissible, verdict.total, -np.inf)
        return dispatch(int(ranked.argmax()), ranked, service[query])

    return choose


def routers_seeing_waits(
    traffic: Traffic, router: Router, predictions: Predictions, positions: Sequence[int]
) -> dict[str, TimedCurve]:
    """Play the router's operating points in a stream whose waits it sees.

    Parameters
    ----------
    traffic
        The stream.
    router, predictions
        Of the N test queries.
    positions
        The trade-offs to be played, in `symbiosis.routing.metrics.curves.TRADE_OFFS`.

    Returns
    -------
    dict of TimedCurve
        `LEADER`: a deadline on the predicted completion, queries sent since the last look are reckoned with if params
        say so; `PENALTY`: MixLLM's exponential penalty on the bare waits as they were at the last look, without its
        exploration; `CYCLE`: worth per service cycle, by the same times as `LEADER`.
    """
    params = traffic.params
    rules = [
        Rule(float(TRADE_OFFS[place]), "convex", 0.0, True, **params.penalty.model_dump(), limit_s=params.limit_s)
        for place in positions
    ]
    published = [seeing_waits(router, predictions, Paper(rule)) for rule in rules]
    reference = params.cycle.share * params.limit_s
    cycles = [
        seeing_waits(router, predictions, ServiceCycle(float(TRADE_OFFS[place]), reference)) for place in positions
    ]
    return {
        LEADER: with_deadline(traffic, router, predictions, positions),
        PENALTY: traffic.seeing(published, False),
        CYCLE: traffic.seeing(cycles, params.own_dispatches),
    }


def with_deadline(traffic: Traffic, router: Router, predictions: Predictions, positions: Sequence[int]) -> TimedCurve:
    """Play operating points by a deadline on the predicted completion; see `routers_seeing_waits`."""
    params = traffic.params
    late = Deadline(params.deadline.share * params.limit_s, params.deadline.weight, params.deadline.risk)
    policies = [seeing_waits(router, predictions, TradeOff(float(TRADE_OFFS[place])), late) for place in positions]
    return traffic.seeing(policies, params.own_dispatches)
