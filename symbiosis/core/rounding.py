"""Rounding of reported numbers."""

from collections.abc import Mapping
from typing import Any


def rounded(value: float, digits: int = 6) -> float:
    """Round to significant digits, so that what is reported does not depend on the last bits of a sum."""
    return float(f"{value:.{digits}g}")


def all_rounded(values: Any) -> Any:
    """Round every fraction below a mapping or list to six digits; integers, texts and nulls stay as they are."""
    if isinstance(values, Mapping):
        return {key: all_rounded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [all_rounded(value) for value in values]
    return rounded(values) if isinstance(values, float) else values
