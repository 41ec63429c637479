"""Stage one: cross-fitted terms of candidates, training groups of hidden items, and the weights of the terms.

The users are drawn into folds; what a user's hidden items are found with comes from links of the other folds' users
(cross-fitting), so that no hidden item stands behind its own terms. When recommending, all users' links count, of which
a user's own lead from his items to his items alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import logsumexp

from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.reranking.candidate_terms import TERMS, CandidateTerms
from symbiosis.recommender.reranking.item_links import ItemContent, best_cells, fit_links

Hidden = Literal["share", "latest"]
"""What a user's training items are split into: a random fifth is to be found from the others, several times; or each of
the latest from those before it."""

_FOLDS = 5
_SHARE = 0.2
"""Of a user's items that is hidden, if they are hidden at random."""
_SAMPLED = 2048
"""Groups that the weights are fitted on."""
_RIVALS, _RANDOM = 200, 100
"""Items that a group's hidden ones are compared with: the best by the plain sum of the terms, and random ones."""
_RIDGE = 1e-3


@dataclass(frozen=True)
class Group:
    """What is visible of a user, in order of time, and what is to be found."""

    history: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True)
class StageOne:
    """Terms of all users and of all but each fold, groups to learn from, and weights of the terms.

    Attributes
    ----------
    whole
        For recommending.
    without
        For training, by fold: the links know nothing of the fold's users.
    groups
        By fold.
    weights
        float64 (len(TERMS),).
    """

    whole: CandidateTerms
    without: tuple[CandidateTerms, ...]
    groups: tuple[list[Group], ...]
    weights: np.ndarray


def drawn_folds(n_users: int, seed: int) -> np.ndarray:
    """Draw the fold of every user: int64 (U,)."""
    folds: np.ndarray = np.random.default_rng([seed, 0]).permutation(n_users) % _FOLDS
    return folds


def fit_stage_one(
    sequences: csr_array, content: ItemContent, *, hidden: Hidden, decay: float, directed: bool, targets: int, seed: int
) -> StageOne:
    """Fit the links without each fold and with all, draw the groups, fit the weights.

    Parameters
    ----------
    sequences
        (U, I); the stored entries of a user stand in order of time.
    content
        What items have in common.
    hidden
        See `Hidden`.
    decay
        Weight of an item of a history against that of the next one.
    directed
        Whether the order of two items means anything in the links.
    targets
        Groups of each user: his latest items, or random parts of his items.
    seed
        Of folds, groups and the order of ties.
    """
    n_users = sequences.shape[0]
    folds, rng, units = drawn_folds(n_users, seed), np.random.default_rng([seed, 1]), None
    without, groups = [], []
    for fold in range(_FOLDS):
        links = fit_links(sequences, np.flatnonzero(folds != fold), content, directed, seed)
        if units is None:  # the same of all folds, or the weights would mean something else in each
            sample = np.random.default_rng([seed, 2]).permutation(n_users)[:500]
            histories = [history for user in sample if len(history := items_of(sequences, user))]
            units = CandidateTerms.with_units(content, links, decay, histories).units
        without.append(CandidateTerms(content, links, decay, units))
        users = np.flatnonzero(folds == fold).tolist()
        groups.append([group for user in users for group in _drawn(items_of(sequences, user), hidden, targets, rng)])
    whole = refitted(without[0], sequences, directed, seed)
    return StageOne(whole, tuple(without), tuple(groups), _fitted_weights(without, groups, sequences.shape[1], rng))


def refitted(terms: CandidateTerms, sequences: csr_array, directed: bool, seed: int) -> CandidateTerms:
    """Fit the links again, on all users of these sequences; units, decay and content stay."""
    links = fit_links(sequences, np.arange(sequences.shape[0]), terms.content, directed, seed)
    return replace(terms, links=links)


def _drawn(items: np.ndarray, hidden: Hidden, targets: int, rng: np.random.Generator) -> Iterator[Group]:
    if hidden == "latest":
        for last in range(len(items) - 1, max(1, len(items) - 1 - targets), -1):
            yield Group(items[:last], items[last : last + 1])
    elif len(items) > 1:
        for _ in range(targets):
            taken = rng.permutation(len(items)) < max(1, round(_SHARE * len(items)))
            yield Group(items[~taken], items[taken])


def _fitted_weights(
    without: list[CandidateTerms], all_groups: list[list[Group]], n_items: int, rng: np.random.Generator
) -> np.ndarray:
    """Minimise the listwise cross-entropy of the hidden items among all, most of which random ones stand for."""
    terms, wanted, others = [], [], max(1, n_items - _RIVALS) / _RANDOM
    share = _SAMPLED / max(1, sum(map(len, all_groups)))
    longest = max((len(group.history) for groups in all_groups for group in groups), default=0)
    count = min(_RIVALS, n_items - longest)
    for fold, groups in zip(without, all_groups, strict=True):
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
