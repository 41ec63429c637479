"""Places for stages of one process that run side by side: so many in all, so many of them heavy."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar


class Places:
    """Lets stages begin in the order in which they were submitted, as far as there are places.

    A heavy stage that waits for its place keeps none from a light one.

    Parameters
    ----------
    total
        Stages at a time.
    heavy
        Heavy ones among them.
    """

    def __init__(self, total: int, heavy: int) -> None:
        self.total, self.heavy = total, heavy
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, bool]] = []
        self._running: list[bool] = []
        self._changed = threading.Condition()

    @contextmanager
    def one(self, order: int, heavy: bool, going: Callable[[], bool]) -> Iterator[bool]:
        """Wait for a place and hold it; yields whether there is one: False where the flow ended meanwhile."""
        me = (order, next(self._numbers), heavy)
        with self._changed:
            self._waiting.append(me)
            # The time limit is there to look whether the flow goes on.
            while not (mine := self._first() == me) and going():
                self._changed.wait(0.5)
            self._waiting.remove(me)
            if mine:
                self._running.append(heavy)
            self._changed.notify_all()
        try:
            yield mine
        finally:
            with self._changed:
                if mine:
                    self._running.remove(heavy)
                self._changed.notify_all()

    def _first(self) -> tuple[int, int, bool] | None:
        """Return who may begin next."""
        if len(self._running) >= self.total:
            return None
        full = sum(self._running) >= self.heavy
        return min((one for one in self._waiting if not (one[2] and full)), default=None)


_PLACES: ContextVar[Places | None] = ContextVar("places", default=None)


@contextmanager
def offered(places: Places) -> Iterator[None]:
    """Let tasks on threads that are started in this context take these places."""
    before = _PLACES.set(places)
    try:
        yield
    finally:
        _PLACES.reset(before)


def one_place(order: int, heavy: bool, going: Callable[[], bool]) -> AbstractContextManager[object]:
    """Wait for one of the places offered; a task on a cluster got its place there. See `Places.one`."""
    places = _PLACES.get()
    return nullcontext() if places is None else places.one(order, heavy, going)
