"""What the hybrid baselines share: cross-fitted terms, training groups of hidden items, fitted weights of the terms."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import logsumexp

from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.reranking.candidate_terms import TERMS, CandidateTerms
from symbiosis.recommender.reranking.item_links import ItemContent, best_cells, fit_links

_FOLDS = 5
_SHARE = 0.2
"""Of a user's items that is hidden, if they are hidden at random."""
_TARGETS = 3
"""Groups of each user: his latest items, or random parts of his items."""
_SAMPLED = 2048
"""Groups that the weights are fitted on."""
_RIVALS, _RANDOM = 200, 100
"""Items that a group's hidden ones are compared with: the best by the plain sum of the terms, and random ones."""
_RIDGE = 1e-3


class HybridParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    hidden
        What a user's training items are split into: ``share``, a random fifth is to be found from the others;
        ``latest``, each of the last three from those before it.
    decay
        Weight of an item of a history against that of the next one.
    directed
        Whether the order of two items means anything in the links. Without, steps count both ways; the weight of
        recent items stays.
    """

    hidden: list[Literal["share", "latest"]] = Field(min_length=1)
    decay: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    directed: list[bool] = Field(min_length=1)


@dataclass(frozen=True)
class Group:
    """What is visible of a user, in order of time, and what is to be found."""

    history: np.ndarray
    hidden: np.ndarray


class Hybrid(Baseline):
    """A recommender from terms of the graph, the order and the content, the weights of which it fits.

    The users are drawn into folds; what a user's hidden items are found with comes from links of the other folds'
    users (cross-fitting), so that no hidden item stands behind its own terms. When recommending, all users' links
    count, of which a user's own lead from his items to his items alone.
    """

    refits = True

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.sequences = data.sequences()
        self.content = ItemContent.of(data, seed)
        rng = np.random.default_rng([seed, 0])
        self.folds = rng.permutation(self.train.shape[0]) % _FOLDS

    def read(self, histories: TrainingData) -> None:
        """Read these histories, in order of time, from now on."""
        super().read(histories)
        self.sequences = histories.sequences()
        self.whole = self._learned

    def refit(self, histories: TrainingData) -> None:
        """Read these histories and fit the links on them; weights stay."""
        self.read(histories)
        self.whole = self._fitted(np.arange(self.train.shape[0]))

    def prepare(self, hidden: str, decay: float, directed: bool) -> None:
        """Fit the links without each fold and with all, draw the groups, fit the weights."""
        self.decay, self.directed = decay, directed
        self.units: np.ndarray | None = None
        rng = np.random.default_rng([self.seed, 1])
        self.without, self.groups = [], []
        for fold in range(_FOLDS):
            self.without.append(self._fitted(np.flatnonzero(self.folds != fold)))
            users = np.flatnonzero(self.folds == fold).tolist()
            self.groups.append([group for user in users for group in self._drawn(user, hidden, rng)])
        self.whole = self._learned = self._fitted(np.arange(self.train.shape[0]))
        self.weights = self._fitted_weights(rng)

    def history_of(self, user: int) -> np.ndarray:
        """Items of a user in order of time."""
        items: np.ndarray = self.sequences.indices[self.sequences.indptr[user] : self.sequences.indptr[user + 1]]
        return items

    def _fitted(self, users: np.ndarray) -> CandidateTerms:
        links = fit_links(self.sequences, users, self.content, self.directed, self.seed)
        if self.units is None:  # the same of all folds, or the weights would mean something else in each
            sample = np.random.default_rng([self.seed, 2]).permutation(self.train.shape[0])[:500]
            histories = [history for user in sample if len(history := self.history_of(user))]
            self.units = CandidateTerms.with_units(self.content, links, self.decay, histories).units
        return CandidateTerms(self.content, links, self.decay, self.units)

    def _drawn(self, user: int, hidden: str, rng: np.random.Generator) -> Iterator[Group]:
        items = self.history_of(user)
        if hidden == "latest":
            for last in range(len(items) - 1, max(1, len(items) - 1 - _TARGETS), -1):
                yield Group(items[:last], items[last : last + 1])
        elif len(items) > 1:
            for _ in range(_TARGETS):
                taken = rng.permutation(len(items)) < max(1, round(_SHARE * len(items)))
                yield Group(items[~taken], items[taken])

    def _fitted_weights(self, rng: np.random.Generator) -> np.ndarray:
        """Minimise the listwise cross-entropy of the hidden items among all, most of which random ones stand for."""
        terms, wanted, others = [], [], max(1, self.train.shape[1] - _RIVALS) / _RANDOM
        share = _SAMPLED / max(1, sum(map(len, self.groups)))
        longest = max((len(group.history) for groups in self.groups for group in groups), default=0)
        count = min(_RIVALS, self.train.shape[1] - longest)
        for fold, groups in zip(self.without, self.groups, strict=True):
            chosen = [group for group in groups if rng.random() < share]
            for start in range(0, len(chosen), 64):
                part = chosen[start : start + 64]
                found = fold.terms([group.history for group in part])
                candidates = _rivals(found.sum(axis=0), part, count, rng)
                terms.append(np.take_along_axis(found, candidates[None], axis=2).transpose(1, 2, 0))
                is_hidden = [np.isin(row, group.hidden) for row, group in zip(candidates, part, strict=True)]
                wanted.append(np.array(is_hidden, np.float32))
        if not terms:
            return np.ones(len(TERMS))
        stand_for = np.ones(terms[0].shape[1])
        stand_for[-_RANDOM:] = others
        return listwise_weights(np.concatenate(terms), np.concatenate(wanted), stand_for)


def _rivals(scores: np.ndarray, groups: list[Group], count: int, rng: np.random.Generator) -> np.ndarray:
    """Best items of each group, the hidden ones always among them, then random ones; those of the history last."""
    for row, group in enumerate(groups):
        scores[row, group.history] = -np.inf
        scores[row, group.hidden] = np.inf
    best = best_cells(scores, count)[1].reshape(len(groups), count)
    return np.concatenate([best, rng.integers(scores.shape[1], size=(len(groups), _RANDOM))], axis=1)


def listwise_weights(terms: np.ndarray, wanted: np.ndarray, stand_for: np.ndarray) -> np.ndarray:
    """Fit the weights of a sum of terms by the softmax cross-entropy of each list.

    Parameters
    ----------
    terms
        float32 (N, C, T), of C candidates in N lists.
    wanted
        float32 (N, C), 1 where the candidate is to be found; at least one in each list.
    stand_for
        float (C,), how many items a candidate stands for in the softmax.

    Returns
    -------
    float64 array of shape (T,)
        With a small ridge, so that a term without any effect weighs 0.
    """
    offsets = np.log(stand_for).astype(np.float32)
    share = (wanted / wanted.sum(axis=1, keepdims=True)).astype(np.float32)
    found = np.einsum("nc,nct->t", share, terms, dtype=np.float64) / len(terms)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = terms @ weights.astype(np.float32) + offsets
        level = logsumexp(scores, axis=1, keepdims=True)
        expected = np.tensordot(np.exp(scores - level), terms, 2).astype(np.float64) / len(terms)
        value = float(level.mean(dtype=np.float64) - found @ weights + 0.5 * _RIDGE * weights @ weights)
        return value, expected - found + _RIDGE * weights

    fitted: np.ndarray = minimize(loss, np.zeros(terms.shape[2]), jac=True, method="L-BFGS-B").x
    return fitted
