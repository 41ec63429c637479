"""The state of a routing service on disk: the router, the decisions that await feedback, and what was rewarded."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Experience, Feedback, Noise, Satisfaction
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Deadline, Objective, TradeOff
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.routing.serving.journal import Journal, lines, read_records, write_records
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings
from symbiosis.routing.serving.versions import Versions

STATE, RECORDS, BINARY = "service.json", "records.jsonl", "binary.safetensors"


class Origin(BaseModel):
    """Where the state of a service comes from.

    Attributes
    ----------
    router
        Digest of the trained router that it grew from, `symbiosis.routing.learning.serving_state.digest_of`.
    vectors
        Form of its vectors; None: not known.
    trade_off
        Decided for where no objective is given.
    since
        Byte of the journal from which on lessons belong to it.
    undone
        Decisions whose feedback was taken back by a rollback.
    declined
        Digest of a trained router that was rolled back: it is not taken over again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    router: str = ""
    vectors: VectorForm | None = None
    trade_off: float = 1.0
    since: int = 0
    undone: tuple[str, ...] = ()
    declined: str | None = None


class State(BaseModel):
    """What is saved beside the router and the decisions that await feedback."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    origin: Origin
    lessons: int
    decisions: int
    forgetting: float
    noise: tuple[float, float]
    satisfaction: tuple[float, float, float]
    log_deviation: list[float]
    workers: list[float]
    burn_in: list[int]
    price: float
    spent: float
    rng: dict[str, Any]
    binary: bool
    rewarded: list[tuple[str, Feedback]]
    logged: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """A service as it was loaded.

    Attributes
    ----------
    service
        Goes on from there.
    origin
        Where it comes from.
    logged
        Byte of the journal up to which it had learned when it was saved.
    """

    service: RoutingService
    origin: Origin
    logged: int | None


def read_state(folder: Path) -> State:
    """Read what is told of a version.

    Raises
    ------
    InputError
        It is damaged, or was written by another version of the program.
    """
    try:
        return State.model_validate(read_json(folder / STATE))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{folder / STATE}: `{place}`: {first['msg']}: load an earlier version, or delete {folder.parent}"
        ) from None


def save(service: RoutingService, versions: Versions, origin: Origin | None = None, number: int | None = None) -> int:
    """Write the state as a version, whole or not at all; return its number.

    Parameters
    ----------
    service, origin
        What is saved, and where it comes from.
    versions, number
        Where, and the version that is written anew; None: a new one.
    """
    with service.lock:  # copies only: no query waits for the disk
        online = service.online
        router, records = online.router.copy(), list(service.memory.records.values())
        known = online.experience
        binary = None if online.binary is None else online.binary.tensors()
        state = State(
            origin=origin or Origin(),
            lessons=service.lessons,
            decisions=service.decisions,
            forgetting=router.heads.forgetting,
            noise=(known.noise.own, known.noise.common),
            satisfaction=(known.satisfaction.satisfied, known.satisfaction.dissatisfied, known.satisfaction.variance),
            log_deviation=online.log_deviation.tolist(),
            workers=service.workers.tolist(),
            burn_in=online.burn_in.tolist(),
            price=service.budget.price,
            spent=service.budget.spent,
            rng=dict(online.rng.bit_generator.state),
            binary=binary is not None,
            rewarded=list(service.memory.rewarded.items()),
            logged=None if service.journal is None else service.journal.position,
        )

    def write(folder: Path) -> None:
        router.save(folder / "router")
        write_records(folder / RECORDS, records)
        if binary is not None:
            from safetensors.numpy import save_file

            save_file({name: np.ascontiguousarray(tensor) for name, tensor in binary.items()}, folder / BINARY)
        write_json(folder / STATE, state.model_dump())

    return versions.save(write, number)


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
    journal: Journal | None = None,
) -> RoutingService:
    """Read a state; see `open_version`."""
    return open_version(
        versions,
        objective,
        deadline,
        version=version,
        encode=encode,
        settings=settings,
        clock=clock,
        session=session,
        journal=journal,
    ).service


def open_version(
    versions: Versions,
    objective: Objective | None,
    deadline: Deadline | None = None,
    *,
    version: int | None = None,
    encode: Callable[[str], np.ndarray] | None = None,
    settings: ServiceSettings = DEFAULTS,
    clock: Callable[[], float] = time.time,
    session: str | None = None,
    journal: Journal | None = None,
) -> Snapshot:
    """Read a state; objective and settings are given anew, and a budget goes on at the price that it had reached.

    Parameters
    ----------
    versions, version
        Where it lies; None: the newest.
    objective
        None: the trade-off that was stored at training.
    deadline, encode, settings, clock, session
        See `symbiosis.routing.serving.service.RoutingService`.
    journal
        Goes on with it. If the newest version was saved with this journal, what was written since is taken in; an older
        one is loaded as it was.

    Raises
    ------
    InputError
        There is no whole state of this version, or the journal is shorter than it was then, or damaged since.
    """
    folder = versions.open(version)
    state = read_state(folder)
    router = Router.load(folder / "router")
    router.heads.forgetting = state.forgetting
    binary = None
    if state.binary:
        from safetensors.numpy import load_file

        binary = BinaryHead.of(load_file(folder / BINARY))
    service = RoutingService(
        router,
        TradeOff(state.origin.trade_off) if objective is None else objective,
        deadline,
        encode=encode,
        experience=Experience(Noise(*state.noise), Satisfaction(*state.satisfaction)),
        binary=binary,
        log_deviation=np.array(state.log_deviation),
        workers=np.array(state.workers),
        settings=settings,
        clock=clock,
        session=session,
        journal=journal,
    )
    service.online.burn_in = np.array(state.burn_in, dtype=np.int64)
    service.online.rng.bit_generator.state = state.rng
    service.decisions, service.lessons = state.decisions, state.lessons
    service.budget.price, service.budget.spent = state.price, state.spent
    for record in read_records(folder / RECORDS):
        service.memory.records[record.decision] = record
    service.memory.rewarded.update(state.rewarded)
    if journal is not None and version is None and state.logged is not None:
        service.catch_up(line.record for line in lines(journal.path, state.logged))
    return Snapshot(service, state.origin, state.logged)
