"""The candidates of a choice, each judged by cross-validation on the same training queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from symbiosis.core.progress import tqdm
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.fitting.fitting import Offline, mean_of
from symbiosis.routing.fitting.judging import Judge, Verdict
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.fitting.settings import Setting, fit_predictor, prepare, tags_of
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.model.params import AUTO, TAGS, Predictor, RouterTrainParams, Tags, parts_of


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
class Trial:
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
    def decays(self) -> Sequence[float]:
        """The weight decays to try."""
        given = self.params.network.decay
        return self.params.choice.decays if given == AUTO else (given,)

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

    def beyond_linear(self, linear: Sequence[Candidate], families: Sequence[Predictor]) -> list[Candidate]:
        """Judge forests, networks and averages on the best features, then on the best without tags.

        What comes after the first forest, and after the first network, is only tried where that one, or an average
        with it, is better than all before. An average with a network has the best forest on the same features.
        """
        wanted = {part for family in families for part in parts_of(family)}
        untagged = [one for one in linear if one.setting.tags == "none"]
        best = [max(those, key=_aiq) for those in (linear, untagged) if those]
        bases = list({one.setting: one for one in best}.values())
        forests: list[Candidate] = []
        if "stacked" in wanted:
            need = _aiq(bases[0]) if "linear" in families else -np.inf
            leaves = sorted(self.leaves, reverse=True)
            pairs = [(base, leaf) for leaf in leaves[:1] for base in bases]
            pairs += [(base, leaf) for base in bases for leaf in leaves[1:]]
            for base, leaf in tqdm(pairs, desc="forests", unit="candidate"):
                forest = self.judged(replace(base.setting, predictor="stacked", minimum_leaf=leaf))
                forests += [forest, self.mean(base, forest)]
                if max(map(_aiq, forests)) < need:
                    break
        networks: list[Candidate] = []
        if "network" in wanted:
            need = max(map(_aiq, (bases[0], *forests))) if "linear" in families else -np.inf
            for base, decay in tqdm([(base, decay) for base in bases for decay in self.decays], desc="networks"):
                network = self.judged(replace(base.setting, predictor="network", decay=decay))
                stacked = replace(base.setting, predictor="stacked")
                near = [one for one in forests if replace(one.setting, minimum_leaf=None) == stacked]
                networks += [network, self.mean(base, network)]
                if near:
                    forest = max(near, key=_aiq)
                    networks += [self.mean(forest, network), self.mean(base, forest, network)]
                if max(map(_aiq, networks)) < need:
                    break
        return forests + networks

    def mean(self, *parts: Candidate) -> Candidate:
        """Judge the average of candidates on the same features."""
        predictor = cast(Predictor, "+".join(one.setting.predictor for one in parts))
        leaf, decay = (
            next((value for one in parts if (value := getattr(one.setting, name)) is not None), None)
            for name in ("minimum_leaf", "decay")
        )
        setting = replace(parts[0].setting, predictor=predictor, minimum_leaf=leaf, decay=decay)
        return self.candidate(setting, mean_of([one.held_out for one in parts]))

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


def _aiq(candidate: Candidate) -> float:
    return candidate.verdict.aiq
