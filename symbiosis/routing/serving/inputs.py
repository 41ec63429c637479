"""What callers hand to a routing service, checked: one clear error each, before anything is changed."""

import math
from typing import Any, NamedTuple

import numpy as np

from symbiosis.core.errors import InputError, quoted, require_name
from symbiosis.routing.learning.feedback import Feedback

MOST_TOKENS = 10_000_000
"""Of a response. One feedback beyond that would be all that an LLM's length and a budget's pacing remember."""
HIGHEST_PRICE = 0.1
"""USD per token; a list that is dearer is per thousand or million tokens."""
FAR = 300.0
"""Ratio of two prices from which on one of them is rather in another unit: a thousand or a million times as large."""
LEAST_USD, LEAST_S = 1e-12, 1e-6
"""Of a budget per query and of a deadline: costs and seconds are divided by them."""
LONGEST_S, SLOWEST, FASTEST = 3_600.0, 1e-3, 1e6
"""Seconds to the first token; tokens per second."""


def embedding(given: Any, dimension: int) -> np.ndarray:
    """Return a query's embedding (d,) in float64.

    Raises
    ------
    InputError
        Another shape, or not finite.
    """
    vector = np.asarray(given, dtype=np.float64)
    # A sum of squares is finite if all numbers are; it may overflow where they are.
    if vector.shape != (dimension,) or not (math.isfinite(vector.dot(vector)) or np.isfinite(vector).all()):
        raise InputError(
            f"the query's embedding has shape {vector.shape}: {dimension} finite numbers are needed, from the encoder "
            "that the router was trained with"
        )
    return vector


def per_llm(given: Any, what: str, n_llms: int) -> float | np.ndarray:
    """Return one number as it is, or one per LLM as an array of its own, (L,).

    Raises
    ------
    InputError
        Another shape, not finite or below 0.
    """
    if isinstance(given, (int, float)):
        if 0 <= given < math.inf:
            return float(given)
    else:
        numbers = np.array(given, dtype=np.float64)
        if not numbers.shape and 0 <= numbers < math.inf:
            return float(numbers)
        # NaN passes no comparison.
        if numbers.shape == (n_llms,) and np.minimum.reduce(numbers) >= 0 and np.maximum.reduce(numbers) < math.inf:
            return numbers
    raise InputError(f"{what}: {given!r} must be finite, not negative, and one number or one per LLM ({n_llms})")


class Description(NamedTuple):
    """Prices in USD per token, seconds, and tokens per second of an LLM."""

    price_prompt: float
    price_response: float
    startup_s: float
    tokens_per_s: float


def described(
    name: str, price_prompt: float | None, price_response: float | None, startup_s: float, tokens_per_s: float
) -> Description:
    """Return what is known of an LLM that is to be added.

    Raises
    ------
    InputError
        The name is none, or a price or speed is missing, not finite or below 0.
    """
    require_name(name, "an LLM")
    given = {
        "price_prompt": price_prompt,
        "price_response": price_response,
        "startup_s": startup_s,
        "tokens_per_s": tokens_per_s,
    }
    for what, value in given.items():
        if value is None or not 0 <= value < math.inf:
            raise InputError(f"LLM {name!r} has {what} {value}: give a number not below 0 (prices in USD per token)")
        if what.startswith("price_") and value > HIGHEST_PRICE:
            raise InputError(
                f"LLM {name!r} has {what} {value:g} USD per token, which is {value * 1e6:g} per million: is it in "
                "another unit?"
            )
    if startup_s > LONGEST_S:
        raise InputError(f"LLM {name!r} has startup_s {startup_s:g}: give seconds; is it in milliseconds?")
    if not SLOWEST <= tokens_per_s <= FASTEST:
        raise InputError(f"LLM {name!r} has tokens_per_s {tokens_per_s:g}: give a rate from {SLOWEST:g} to {FASTEST:g}")
    return Description(*(float(value) for value in given.values() if value is not None))


def unlike(price: float, other: float) -> str | None:
    """Say how a price contradicts another of the same LLM or of other ones; None if it does not.

    Parameters
    ----------
    price, other
        Both in USD per million tokens.
    """
    if (price == 0) == (other == 0) and (price == 0 or 1 / FAR < price / other < FAR):
        return None
    if price == 0:
        return f"is 0, but the router knows {other:g} USD per million tokens: is it free?"
    if other == 0:
        return f"is {price:g} USD per million tokens, but 0 is what the router knows"
    times = f"{price / other:.3g} times the {other:g}"
    return f"is {price:g}, {times} USD per million tokens that the router knows: is it in another unit?"


def probes(
    name: str,
    vectors: np.ndarray | None,
    quality: np.ndarray | None,
    response_tokens: np.ndarray | None,
    dimension: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings (m, d), quality (m,) and response tokens (m,) of an LLM's probe queries; m may be 0.

    Raises
    ------
    InputError
        Something is missing, or a number is not one.
    """
    if vectors is None and quality is None and response_tokens is None:
        return np.zeros((0, dimension)), np.zeros(0), np.zeros(0)
    if (
        vectors is None
        or quality is None
        or response_tokens is None
        or not len(vectors) == len(quality) == len(response_tokens)
    ):
        raise InputError(f"LLM {name!r}: give one vector, quality and response_tokens for each probe query")
    for row, (good, length) in enumerate(zip(quality, response_tokens, strict=True)):
        if not 0 <= good <= 1 or not 0 <= length <= MOST_TOKENS:
            raise InputError(f"LLM {name!r}, probe query {row}: quality {good} and response_tokens {length} are bad")
    rows = [embedding(vector, dimension) for vector in vectors]
    return np.array(rows).reshape(-1, dimension), np.asarray(quality), np.asarray(response_tokens)


def checked(key: str, quality: float | None, response_tokens: float | None, satisfied: bool | None) -> Feedback:
    """Make sure that feedback is refined or binary and that its values are some.

    Raises
    ------
    InputError
        Names the decision and the value.
    """
    if (quality is None) == (satisfied is None):
        raise InputError(f"feedback for decision {quoted(key)}: give either `quality` or `satisfied`")
    if quality is not None and not 0 <= quality <= 1:  # NaN too
        hint = f": did you mean {quality / 100:g}?" if 1 < quality <= 100 else ""
        raise InputError(f"feedback for decision {quoted(key)}: quality {quality:g} must lie in 0..1{hint}")
    if satisfied is not None and satisfied not in (True, False):
        raise InputError(f"feedback for decision {quoted(key)}: satisfied {satisfied} must be true or false")
    if response_tokens is not None and not 0 <= response_tokens <= MOST_TOKENS:
        raise InputError(
            f"feedback for decision {quoted(key)}: response_tokens {response_tokens} must be a number from 0 to "
            f"{MOST_TOKENS:,}"
        )
    return Feedback(
        None if quality is None else float(quality),
        None if response_tokens is None else float(response_tokens),
        None if satisfied is None else bool(satisfied),
    )
