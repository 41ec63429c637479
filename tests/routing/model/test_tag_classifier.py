"""The classifier of tags on few queries: what cannot be told apart is equally likely, what was never seen is not."""

import numpy as np

from symbiosis.routing.model.features import classify, draw_folds, fit


def test_tags_of_one_query_each_are_equally_likely() -> None:
    vectors = np.random.default_rng(0).standard_normal((8, 5))
    assert classify(vectors, np.arange(8) + 1, 9, vectors).tolist() == [1] * 8  # the first of those that were seen


def test_as_many_tags_as_queries_still_give_features() -> None:
    vectors = np.random.default_rng(0).standard_normal((10, 5))
    groups = np.ones((10, 1))
    _, features = fit(vectors, np.arange(10), groups, 3, draw_folds(10, 0))
    assert np.isfinite(features).all()
