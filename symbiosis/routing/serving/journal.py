"""Decisions and feedback on disk as they happen: one line of JSON each, in a file that only grows.

It serves audits, estimates of what another policy would have earned (`symbiosis.routing.learning.off_policy`), and what
happened after the last saved state (`symbiosis.routing.serving.snapshots.load`). A line is handed to the operating
system at once: a killed process loses none, a machine without power may lose the last ones.

Decisions that await feedback, and those that have had it: bounded, and no feedback counts twice.
"""

import base64
import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.core.errors import InputError

Told = list[float | bool | None]
"""Quality, response tokens, satisfied: what a piece of feedback says, None where it says nothing."""


class Context(NamedTuple):
    """What is remembered of a decision until its feedback.

    Attributes
    ----------
    llm
        The LLM that was chosen.
    x
        (D,), the query's features.
    at
        Seconds since the epoch.
    prompt_tokens, cost_usd
        Of the chosen LLM, the cost as it was expected.
    propensity
        With which it was chosen.
    quality
        Expected of it.
    """

    llm: str
    x: np.ndarray
    at: float
    prompt_tokens: float
    cost_usd: float
    propensity: float
    quality: float


class Memory:
    """Contexts by the decision's id, oldest first, and the feedback that others have had.

    Parameters
    ----------
    most, lifetime_s
        At most so many of each, and contexts for so long.
    """

    def __init__(self, most: int, lifetime_s: float) -> None:
        self.most, self.lifetime_s = most, lifetime_s
        self.contexts: OrderedDict[str, Context] = OrderedDict()
        self.rewarded: OrderedDict[str, Told] = OrderedDict()

    def remember(self, key: str, context: Context) -> None:
        """Keep a decision; what is too old or too much goes."""
        contexts = self.contexts
        contexts[key] = context
        too_old = context.at - self.lifetime_s
        while contexts:
            oldest = next(iter(contexts))
            if len(contexts) <= self.most and contexts[oldest].at >= too_old:
                break
            del contexts[oldest]

    def recall(self, key: str, told: Told, now: float) -> Context | None:
        """Return the context that feedback is for; None if it has had this very feedback.

        Raises
        ------
        InputError
            Unknown, expired or otherwise rewarded decision.
        """
        if (before := self.rewarded.get(key)) is not None:
            if before == told:
                return None
            raise InputError(f"decision {key!r} has other feedback already: feedback cannot be changed")
        context = self.contexts.get(key)
        if context is None or now - context.at > self.lifetime_s:
            raise InputError(
                f"decision {key!r} is unknown, or too old for feedback (kept: {self.lifetime_s:g} s, {self.most} "
                "decisions): use the id of a recent decision"
            )
        return context

    def reward(self, key: str, told: Told) -> None:
        """Take note that a decision has had its feedback."""
        del self.contexts[key]
        self.rewarded[key] = told
        while len(self.rewarded) > self.most:
            self.rewarded.popitem(last=False)


def checked(key: str, quality: float | None, response_tokens: float | None, satisfied: bool | None) -> Told:
    """Make sure that feedback is refined or binary and that its values are some.

    Raises
    ------
    InputError
        Names the decision and the value.
    """
    if (quality is None) == (satisfied is None):
        raise InputError(f"feedback for decision {key!r}: give either `quality` or `satisfied`")
    if quality is not None and not 0 <= quality <= 1:  # NaN too
        raise InputError(f"feedback for decision {key!r}: quality {quality} must lie in 0..1")
    if satisfied is not None and satisfied not in (True, False):
        raise InputError(f"feedback for decision {key!r}: satisfied {satisfied} must be true or false")
    if response_tokens is not None and not 0 <= response_tokens < math.inf:
        raise InputError(
            f"feedback for decision {key!r}: response_tokens {response_tokens} must be a number not below 0"
        )
    return [
        None if quality is None else float(quality),
        None if response_tokens is None else float(response_tokens),
        None if satisfied is None else bool(satisfied),
    ]


