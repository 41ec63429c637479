"""The baselines by name."""

from symbiosis.routing.baselines.base import Baseline
from symbiosis.routing.baselines.clusters import KMeans
from symbiosis.routing.baselines.fixed import BestSingle, Cheapest, Oracle, Random, Zero
from symbiosis.routing.baselines.linear import Ridge
from symbiosis.routing.baselines.means import DomainMean, GlobalMean, SubdomainMean
from symbiosis.routing.baselines.neighbours import NearestNeighbours

BASELINES: dict[str, type[Baseline]] = {
    "random": Random,
    "cheapest": Cheapest,
    "best_single": BestSingle,
    "zero": Zero,
    "oracle": Oracle,
    "global_mean": GlobalMean,
    "domain_mean": DomainMean,
    "subdomain_mean": SubdomainMean,
    "k_means": KMeans,
    "nearest_neighbours": NearestNeighbours,
    "ridge": Ridge,
}
"""In the order of a table: each with its settings to be tried in its class attribute ``Params``."""
