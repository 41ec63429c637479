"""What an LLM costs and how fast it is, as known before any online or test query: from the offline outcomes.

Every figure carries its basis, so that a fitted price is never taken for a listed one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.params import ListPrice, Speed, SpeedClass

MINIMUM_ROWS = 30
COUNTED = ("api_reported", "tokenizer", "characters", "synthetic")  # bases of tokens counted for each response


def describe(
    outcomes: pl.DataFrame,
    *,
    prices: Mapping[str, ListPrice],
    price_tolerance: float,
    speeds: Mapping[str, Speed],
    speed_classes: Sequence[SpeedClass],
) -> pl.DataFrame:
    """Price and speed of every LLM.

    Parameters
    ----------
    outcomes
        Offline outcomes: llm (name), prompt_tokens, response_tokens, cost_usd, latency_s, tokens_basis, cost_basis.
    prices
        List prices by LLM; they must reproduce the LLM's mean cost within `price_tolerance` (a share of it).
    price_tolerance
        0.15 stands for 15 %.
    speeds
        Known speeds by LLM.
    speed_classes
        Speeds by response price, cheapest first, for LLMs without known speed or enough latencies.

    Returns
    -------
    polars.DataFrame
        Sorted by llm; see `symbiosis.routing.data.prices.COLUMNS`.

    Raises
    ------
    InputError
        A list price or speed is for an LLM that the table lacks, or a list price contradicts the costs.
    """
    names = outcomes["llm"].unique().sort().to_list()
    for key, given in (("prices", prices), ("speeds", speeds)):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InputError(
                f"params.yaml: `clean_routing.{key}` names the LLM {unknown[0]!r}, which the chosen table does not have"
            )
    rows = []
    for name in names:
        own = outcomes.filter(pl.col("llm") == name)
        price = _price(own, name, prices.get(name), price_tolerance)
        rows.append(
            {
                "llm": name,
                **price,
                **_speed(own, price["price_response"], speeds.get(name), speed_classes),
                **_other_prices(prices.get(name)),
            }
        )
    return pl.DataFrame(rows, schema=COLUMNS)


COLUMNS: dict[str, pl.DataType] = {
    "llm": pl.String(),
    "price_prompt": pl.Float64(),  # USD per token; null if the table has no tokens
    "price_response": pl.Float64(),
    # given | fitted_to_list_price | fitted_to_source | fitted_to_estimated | fitted_to_both | none (no costs) | unknown
    "price_basis": pl.String(),
    "price_error": pl.Float64(),  # mean absolute error of tokens times price, as a share of the mean cost
    "startup_s": pl.Float64(),
    "tokens_per_s": pl.Float64(),
    "speed_basis": pl.String(),  # given | fitted_to_latency | price_class | last_class (no price)
    "price_cached": pl.Float64(),  # USD per cached prompt token; null: as price_prompt
    "price_reasoning": pl.Float64(),  # USD per hidden reasoning token; null: as price_response
}


def _other_prices(given: ListPrice | None) -> dict[str, float | None]:
    """Prices that only a list can tell: the tables do not count these tokens."""
    cached, reasoning = (None, None) if given is None else (given.cached, given.reasoning)
    return {
        "price_cached": None if cached is None else cached / 1e6,
        "price_reasoning": None if reasoning is None else reasoning / 1e6,
    }


def _price(own: pl.DataFrame, name: str, given: ListPrice | None, tolerance: float) -> dict[str, Any]:
    """Prices by non-negative least squares of cost on the two token counts."""
    known = own.drop_nulls(["prompt_tokens", "response_tokens", "cost_usd"])
    tokens = known.select("prompt_tokens", "response_tokens").to_numpy().astype(np.float64)
    cost = known["cost_usd"].to_numpy()
    price = None
    if given is not None:
        price, basis = np.array([given.prompt, given.response]) / 1e6, "given"
        _require_agreement(name, float((tokens @ price).sum()), float(cost.sum()), tolerance)
    elif tokens.sum() > 0:
        price = fit_prices(tokens, cost)
        bases = known["cost_basis"].unique().sort().to_list()
        basis = f"fitted_to_{bases[0]}" if len(bases) == 1 else "fitted_to_both"
        basis = "none" if bases == ["none"] else basis
    if price is None:
        return {"price_prompt": None, "price_response": None, "price_basis": "unknown", "price_error": None}
    error = np.abs(tokens @ price - cost).mean() / cost.mean() if cost.sum() > 0 else None
    return {
        "price_prompt": float(price[0]),
        "price_response": float(price[1]),
        "price_basis": basis,
        "price_error": None if error is None else round(float(error), 6),
    }


def _require_agreement(name: str, listed_usd: float, usd: float, tolerance: float) -> None:
    """Make sure that a price list gives the costs of the table.

    Raises
    ------
    InputError
        It gives others; the message names the usual reason.
    """
    ratio = listed_usd / usd if usd > 0 else np.inf if listed_usd > 0 else 1.0
    if abs(ratio - 1) <= tolerance:
        return
    told = f"give {ratio:.3g} times the costs in the table" if usd > 0 else "are not 0, but all costs in the table are"
    units = {1e-3: "thousand tokens", 1e-6: "token"}
    hint = next((f", as if they were per {unit}" for by, unit in units.items() if abs(ratio / by - 1) <= tolerance), "")
    raise InputError(
        f"params.yaml: `clean_routing.prices` of LLM {name!r} {told}{hint}: prices are USD per million tokens; correct "
        "them or leave them out to have them fitted"
    )


def fit_prices(tokens: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Fit USD per prompt token and per response token to costs, neither below zero.

    If the two counts are proportional, nothing tells the two prices apart and both are the same.

    Parameters
    ----------
    tokens
        (rows, 2), prompt and response tokens.
    cost
        (rows,), USD.

    Returns
    -------
    numpy.ndarray
        (2,), rounded to 6 digits, so that the last bits of a sum in another order do not show.
    """
    from scipy.optimize import nnls

    scale = np.maximum(tokens.max(axis=0), 1.0)
    unit = cost.max() if cost.max() > 0 else 1.0
    if np.linalg.matrix_rank(tokens / scale, tol=1e-6 * len(tokens) ** 0.5) < 2:
        return np.full(2, rounded(cost.sum() / tokens.sum()))
    solution, _ = nnls(tokens / scale, cost / unit)
    return np.array([rounded(value) for value in solution * unit / scale])


