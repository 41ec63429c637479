"""A decision, and why it was taken."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np


class Bounds(NamedTuple):
    """Intervals, (L,) each.

    Attributes
    ----------
    lower, upper
        Of expected quality: how sure the router is.
    answer_lower, answer_upper
        90 % interval of an answer's quality (conformal, fitted offline); None if the router has none. Of qualities
        that are 0 or 1 it says little, because single answers are.
    soonest_s, latest_s
        90 % interval of the seconds until the last token, `symbiosis.routing.policy.response_time`; None: not known.
    """

    lower: np.ndarray
    upper: np.ndarray
    answer_lower: np.ndarray | None = None
    answer_upper: np.ndarray | None = None
    soonest_s: np.ndarray | None = None
    latest_s: np.ndarray | None = None


@dataclass
class Decision:
    """Which LLM answers a query, and what was expected of each.

    What only an explanation needs is worked out when it is first read: the intervals then are those of that moment,
    everything else is as it was decided.

    Attributes
    ----------
    id
        For `symbiosis.routing.serving.service.RoutingService.feedback`.
    llm, arm
        The chosen LLM and its position.
    propensity
        Probability with which it was chosen.
    objective
        What was decided for.
    llms
        L names.
    quality
        (L,), expected quality.
    response_tokens, cost_usd
        (L,), expected.
    wait_s, service_s
        (L,), seconds until a worker is free, and from there to the last token.
    parts
        The weighted parts of the score by name, (L,) each.
    score
        (L,), their sum.
    admissible
        (L,), whether the LLM was allowed.
    chances
        (L,), with which each LLM would have been chosen; None: the chosen one was certain.
    interval
        Gives the intervals of quality and of the time to the answer.
    features
        (D,), of the query.
    expected
        (L,), quality without what a head for binary feedback adds; `quality` where there is none.
    trade_off
        The objective's, if it has one.
    router, version
        Digest of the trained router, and the version of the state that decided; see
        `symbiosis.routing.serving.workspace`.
    record
        What a store keeps of it, `symbiosis.routing.serving.records.DecisionRecord`; None: no service took it.
    """

    id: str
    llm: str
    arm: int
    propensity: float
    objective: str
    llms: tuple[str, ...]
    quality: np.ndarray
    response_tokens: np.ndarray
    cost_usd: np.ndarray
    wait_s: np.ndarray
    service_s: np.ndarray
    parts: dict[str, np.ndarray]
    score: np.ndarray
    admissible: np.ndarray
    chances: np.ndarray | None
    interval: Callable[[], Bounds]
    features: np.ndarray
    expected: np.ndarray
    trade_off: float | None = None
    router: str = ""
    version: int = 0
    record: Any = None

    @cached_property
    def bounds(self) -> Bounds:
        """Intervals of quality and of the time to the answer."""
        return self.interval()

    @property
    def lower(self) -> np.ndarray:
        """Lower end of the interval of expected quality, (L,)."""
        return self.bounds.lower

    @property
    def upper(self) -> np.ndarray:
        """Upper end of the interval of expected quality, (L,)."""
        return self.bounds.upper

    @property
    def completion_s(self) -> np.ndarray:
        """Seconds until the last token, (L,)."""
        return self.wait_s + self.service_s

    @property
    def probability(self) -> np.ndarray:
        """Probability with which each LLM would have been chosen, (L,)."""
        return np.eye(len(self.llms))[self.arm] if self.chances is None else self.chances

    def to_dict(self, arms: Sequence[int] | None = None) -> dict[str, Any]:
        """Return plain values: the choice, and one row per LLM, or for each of the given ones."""
        bounds = self.bounds
        columns = {
            "quality": self.quality,
            "quality_low": bounds.lower,
            "quality_high": bounds.upper,
            "answer_low": bounds.answer_lower,
            "answer_high": bounds.answer_upper,
            "completion_low_s": bounds.soonest_s,
            "completion_high_s": bounds.latest_s,
            **{name: getattr(self, name) for name in _COLUMNS},
        }
        rows = [
            {
                "llm": self.llms[arm],
                **{column: values[arm].item() for column, values in columns.items() if values is not None},
                "parts": {part: float(values[arm]) for part, values in self.parts.items()},
            }
            for arm in (range(len(self.llms)) if arms is None else sorted(set(arms)))
        ]
        head = {name: getattr(self, name) for name in ("id", "llm", "objective", "trade_off", "propensity")}
        return {**head, "arms": rows, "router": self.router, "version": self.version}

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def table(self) -> str:
        """Return a table for people: one line per LLM, best score first, the chosen one marked."""
        head = ["", "LLM", "quality", "interval", "USD", "wait s", "answer s", *self.parts, "score", "chance"]
        best_first = np.argsort(-np.where(self.admissible, self.score, -np.inf), kind="stable").tolist()
        lines = [head, *(self._line(arm) for arm in best_first)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        told = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([f"{self.objective}: {self.llm} (propensity {self.propensity:.3f})", *told])

    def _time_interval(self, arm: int) -> str:
        soonest, latest = self.bounds.soonest_s, self.bounds.latest_s
        return "" if soonest is None or latest is None else f" ({soonest[arm]:.1f}..{latest[arm]:.1f})"

    def _line(self, arm: int) -> list[str]:
        return [
            ">" if arm == self.arm else "" if self.admissible[arm] else "x",
            self.llms[arm],
            f"{self.quality[arm]:.3f}",
            f"{self.lower[arm]:.3f}..{self.upper[arm]:.3f}",
            f"{self.cost_usd[arm]:.3g}",
            f"{self.wait_s[arm]:.1f}",
            f"{self.completion_s[arm]:.1f}{self._time_interval(arm)}",
            *(f"{values[arm]:+.4f}" for values in self.parts.values()),
            f"{self.score[arm]:+.4f}",
            f"{self.probability[arm]:.3f}",
        ]


_COLUMNS = (
    "response_tokens",
    "cost_usd",
    "wait_s",
    "completion_s",
    "score",
    "admissible",
    "probability",
)
