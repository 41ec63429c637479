"""What learns while gateways serve: one process per store learns from feedback and saves, the others take it over."""

import time
from collections.abc import Callable

from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.workspace import Workspace

PAUSE_S = 3600.0
"""Between two deletions of what the store need not keep."""


class Learner:
    """Learns from the feedback in a workspace's store, version by version.

    `step` is the work of the one process that holds the store's `learner_lock`; every process, that one too, calls
    `reload` for the service that it serves with. Both are cheap where nothing is new.

    Parameters
    ----------
    workspace
        Of the state folder and the store. Versions reach other machines through the store, if that is not a file in
        the state folder.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._seen: tuple[int, object] = (-1, None)
        self._pruned_at = time.monotonic()

    def step(self) -> int | None:
        """Number new feedback, learn from it and save a version; take over a newer trained router; forget what is old.

        A process that is killed on the way has saved all of it or nothing; the next one goes on from there.

        Returns
        -------
        int | None
            The number of the newest version, if something was done.

        Raises
        ------
        InputError
            The state, the trained router or the store is damaged or not there; nothing was saved.
        """
        if time.monotonic() - self._pruned_at > PAUSE_S:
            self._pruned_at = time.monotonic()
            self.workspace.prune()
        highest, waiting = self.workspace.store.news()
        trained = self.workspace.trained_at()
        if not waiting and self._seen == (highest, trained):
            return None
        learned = self.workspace.learn()
        self._seen = (learned, trained)
        return self.workspace.newest()

    def reload(self, service: RoutingService, prepare: Callable[[RoutingService], object] | None = None) -> bool:
        """Let a running service go on from the newest version, if it serves another; tell whether it does now.

        Its waits, budgets, draws and burn-in stay as they are; see `RoutingService.take_over`. Where the newest version
        needs vectors of another form, its encoder is loaded first, and comes with it.

        Parameters
        ----------
        service
            The one that runs.
        prepare
            Is called with the newer one before it is taken over, such as to set today's prices.

        Raises
        ------
        InputError
            The newest version is damaged, or the encoder that it needs is not there; the service goes on as it is.
        """
        number = self.workspace.newest()
        if number == service.signature[1] and (number or self.workspace.trained() in (None, service.signature[0])):
            return False
        opened = self.workspace.version(number)
        form = opened.service.form = opened.origin.vectors
        if form is not None and form != service.form:
            opened.service.encode = self.workspace.encoder(form)
        if prepare is not None:
            prepare(opened.service)
        service.take_over(opened.service)
        return True