def _speed(
    own: pl.DataFrame, price_response: float | None, given: Speed | None, classes: Sequence[SpeedClass]
) -> dict[str, Any]:
    if given is not None:
        return {"startup_s": given.startup_s, "tokens_per_s": given.tokens_per_s, "speed_basis": "given"}
    timed = own.filter(pl.col("tokens_basis").is_in(list(COUNTED))).drop_nulls(["response_tokens", "latency_s"])
    fitted = fit_speed(timed["response_tokens"].to_numpy(), timed["latency_s"].to_numpy())
    if fitted is not None:
        return {"startup_s": fitted[0], "tokens_per_s": fitted[1], "speed_basis": "fitted_to_latency"}
    if price_response is None:  # nothing is known of the LLM
        chosen, basis = classes[-1], "last_class"
    else:
        chosen = next((c for c in classes if c.below is not None and price_response * 1e6 < c.below), classes[-1])
        basis = "price_class"
    return {"startup_s": chosen.startup_s, "tokens_per_s": chosen.tokens_per_s, "speed_basis": basis}


def fit_speed(tokens: np.ndarray, latency: np.ndarray) -> tuple[float, float] | None:
    """Fit start-up seconds and tokens per second to latency = start-up + tokens / rate, robustly (soft L1).

    Parameters
    ----------
    tokens, latency
        (rows,), response tokens and seconds.

    Returns
    -------
    tuple of float, or None
        Rounded to 6 digits. None with fewer than `MINIMUM_ROWS` rows or if the tokens do not explain the latency.
    """
    from scipy.optimize import least_squares

    if len(tokens) < MINIMUM_ROWS or np.unique(tokens).size < 3 or np.median(latency) <= 0:
        return None
    typical = max(float(np.median(tokens)), 1.0)
    spread = float(np.median(np.abs(latency - np.median(latency)))) or float(np.median(latency))
    design = np.column_stack([np.ones(len(tokens)), tokens / typical])
    start = np.full(2, float(np.median(latency)) / 2)
    fit = least_squares(lambda x: design @ x - latency, start, bounds=(0, np.inf), loss="soft_l1", f_scale=spread)
    startup, slope = float(fit.x[0]), float(fit.x[1]) / typical
    if slope <= 1e-5:  # over 100,000 tokens a second: no effect of the length
        return None
    return rounded(startup), rounded(1 / slope)


def priced(llms: Llms, outcomes: Outcomes) -> Llms:
    """Fit the LLMs' prices to training outcomes alone."""
    prices = np.array(
        [
            fit_prices(
                np.column_stack([outcomes.prompt_tokens[:, arm], outcomes.response_tokens[:, arm]]),
                outcomes.cost_usd[:, arm],
            )
            for arm in range(len(llms))
        ]
    )
    return replace(llms, price_prompt=prices[:, 0], price_response=prices[:, 1])