_LONGEST = 1 << 20
"""Bytes of a line, at most."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Decided(_Line):
    """A decision: see `symbiosis.routing.serving.journal.Context`; the features are float64 in base64."""

    decision: str
    at: float
    llm: str
    propensity: float
    prompt_tokens: float
    cost_usd: float
    quality: float
    features: str

    @classmethod
    def of(cls, key: str, context: Context) -> "Decided":
        """Return the line of a decision."""
        fields = context._asdict()
        features = base64.b64encode(fields.pop("x").astype("<f8").tobytes()).decode()
        return cls(decision=key, features=features, **fields)

    @property
    def context(self) -> Context:
        """What the service remembers of it."""
        x = np.frombuffer(base64.b64decode(self.features), dtype="<f8").copy()
        return Context(self.llm, x, self.at, self.prompt_tokens, self.cost_usd, self.propensity, self.quality)


class Rewarded(_Line):
    """Feedback on a decision that was learned from."""

    feedback: str
    quality: float | None
    response_tokens: float | None
    satisfied: bool | None

    @property
    def told(self) -> Told:
        """What it says."""
        return [self.quality, self.response_tokens, self.satisfied]


class DecisionLog:
    """A log that is written to. One process may write at a time.

    Parameters
    ----------
    path
        Made if it is not there; a last line that a killed process left unfinished is cut off.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            tail = file.seek(max(0, self.path.stat().st_size - _LONGEST))
            file.truncate(tail + file.read().rfind(b"\n") + 1)

    def decided(self, key: str, context: Context) -> None:
        """Write down a decision."""
        self._write(Decided.of(key, context))

    def rewarded(self, key: str, told: Told) -> None:
        """Write down feedback that was learned from."""
        quality, response_tokens, satisfied = told
        answer = None if satisfied is None else bool(satisfied)
        self._write(Rewarded(feedback=key, quality=quality, response_tokens=response_tokens, satisfied=answer))

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size

    def _write(self, line: _Line) -> None:
        # Opened anew each time: nothing to close, nothing buffered.
        with self.path.open("ab") as file:
            file.write(line.model_dump_json().encode() + b"\n")


def lines(path: Path | str, start: int = 0) -> Iterator[Decided | Rewarded]:
    """Read a log; an unfinished last line is left out.

    Parameters
    ----------
    path
        Of the log.
    start
        Bytes to skip, a `DecisionLog.position`.

    Raises
    ------
    InputError
        There is no such file, it is shorter than `start`, or a line of it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing: name the file that the service logs to")
    if path.stat().st_size < start:
        raise InputError(f"{path} is shorter than when the state was saved: restore it, or load the state without it")
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                yield (Decided if line.startswith(b'{"decision"') else Rewarded).model_validate_json(line)
            except ValidationError as error:
                at = file.tell() - len(line)
                raise InputError(
                    f"{path}: the line from byte {at} is damaged ({error.errors()[0]['msg']}): take it out"
                ) from None


def read_log(path: Path | str) -> pl.DataFrame:
    """Read a log as a table.

    Returns
    -------
    DataFrame
        A row a decision, in order: ``decision, at, llm, propensity, prompt_tokens, expected_usd, expected_quality,
        features`` (a list) and, of its feedback, ``quality, response_tokens, satisfied``, null where there is none.
    """
    decided: list[dict[str, object]] = []
    rewarded: list[dict[str, object]] = []
    for line in lines(path):
        if isinstance(line, Decided):
            decided.append(line.model_dump() | {"features": line.context.x.tolist()})
        else:
            rewarded.append(line.model_dump())
    numbers = dict.fromkeys(("propensity", "prompt_tokens", "cost_usd", "quality"), pl.Float64)
    left = pl.DataFrame(
        decided,
        schema={"decision": pl.String, "at": pl.Float64, "llm": pl.String, **numbers, "features": pl.List(pl.Float64)},
    ).rename({"cost_usd": "expected_usd", "quality": "expected_quality"})
    right = pl.DataFrame(
        rewarded,
        schema={
            "feedback": pl.String,
            "quality": pl.Float64,
            "response_tokens": pl.Float64,
            "satisfied": pl.Boolean,
        },
    )
    return left.join(right, left_on="decision", right_on="feedback", how="left", maintain_order="left")
