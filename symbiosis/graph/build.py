"""The train-only user-item graph with the brand and category relations between items."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array, read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import GRAPH_EDGES, ITEMS
from symbiosis.graph.attributes import item_attributes
from symbiosis.graph.edges import checked_edges

if TYPE_CHECKING:
    import networkx as nx

    from symbiosis.graph.params import BuildGraphParams


@dataclass(frozen=True)
class Graph:
    """Undirected, unweighted bipartite graph of users and items, and two groupings of the items.

    Each relation is in compressed sparse row form: the neighbours of row ``r`` are
    ``columns[offsets[r] : offsets[r + 1]]``, ascending and without repetition.

    Attributes
    ----------
    user_offsets, user_items
        Items of each user; int64 of shape (users + 1,) and int32 of shape (interactions,).
    item_offsets, item_users
        The same edges from the items' side; int64 of shape (items + 1,) and int32 of shape (interactions,).
    brands, categories
        Names of the groups, ascending.
    brand_offsets, brand_items, category_offsets, category_items
        Items of each group; int64 of shape (groups + 1,) and int32.
    """

    user_offsets: np.ndarray
    user_items: np.ndarray
    item_offsets: np.ndarray
    item_users: np.ndarray
    brands: tuple[str, ...]
    brand_offsets: np.ndarray
    brand_items: np.ndarray
    categories: tuple[str, ...]
    category_offsets: np.ndarray
    category_items: np.ndarray

    @property
    def n_users(self) -> int:
        """Number of users, with or without a training interaction."""
        return len(self.user_offsets) - 1

    @property
    def n_items(self) -> int:
        """Number of items, with or without a training interaction."""
        return len(self.item_offsets) - 1

    @property
    def n_edges(self) -> int:
        """Number of user-item edges."""
        return len(self.user_items)

    def save(self, folder: Path) -> None:
        """Write one ``.npy`` per array and ``names.json`` into an existing folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        write_json(folder / "names.json", {"brands": self.brands, "categories": self.categories})

    @classmethod
    def load(cls, folder: Path | str) -> "Graph":
        """Read and check a saved graph.

        Raises
        ------
        InputError
            A file is missing or damaged, or the arrays contradict each other; the file is named.
        """
        folder = Path(folder)
        arrays = {name: read_array(folder / f"{name}.npy") for name in _ARRAYS}
        names = read_json(folder / "names.json")
        if not (isinstance(names, dict) and all(isinstance(names.get(key), list) for key in ("brands", "categories"))):
            raise _damaged(folder / "names.json", "it must hold the lists `brands` and `categories`")
        graph = cls(**arrays, brands=tuple(names["brands"]), categories=tuple(names["categories"]))
        graph._check(folder)
        return graph

    def _check(self, folder: Path) -> None:
        relations = [
            ("user", "items", self.n_users, self.n_items),
            ("item", "users", self.n_items, self.n_users),
            ("brand", "items", len(self.brands), self.n_items),
            ("category", "items", len(self.categories), self.n_items),
        ]
        for row, column, n_rows, n_columns in relations:
            offsets, columns = getattr(self, f"{row}_offsets"), getattr(self, f"{row}_{column}")
            file = folder / f"{row}_offsets.npy"
            if offsets.dtype != np.int64 or offsets.shape != (n_rows + 1,):
                raise _damaged(file, f"it must be int64 of shape ({n_rows + 1},)")
            if offsets[0] != 0 or offsets[-1] != len(columns) or (np.diff(offsets) < 0).any():
                raise _damaged(file, f"its offsets must rise from 0 to {len(columns)}")
            file = folder / f"{row}_{column}.npy"
            if columns.dtype != np.int32 or columns.ndim != 1:
                raise _damaged(file, "it must be a row of int32")
            if len(columns) and not 0 <= columns.min() <= columns.max() < n_columns:
                raise _damaged(file, f"it names {column} outside 0..{n_columns - 1}")
            if (np.diff(_rows_of(offsets) * n_columns + columns) <= 0).any():
                raise _damaged(file, f"the {column} of a {row} must ascend without repetition")
        users, items = _compress(self.item_users, _rows_of(self.item_offsets), self.n_users)
        if not (np.array_equal(users, self.user_offsets) and np.array_equal(items, self.user_items)):
            raise _damaged(folder / "item_users.npy", "it holds other edges than user_items.npy")

    def interactions(self) -> csr_array:
        """Return the edges as a float32 matrix (U, I), 1 where the user took the item."""
        ones = np.ones(self.n_edges, np.float32)
        return csr_array((ones, self.user_items, self.user_offsets), shape=(self.n_users, self.n_items))

    def to_networkx(self) -> "nx.Graph":
        """Return the bipartite graph for inspection: node ``u`` is user ``u``, node ``n_users + i`` is item ``i``."""
        import networkx as nx  # a quarter of a second, for summaries only

        network = nx.Graph()
        network.add_nodes_from(range(self.n_users), bipartite="user")
        network.add_nodes_from(range(self.n_users, self.n_users + self.n_items), bipartite="item")
        users = _rows_of(self.user_offsets).tolist()
        network.add_edges_from(zip(users, (self.user_items + self.n_users).tolist(), strict=True))
        return network


