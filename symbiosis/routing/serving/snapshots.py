"""The state of a routing service on disk: the router, what it has learned from, and how it paces budgets.

Without a store, a state also holds the decisions that await feedback and what was rewarded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Experience, Feedback, Noise, Satisfaction
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Deadline, Objective, TradeOff
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.routing.serving.records import DecisionRecord
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings
from symbiosis.routing.serving.versions import Versions

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

ROUTER = "router"
STATE, RECORDS, BINARY = "service.json", "records.jsonl", "binary.safetensors"
FORMAT: Literal[2] = 2
_RECORD = TypeAdapter(DecisionRecord)
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""As a store and an array can hold it."""


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
        Lessons of higher numbers belong to it.
    undone
        Lessons that were taken back by a rollback, as pairs: those after the first number, up to the second.
    fits_after
        Decisions up to this sequence have vectors of another form: they teach nothing.
    declined
        Digest of a trained router that was rolled back: it is not taken over again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    router: str = ""
    vectors: VectorForm | None = None
    trade_off: float = 1.0
    since: Count = 0
    undone: tuple[tuple[Count, Count], ...] = ()
    fits_after: Count = 0
    declined: str | None = None

    def belongs(self, lesson: int) -> bool:
        """Tell whether a lesson is one of its own, and not taken back."""
        return lesson > self.since and not any(after < lesson <= until for after, until in self.undone)


class State(BaseModel):
    """What is saved beside the router and the decisions that await feedback.

    Attributes
    ----------
    logged, position
        Number of the last lesson of the store that it has learned, and sequence of the last decision that its pacing
        has taken in; None: there was no store.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[2]
    origin: Origin
    lessons: Count
    decisions: Count
    forgetting: float
    noise: tuple[float, float]
    satisfaction: tuple[float, float, float]
    log_deviation: list[float]
    workers: list[float]
    burn_in: list[Count]
    price: float
    spent: float
    rng: dict[str, Any]
    binary: bool
    rewarded: list[tuple[str, Feedback]]
    logged: Count | None = None
    position: Count | None = None


@dataclass(frozen=True)
class Snapshot:
    """A service as it was loaded.

    Attributes
    ----------
    service
        Goes on from there.
    origin
        Where it comes from.
    logged, position
        See `State`, as it was saved.
    """

    service: RoutingService
    origin: Origin
    logged: int = 0
    position: int = 0


def read_state(folder: Path) -> State:
    """Read what is told of a version.

    Raises
    ------
    InputError
        It is damaged, or was written by another version of the program.
    """
    told = read_json(folder / STATE)
    if isinstance(told, dict) and "format" not in told:
        raise InputError(
            f"{folder / STATE} was written by an earlier release: any command on {folder.parent} takes it over, such "
            "as `symbiosis versions`"
        )
    try:
        return State.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder / STATE}: `{place}`: {first['msg']}: {_remedy(folder)}") from None


def _remedy(folder: Path) -> str:
    return f"load an earlier version, or delete {folder.parent}"


def _require_fit(state: State, router: Router, folder: Path) -> None:
    """Make sure that a state has one value for each LLM of its router.

    Raises
    ------
    InputError
        It belongs to another router.
    """
    for name in ("log_deviation", "workers", "burn_in"):
        if len(getattr(state, name)) != len(router.llms):
            raise InputError(
                f"{folder / STATE}: `{name}` has {len(getattr(state, name))} values for {len(router.llms)} LLMs: "
                f"{_remedy(folder)}"
            )


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
        service.count_decisions()
        online = service.online
        router, records = online.router.copy(), list(service.memory.records.values())
        known = online.experience
        binary = None if online.binary is None else online.binary.tensors()
        state = State(
            format=FORMAT,
            origin=(origin or Origin()).model_copy(update={"fits_after": service.fits_after}),
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
            logged=None if service.store is None else service.learned,
            position=None if service.store is None else service.position,
        )

    def write(folder: Path) -> None:
        router.save(folder / ROUTER)
        (folder / RECORDS).write_bytes(b"".join(_RECORD.dump_json(record) + b"\n" for record in records))
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
    store: "Store | None" = None,
    learns: bool = True,
    writes: bool = True,
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
        store=store,
        learns=learns,
        writes=writes,
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
    store: "Store | None" = None,
    learns: bool = True,
    writes: bool = True,
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
    store, learns, writes
        See there, too. If the newest version was saved with a store, what this one holds since is taken in; an older
        version is loaded as it was.

    Raises
    ------
    InputError
        There is no whole state of this version.
    """
    folder = versions.open(version)
    state = read_state(folder)
    router = Router.load(folder / ROUTER)
    _require_fit(state, router, folder)
    router.heads.forgetting = state.forgetting
    binary = None
    if state.binary:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            binary = BinaryHead.of(load_file(folder / BINARY))
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise InputError(f"{folder / BINARY} is damaged ({error}): {_remedy(folder)}") from None
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
        store=store,
        learns=learns,
        writes=writes,
    )
    service.online.burn_in = np.array(state.burn_in, dtype=np.int64)
    try:
        service.online.rng.bit_generator.state = state.rng
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(f"{folder / STATE}: `rng` is damaged ({error}): {_remedy(folder)}") from None
    service.decisions, service.lessons = state.decisions, state.lessons
    service.budget.price, service.budget.spent = state.price, state.spent
    for number, line in enumerate((folder / RECORDS).read_bytes().splitlines(), start=1):
        try:
            record = _RECORD.validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
            raise InputError(f"{folder / RECORDS}: line {number} is damaged ({fault}): {_remedy(folder)}") from None
        service.memory.records[record.decision] = record
    service.memory.rewarded.update(state.rewarded)
    service.fits_after = state.origin.fits_after
    if store is not None and state.logged is not None:
        service.learned, service.position = state.logged, state.position or 0
        if version is None:
            service.catch_up()
    return Snapshot(service, state.origin, state.logged or 0, state.position or 0)
