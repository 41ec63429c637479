"""The state of a routing service on disk: the router, the decisions that await feedback, and what was rewarded."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.artifacts import read_json, write_json
from symbiosis.errors import InputError
from symbiosis.routing.binary_head import BinaryHead
from symbiosis.routing.decision_log import DecisionLog, lines
from symbiosis.routing.feedback import Noise, Satisfaction
from symbiosis.routing.memory import Context
from symbiosis.routing.objectives import Budget, Deadline, Objective
from symbiosis.routing.router import Router
from symbiosis.routing.service import RoutingService
from symbiosis.routing.service_settings import DEFAULTS, ServiceSettings
from symbiosis.routing.versions import Versions

STATE, CONTEXTS, BINARY = "service.json", "contexts.safetensors", "binary.safetensors"


class State(BaseModel):
    """What is saved beside the router and the contexts' features."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    decisions: int
    forgetting: float
    noise: tuple[float, float]
    satisfaction: tuple[float, float, float]
    log_deviation: list[float]
    workers: list[float]
    burn_in: list[int]
    price: float | None
    spent: float | None
    rng: dict[str, Any]
    binary: bool
    contexts: list[tuple[str, str, float, float, float, float, float]]
    rewarded: list[tuple[str, list[float | bool | None]]]
    logged: int | None = None


def save(service: RoutingService, versions: Versions) -> int:
    """Write the state as a new version, whole or not at all; return its number."""
    from safetensors.numpy import save_file

    with service.lock:  # copies only: no query waits for the disk
        router, contexts = service.router.copy(), list(service.memory.contexts.items())
        budget = service.objective if isinstance(service.objective, Budget) else None
        satisfaction = service.satisfaction
        binary = None if service.binary is None else service.binary.tensors()
        state = State(
            decisions=service.decisions,
            forgetting=router.heads.forgetting,
            noise=(service.noise.own, service.noise.common),
            satisfaction=(satisfaction.satisfied, satisfaction.dissatisfied, satisfaction.variance),
            log_deviation=service.log_deviation.tolist(),
            workers=service.workers.tolist(),
            burn_in=service.burn_in.tolist(),
            price=None if budget is None else budget.price,
            spent=None if budget is None else budget.spent,
            rng=dict(service.rng.bit_generator.state),
            contexts=[(key, c.llm, c.at, c.prompt_tokens, c.cost_usd, c.propensity, c.quality) for key, c in contexts],
            binary=service.binary is not None,
            rewarded=list(service.memory.rewarded.items()),
            logged=None if service.log is None else service.log.position,
        )

    def write(folder: Path) -> None:
        router.save(folder / "router")
        x = np.array([context.x for _, context in contexts]).reshape(len(contexts), router.heads.dimension)
        save_file({"x": x}, folder / CONTEXTS)
        if binary is not None:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in binary.items()}, folder / BINARY)
        write_json(folder / STATE, state.model_dump())

    return versions.save(write)


def load(
    versions: Versions,
    objective: Objective,
    deadline: Deadline | None = None,
    *,
    version: int | None = None,
    encode: Callable[[str], np.ndarray] | None = None,
    settings: ServiceSettings = DEFAULTS,
    clock: Callable[[], float] = time.time,
    session: str | None = None,
    log: DecisionLog | None = None,
) -> RoutingService:
    """Read a state; objective and settings are given anew, and a budget goes on at the price that it had reached.

    Parameters
    ----------
    versions, version
        Where it lies; None: the newest.
    objective, deadline, encode, settings, clock, session
        See `symbiosis.routing.service.RoutingService`.
    log
        Goes on with it. If the newest version was saved with this log, what was logged since is taken in; an older one
        is loaded as it was.

    Raises
    ------
    InputError
        There is no whole state of this version, or the log is shorter than it was then, or damaged since.
    """
    from safetensors.numpy import load_file

    folder = versions.open(version)
    try:
        state = State.model_validate(read_json(folder / STATE))
    except ValidationError as error:
        raise InputError(f"{folder / STATE}: {error.errors()[0]['msg']}: load an earlier version") from None
    router = Router.load(folder / "router")
    router.heads.forgetting = state.forgetting
    service = RoutingService(
        router,
        objective,
        deadline,
        encode=encode,
        noise=Noise(*state.noise),
        satisfaction=Satisfaction(*state.satisfaction),
        log_deviation=np.array(state.log_deviation),
        workers=np.array(state.workers),
        binary=BinaryHead.of(load_file(folder / BINARY)) if state.binary else None,
        settings=settings,
        clock=clock,
        session=session,
        log=log,
    )
    service.burn_in = np.array(state.burn_in, dtype=np.int64)
    service.decisions = state.decisions
    service.rng.bit_generator.state = state.rng
    if isinstance(objective, Budget) and state.price is not None and state.spent is not None:
        objective.price, objective.spent = state.price, state.spent
    x = load_file(folder / CONTEXTS)["x"]
    for row, (key, llm, *rest) in zip(x, state.contexts, strict=True):
        service.memory.contexts[key] = Context(llm, row, *rest)
    service.memory.rewarded.update(state.rewarded)
    if log is not None and version is None and state.logged is not None:
        service.catch_up(lines(log.path, state.logged))
    return service
