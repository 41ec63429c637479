"""What a store keeps: without a bound it grows by 5 kB for each decision.

Three things go, oldest first: explanations; decisions that nobody gave feedback on, with their calls; and feedback
beyond a number, with its decisions. Feedback stays as long as a version on disk might have to learn it again, and a
decision until the newest version has taken in what it charged to a budget. What keys have spent stays for good.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbiosis.core.errors import InputError
from symbiosis.routing.serving.snapshots import read_state
from symbiosis.routing.serving.versions import DAY_S, Versions

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

LEAST_DAYS = 2.0
"""Feedback is taken for a day after the decision."""
LEAST_LESSONS = 1000


@dataclass(frozen=True)
class Retention:
    """How long a store keeps what; None: for good.

    Attributes
    ----------
    days
        Decisions without feedback, and their calls.
    explained_days
        Explanations, four fifths of what a decision takes, but where another LLM answered than was chosen.
    lessons
        Feedback with its decisions: the newest so many.

    Raises
    ------
    InputError
        Less is asked for than feedback needs.
    """

    days: float | None = 90.0
    explained_days: float | None = 30.0
    lessons: int | None = 1_000_000

    def __post_init__(self) -> None:
        for name, least in (("days", LEAST_DAYS), ("explained_days", LEAST_DAYS), ("lessons", LEAST_LESSONS)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"`{name}` is {value:g}: keep at least {least:g}")


USUAL = Retention()


@dataclass(frozen=True)
class Pruned:
    """How much of each kind was deleted."""

    decisions: int = 0
    explanations: int = 0
    lessons: int = 0


def prune(store: "Store", versions: Versions, retention: Retention, now: float) -> Pruned:
    """Delete what need not be kept, in many short transactions; what is killed on the way goes on the next time.

    Parameters
    ----------
    store, versions
        Of one state.
    retention
        What is kept.
    now
        Seconds since the epoch.
    """
    states = [read_state(versions.open(number)) for number in versions.whole()]
    if not states:
        return Pruned()
    learned = min(state.logged or 0 for state in states)
    explained, unanswered = (
        0 if days is None else store.sequence_at(now - days * DAY_S)
        for days in (retention.explained_days, retention.days)
    )
    explanations = store.forget_explanations(explained)
    decisions = store.forget_unanswered(min(unanswered, states[-1].position or 0))
    upto = 0 if retention.lessons is None else min(store.news()[0] - retention.lessons, learned)
    return Pruned(decisions, explanations, store.forget_lessons(upto))


def is_behind(store: "Store", versions: Versions, retention: Retention, now: float) -> bool:
    """Tell whether a version must be written before old decisions can go, as the newest has not taken them in."""
    if retention.days is None:
        return False
    numbers = versions.numbers()
    position = (read_state(versions.open(numbers[-1])).position or 0) if numbers else 0
    return store.sequence_at(now - retention.days * DAY_S) > position
