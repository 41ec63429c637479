"""The k-core of edges on disk: the largest set of sufficient degrees, in however many parts."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.reviews.streaming.cores import Part, shrink_to_core

edges = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=60, unique=True)


def fixpoint(pairs: list[tuple[int, int]], core: int) -> set[tuple[int, int]]:
    """Remove every edge of too small a degree, again and again."""
    left = set(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        stays = {(u, i) for u, i in left if users[u] >= core and items[i] >= core}
        if stays == left:
            return left
        left = stays


@given(edges, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_that_of_the_naive_fixpoint(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], core: int, count: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    parts = []
    for number in range(count):
        mine = [(line, *pair) for line, pair in enumerate(pairs) if pair[0] % count == number]
        lines, users, items = np.array(mine, dtype=np.int64).reshape(-1, 3).T
        parts.append(Part.write(folder / f"{number}.npy", users // count, items, lines, 9))
    removed: list[int] = []
    shrink_to_core(parts, 9, core, removed.append)
    kept = np.concatenate([part.edges()[2] for part in parts]).tolist()
    assert {pairs[line] for line in kept} == fixpoint(pairs, core)
    assert sum(removed) == len(pairs) - len(kept)
    assert sum(part.n_edges for part in parts) == len(kept)


def test_an_edge_keeps_its_line(tmp_path: Path) -> None:
    part = Part.write(tmp_path / "edges.npy", np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([7, 9, 4]), 2)
    shrink_to_core([part], 2, 1)
    assert part.edges().tolist() == [[0, 0, 1], [0, 1, 0], [7, 9, 4]]
