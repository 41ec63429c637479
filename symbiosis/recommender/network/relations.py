"""What two items have in common, whoever took them: texts, brands, categories."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array, vstack

from symbiosis.graph.build import Graph
from symbiosis.recommender.network.newcomers import NewItems

_ITEMS = 128
"""Items compared with all others at once: bounds memory, whatever the histories' length."""


@dataclass(frozen=True)
class Relations:
    """Likeness of items in compact form; no item-by-item matrix is stored.

    Attributes
    ----------
    texts
        float32 (I, D), text embeddings, rows of length 1 or 0; their likeness is the squared cosine, negative ones 0.
    brands, categories
        float32 (I, groups), the groups of each item, a group weighted by the root of the logarithm of its rarity; their
        likeness is the inner product. An item has several categories, and its row has length 1 or 0; it has one brand,
        whose rarity counts.
    """

    texts: np.ndarray
    brands: csr_array
    categories: csr_array

    @classmethod
    def of(cls, graph: Graph, texts: np.ndarray) -> "Relations":
        """Relations of a graph's brands and categories and of text embeddings, float32 (I, D)."""
        brands = _groups(graph.brand_items, graph.brand_offsets, graph.n_items)
        categories = _scaled(_groups(graph.category_items, graph.category_offsets, graph.n_items))
        return cls(texts.astype(np.float32), brands, categories)

    def extended(self, new: NewItems) -> "Relations":
        """Return the same with new items; the groups stay as rare as they were."""
        if not len(new):
            return self
        brands = _weighted(new.brands, new.brand_offsets, len(self.texts))
        categories = _scaled(_weighted(new.categories, new.category_offsets, len(self.texts)))
        return Relations(
            np.concatenate([self.texts, new.texts.astype(np.float32)]),
            csr_array(vstack([self.brands, brands], format="csr")),
            csr_array(vstack([self.categories, categories], format="csr")),
        )

    def flows(self, visible: csr_array, out: np.ndarray) -> None:
        """Sums of likeness to the visible items of each row.

        Parameters
        ----------
        visible
            float32 (B, I).
        out
            float32 (3, B, I), filled with those of texts, brands and categories.
        """
        named, columns = np.unique(visible.indices, return_inverse=True)
        taken = csc_array(csr_array((visible.data, columns, visible.indptr), shape=(visible.shape[0], len(named))))
        out[0] = 0
        for start in range(0, len(named), _ITEMS):
            part = slice(start, start + _ITEMS)
            likeness = self.texts[named[part]] @ self.texts.T
            np.square(np.maximum(likeness, 0, out=likeness), out=likeness)
            out[0] += taken[:, part] @ likeness
        for flow, groups in zip(out[1:], (self.brands, self.categories), strict=True):
            flow[:] = (groups @ (visible @ groups).T.toarray(order="C")).T


def _groups(items: np.ndarray, offsets: np.ndarray, n_items: int) -> csr_array:
    n_groups = len(offsets) - 1
    if not n_groups:
        return csr_array((n_items, 1), dtype=np.float32)
    members = csr_array((np.ones(len(items)), items, offsets), shape=(n_groups, n_items)).T.tocsr()
    return _weighted(members, offsets, n_items)


def _weighted(members: csr_array, offsets: np.ndarray, n_items: int) -> csr_array:
    """Weigh the groups of items by the sizes of the groups among `n_items`."""
    if len(offsets) == 1:
        return csr_array((members.shape[0], 1), dtype=np.float32)
    rarity = np.log(n_items / np.maximum(1, np.diff(offsets)))
    return csr_array(members @ diags_array(np.sqrt(rarity))).astype(np.float32)


def _scaled(rows: csr_array) -> csr_array:
    """Give rows length 1, or 0 where there is nothing."""
    lengths = np.sqrt(np.asarray(rows.power(2).sum(axis=1)).ravel())
    return csr_array(diags_array(1 / np.where(lengths > 0, lengths, 1).astype(np.float32)) @ rows)
