"""Links between items for ranking candidates: how strongly an item that a user took speaks for each other item.

Two kinds. What items have in common, whoever took them (`ItemContent`), and what users did (`ItemLinks`). The latter is
fitted on some of the users, so that what is learned from a user's own items can use the links of the other users.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_array, diags_array, vstack

from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.data.training_data import TrainingData, count_steps
from symbiosis.recommender.metrics.ranking import strongest, tie_order
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.network.walks import walk_links

LINKS = ("walk", "long walk", "next", "previous", "text walk", "walk text", "text next")
"""``long walk``: two walks one after the other. ``next``, ``previous``: steps in order of time. The last three: to an
item with a similar text and on from there, or the other way round."""

_TEXT_DIMENSION = 128
_ALPHA, _WALKS = 0.3, 500
_NEIGHBOURS, _ONWARD, _KEPT = 40, 100, 200
"""Links of an item that a second step starts from, links of each of these, and links kept of both steps."""
_ROWS = 128
_HALVING = 0.5
"""Weight of a step over one item more."""


@dataclass(frozen=True)
class ItemContent:
    """What items have in common.

    Attributes
    ----------
    relations
        Texts, brands and categories.
    alike
        float32 (I, I), squared cosines of the texts, the nearest neighbours of every item.
    """

    relations: Relations
    alike: csr_array

    @classmethod
    def of(cls, data: TrainingData, seed: int, texts: np.ndarray | None = None) -> "ItemContent":
        """Of the items' metadata; without any, no item is like another.

        Parameters
        ----------
        data
            Interactions and metadata.
        seed
            Of the embedding of the texts.
        texts
            float32 (I, D), embedded already: rows of length 1 or 0; by TF-IDF if not given.
        """
        n_users, n_items = data.interactions.shape
        texts = data.text_vectors(_TEXT_DIMENSION, seed) if texts is None else texts
        if data.items is None:
            none = csr_array((n_items, 1), dtype=np.float32)
            return cls(Relations(texts, none, none), csr_array((n_items, n_items), dtype=np.float32))
        taken = data.interactions.tocoo()
        edges = pl.DataFrame({"user": taken.row, "item": taken.col}).cast(pl.UInt32)
        numbered = data.items.with_row_index("item")
        graph = build_graph(n_users, numbered, edges, BuildGraphParams(minimum_group=2, maximum_group_share=0.5))
        return cls(Relations.of(graph, texts), _alike(texts))


@dataclass(frozen=True)
class ItemLinks:
    """What users did, as far as it leads from item to item.

    Attributes
    ----------
    matrices
        By name, `LINKS`: float32 (I, I), row: an item of the user, column: a candidate.
    users
        float32 (I,), users of each item, scaled up to all users.
    lasts
        float32 (I,), those of them whose latest item it is; zeros if the order of items shall mean nothing.
    """

    matrices: dict[str, csr_array]
    users: np.ndarray
    lasts: np.ndarray


def fit_links(sequences: csr_array, chosen: np.ndarray, content: ItemContent, directed: bool, seed: int) -> ItemLinks:
    """Fit the links on some of the users.

    Parameters
    ----------
    sequences
        (U, I); the stored entries of a user stand in order of time.
    chosen
        int, the users to learn from.
    content
        For links that lead over similar texts.
    directed
        Whether the order of two items means anything; if not, steps count both ways.
    seed
        Of the order of ties.
    """
    part = sequences[chosen]
    taken = csr_array((np.ones(part.nnz, np.float32), part.indices, part.indptr), shape=part.shape, copy=True)
    n_items = part.shape[1]
    scale = sequences.shape[0] / max(1, len(chosen))
    walk = walk_links(taken, _ALPHA, 0, _WALKS, tie_order(n_items, seed)).astype(np.float32)
    steps = count_steps(part, _HALVING)
    steps.setdiag(0)
    if not directed:
        steps = csr_array(steps + steps.T)
    leaving, near = _by_root_of_rows(steps), strongest_links(walk, _NEIGHBOURS)
    onward, alike = strongest_links(walk, _ONWARD), strongest_links(content.alike, _NEIGHBOURS // 2)
    matrices = {
        "walk": walk,
        "long walk": two_steps(near, onward),
        "next": leaving,
        "previous": _by_root_of_rows(csr_array(steps.T)),
        "text walk": two_steps(alike, onward),
        "walk text": two_steps(near, alike),
        "text next": two_steps(alike, leaving),
    }
    ends = part.indices[part.indptr[1:][np.diff(part.indptr) > 0] - 1]
    lasts = np.bincount(ends, minlength=n_items) * scale if directed else np.zeros(n_items)
    counts = np.bincount(part.indices, minlength=n_items) * scale
    return ItemLinks(matrices, counts.astype(np.float32), lasts.astype(np.float32))


def two_steps(first: csr_array, second: csr_array) -> csr_array:
    """Follow a link and then another; the strongest of an item are kept, no item leads to itself.

    Parameters
    ----------
    first, second
        float32 (I, I).

    Returns
    -------
    float32 csr_array of shape (I, I)
    """
    blocks = []
    for start in range(0, first.shape[0], _ROWS):
        dense = (first[start : start + _ROWS] @ second).toarray()
        dense[np.arange(len(dense)), np.arange(start, start + len(dense))] = 0
        blocks.append(_strongest_of(dense, _KEPT))
    return csr_array(vstack(blocks, format="csr"))


def best_cells(dense: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the largest numbers of every row; of equal ones, those in the first columns.

    Parameters
    ----------
    dense
        float32 (B, I).
    count
        At most I.

    Returns
    -------
    np.ndarray, np.ndarray
        int64, rows and columns of the cells, by row and then from the largest.

    Examples
    --------
    >>> best_cells(np.array([[1, 3, 3, 2], [0, 0, 5, 0]], np.float32), 2)
    (array([0, 0, 1, 1]), array([1, 2, 2, 0]))
    """
    place = dense.shape[1] - count
    # Values alone are partitioned several times faster than their places, above all with many equal ones.
    rows, columns = np.nonzero(dense >= np.partition(dense, place, axis=1)[:, place, None])
    kept = strongest(rows, dense[rows, columns], count, -columns)
    return rows[kept], columns[kept]


