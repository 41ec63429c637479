"""The benchmark of decisions runs at a tiny size; how long anything takes is not asserted."""

import numpy as np

from bench import decision_methods, decision_queries, decisions


def test_tiny() -> None:
    lines: list[str] = []
    decisions.growth(lines.append, [2, 5], [32], queries=25)
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ") and line[2].isdigit()]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [("2", "64"), ("5", "64"), ("12", "32")]
    assert all(float(cell) > 0 for row in rows for cell in row[2:])


def test_one_query_is_decided_as_in_its_batch() -> None:
    router = decision_queries.router_of(5, 32)
    vectors = np.random.default_rng(1).standard_normal((30, 384)) / 384**0.5
    alone = decision_methods.bare(router, vectors, 200.0)
    together = decision_methods.in_batch(router, vectors, np.full((30, 5), 200.0))
    assert [alone(query) for query in range(30)] == together.tolist()
    assert together.min() < together.max()


def test_share_of_queries_that_are_routed_alike() -> None:
    router = decision_queries.router_of(5, 32)
    vectors = np.random.default_rng(1).standard_normal((40, 384)) / 384**0.5
    other = np.vstack([vectors[:30], -vectors[30:]])  # the first thirty are the same
    tokens = np.full((40, 5), 200.0)
    assert decision_methods.shares_alike((router, vectors), (router, vectors), tokens) == [1.0] * len(
        decision_methods.TRADE_OFFS
    )
    shares = decision_methods.shares_alike((router, vectors), (router, other), tokens)
    for trade_off, share in zip(decision_methods.TRADE_OFFS, shares, strict=True):
        first, second = (
            decision_methods.in_batch(router, part[30:], tokens[30:], trade_off) for part in (vectors, other)
        )
        assert share == (30 + (first == second).sum()) / 40
    assert min(shares) < 1


def test_what_bfloat16_changes_is_told_in_the_worst_case() -> None:
    router = decision_queries.router_of(5, 32)
    exact = np.random.default_rng(1).standard_normal((40, 384))
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    lines: list[str] = []
    decisions.precisions(lines.append, router, router, exact, -exact, np.full((40, 5), 200.0))
    shares = decision_methods.shares_alike((router, exact), (router, -exact), np.full((40, 5), 200.0))
    assert f"| {100 * (1 - min(shares)):.1f} % of the queries |" in lines[2]
    assert min(shares) < 1
    assert "at least -1.000000" in lines[-1]
