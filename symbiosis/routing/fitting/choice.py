"""Choose predictor, tags, dimension and leaves by cross-validation on the training queries.

What routes best differs from table to table, and so does whether the data set's labels help. Everything is judged as
the penalties are: by the area under the quality-cost curve (AIQ) that predictions for held-out queries reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from symbiosis.core.progress import tqdm
from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.fitting.fitting import Offline, PredictorFit, average, fit_forest, fit_linear, fit_stacked
from symbiosis.routing.fitting.judging import Judge, Verdict, aiq_of
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.metrics.utility import cost_scale_of
from symbiosis.routing.model.features import draw_folds, fit
from symbiosis.routing.model.params import AUTO, PREDICTORS, TAGS, Predictor, RouterTrainParams, Tags
from symbiosis.routing.queries.tags import cluster_tags, groups_of, number_tags

LEAF = 5  # of the trees where nothing is left to choose
NOISE = 0.5  # standard errors of a difference up to which candidates are tied


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
    """

    predictor: Predictor
    tags: Tags
    dimension: int
    minimum_leaf: int | None = None

    @property
    def name(self) -> str:
        """Names the candidate in files and reports."""
        leaf = "" if self.minimum_leaf is None else f" leaf {self.minimum_leaf}"
        return f"{self.predictor} {self.tags} {self.dimension}{leaf}"

    def params(self, params: RouterTrainParams) -> RouterTrainParams:
        """Return the params with this in place of ``auto``."""
        leaf = self.minimum_leaf or (params.forest.minimum_leaf if params.forest.minimum_leaf != AUTO else LEAF)
        return params.model_copy(
            update={
                "predictor": self.predictor,
                "tags": self.tags,
                "dimension": self.dimension,
                "forest": params.forest.model_copy(update={"minimum_leaf": leaf}),
            }
        )


@dataclass(frozen=True)
class Candidate:
    """A setting, as cross-validation judged it.

    Attributes
    ----------
    setting
        Which.
    verdict
        On held-out queries.
    held_out
        (N, L, 2), predictions for them.
    curve
        Of routing by these.
    """

    setting: Setting
    verdict: Verdict
    held_out: np.ndarray = field(repr=False)
    curve: Curve = field(repr=False)

    def report(self) -> dict[str, Any]:
        """Return the numbers for ``reports/router_train.json``."""
        own = {name: value for name, value in vars(self.setting).items() if value is not None}
        return own | self.verdict.report()


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
    if predictor == "linear+stacked":
        linear, stacked = (fit_predictor(part, offline, llms, params) for part in ("linear", "stacked"))
        return average(linear, stacked)
    trees, minimum_leaf = params.forest.trees, params.forest.minimum_leaf
    if minimum_leaf == AUTO:
        minimum_leaf = LEAF
    if predictor == "forest":
        return fit_forest(offline, trees, minimum_leaf, params.seed)
    penalties = params.tag_penalties, params.component_penalties
    cost_scale = cost_scale_of(offline.table_outcomes)
    if predictor == "linear":
        return fit_linear(offline, llms, cost_scale, *penalties)
    return fit_stacked(offline, llms, cost_scale, *penalties, trees, minimum_leaf, params.seed)


