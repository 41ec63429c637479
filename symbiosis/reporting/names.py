"""What methods are called on pages and in the terminal, in both halves."""

from collections.abc import Mapping

LABELS = {
    "recommender": "GPT-2 + graph",
    "recommender without re-ranking": "GPT-2 + graph, not re-ranked",
    "chance": "Chance",
    "popularity": "Popularity",
    "item_knn": "ItemKNN",
    "rp3beta": "RP3beta",
    "ease": "EASE",
    "slim": "SLIM",
    "ials": "iALS",
    "transitions": "Transitions",
    "tuned_hybrid": "Tuned hybrid",
    "boosting": "Boosting on the terms",
    "multi_vae": "Multi-VAE",
    "md_cvae": "MD-CVAE",
    "lightgcn": "LightGCN",
    "bert4rec": "BERT4Rec",
    "s3rec": "S3-Rec",
    "unisrec": "UniSRec",
    "fdsa": "FDSA",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "router_none": "router, no feedback",
    "router_refined": "router, refined feedback",
    "router_binary": "router, binary feedback",
    "router_without_penalty": "router, blind to waits",
    "router_forest": "router, forest per LLM (MixLLM's predictor)",
    "router_without_tags": "router without tags",
    "router_clusters": "router, tags from k-means",
    "router_waits_penalty": "router, MixLLM's waiting penalty",
    "router_waits_cycle": "router, worth per service cycle",
    "router_shuffled": "control: outcomes shuffled",
    "router_noise": "control: random vectors",
    "known_class": "latent class known (noise ceiling)",
    "router_without_labels": "router, no labels given",
    "domain_mean": "domain mean (true label)",
    "subdomain_mean": "sub-domain mean (true label)",
    "k_means": "k-means",
    "singles": "mix of single LLMs",
    "zero": "mix of single LLMs",
    "best_single": "best single LLM",
    "cheapest": "cheapest LLM",
    "random": "random LLM",
}
"""Methods whose key does not read well as it stands."""

WAITS_SEEN = "_waits_seen"
INFORMED = frozenset({"oracle", "known_class", "domain_mean", "subdomain_mean"})
"""Routing methods that see what no router can: the outcomes, or the true label of each test query."""


def label(method: str) -> str:
    """Return the name of a method."""
    if method.endswith(WAITS_SEEN):
        return f"{label(method.removesuffix(WAITS_SEEN))}, waits seen"
    return LABELS.get(method, method.replace("_", " "))


def metric(name: str) -> str:
    """Return the name of a metric of the recommender."""
    return (
        name.replace("recall", "Recall")
        .replace("ndcg", "NDCG")
        .replace("hr@", "HR@")
        .replace("mrr", "MRR")
        .replace("auc", "AUC")
        .replace("coverage", "Coverage")
    )


def strongest_baseline(aiq: Mapping[str, float]) -> str | None:
    """Return the routing baseline with the highest AIQ, routers and `INFORMED` methods left out; None without any."""
    rivals = [name for name in aiq if not name.startswith("router") and name not in INFORMED]
    return max(rivals, key=lambda name: aiq[name], default=None)


def told_apart(low: float, high: float) -> str:
    """Say what an interval of a lead means: ``above``, ``below`` or ``not told apart from``."""
    return "above" if low > 0 else "below" if high < 0 else "not told apart from"
