"""Predictor and tags chosen by cross-validation on the training queries."""

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.model import choice
from symbiosis.routing.model.choice import Candidate, PredictorChoice, choose, simplest_of_best
from symbiosis.routing.model.training import train


def world(n: int, seed: int = 0, labels: bool = True) -> Split:
    outcomes, vectors, domain = draw(n, seed)
    names = [DOMAINS[d] if labels else "all" for d in domain]
    return Split(outcomes, vectors, names, names)


LEFT_OPEN = train_params(predictor="auto", tags="auto")


@pytest.fixture(scope="module")
def chosen() -> PredictorChoice:
    return choose(world(300), LLMS, LEFT_OPEN)


def test_every_source_of_tags_and_then_every_predictor_is_judged(chosen: PredictorChoice) -> None:
    tried = [(one.predictor, one.tags) for one in chosen.tried]
    tags = tried[3][1]
    assert tried == [
        ("linear", "none"),
        ("linear", "subdomain"),
        ("linear", "clusters"),
        ("stacked", tags),
        ("forest", tags),
    ]
    assert all(0 < one.brier < 0.25 for one in chosen.tried)
    best = simplest_of_best([one for one in chosen.tried if one.tags == tags])
    assert (chosen.params.predictor, chosen.params.tags) == (best.predictor, tags)
    assert chosen.queries == 300


def test_of_candidates_as_good_the_simplest_is_taken() -> None:
    simple, better, best = (
        Candidate(predictor, "none", 0.2, aiq)
        for predictor, aiq in (("linear", 0.8), ("stacked", 0.8009), ("forest", 0.8018))
    )
    assert simplest_of_best([simple, better]) is simple
    assert simplest_of_best([simple, better, best]) is better


def test_the_report_names_the_chosen_and_the_runner_up(chosen: PredictorChoice) -> None:
    report = chosen.report()["choice"]
    assert report["chosen"]["predictor"] == chosen.params.predictor
    others = [
        one.aiq for one in chosen.tried if (one.predictor, one.tags) != (chosen.params.predictor, chosen.params.tags)
    ]
    assert report["runner_up"]["aiq"] == pytest.approx(max(others), rel=1e-5)
    assert len(report["tried"]) == 5
    assert report["trees"] == 30


def test_values_that_are_given_are_kept() -> None:
    given = train_params(predictor="stacked", tags="domain")
    assert choose(world(60), LLMS, given) == PredictorChoice(given, (), 0, None)
    half = choose(world(120), LLMS, train_params(predictor="auto", tags="none"))
    assert half.params.tags == "none"
    assert {one.tags for one in half.tried} == {"none"}
    other = choose(world(120), LLMS, train_params(predictor="stacked", tags="auto"))
    assert other.params.predictor == "stacked"


def test_a_table_without_labels_is_not_asked_for_them() -> None:
    sources = {one.tags for one in choose(world(150, labels=False), LLMS, LEFT_OPEN).tried}
    assert sources == {"none", "clusters"}


def test_the_budget_bounds_the_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    prepare = choice.prepare
    monkeypatch.setattr(choice, "prepare", lambda split, *rest: seen.append(len(split)) or prepare(split, *rest))
    few = choose(world(300), LLMS, train_params(predictor="linear", tags="auto", choice={"queries": 80, "trees": 30}))
    assert set(seen) == {80}
    assert few.queries == 80
    assert few.fit is None  # fitted to some of the queries only


def test_training_goes_on_from_the_fits_of_the_choice(chosen: PredictorChoice) -> None:
    split = world(300)
    router, report = train(split, LLMS, LEFT_OPEN)
    assert report["predictor"] == chosen.params.predictor
    assert report["tag_source"] == chosen.params.tags
    explicit, plain = train(split, LLMS, chosen.params)
    assert "choice" not in plain
    np.testing.assert_array_equal(router.heads.weights, explicit.heads.weights)


def test_without_labels_the_router_is_not_the_global_mean() -> None:
    """The penalties meant for labels leave nothing of the components; without labels weaker ones are tried."""
    stiff = {"component_penalties": [1000, 10000], "component_penalties_without_labels": [10, 30, 100, 1000, 10000]}
    training, test = world(400, labels=False), world(300, seed=1, labels=False)
    router, report = train(training, LLMS, train_params(tags="none", **stiff))
    assert report["component_penalty"] < 1000
    predicted = router.predict(router.feature_map(test.embeddings), test.outcomes.prompt_tokens)
    brier = ((predicted.quality - test.outcomes.quality) ** 2).mean()
    mean = ((training.outcomes.quality.mean(axis=0) - test.outcomes.quality) ** 2).mean()
    assert brier < 0.9 * mean
