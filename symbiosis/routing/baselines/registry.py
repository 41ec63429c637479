"""The baselines by name."""

from symbiosis.routing.baselines.bandits import LinUCB, MetaLLM, Thompson
from symbiosis.routing.baselines.base import Baseline
from symbiosis.routing.baselines.cascades import AutoMix, FrugalGPT
from symbiosis.routing.baselines.classifiers import RouteLLMFactorisation, RouteLLMLogistic, Zooter
from symbiosis.routing.baselines.fixed import BestSingle, Cheapest, KnownClass, Oracle, Random, Zero
from symbiosis.routing.baselines.lookups import DomainMean, GlobalMean, KMeans, NearestNeighbours, SubdomainMean
from symbiosis.routing.baselines.optimisation import OptLLM
from symbiosis.routing.baselines.regressors import FORC, IRT, MLP, EmbedLLM, RandomForest, Ridge

BASELINES: dict[str, type[Baseline]] = {
    "random": Random,
    "cheapest": Cheapest,
    "best_single": BestSingle,
    "zero": Zero,
    "oracle": Oracle,
    "known_class": KnownClass,
    "global_mean": GlobalMean,
    "domain_mean": DomainMean,
    "subdomain_mean": SubdomainMean,
    "k_means": KMeans,
    "nearest_neighbours": NearestNeighbours,
    "ridge": Ridge,
    "random_forest": RandomForest,
    "mlp": MLP,
    "forc": FORC,
    "embed_llm": EmbedLLM,
    "irt": IRT,
    "route_llm_logistic": RouteLLMLogistic,
    "route_llm_factorisation": RouteLLMFactorisation,
    "zooter": Zooter,
    "frugal_gpt": FrugalGPT,
    "auto_mix": AutoMix,
    "opt_llm": OptLLM,
    "lin_ucb": LinUCB,
    "thompson": Thompson,
    "meta_llm": MetaLLM,
}
"""In the order of a table: each with its settings to be tried in its class attribute ``Params``."""