def strongest_links(links: csr_array, count: int) -> csr_array:
    """Keep the strongest links of every item; of equal ones, those to the items of smaller number."""
    rows = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
    order = np.lexsort((links.indices, -links.data, rows))
    kept = order[np.arange(len(order)) - links.indptr[rows] < count]
    return csr_array((links.data[kept], (rows[kept], links.indices[kept])), shape=links.shape)


def _by_root_of_rows(steps: csr_array) -> csr_array:
    sums = np.maximum(np.asarray(steps.sum(axis=1)).ravel(), 1)
    return csr_array(diags_array(sums**-0.5) @ steps).astype(np.float32)


def _alike(texts: np.ndarray) -> csr_array:
    """Squared cosines of unit vectors, the strongest of every item; negative ones are left out."""
    blocks = []
    for start in range(0, len(texts), _ROWS):
        cosines = np.maximum(texts[start : start + _ROWS] @ texts.T, 0)
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = 0
        blocks.append(_strongest_of(np.square(cosines, out=cosines), _ONWARD))
    return csr_array(vstack(blocks, format="csr"))


def _strongest_of(dense: np.ndarray, count: int) -> csr_array:
    """Keep the largest numbers of every row; none is negative, and none that is 0 is kept."""
    if count < dense.shape[1]:
        place = dense.shape[1] - count
        # Partitioning many equal numbers is ten times slower: zeros are told apart.
        apart = -np.random.default_rng(0).permutation(dense.shape[1]).astype(np.float32)
        least = np.partition(np.where(dense > 0, dense, apart), place, axis=1)[:, place, None]
        dense[dense < least] = 0
    rows, columns = np.nonzero(dense)
    kept = strongest(rows, dense[rows, columns], count, -columns)
    rows, columns = rows[kept], columns[kept]
    return csr_array((dense[rows, columns], (rows, columns)), shape=dense.shape)
