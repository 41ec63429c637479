"""The benchmark of decisions runs at a tiny size; how long anything takes is not asserted."""

import numpy as np

from bench import decisions


def test_tiny() -> None:
    lines: list[str] = []
    decisions.growth(lines.append, [2, 5], [32], queries=25)
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ") and line[2].isdigit()]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [("2", "64"), ("5", "64"), ("12", "32")]
    assert all(float(cell) > 0 for row in rows for cell in row[2:])


def test_one_query_is_decided_as_in_its_batch() -> None:
    router = decisions.router_of(5, 32)
    vectors = np.random.default_rng(1).standard_normal((30, 384)) / 384**0.5
    alone = decisions.bare(router, vectors, 200.0)
    together = decisions.in_batch(router, vectors, np.full((30, 5), 200.0))
    assert [alone(query) for query in range(30)] == together.tolist()
    assert together.min() < together.max()
