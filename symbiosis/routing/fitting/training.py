"""Train a router on full feedback, offline queries answered by every LLM, and on logged answers of one LLM each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from symbiosis.core.rounding import all_rounded, rounded
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.fitting import Offline, PredictorFit
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.fitting.logged_answers import LoggedAnswers, with_answers
from symbiosis.routing.fitting.settings import fit_predictor, prepare
from symbiosis.routing.metrics.metrics import calibration_error, discrimination
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility
from symbiosis.routing.model import calibration
from symbiosis.routing.model.calibration import Ranges
from symbiosis.routing.model.cost_model import LogRidge, choose_costs, cross_fitted
from symbiosis.routing.model.params import AUTO, RouterTrainParams
from symbiosis.routing.model.predictors import LENGTH, QUALITY, fit_lengths
from symbiosis.routing.model.router import Router


def train(
    offline: Split,
    llms: Llms,
    params: RouterTrainParams,
    answers: Callable[[Router], LoggedAnswers] | None = None,
    kept: Kept | None = None,
) -> tuple[Router, dict[str, Any]]:
    """Fit features, predictors, calibration and the cost scale.

    Parameters
    ----------
    offline
        N queries answered by all L LLMs.
    llms
        The LLMs.
    params
        The stage's; what they leave to ``auto`` is chosen by cross-validation.
    answers
        Gives logged answers to learn from, too, when it is told of the router trained without them; None: there are
        none. Predictors and tags are chosen, and held-out queries judged, by the offline queries alone.

    kept
        See `symbiosis.routing.fitting.choice.choose`.

    Returns
    -------
    Router
    dict
        For ``reports/router_train.json``: the choice, and metrics of predictions for held-out queries, overall and per
        LLM.
    """
    outcomes = offline.outcomes
    choice = choose(offline, llms, params, kept)
    params = choice.params
    if params.predictor == AUTO or params.tags == AUTO:
        raise AssertionError("a choice leaves nothing open")
    features = prepare(offline, params, params.tags)
    fitted = fit_predictor(params.predictor, features, llms, params)
    router, expected, costs = _assembled(features, fitted, llms, params)
    learned: dict[str, Any] = {}
    if answers is not None and len(told := answers(router)):
        alone, joint = router, with_answers(features, told, router)
        fitted = fit_predictor(params.predictor, joint, llms, params)
        router = _with_log(alone, joint, fitted, params)
        learned = {"logged": _gain(alone, joint, fitted, router)}
        fitted = replace(fitted, held_out=fitted.held_out[joint.table])
    feature_map, folds = features.feature_map, features.folds
    report = {
        "queries": len(outcomes),
        "llms": len(llms),
        "predictor": params.predictor,
        "tag_source": params.tags,
        **choice.report(),
        "features": feature_map.dimension,
        "tags": feature_map.n_tags,
        "tag_accuracy": rounded((features.crossed[:, : feature_map.n_tags].argmax(axis=1) == features.tags).mean()),
        "cost_scale_usd": rounded(router.cost_scale),
        "costs": costs,
        **fitted.chosen,
        "tried": {
            what: {f"{value:g}": all_rounded(judged) for value, judged in values.items()}
            for what, values in fitted.tried.items()
        },
        **_judge(fitted, folds, outcomes, llms, params, expected),
        **learned,
    }
    return router, report


def _assembled(
    features: Offline, fitted: PredictorFit, llms: Llms, params: RouterTrainParams
) -> tuple[Router, np.ndarray, dict[str, Any]]:
    """Return the router of predictors that were fitted to the table, what it expects of costs, and how.

    The costs (N, L) are those of held-out queries, in units of the scale.
    """
    outcomes = features.outcomes
    calibrated = calibration.fit(params.calibration, fitted.held_out[:, :, QUALITY], outcomes.quality, outcomes.known)
    lengths = fit_lengths(fitted.held_out[:, :, LENGTH], outcomes)
    held_out_tokens = lengths(fitted.held_out[:, :, LENGTH])
    ranges = Ranges.fit(
        calibrated(fitted.held_out[:, :, QUALITY]),
        held_out_tokens,
        outcomes.quality,
        outcomes.response_tokens,
        outcomes.known,
    )
    expected_prompts = cross_fitted(features.crossed, features.folds, outcomes.prompt_tokens)
    by_tokens = llms.cost_usd(expected_prompts, held_out_tokens)
    costs, cost_report = choose_costs(params.costs, features.crossed, features.folds, outcomes, llms, by_tokens)
    cost_scale = cost_scale_of(outcomes)
    prompts = LogRidge.fit(features.crossed, outcomes.prompt_tokens)
    router = Router(
        llms, features.feature_map, fitted.prior, fitted.heads, calibrated, lengths, cost_scale, ranges, costs, prompts
    )
    expected = by_tokens
    if costs is not None:
        expected = cross_fitted(features.crossed, features.folds, outcomes.cost_usd, outcomes.known, by_tokens)
    return router, expected / cost_scale, cost_report


def _with_log(alone: Router, joint: Offline, fitted: PredictorFit, params: RouterTrainParams) -> Router:
    """Return a router of predictors that were fitted to logged answers, too; prices and prompts are the table's."""
    outcomes, counted = joint.outcomes, joint.told_lengths
    quality, length = fitted.held_out[:, :, QUALITY], fitted.held_out[:, :, LENGTH]
    calibrated = calibration.fit(params.calibration, quality, outcomes.quality, outcomes.known)
    lengths = fit_lengths(length, replace(outcomes, known=counted))
    ranges = Ranges.fit(
        calibrated(quality), lengths(length), outcomes.quality, outcomes.response_tokens, outcomes.known, counted
    )
    return replace(
        alone, prior=fitted.prior, heads=fitted.heads, calibration=calibrated, lengths=lengths, ranges=ranges
    )


