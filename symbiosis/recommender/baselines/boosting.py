"""Gradient boosting on the terms: LightGBM ranks again what a weighted sum of them proposes; no network."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from symbiosis.core.errors import InputError
from symbiosis.recommender.baselines.base import IterativeBaseline, IterativeParams
from symbiosis.recommender.baselines.hybrid import Hybrid, HybridParams
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.reranking.candidate_terms import FEATURES, CandidateTerms
from symbiosis.recommender.reranking.stage_one import Group

_TREES = 50
"""In an epoch."""
_RIVALS = 60
"""Candidates of a training group that are learned from, the hidden ones among them."""
_BLOCK = 512


class BoostingParams(HybridParams, IterativeParams):
    """Values to be tried; an epoch adds fifty trees.

    Attributes
    ----------
    candidates
        Items that stage one proposes for every user.
    leaves
        Of each tree.
    learning_rate
        Share of each tree that counts.
    """

    candidates: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    leaves: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    learning_rate: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)


class Boosting(Hybrid, IterativeBaseline):
    """Rank the best items of `TunedHybrid` again by LambdaMART on their features; all others follow, by popularity.

    It learns from the groups of which stage one proposes a hidden item, features being cross-fitted as the terms are.

    References
    ----------
    Burges 2010, From RankNet to LambdaRank to LambdaMART; Ke et al. 2017, LightGBM.
    """

    Params = BoostingParams
    rewinds = True

    def read(self, histories: TrainingData) -> None:
        """Read these histories from now on."""
        super().read(histories)
        self._forget()

    def refit(self, histories: TrainingData) -> None:
        """Read these histories and fit the links on them; weights and trees stay."""
        super().refit(histories)
        self._forget()

    def fit(
        self,
        *,
        candidates: int,
        leaves: int,
        learning_rate: float,
        **shared: Any,
    ) -> None:
        """Fit links and stage one, describe the candidates of all groups."""
        lightgbm = _lightgbm()
        self.prepare(**shared)
        self.candidates = min(candidates, self.train.shape[1])
        features, labels = self._examples()
        params = {
            "objective": "lambdarank", "lambdarank_truncation_level": 30, "num_leaves": leaves,
            "learning_rate": learning_rate, "min_data_in_leaf": 50, "lambda_l2": 5, "feature_fraction": 0.5,
            "bagging_fraction": 0.7, "bagging_freq": 1, "max_bin": 127, "seed": self.seed, "deterministic": True,
            "force_row_wise": True, "num_threads": 1, "verbose": -1,
        }  # fmt: skip
        sizes = np.full(len(labels), labels.shape[1])
        data = lightgbm.Dataset(features.reshape(-1, len(FEATURES)), labels.ravel(), group=sizes, params=params)
        self.booster, self._epochs = lightgbm.Booster(params, data), 0
        self._forget()

    def epoch(self) -> None:
        """Add fifty trees."""
        self._epochs += 1
        for _ in range(_TREES):
            self.booster.update()

    def rewind(self, epoch: int) -> None:
        """Leave out the trees of later epochs."""
        self._epochs = epoch
        self._forget()

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Trees' sums for candidates, float32 (B, I); below them the others by their number of users."""
        self._describe(users[self._counted[users] < 0])
        self._count_trees(users)
        found = self._sums[users]
        others = self.whole.links.users / (1 + self.whole.links.users.max(initial=0)) - 1
        scores = np.repeat(others[None].astype(np.float32), len(users), axis=0)
        best = (found - found.min(axis=1, keepdims=True)).astype(np.float32)
        np.put_along_axis(scores, self._proposed[users], best, axis=1)
        return scores

    def _examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, C, F) and labels (N, C) of the groups that stage one finds something for."""
        rng = np.random.default_rng([self.seed, 3])
        features, labels = [], []
        kept = min(_RIVALS, self.candidates)
        for terms, groups in zip(self.without, self.groups, strict=True):
            for start in range(0, len(groups), _BLOCK):
                found, wanted = self._of_groups(terms, groups[start : start + _BLOCK])
                chosen = np.argsort(rng.random(wanted.shape) - wanted, axis=1)[:, :kept]
                features.append(np.take_along_axis(found, chosen[:, :, None], axis=1))
                labels.append(np.take_along_axis(wanted, chosen, axis=1))
        if not sum(map(len, labels)):
            raise InputError("boosting: stage one proposes no hidden item to learn from: raise its `candidates`")
        return np.concatenate(features), np.concatenate(labels)

    def _of_groups(self, terms: CandidateTerms, groups: list[Group]) -> tuple[np.ndarray, np.ndarray]:
        histories = [group.history for group in groups]
        scores, proposed = terms.proposed(histories, self.weights, self.candidates)
        wanted = np.array([np.isin(row, group.hidden) for row, group in zip(proposed, groups, strict=True)])
        useful = np.flatnonzero(wanted.any(axis=1))
        features = terms.features([histories[row] for row in useful], proposed[useful], scores[useful])
        return features, wanted[useful].astype(np.int32)

    def _describe(self, users: np.ndarray) -> None:
        """Propose and describe the candidates of users whom no epoch has ranked yet."""
        histories = [self.history_of(user) for user in users]
        if histories:
            scores, proposed = self.whole.proposed(histories, self.weights, self.candidates)
            self._proposed[users] = proposed
            self._described[users] = self.whole.features(histories, proposed, scores)
            self._sums[users], self._counted[users] = 0, 0

    def _count_trees(self, users: np.ndarray) -> None:
        """Add what the trees since a user's last ranking say, an epoch at a time, so that all are summed in one way."""
        for first in range(0, self._epochs * _TREES, _TREES):
            rows = users[self._counted[users] == first]
            if len(rows):
                described = self._described[rows].reshape(-1, len(FEATURES))
                found = self.booster.predict(described, start_iteration=first, num_iteration=_TREES)
                self._sums[rows] += found.reshape(len(rows), -1)
                self._counted[rows] += _TREES

    def _forget(self) -> None:
        n_users = self.train.shape[0]
        self._counted = np.full(n_users, -1)
        self._proposed = np.empty((n_users, self.candidates), np.int64)
        self._sums = np.empty((n_users, self.candidates))
        self._described = np.empty((n_users, self.candidates, len(FEATURES)), np.float32)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise InputError(
            'the baseline `boosting` needs LightGBM: pip install -c requirements.lock -e ".[boosting]"'
        ) from None
    return lightgbm
