"""What a router is made of: form, tags, dimension, leaves and weight decay; and how training queries are fitted so."""

from dataclasses import dataclass

import numpy as np

from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.fitting.fitting import (
    Offline,
    PredictorFit,
    average,
    fit_forest,
    fit_linear,
    fit_network,
    fit_stacked,
)
from symbiosis.routing.metrics.utility import cost_scale_of
from symbiosis.routing.model.features import draw_folds, fit
from symbiosis.routing.model.params import AUTO, Predictor, RouterTrainParams, Tags, parts_of
from symbiosis.routing.queries.tags import cluster_tags, groups_of, number_tags

LEAF = 5  # of the trees where nothing is left to choose
DECAY = 1.5  # of the network, likewise


@dataclass(frozen=True)
class Setting:
    """What a candidate is.

    Attributes
    ----------
    predictor, tags
        The form, and the source of tags.
    dimension
        Principal components.
    minimum_leaf
        Least queries in a leaf of the trees; None without any.
    decay
        Weight decay of the network; None without one.
    """

    predictor: Predictor
    tags: Tags
    dimension: int
    minimum_leaf: int | None = None
    decay: float | None = None

    @property
    def name(self) -> str:
        """Names the candidate in files and reports."""
        leaf = "" if self.minimum_leaf is None else f" leaf {self.minimum_leaf}"
        decay = "" if self.decay is None else f" decay {self.decay:g}"
        return f"{self.predictor} {self.tags} {self.dimension}{leaf}{decay}"

    def params(self, params: RouterTrainParams) -> RouterTrainParams:
        """Return the params with this in place of ``auto``."""
        leaf = params.forest.minimum_leaf if self.minimum_leaf is None else self.minimum_leaf
        decay = params.network.decay if self.decay is None else self.decay
        return params.model_copy(
            update={
                "predictor": self.predictor,
                "tags": self.tags,
                "dimension": self.dimension,
                "forest": params.forest.model_copy(update={"minimum_leaf": LEAF if leaf == AUTO else leaf}),
                "network": params.network.model_copy(update={"decay": DECAY if decay == AUTO else decay}),
            }
        )


def tags_of(split: Split, params: RouterTrainParams, tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Return the tag of every query, (N,), and the group of every tag, (T, G), from one of the sources."""
    one_group = [""] * len(split)
    if tags == "none":
        return np.zeros(len(split), dtype=np.int64), np.ones((1, 1))
    if tags == "clusters":
        return cluster_tags(split.embeddings, params.clusters, params.seed)
    numbers, _ = number_tags(
        split.domains, split.subdomains if tags == "subdomain" else split.domains, params.minimum_tag
    )
    return numbers, groups_of(numbers, split.domains if tags == "subdomain" else one_group)


def prepare(
    split: Split, params: RouterTrainParams, tags: Tags, numbered: tuple[np.ndarray, np.ndarray] | None = None
) -> Offline:
    """Compute the features of training queries under one source of tags.

    `params` say the dimension; `numbered` is what `tags_of` gives where it is at hand.
    """
    if params.dimension == AUTO:
        raise AssertionError("a choice leaves no dimension open")
    folds = draw_folds(len(split), params.seed)
    numbers, groups = tags_of(split, params, tags) if numbered is None else numbered
    feature_map, crossed = fit(split.embeddings, numbers, groups, params.dimension, folds)
    told = feature_map.told(split.embeddings, numbers)
    return Offline(feature_map, crossed, told, numbers, folds, split.outcomes)


def fit_predictor(predictor: Predictor, offline: Offline, llms: Llms, params: RouterTrainParams) -> PredictorFit:
    """Fit one family of predictors to training queries."""
    if "+" in predictor:
        return average({part: fit_predictor(part, offline, llms, params) for part in parts_of(predictor)})
    trees, minimum_leaf, decay = params.forest.trees, params.forest.minimum_leaf, params.network.decay
    if minimum_leaf == AUTO:
        minimum_leaf = LEAF
    if predictor == "forest":
        return fit_forest(offline, trees, minimum_leaf, params.seed)
    penalties = params.tag_penalties, params.component_penalties
    cost_scale = cost_scale_of(offline.table_outcomes)
    if predictor == "linear":
        return fit_linear(offline, llms, cost_scale, *penalties)
    if predictor == "network":
        decay = DECAY if decay == AUTO else decay
        return fit_network(offline, llms, cost_scale, *penalties, params.network.steps, decay, params.seed)
    return fit_stacked(offline, llms, cost_scale, *penalties, trees, minimum_leaf, params.seed)
