"""How two tokens of a prompt are related in the graph, the prompt's own user left out.

Shortest paths carry no information in a prompt: it holds a user and the user's own items, which are one hop from the
user and, through the user, two hops from each other (docs/methods.md, section 1.11, F1). Here every feature of a pair
(docs/methods.md, section 1.4) is that of the graph without the user's edges. So features differ between pairs and
reveal nothing of the user's other items: those hidden from the prompt change nothing. Items of a row that its user did
not take in the graph, such as his newest ones and those of a guest, count as his, too.

======================  =======================================================================================
pair                    features, each in buckets
======================  =======================================================================================
a node with itself      one bucket
two items               number of other users who took both; same brand; categories in common; hops (2, 4, more)
a user and an item      users who link the item to those of the user's items that the prompt has named so far
                        (paths of three hops); hops (3, more)
======================  =======================================================================================
"""

import copy

import numpy as np
from scipy.sparse import csr_array, vstack

from symbiosis.graph.build import Graph

COUNTS = 7
"""Buckets of a count: 0, 1, 2, 3 to 4, 5 to 8, 9 to 16, more."""

FEATURES = 4
"""Buckets that a pair has at most."""

_PAIRS = 2048
"""Pairs of items whose common neighbours are looked for at once: bounds memory."""

_SIZES = {
    "none": 1,  # fills up pairs with fewer features
    "self": 1,
    "other users of both": COUNTS,
    "same brand": 2,
    "categories in common": 3,
    "hops between items": 3,
    "paths from the user": COUNTS,
    "hops from the user": 2,
}
_FIRST = dict(zip(_SIZES, np.cumsum([0, *_SIZES.values()]).tolist(), strict=False))

BUCKETS = sum(_SIZES.values())
"""Buckets of all features; 0 is no feature."""


def bucket_names() -> list[str]:
    """Name every bucket, in order."""
    counts = ["0", "1", "2", "3 to 4", "5 to 8", "9 to 16", "over 16"]
    values = {
        "other users of both": counts,
        "same brand": ["no", "yes"],
        "categories in common": ["0", "1", "over 1"],
        "hops between items": ["2", "4", "over 4"],
        "paths from the user": counts,
        "hops from the user": ["3", "over 3"],
    }
    return [f"{name}: {value}" if value else name for name in _SIZES for value in values.get(name, [""])]