def _gain(alone: Router, joint: Offline, fitted: PredictorFit, router: Router) -> dict[str, Any]:
    """What logged answers were worth for the prediction of others like them, each judged without itself."""
    rows = slice(len(joint.outcomes) - joint.logged, None)
    known = joint.outcomes.known
    assert known is not None
    own = known[rows]
    observed = joint.outcomes.quality[rows][own]
    weight = joint.weight[rows] if joint.weight is not None else np.ones(joint.logged)

    def brier(quality: np.ndarray) -> float:
        return rounded(((quality[own] - observed) ** 2).mean())

    return {
        "answers": joint.logged,
        "by_llm": {name: int(count) for name, count in zip(alone.llms.names, own.sum(axis=0), strict=True)},
        "weight": rounded(weight.sum()),
        "effective_sample_size": rounded(weight.sum() ** 2 / (weight**2).sum()),
        "brier_without": brier(alone.predict(joint.crossed[rows]).quality),
        "brier": brier(router.calibration(fitted.held_out[rows, :, QUALITY])),
    }


def _judge(
    fitted: PredictorFit,
    folds: np.ndarray,
    outcomes: Outcomes,
    llms: Llms,
    params: RouterTrainParams,
    expected: np.ndarray,
) -> dict[str, Any]:
    """Brier score, calibration error, AUC and errors of length and of tokens times prices, for held-out queries.

    Calibration and length correction are fitted without the fold that they are judged on, too. `expected`: (N, L),
    cost of held-out queries in units of the scale.
    """
    raw = fitted.held_out
    quality, tokens = np.empty_like(outcomes.quality), np.empty_like(outcomes.quality)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        others = outcomes.take(np.flatnonzero(rest))
        calibrated = calibration.fit(params.calibration, raw[rest][:, :, QUALITY], others.quality, others.known)
        quality[own] = calibrated(raw[own][:, :, QUALITY])
        lengths = fit_lengths(raw[rest][:, :, LENGTH], others)
        tokens[own] = lengths(raw[own][:, :, LENGTH])
    cost = llms.cost_usd(outcomes.prompt_tokens, tokens)

    def measures(arms: slice) -> dict[str, Any]:
        seen = np.ones_like(quality, dtype=bool) if outcomes.known is None else outcomes.known
        own = seen[:, arms]
        if not own.any():
            return {}
        predicted, observed = quality[:, arms][own], outcomes.quality[:, arms][own]
        spent = outcomes.cost_usd[:, arms][own]
        columns = list(zip(outcomes.quality[:, arms].T, own.T, strict=True))
        auc = discrimination(predicted, observed)
        return {
            "brier": rounded(((predicted - observed) ** 2).mean()),
            "brier_of_mean": rounded(np.mean([column[there].var() for column, there in columns if there.any()])),
            "ece": rounded(calibration_error(predicted, observed)),
            **({} if auc is None else {"auc": rounded(auc)}),
            "length_mae_tokens": rounded(np.abs(tokens[:, arms] - outcomes.response_tokens[:, arms])[own].mean()),
            "length_mean_tokens": rounded(outcomes.response_tokens[:, arms][own].mean()),
            "cost_mae_share": rounded(np.abs(cost[:, arms][own] - spent).sum() / max(spent.sum(), 1e-300)),
        }

    by_llm = {name: measures(slice(arm, arm + 1)) for arm, name in enumerate(llms.names)}
    for own, chosen in zip(by_llm.values(), fitted.lengths, strict=False):  # there may have been no choice
        own["length_model"] = chosen.family
        own["length_model_errors"] = {family: rounded(error) for family, error in chosen.errors.items()}
    served = _served(quality, expected, outcomes, cost_scale_of(outcomes), params.serving.trade_off)
    return {"all": measures(slice(None)), "served": served, "by_llm": by_llm}


def _served(
    quality: np.ndarray, expected: np.ndarray, outcomes: Outcomes, cost_scale: float, trade_off: float
) -> dict[str, Any]:
    """How far expectations of the LLM that would be chosen are off, as drift is counted while serving.

    An LLM is chosen where it is expected to do well, so that it does worse than expected more often than LLMs in
    general do.
    """
    rows = np.arange(len(quality))
    chosen = utility(quality, scaled_cost(expected, 1.0), trade_off).argmax(axis=1)
    if outcomes.known is not None:
        there = outcomes.known[rows, chosen]
        rows, chosen = rows[there], chosen[there]
    if not len(rows):
        return {}
    predicted, observed = quality[rows, chosen], outcomes.quality[rows, chosen]
    hoped, spent = expected[rows, chosen] * cost_scale, outcomes.cost_usd[rows, chosen]
    paid = (hoped > 0) & (spent > 0)
    return {
        "ece": rounded(calibration_error(predicted, observed)),
        "bias": rounded((observed - predicted).mean()),
        **({"cost_log_ratio": rounded(np.log(spent[paid] / hoped[paid]).mean())} if paid.any() else {}),
    }
