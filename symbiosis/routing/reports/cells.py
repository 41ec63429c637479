"""Cells and tables that the routing reports share."""

from collections.abc import Mapping
from typing import Any

from symbiosis.reporting.names import label
from symbiosis.reporting.page import OURS, STRONGEST, Interval, Row, Table
from symbiosis.routing.metrics.curves import SHARES
from symbiosis.routing.metrics.metrics import cost_key


def interval(numbers: Mapping[str, Any], key: str, form: str = ".4f") -> Interval:
    """Return the value under a key with its interval, which stands under the key with ``_95`` after it."""
    bounds = numbers[f"{key}_95"]
    return Interval(numbers[key], bounds["low"], bounds["high"], form)


def percent(share: float | None) -> str:
    """Write a share in percent; None, a share that is never reached, as never."""
    return "never" if share is None else f"{100 * share:.1f} %"


def seconds(value: float | None) -> str:
    """Write a time in seconds; None, where nobody got an answer, as nothing."""
    return "" if value is None else f"{value:.1f}"


def mark(method: str, ours: str, rival: str | None) -> str:
    """Return the mark of a method's row."""
    return OURS if method == ours else STRONGEST if method == rival else ""


def cost_shares(methods: Mapping[str, Any], ours: str, rival: str | None) -> Table:
    """Return the table of costs at all shares of the best single LLM's quality, and of AIQ from cost 0."""
    rows = [
        Row(
            [
                label(name),
                *(percent(numbers.get(cost_key(share))) for share in SHARES),
                f"{numbers['aiq_to_zero']:.4f}",
            ],
            mark(name, ours, rival),
        )
        for name, numbers in sorted(methods.items(), key=lambda pair: -pair[1]["aiq"])
    ]
    return Table(["method", *(f"cost for {100 * share:g} %" for share in SHARES), "AIQ from 0"], rows)


SCORES = ("RouterArena", "APGR", "CPT(50 %)", "CPT(80 %)", "gain", "saving")
"""Heads of the columns that `score_cells` fills."""


def score_cells(scores: Mapping[str, float | None]) -> list[str]:
    """Return the cells of the scores of `symbiosis.routing.metrics.standard`."""
    fractions = ("none" if (value := scores[key]) is None else f"{value:.3f}" for key in ("apgr", "cpt_50", "cpt_80"))
    changes = ("none" if (value := scores[key]) is None else f"{value:+.1%}" for key in ("perf_gain", "cost_save"))
    return [f"{100 * (scores['arena'] or 0):.2f}", *fractions, *changes]
