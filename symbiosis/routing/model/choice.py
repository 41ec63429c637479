"""Choose the family of predictors and the source of tags by cross-validation on the training queries.

Which family routes best differs from table to table, and so does whether the data set's labels help. Everything is
judged as the penalties are: by the area under the quality-cost curve (AIQ) that predictions for held-out queries reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.metrics.utility import cost_scale_of
from symbiosis.routing.model.features import draw_folds, fit
from symbiosis.routing.model.fitting import Offline, PredictorFit, fit_forest, fit_linear, fit_stacked, judge
from symbiosis.routing.model.forests import Forest
from symbiosis.routing.model.params import PREDICTORS, TAGS, Predictor, RouterTrainParams, Tags
from symbiosis.routing.model.predictors import QUALITY
from symbiosis.routing.queries.tags import cluster_tags, groups_of, number_tags

TIE = 0.001  # AIQ: a candidate must be better by more than this than every simpler one


@dataclass(frozen=True)
class Candidate:
    """A family of predictors on one source of tags, as cross-validation judged it.

    Attributes
    ----------
    predictor, tags
        Which.
    brier, aiq
        Of held-out queries.
    """

    predictor: Predictor
    tags: Tags
    brier: float
    aiq: float

    def report(self) -> dict[str, Any]:
        """Return the numbers for ``reports/router_train.json``."""
        return {
            "predictor": self.predictor,
            "tags": self.tags,
            "brier": rounded(self.brier),
            "aiq": rounded(self.aiq),
        }


@dataclass(frozen=True)
class PredictorChoice:
    """What was chosen, and on what grounds.

    Attributes
    ----------
    params
        With the chosen predictor and tags in place of ``auto``.
    tried
        Every candidate that was judged, simplest first; empty if nothing was left to choose.
    queries
        How many training queries were used.
    fit
        The chosen predictors if they were fitted to all training queries on the way.
    """

    params: RouterTrainParams
    tried: tuple[Candidate, ...]
    queries: int
    fit: tuple[Offline, PredictorFit] | None

    def report(self) -> dict[str, Any]:
        """Return the chosen candidate, the runner-up and all others; nothing if nothing was left to choose."""
        if not self.tried:
            return {}
        picked = self.params.predictor, self.params.tags
        chosen = next(one for one in self.tried if (one.predictor, one.tags) == picked)
        others = sorted((one for one in self.tried if one is not chosen), key=lambda one: -one.aiq)
        return {
            "choice": {
                "chosen": chosen.report(),
                **({"runner_up": others[0].report()} if others else {}),
                "tried": [one.report() for one in self.tried],
                "queries": self.queries,
                "trees": self.params.choice.trees,
            }
        }


def tags_of(split: Split, params: RouterTrainParams, tags: Tags) -> tuple[np.ndarray, np.ndarray]:
    """Return the tag of every query, (N,), and the group of every tag, (T, G), from one of the sources."""
    one_group = [""] * len(split)
    if tags == "none":
        return np.zeros(len(split), dtype=np.int64), np.ones((1, 1))
    if tags == "clusters":
        numbers = cluster_tags(split.embeddings, params.clusters, params.seed)
        return numbers, groups_of(numbers, one_group)
    numbers, _ = number_tags(
        split.domains, split.subdomains if tags == "subdomain" else split.domains, params.minimum_tag
    )
    return numbers, groups_of(numbers, split.domains if tags == "subdomain" else one_group)


def prepare(split: Split, params: RouterTrainParams, tags: Tags) -> Offline:
    """Compute the features of training queries under one source of tags."""
    folds = draw_folds(len(split), params.seed)
    numbers, groups = tags_of(split, params, tags)
    feature_map, crossed = fit(split.embeddings, numbers, groups, params.dimension, folds)
    told = feature_map.told(split.embeddings, numbers)
    return Offline(feature_map, crossed, told, numbers, folds, split.outcomes)


def fit_predictor(
    predictor: Predictor, tags: Tags, offline: Offline, llms: Llms, params: RouterTrainParams
) -> PredictorFit:
    """Fit one family of predictors to training queries."""
    trees, minimum_leaf = params.forest.trees, params.forest.minimum_leaf
    if predictor == "forest":
        return fit_forest(offline, trees, minimum_leaf, params.seed)
    # Labels carry most of what the heads learn. Without them the components must, so weaker penalties are tried too.
    labelled = tags in ("domain", "subdomain")
    components = params.component_penalties if labelled else params.component_penalties_without_labels
    penalties = params.tag_penalties if offline.feature_map.n_tags > 1 else params.tag_penalties[:1], components
    cost_scale = cost_scale_of(offline.table_outcomes)
    if predictor == "linear":
        return fit_linear(offline, llms, cost_scale, *penalties)
    return fit_stacked(offline, llms, cost_scale, *penalties, trees, minimum_leaf, params.seed)


def choose(split: Split, llms: Llms, params: RouterTrainParams) -> PredictorChoice:
    """Replace ``auto`` by what routes held-out training queries best.

    First the tags, judged with the linear predictor, which is the cheapest; then, on those tags, the predictor. A
    richer candidate is taken only if it is better than the simpler ones by more than `TIE`. The budget is
    ``router_train.choice``: a maximum of training queries, drawn at random, and of trees in each forest.

    Parameters
    ----------
    split
        The training queries.
    llms
        The LLMs.
    params
        Of the router.
    """
    if params.predictor != "auto" and params.tags != "auto":
        return PredictorChoice(params, (), 0, None)
    small, budget = split, params.choice
    if len(split) > budget.queries:
        drawn = np.random.default_rng(params.seed).choice(len(split), budget.queries, replace=False)
        small = split.take(np.sort(drawn))
    limits = {"forest": params.forest.model_copy(update={"trees": min(budget.trees, params.forest.trees)})}
    cheap = params.model_copy(update=limits)
    sources: tuple[Tags, ...] = TAGS if params.tags == "auto" else (params.tags,)
    if params.tags == "auto" and tags_of(small, params, "subdomain")[0].max() == 0:
        sources = tuple(tags for tags in sources if tags != "subdomain")
    families: tuple[Predictor, ...] = PREDICTORS if params.predictor == "auto" else (params.predictor,)
    cost_scale = cost_scale_of(small.outcomes)
    linear: dict[Tags, tuple[Offline, PredictorFit]] = {}
    tried: list[Candidate] = []
    for tags in sources:
        offline = prepare(small, cheap, tags)
        linear[tags] = offline, fit_predictor("linear", tags, offline, llms, cheap)
        tried.append(Candidate("linear", tags, **judge(linear[tags][1].held_out, small.outcomes, llms, cost_scale)))
    best = simplest_of_best(tried)
    offline, base = linear[best.tags]
    for family in families:
        if family == "linear":
            continue
        if family == "stacked":
            held_out = fit_predictor(family, best.tags, offline, llms, cheap).held_out
        else:
            held_out = _forests(base.held_out, offline, cheap)
        tried.append(Candidate(family, best.tags, **judge(held_out, small.outcomes, llms, cost_scale)))
    on_tags = [one for one in tried if one.tags == best.tags and one.predictor in families]
    chosen = simplest_of_best(on_tags)
    given = params.model_copy(update={"predictor": chosen.predictor, "tags": chosen.tags})
    reusable = small is split and chosen.predictor == "linear"
    return PredictorChoice(given, tuple(tried), len(small), linear[chosen.tags] if reusable else None)


def simplest_of_best(candidates: list[Candidate]) -> Candidate:
    """Return the first candidate, simplest first, that no other beats by more than `TIE`."""
    top = max(one.aiq for one in candidates)
    return next(one for one in candidates if one.aiq >= top - TIE)


def _forests(linear: np.ndarray, offline: Offline, params: RouterTrainParams) -> np.ndarray:
    """Return out-of-bag quality of a forest per LLM, with the linear predictor's lengths (N, L, 2), which cost less."""
    held_out = linear.copy()
    for arm in range(linear.shape[1]):
        quality, seed = offline.outcomes.quality[:, arm], params.seed + 2 * arm
        fitted = Forest.fit(offline.crossed, quality, params.forest.trees, params.forest.minimum_leaf, seed)
        held_out[:, arm, QUALITY] = fitted[1]
    return held_out