class PairFeatures:
    """Buckets of pairs of tokens, gathered from sparse relations; nothing is stored node by node.

    Parameters
    ----------
    graph
        The train-only graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.n_users, self.n_items = graph.n_users, graph.n_items
        self.train = graph.interactions().astype(np.int32)
        common = (self.train.T @ self.train).tocsr()
        common.setdiag(0)
        common.eliminate_zeros()
        common.sort_indices()
        self.common = common
        self._keys = _rows_of(common) * self.n_items + common.indices
        self._edges = _rows_of(self.train) * self.n_items + self.train.indices
        self.brand = np.full(self.n_items, -1)
        self.brand[graph.brand_items] = np.repeat(np.arange(len(graph.brands)), np.diff(graph.brand_offsets))
        n_categories = len(graph.categories)
        members = (np.ones(len(graph.category_items), np.int32), graph.category_items, graph.category_offsets)
        self.categories = csr_array(members, shape=(n_categories, self.n_items)).T.tocsr()

    def __call__(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Buckets of all pairs of tokens of each row whose key does not stand after the query.

        Parameters
        ----------
        nodes
            int (rows, slots): the user and item tokens of each row in their order, users ``0 .. U-1``, then items,
            filled up with -1. Where a row names a user, its items are his.

        Returns
        -------
        row, query, key : int64 arrays of shape (pairs,)
            Where each pair stands in `nodes`.
        buckets : int64 array of shape (pairs, FEATURES)
        """
        is_user, is_item = (nodes >= 0) & (nodes < self.n_users), nodes >= self.n_users
        named = np.asarray(is_user.any(axis=1))
        user = np.where(named, nodes[np.arange(len(nodes)), is_user.argmax(axis=1)], -1)
        row, query, key = np.nonzero((nodes[:, :, None] >= 0) & (nodes[:, None, :] >= 0) & _not_after(nodes.shape[1]))
        first, second = nodes[row, query], nodes[row, key]
        buckets = np.zeros((len(row), FEATURES), dtype=np.int64)
        same = first == second
        buckets[same, 0] = _FIRST["self"]

        pair = np.flatnonzero(is_item[row, query] & is_item[row, key] & ~same)
        i, j = first[pair] - self.n_users, second[pair] - self.n_users
        edge = self._took(np.where(is_item, user[:, None], -1), nodes - self.n_users)
        took_i, took_j = edge[row[pair], query[pair]], edge[row[pair], key[pair]]
        shared = self._others(i, j, took_i & took_j)
        buckets[pair, 0] = _FIRST["other users of both"] + count_bucket(shared)
        buckets[pair, 1] = _FIRST["same brand"] + ((self.brand[i] == self.brand[j]) & (self.brand[i] >= 0))
        buckets[pair, 2] = _FIRST["categories in common"] + np.minimum(2, _overlap(self.categories, i, j))
        far = np.flatnonzero(shared == 0)
        hops = np.zeros(len(pair), dtype=np.int64)
        hops[far] = 2 - self._linked((i[far], j[far]), user[row[pair[far]]], (took_i[far], took_j[far]))
        buckets[pair, 3] = _FIRST["hops between items"] + hops

        # Paths from the user to an item lead through the items named up to the query: no later token is looked at.
        links = np.zeros((*nodes.shape, nodes.shape[1]), dtype=np.int64)
        links[row[pair], query[pair], key[pair]] = links[row[pair], key[pair], query[pair]] = shared
        paths = links.cumsum(axis=2)
        pair = np.flatnonzero(is_item[row, query] != is_item[row, key])
        item = np.where(is_item[row[pair], query[pair]], query[pair], key[pair])
        strength = paths[row[pair], item, query[pair]]
        buckets[pair, 0] = _FIRST["paths from the user"] + count_bucket(strength)
        buckets[pair, 1] = _FIRST["hops from the user"] + (strength == 0)
        return row, query, key, buckets

    def extended(self, users: int, brands: csr_array, categories: csr_array) -> "PairFeatures":
        """Return the same with more users and items, which no interaction links to anything.

        Parameters
        ----------
        users
            How many are added.
        brands, categories
            (new items, groups), 1 where a new item is in a group of the graph.
        """
        more = copy.copy(self)
        more.n_users, more.n_items = self.n_users + users, self.n_items + brands.shape[0]
        more.train, more.common = self.train.copy(), self.common.copy()
        more.train.resize(more.n_users, more.n_items)
        more.common.resize(more.n_items, more.n_items)
        more._keys = _rows_of(more.common) * more.n_items + more.common.indices
        more._edges = _rows_of(more.train) * more.n_items + more.train.indices
        if not brands.shape[0]:
            return more
        codes = np.full(brands.shape[0], -1)
        item, group = brands.nonzero()
        codes[item] = group
        more.brand = np.concatenate([self.brand, codes])
        more.categories = csr_array(vstack([self.categories, categories.astype(np.int32)], format="csr"))
        return more

    def _took(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether the graph has the edge of a user and an item; -1 is no user."""
        if not len(self._edges):
            return np.zeros(user.shape, dtype=bool)
        wanted = user * self.n_items + item
        place = np.minimum(np.searchsorted(self._edges, wanted), len(self._edges) - 1)
        return np.asarray((self._edges[place] == wanted) & (user >= 0))

    def _others(self, i: np.ndarray, j: np.ndarray, named: np.ndarray) -> np.ndarray:
        """Users who took both items, without the row's own user where he did."""
        if not len(self._keys):
            return np.zeros(len(i), dtype=np.int64)
        wanted = i * self.n_items + j
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found = np.where(self._keys[place] == wanted, self.common.data[place], 0)
        return np.maximum(found.astype(np.int64) - named, 0)

    def _linked(
        self, items: tuple[np.ndarray, np.ndarray], user: np.ndarray, took: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Whether some item shares a user with each of the two, the row's own user left out: four hops."""
        linked = np.zeros(len(user), dtype=np.int64)
        for start in range(0, len(user), _PAIRS):
            part = slice(start, start + _PAIRS)
            own = self.train[np.maximum(user[part], 0)]
            reached = []
            for item, taken in zip(items, took, strict=True):
                others = (self.common[item[part]] - own * taken[part, None].astype(np.int32)).tocsr()
                others.data = (others.data > 0).astype(np.int32)
                others.eliminate_zeros()
                reached.append(others)
            linked[part] = reached[0].multiply(reached[1]).sum(axis=1) > 0
        return linked


def count_bucket(count: np.ndarray) -> np.ndarray:
    """Bucket of a count.

    Examples
    --------
    >>> count_bucket(np.array([0, 1, 2, 3, 4, 5, 16, 17, 900])).tolist()
    [0, 1, 2, 3, 3, 4, 5, 6, 6]
    """
    # The smallest power of two that is no less than the count.
    power = np.ceil(np.log2(np.maximum(count, 1))).astype(np.int64)
    return np.where(count > 0, np.minimum(1 + power, COUNTS - 1), 0)


def _rows_of(matrix: csr_array) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _overlap(members: csr_array, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Number of common columns of rows i and j."""
    overlap: np.ndarray = members[i].multiply(members[j]).sum(axis=1)
    return overlap


def _not_after(slots: int) -> np.ndarray:
    return np.tri(slots, dtype=bool)[None]
