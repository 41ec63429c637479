"""Metrics by hand, simple lines, and the two stages as a whole."""

import csv
import dataclasses
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_world import DOMAINS, LLMS, ROOT, draw, replay_params, train_params, write_data

from stages import online_replay, router_train
from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.fingerprint import imported_files
from symbiosis.core.statistics import resample
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.experiments import online
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.metrics import metrics
from symbiosis.routing.metrics.curves import Curve, Reference, summarise
from symbiosis.routing.model.linear_heads import LinearHeads
from symbiosis.routing.model.router import Router

# ---------------------------------------------------------------- hull, AIQ, regret


def test_hull_and_aiq_by_hand() -> None:
    cost = np.array([1.0, 2.0, 3.0, 5.0, 4.0, 2.0])
    quality = np.array([0.2, 0.6, 0.65, 0.8, 0.5, 0.1])
    corners = metrics.hull(cost, quality)
    # (3, 0.65) lies below the line from (2, 0.6) to (5, 0.8)
    np.testing.assert_array_equal(corners, [[1, 0.2], [2, 0.6], [5, 0.8]])
    # 0.4 over 1..2, 0.7 over 2..5, then level
    assert metrics.aiq(corners, 1, 5) == pytest.approx((0.4 * 1 + 0.7 * 3) / 4)
    assert metrics.aiq(corners, 1, 7) == pytest.approx((0.4 * 1 + 0.7 * 3 + 0.8 * 2) / 6)
    assert metrics.aiq(corners, 1.5, 2) == pytest.approx((0.4 + 0.6) / 2)
    assert metrics.aiq(corners, 3.5, 3.5) == pytest.approx(0.7)
    assert metrics.cost_at(corners, 0.4) == pytest.approx(1.5)
    assert metrics.cost_at(corners, 0.7) == pytest.approx(3.5)
    assert metrics.cost_at(corners, 0.1) == 1.0
    assert metrics.cost_at(corners, 0.81) is None


def test_both_normalisations_of_aiq_by_hand() -> None:
    singles = np.array([[1.0, 0.2], [5.0, 0.8]])
    summary = summarise(np.array([[2.0, 0.6]]), singles)
    # From the cheapest single (1, 0.2) to (2, 0.6), then level: the policy never buys the best single.
    np.testing.assert_array_equal(summary.corners, [[1, 0.2], [2, 0.6]])
    assert summary.aiq == pytest.approx((0.4 + 3 * 0.6) / 4)
    assert summary.aiq_to_zero == pytest.approx((0.4 + 3 * 0.6) / 5)
    assert summary.cost_at == {0.95: None, 0.97: None, 0.9725: None, 1.0: None}
    reaching = summarise(np.array([[2.0, 0.6], [4.0, 0.8]]), singles)
    assert reaching.cost_at[1.0] == pytest.approx(4 / 5)
    assert reaching.cost_at[0.95] == pytest.approx((2 + 2 * (0.76 - 0.6) / 0.2) / 5)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_hull_is_concave_rising_and_above_all_points(points: list[tuple[float, float]]) -> None:
    cost, quality = np.array(points).T
    corners = metrics.hull(cost, quality)
    assert {tuple(corner) for corner in corners.tolist()} <= set(points)
    steps = np.diff(corners, axis=0)
    assert (steps > 0).all()
    # Slopes fall: compared by products, so that no tiny step is divided by.
    assert (steps[:-1, 1] * steps[1:, 0] >= steps[1:, 1] * steps[:-1, 0]).all()
    assert (np.interp(cost, corners[:, 0], corners[:, 1]) >= quality - 1e-9).all()


def test_regret_by_hand() -> None:
    regret = metrics.cumulative_regret(np.array([0.5, 0.9, 0.1]), np.array([0.7, 0.8, 0.1]))
    np.testing.assert_allclose(regret, [0.2, 0.1, 0.1])


def test_auc_by_hand() -> None:
    assert metrics.discrimination(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])) == 0.75
    assert metrics.discrimination(np.array([0.1, 0.4]), np.ones(2)) is None


