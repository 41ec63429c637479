"""Cells of the routing reports' tables."""

from collections.abc import Mapping
from typing import Any

from symbiosis.reporting.page import OURS, STRONGEST, Interval


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
