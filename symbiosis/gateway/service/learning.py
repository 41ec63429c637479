"""How a gateway's processes learn: one of a store learns and saves versions, the others take them over."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symbiosis.gateway.config.schema import GatewayConfig, LlmConfig
from symbiosis.gateway.service.engine import reprice
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.retention import Retention
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.workspace import Workspace

LOG = logging.getLogger("symbiosis.gateway")
LEARNER = "learner"
"""Setting of the store that says who learns."""


class Learning:
    """The router of a gateway's process, and how it comes to know what was learned.

    Parameters
    ----------
    config
        Names the state folder and the store.

    Attributes
    ----------
    told
        What this process told the others when it last began to learn; empty: it never did.

    Raises
    ------
    InputError
        There is no trained router, or the state or the store cannot be opened.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        explored = config.exploration
        settings = ServiceSettings(explored.kind, explored.amount, explored.tried)
        retention = Retention(**config.retention.model_dump())
        self.workspace = Workspace(Path(config.state), store=config.store, settings=settings, retention=retention)
        self.store = self.workspace.store
        self.service: RoutingService = self.workspace.serving()
        self._told: set[str] = set()
        self._tell()
        self._learner = Learner(self.workspace)
        self._lock = self.store.learner_lock()
        self._elected, self._closed = False, False
        self.told: dict[str, Any] = {}
        self._step = threading.Lock()
        self._prices: Mapping[str, LlmConfig] = {}
        self.reprice({})

    @property
    def is_learner(self) -> bool:
        """Whether this process learns for the others."""
        return self._elected

    @property
    def instance(self) -> str:
        """Name of this process: the ids of its decisions begin with it."""
        return self.service.session

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
        with self._step:
            if not self._closed:
                self._elect()
            if self._elected and self._learner.step() is not None:
                self._tell()
            return self._learner.reload(self.service, self._repriced)

    def _elect(self) -> None:
        """Take the lock of the one that learns, or make sure of it: it goes with its connection to the store."""
        taken = False
        try:
            taken = self._lock.take()
        finally:
            lost, self._elected = self._elected and not taken, self._elected and taken
        if lost:
            LOG.warning("this process has lost its connection to %s: another one learns", self.store.name)
        if not taken or self._elected:
            return
        told = {"instance": self.instance, "host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self.store.set_setting(LEARNER, json.dumps(told))
        LOG.info("this process (%s) learns for all gateways of %s", self.instance, self.store.name)
        self.told, self._elected = told, True

    def _tell(self) -> None:
        """Log what became of a newer trained router or another champion, each message once."""
        for text in self.workspace.notices:
            if text not in self._told:
                self._told.add(text)
                LOG.warning("%s", text)

    def _repriced(self, newer: RoutingService) -> None:
        reprice(newer, self._config, self._prices)

    def reprice(self, prices: Mapping[str, LlmConfig]) -> None:
        """Count with today's prices: the config's, but for those given here."""
        self._prices = dict(prices)
        reprice(self.service, self._config, self._prices)

    def close(self) -> None:
        """Let another process learn, and close the store."""
        with self._step:
            self._closed, self._elected = True, False
            self._lock.release()
            self.store.close()
