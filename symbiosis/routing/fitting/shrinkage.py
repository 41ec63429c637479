"""How far differences between LLMs are shrunk, told from the table itself: empirical Bayes.

An LLM's coefficients are expected to lie around zero with one variance for tags and groups and one for components. The
two ridge penalties, noise over these variances, are those under which the outcomes are likeliest, all LLMs together
(MacKay 1992; type II maximum likelihood). So a table in which differences can be seen is never shrunk to one mean per
LLM, and one of noise alone always is.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from symbiosis.routing.model.features import FeatureMap

LADDER: list[float] = np.geomspace(0.3, 100_000.0, 23).tolist()  # penalties from almost none to nearly the mean
ROUNDS = 4  # of one penalty after the other; they settle in two or three


def likeliest_penalties(
    feature_map: FeatureMap, features: np.ndarray, left: np.ndarray, known: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the penalties of tags and of components with the largest marginal likelihood.

    Parameters
    ----------
    feature_map
        Says which features are which, see `FeatureMap.penalties`.
    features
        (N, D).
    left
        (N, L), what the prior leaves of each LLM's quality.
    known
        (N, L) bool, which answers count; None: all.
    """
    if known is None:
        parts = [(features.T @ features, features.T @ left, (left**2).sum(axis=0), len(left))]
    else:
        parts = []
        for arm, rows in enumerate(known.T):
            own, values = features[rows], left[rows, arm][:, None]
            if len(own):
                parts.append((own.T @ own, own.T @ values, (values**2).sum(axis=0), len(own)))

    def likelihood(of_tags: float, of_components: float) -> float:
        penalties = feature_map.penalties(of_tags, of_components)
        total = 0.0
        for gram, moments, squares, count in parts:
            lower = cholesky(gram + np.diag(penalties), lower=True)
            explained = (solve_triangular(lower, moments, lower=True) ** 2).sum(axis=0)
            noise = np.maximum(squares - explained, 1e-12 * count)
            spread = 2 * np.log(np.diag(lower)).sum() - np.log(penalties).sum()
            total -= 0.5 * (count * np.log(noise / count).sum() + len(squares) * spread)
        return total

    tags = components = len(LADDER) // 2
    for _ in range(ROUNDS):
        before = tags, components

        def of_components(place: int, tags: int = tags) -> float:
            return likelihood(LADDER[tags], LADDER[place])

        components = _climbed(of_components, components)

        def of_tags(place: int, components: int = components) -> float:
            return likelihood(LADDER[place], LADDER[components])

        if feature_map.n_tags > 1:
            tags = _climbed(of_tags, tags)
        if (tags, components) == before:
            break
    return LADDER[tags], LADDER[components]


def _climbed(likelihood: Callable[[int], float], place: int) -> int:
    """Return the place on the ladder from which no step leads up."""
    known = {place: likelihood(place)}
    while True:
        near = [other for other in (place - 1, place + 1) if 0 <= other < len(LADDER)]
        known |= {other: likelihood(other) for other in near if other not in known}
        best = max((place, *near), key=lambda other: known[other])
        if best == place:
            return place
        place = best
