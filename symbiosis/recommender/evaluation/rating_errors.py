"""How far predicted ratings are off, beside two predictors that know no content."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from symbiosis.core.statistics import bounds, resampled_means
from symbiosis.recommender.data.ratings import Ratings, Scores

_DIGITS = 5


def rating_errors(ratings: Ratings, methods: Mapping[str, Scores], samples: int, seed: int) -> dict[str, Any]:
    """Measure how far predicted ratings are off.

    Parameters
    ----------
    ratings
        Training and test ratings.
    methods
        Scores by name of the method; a score is what the mean rating is corrected by.
    samples, seed
        Of the bootstrap over ratings, the same for all methods.

    Returns
    -------
    dict
        ``ratings`` (how many) and ``methods``: ``rmse`` and ``mae`` of each, and of the two simple predictors, with
        mean and 95 % interval, in stars.
    """
    given = ratings.held_out.data.astype(np.float64)
    predicted = {name: ratings.predictions(scores) for name, scores in methods.items()}
    predicted |= {"mean rating": np.full(len(given), ratings.mean), "user and item biases": ratings.biases()}
    errors = np.stack([values - given for values in predicted.values()], axis=1)
    columns = np.concatenate([errors**2, np.abs(errors)], axis=1)
    values = np.stack([columns.mean(axis=0), *bounds(resampled_means(columns, samples, seed))])
    n = len(predicted)
    values[:, :n] = np.sqrt(values[:, :n])

    def cell(column: np.ndarray) -> dict[str, float]:
        return dict(zip(("mean", "low", "high"), np.round(column, _DIGITS).tolist(), strict=True))

    return {
        "ratings": len(given),
        "methods": {
            name: {"rmse": cell(values[:, i]), "mae": cell(values[:, n + i])} for i, name in enumerate(predicted)
        },
    }
