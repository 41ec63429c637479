"""Names of methods, and which baseline is the strongest."""

import pytest

from symbiosis.reporting.names import INFORMED, label, metric, strongest_baseline, told_apart
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.experiments.timed import WAITS_SEEN
from symbiosis.routing.experiments.waits import PENALTY


def test_labels_read_well() -> None:
    assert label("nearest_neighbours") == "nearest neighbours"
    assert label(f"k_means{WAITS_SEEN}") == "k-means, waits seen"
    assert label(PENALTY) == "router, MixLLM's waiting penalty"
    assert metric("ndcg@100") == "NDCG@100"
    assert not any("_" in label(name) for name in BASELINES)


def test_the_strongest_baseline_is_one_that_could_be_used() -> None:
    """Methods that see outcomes or true labels are references, other forms of the router no baselines."""
    assert INFORMED - {"subdomain_mean"} <= set(BASELINES)
    aiq = {"router": 0.8, "router_forest": 0.9, "oracle": 1.0, "domain_mean": 0.95, "mlp": 0.5, "ridge": 0.6}
    assert strongest_baseline(aiq) == "ridge"
    assert strongest_baseline({"router": 0.8, "oracle": 1.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.2, "above"), (-0.2, -0.1, "below"), (-0.1, 0.1, "not told apart from"), (0.0, 0.0, "not told apart from")],
)
def test_an_interval_with_zero_tells_nothing_apart(low: float, high: float, words: str) -> None:
    assert told_apart(low, high) == words
