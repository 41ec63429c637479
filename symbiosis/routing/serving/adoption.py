"""What becomes of what was learned when a newer trained router comes, and when a user goes back to an earlier version.

The rule: a newer trained router is taken over at the next command. It learns again, in order, from all lessons of the
store that the state has learned from, but for those that it was trained on. That needs the same LLMs, vectors of the
same form, and no head of its own for binary feedback; where that is not so and something was learned, the state goes on
as it is and says why.
"""

import numpy as np

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
    if current.service.lessons and current.service.store is not None:
        for lesson in current.service.store.lessons(current.origin.since):
            if lesson.number > current.service.learned:
                break
            if service.knows(lesson) or lesson.record.llm not in service.router.llms.names:
                continue
            if current.origin.belongs(lesson.number):
                service.learn(lesson.record, lesson.told)
        names = current.service.router.llms.names
        service.workers = np.array([current.service.workers[names.index(name)] for name in service.router.llms.names])
        origin = origin.model_copy(update={"since": current.origin.since, "undone": current.origin.undone})
    _carry(current.service, service)
    return Snapshot(service, origin, service.learned, service.position)


def rolled_back(earlier: Snapshot, learned: int, replaced: str | None) -> Snapshot:
    """Return the state of an earlier version as what serves from now on.

    The decisions since, their feedback and a budget's pacing stay, from the store; only what was learned goes.

    Parameters
    ----------
    earlier
        What was known then.
    learned
        Number of the last lesson that the present state has learned: those since `earlier` are taken back, later ones
        are still to be learned.
    replaced
        Digest of the trained router that the present state grew from, if it can be read.
    """
    service, origin = earlier.service, earlier.origin
    service.catch_up(learning=False, until=learned)
    update: dict[str, object] = {}
    if learned > earlier.logged:
        update["undone"] = (*origin.undone, (earlier.logged, learned))
    if replaced is not None and replaced != origin.router:
        update["declined"] = replaced
    return Snapshot(service, origin.model_copy(update=update), learned, service.position)


def _carry(current: RoutingService, other: RoutingService) -> None:
    """Let another service go on with the decisions, the draws and the pacing of the one that serves."""
    other.decisions, other.learned, other.position = current.decisions, current.learned, current.position
    other.online.rng.bit_generator.state = current.online.rng.bit_generator.state
    other.budget.price, other.budget.spent = current.budget.price, current.budget.spent
