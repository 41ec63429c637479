"""Regressors of the response length as published: per LLM the best of MLP, forest and nearest neighbours.

MixLLM (arXiv 2502.18482) chooses the family by validation. All are fitted by scikit-learn and kept as arrays.

How long an answer may become: log-normal around its expected length, each LLM with its own spread.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from symbiosis.routing.model.forests import Forest

Family = Literal["forest", "mlp", "neighbours"]
HIDDEN = 64


@dataclass(frozen=True)
class Network:
    """A perceptron with one hidden layer of rectified units.

    Attributes
    ----------
    mean, scale
        (D,), of the features.
    hidden, hidden_bias
        (D, H) and (H,).
    output, output_bias
        (H,) and (1,).
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, seed: int) -> "Network":
        """Fit to features (N, D) and targets (N,)."""
        from warnings import catch_warnings, simplefilter

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        mean, deviation = features.mean(axis=0), features.std(axis=0)
        # A sum of chances is 1 but for rounding, which must not be blown up.
        scale = np.where(deviation > 1e-9 * np.maximum(1.0, np.abs(mean)), deviation, 1.0)
        centre = target.mean()
        model = MLPRegressor(
            hidden_layer_sizes=(HIDDEN,),
            alpha=1.0,
            early_stopping=len(target) >= 100,
            max_iter=200,
            tol=1e-3,
            random_state=seed,
        )
        with catch_warnings():
            simplefilter("ignore", ConvergenceWarning)  # the last epoch is as good a stop as any
            model.fit((features - mean) / scale, target - centre)
        (hidden, output), (hidden_bias, output_bias) = model.coefs_, model.intercepts_
        return cls(mean, scale, hidden, hidden_bias, output[:, 0], output_bias + centre)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return (N,) for features (N, D)."""
        inner = np.maximum((features - self.mean) / self.scale @ self.hidden + self.hidden_bias, 0.0)
        result: np.ndarray = inner @ self.output + self.output_bias[0]
        return result

    @property
    def level(self) -> float:
        """Prediction for the mean query."""
        return float(self.predict(self.mean[None])[0])


@dataclass(frozen=True)
class Neighbours:
    """Mean over the nearest queries in Euclidean distance.

    Attributes
    ----------
    features
        (N, D), of the known queries.
    target
        (N,).
    neighbours
        (1,), how many are averaged.
    """

    features: np.ndarray
    target: np.ndarray
    neighbours: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return (M,) for features (M, D)."""
        count = min(int(self.neighbours[0]), len(self.target))
        result = np.empty(len(features))
        for start in range(0, len(features), 512):
            distance = self._squares - features[start : start + 512] @ self.features.T  # up to a constant, halved
            nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
            result[start : start + 512] = self.target[nearest].mean(axis=1)
        return result

    @property
    def level(self) -> float:
        """Mean of the known queries."""
        return float(self.target.mean())

    @cached_property
    def _squares(self) -> np.ndarray:
        """(N,), half the squared length of each known query."""
        halved: np.ndarray = (self.features**2).sum(axis=1) / 2
        return halved


Regressor = Forest | Network | Neighbours
MODELS: dict[Family, type[Regressor]] = {"forest": Forest, "mlp": Network, "neighbours": Neighbours}


def family_of(model: Regressor) -> Family:
    """Return the family that a regressor is of."""
    return next(family for family, kind in MODELS.items() if isinstance(model, kind))


@dataclass(frozen=True)
class LengthChoice:
    """One LLM's regressor, and how it was chosen.

    Attributes
    ----------
    family
        Of equals the first in the order of `MODELS`.
    model
        Of that family, fitted to all queries.
    errors
        Mean squared error of the log length on the validation queries, of each family.
    held_out
        (N,), predictions of models of that family that have not seen the query. Those of the validation queries chose
        the family, so that their errors are a little too small.
    """

    family: Family
    model: Regressor
    errors: dict[Family, float]
    held_out: np.ndarray


