"""The state of a routing service on disk: the router, the decisions that await feedback, and what was rewarded.

Versions of a state on disk: each one a folder that is written whole or not at all, the last few of them kept.
"""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.core.artifacts import read_json, sha256_of, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Noise, Satisfaction
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective
from symbiosis.routing.serving.journal import Context, DecisionLog, lines
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings

DIGESTS = "digests.json"


_NAME = re.compile(r"v(\d{8})")


_UNFINISHED = re.compile(r"\.v\d{8}\..*")


class Versions:
    """Versions ``v00000001``, ``v00000002``, ... in a folder. One process may write at a time.

    Parameters
    ----------
    folder
        Made at the first save.
    keep
        How many versions stay, at least 1.
    """

    def __init__(self, folder: Path | str, keep: int = 3) -> None:
        if keep < 1:
            raise InputError(f"{folder}: {keep} versions are to be kept: keep at least 1")
        self.folder, self.keep = Path(folder), keep

    def numbers(self) -> list[int]:
        """Return the numbers of the versions on disk, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def save(self, write: Callable[[Path], None]) -> int:
        """Write a new version, then delete the oldest beyond those kept.

        A process killed meanwhile leaves the earlier versions and perhaps an unfinished hidden folder, which the next
        save removes.

        Parameters
        ----------
        write
            Fills the folder that it is given.

        Returns
        -------
        int
            The new version's number.
        """
        number = max(self.numbers(), default=0) + 1
        with staged(self._path(number)) as (folder,):
            folder.mkdir()
            write(folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            write_json(folder / DIGESTS, {path.relative_to(folder).as_posix(): sha256_of(path) for path in files})
        for path in self.folder.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        for old in self.numbers()[: -self.keep]:
            # Hidden first: a reader never sees half a version.
            hidden = self.folder / f".{self._path(old).name}.old"
            self._path(old).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        return number

    def open(self, version: int | None = None) -> Path:
        """Return the folder of a version after making sure that it is whole.

        Parameters
        ----------
        version
            Its number; None: the newest.

        Raises
        ------
        InputError
            There is none, or a file of it is missing or damaged; names the version before, if there is one.
        """
        numbers = self.numbers()
        if not numbers:
            raise InputError(f"{self.folder} holds no saved state: save one first")
        number = numbers[-1] if version is None else version
        if number not in numbers:
            raise InputError(f"{self.folder} has no version {number}: there are {', '.join(map(str, numbers))}")
        path = self._path(number)
        earlier = [other for other in numbers if other < number]
        remedy = f"load version {earlier[-1]}" if earlier else "restore it from a copy; there is no earlier version"
        if not (path / DIGESTS).is_file():
            raise InputError(f"{path / DIGESTS} is missing: {remedy}")
        try:
            digests = read_json(path / DIGESTS)
        except InputError:
            raise InputError(f"{path / DIGESTS} is damaged: {remedy}") from None
        if not isinstance(digests, dict):
            raise InputError(f"{path / DIGESTS} is damaged: {remedy}")
        for name, digest in digests.items():
            if not (path / name).is_file() or sha256_of(path / name) != digest:
                raise InputError(f"{path / name} is missing or damaged (its digest differs): {remedy}")
        return path

    def _path(self, number: int) -> Path:
        return self.folder / f"v{number:08d}"


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
        See `symbiosis.routing.serving.service.RoutingService`.
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
