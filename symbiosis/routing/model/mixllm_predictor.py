"""MixLLM's predictors: per LLM a random forest of the quality, and of the length the family that validates best.

Published as arXiv 2502.18482: quality by a random forest for every LLM, response length by whichever of MLP, random
forest and nearest neighbours validated best for that LLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from symbiosis.routing.model.forests import Forest
from symbiosis.routing.model.lengths import MODELS, Family, LengthChoice, Regressor, choose, family_of

_QUALITY, _LENGTH = 0, 1  # as in `symbiosis.routing.model.predictors`
NEIGHBOURS = 40  # averaged; not published of MixLLM, a usual number in kNN routers


@dataclass(frozen=True)
class ForestPrior:
    """Quality and log length of every LLM.

    Attributes
    ----------
    quality
        A forest for each of L LLMs.
    length
        A regressor of the log length for each of them.
    """

    quality: tuple[Forest, ...]
    length: tuple[Regressor, ...]

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        targets: np.ndarray,
        folds: np.ndarray,
        trees: int,
        minimum_leaf: int,
        seed: int,
        told: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> tuple["ForestPrior", np.ndarray, tuple[LengthChoice, ...]]:
        """Fit every LLM's two predictors, each without a look at the other LLMs.

        Parameters
        ----------
        features
            (N, D).
        targets
            (N, L, 2), quality and log length.
        folds
            (N,), see `symbiosis.routing.model.lengths.choose`.
        trees, minimum_leaf
            See `symbiosis.routing.model.forests.Forest.fit`.
        seed
            Of the first LLM; each that follows has seeds of its own, by its place.
        told
            (N, L, 2) bool, the targets that are fitted to; None: all.
        weight
            (N,), how many queries each is worth where forests learn quality; None: one.

        Returns
        -------
        ForestPrior
        numpy.ndarray
            (N, L, 2), predictions of models that have not seen the query: out of bag those of the forests.
        tuple of LengthChoice
            How each LLM's regressor of the length was chosen.
        """
        from symbiosis.core.progress import tqdm

        held_out = np.empty_like(targets)
        quality, length = [], []
        for arm in tqdm(range(targets.shape[1]), desc="forests", unit="LLM"):
            own = targets[:, arm]
            first = seed + 2 * arm
            rows = [np.ones(len(own), dtype=bool) if told is None else told[:, arm, what] for what in range(2)]
            good, long = rows
            share = None if weight is None else weight[good]
            forest, fresh = Forest.fit(features[good], own[good, _QUALITY], trees, minimum_leaf, first, share)
            chosen = choose(features[long], own[long, _LENGTH], folds[long], trees, minimum_leaf, NEIGHBOURS, first + 1)
            for what, model, seen in ((_QUALITY, forest, fresh), (_LENGTH, chosen.model, chosen.held_out)):
                held_out[rows[what], arm, what] = seen
                if not rows[what].all():
                    held_out[~rows[what], arm, what] = model.predict(features[~rows[what]])
            quality.append(forest)
            length.append(chosen)
        return cls(tuple(quality), tuple(chosen.model for chosen in length)), held_out, tuple(length)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, L, 2) for features (N, D)."""
        return np.stack(
            [np.stack([model.predict(features) for model in models], axis=1) for models in (self.quality, self.length)],
            axis=2,
        )

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the family of each LLM's length regressor."""
        return tuple(family_of(model) for model in self.length)

    def take(self, arms: Sequence[int]) -> "ForestPrior":
        """Return the predictors of the given LLMs, in that order."""
        return ForestPrior(tuple(self.quality[arm] for arm in arms), tuple(self.length[arm] for arm in arms))

    def with_average(self) -> "ForestPrior":
        """Return this prior and, for one LLM more, constants: the mean of the others' levels."""
        quality, length = (
            Forest.constant(float(np.mean([model.level for model in models]))) for models in (self.quality, self.length)
        )
        return ForestPrior((*self.quality, quality), (*self.length, length))

    def tensors(self) -> dict[str, np.ndarray]:
        """All arrays, by LLM, target and name; with `families` they are the whole state."""
        return {
            _name(arm, target, field.name): getattr(model, field.name)
            for target, models in ((_QUALITY, self.quality), (_LENGTH, self.length))
            for arm, model in enumerate(models)
            for field in fields(model)
        }

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray], families: Sequence[Family]) -> "ForestPrior":
        """Take the arrays of `tensors` out of a dictionary again, the families given.

        Raises
        ------
        KeyError
            An array is missing.
        """

        def model(kind: type[Regressor], arm: int, target: int) -> Any:
            return kind(*(tensors.pop(_name(arm, target, field.name)) for field in fields(kind)))

        quality = [model(Forest, arm, _QUALITY) for arm in range(len(families))]
        length = [model(MODELS[family], arm, _LENGTH) for arm, family in enumerate(families)]
        return cls(tuple(quality), tuple(length))


def _name(arm: int, target: int, field: str) -> str:
    return f"prior.{arm}.{target}.{field}"
