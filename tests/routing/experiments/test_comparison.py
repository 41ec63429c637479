"""The comparison of routers: splits, methods, intervals, the studies of feedback and the report."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from routing_world import DOMAINS, LLMS, compare_params, draw, replay_params, train_params, write_data

from stages import compare_routers, report_routers, study_feedback
from symbiosis.core.artifacts import read_json, sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.baselines.base import Sample, Training
from symbiosis.routing.baselines.lookups import NearestNeighbours
from symbiosis.routing.baselines.tuning import tune
from symbiosis.routing.data import prices
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.data.splits import development
from symbiosis.routing.data.splits import draw as draw_split
from symbiosis.routing.experiments import comparison, comparison_results, left_out, timed
from symbiosis.routing.experiments.params import CompareRoutersParams, StudyFeedbackParams
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, summarise
from symbiosis.routing.reports.params import ReportRoutersParams

ROOT = Path(__file__).resolve().parents[3]
BASELINES = ["random", "cheapest", "best_single", "oracle", "global_mean", "domain_mean", "ridge"]


def world(n: int, seed: int) -> Split:
    outcomes, vectors, domain = draw(n, seed)
    labels = [DOMAINS[d] for d in domain]
    return Split(outcomes, vectors, labels, [f"{label} / " for label in labels])


def queries(n: int) -> pl.DataFrame:
    names = [f"q{number}" for number in range(n)]
    return pl.DataFrame(
        {
            "query_id": names,
            # Every tenth text stands twice.
            "query_text": [f"text {number - number % 10 % 9 // 8}" for number in range(n)],
            "domain": [DOMAINS[number % 3] for number in range(n)],
        }
    )


# ---------------------------------------------------------------- splits


def test_a_split_takes_its_share_of_every_domain_and_tests_nothing_of_development() -> None:
    frame = queries(600)
    train, test = draw_split(frame, 0.2, 2, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(600))
    assert abs(len(test) - 120) <= 6
    assert not development(frame["query_id"][test].to_list(), 2).any()
    shares = frame[test]["domain"].value_counts()["count"].to_numpy() / 200
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
    texts = frame["query_text"].to_numpy()
    assert not set(texts[train]) & set(texts[test])
    again, other = draw_split(frame, 0.2, 2, seed=1)[1], draw_split(frame, 0.2, 2, seed=2)[1]
    np.testing.assert_array_equal(test, again)
    assert not np.array_equal(test, other)


def test_about_two_fifths_are_development() -> None:
    marked = development([f"id {number}" for number in range(4000)], 2)
    assert marked.mean() == pytest.approx(0.4, abs=0.03)
    assert not development(["a", "b"], 0).any()


def test_queries_that_come_again_may_be_drawn_apart() -> None:
    frame = queries(2000).with_columns(pl.Series("query_text", [f"text {number % 100}" for number in range(2000)]))
    train, test = draw_split(frame, 0.2, 2, seed=1, equal_texts="apart")
    assert abs(len(test) - 400) <= 6
    assert not development(frame["query_id"][test].to_list(), 2).any()
    texts = frame["query_text"].to_numpy()
    assert set(texts[test]) <= set(texts[train])
    # Together: every one of these texts has a query in development.
    with pytest.raises(InputError, match="no query left to be tested"):
        draw_split(frame, 0.2, 2, seed=1)


def test_too_few_open_queries_are_refused() -> None:
    with pytest.raises(InputError, match="only 60% of the queries may be tested"):
        draw_split(queries(600), 0.7, 2, seed=1)


# ---------------------------------------------------------------- methods


def test_prices_are_those_of_the_training_queries() -> None:
    outcomes = draw(80, 3)[0]
    fitted = prices.priced(LLMS, outcomes)
    np.testing.assert_allclose(fitted.price_prompt, LLMS.price_prompt, rtol=1e-4)
    np.testing.assert_allclose(fitted.price_response, LLMS.price_response, rtol=1e-4)


def test_every_method_plays_the_same_test_queries() -> None:
    chosen = compare_params(forms=["router", "router_shuffled"], baselines=BASELINES)
    compared = comparison.compare(world(300, 0), world(100, 1), LLMS, train_params(), chosen, 5)
    assert list(compared.curves) == ["router", "router_shuffled", *BASELINES]
    assert {curve.quality.shape[1] for curve in compared.curves.values()} == {100}
    singles = Curve.of(np.tile([[3], [2]], (1, 100)), world(100, 1).outcomes).points()
    areas = {name: summarise(curve.points(), singles).aiq for name, curve in compared.curves.items()}
    # The world's domains are plain to see; what learned nothing is at most as good as the mean.
    assert areas["oracle"] > areas["router"] > areas["global_mean"] + 0.02
    assert areas["router_shuffled"] < areas["router"] - 0.02
    point = compared.report["operating_point"]
    assert TRADE_OFFS[point["position"]] == point["trade_off"]
    assert compared.report["prediction"]["router"]["brier"] < compared.report["prediction"]["router_shuffled"]["brier"]


def test_test_outcomes_teach_nobody() -> None:
    training, test = world(200, 0), world(60, 1)
    shape = test.outcomes.quality.shape
    flipped = Split(
        type(test.outcomes)(
            test.outcomes.queries,
            1 - test.outcomes.quality,
            test.outcomes.prompt_tokens,
            test.outcomes.response_tokens,
            np.arange(np.prod(shape), dtype=float).reshape(shape),
        ),
        test.embeddings,
        test.domains,
        test.subdomains,
    )
    router = comparison.train_form("router", training, LLMS, train_params(), 0)
    first, second = (
        comparison.choices(*comparison.predictions(router, part), router.cost_scale) for part in (test, flipped)
    )
    np.testing.assert_array_equal(first, second)


def test_unknown_baselines_are_refused_before_any_work() -> None:
    with pytest.raises(InputError, match="'kmeans' is none of random"):
        comparison.compare(world(30, 0), world(30, 1), LLMS, train_params(), compare_params(baselines=["kmeans"]), 5)


def test_what_the_params_leave_open_is_chosen_once_for_all_forms() -> None:
    left_open = train_params(predictor="auto", tags="auto")
    compared = comparison.compare(
        world(200, 0), world(60, 1), LLMS, left_open, compare_params(forms=["router", "router_linear"]), 5
    )
    chosen = compared.report["router"]
    explicit = train_params(predictor=chosen["predictor"], tags=chosen["tags"])
    assert chosen["choice"]["chosen"]["tags"] == chosen["tags"]
    again = comparison.compare(world(200, 0), world(60, 1), LLMS, explicit, compare_params(), 5)
    assert "choice" not in again.report["router"]
    np.testing.assert_array_equal(again.curves["router"].quality, compared.curves["router"].quality)


def test_seeded_methods_show_their_spread_over_seeds() -> None:
    chosen = compare_params(baselines=["ridge", "k_means", "random_forest"], method_seeds=3)
    compared = comparison.compare(world(200, 0), world(60, 1), LLMS, train_params(), chosen, 5)
    areas = compared.report["aiq_by_seed"]
    assert set(areas) == {"router", "k_means", "random_forest"}  # the ridge knows no chance
    assert {len(own) for own in areas.values()} == {3}
    assert len(set(areas["random_forest"])) == 3
    singles = Curve.of(np.tile([[3], [2]], (1, 60)), world(60, 1).outcomes).points()
    for name, own in areas.items():
        assert own[0] == pytest.approx(summarise(compared.curves[name].points(), singles).aiq, rel=1e-5)
    one = comparison.compare(
        world(200, 0), world(60, 1), LLMS, train_params(), compare_params(baselines=["k_means"]), 5
    )
    assert one.report["aiq_by_seed"] == {}


def test_a_domain_left_out_is_answered_by_others() -> None:
    whole = world(240, 0)
    curves, _ = left_out.leave_one_domain_out(whole, LLMS, train_params(), ["global_mean"], 0)
    assert curves["router"].quality.shape == (len(TRADE_OFFS), 240)
    # At the largest trade-off the mean of the other domains decides, one LLM for each domain left out.
    own = np.array(whole.domains) == "algebra"
    known = whole.outcomes.quality[~own].mean(axis=0).argmax()
    np.testing.assert_array_equal(curves["global_mean"].quality[-1, own], whole.outcomes.quality[own, known])


def test_baselines_are_tuned_on_the_other_domains() -> None:
    whole = world(240, 0)
    curves, settings = left_out.leave_one_domain_out(whole, LLMS, train_params(), ["nearest_neighbours"], 0)
    own = np.array(whole.domains) == "algebra"
    rest = whole.take(np.flatnonzero(~own))
    known = Training(Sample.of(rest), rest.outcomes, prices.priced(LLMS, rest.outcomes), 0)
    tuned = tune(NearestNeighbours, NearestNeighbours.Params(), known)
    assert settings["algebra"]["nearest_neighbours"] == {"chosen": tuned.setting, "tried": 6}
    tested = whole.take(np.flatnonzero(own))
    played = tuned.baseline.play(Sample.of(tested), tested.outcomes)
    np.testing.assert_array_equal(curves["nearest_neighbours"].quality[:, own], played.quality)


# ---------------------------------------------------------------- results


def played(rows: np.ndarray, seed: int) -> comparison_results.SplitResult:
    outcomes = draw(len(rows), seed)[0]
    singles = Curve.of(np.tile([[3], [2]], (1, len(rows))), outcomes)
    curves = {"router": Curve.of(np.tile([[0], [1], [2]], (1, len(rows))), outcomes), timed.SINGLES: singles}
    return comparison_results.SplitResult(
        rows, curves, {"operating_point": {"share": 0.9, "trade_off": 1.0, "position": 1}}
    )


def test_a_query_counts_in_all_its_splits_or_in_none() -> None:
    splits = [played(np.array([0, 2, 4, 6, *range(10, 40)]), 0), played(np.array([2, 3, 4, *range(30, 60)]), 1)]
    first, second = comparison_results.query_weights(splits, 50, seed=0)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_allclose(second.sum(axis=1), 1)
    np.testing.assert_array_equal(first[:, 1] == 0, second[:, 0] == 0)
    both = (first[:, 1] > 0) & (first[:, 2] > 0)
    assert both.sum() > 5
    # The same draws, divided by each split's own total.
    np.testing.assert_allclose(first[both, 1] / first[both, 2], second[both, 0] / second[both, 2], rtol=1e-12)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    one = played(np.arange(5), 0)
    one.save(tmp_path / "one")
    back = comparison_results.SplitResult.load(tmp_path / "one")
    assert back.report == one.report
    np.testing.assert_array_equal(back.rows, one.rows)
    for name, curve in one.curves.items():
        np.testing.assert_allclose(back.curves[name].cost, curve.cost, rtol=1e-6)
        np.testing.assert_array_equal(back.curves[name].quality, curve.quality)


def test_the_mean_of_the_splits_by_hand() -> None:
    splits = [played(np.arange(30), 0), played(np.arange(20, 60), 1)]
    numbers = comparison_results.summary(splits, 100, seed=0)["router"]
    by_hand = [summarise(one.curves["router"].points(), one.curves[timed.SINGLES].points()).aiq for one in splits]
    assert numbers["aiq"] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert numbers["aiq_95"]["low"] < numbers["aiq"] < numbers["aiq_95"]["high"]
    tops = [one.curves["router"].points() for one in splits]
    places = [int(points[:, 1].argmax()) for points in tops]
    assert numbers["top_quality"] == pytest.approx(np.mean([t[p, 1] for t, p in zip(tops, places, strict=True)]))
    ends = [one.curves[timed.SINGLES].cost[1].mean() for one in splits]
    by_hand_cost = np.mean([t[p, 0] / end for t, p, end in zip(tops, places, ends, strict=True)])
    assert numbers["top_cost"] == pytest.approx(by_hand_cost, rel=1e-5)
    hulls = [summarise(t, one.curves[timed.SINGLES].points()).corners for t, one in zip(tops, splits, strict=True)]
    # The hull may reach the router's own highest quality for less: never for more.
    assert numbers["router_cost_at_top"] <= numbers["top_cost"] + 1e-9
    assert numbers["router_cost_at_top"] == pytest.approx(
        np.mean([h[-1, 0] / end for h, end in zip(hulls, ends, strict=True)]), rel=1e-5
    )
    assert numbers["top_quality_95"]["low"] <= numbers["top_quality"] <= numbers["top_quality_95"]["high"]
    point = comparison_results.operating_point(splits, 100, seed=0)
    cost = [one.curves["router"].cost[1].mean() / one.curves[timed.SINGLES].cost[1].mean() for one in splits]
    assert point["cost_share"] == pytest.approx(np.mean(cost), rel=1e-5)


def test_the_spread_over_seeds_by_hand() -> None:
    splits = [
        replace(played(np.arange(30), 0), report={"aiq_by_seed": {"router": [0.5, 0.7, 0.6]}}),
        replace(played(np.arange(20, 60), 1), report={"aiq_by_seed": {"router": [0.7, 0.7, 0.4]}}),
    ]
    # Means over the splits by seed: .6, .7, .5.
    spread = comparison_results.summary(splits, 20, seed=0)["router"]["aiq_seeds"]
    assert spread == {"seeds": 3, "mean": 0.6, "low": 0.5, "high": 0.7}
    assert "aiq_seeds" not in comparison_results.summary([splits[0], played(np.arange(9), 1)], 20, seed=0)["router"]


def test_a_free_cheapest_llm_leaves_no_log_axis() -> None:
    one = played(np.arange(30), 0)
    numbers = comparison_results.summary([one], 50, seed=0)["router"]
    assert numbers["aiq_log_95"]["low"] <= numbers["aiq_log"] <= numbers["aiq_log_95"]["high"]
    singles = one.curves[timed.SINGLES]
    free = Curve(singles.quality, singles.cost * np.array([[0.0], [1.0]]))
    given = replace(one, curves=one.curves | {timed.SINGLES: free})
    assert "aiq_log" not in comparison_results.summary([given], 50, seed=0)["router"]


# ---------------------------------------------------------------- the stages


def params_of(block: str, model: Any, **changes: Any) -> Any:
    return model.model_validate(read_document(ROOT / "params.yaml")[block] | changes)  # type: ignore[operator]


def test_the_stages_end_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    table = pl.read_parquet("data/routing/queries.parquet")  # whose texts are all the same
    table.with_columns(pl.col("query_id").alias("query_text")).write_parquet("data/routing/queries.parquet")
    document = read_document(ROOT / "params.yaml")
    document |= {
        "router_train": train_params().model_dump(mode="json"),
        "online_replay": replay_params(stream={"workers": 50}).model_dump(mode="json"),
    }
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    comparison = params_of(
        "compare_routers",
        CompareRoutersParams,
        forms=["router"],
        baselines=BASELINES,
        leave_domains_out=["ridge"],
        robustness=None,  # there is no encoder here
        stream=document["compare_routers"]["stream"] | {"controls": ["ridge"]},
    )
    joining = {"offline_share": 0.5, "withheld": ["bio-mid"], "probes": 20, "queries": 40, "every": 20}
    studied = params_of("study_feedback", StudyFeedbackParams, offline_shares=[0.5], adaptability=joining)
    for seed in (1, 2):
        compare_routers.work(seed, comparison)
    study_feedback.work(1, studied)
    first = sha256_of("data/feedback"), sha256_of("data/comparison")
    compare_routers.work(1, comparison)
    study_feedback.work(1, studied)
    assert (sha256_of("data/feedback"), sha256_of("data/comparison")) == first
    shutil.copytree("data/comparison/1", "data/comparison/3")  # left there by other params
    shutil.copytree("data/feedback/1", "data/feedback/3")
    report_routers.work(params_of("report_routers", ReportRoutersParams, bootstrap_samples=100))
    numbers = read_json("reports/router_study.json")
    assert numbers["feedback"]["adaptability"]["withheld"] == [["bio-mid"]]
    assert numbers["data"] == {"queries": 500, "llms": 4, "splits": [1, 2]}
    assert set(numbers["methods"]) == {"router", *BASELINES}
    assert set(numbers["domains"]) == {"router", "ridge"}
    assert {domain: own["ridge"]["tried"] for domain, own in numbers["domain_settings"].items()} == dict.fromkeys(
        DOMAINS, 5
    )
    kinds = numbers["feedback"]["continual"]["0.5"]
    assert {"none", "refined", "binary"} <= set(kinds)
    assert [row["step"] for row in numbers["feedback"]["adaptability"]["recovered"]] == [0, 20, 40]
    page = Path("reports/router_study.html").read_text()
    assert "LLMs that join mid-stream" in page
    assert "<script" not in page
    assert "http://www.w3.org" in page
    assert page.count("<figure") == 5
    assert set(numbers["limited"]["methods"]) == {
        "router",
        "router_waits_seen",
        "router_waits_penalty",
        "router_waits_cycle",
        "ridge_waits_seen",
        *BASELINES,
    }
    # Splits that were compared without a stream have no such section.
    for seed in (1, 2):
        Path(f"data/comparison/{seed}/streams.safetensors").unlink()
    report_routers.work(params_of("report_routers", ReportRoutersParams, bootstrap_samples=100))
    without = read_json("reports/router_study.json")
    assert without == {key: value for key, value in numbers.items() if key != "limited"}
    assert Path("reports/router_study.html").read_text().count("<figure") == 4


def test_fewer_queries_may_tune_and_all_are_learned_from() -> None:
    chosen = compare_params(baselines=["ridge"], tuning_queries=100)
    compared = comparison.compare(world(300, 0), world(100, 1), LLMS, train_params(), chosen, 5)
    whole = comparison.compare(
        world(300, 0), world(100, 1), LLMS, train_params(), compare_params(baselines=["ridge"]), 5
    )
    assert compared.report["settings"]["ridge"]["tried"] == whole.report["settings"]["ridge"]["tried"] == 5
    np.testing.assert_array_equal(compared.curves["router"].quality, whole.curves["router"].quality)
    few, known = world(300, 0).take(np.arange(100)), Training(Sample.of(world(300, 0)), world(300, 0).outcomes, LLMS, 5)
    tuned = tune(NearestNeighbours, NearestNeighbours.Params(neighbours=(10, 320)), known, known.take(np.arange(100)))
    assert len(tuned.baseline.training.sample) == 300
    assert (
        tuned.setting
        == tune(
            NearestNeighbours,
            NearestNeighbours.Params(neighbours=(10, 320)),
            Training(Sample.of(few), few.outcomes, LLMS, 5),
        ).setting
    )


def test_without_labels_the_router_sees_none() -> None:
    """A table whose labels are erased gives the same router."""
    training, test, params = world(200, 0), world(60, 1), train_params().model_copy(update={"tags": "domain"})
    erased = replace(training, domains=[""] * 200, subdomains=[""] * 200)
    told, untold = (
        comparison.predictions(comparison.train_form(form, split, LLMS, params, 5), test)[0]
        for form, split in (("router_without_labels", training), ("router", erased))
    )
    np.testing.assert_array_equal(told, untold)
