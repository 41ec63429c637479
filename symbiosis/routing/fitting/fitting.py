"""Fit each family of predictors, its penalties chosen by cross-validation on the training queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.fitting.judging import judge
from symbiosis.routing.fitting.shrinkage import likeliest_penalties
from symbiosis.routing.model.features import FeatureMap
from symbiosis.routing.model.forests import SharedForest
from symbiosis.routing.model.lengths import LengthChoice
from symbiosis.routing.model.linear_heads import LinearHeads
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.networks import SharedNetwork
from symbiosis.routing.model.params import Auto
from symbiosis.routing.model.predictors import N_TARGETS, QUALITY, AveragePrior, Part, Prior, TagPrior, targets_of

COMMON = (3.0, 10.0, 30.0, 100.0, 300.0)  # ridge penalties tried for the common part
MULTIPLES = (
    1.0,
    4.0,
    16.0,
)  # of the likeliest penalty of components: what routes best is stiffer than what predicts best
FOREST_PENALTY = 1.0  # rho of A_l where the forest leaves nothing for the penalty to be tuned on (MixLLM: not printed)

Grid = Sequence[float] | Auto


@dataclass(frozen=True)
class PredictorFit:
    """Predictors, what they predict for queries held out of their own training, and what was chosen how.

    Attributes
    ----------
    prior, heads
        Trained on all offline queries.
    held_out
        (N, L, 2), cross-fitted predictions (out-of-bag ones of the forest).
    chosen
        The chosen ridge penalties of the heads.
    tried
        For each value of each of them: Brier score of quality, and area under the quality-cost curve (AIQ).
    lengths
        How each LLM's regressor of the length was chosen, where there was a choice.
    """

    prior: Prior
    heads: LinearHeads
    held_out: np.ndarray
    chosen: dict[str, float]
    tried: dict[str, dict[float, dict[str, float]]]
    lengths: tuple[LengthChoice, ...] = ()


@dataclass(frozen=True)
class Offline:
    """Offline queries as the predictors see them.

    Attributes
    ----------
    feature_map
        Fitted to them.
    crossed, told
        (N, D), their features: cross-fitted, as they would be if the queries were new; and with the true tags.
    tags, folds
        (N,).
    outcomes
        Of the same N queries.
    logged
        How many of the queries, the last ones, come from logs: one LLM's answer is known of each. They have no tags.
    weight
        (N,), how many answers of a table a query's answers are worth; None: one.
    told_lengths
        (N, L) bool, whose length is known; None: of all answers.
    """

    feature_map: FeatureMap
    crossed: np.ndarray
    told: np.ndarray
    tags: np.ndarray
    folds: np.ndarray
    outcomes: Outcomes
    logged: int = 0
    weight: np.ndarray | None = None
    told_lengths: np.ndarray | None = None

    @property
    def table(self) -> slice:
        """The queries that come from the table: what all LLMs have in common and what routes best is judged by them."""
        return slice(len(self.outcomes) - self.logged)

    @property
    def table_outcomes(self) -> Outcomes:
        """Outcomes of the queries that come from the table."""
        if not self.logged:
            return self.outcomes
        rows = self.outcomes.take(np.arange(len(self.outcomes))[self.table])
        return replace(rows, known=None) if rows.known is not None and rows.known.all() else rows

    def leading(self, dimension: int) -> "Offline":
        """Return the same queries with the leading components alone, as if the features had been fitted so."""
        surplus = self.feature_map.components.shape[1] - dimension
        if surplus <= 0:
            return self
        feature_map = replace(self.feature_map, components=self.feature_map.components[:, :dimension])
        return replace(self, feature_map=feature_map, crossed=self.crossed[:, :-surplus], told=self.told[:, :-surplus])

    def heads(
        self, features: np.ndarray, targets: np.ndarray, penalty: float | np.ndarray, rows: np.ndarray | None = None
    ) -> LinearHeads:
        """Fit heads to features (N, D) and targets (N, L, 2), to some of the rows, (N,) bool, if they are given."""
        known, weight = self.outcomes.known, self.weight
        if rows is None:
            return LinearHeads.fit(features, targets, penalty, known, weight)
        return LinearHeads.fit(
            features[rows],
            targets[rows],
            penalty,
            None if known is None else known[rows],
            None if weight is None else weight[rows],
        )


def fit_linear(
    offline: Offline,
    llms: Llms,
    cost_scale: float,
    tag_penalties: Grid,
    component_penalties: Grid,
) -> PredictorFit:
    """Fit the common level and linear heads on what it leaves, their penalties chosen by cross-validation.

    The heads are trained with the true tags and asked with the probabilities of tags, so they hold what is known of an
    LLM on a tag, not on queries that look like it.

    What predicts best is not what routes best: choosing the LLM with the highest of several noisy predictions favours
    whichever is overestimated, and that costs more than a little bias. So the choice is what gives held-out queries
    the largest area under the quality-cost curve: first the penalty of tags and groups, then that of components.

    Parameters
    ----------
    offline
        The queries.
    llms
        Their prices turn predicted lengths into cost.
    cost_scale
        Dollars that count as 1.
    tag_penalties, component_penalties
        To try, in queries' worth of evidence; see `FeatureMap.penalties`. ``auto``: those under which the outcomes are
        likeliest, see `symbiosis.routing.fitting.shrinkage`, and for the components `MULTIPLES` of it.
    """
    targets, told, table = targets_of(offline.outcomes), offline.told, offline.table
    feature_map, tags = offline.feature_map, offline.tags
    splits = [(offline.folds != fold, offline.folds == fold) for fold in np.unique(offline.folds)]

    def priors(common: Sequence[float]) -> list[TagPrior]:
        return [prior(rest[table], common) for rest, _ in splits]

    def prior(rows: np.ndarray, common: Sequence[float]) -> TagPrior:
        own = told[table][rows], tags[table][rows]
        return TagPrior.fit(*own, feature_map.n_tags, targets[table][rows], common)

    tabled = [(rest[table], own[table]) for rest, own in splits]
    tried_common = {penalty: priors([penalty] * N_TARGETS) for penalty in COMMON}
    common = _common_penalties(offline.crossed[table], targets[table], tabled, tried_common)
    fitted = priors(common)

    def held_out(of_tags: float, of_components: float) -> np.ndarray:
        result = np.empty_like(targets)
        penalties = feature_map.penalties(of_tags, of_components)
        for (rest, own), shared in zip(splits, fitted, strict=True):
            left = np.zeros_like(targets)
            left[rest] = targets[rest] - shared(told[rest])
            heads = offline.heads(told, left, penalties, rest)
            result[own] = shared(offline.crossed[own]) + heads.predict(offline.crossed[own])[0]
        return result

    whole = TagPrior.fit(told[table], tags[table], feature_map.n_tags, targets[table], common)
    grids = _grids(offline, told, targets - whole(told), tag_penalties, component_penalties)
    chosen, tried, predicted = _chosen(held_out, offline, llms, cost_scale, *grids)
    heads = offline.heads(told, targets - whole(told), feature_map.penalties(*chosen.values()))
    return PredictorFit(whole, heads, predicted, chosen, tried)


def fit_stacked(
    offline: Offline,
    llms: Llms,
    cost_scale: float,
    tag_penalties: Grid,
    component_penalties: Grid,
    trees: int,
    minimum_leaf: int,
    seed: int,
) -> PredictorFit:
    """Fit a forest that all LLMs share, and linear heads stacked upon it.

    The heads are trained on what the forest leaves of queries that its trees have not seen (out of bag), so they never
    take for settled what it merely remembers; their penalties are chosen as in `fit_linear`.

    Parameters
    ----------
    offline, llms, cost_scale, tag_penalties, component_penalties
        See `fit_linear`.
    trees, minimum_leaf, seed
        See `symbiosis.routing.model.forests.SharedForest.fit`.
    """
    table = offline.table
    fitted = SharedForest.fit(offline.crossed[table], targets_of(offline.outcomes)[table], trees, minimum_leaf, seed)
    return _stacked_on(*fitted, offline, llms, cost_scale, tag_penalties, component_penalties)


def fit_network(
    offline: Offline,
    llms: Llms,
    cost_scale: float,
    tag_penalties: Grid,
    component_penalties: Grid,
    steps: int,
    decay: float,
    seed: int,
) -> PredictorFit:
    """Fit a network that all LLMs share, and linear heads stacked upon it as in `fit_stacked`.

    Parameters
    ----------
    offline, llms, cost_scale, tag_penalties, component_penalties
        See `fit_linear`.
    steps, decay, seed
        See `symbiosis.routing.model.networks.SharedNetwork.fit`.
    """
    table, known = offline.table, offline.outcomes.known
    fitted = SharedNetwork.fit(
        offline.crossed[table],
        offline.feature_map.components.shape[1],
        targets_of(offline.outcomes)[table],
        offline.folds[table],
        steps,
        decay,
        seed,
        None if known is None else known[table],
    )
    return _stacked_on(*fitted, offline, llms, cost_scale, tag_penalties, component_penalties)


def _stacked_on(
    prior: SharedForest | SharedNetwork,
    fresh: np.ndarray,
    offline: Offline,
    llms: Llms,
    cost_scale: float,
    tag_penalties: Grid,
    component_penalties: Grid,
) -> PredictorFit:
    """Fit heads to what a prior leaves; `fresh` is what it predicts for queries of the table that it has not seen."""
    targets, features = targets_of(offline.outcomes), offline.crossed
    if offline.logged:  # which it has not seen either
        fresh = np.concatenate([fresh, prior(features[-offline.logged :])])
    left = targets - fresh

    def held_out(of_tags: float, of_components: float) -> np.ndarray:
        result = fresh.copy()
        penalties = offline.feature_map.penalties(of_tags, of_components)
        for fold in np.unique(offline.folds):
            rest, own = offline.folds != fold, offline.folds == fold
            result[own] += offline.heads(features, left, penalties, rest).predict(features[own])[0]
        return result

    grids = _grids(offline, features, left, tag_penalties, component_penalties)
    chosen, tried, predicted = _chosen(held_out, offline, llms, cost_scale, *grids)
    heads = offline.heads(features, left, offline.feature_map.penalties(*chosen.values()))
    return PredictorFit(prior, heads, predicted, chosen, tried)


def average(fits: Mapping[str, PredictorFit]) -> PredictorFit:
    """Average fits to the same features, by name, in equal parts: what they predict, fixed part and heads alike.

    The heads know what each has seen, and go on learning: a lesson moves the average as it would move the heads of
    the first.
    """
    parts = [fit.prior for fit in fits.values() if isinstance(fit.prior, Part)]
    if len(parts) != len(fits):
        raise AssertionError("an average is of forms whose heads have the same features")
    own, *others = (fit.heads for fit in fits.values())
    theta = own.weights[:, :, own.dimension :]
    for other in others:
        theta = theta + other.weights[:, :, own.dimension :]
    theta = theta / len(fits)
    heads = LinearHeads(
        own.precision,
        own.precision @ theta,
        np.concatenate([own.weights[:, :, : own.dimension], theta], axis=2),
        own.penalty,
    )
    return PredictorFit(
        AveragePrior(tuple(parts)),
        heads,
        mean_of([fit.held_out for fit in fits.values()]),
        {f"{name}_{what}": value for name, fit in fits.items() for what, value in fit.chosen.items()},
        {f"{name}_{what}": values for name, fit in fits.items() for what, values in fit.tried.items()},
    )


def mean_of(held_out: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of predictions."""
    total = held_out[0]
    for other in held_out[1:]:
        total = total + other
    return total / len(held_out)


