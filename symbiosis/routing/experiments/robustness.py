"""How often a method sends a query to another LLM when it is asked in another form, and what that costs.

A flip between two LLMs that a method holds for equal is harmless, so beside the share of changed choices stand the
changes of mean quality and mean cost over the same queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.metrics.metrics import ratio
from symbiosis.routing.queries.perturbations import INVISIBLE, PERTURBATIONS

Chooser = Callable[[Split], np.ndarray]
"""From queries to the LLMs that are chosen, (P, N), one row per trade-off."""


def sample_of(test: Split, queries: int, seed: int) -> np.ndarray:
    """Draw so many test queries, at most all, as rows (n,) in their order."""
    drawn = np.random.default_rng(seed).permutation(len(test))[:queries]
    return np.sort(drawn)


def flip_rates(
    choosers: Mapping[str, Chooser],
    part: Split,
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], np.ndarray],
    point: int,
    first: str = "router",
) -> dict[str, Any]:
    """Ask every query in every form of `symbiosis.routing.queries.perturbations.PERTURBATIONS`.

    Parameters
    ----------
    choosers
        By method.
    part
        N test queries with their outcomes.
    texts
        Their texts.
    encode
        From texts to vectors (n, d), as in training.
    point
        Operating point of the method `first`; the others are judged at their trade-off of the nearest mean cost.
    first
        See `point`.

    Returns
    -------
    dict
        ``queries``, and under ``methods`` for each: ``flips`` by perturbation, their mean over all (``mean``) and over
        blanks and case alone (``invisible``), and ``quality_change`` and ``cost_change`` (share) on average over all
        perturbations.
    """
    base = replace(part, embeddings=encode(texts))
    chosen: dict[str, np.ndarray] = {}
    points: dict[str, int] = {}
    wanted = Curve.of(choosers[first](base), part.outcomes).cost.mean(axis=1)[point]
    for name, chooser in choosers.items():
        arms = chooser(base)
        cost = Curve.of(arms, part.outcomes).cost.mean(axis=1)
        points[name] = point if name == first else int(np.abs(cost - wanted).argmin())
        chosen[name] = arms[points[name]]
    found: dict[str, dict[str, list[float]]] = {name: {"flips": [], "quality": [], "cost": []} for name in choosers}
    for change in PERTURBATIONS.values():
        asked = replace(part, embeddings=encode([change(text) for text in texts]))
        for name, chooser in choosers.items():
            arms = chooser(asked)[points[name]]
            before, after = (Curve.of(one[None], part.outcomes) for one in (chosen[name], arms))
            found[name]["flips"].append(float((arms != chosen[name]).mean()))
            found[name]["quality"].append(float(after.quality.mean() - before.quality.mean()))
            found[name]["cost"].append(float(ratio(after.cost.mean() - before.cost.mean(), before.cost.mean())))
    return {"queries": len(part), "methods": {name: _summary(one) for name, one in found.items()}}


def _summary(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    flips = dict(zip(PERTURBATIONS, found["flips"], strict=True))
    return {
        "flips": {name: rounded(value) for name, value in flips.items()},
        "mean": rounded(float(np.mean(list(flips.values())))),
        "invisible": rounded(float(np.mean([flips[name] for name in INVISIBLE]))),
        "quality_change": rounded(float(np.mean(found["quality"]))),
        "cost_change": rounded(float(np.mean(found["cost"]))),
    }
