"""LLMs that are nearly the same: they succeed on the same queries, at the same price."""

import networkx as nx
import numpy as np
import polars as pl

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.prices import fit_prices

CORRELATION = 0.6
"""Of quality, from which LLMs of one price are alike; measured on alpacaeval: .72 and .65 between
gpt-3.5-turbo-1106 and its variants ``_concise`` and ``_verbose``, rarely so much between others of one price."""
WITHOUT_PRICE = 0.8
"""The same where neither has a price."""
TOLERANCE = 0.02
"""Share by which prices may differ."""
LEAST = 30
"""Queries that both answered."""


def alike(once: pl.DataFrame) -> list[dict[str, object]]:
    """Find groups of LLMs that are nearly the same.

    Parameters
    ----------
    once
        One row per answered pair.

    Returns
    -------
    list of dict
        ``llms``, and ``correlation``, the lowest between two of them that are directly alike; strongest first.
    """
    wide = once.pivot(on="llm", index="query_id", values="quality")
    names = sorted(name for name in wide.columns if name != "query_id")
    quality = wide.select(names).to_numpy().astype(float)
    prices = {name: _price(once.filter(pl.col("llm") == name)) for name in names}
    graph = nx.Graph()
    for place, one in enumerate(names):
        for other in range(place + 1, len(names)):
            limit = _limit(prices[one], prices[names[other]])
            if limit is None:
                continue
            likeness = _correlation(quality[:, place], quality[:, other])
            if likeness >= limit:
                graph.add_edge(one, names[other], correlation=likeness)
    groups = [
        {
            "llms": sorted(group),
            "correlation": rounded(min(edge["correlation"] for *_, edge in graph.subgraph(group).edges(data=True))),
        }
        for group in nx.connected_components(graph)
    ]
    return sorted(groups, key=lambda group: (-float(str(group["correlation"])), str(group["llms"])))


def _limit(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> float | None:
    """Return the correlation from which two LLMs are alike; None if they differ in price."""
    if one is None and other is None:
        return WITHOUT_PRICE
    if one is None or other is None or len(one) != len(other):
        return None
    return CORRELATION if np.allclose(one, other, rtol=TOLERANCE, atol=0) else None


def _price(answers: pl.DataFrame) -> tuple[float, ...] | None:
    """Return the prices of prompt and response, else the mean cost; None without costs."""
    told = answers.drop_nulls("cost_usd")
    if told.is_empty() or not told["cost_usd"].sum():
        return None
    counted = told.drop_nulls(["prompt_tokens", "response_tokens"])
    tokens = counted.select("prompt_tokens", "response_tokens").to_numpy().astype(float)
    if len(tokens) >= LEAST and tokens.sum() > 0:
        return tuple(fit_prices(tokens, counted["cost_usd"].to_numpy()).tolist())
    mean = told["cost_usd"].mean()
    return (float(mean),) if isinstance(mean, float) else None


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    both = ~(np.isnan(one) | np.isnan(other))
    if both.sum() < LEAST or one[both].std() == 0 or other[both].std() == 0:
        return 0.0
    return float(np.corrcoef(one[both], other[both])[0, 1])
