"""Items that came after the training: what is known of them without an interaction."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.graph.attributes import memberships
from symbiosis.graph.build import Graph


@dataclass(frozen=True)
class NewItems:
    """Texts of new items, and to which brands and categories of the graph they belong.

    Attributes
    ----------
    texts
        float32 (N, D), embeddings in the space of the other items', rows of length 1 or 0.
    brands, categories
        float32 (N, groups), 1 where the item is in a group of the graph.
    brand_offsets, category_offsets
        Of the graph, which give the sizes of the groups.
    """

    texts: np.ndarray
    brands: csr_array
    categories: csr_array
    brand_offsets: np.ndarray
    category_offsets: np.ndarray

    @classmethod
    def of(cls, items: pl.DataFrame, texts: np.ndarray, graph: Graph) -> "NewItems":
        """Find the groups of new items in a graph.

        Parameters
        ----------
        items
            Columns ``item`` (0, 1, 2, ...), ``brand``, ``categories``.
        texts
            Their embeddings.
        graph
            That of the training.
        """
        brands, categories = memberships(items, "brand", graph.brands), memberships(items, "category", graph.categories)
        return cls(texts, brands, categories, graph.brand_offsets, graph.category_offsets)

    @classmethod
    def none(cls, dimensions: int) -> "NewItems":
        """No new item."""
        nothing, offsets = csr_array((0, 0), dtype=np.float32), np.zeros(1, dtype=np.int64)
        return cls(np.zeros((0, dimensions), np.float32), nothing, nothing, offsets, offsets)

    def __len__(self) -> int:
        """Return the number of new items."""
        return len(self.texts)