_ARRAYS = tuple(field.name for field in fields(Graph) if field.type is np.ndarray)


def build_graph(n_users: int, items: pl.DataFrame, train: pl.DataFrame, params: "BuildGraphParams") -> Graph:
    """Build the graph from training interactions alone, so that no held-out edge can reach the model.

    Parameters
    ----------
    n_users
        Number of users; a user may be without a training interaction.
    items
        ``item``, ``brand`` and ``categories`` of every item, in any order.
    train
        ``user`` and ``item`` of every training interaction, in any order.
    params
        Smallest and largest size of a brand or category: one item relates nothing, and a group of nearly all items
        says nothing.

    Raises
    ------
    InputError
        There is no training interaction, one of them names an unknown user or item, or one is repeated.
    """
    n_items = len(items)
    if train.is_empty():
        raise InputError(f"{GRAPH_EDGES} holds no interaction: loosen the params of `clean`")
    edges = checked_edges(train.select("user", "item"), GRAPH_EDGES, n_users, n_items)
    if not np.array_equal(items["item"].sort().to_numpy(), np.arange(n_items)):
        raise InputError(f"{ITEMS} must number its items 0, 1, 2, ...: delete it and run `dvc repro`")
    users, taken = edges["user"].to_numpy(), edges["item"].to_numpy()
    user_offsets, user_items = _compress(users, taken, n_users)
    item_offsets, item_users = _compress(taken, users, n_items)
    attributes = item_attributes(items)
    brands, categories = (_groups(attributes.filter(kind=kind), n_items, params) for kind in ("brand", "category"))
    return Graph(user_offsets, user_items, item_offsets, item_users, *brands, *categories)


def summarise(graph: Graph) -> dict[str, Any]:
    """Count nodes, edges, components and degrees, for people to inspect; scipy finds the components."""
    from scipy.sparse import csgraph  # a tenth of a second, for summaries only

    nodes = graph.n_users + graph.n_items
    offsets = np.concatenate([graph.user_offsets, np.full(graph.n_items, graph.n_edges)])
    ones = np.ones(graph.n_edges, dtype=bool)
    network = csr_array((ones, graph.user_items + np.int32(graph.n_users), offsets), shape=(nodes, nodes))
    _, labels = csgraph.connected_components(network, directed=False)
    components = np.bincount(labels)
    return {
        "users": graph.n_users,
        "items": graph.n_items,
        "nodes": graph.n_users + graph.n_items,
        "edges": graph.n_edges,
        "density": round(graph.n_edges / (graph.n_users * graph.n_items), 8),
        "connected_components": len(components),
        "largest_component": int(components.max()),
        "isolated_users": int((np.diff(graph.user_offsets) == 0).sum()),
        "isolated_items": int((np.diff(graph.item_offsets) == 0).sum()),
        "items_per_user": _spread(graph.user_offsets),
        "users_per_item": _spread(graph.item_offsets),
        "brands": len(graph.brands),
        "items_per_brand": _spread(graph.brand_offsets),
        "categories": len(graph.categories),
        "items_per_category": _spread(graph.category_offsets),
    }


def _spread(offsets: np.ndarray) -> dict[str, float]:
    sizes = np.diff(offsets)
    if not len(sizes):
        return {}
    return {
        "minimum": int(sizes.min()),
        "median": float(np.median(sizes)),
        "mean": round(float(sizes.mean()), 4),
        "maximum": int(sizes.max()),
    }


def _groups(
    members: pl.DataFrame, n_items: int, params: "BuildGraphParams"
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, offsets and items of the groups of a permitted size; `members` has the columns ``item`` and ``name``."""
    largest = params.maximum_group_share * n_items
    kept = members.filter(pl.len().over("name").is_between(params.minimum_group, largest)).sort("name", "item")
    names = kept["name"].unique(maintain_order=True)
    rows = kept["name"].rle_id().to_numpy().astype(np.int64)
    return (tuple(names), *_compress(rows, kept["item"].to_numpy().astype(np.int64), len(names)))


def _compress(rows: np.ndarray, columns: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Compressed sparse rows of an edge list in any order."""
    order = np.lexsort((columns, rows))
    offsets = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=offsets[1:])
    return offsets, columns[order].astype(np.int32)


def _rows_of(offsets: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"{file} is damaged ({why}): delete its folder and run `dvc repro`")
