"""Predictor, tags, dimension and leaves chosen by cross-validation on the training queries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, train_params

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting import choice, kept, trial
from symbiosis.routing.fitting.choice import PredictorChoice, choose, simplest_of_best
from symbiosis.routing.fitting.judging import Judge, Verdict, judge
from symbiosis.routing.fitting.kept import Kept
from symbiosis.routing.fitting.settings import prepare
from symbiosis.routing.fitting.training import train


def world(n: int, seed: int = 0, labels: bool = True) -> Split:
    outcomes, vectors, domain = draw(n, seed)
    names = [DOMAINS[d] if labels else "all" for d in domain]
    return Split(outcomes, vectors, names, names)


BUDGET = {"queries": 300, "trees": 30, "dimensions": [4, 8], "leaves": [2, 5], "decays": [1.5, 4]}
LEFT_OPEN = train_params(
    predictor="auto",
    tags="auto",
    dimension="auto",
    choice=BUDGET,
    tag_penalties="auto",
    component_penalties="auto",
    forest={"trees": 30, "minimum_leaf": "auto"},
    network={"steps": 20, "decay": "auto"},
)


@pytest.fixture(scope="module")
def chosen() -> PredictorChoice:
    return choose(world(300), LLMS, LEFT_OPEN)


def test_features_and_then_predictors_on_the_best_of_them_are_judged(chosen: PredictorChoice) -> None:
    settings = [one.setting for one in chosen.tried]
    linear = [(one.tags, one.dimension) for one in settings if one.predictor == "linear"]
    # Sub-domains are the domains here, and are tried once.
    sources = ("none", "domain", "clusters")
    assert linear[:3] == [(tags, 4) for tags in sources]
    first = max(chosen.tried[:3], key=lambda one: one.verdict.aiq).setting.tags
    assert linear[3:] == [(tags, 8) for tags in sources if tags in ("none", first)]
    judged = chosen.tried[: len(linear)]
    best = max(judged, key=lambda one: one.verdict.aiq).setting
    untagged = max((one for one in judged if one.setting.tags == "none"), key=lambda one: one.verdict.aiq).setting
    beyond = chosen.tried[len(linear) :]
    trees = [one for one in beyond if one.setting.predictor in ("stacked", "linear+stacked")]
    level = max(one.verdict.aiq for one in judged)
    lead = max(one.verdict.aiq for one in trees if one.setting.minimum_leaf == 5) - level
    # Other leaves, and no tags, are tried only where trees are of use.
    places = {(one.tags, one.dimension) for one in ((best, untagged) if lead > 0 else (best,))}
    leaves = {2, 5} if lead > 0 else {5}
    for predictor in ("stacked", "linear+stacked"):
        own = [one for one in settings if one.predictor == predictor]
        assert {(one.tags, one.dimension) for one in own} == places
        assert {one.minimum_leaf for one in own} == leaves
    networks = [one for one in beyond if one.setting.decay is not None]
    own = [one.setting for one in networks if one.setting.predictor == "network"]
    places = [(one.tags, one.dimension, decay) for one in dict.fromkeys((best, untagged)) for decay in (1.5, 4)]
    # Another decay, and no tags, are tried only where a network is of use.
    first = max(one.verdict.aiq for one in networks if (one.setting.tags, one.setting.decay) == (best.tags, 1.5))
    of_use = first > max(one.verdict.aiq for one in (*judged, *trees))
    assert {(one.tags, one.dimension, one.decay) for one in own} == set(places if of_use else places[:1])
    for predictor in ("linear+network", "stacked+network", "linear+stacked+network"):
        mean = next(one for one in beyond if one.setting.predictor == predictor)
        parts = [
            next(
                one.held_out
                for one in chosen.tried
                if one.setting
                == replace(
                    mean.setting,
                    predictor=part,
                    minimum_leaf=mean.setting.minimum_leaf if part == "stacked" else None,
                    decay=mean.setting.decay if part == "network" else None,
                )
            )
            for part in predictor.split("+")
        ]
        np.testing.assert_allclose(mean.held_out, np.mean(parts, axis=0), rtol=0, atol=1e-12)
    assert all(0 < one.verdict.brier < 0.25 for one in chosen.tried)
    assert chosen.queries == 300
    picked = settings[chosen.chosen]
    assert (chosen.params.predictor, chosen.params.tags, chosen.params.dimension) == (
        picked.predictor,
        picked.tags,
        picked.dimension,
    )


def test_a_richer_candidate_must_lead_beyond_noise() -> None:
    samples = np.random.default_rng(0).standard_normal((3, 100)) * 0.01
    samples -= samples.mean(axis=1, keepdims=True)
    simple = Verdict(0.2, 0.80, 0.7, 0.80 + samples[0])
    error = float((samples[1] - samples[0]).std())
    within, beyond = (
        Verdict(0.2, 0.80 + share * choice.NOISE * error, 0.7, 0.80 + share * choice.NOISE * error + samples[1])
        for share in (0.9, 1.1)
    )

    def taken(*verdicts: Verdict) -> int:
        return simplest_of_best([one.aiq for one in verdicts], verdicts)

    assert taken(simple, within) == 0
    assert taken(simple, beyond) == 1
    assert taken(beyond, simple) == 0
    lead = beyond.lead(simple)
    assert lead.difference == pytest.approx(1.1 * choice.NOISE * error)
    assert lead.standard_error == pytest.approx(error)
    assert lead.low < lead.difference < lead.high


def test_verdicts_are_paired_and_as_without_noise(chosen: PredictorChoice) -> None:
    split = world(300)
    held_out = chosen.tried[0].held_out
    bench = Judge.of(split.outcomes, LLMS, seed=3)
    curve = bench.curve(held_out)
    whole = bench.verdict(held_out, curve)
    assert whole.lead(whole).standard_error == 0
    assert judge(held_out, split.outcomes, LLMS, bench.cost_scale) == {"brier": whole.brier, "aiq": whole.aiq}
    assert bench.aiq(curve, np.arange(300)) == whole.aiq
    assert bench.aiq(curve, np.arange(100)) != whole.aiq
    assert 0.001 < whole.samples.std() < 0.1
    np.testing.assert_allclose(bench.weights.sum(axis=1), 1)


def test_the_report_names_the_chosen_and_the_runner_up(chosen: PredictorChoice) -> None:
    report = chosen.report()["choice"]
    assert report["chosen"]["predictor"] == chosen.params.predictor
    others = [one.verdict.aiq for place, one in enumerate(chosen.tried) if place != chosen.chosen]
    assert report["runner_up"]["aiq"] == pytest.approx(max(others), rel=1e-5)
    own = chosen.tried[chosen.chosen].verdict.aiq
    assert report["runner_up"]["lead"]["difference"] == pytest.approx(own - max(others), abs=1e-5)
    assert len(report["tried"]) == len(chosen.tried)
    assert report["trees"] == 30
    assert report["nested_aiq"] == pytest.approx(chosen.nested_aiq, rel=1e-5)


def test_the_choice_is_judged_on_queries_that_did_not_choose(chosen: PredictorChoice) -> None:
    """With one candidate there is no choice, and the nested figure is its own."""
    split = world(300)
    alone = choose(
        split,
        LLMS,
        train_params(predictor="linear", tags="none", dimension="auto", choice=BUDGET | {"dimensions": [4]}),
    )
    assert alone.nested_aiq == pytest.approx(alone.tried[0].verdict.aiq)
    assert chosen.nested_aiq <= max(tried.verdict.aiq for tried in chosen.tried) + 1e-3


def test_values_that_are_given_are_kept() -> None:
    given = train_params(predictor="stacked", tags="domain")
    assert choose(world(60), LLMS, given) == PredictorChoice(given)
    half = choose(world(120), LLMS, train_params(predictor="auto", tags="none"))
    assert half.params.tags == "none"
    assert {one.setting.tags for one in half.tried} == {"none"}
    assert {one.setting.dimension for one in half.tried} == {8}
    other = choose(world(120), LLMS, train_params(predictor="stacked", tags="auto"))
    assert other.params.predictor == "stacked"
    assert {one.setting.minimum_leaf for one in other.tried} == {5}
    published = choose(world(120), LLMS, train_params(predictor="forest", tags="auto"))
    assert published.params.predictor == "forest"


def test_a_table_without_labels_is_not_asked_for_them() -> None:
    sources = {one.setting.tags for one in choose(world(150, labels=False), LLMS, LEFT_OPEN).tried}
    assert sources == {"none", "clusters"}


def test_the_budget_bounds_the_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(trial, "prepare", lambda split, *rest: seen.append(len(split)) or prepare(split, *rest))
    few = choose(world(300), LLMS, train_params(predictor="linear", tags="auto", choice=BUDGET | {"queries": 80}))
    assert set(seen) == {80}
    assert few.queries == 80


@pytest.mark.parametrize(
    "file", ["choice.py", "fitting.py", "shrinkage.py", "features.py", "forests.py", "networks.py", "tags.py"]
)
def test_other_code_never_picks_up_what_was_kept(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = world(60)

    def place() -> str:
        return Kept(tmp_path).of(LEFT_OPEN, split)._place("a candidate").parent.name

    before, whole = place(), kept.sha256_of
    assert place() == before
    monkeypatch.setattr(kept, "sha256_of", lambda path: "changed" if path.name == file else whole(path))
    assert place() != before


def test_a_choice_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, whole = world(150), []
    fit_predictor = trial.fit_predictor

    def counted(*arguments: object) -> object:
        if len(whole) == limit:
            raise KeyboardInterrupt
        whole.append(arguments[0])
        return fit_predictor(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "fit_predictor", counted)
    limit = 1000
    straight = choose(split, LLMS, LEFT_OPEN)
    fits, limit = len(whole), 4
    whole.clear()
    with pytest.raises(KeyboardInterrupt):
        choose(split, LLMS, LEFT_OPEN, Kept(tmp_path / "run"))
    whole.clear()
    limit = 1000
    resumed = choose(split, LLMS, LEFT_OPEN, Kept(tmp_path / "run"))
    assert len(whole) == fits - 4
    assert resumed.report() == straight.report()
    damaged = next((tmp_path / "run").glob("*/*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    whole.clear()
    assert choose(split, LLMS, LEFT_OPEN, Kept(tmp_path / "run")).report() == straight.report()
    assert len(whole) == 1
    whole.clear()
    choose(world(150, seed=1), LLMS, LEFT_OPEN, Kept(tmp_path / "run"))
    assert len(whole) > 4  # of other data
    Kept(tmp_path / "run").clear()
    assert not (tmp_path / "run").exists()


def test_leading_components_are_those_of_a_smaller_fit() -> None:
    split = world(150)
    wide, narrow = (prepare(split, train_params(dimension=dimension), "domain") for dimension in (8, 3))
    cut = wide.leading(3)
    assert cut.feature_map.dimension == narrow.feature_map.dimension
    for name in ("crossed", "told"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(narrow, name))
    np.testing.assert_array_equal(cut.feature_map(split.embeddings), narrow.feature_map(split.embeddings))
    assert narrow.leading(8) is narrow


def test_training_with_an_open_choice_is_training_with_what_is_chosen(chosen: PredictorChoice) -> None:
    split = world(300)
    router, report = train(split, LLMS, LEFT_OPEN)
    assert report["predictor"] == chosen.params.predictor
    assert report["tag_source"] == chosen.params.tags
    explicit, plain = train(split, LLMS, chosen.params)
    assert "choice" not in plain
    np.testing.assert_array_equal(router.heads.weights, explicit.heads.weights)


@pytest.mark.parametrize("tags", ["none", "clusters"])
def test_without_labels_the_router_is_not_the_global_mean(tags: str) -> None:
    """Penalties that are told from the table leave of the components what helps."""
    training, test = world(400, labels=False), world(300, seed=1, labels=False)
    params = train_params(tags=tags, tag_penalties="auto", component_penalties="auto")
    router = train(training, LLMS, params)[0]
    predicted = router.predict(router.feature_map(test.embeddings), test.outcomes.prompt_tokens)
    brier = ((predicted.quality - test.outcomes.quality) ** 2).mean()
    mean = ((training.outcomes.quality.mean(axis=0) - test.outcomes.quality) ** 2).mean()
    assert brier < 0.9 * mean
