"""A decision, and why it was taken."""

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Decision:
    """Which LLM answers a query, and what was expected of each.

    Attributes
    ----------
    id
        For `symbiosis.routing.service.RoutingService.feedback`.
    llm, arm
        The chosen LLM and its position.
    propensity
        Probability with which it was chosen.
    objective
        What was decided for.
    llms
        L names.
    quality, lower, upper
        (L,), expected quality and its interval.
    response_tokens, cost_usd
        (L,), expected.
    wait_s, completion_s
        (L,), seconds until a worker is free, and until the last token.
    parts
        The weighted parts of the score by name, (L,) each.
    score
        (L,), their sum.
    admissible
        (L,), whether the LLM was allowed.
    probability
        (L,), with which each LLM would have been chosen.
    """

    id: str
    llm: str
    arm: int
    propensity: float
    objective: str
    llms: tuple[str, ...]
    quality: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    response_tokens: np.ndarray
    cost_usd: np.ndarray
    wait_s: np.ndarray
    completion_s: np.ndarray
    parts: dict[str, np.ndarray]
    score: np.ndarray
    admissible: np.ndarray
    probability: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the choice, and one row per LLM."""
        columns = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        rows = [
            {
                "llm": name,
                **{column: getattr(self, column)[arm].item() for column in columns},
                "parts": {part: float(values[arm]) for part, values in self.parts.items()},
            }
            for arm, name in enumerate(self.llms)
        ]
        head = {name: getattr(self, name) for name in ("id", "llm", "propensity", "objective")}
        return {**head, "llms": rows}

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

    def _line(self, arm: int) -> list[str]:
        return [
            ">" if arm == self.arm else "" if self.admissible[arm] else "x",
            self.llms[arm],
            f"{self.quality[arm]:.3f}",
            f"{self.lower[arm]:.3f}..{self.upper[arm]:.3f}",
            f"{self.cost_usd[arm]:.3g}",
            f"{self.wait_s[arm]:.1f}",
            f"{self.completion_s[arm]:.1f}",
            *(f"{values[arm]:+.4f}" for values in self.parts.values()),
            f"{self.score[arm]:+.4f}",
            f"{self.probability[arm]:.3f}",
        ]
