"""How a gateway's processes learn: one of a store learns and saves versions, the others take them over."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig, LlmConfig
from symbiosis.gateway.service.engine import reprice
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.workspace import Workspace


class Learning:
    """The router of a gateway's process, and how it comes to know what was learned.

    Parameters
    ----------
    config
        Names the state folder and the store.

    Raises
    ------
    InputError
        There is no trained router, or the state or the store cannot be opened.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.workspace = Workspace(Path(config.state), store=config.store)
        self.store = self.workspace.store
        self.service: RoutingService = self.workspace.serving()
        encode = self.service.encode
        if encode is None:
            raise InputError("the router was trained without an encoder: run `make repro`")
        self.encode: Callable[[str], np.ndarray] = encode
        self._learner = Learner(self.workspace)
        self._lock = ExitStack()
        self._elected = False
        self._prices: Mapping[str, LlmConfig] = {}
        self.reprice({})

    @property
    def is_learner(self) -> bool:
        """Whether this process learns for the others."""
        return self._elected

    def step(self) -> bool:
        """Learn what came in, if this process is the one that learns; take over the newest version.

        Returns
        -------
        bool
            Whether this process decides with another version now.

        Raises
        ------
        InputError
            See `symbiosis.routing.serving.learner.Learner`.
        """
        if not self._elected:
            with ExitStack() as attempt:
                self._elected = attempt.enter_context(self.store.learner_lock())
                if self._elected:
                    self._lock = attempt.pop_all()
        if self._elected:
            self._learner.step()
        return self._learner.reload(self.service, self._repriced)

    def _repriced(self, newer: RoutingService) -> None:
        reprice(newer, self._config, self._prices)

    def reprice(self, prices: Mapping[str, LlmConfig]) -> None:
        """Count with today's prices: the config's, but for those given here."""
        self._prices = dict(prices)
        reprice(self.service, self._config, self._prices)

    def close(self) -> None:
        """Let another process learn, and close the store."""
        self._lock.close()
        self.store.close()
