"""The connectivity score R by hop distance: what the attention adds between two ID tokens (arXiv 2402.09617).

The paper's equation 4 adds adjacency and a damped, inverted, normalised shortest path; its released code clips the
distance and normalises twice (docs/methods.md, section 1.2). R depends on the distance alone, so a table of 256
entries replaces the matrix over all pairs of nodes.
"""

from collections.abc import Collection

import numpy as np

UNREACHABLE = 255
"""The stored distance of a pair without a path."""


def connectivity_table(occurring: Collection[int], clip: int, damping: float) -> np.ndarray:
    """R of every distance: ``minmax(A + damping * minmax(max(clip - D, 0)))``.

    ``D`` is the distance, infinite where there is no path, and ``A`` is 1 at distance 1, else 0. Both min-max steps
    run over all pairs of nodes, a node with itself included, and so depend on the distances that occur: only if some
    pair is `clip` or more hops apart is the smallest score 0. Damping 1 is the released formula; with clip 6 and such
    a pair it gives 6/11, 1, 4/11, 3/11, 2/11, 1/11 for the distances 0 to 5 and 0 beyond.

    Parameters
    ----------
    occurring
        Every distance between two nodes of the graph, `UNREACHABLE` for no path; two users and a node with itself
        (distance 0) count too.
    clip
        Distances from here on score 0.
    damping
        Weight of the path against the edge, in (0, 1].

    Returns
    -------
    float32 array of shape (256,)
        Indexed by the stored distance. A distance that does not occur has a value in [0, 1] without meaning. All
        zeros if every pair has the same score, where min-max is undefined: such a bias would change no attention.
    """
    hops = np.arange(UNREACHABLE + 1, dtype=np.float64)
    hops[UNREACHABLE] = np.inf
    present = np.unique([0, *occurring])
    path = _minmax(np.maximum(clip - hops, 0.0), present)
    return np.clip(_minmax((hops == 1) + damping * path, present), 0.0, 1.0).astype(np.float32)


def _minmax(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    smallest, largest = values[present].min(), values[present].max()
    if smallest == largest:
        return np.zeros_like(values)
    return (values - smallest) / (largest - smallest)
