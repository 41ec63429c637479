"""The k-core of edges that lie on disk, all of a user in one partition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Part:
    """The edges of some users, and of no others, on disk.

    Attributes
    ----------
    path
        Where they lie.
    n_users
        How many users there are.
    n_edges
        How many edges are left.
    """

    path: Path
    n_users: int
    n_edges: int

    @classmethod
    def write(cls, path: Path, users: np.ndarray, items: np.ndarray, lines: np.ndarray, n_users: int) -> "Part":
        """Write edges.

        Parameters
        ----------
        path
            Of the file to make.
        users
            (edges,), users of this part, numbered from 0.
        items
            (edges,), items of all parts, numbered from 0.
        lines
            (edges,), what each edge is known by.
        n_users
            Of this part.
        """
        part = cls(path, n_users, len(users))
        np.save(path, np.stack([users, items, lines]).astype(np.uint32))
        return part

    def edges(self) -> np.ndarray:
        """Return what is left: uint32 (3, edges), users, items and lines."""
        edges: np.ndarray = np.load(self.path)
        return edges

    def keep(self, edges: np.ndarray) -> None:
        """Leave these edges only."""
        self.n_edges = edges.shape[1]
        np.save(self.path, edges)


def shrink_to_core(
    parts: Sequence[Part], n_items: int, core: int, told: Callable[[int], object] = lambda _: None
) -> None:
    """Remove edges until every user and every item that has any has at least `core`.

    The largest such set is unique, in whatever order edges go. One part is in memory at a time, beside the number of
    edges of every item; each round reads what the last one left.

    Parameters
    ----------
    parts
        They are shrunk in place.
    n_items
        Numbers of items that the parts name.
    core
        Smallest degree.
    told
        Is called after every round with the number of edges that it removed.
    """
    of_item = np.zeros(n_items, dtype=np.int64)
    for part in parts:
        of_item += np.bincount(part.edges()[1], minlength=n_items)
    while True:
        removed = 0
        for part in parts:
            if not part.n_edges:
                continue
            edges = part.edges()
            stays = of_item[edges[1]] >= core
            of_user = np.bincount(edges[0][stays], minlength=part.n_users)
            stays &= of_user[edges[0]] >= core
            gone = part.n_edges - int(stays.sum())
            if gone:
                of_item -= np.bincount(edges[1][~stays], minlength=n_items)
                part.keep(edges[:, stays])
                removed += gone
        told(removed)
        if not removed:
            return
