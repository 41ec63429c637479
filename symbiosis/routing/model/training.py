"""Train a router on full feedback: offline queries answered by every LLM."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.metrics.metrics import calibration_error, discrimination
from symbiosis.routing.model import calibration
from symbiosis.routing.model.features import draw_folds, fit
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.predictors import (
    LENGTH,
    QUALITY,
    Fitted,
    Offline,
    fit_forest,
    fit_lengths,
    fit_linear,
    fit_stacked,
)
from symbiosis.routing.model.ranges import Ranges
from symbiosis.routing.model.router import Router
from symbiosis.routing.queries.tags import cluster_tags, groups_of, number_tags

COST_QUANTILE = 0.999


def cost_scale_of(outcomes: Outcomes) -> float:
    """Dollars that count as 1: the 99.9th percentile of the cost of the dearest LLM; 1 if all are free."""
    dearest = outcomes.cost_usd.mean(axis=0).argmax()
    return float(np.quantile(outcomes.cost_usd[:, dearest], COST_QUANTILE)) or 1.0


def train(
    embeddings: np.ndarray,
    outcomes: Outcomes,
    llms: Llms,
    domains: Sequence[str],
    subdomains: Sequence[str | None],
    params: RouterTrainParams,
) -> tuple[Router, dict[str, Any]]:
    """Fit features, predictors, calibration and the cost scale.

    Parameters
    ----------
    embeddings
        (N, d).
    outcomes
        Of the same N queries with all L LLMs.
    llms
        The LLMs.
    domains, subdomains
        Of each query.
    params
        The stage's.

    Returns
    -------
    Router
    dict
        Metrics of predictions for held-out queries, overall and per LLM.
    """
    folds = draw_folds(len(outcomes), params.seed)
    tags, groups = _tags(embeddings, domains, subdomains, params)
    feature_map, features = fit(embeddings, tags, groups, params.dimension, folds)
    cost_scale = cost_scale_of(outcomes)
    trees, minimum_leaf = params.forest.trees, params.forest.minimum_leaf
    if params.predictor == "forest":
        fitted = fit_forest(features, outcomes, folds, trees, minimum_leaf, params.seed)
    else:
        offline = Offline(feature_map, features, feature_map.told(embeddings, tags), tags, folds, outcomes)
        penalties = params.tag_penalties, params.component_penalties
        if params.predictor == "linear":
            fitted = fit_linear(offline, llms, cost_scale, *penalties)
        else:
            fitted = fit_stacked(offline, llms, cost_scale, *penalties, trees, minimum_leaf, params.seed)
    calibrated = calibration.fit(params.calibration, fitted.held_out[:, :, QUALITY], outcomes.quality)
    lengths = fit_lengths(fitted.held_out[:, :, LENGTH], outcomes)
    ranges = Ranges.fit(
        calibrated(fitted.held_out[:, :, QUALITY]),
        lengths(fitted.held_out[:, :, LENGTH]),
        outcomes.quality,
        outcomes.response_tokens,
    )
    router = Router(llms, feature_map, fitted.prior, fitted.heads, calibrated, lengths, cost_scale, ranges)
    report = {
        "queries": len(outcomes),
        "llms": len(llms),
        "features": feature_map.dimension,
        "tags": feature_map.n_tags,
        "tag_accuracy": _rounded((features[:, : feature_map.n_tags].argmax(axis=1) == tags).mean()),
        "cost_scale_usd": _rounded(cost_scale),
        **fitted.chosen,
        "tried": {
            what: {f"{value:g}": _all_rounded(judged) for value, judged in values.items()}
            for what, values in fitted.tried.items()
        },
        **_judge(fitted, folds, outcomes, router, params),
    }
    return router, report


def _tags(
    embeddings: np.ndarray, domains: Sequence[str], subdomains: Sequence[str | None], params: RouterTrainParams
) -> tuple[np.ndarray, np.ndarray]:
    """Tag of every query, and the group of every tag."""
    one_group = [""] * len(embeddings)
    if params.tags == "none":
        return np.zeros(len(embeddings), dtype=np.int64), np.ones((1, 1))
    if params.tags == "clusters":
        tags = cluster_tags(embeddings, params.clusters, params.seed)
        return tags, groups_of(tags, one_group)
    tags, _ = number_tags(domains, subdomains if params.tags == "subdomain" else domains, params.minimum_tag)
    return tags, groups_of(tags, domains if params.tags == "subdomain" else one_group)


def _judge(
    fitted: Fitted, folds: np.ndarray, outcomes: Outcomes, router: Router, params: RouterTrainParams
) -> dict[str, Any]:
    """Brier score, calibration error, AUC and errors of length and cost for held-out queries; of whom lengths come.

    Calibration and length correction are fitted without the fold that they are judged on, too.
    """
    raw = fitted.held_out
    quality, tokens = np.empty_like(outcomes.quality), np.empty_like(outcomes.quality)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        calibrated = calibration.fit(params.calibration, raw[rest][:, :, QUALITY], outcomes.quality[rest])
        quality[own] = calibrated(raw[own][:, :, QUALITY])
        lengths = fit_lengths(raw[rest][:, :, LENGTH], outcomes.take(np.flatnonzero(rest)))
        tokens[own] = lengths(raw[own][:, :, LENGTH])
    cost = router.llms.cost_usd(outcomes.prompt_tokens, tokens)

    def measures(arms: slice) -> dict[str, Any]:
        predicted, observed = quality[:, arms].ravel(), outcomes.quality[:, arms].ravel()
        spent = outcomes.cost_usd[:, arms]
        auc = discrimination(predicted, observed)
        return {
            "brier": _rounded(((predicted - observed) ** 2).mean()),
            "brier_of_mean": _rounded(outcomes.quality[:, arms].var(axis=0).mean()),
            "ece": _rounded(calibration_error(predicted, observed)),
            **({} if auc is None else {"auc": _rounded(auc)}),
            "length_mae_tokens": _rounded(np.abs(tokens[:, arms] - outcomes.response_tokens[:, arms]).mean()),
            "length_mean_tokens": _rounded(outcomes.response_tokens[:, arms].mean()),
            "cost_mae_share": _rounded(np.abs(cost[:, arms] - spent).sum() / max(spent.sum(), 1e-300)),
        }

    by_llm = {name: measures(slice(arm, arm + 1)) for arm, name in enumerate(router.llms.names)}
    for own, chosen in zip(by_llm.values(), fitted.lengths, strict=False):  # there may have been no choice
        own["length_model"] = chosen.family
        own["length_model_errors"] = {family: _rounded(error) for family, error in chosen.errors.items()}
    return {"all": measures(slice(None)), "by_llm": by_llm}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _all_rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: _rounded(value) for key, value in values.items()}
