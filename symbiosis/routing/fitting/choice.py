"""Choose form, tags, dimension, leaves and weight decay by cross-validation on the training queries.

What routes best differs from table to table, and so does whether the data set's labels help. Everything is judged as
the penalties are: by the area under the quality-cost curve (AIQ) that predictions for held-out queries reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.fitting.judging import Judge, Verdict, aiq_of
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.fitting.trial import Candidate, Trial
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.model.features import draw_folds
from symbiosis.routing.model.params import AUTO, PARTS, PREDICTORS, RouterTrainParams, parts_of

NOISE = 0.5  # standard errors of a difference up to which candidates are tied


@dataclass(frozen=True)
class PredictorChoice:
    """What was chosen, and on what grounds.

    Attributes
    ----------
    params
        With what was chosen in place of ``auto``.
    tried
        Every candidate that was judged, simplest first; empty if nothing was left to choose.
    chosen
        Its place among them.
    nested_aiq
        AIQ of choosing: each fold's queries are routed by what the others' would have chosen. NaN if nothing was.
    queries
        How many training queries were used.
    """

    params: RouterTrainParams
    tried: tuple[Candidate, ...] = ()
    chosen: int = 0
    nested_aiq: float = np.nan
    queries: int = 0

    def report(self) -> dict[str, Any]:
        """Return the chosen candidate, the runner-up and all others; nothing if nothing was left to choose."""
        if not self.tried:
            return {}
        chosen = self.tried[self.chosen]
        others = sorted((one for one in self.tried if one is not chosen), key=lambda one: -one.verdict.aiq)
        told: dict[str, Any] = {"chosen": chosen.report()}
        if others:
            lead = chosen.verdict.lead(others[0].verdict)
            told["runner_up"] = others[0].report() | {"lead": lead.report()}
        return {
            "choice": told
            | {
                "nested_aiq": rounded(self.nested_aiq),
                "tried": [one.report() for one in self.tried],
                "queries": self.queries,
                "trees": self.params.choice.trees,
            }
        }


def choose(split: Split, llms: Llms, params: RouterTrainParams, kept: Kept | None = None) -> PredictorChoice:
    """Replace ``auto`` by what routes held-out training queries best.

    First the features (tags and dimension), judged with the linear predictor, which is the cheapest; then, on the best
    of them, forests, networks and averages; see `Trial.beyond_linear`. Of these candidates `simplest_of_best` is taken.

    The budget is ``router_train.choice``: training queries, trees in each forest, and the numbers to be tried.

    Parameters
    ----------
    split
        The training queries.
    llms
        The LLMs.
    params
        Of the router.
    kept
        Where what was judged is kept, so that a choice that was interrupted goes on; None: nowhere.
    """
    parts = PARTS if params.predictor == AUTO else parts_of(params.predictor)
    left_open: list[object] = [params.predictor, params.tags, params.dimension]
    left_open += [params.forest.minimum_leaf] if {"stacked", "forest"} & set(parts) else []
    left_open += [params.network.decay] if "network" in parts else []
    if AUTO not in left_open:
        return PredictorChoice(params)
    small, budget = split, params.choice
    if len(split) > budget.queries:
        drawn = np.random.default_rng(params.seed).choice(len(split), budget.queries, replace=False)
        small = split.take(np.sort(drawn))
    judge = Judge.of(small.outcomes, llms, params.seed)
    trial = Trial(small, llms, params, judge, (kept or Kept(None)).of(params, small))
    linear = trial.features()
    if params.predictor == "forest":  # it takes too long to be tried: what suits the linear one suits it
        tried = [replace(one, setting=replace(one.setting, predictor="forest")) for one in linear]
    else:
        families = PREDICTORS if params.predictor == AUTO else (params.predictor,)
        tried = [one for one in (*linear, *trial.beyond_linear(linear, families)) if one.setting.predictor in families]
        tried.sort(key=lambda one: PREDICTORS.index(one.setting.predictor))
    verdicts = [one.verdict for one in tried]
    chosen = simplest_of_best([verdict.aiq for verdict in verdicts], verdicts)
    return PredictorChoice(tried[chosen].setting.params(params), tuple(tried), chosen, nested(tried, trial), len(small))


def simplest_of_best(aiq: Sequence[float], verdicts: Sequence[Verdict]) -> int:
    """Return the place of the first, simplest first, that no later one beats beyond noise.

    Each is compared with the one held so far and takes its place if it leads by more than `NOISE` standard errors of
    the difference, which the verdicts tell. Half an error, because a whole one (Breiman et al. 1984) kept the simplest,
    no tags, on most real tables, which was the worse guess on their development queries.
    """
    held = 0
    for place in range(1, len(verdicts)):
        if aiq[place] - aiq[held] > NOISE * verdicts[place].lead(verdicts[held]).standard_error:
            held = place
    return held


def nested(tried: Sequence[Candidate], trial: Trial) -> float:
    """Return the AIQ of the choice itself, which the chosen candidate's own flatters, having been picked for it.

    Every fold's queries are routed by the candidate that would have been chosen on the others' (after Tsamardinos et
    al. 2018: only the choice is repeated, the predictions stay those of the one cross-validation).
    """
    folds = draw_folds(len(trial.split), trial.params.seed)
    quality, cost = (np.empty_like(getattr(tried[0].curve, what)) for what in ("quality", "cost"))
    for fold in np.unique(folds):
        rest, own = np.flatnonzero(folds != fold), folds == fold
        aiq = [trial.judge.aiq(one.curve, rest) for one in tried]
        curve = tried[simplest_of_best(aiq, [one.verdict for one in tried])].curve
        quality[:, own], cost[:, own] = curve.quality[:, own], curve.cost[:, own]
    return aiq_of(Curve(quality, cost).points(), trial.judge.singles.points())