def fit_family(
    family: Family, features: np.ndarray, target: np.ndarray, trees: int, minimum_leaf: int, neighbours: int, seed: int
) -> Regressor:
    """Fit one family to features (N, D) and log lengths (N,)."""
    if family == "forest":
        return Forest.fit(features, target, trees, minimum_leaf, seed)[0]
    if family == "mlp":
        return Network.fit(features, target, seed)
    return Neighbours(features, target, np.array([neighbours], dtype=np.int64))


def choose(
    features: np.ndarray,
    target: np.ndarray,
    folds: np.ndarray,
    trees: int,
    minimum_leaf: int,
    neighbours: int,
    seed: int,
) -> LengthChoice:
    """Choose one LLM's family by its squared error on the validation queries, and fit it to all queries.

    Parameters
    ----------
    features
        (N, D).
    target
        (N,), log lengths.
    folds
        (N,), numbers from 0: queries of fold 0 are for validation; predictions are held out fold by fold, but those of
        a forest, which are out of bag.
    trees, minimum_leaf
        Of the forest.
    neighbours
        Of the nearest neighbours.
    seed
        Of forest and MLP.
    """

    def without(family: Family, fold: int) -> np.ndarray:
        rest, own = folds != fold, folds == fold
        model = fit_family(family, features[rest], target[rest], trees, minimum_leaf, neighbours, seed)
        return model.predict(features[own])

    observed = target[folds == 0]
    validated = {family: without(family, 0) for family in MODELS}
    errors = {family: float(((told - observed) ** 2).mean()) for family, told in validated.items()}
    best = min(MODELS, key=lambda family: errors[family])
    if best == "forest":
        forest, out_of_bag = Forest.fit(features, target, trees, minimum_leaf, seed)
        return LengthChoice(best, forest, errors, out_of_bag)
    held_out = np.empty_like(target)
    for fold in np.unique(folds):
        held_out[folds == fold] = validated[best] if fold == 0 else without(best, fold)
    model = fit_family(best, features, target, trees, minimum_leaf, neighbours, seed)
    return LengthChoice(best, model, errors, held_out)


@dataclass(frozen=True)
class LengthDistribution:
    """Of the response tokens of each LLM, given what is expected of them.

    Attributes
    ----------
    centre, sigma
        (L,), mean and standard deviation of log(observed / expected).
    longest
        (L,), no quantile goes beyond.
    """

    centre: np.ndarray
    sigma: np.ndarray
    longest: np.ndarray

    @classmethod
    def fit(cls, expected: np.ndarray, observed: np.ndarray, known: np.ndarray | None = None) -> "LengthDistribution":
        """Fit to queries that the predictor was not trained on: expected and observed response tokens, (N, L).

        Where `known`, (N, L) bool, is given, an LLM is fitted to those alone; one without any errs as the others do on
        average and varies as the most variable of them.
        """
        tokens = np.maximum(observed, 1.0)
        errors = np.log(tokens) - np.log(np.maximum(expected, 1.0))
        if known is not None:
            seen: np.ndarray = np.asarray(known.any(axis=0))
            columns = [(errors[rows, arm], tokens[rows, arm]) for arm, rows in enumerate(known.T) if seen[arm]]
            spread = np.array([[error.mean(), error.std(), own.max()] for error, own in columns]).reshape(-1, 3)
            usual = [spread[:, 0].mean(), *spread[:, 1:].max(axis=0)] if len(spread) else [0.0, 0.0, tokens.max()]
            whole = np.tile(usual, (len(seen), 1))
            whole[seen] = spread
            return cls(*np.ascontiguousarray(whole.T))
        return cls(errors.mean(axis=0), errors.std(axis=0), tokens.max(axis=0))

    def quantile(self, expected: np.ndarray, share: float) -> np.ndarray:
        """Tokens that an answer exceeds with probability 1 - `share`, (N, L), from the expected ones, (N, L)."""
        from scipy.special import ndtri

        factor = np.exp(self.centre + self.sigma * ndtri(share))
        tokens: np.ndarray = np.minimum(np.maximum(expected, 1.0) * factor, self.longest)
        return tokens