def test_bootstrap_weights_and_weighted_points() -> None:
    weights = resample(50, 20, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_array_equal(weights, resample(50, 20, seed=1))
    rng = np.random.default_rng(0)
    curve = Curve(rng.random((3, 50)), rng.random((3, 50)))
    points = curve.points(np.vstack([np.full(50, 1 / 50), weights]))
    np.testing.assert_allclose(points[0], curve.points())
    np.testing.assert_allclose(points[1, 2, 0], curve.cost[2] @ weights[0])
    np.testing.assert_allclose(points[1, 2, 1], curve.quality[2] @ weights[0])


def test_the_reference_breaks_ties_by_cost() -> None:
    quality = np.array([[1.0, 1.0, 0.0]])
    outcomes = Outcomes(np.arange(1), quality, quality, quality, np.array([[3.0, 2.0, 1.0]]))
    assert Reference.choose(outcomes) == Reference(cheapest=2, best=1)


def test_keys_of_cost_hold_no_dot() -> None:
    assert [metrics.cost_key(s) for s in (0.95, 0.9725, 1.0)] == ["cost_at_95", "cost_at_97_25", "cost_at_100"]


# ---------------------------------------------------------------- the stages

REPORTS = ("router.json", "router.html", "curves/quality_cost.csv", "curves/regret.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both stages have run."""
    folder = tmp_path_factory.mktemp("router")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        router_train.work(train_params())
        online_replay.work(replay_params())
    return folder


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([*(folder / "reports").rglob("*"), *(folder / "models").rglob("*")])
        if path.is_file()
    }


def test_running_again_writes_the_same_bytes(work: Path) -> None:
    before = digests(work)
    assert {f"reports/{name}" for name in REPORTS} | {"reports/router_train.json"} <= set(before)
    shutil.rmtree(work / "reports")
    shutil.rmtree(work / "models")
    router_train.work(train_params())
    online_replay.work(replay_params())
    assert digests(work) == before


def test_the_router_lies_between_random_and_oracle(finished: Path) -> None:
    report = read_json(finished / "reports/router.json")
    tested, curves = report["test"], report["curves"]
    for name in ("router_none", "router_refined", "router_binary"):
        # The best LLM for each domain is known, so is the label's mean; the oracle also sees each answer.
        assert tested["random"]["quality"] + 0.1 < tested[name]["quality"] < tested["oracle"]["quality"]
        assert tested[name]["cost_share"] < 0.5
        assert curves["singles"]["aiq"] < curves[name]["aiq"] < curves["oracle"]["aiq"]
    assert report["reference"] == {
        "cheapest": "poor-cheap",
        "best_single": "dear-all",
        "queries_online": 80,
        "queries_test": 120,
    }
    headline = report["headline"]
    assert headline["quality"] == tested["router_refined"]["quality"]
    assert headline["aiq"] == curves["router_refined"]["aiq"]
    assert report["curves"]["global_mean"]["router_lead_95"]["low"] > 0
    assert sum(report["share_by_llm"].values()) == pytest.approx(1, abs=1e-4)
    online = report["online"]
    assert online["router_refined"]["regret_per_query_best"] < online["random"]["regret_per_query_best"]
    bounds = tested["router_refined"]["quality_95"]
    assert bounds["low"] < tested["router_refined"]["quality"] < bounds["high"]


def test_references_are_their_own_shares(finished: Path) -> None:
    report = read_json(finished / "reports/router.json")
    best = report["test"]["best_single"]
    assert (best["quality_share"], best["cost_share"]) == (1.0, 1.0)
    # Paired: in every bootstrap sample it is compared with itself.
    assert best["quality_share_95"] == best["cost_share_95"] == {"low": 1.0, "high": 1.0}
    # A global mean can only pick one LLM per trade-off: its hull is the singles' hull or below.
    assert report["curves"]["global_mean"]["aiq"] <= report["curves"]["singles"]["aiq"] + 1e-9


def test_curves_and_regret_are_plain_tables(finished: Path) -> None:
    curves = pl.read_csv(finished / "reports/curves/quality_cost.csv")
    assert curves.columns == ["cost", "quality", "method"]
    assert set(curves["method"]) == {
        "router_none", "router_refined", "router_binary", "router_with_time_limit", "domain_mean", "subdomain_mean",
        "nearest_neighbours", "k_means", "global_mean", "oracle", "singles", "router_without_penalty_with_time_limit",
        *(f"{name}_with_time_limit" for name in ("domain_mean", "nearest_neighbours", "k_means", "oracle")),
    }  # fmt: skip
    assert curves.filter(pl.col("method") == "singles").height == len(LLMS)
    regret = pl.read_csv(finished / "reports/curves/regret.csv")
    assert regret.columns == ["round", "regret", "regret_fixed", "method"]
    assert regret.group_by("method").agg(pl.col("round").max())["round"].to_list() == [80] * 6
    for _, own in regret.group_by("method"):
        # Nobody beats the best LLM of each query; anybody may beat a fixed one.
        assert (own.sort("round")["regret"].diff().drop_nulls() >= -1e-9).all()
    with (finished / "reports/curves/regret.csv").open() as handle:
        final = {row["method"]: float(row["regret"]) for row in csv.DictReader(handle)}
    online = read_json(finished / "reports/router.json")["online"]
    for name, value in final.items():
        assert value == pytest.approx(online[name]["regret_per_query_best"], abs=1e-3)


def test_the_page_is_one_file(finished: Path) -> None:
    page = (finished / "reports/router.html").read_text()
    assert page.count("<figure") == 4
    for outside in ("src=", "<link", "@import", "url(http"):
        assert outside not in page
    for text in (
        "router, refined feedback",
        "best single LLM dear-all",
        "nearest neighbours",
        "cost for 97.25 %",
        "failed",
    ):
        assert text in page


@pytest.mark.parametrize("feedback", ["none", "binary"])
def test_the_headline_follows_the_param(work: Path, feedback: str) -> None:
    online_replay.work(replay_params(feedback=feedback, binary={"learning": "policy_gradient"}))
    report = read_json(work / "reports/router.json")
    assert report["headline"]["feedback"] == feedback
    assert report["headline"]["quality"] == report["test"][f"router_{feedback}"]["quality"]
    assert "router_lead" not in report["curves"][f"router_{feedback}"]


def test_a_crowded_stream_drops_queries_unless_the_waits_are_minded(work: Path) -> None:
    crowded = {"workers": 3, "queries_per_s": 3.0, "limit_s": 10.0}
    online_replay.work(replay_params(stream=crowded, score={"waiting": 0.5, "growth_per_s": 0.5}))
    limited = read_json(work / "reports/router.json")["test_with_time_limit"]
    assert limited["best_single"]["dropped"] > 0.3
    assert limited["router_refined"]["dropped"] < limited["router_without_penalty"]["dropped"]
    assert limited["router_refined"]["quality"] > limited["router_without_penalty"]["quality"]
    curves = pl.read_csv(work / "reports/curves/quality_cost.csv")
    best = {name: own["quality"].max() for (name,), own in curves.group_by("method")}
    for name in ("domain_mean", "nearest_neighbours", "k_means"):  # they send too much to one LLM at any trade-off
        assert best[f"{name}_with_time_limit"] < best[name] - 0.02
        assert best[f"{name}_with_time_limit"] < best["router_with_time_limit"]
    charged = replay_params(stream=crowded | {"charge_dropped": True})
    online_replay.work(charged)
    paid = read_json(work / "reports/router.json")["test_with_time_limit"]
    assert paid["best_single"]["cost_usd"] > limited["best_single"]["cost_usd"] * 1.2


def test_the_forest_stage_runs(work: Path) -> None:
    router_train.work(train_params(predictor="forest"))
    online_replay.work(replay_params())
    tested = read_json(work / "reports/router.json")["test"]
    assert tested["random"]["quality"] + 0.1 < tested["router_none"]["quality"] < tested["oracle"]["quality"]


def test_a_damaged_state_stops_the_replay_and_leaves_the_reports(work: Path) -> None:
    tensors = work / "models/router/router.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    reports = {name: digest for name, digest in digests(work).items() if name.startswith("reports/")}
    with pytest.raises(InputError, match=r"router\.safetensors is missing or damaged"):
        online_replay.work(replay_params())
    assert {name: digest for name, digest in digests(work).items() if name.startswith("reports/")} == reports


def test_other_llms_than_trained_are_refused(work: Path) -> None:
    path = work / "data/routing/llms.parquet"
    pl.read_parquet(path).with_columns(pl.col("llm") + "-new").write_parquet(path)
    with pytest.raises(InputError, match="knows other LLMs"):
        online_replay.work(replay_params())


@pytest.mark.parametrize("damage", ["short", "nan", "gone"])
def test_bad_embeddings_are_refused(work: Path, damage: str) -> None:
    path = work / "data/embeddings/queries.npy"
    vectors = np.load(path)
    if damage == "short":
        np.save(path, vectors[:100])
    elif damage == "nan":
        vectors[3, 2] = np.nan
        np.save(path, vectors)
    else:
        path.unlink()
    before = digests(work)
    with pytest.raises(InputError, match=r"data/embeddings/queries\.npy .* `dvc repro"):
        router_train.work(train_params())
    assert digests(work) == before


def test_test_outcomes_reach_nothing_that_is_trained_or_learned(work: Path) -> None:
    """Other outcomes of the test queries change scores, never the router's choices."""
    shares = read_json(work / "reports/router.json")["share_by_llm"]
    state = digests(work)["models/router/router.safetensors"]
    path = work / "data/routing/test.parquet"
    pl.read_parquet(path).with_columns(1 - pl.col("quality"), pl.col("cost_usd") * 3).write_parquet(path)
    router_train.work(train_params())
    online_replay.work(replay_params())
    assert digests(work)["models/router/router.safetensors"] == state
    assert read_json(work / "reports/router.json")["share_by_llm"] == shares


def test_training_never_imports_what_reads_test_data() -> None:
    files = {path.as_posix() for path in imported_files("stages/router_train.py", ROOT)}
    assert "symbiosis/routing/experiments/online.py" not in files
    assert "test.parquet" not in (ROOT / "stages/router_train.py").read_text()


def small_evaluation(router: Router | None, **changes: Any) -> tuple[Router, dict[str, Any]]:
    """Evaluate on 100 test queries after a stream of one."""
    outcomes, vectors, domain = draw(301, seed=3)
    labels = [DOMAINS[d] for d in domain]
    if router is None:
        router, _ = train(Split(outcomes, vectors, labels, labels), LLMS, train_params())

    def split(rows: slice) -> Split:
        part = outcomes.take(np.arange(301)[rows])
        return Split(part, vectors[rows], labels[rows], labels[rows])

    splits = split(slice(0, 200)), split(slice(200, 201)), split(slice(201, 301))
    known = Experience.fit(router, splits[0].embeddings, splits[0].outcomes, satisfied_above=0.7)
    return router, online.evaluate(router, known, *splits, replay_params(**changes)).numbers["test"]


def test_every_feedback_starts_from_the_same_router() -> None:
    """A single answer teaches too little to change a choice; a headline of another kind changes no score."""
    router, tested = small_evaluation(None)
    assert tested["router_none"] == tested["router_binary"]
    assert small_evaluation(router, feedback="binary")[1] == tested


def test_nothing_is_explored_on_test_queries() -> None:
    router, _ = small_evaluation(None)
    unseen = LinearHeads.blank(1, router.heads.dimension, 2, penalty=1.0)
    curious = dataclasses.replace(router, heads=unseen.extend(router.heads.take([1, 2, 3])))
    scores = [small_evaluation(curious, score={"exploration": weight})[1]["router_none"] for weight in (0.0, 50.0)]
    assert scores[0] == scores[1]


# ---------------------------------------------------------------- real data


@pytest.mark.data
def test_on_real_queries_the_router_lies_between_random_and_oracle() -> None:
    """A cheap embedding (words, not a sentence encoder) is enough for this much."""
    folder = os.environ.get("SYMBIOSIS_DATA_DIR")
    if not folder:
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer

    columns = [
        "query_id",
        "query_text",
        "domain",
        "subdomain",
        "llm",
        "quality",
        "prompt_tokens",
        "response_tokens",
        "cost_usd",
    ]
    table = pl.read_parquet(Path(folder, "routing/realroute12.parquet"), columns=columns).sort("query_id", "llm")
    names = table["llm"].unique().sort().to_list()
    queries = table.unique("query_id").sort("query_id")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(queries.height)[:1500]
    values = [
        table[column].to_numpy().astype(np.float64).reshape(-1, len(names))[chosen]
        for column in ("quality", "prompt_tokens", "response_tokens", "cost_usd")
    ]
    outcomes = Outcomes(np.arange(1500), *values)
    words = HashingVectorizer(n_features=2**14).transform([text[-1000:] for text in queries["query_text"][chosen]])
    vectors = TruncatedSVD(96, random_state=0).fit_transform(words)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    price = outcomes.cost_usd.sum(axis=0) / outcomes.response_tokens.sum(axis=0)
    llms = Llms(tuple(names), 0 * price, price, np.full(len(names), 0.5), np.full(len(names), 60.0))
    domains, subdomains = queries["domain"][chosen].to_list(), queries["subdomain"][chosen].to_list()

    def split(rows: slice) -> Split:
        part = outcomes.take(np.arange(1500)[rows])
        return Split(part, vectors[rows], domains[rows], subdomains[rows])

    offline, stream, held_out = split(slice(0, 900)), split(slice(900, 1100)), split(slice(1100, 1500))
    params = train_params(dimension=32, minimum_tag=20)
    router, _ = train(offline, llms, params)
    known = Experience.fit(router, offline.embeddings, offline.outcomes, params.serving.satisfied_above)
    report = online.evaluate(router, known, offline, stream, held_out, replay_params()).numbers
    for name in ("router_none", "router_refined", "router_binary"):
        assert report["test"]["random"]["quality"] + 0.05 < report["test"][name]["quality"]
        assert report["test"][name]["quality"] < report["test"]["oracle"]["quality"]
        assert (
            report["curves"]["global_mean"]["aiq"] < report["curves"][name]["aiq"] < report["curves"]["oracle"]["aiq"]
        )
