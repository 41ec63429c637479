"""Decisions and feedback on disk as they happen: one line of JSON each, in a file that only grows.

It serves audits, estimates of what another policy would have earned (`symbiosis.routing.learning.off_policy`), and what
happened after the last saved version (`symbiosis.routing.serving.snapshots.load`). A line is handed to the operating
system at once: a killed process loses none, a machine without power may lose the last ones.

Decisions that await feedback, and those that have had it: bounded, and no feedback counts twice.
"""

import base64
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError, with_config

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback


def _to_text(vector: np.ndarray) -> str:
    short = vector.astype("<f4")
    kind = "f4" if (short == vector).all() else "f8"
    return f"{kind}:{base64.b64encode(vector.astype(f'<{kind}').tobytes()).decode()}"


def _to_vector(text: Any) -> np.ndarray:
    if isinstance(text, np.ndarray):
        return text
    kind, numbers = text[:3], text[3:]
    if kind not in ("f4:", "f8:"):
        raise ValueError("vector: must begin with f4: or f8:")
    return np.frombuffer(base64.b64decode(numbers), dtype=f"<{kind[:2]}").astype(np.float64)


Vector = Annotated[Any, BeforeValidator(_to_vector), PlainSerializer(_to_text)]
_LINES = ConfigDict(extra="forbid", allow_inf_nan=False)


@with_config(_LINES)
@dataclass(slots=True)
class DecisionRecord:
    """What is kept of a decision until its feedback, and logged.

    Attributes
    ----------
    decision
        Its id.
    llm
        The LLM that was chosen.
    at
        Seconds since the epoch.
    propensity
        With which it was chosen.
    prompt_tokens, cost_usd
        Of the chosen LLM, the cost as it was expected.
    quality
        Expected of it.
    vector
        (d,), the query's; another router of the same form of vectors can learn from it, too.
    budget_usd
        Per query, if the decision was charged to a budget.
    """

    decision: str
    llm: str
    at: float
    propensity: float
    prompt_tokens: float
    cost_usd: float
    quality: float
    vector: Vector
    budget_usd: float | None = None


@with_config(_LINES)
@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """Feedback on a decision that was learned from."""

    feedback: str
    quality: float | None
    response_tokens: float | None
    satisfied: bool | None

    @property
    def told(self) -> Feedback:
        """What it says."""
        return Feedback(self.quality, self.response_tokens, self.satisfied)


_DECISION, _FEEDBACK = TypeAdapter(DecisionRecord), TypeAdapter(FeedbackRecord)


class Memory:
    """Decisions that await feedback by id, oldest first, and the feedback that others have had.

    Parameters
    ----------
    most, lifetime_s
        At most so many of each, and decisions for so long.
    """

    def __init__(self, most: int, lifetime_s: float) -> None:
        self.most, self.lifetime_s = most, lifetime_s
        self.records: OrderedDict[str, DecisionRecord] = OrderedDict()
        self.rewarded: OrderedDict[str, Feedback] = OrderedDict()

    def remember(self, record: DecisionRecord) -> None:
        """Keep a decision; what is too old or too much goes."""
        records = self.records
        records[record.decision] = record
        too_old = record.at - self.lifetime_s
        while records:
            oldest = next(iter(records))
            if len(records) <= self.most and records[oldest].at >= too_old:
                break
            del records[oldest]

    def recall(self, key: str, told: Feedback, now: float) -> DecisionRecord | None:
        """Return the decision that feedback is for; None if it has had this very feedback.

        Raises
        ------
        InputError
            Unknown, expired or otherwise rewarded decision.
        """
        if (before := self.rewarded.get(key)) is not None:
            if before == told:
                return None
            raise InputError(f"decision {key!r} has other feedback already: feedback cannot be changed")
        record = self.records.get(key)
        if record is None or now - record.at > self.lifetime_s:
            raise InputError(
                f"decision {key!r} is unknown, or too old for feedback (kept: {self.lifetime_s:g} s, {self.most} "
                "decisions): use the id of a recent decision"
            )
        return record

    def reward(self, key: str, told: Feedback) -> None:
        """Take note that a decision has had its feedback."""
        self.records.pop(key, None)
        self.rewarded[key] = told
        while len(self.rewarded) > self.most:
            self.rewarded.popitem(last=False)


def checked(key: str, quality: float | None, response_tokens: float | None, satisfied: bool | None) -> Feedback:
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
    return Feedback(
        None if quality is None else float(quality),
        None if response_tokens is None else float(response_tokens),
        None if satisfied is None else bool(satisfied),
    )


_LONGEST = 1 << 20
"""Bytes of a line, at most."""


class Journal:
    """A journal that is written to. One process may write at a time.

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

    def decided(self, record: DecisionRecord) -> None:
        """Write down a decision."""
        self._write(_DECISION.dump_json(record))

    def rewarded(self, key: str, told: Feedback) -> None:
        """Write down feedback that was learned from."""
        self._write(_FEEDBACK.dump_json(FeedbackRecord(key, *told)))

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size

    def _write(self, line: bytes) -> None:
        # Opened anew each time: nothing to close, nothing buffered.
        with self.path.open("ab") as file:
            file.write(line + b"\n")


class Line(NamedTuple):
    """A line of a journal and the byte after it."""

    record: DecisionRecord | FeedbackRecord
    end: int


def lines(path: Path | str, start: int = 0) -> Iterator[Line]:
    """Read a journal; an unfinished last line is left out.

    Parameters
    ----------
    path
        Of the journal.
    start
        Bytes to skip, a `Journal.position`.

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
        at = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                adapter = _DECISION if line.startswith(b'{"decision"') else _FEEDBACK
                yield Line(adapter.validate_json(line), at + len(line))
            except ValidationError as error:
                raise InputError(
                    f"{path}: the line from byte {at} is damaged ({error.errors()[0]['msg']}): take it out"
                ) from None
            at += len(line)


def read_records(path: Path) -> list[DecisionRecord]:
    """Read records that `write_records` wrote."""
    return [_DECISION.validate_json(line) for line in path.read_bytes().splitlines()]


def write_records(path: Path, records: list[DecisionRecord]) -> None:
    """Write records, one line each."""
    path.write_bytes(b"".join(_DECISION.dump_json(record) + b"\n" for record in records))
