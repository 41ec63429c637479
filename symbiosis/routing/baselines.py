"""Simple lines that a router must be compared with: predictions of quality and cost from offline outcomes."""

from collections.abc import Sequence

import numpy as np

from symbiosis.routing.outcomes import Outcomes


def label_means(offline: Outcomes, labels: Sequence[str], new_labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean quality and cost of each LLM over the offline queries with the same label (RouterBench's dataset mean).

    Parameters
    ----------
    offline
        Outcomes of N queries.
    labels, new_labels
        N labels, and the true labels of the M new queries, which no router would be told.

    Returns
    -------
    tuple of numpy.ndarray
        (M, L) each; over all queries for a label never seen.
    """
    known = {label: number for number, label in enumerate(sorted(set(labels)))}
    member = np.eye(len(known))[[known[label] for label in labels]]
    counts = member.sum(axis=0)[:, None]
    rows = np.array([known.get(label, len(known)) for label in new_labels])

    def look_up(values: np.ndarray) -> np.ndarray:
        means = np.vstack([member.T @ values / counts, values.mean(axis=0)])
        return np.asarray(means[rows])

    return look_up(offline.quality), look_up(offline.cost_usd)


def nearest_neighbours(
    offline: Outcomes, embeddings: np.ndarray, new_embeddings: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean quality and cost over the most similar offline queries (RouterBench; Li 2025, arXiv 2505.12601).

    Parameters
    ----------
    offline
        Outcomes of N queries.
    embeddings, new_embeddings
        (N, d) and (M, d), rows of length 1.
    neighbours
        How many.

    Returns
    -------
    tuple of numpy.ndarray
        (M, L) each.
    """
    neighbours = min(neighbours, len(embeddings))
    similarity = new_embeddings @ embeddings.T
    nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
    nearest.sort(axis=1)
    return offline.quality[nearest].mean(axis=1), offline.cost_usd[nearest].mean(axis=1)


def cluster_means(
    offline: Outcomes, embeddings: np.ndarray, new_embeddings: np.ndarray, clusters: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean quality and cost over the k-means cluster of a query (Avengers, arXiv 2508.12631).

    Parameters and results are as in `nearest_neighbours`.
    """
    from sklearn.cluster import KMeans

    model = KMeans(min(clusters, len(embeddings)), n_init=4, random_state=seed).fit(embeddings)
    own = [str(label) for label in model.labels_]
    return label_means(offline, own, [str(label) for label in model.predict(new_embeddings)])


def oracle(outcomes: Outcomes) -> np.ndarray:
    """Cheapest of the best LLMs of each query, knowing all outcomes, (N,)."""
    best = outcomes.quality.max(axis=1, keepdims=True)
    return np.where(outcomes.quality == best, outcomes.cost_usd, np.inf).argmin(axis=1)
