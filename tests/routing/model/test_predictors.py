"""What the router predicts: features, linear heads, forests, calibration, and the state on disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_world import DOMAINS, LLMS, draw, long_table, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.fitting.shrinkage import likeliest_penalties
from symbiosis.routing.fitting.training import cost_scale_of, train
from symbiosis.routing.metrics.metrics import calibration_error
from symbiosis.routing.model import calibration, features, lengths
from symbiosis.routing.model.forests import Forest, SharedForest, Walk
from symbiosis.routing.model.linear_heads import REFRESH, LinearHeads, inverse_of, sherman_morrison
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.predictors import TagPrior, fit_lengths
from symbiosis.routing.model.router import Router
from symbiosis.routing.queries.tags import groups_of, number_tags

OFFLINE, VECTORS, DOMAIN = draw(400, seed=0)
LABELS = [DOMAINS[d] for d in DOMAIN]
FAMILIES: tuple[lengths.Family, ...] = ("mlp", "forest", "neighbours", "mlp")


def trained(**changes: object) -> Router:
    return train(Split(OFFLINE, VECTORS, LABELS, LABELS), LLMS, train_params(**changes))[0]


@pytest.fixture(scope="module")
def router() -> Router:
    return trained()


@pytest.fixture(scope="module")
def forest_router() -> Router:
    """With every family among the regressors of the length, whatever validates best."""
    router = trained(predictor="forest", calibration="isotonic")
    assert isinstance(router.prior, ForestPrior)
    x, log_length = router.feature_map(VECTORS), np.log(OFFLINE.response_tokens)
    length = [lengths.fit_family(family, x, log_length[:, arm], 30, 5, 10, arm) for arm, family in enumerate(FAMILIES)]
    return replace(router, prior=replace(router.prior, length=tuple(length)))


@pytest.fixture(scope="module")
def stacked_router() -> Router:
    return trained(predictor="stacked")


@pytest.fixture(scope="module")
def average_router() -> Router:
    return trained(predictor="linear+stacked")


# ---------------------------------------------------------------- rank-one updates


def test_sherman_morrison_equals_the_inverse_after_ten_thousand_updates() -> None:
    rng = np.random.default_rng(0)
    matrix = np.eye(24)
    inverse = matrix.copy()
    for _ in range(10_000):
        x = rng.standard_normal(24)
        x /= np.linalg.norm(x)
        matrix += np.outer(x, x)
        sherman_morrison(inverse, x)
    direct = np.linalg.inv(matrix)
    assert np.abs(inverse - direct).max() <= 1e-6 * np.abs(direct).max()
    np.testing.assert_allclose(inverse_of(matrix), direct, rtol=1e-9, atol=1e-15)


def test_online_updates_equal_a_fit_to_all_outcomes() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((REFRESH + 60, 6)), rng.standard_normal((REFRESH + 60, 2, 2))
    heads = LinearHeads.fit(x[:20], y[:20], penalty=3.0)
    for row in range(20, len(x)):
        heads.update(1, x[row], y[row, 1])
    whole = LinearHeads.fit(x, y, penalty=3.0)
    mean, variance = heads.predict(x[:5])
    expected_mean, expected_variance = whole.predict(x[:5])
    np.testing.assert_allclose(mean[:, 1], expected_mean[:, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(variance[:, 1], expected_variance[:, 1], rtol=1e-9)
    few = LinearHeads.fit(x[:20], y[:20], penalty=3.0)
    np.testing.assert_array_equal(heads.weights[0], few.weights[0])
    np.testing.assert_array_equal(heads.updates, [0, REFRESH + 40])


def test_the_inverse_is_computed_afresh_every_so_many_updates() -> None:
    rng = np.random.default_rng(8)
    heads = LinearHeads.blank(2, 4, 1, penalty=1.0)
    for _ in range(REFRESH):
        heads.update(0, rng.standard_normal(4), rng.standard_normal(1))
    inverse = inverse_of(heads.precision[0])
    np.testing.assert_array_equal(heads.weights[0], np.hstack([inverse, inverse @ heads.moments[0]]))
    heads.update(0, rng.standard_normal(4), rng.standard_normal(1))
    assert not np.array_equal(heads.weights[0][:, :4], inverse_of(heads.precision[0]))


def test_variance_is_the_quadratic_form_and_shrinks_with_what_was_seen() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((30, 5))
    heads = LinearHeads.fit(x, rng.standard_normal((30, 3, 1)), penalty=2.0)
    direct = np.linalg.inv(2.0 * np.eye(5) + x.T @ x)
    _, variance = heads.predict(x)
    np.testing.assert_allclose(variance, np.tile(np.einsum("nd,de,ne->n", x, direct, x)[:, None], 3), rtol=1e-9)
    before = heads.predict(x[:1])[1]
    heads.update(2, x[0], np.zeros(1))
    after = heads.predict(x[:1])[1]
    assert after[0, 2] < before[0, 2]
    np.testing.assert_array_equal(after[0, :2], before[0, :2])


def test_ridge_equals_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((50, 7)), rng.standard_normal((50, 2, 2))
    ours = LinearHeads.fit(x, y, penalty=4.0).predict(x)[0]
    theirs = Ridge(alpha=4.0, fit_intercept=False).fit(x, y.reshape(50, 4)).predict(x)
    np.testing.assert_allclose(ours.reshape(50, 4), theirs, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- features and priors


def test_tags_are_probabilities_read_off_the_embedding() -> None:
    tags, names = number_tags(LABELS, [None] * len(LABELS), minimum=5)
    assert names == sorted(DOMAINS)
    folds = features.draw_folds(len(tags), seed=0)
    groups = groups_of(tags, ["science" if d != "cooking" else d for d in LABELS])
    feature_map, crossed = features.fit(VECTORS, tags, groups, 6, folds)
    np.testing.assert_allclose(crossed[:, :3].sum(axis=1), 1, rtol=1e-12)
    assert (crossed[:, :3].argmax(axis=1) == tags).mean() > 0.9
    direct = feature_map(VECTORS)
    assert direct.shape == (400, 3 + 2 + 1 + 6) == (400, feature_map.dimension)
    # Groups in the order of their names: cooking, and science with the other two domains.
    np.testing.assert_allclose(direct[:, 3:5], np.column_stack([direct[:, 2], direct[:, :2].sum(axis=1)]), atol=1e-15)
    np.testing.assert_array_equal(direct[:, 5], 1.0)
    # Surer of what it was trained on; the components are the same.
    assert direct[np.arange(400), tags].mean() > crossed[np.arange(400), tags].mean()
    np.testing.assert_array_equal(direct[:, 5:], crossed[:, 5:])
    np.testing.assert_allclose(direct[:, 6:].mean(axis=0), 0, atol=1e-12)
    told = feature_map.told(VECTORS, tags)
    np.testing.assert_array_equal(told[:, :3], np.eye(3)[tags])
    np.testing.assert_array_equal(told[:, 5:], direct[:, 5:])


def test_the_classifier_is_only_as_sure_as_it_is_right() -> None:
    rng = np.random.default_rng(2)
    tags = rng.integers(2, size=600)
    vectors = rng.standard_normal((600, 200))
    vectors[:, 0] += 0.8 * tags
    folds = features.draw_folds(600, 0)
    feature_map, crossed = features.fit(vectors, tags, np.ones((2, 1)), 4, folds)
    weights, _ = features._classifier(vectors, tags, 2)
    temperature = (weights[:, 1] / feature_map.tag_weights[:, 1])[0]
    # 200 numbers of noise: unscaled, the classifier would be far too sure of new queries.
    assert temperature > 1.5
    log_loss = -np.log(crossed[np.arange(600), tags]).mean()
    assert log_loss < np.log(2)


def test_components_equal_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    feature_map, _ = features.fit(
        VECTORS, np.zeros(400, dtype=np.int64), np.ones((1, 1)), 4, features.draw_folds(400, 0)
    )
    theirs = PCA(4, svd_solver="full").fit(VECTORS).components_
    np.testing.assert_allclose(np.abs(feature_map.components.T @ theirs.T), np.eye(4), atol=1e-8)
    np.testing.assert_array_equal(feature_map(VECTORS)[:, 0], 1.0)


def test_rare_subdomains_count_as_their_domain_and_rare_domains_as_the_rest() -> None:
    domains = ["a"] * 8 + ["b"] * 2 + ["c"]
    subdomains = ["a / x"] * 4 + ["a / y", "a / y", "a / z", "a / z"] + [None, "b / s", "c / t"]
    tags, names = number_tags(domains, subdomains, minimum=3)
    assert names == ["a", "a / x", "other"]
    assert [names[t] for t in tags] == ["a / x"] * 4 + ["a"] * 4 + ["other"] * 3


def test_a_tag_with_a_single_query_is_never_read_off() -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 4))
    weights, bias = features._classifier(vectors, np.array([0, 0, 0, 0, 1, 2, 2, 2, 2]), 3)
    assert bias[1] == -np.inf
    assert np.isfinite(bias[[0, 2]]).all()
    assert np.isfinite(weights).all()
    alone = features._classifier(vectors[:1], np.array([1]), 3)[1]
    np.testing.assert_array_equal(alone, [-np.inf, 0, -np.inf])


def test_a_tag_belongs_to_the_label_of_most_of_its_queries() -> None:
    groups = groups_of(np.array([0, 0, 0, 1, 2]), ["b", "b", "a", "b", "c"])
    np.testing.assert_array_equal(groups, [[1, 0], [1, 0], [0, 1]])


def test_a_tag_without_queries_is_taken_to_be_like_its_group() -> None:
    # Two groups of two tags each; the last tag has not been seen. By hand, for one LLM, penalty 10, constant free.
    groups = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    feature_map = features.FeatureMap(np.zeros((1, 4)), np.zeros(4), groups, np.zeros(1), np.zeros((1, 0)))
    tags = np.repeat([0, 1, 2], 40)
    y = np.repeat([0.0, 0.2, 0.8], 40)[:, None, None]
    heads = LinearHeads.fit(feature_map.told(np.zeros((120, 1)), tags), y, feature_map.penalties(10.0, 1.0))
    unseen, third = (heads.predict(feature_map.told(np.zeros((1, 1)), np.array([tag])))[0][0, 0, 0] for tag in (3, 2))
    overall = heads.predict(np.array([[0, 0, 0, 0, 0, 0, 1.0]]))[0][0, 0, 0]
    assert overall < unseen < third < 0.8
    # The group's coefficient and the tag's share what is left equally: same penalty, same queries.
    assert unseen - overall == pytest.approx((third - overall) / 2)


def test_folds_are_of_equal_size() -> None:
    np.testing.assert_array_equal(np.bincount(features.draw_folds(23, seed=4)), [5, 5, 5, 4, 4])


def test_tag_prior_by_hand() -> None:
    targets = np.zeros((4, 2, 2))
    targets[:, 0] = np.array([1, 1, 0, 0])[:, None]
    prior = TagPrior.fit(np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]), 2, targets, [1e9, 1e9])
    # The tags' levels over both LLMs: (2 * 0.5 + 5 * 0.25) / 7 and (2 * 0 + 5 * 0.25) / 7: all of quality's prior.
    level = np.array([2.25 / 7, 1.25 / 7])
    np.testing.assert_allclose(prior(np.eye(2))[:, :, 0], np.column_stack([level, level]), atol=1e-8)
    # The first LLM's logs of lengths lie above the mean of both by 0.5, 0.5, 0, 0: by 0.25 overall.
    lead = np.array([2 * 0.5 + 5 * 0.25, 5 * 0.25]) / 7
    np.testing.assert_allclose(prior(np.eye(2))[:, :, 1], np.column_stack([level + lead, level - lead]), atol=1e-8)
    half = prior(np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(half[0, 0, 1], (level + lead).mean(), atol=1e-8)


def test_the_prior_learns_once_what_is_common_to_all_llms() -> None:
    rng = np.random.default_rng(9)
    x = np.hstack([np.ones((500, 1)), rng.standard_normal((500, 1))])
    targets = np.repeat((0.3 * x[:, 1] + 0.02 * rng.standard_normal(500))[:, None, None], 3, axis=1).repeat(2, axis=2)
    targets = targets + np.array([0.1, 0.2, 0.3])[:, None]
    prior = TagPrior.fit(x[:400], np.zeros(400, dtype=np.int64), 1, targets[:400], [1.0, 1e9])
    error = (prior(x[400:]) - targets[400:]).mean(axis=1, keepdims=True)
    assert np.abs(error[:, :, 0]).mean() < 0.03
    assert np.abs(error[:, :, 1]).mean() > 0.15
    # It shifts all LLMs alike.
    np.testing.assert_allclose(np.diff(prior(x[400:]), axis=1), np.diff(prior(x[400:401]), axis=1).repeat(100, axis=0))


def test_lengths_are_right_on_average_where_the_plain_exponential_is_too_short() -> None:
    rng = np.random.default_rng(5)
    log_length = rng.uniform(3, 6, size=(20_000, 1))
    tokens = np.exp(log_length + 0.8 * rng.standard_normal(log_length.shape))
    outcomes = Outcomes(np.arange(20_000), tokens * 0, tokens, tokens, tokens)
    lengths = fit_lengths(log_length, outcomes)
    assert np.exp(log_length).mean() < 0.8 * tokens.mean()
    assert lengths(log_length).mean() == pytest.approx(tokens.mean(), rel=0.03)
    assert lengths(np.array([[1e6]]))[0, 0] == tokens.max()


def test_penalties_are_chosen_by_routing_and_reported() -> None:
    params = train_params(tag_penalties=[1, 100], component_penalties=[1, 100])
    _, report = train(Split(OFFLINE, VECTORS, LABELS, LABELS), LLMS, params)
    for what, tried in report["tried"].items():
        assert list(tried) == ["1", "100"]
        assert tried[f"{report[what]:g}"]["aiq"] == max(judged["aiq"] for judged in tried.values())
    assert set(report["tried"]) == {"tag_penalty", "component_penalty"}
    # The world's domains are plain to see: the predictions beat each LLM's mean, and rank well.
    assert report["all"]["brier"] < 0.8 * report["all"]["brier_of_mean"]
    assert report["all"]["auc"] > 0.8
    assert report["all"]["length_mae_tokens"] < report["all"]["length_mean_tokens"] / 2
    assert set(report["by_llm"]) == set(LLMS.names)


@pytest.mark.parametrize("tags", ["none", "domain", "clusters"])
def test_every_source_of_tags_trains(tags: str) -> None:
    router = trained(tags=tags)
    predictions = router.predict(router.feature_map(VECTORS), OFFLINE.prompt_tokens)
    assert ((predictions.quality - OFFLINE.quality) ** 2).mean() < OFFLINE.quality.var(axis=0).mean()


# ---------------------------------------------------------------- forest


def test_forest_equals_scikit_learn() -> None:
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(6)
    x = rng.standard_normal((200, 5)).astype(np.float32).astype(np.float64)
    x[:, 1] = np.round(x[:, 1], 1)
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    model = RandomForestRegressor(40, random_state=0).fit(x, y)
    new = np.vstack([rng.standard_normal((300, 5)), x])
    np.testing.assert_allclose(Forest.flatten(model).predict(new), model.predict(new), rtol=1e-13, atol=1e-15)
    ours, held_out = Forest.fit(x, y, 40, 1, seed=0)
    again, _ = Forest.fit(x, y, 40, 1, seed=0)
    np.testing.assert_array_equal(ours.predict(new), again.predict(new))
    assert ((held_out - y) ** 2).mean() > 2 * ((ours.predict(x) - y) ** 2).mean()
    assert Forest.constant(0.25).predict(new[:3]).tolist() == [0.25] * 3


def test_forest_mode_is_as_published() -> None:
    """Quality by a forest per LLM; length by the family that validates best; cost from it, the prompt and prices."""
    router, report = train(
        Split(OFFLINE, VECTORS, LABELS, LABELS),
        LLMS,
        train_params(predictor="forest", seed=5, tags="none", calibration="none"),
    )
    assert isinstance(router.prior, ForestPrior)
    folds = features.draw_folds(400, 5)
    _, crossed = features.fit(VECTORS, np.zeros(400, dtype=np.int64), np.ones((1, 1)), 8, folds)
    new = router.feature_map(VECTORS[:50])
    predicted = router.predict(new, OFFLINE.prompt_tokens[:50])
    for arm, name in enumerate(LLMS.names):
        forest, _ = Forest.fit(crossed, OFFLINE.quality[:, arm], 30, 5, 5 + 2 * arm)
        np.testing.assert_array_equal(predicted.quality[:, arm], np.clip(forest.predict(new), 0, 1))
        log_length = np.log(OFFLINE.response_tokens[:, arm])
        chosen = lengths.choose(crossed, log_length, folds, 30, 5, 40, 5 + 2 * arm + 1)
        told = report["by_llm"][name]
        assert told["length_model"] == router.prior.families[arm] == chosen.family
        assert told["length_model_errors"] == pytest.approx(chosen.errors, rel=1e-5)
        # Duan's correction, from predictions held out.
        smear = np.exp(log_length - chosen.held_out).mean()
        tokens = np.minimum(np.exp(chosen.model.predict(new)) * smear, OFFLINE.response_tokens[:, arm].max())
        np.testing.assert_allclose(predicted.response_tokens[:, arm], tokens, rtol=1e-12)
        cost = LLMS.price_prompt[arm] * OFFLINE.prompt_tokens[:50, arm] + LLMS.price_response[arm] * tokens
        np.testing.assert_allclose(predicted.cost_usd[:, arm], cost, rtol=1e-12)


def test_only_forest_mode_has_a_choice_of_length_models() -> None:
    _, report = train(Split(OFFLINE, VECTORS, LABELS, LABELS), LLMS, train_params())
    assert not any("length_model" in told for told in report["by_llm"].values())


def test_an_llm_of_which_nothing_is_known_has_the_mean_of_the_levels(forest_router: Router) -> None:
    assert isinstance(forest_router.prior, ForestPrior)
    assert forest_router.prior.families == FAMILIES
    more = forest_router.prior.with_average()
    assert more.families == (*FAMILIES, "forest")
    told = more(forest_router.feature_map(VECTORS))
    np.testing.assert_allclose(told[:, 4, 1], np.mean([model.level for model in forest_router.prior.length]))
    np.testing.assert_allclose(told[:, 4, 0], np.mean([model.level for model in forest_router.prior.quality]))
    # The levels are about those of the answers.
    expected = np.log(OFFLINE.response_tokens).mean(axis=0)
    np.testing.assert_allclose([model.level for model in forest_router.prior.length], expected, atol=0.3)


def test_a_shared_forest_equals_scikit_learn_and_keeps_its_own_predictions_out_of_bag() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(9)
    x = rng.standard_normal((300, 5)).astype(np.float32).astype(np.float64)
    skill = np.stack([np.sin(2 * x[:, 0]), np.cos(2 * x[:, 1]), x[:, 2]], axis=1)
    targets = np.stack([skill, 3 + skill], axis=2) + 0.3 * rng.standard_normal((300, 3, 2))
    forest, held_out = SharedForest.fit(x, targets, 40, 2, seed=1)
    # The same trees from scikit-learn, on the targets as they are scaled: quality to spread 1, log length to 0.3.
    mean, scale = targets.mean(axis=0), targets.std(axis=0).mean(axis=0) / [1.0, 0.3]
    model = ExtraTreesRegressor(
        40, min_samples_leaf=2, max_features="sqrt", bootstrap=True, oob_score=True, random_state=1
    )
    model.fit(x, ((targets - mean) / scale).reshape(300, 6))
    new = rng.standard_normal((600, 5))
    np.testing.assert_allclose(forest(new), model.predict(new).reshape(600, 3, 2) * scale + mean, rtol=1e-5, atol=1e-5)
    # It remembers what it saw, but not out of bag.
    np.testing.assert_allclose(held_out, model.oob_prediction_.reshape(300, 3, 2) * scale + mean, rtol=1e-9)
    assert ((held_out - targets) ** 2).mean() > 1.3 * ((forest(x) - targets) ** 2).mean()
    part, more = forest.take([2, 0]), forest.with_average()
    np.testing.assert_array_equal(part(new), forest(new)[:, [2, 0]])
    np.testing.assert_array_equal(more(new)[:, :3], forest(new))
    np.testing.assert_allclose(more(new)[:, 3], forest(new).mean(axis=1), rtol=1e-5)


def test_one_query_at_a_time_walks_the_same_trees(stacked_router: Router) -> None:
    forest = stacked_router.prior
    assert isinstance(forest, SharedForest)
    x = stacked_router.feature_map(VECTORS[:50])
    walk = Walk(forest)
    np.testing.assert_array_equal(np.stack([walk(row) for row in x]), forest(x))
    # A forest of one leaf.
    none = np.array([-1])
    leaf = SharedForest(np.zeros(1, dtype=np.int64), none, np.zeros(1), none, none, np.ones((1, 2, 2)))
    np.testing.assert_array_equal(Walk(leaf)(x[0]), np.ones((2, 2)))


def test_stacked_heads_learn_what_the_forest_leaves() -> None:
    # Quality depends on the sign of x1 x2, which is for trees, and on x3 to x8, each a little, which is for lines.
    rng = np.random.default_rng(10)
    x = rng.standard_normal((1500, 8))
    logit = 2 * np.sign(x[:, 0] * x[:, 1])[:, None] * [1.0, -1.0] + x[:, 2:].sum(axis=1)[:, None] * [0.6, -0.6]
    quality = (rng.random((1500, 2)) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    tokens = np.full((1500, 2), 50.0)
    llms = LLMS.take([0, 1])
    outcomes = Outcomes(np.arange(1500), quality, tokens, tokens, llms.cost_usd(tokens, tokens))
    brier = {}
    for predictor in ("linear", "stacked"):
        params = train_params(predictor=predictor, tags="none", component_penalties=[10])
        router, report = train(
            Split(outcomes.take(np.arange(1000)), x[:1000], ["a"] * 1000, ["a"] * 1000), llms, params
        )
        told = router.predict(router.feature_map(x[1000:]), tokens[1000:]).quality
        brier[predictor] = ((told - quality[1000:]) ** 2).mean()
        # What cross-validation promises of new queries holds.
        assert report["all"]["brier"] == pytest.approx(brier[predictor], abs=0.02)
        if predictor == "stacked":
            alone = router.prior(router.feature_map(x[1000:]))[:, :, 0]
            brier["forest alone"] = ((np.clip(alone, 0, 1) - quality[1000:]) ** 2).mean()
    assert brier["stacked"] < brier["forest alone"] - 0.005
    assert brier["stacked"] < brier["linear"] - 0.005


def test_an_average_is_the_mean_of_its_members_and_goes_on_learning(
    average_router: Router, router: Router, stacked_router: Router
) -> None:
    x = average_router.feature_map(VECTORS[:60])

    def raw(one: Router) -> np.ndarray:
        return one.heads.predict(x)[0] + one.prior(x)

    np.testing.assert_allclose(raw(average_router), (raw(router) + raw(stacked_router)) / 2, rtol=1e-9, atol=1e-12)
    learner = average_router.copy()
    before = raw(learner)[0]
    learner.learn(1, x[0], 1.0, 10.0)
    now = raw(learner)[0]
    error = 1 - before[1, 0]
    assert abs(1 - now[1, 0]) < abs(error)
    np.testing.assert_array_equal(now[[0, 2, 3]], before[[0, 2, 3]])
    # What is computed afresh from A and b is what was there.
    fresh = average_router.copy()
    fresh.heads.refresh(2)
    np.testing.assert_allclose(fresh.heads.weights[2], average_router.heads.weights[2], rtol=1e-7, atol=1e-10)


def test_the_likeliest_penalties_are_those_the_table_was_drawn_with() -> None:
    rng = np.random.default_rng(11)
    n, llms = 2000, 8
    vectors = rng.standard_normal((n, 6))
    tags = rng.integers(10, size=n)
    feature_map, _ = features.fit(vectors, tags, np.ones((10, 1)), 6, features.draw_folds(n, 0))
    x = feature_map.told(vectors, tags)
    noise = rng.standard_normal((n, llms)) * 0.4

    def likeliest(of_tags: float, of_components: float) -> tuple[float, float]:
        spread = 0.4 / np.sqrt(feature_map.penalties(of_tags, of_components))
        spread[10:12] = 0.0  # the group and the constant, of which there is one each
        left = x @ (spread[:, None] * np.random.default_rng(12).standard_normal((x.shape[1], llms))) + noise
        return likeliest_penalties(feature_map, x, left)

    for truth in ((10.0, 10.0), (10.0, 300.0), (100.0, 10.0)):
        for told, drawn in zip(likeliest(*truth), truth, strict=True):
            assert drawn / 3 < told < drawn * 3
    # Of noise alone nothing is left, and what is not known does not count.
    assert min(likeliest_penalties(feature_map, x, noise)) > 500
    known = rng.random((n, llms)) < 0.5
    left = np.where(known, noise, 5.0 * vectors[:, :1])
    assert min(likeliest_penalties(feature_map, x, left, known)) > 500


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_mends_overconfidence_and_keeps_the_order(kind: calibration.Kind) -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(0.2, 0.8, size=(4000, 2))
    predicted = np.clip(0.5 + 1.6 * (truth - 0.5), 0, 1)
    observed = (rng.random(truth.shape) < truth).astype(float)
    curve = calibration.fit(kind, predicted[:2000], observed[:2000])
    for arm in range(2):
        before = calibration_error(predicted[2000:, arm], observed[2000:, arm])
        after = calibration_error(curve(predicted[2000:])[:, arm], observed[2000:, arm])
        assert after < 0.7 * before
    line = np.tile(np.linspace(-0.5, 1.5, 50)[:, None], 2)
    assert (np.diff(curve(line), axis=0) >= 0).all()
    assert ((curve(line) >= 0) & (curve(line) <= 1)).all()


def test_calibration_error_by_hand() -> None:
    predicted, observed = np.array([0.1, 0.15, 0.95, 0.92]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(predicted, observed) == pytest.approx((abs(0.25 - 1) + abs(1.87 - 2)) / 4)


# ---------------------------------------------------------------- LLMs come and go


@pytest.mark.parametrize("kind", ["router", "forest_router", "stacked_router", "average_router"])
@settings(max_examples=25)
@given(kept=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True), rows=st.integers(1, 70))
def test_removing_llms_leaves_the_others_bit_identical(
    kind: str, request: pytest.FixtureRequest, kept: list[int], rows: int
) -> None:
    router: Router = request.getfixturevalue(kind)
    x, prompt = router.feature_map(VECTORS[:rows]), OFFLINE.prompt_tokens[:rows]
    whole = router.predict(x, prompt)
    part = router.take(kept).predict(x, prompt[:, kept])
    for name in ("quality", "response_tokens", "cost_usd", "variance"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:, kept])
    np.testing.assert_array_equal(router.take(kept).heads.precision, router.heads.precision[kept])


@pytest.mark.parametrize("kind", ["router", "forest_router", "stacked_router", "average_router"])
def test_adding_an_llm_leaves_the_others_bit_identical(kind: str, request: pytest.FixtureRequest) -> None:
    router: Router = request.getfixturevalue(kind)
    more = router.with_llm("new", 1e-6, 2e-6, 0.5, 50.0, penalty=10.0)
    x = router.feature_map(VECTORS[:40])
    prompt = np.hstack([OFFLINE.prompt_tokens[:40], OFFLINE.prompt_tokens[:40, :1]])
    before, after = router.predict(x, prompt[:, :4]), more.predict(x, prompt)
    for name in ("quality", "response_tokens", "cost_usd", "variance"):
        np.testing.assert_array_equal(getattr(after, name)[:, :4], getattr(before, name))
    # Nothing is known of it: expected like the others on average, and more uncertain than any.
    assert (after.variance[:, 4] > after.variance[:, :4].max(axis=1)).all()
    learner = more.copy()
    for row in range(40):
        learner.learn(4, x[row], 1.0, 30.0)
    now = learner.predict(x, prompt)
    assert now.quality[:, 4].mean() > after.quality[:, 4].mean() + 0.1
    for name in ("quality", "response_tokens", "cost_usd", "variance"):
        np.testing.assert_array_equal(getattr(now, name)[:, :4], getattr(before, name))
    with pytest.raises(InputError, match="an LLM 'new' already"):
        more.with_llm("new", 1e-6, 2e-6, 0.5, 50.0, penalty=10.0)


def test_copies_learn_on_their_own(router: Router) -> None:
    x = router.feature_map(VECTORS[:3])
    before = router.predict(x, OFFLINE.prompt_tokens[:3]).quality
    router.copy().learn(0, x[0], 0.0, 10.0)
    np.testing.assert_array_equal(router.predict(x, OFFLINE.prompt_tokens[:3]).quality, before)


@pytest.mark.parametrize(
    ("arm", "quality", "tokens", "message"),
    [
        (9, 1.0, 5.0, "LLM 9: there are LLMs 0 to 3"),
        (-1, 1.0, 5.0, "LLM -1"),
        (0, np.nan, 5.0, "'alge-mid': quality nan must lie in 0..1"),
        (0, 1.5, 5.0, "quality 1.5"),
        (0, 0.5, np.nan, "response tokens nan"),
        (0, 0.5, np.inf, "response tokens inf"),
    ],
)
def test_bad_feedback_is_refused_and_changes_nothing(
    router: Router, arm: int, quality: float, tokens: float, message: str
) -> None:
    learner = router.copy()
    with pytest.raises(InputError, match=message):
        learner.learn(arm, router.feature_map(VECTORS[:1])[0], quality, tokens)
    np.testing.assert_array_equal(learner.heads.weights, router.heads.weights)


# ---------------------------------------------------------------- state on disk


@pytest.mark.parametrize("kind", ["router", "forest_router", "stacked_router", "average_router"])
def test_a_loaded_router_predicts_the_same_to_the_last_bit(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    router: Router = request.getfixturevalue(kind).copy()
    x = router.feature_map(VECTORS)
    router.learn(2, x[0], 0.0, 99.0)
    router.save(tmp_path / "state")
    loaded = Router.load(tmp_path / "state")
    for name in ("quality", "response_tokens", "cost_usd", "variance"):
        np.testing.assert_array_equal(
            getattr(loaded.predict(loaded.feature_map(VECTORS), OFFLINE.prompt_tokens), name),
            getattr(router.predict(x, OFFLINE.prompt_tokens), name),
        )
    assert loaded.llms.names == LLMS.names
    assert loaded.cost_scale == router.cost_scale
    loaded.learn(2, x[1], 1.0, 5.0)
    assert loaded.heads.updates.tolist() == [0, 0, 2, 0]


def test_the_same_training_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        trained(tags="clusters", calibration="platt").save(tmp_path / name)
    for file in ("router.safetensors", "router.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("damage", ["half", "flipped", "missing", "other json", "version", "extra key", "no llm"])
def test_a_damaged_state_is_refused(router: Router, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "state"
    router.save(folder)
    tensors, manifest = folder / "router.safetensors", folder / "router.json"
    content, state = tensors.read_bytes(), json.loads(manifest.read_text())
    if damage == "half":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        tensors.unlink()
    elif damage == "other json":
        manifest.write_text(manifest.read_text()[:-20])
    else:
        change = {"version": {"format": 1}, "extra key": {"what": 1}, "no llm": {"llms": state["llms"][:-1]}}[damage]
        manifest.write_text(json.dumps(state | change))
    with pytest.raises(InputError, match=r"router\.(safetensors|json).*(delete|run `dvc repro)"):
        Router.load(folder)


def test_the_state_names_the_families_of_the_lengths(forest_router: Router, router: Router, tmp_path: Path) -> None:
    router.save(tmp_path / "linear")
    plain = json.loads((tmp_path / "linear/router.json").read_text())
    assert plain["format"] == 2
    assert "length_models" not in plain
    folder = tmp_path / "forest"
    forest_router.save(folder)
    state = json.loads((folder / "router.json").read_text())
    assert (state["format"], state["length_models"]) == (3, list(FAMILIES))
    for change, message in (
        ({"length_models": list(FAMILIES[:3])}, "length_models: one for each LLM"),
        ({"length_models": ["mlp", "forest", "ridge", "mlp"]}, r"`length_models\.2`"),
        ({"length_models": ["forest"] * 4}, r"the tensor 'prior\.0\.1\.roots' is missing"),
        ({"format": 2}, "format 3, and no other, has length_models"),
        ({"predictor": "linear"}, "with the predictor forest alone"),
    ):
        (folder / "router.json").write_text(json.dumps(state | change))
        with pytest.raises(InputError, match=message):
            Router.load(folder)


def test_a_state_from_before_the_choice_of_length_models_is_read(forest_router: Router, tmp_path: Path) -> None:
    assert isinstance(forest_router.prior, ForestPrior)
    old = replace(forest_router, prior=replace(forest_router.prior, length=forest_router.prior.quality))
    old.save(tmp_path / "state")
    path = tmp_path / "state/router.json"
    state = json.loads(path.read_text()) | {"format": 2}
    path.write_text(json.dumps({key: value for key, value in state.items() if key != "length_models"}))
    x = old.feature_map(VECTORS[:9])
    np.testing.assert_array_equal(Router.load(tmp_path / "state").prior(x), old.prior(x))


# ---------------------------------------------------------------- reading outcomes


def test_outcomes_survive_the_long_table(tmp_path: Path) -> None:
    path = tmp_path / "offline.parquet"
    long_table(OFFLINE).sample(fraction=1, shuffle=True, seed=3).write_parquet(path)
    loaded = Outcomes.load(path, LLMS)
    np.testing.assert_array_equal(loaded.quality, OFFLINE.quality)
    np.testing.assert_array_equal(loaded.cost_usd, OFFLINE.cost_usd)
    np.testing.assert_array_equal(loaded.queries, OFFLINE.queries)
    assert cost_scale_of(loaded) == pytest.approx(np.quantile(OFFLINE.cost_usd[:, 2], 0.999))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("quality") + 0.5, "query 0 with LLM .* quality must lie in 0..1"),
        (pl.lit(None, dtype=pl.Float32).alias("quality"), "query 0 with LLM 0"),
        (pl.lit(None, dtype=pl.Int32).alias("response_tokens"), "query 0 with LLM 0"),
        (-pl.col("cost_usd"), "cost must be known and not negative"),
    ],
)
def test_bad_outcomes_are_refused(tmp_path: Path, change: pl.Expr, message: str) -> None:
    path = tmp_path / "offline.parquet"
    long_table(OFFLINE).with_columns(change).write_parquet(path)
    with pytest.raises(InputError, match=message):
        Outcomes.load(path, LLMS)


def test_a_repeated_cell_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "offline.parquet", long_table(OFFLINE)
    pl.concat([whole, whole[5:6]]).write_parquet(path)
    with pytest.raises(InputError, match=r"query 1 has more than one outcome with LLM 1 \(2 such"):
        Outcomes.load(path, LLMS)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="is damaged"):
        Outcomes.load(path, LLMS)
    with pytest.raises(InputError, match=r"absent\.parquet is missing"):
        Outcomes.load(tmp_path / "absent.parquet", LLMS)


def test_an_llm_without_price_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "llm": ["a", "b"],
            "price_prompt": [1e-6, None],
            "price_response": [1e-6, 1e-6],
            "startup_s": [0.1, 0.1],
            "tokens_per_s": [10.0, 10.0],
        }
    )
    frame.write_parquet(tmp_path / "llms.parquet")
    with pytest.raises(InputError, match="LLM 'b' has price_prompt None"):
        Llms.load(tmp_path / "llms.parquet")


def test_prompts_are_as_long_as_the_text_lets_expect() -> None:
    """Examples and tools come with some domains: their prompts are longer than their texts."""
    context = np.array([700.0 if label == "cooking" else 40.0 for label in LABELS])
    outcomes = replace(OFFLINE, prompt_tokens=np.repeat(context[:, None], len(LLMS), axis=1))
    router, _ = train(Split(outcomes, VECTORS, LABELS, [None] * len(LABELS)), LLMS, train_params())
    features = router.feature_map(VECTORS)
    expected = router.prompt_tokens(features)
    long, short = (expected[np.array([(label == "cooking") == wanted for label in LABELS])] for wanted in (True, False))
    assert np.median(long) > 5 * np.median(short)
    counted = router.predict(features, np.broadcast_to(expected, outcomes.prompt_tokens.shape))
    np.testing.assert_array_equal(router.predict(features).cost_usd, counted.cost_usd)
    more = router.with_llm("new", 1e-6, 2e-6, 0.5, 60.0, 1.0)
    np.testing.assert_allclose(more.prompt_tokens(features)[:, -1], expected.mean(axis=1))
    np.testing.assert_array_equal(more.prompt_tokens(features)[:, :-1], expected)
    with pytest.raises(InputError, match="give prompt_tokens"):
        replace(router, prompts=None).predict(features)