def _grids(
    offline: Offline, features: np.ndarray, left: np.ndarray, tag_penalties: Grid, component_penalties: Grid
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the penalties to try of tags and of components, ``auto`` replaced; `left` (N, L, 2) is what heads fit."""
    table, known = offline.table, offline.table_outcomes.known
    if isinstance(tag_penalties, str) or isinstance(component_penalties, str):
        likeliest = likeliest_penalties(offline.feature_map, features[table], left[table, :, QUALITY], known)
        if isinstance(tag_penalties, str):
            tag_penalties = likeliest[:1]
        if isinstance(component_penalties, str):
            component_penalties = [likeliest[1] * multiple for multiple in MULTIPLES]
    return tag_penalties if offline.feature_map.n_tags > 1 else tag_penalties[:1], component_penalties


def _chosen(
    held_out: Callable[[float, float], np.ndarray],
    offline: Offline,
    llms: Llms,
    cost_scale: float,
    tag_penalties: Sequence[float],
    component_penalties: Sequence[float],
) -> tuple[dict[str, float], dict[str, dict[float, dict[str, float]]], np.ndarray]:
    """Choose the penalties of tags and components, in this order, by the AIQ of what they predict for held-out queries.

    Returns
    -------
    dict
        The chosen ones: first that of tags.
    dict
        All that were tried, see `PredictorFit`.
    numpy.ndarray
        (N, L, 2), what the chosen ones predict.
    """

    outcomes = offline.table_outcomes

    def judged(predicted: np.ndarray) -> dict[str, float]:
        return judge(predicted[offline.table], outcomes, llms, cost_scale)

    tried_tags = {penalty: judged(held_out(penalty, max(component_penalties))) for penalty in tag_penalties}
    of_tags = _best(tried_tags)
    predicted = {penalty: held_out(of_tags, penalty) for penalty in component_penalties}
    tried_components = {penalty: judged(values) for penalty, values in predicted.items()}
    of_components = _best(tried_components)
    return (
        {"tag_penalty": of_tags, "component_penalty": of_components},
        {"tag_penalty": tried_tags, "component_penalty": tried_components},
        predicted[of_components],
    )


def _best(tried: dict[float, dict[str, float]]) -> float:
    """Return the setting with the largest AIQ, of equals the larger."""
    return max(tried, key=lambda setting: (tried[setting]["aiq"], setting))


def _common_penalties(
    features: np.ndarray,
    targets: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
    priors: dict[float, list[TagPrior]],
) -> list[float]:
    """Choose the common part's penalty per target: least squared error of the mean over LLMs of held-out queries."""
    errors = {
        penalty: sum(
            ((targets[own] - prior(features[own])).mean(axis=1) ** 2).sum(axis=0)
            for (_, own), prior in zip(splits, fitted, strict=True)
        )
        for penalty, fitted in priors.items()
    }
    return [min(errors, key=lambda penalty: errors[penalty][target]) for target in range(N_TARGETS)]


def fit_forest(offline: Offline, trees: int, minimum_leaf: int, seed: int) -> PredictorFit:
    """Fit MixLLM's predictors; the heads know what has been seen (A_l) but correct nothing yet.

    Parameters
    ----------
    offline
        The queries.
    trees, minimum_leaf, seed
        See `symbiosis.routing.model.mixllm_predictor.ForestPrior.fit`.
    """
    targets, features, known = targets_of(offline.outcomes), offline.crossed, offline.outcomes.known
    told = None
    if offline.logged and known is not None:  # in the table, gaps hold estimates, which forests may see
        lengths_known = known if offline.told_lengths is None else offline.told_lengths
        told = np.stack([known, lengths_known], axis=2)
        told[offline.table] = True
    prior, held_out, lengths = ForestPrior.fit(
        features, targets, offline.folds, trees, minimum_leaf, seed, told, offline.weight
    )
    heads = offline.heads(features, np.zeros_like(targets), FOREST_PENALTY)
    return PredictorFit(prior, heads, held_out, {"penalty": FOREST_PENALTY}, {}, lengths)