def choose(split: Split, llms: Llms, params: RouterTrainParams, kept: Kept | None = None) -> PredictorChoice:
    """Replace ``auto`` by what routes held-out training queries best.

    First the features (tags and dimension), judged with the linear predictor, which is the cheapest; then, on the best
    of them, the stacked one and its average with the linear one; where these are of use, other leaves and the best
    features without tags, too. Of these candidates `simplest_of_best` is taken.

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
    left_open = (params.predictor, params.tags, params.dimension, params.forest.minimum_leaf)
    if AUTO not in (left_open if params.predictor != "linear" else left_open[:3]):
        return PredictorChoice(params)
    small, budget = split, params.choice
    if len(split) > budget.queries:
        drawn = np.random.default_rng(params.seed).choice(len(split), budget.queries, replace=False)
        small = split.take(np.sort(drawn))
    judge = Judge.of(small.outcomes, llms, params.seed)
    trial = _Trial(small, llms, params, judge, (kept or Kept(None)).of(params, small))
    linear = trial.features()
    if params.predictor == "forest":  # it takes too long to be tried: what suits the linear one suits it
        tried = [replace(one, setting=replace(one.setting, predictor="forest")) for one in linear]
    else:
        families = PREDICTORS if params.predictor == AUTO else (params.predictor,)
        tried = [one for one in (*linear, *trial.with_trees(linear, families)) if one.setting.predictor in families]
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


def nested(tried: Sequence[Candidate], trial: "_Trial") -> float:
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


@dataclass(frozen=True)
class _Trial:
    """What all candidates of a choice share."""

    split: Split
    llms: Llms
    params: RouterTrainParams
    judge: Judge
    kept: Kept
    prepared: dict[Tags, Offline] = field(default_factory=dict)
    numbers: dict[Tags, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def leaves(self) -> Sequence[int]:
        """The sizes of leaves to try."""
        given = self.params.forest.minimum_leaf
        return self.params.choice.leaves if given == AUTO else (given,)

    @property
    def dimensions(self) -> Sequence[int]:
        """The numbers of components to try, smallest first."""
        given = self.params.dimension
        most = min(self.split.embeddings.shape[1], len(self.split) - 1)
        return sorted({min(one, most) for one in (self.params.choice.dimensions if given == AUTO else (given,))})

    @property
    def sources(self) -> Sequence[Tags]:
        """The sources of tags to try, simplest first; those that give the same tags once."""
        if self.params.tags != AUTO:
            return (self.params.tags,)
        different: dict[bytes, Tags] = {}
        for tags in TAGS:
            different.setdefault(self.numbered(tags)[0].tobytes(), tags)
        return list(different.values())

    def numbered(self, tags: Tags) -> tuple[np.ndarray, np.ndarray]:
        """Tags and groups as of `tags_of`, found once."""
        if tags not in self.numbers:
            self.numbers[tags] = tags_of(self.split, self.params, tags)
        return self.numbers[tags]

    def features(self) -> list[Candidate]:
        """Judge tags in the smallest dimension, then the other dimensions with the best tags and with none."""
        least, *more = self.dimensions
        sources = self.sources
        tried = [
            self.judged(Setting("linear", tags, least)) for tags in tqdm(sources, desc="features", unit="candidate")
        ]
        best = max(tried, key=lambda one: one.verdict.aiq).setting.tags
        for dimension in more:
            again = [tags for tags in sources if tags in (best, "none")]
            tried += [self.judged(Setting("linear", tags, dimension)) for tags in again]
        return tried

    def with_trees(self, linear: Sequence[Candidate], families: Sequence[Predictor]) -> list[Candidate]:
        """Judge the forms with trees on the best features; where they are of use, other leaves and no tags, too."""
        if families == ("linear",):
            return []
        untagged = [one for one in linear if one.setting.tags == "none"]
        best = [max(those, key=lambda one: one.verdict.aiq) for those in (linear, untagged) if those]
        bases = {one.setting: one for one in best}.values()
        largest = max(self.leaves)
        pairs = sorted(((base, leaf) for base in bases for leaf in self.leaves), key=lambda pair: pair[1] != largest)
        candidates: list[Candidate] = []
        for base, leaf in tqdm(pairs, desc="predictors", unit="candidate"):
            stacked = self.judged(replace(base.setting, predictor="stacked", minimum_leaf=leaf))
            mean = (base.held_out + stacked.held_out) / 2
            candidates += [stacked, self.candidate(replace(stacked.setting, predictor="linear+stacked"), mean)]
            if max(one.verdict.aiq for one in candidates) < best[0].verdict.aiq and "linear" in families:
                break
        return candidates

    def judged(self, setting: Setting) -> Candidate:
        """Fit a setting, or take up what an earlier run kept of it."""
        held_out = self.kept.load(setting.name)
        if held_out is None:
            trees = min(self.params.choice.trees, self.params.forest.trees)
            cheap = setting.params(self.params)
            cheap = cheap.model_copy(update={"forest": cheap.forest.model_copy(update={"trees": trees})})
            if setting.tags not in self.prepared:
                widest = cheap.model_copy(update={"dimension": self.dimensions[-1]})
                self.prepared[setting.tags] = prepare(self.split, widest, setting.tags, self.numbered(setting.tags))
            offline = self.prepared[setting.tags].leading(setting.dimension)
            held_out = fit_predictor(setting.predictor, offline, self.llms, cheap).held_out
            self.kept.save(setting.name, held_out)
        return self.candidate(setting, held_out)

    def candidate(self, setting: Setting, held_out: np.ndarray) -> Candidate:
        """Judge predictions for held-out queries."""
        curve = self.judge.curve(held_out)
        return Candidate(setting, self.judge.verdict(held_out, curve), held_out, curve)
