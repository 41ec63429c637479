"""Faults of simulated upstreams: what a request, a test or chance asks for.

A fault is written as parts with commas between, for example ``slow=2,disconnect-after=3``:

=====================  =================================================================================
``status=503``         answer with this status and an error in OpenAI's form
``retry-after=2``      with a `Retry-After` of so many seconds beside the status
``disconnect``         close the connection before the first byte
``disconnect-after=3``  close it after so many events of a stream, or in the middle of a whole answer
``hang``               send nothing until the client has gone
``hang-after=3``       the same after so many events of a stream, or in the middle of a whole answer
``slow=2``             wait so many seconds more before the first byte
``drip=0.1``           send one byte at a time, so many seconds apart
``garbage``            with status 200, bytes that are neither JSON nor events
``error-after=3``      after so many events of a stream one with an error, then the end without ``[DONE]``
``no-usage``           leave the usage out
=====================  =================================================================================
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from symbiosis.core.errors import InputError
from symbiosis.gateway.simulation.answers import draw

FAULT_HEADER = "x-simulate-fault"


@dataclass(frozen=True)
class Fault:
    """How an answer goes wrong; counts are of events, times in seconds. As it is made without arguments: not at all."""

    status: int | None = None
    retry_after: float | None = None
    disconnect: bool = False
    disconnect_after: int | None = None
    hang: bool = False
    hang_after: int | None = None
    slow: float = 0.0
    drip: float | None = None
    garbage: bool = False
    error_after: int | None = None
    no_usage: bool = False

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read a fault as it is written.

        Raises
        ------
        InputError
            A part has an unknown name, lacks its number or has one that it does not take.
        """
        given: dict[str, bool | int | float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            key = name.replace("-", "_")
            if key not in KINDS:
                known = ", ".join(name.replace("_", "-") for name in KINDS)
                raise InputError(f"{FAULT_HEADER}: {part!r} is none of {known}")
            given[key] = _value(part, value, KINDS[key])
        return cls(**given)  # type: ignore[arg-type]  # by KINDS


KINDS: dict[str, type] = {
    known.name: bool if known.type is bool else int if "int" in str(known.type) else float for known in fields(Fault)
}
LARGEST = {"status": 599}
SMALLEST = {"status": 400}


def _value(part: str, value: str, kind: type) -> bool | int | float:
    if kind is bool:
        if value:
            raise InputError(f"{FAULT_HEADER}: {part!r} takes no value")
        return True
    try:
        number: int | float = kind(value)
    except ValueError:
        raise InputError(f"{FAULT_HEADER}: {part!r} needs {'a whole number' if kind is int else 'a number'}") from None
    name = part.partition("=")[0]
    if not SMALLEST.get(name, 0) <= number <= LARGEST.get(name, math.inf) or not math.isfinite(number):
        raise InputError(
            f"{FAULT_HEADER}: {part!r} is out of range: from {SMALLEST.get(name, 0)} to {LARGEST.get(name, 'any')}"
        )
    return number


CHANCES: tuple[Fault, ...] = (
    Fault(status=500),
    Fault(status=503),
    Fault(status=429, retry_after=1),
    Fault(disconnect=True),
    Fault(disconnect_after=5),
    Fault(slow=5),
)
"""Of what happens by chance, one as often as the other."""


@dataclass
class Faults:
    """Decides how the next answer goes wrong, if it does.

    Attributes
    ----------
    share
        Of requests that fail by chance.
    seed
        Of chance: the n-th request to an LLM always ends the same way.
    """

    share: float = 0.0
    seed: int = 0
    _ordered: list[tuple[str | None, Fault, int | None]] = field(default_factory=list)
    _requests: dict[str, int] = field(default_factory=dict)

    def order(self, fault: Fault, llm: str | None = None, times: int | None = None) -> None:
        """Let answers of an LLM (None: of each) go wrong, so many times (None: until `clear`)."""
        self._ordered.append((llm, fault, times))

    def clear(self) -> None:
        """Forget what was ordered."""
        self._ordered.clear()

    def next(self, llm: str, headers: Iterable[str]) -> Fault:
        """Return the fault of the next answer: what its headers ask for, else what was ordered, else chance."""
        number = self._requests[llm] = self._requests.get(llm, 0) + 1
        asked = ",".join(headers)
        if asked:
            return Fault.parse(asked)
        for place, (of, fault, times) in enumerate(self._ordered):
            if of in (None, llm):
                if times is not None:
                    self._ordered[place : place + 1] = [(of, fault, times - 1)] if times > 1 else []
                return fault
        if self.share > 0:
            rng = draw(self.seed, llm, number)
            if rng.random() < self.share:
                return CHANCES[int(rng.integers(len(CHANCES)))]
        return Fault()
