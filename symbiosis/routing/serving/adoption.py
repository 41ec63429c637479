"""What becomes of what was learned when a newer trained router comes, and when a user goes back to an earlier version.

The rule: a newer trained router is taken over at the next command. It learns again, in order, from all feedback in the
journal that the state has learned from. That needs the same LLMs, vectors of the same form, and no head of its own for
binary feedback; where that is not so and something was learned, the state goes on as it is and says why.
"""

import numpy as np

from symbiosis.routing.serving.journal import DecisionRecord, FeedbackRecord, lines
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.snapshots import Snapshot


def refusal(current: Snapshot, newer: Snapshot) -> str | None:
    """Say why what was learned cannot be kept by a newer trained router; None: it can.

    Parameters
    ----------
    current
        The state that serves.
    newer
        A new service from the newer router.
    """
    if not current.service.lessons:
        return None
    names, others = current.service.router.llms.names, newer.service.router.llms.names
    if set(names) != set(others):
        odd = sorted(set(names) ^ set(others))
        return f"what was learned belongs to other LLMs ({', '.join(odd)} on one side only)"
    if current.origin.vectors != newer.origin.vectors:
        return "it was trained with another encoder or another form of vectors"
    if current.service.online.binary is not None:
        return "its head for binary feedback cannot be taken along"
    return None


def adopted(current: Snapshot, newer: Snapshot) -> Snapshot:
    """Return a state from a newer router that keeps what was learned; see `refusal`, which must have said None."""
    service, origin = newer.service, newer.origin
    if current.service.lessons and current.service.journal is not None:
        undone = set(current.origin.undone)
        decided: dict[str, DecisionRecord] = {}
        start = current.origin.since
        for record, end in lines(current.service.journal.path):
            if isinstance(record, DecisionRecord):
                decided[record.decision] = record
            elif end > start and record.feedback not in undone:
                before = decided.get(record.feedback)
                if before is not None and before.llm in service.router.llms.names:
                    service.learn(before, record.told)
        names = current.service.router.llms.names
        service.workers = np.array([current.service.workers[names.index(name)] for name in service.router.llms.names])
        origin = origin.model_copy(update={"since": start, "undone": current.origin.undone})
    _carry(current.service, service)
    if current.origin.vectors != newer.origin.vectors:
        service.memory.records.clear()  # nothing can be learned from vectors of another form
    return Snapshot(service, origin, newer.logged)


def rolled_back(earlier: Snapshot, replaced: str | None) -> Snapshot:
    """Return the state of an earlier version as what serves from now on.

    The decisions since, their feedback and a budget's pacing stay, from the journal; only what was learned goes.

    Parameters
    ----------
    earlier
        What was known then.
    replaced
        Digest of the trained router that the present state grew from, if it can be read.
    """
    service, origin = earlier.service, earlier.origin
    undone = set(origin.undone)
    if service.journal is not None:
        since = [line.record for line in lines(service.journal.path, earlier.logged or 0)]
        service.catch_up(since, learning=False)
        undone |= {record.feedback for record in since if isinstance(record, FeedbackRecord)}
    update: dict[str, object] = {"undone": tuple(sorted(undone))}
    if replaced is not None and replaced != origin.router:
        update["declined"] = replaced
    return Snapshot(service, origin.model_copy(update=update), earlier.logged)


def _carry(current: RoutingService, other: RoutingService) -> None:
    """Let another service go on with the decisions, the draws and the pacing of the one that serves."""
    other.memory, other.decisions = current.memory, current.decisions
    other.online.rng.bit_generator.state = current.online.rng.bit_generator.state
    other.budget.price, other.budget.spent = current.budget.price, current.budget.spent
