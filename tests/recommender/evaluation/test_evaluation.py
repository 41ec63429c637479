"""The evaluator, its intervals, its slices, and the stage with its report."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from stages import evaluate as stage
from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import FINETUNED, RECOMMENDER_METRICS
from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.baselines.ease import EASE
from symbiosis.recommender.baselines.item_knn import ItemKNN
from symbiosis.recommender.baselines.popularity import Popularity
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.evaluation.baselines_alone import measure_baselines
from symbiosis.recommender.evaluation.evaluation import MODEL, Rankings, coverage, evaluate, measure, slices, thirds
from symbiosis.recommender.evaluation.params import BaselineNames, EvaluateParams
from symbiosis.recommender.evaluation.report import render, verdict
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, NEXT_ITEM, ranking_depth, recall
from symbiosis.recommender.metrics.ranking import top_items, without
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.reviews import interactions, splits
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import read_reviews

USERS, ITEMS = 120, 160
PARAMS = EvaluateParams(
    seed=3,
    baselines=BaselineNames(simple=["weak"], hybrid=[], neural=["strong"], sequential=[]),
    mask_validation=True,
    bootstrap_samples=200,
)


def split(seed: int = 0) -> tuple[csr_array, csr_array, csr_array]:
    """Users with 3 to 20 training items, one validation and two test items; popular items are taken more often."""
    rng = np.random.default_rng(seed)
    appeal = rng.gumbel(size=(USERS, ITEMS)) - np.log(np.arange(1, ITEMS + 1))
    taken = np.argsort(-appeal, axis=1)
    parts = []
    for first, last in ((0, 1), (1, 3), (3, None)):
        rows = [taken[user, first : last or 6 + user % 18] for user in range(USERS)]
        users = np.repeat(np.arange(USERS), [len(row) for row in rows])
        parts.append(csr_array((np.ones(len(users), np.float32), (users, np.concatenate(rows))), shape=(USERS, ITEMS)))
    validation, test, train = parts
    return train, validation, test


def noisy(test: csr_array, noise: float, seed: int) -> np.ndarray:
    """Scores that know the test items, less so with more noise."""
    return (test.toarray() + noise * np.random.default_rng(seed).standard_normal(test.shape)).astype(np.float32)


def rankings_of(train: csr_array, validation: csr_array, test: csr_array) -> dict[str, np.ndarray]:
    depth = ranking_depth(validation)
    return {
        name: top_items(noisy(test, noise, seed), train, depth, 0)
        for seed, (name, noise) in enumerate({MODEL: 0.5, "weak": 3.0, "strong": 0.3}.items())
    }


def summary(rankings: Rankings, train: csr_array, test: csr_array, samples: int = 100) -> dict[str, Any]:
    return evaluate(rankings, measure(rankings, test), train, test, samples, 0)


@pytest.fixture
def report() -> dict[str, Any]:
    train, validation, test = split()
    return summary(rankings_of(train, validation, test), train, test, 200)


def test_means_are_those_of_the_metrics(report: dict[str, Any]) -> None:
    train, validation, test = split()
    for name, ranked in rankings_of(train, validation, test).items():
        measured = report[MODEL] if name == MODEL else report["baselines"][name]
        for metric, value in HELD_OUT_SETS.means(ranked, test).items():
            assert measured[metric]["mean"] == pytest.approx(value, abs=1e-5)
            assert measured[metric]["low"] <= round(value, 5) <= measured[metric]["high"]
            if name != "strong":
                other = report["difference"][MODEL] if name == MODEL else report["difference"]["baselines"][name]
                assert other[metric]["mean"] == pytest.approx(
                    value - report["baselines"]["strong"][metric]["mean"], abs=2e-5
                )
    assert report["difference"]["to"] == "strong"
    assert report["gain"]["strong"] == report["difference"][MODEL]  # the same users in the same samples
    for metric, gain in report["gain"]["weak"].items():
        levels = report[MODEL][metric]["mean"], report["baselines"]["weak"][metric]["mean"]
        assert gain["mean"] == pytest.approx(levels[0] - levels[1], abs=2e-5)
        assert gain["low"] < gain["mean"] < gain["high"]
    assert report["data"]["evaluated users"] == USERS


def test_a_perfect_method_and_its_twin() -> None:
    train, _, test = split()
    ranked = top_items(test.toarray(), train, 100, 0)
    result = summary({MODEL: ranked, "twin": ranked}, train, test)
    for metric in ("recall@20", "recall@40", "ndcg@100"):
        assert result[MODEL][metric] == {"mean": 1, "low": 1, "high": 1}
        assert result["difference"][MODEL][metric] == {"mean": 0, "low": 0, "high": 0}


def test_renumbering_users_and_items_changes_no_mean() -> None:
    train, validation, test = split()
    ranked = rankings_of(train, validation, test)
    before = summary(ranked, train, test)
    rng = np.random.default_rng(1)
    users, items = rng.permutation(USERS), rng.permutation(ITEMS)
    renamed = {name: np.where(rows == -1, -1, items[rows])[users] for name, rows in ranked.items()}
    moved = [csr_array(part.toarray()[users][:, np.argsort(items)]) for part in (train, test)]
    after = summary(renamed, moved[0], moved[1])
    for metric, value in before[MODEL].items():
        other = after[MODEL][metric]
        if metric.startswith("coverage"):
            assert other == value
        else:
            assert other["mean"] == value["mean"]
    assert after["slices"] == before["slices"]


def test_users_without_test_items_do_not_count() -> None:
    train, _, test = split()
    some = csr_array(test.toarray() * (np.arange(USERS) < 50)[:, None])
    ranked = top_items(noisy(test, 0.5, 0), train, 100, 0)
    result = summary({MODEL: ranked, "other": ranked}, train, some)
    assert result["data"]["evaluated users"] == 50
    assert result[MODEL]["recall@20"]["mean"] == pytest.approx(recall(ranked, test, 20)[:50].mean(), abs=1e-5)


def test_coverage_counts_items_once_and_no_padding() -> None:
    assert coverage(np.array([[0, 1, 2], [1, 0, -1], [3, -1, -1]]), n_items=8, k=2) == 3 / 8


def test_thirds_keep_equal_levels_together() -> None:
    assert thirds(np.array([3, 3, 3, 3, 3, 3, 3, 4, 5, 9]), np.ones(10)).tolist() == [0] * 7 + [2] * 3
    assert thirds(np.array([5, 4, 3]), np.ones(3)).tolist() == [2, 1, 0]
    assert thirds(np.array([5, 5]), np.ones(2)).tolist() == [0, 0]


def test_slices_make_up_the_whole() -> None:
    train, validation, test = split()
    ranked = rankings_of(train, validation, test)
    found = slices(ranked, train, test)
    history = found["history"].values()
    assert sum(part["users"] for part in history) == USERS
    assert sum(part["users"] * part[MODEL] for part in history) / USERS == pytest.approx(
        HELD_OUT_SETS.means(ranked[MODEL], test)["recall@20"], abs=1e-5
    )
    lengths = np.diff(train.indptr)
    shortest = next(iter(found["history"]))
    low, high = map(int, re.findall(r"\d+", shortest))
    chosen = (lengths >= low) & (lengths <= high)
    assert 0.2 * USERS < chosen.sum() < 0.5 * USERS
    expected = recall(ranked["weak"], test, 20)[chosen].mean()
    assert found["history"][shortest]["weak"] == pytest.approx(expected, abs=1e-5)


def test_slices_by_popularity_hold_the_items_that_they_say() -> None:
    train = csr_array(np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]], np.float32))
    test = csr_array(np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]], np.float32))
    ranked = np.array([[2, 3, -1, -1], [1, 3, -1, -1], [3, 2, -1, -1]])
    found = slices({"method": ranked}, train, test)["popularity"]
    assert found == {
        "middle items": {"users": 1, "method": 1.0},
        "tail items": {"users": 2, "method": 1.0},
        "cold items": {"users": 2, "method": 1.0},
    }


# ------------------------------------------------------------------- the stage


class StandIn:
    """Scores as `symbiosis.recommender.inference.scoring.Scorer` gives them."""

    asked = 0
    bias = AttentionBias("none", 0, USERS, None)
    mean_rating: float | None = None
    reranker = None

    def __init__(self, test: csr_array, noise: float) -> None:
        self.table = noisy(test, noise, 9)

    def prepared(self, train: csr_array) -> Callable[[np.ndarray], np.ndarray]:
        assert train.shape == self.table.shape

        def scores(users: np.ndarray) -> np.ndarray:
            StandIn.asked += 1
            return self.table[users]

        return scores


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the stage reads, the model aside."""
    monkeypatch.chdir(tmp_path)
    parts = dict(zip(("train", "validation", "test"), split(), strict=True))
    clean = tmp_path / "data/clean"
    clean.mkdir(parents=True)
    pl.DataFrame({"user": range(USERS)}).write_parquet(clean / "users.parquet")
    pl.DataFrame({"item": range(ITEMS)}).write_parquet(clean / "items.parquet")
    for name, part in parts.items():
        pairs = part.tocoo()
        table = pl.DataFrame({"user": pairs.row, "item": pairs.col, "timestamp": np.arange(pairs.nnz)})
        table.write_parquet(clean / f"{name}.parquet")
    write_graph(tmp_path, parts["train"])
    for name, ranked in rankings_of(*parts.values()).items():
        folder = tmp_path / "data/rankings" / name
        folder.mkdir(parents=True)
        np.save(folder / "ranking.npy", ranked)
        tried = {"setting": {"depth": 3}, "validation": HELD_OUT_SETS.means(ranked, parts["validation"])}
        write_json(folder / "tuning.json", tried | {"tried": [tried]})
    (tmp_path / "data/item_embeddings").mkdir()
    np.save(tmp_path / "data/item_embeddings/vectors.npy", np.eye(ITEMS, dtype=np.float32))
    curves = tmp_path / "reports/curves"
    curves.mkdir(parents=True)
    (curves / "pretrain.csv").write_text("epoch,step,content,interactions\n1,5,3.5,\n2,10,,2.5\n")
    for stage_name in ("finetune", "rerank"):
        (curves / f"{stage_name}.csv").write_text("epoch,step,loss,recall@20,score\n1,5,3.5,0.1,0.2\n2,10,3,0.2,0.4\n")
    give_model(monkeypatch, StandIn(parts["test"], 0.5))
    FINETUNED.mkdir(parents=True)
    write_json(FINETUNED / "training.json", {"data": "train"})
    return tmp_path


def write_graph(folder: Path, edges: csr_array) -> None:
    pairs = edges.tocoo()
    items = pl.DataFrame({"item": range(ITEMS), "brand": [None] * ITEMS, "categories": [[]] * ITEMS})
    items = items.cast({"brand": pl.String, "categories": pl.List(pl.String)})
    table = pl.DataFrame({"user": pairs.row, "item": pairs.col})
    (folder / "data/graph").mkdir(parents=True, exist_ok=True)
    params = BuildGraphParams(minimum_group=2, maximum_group_share=0.5)
    build_graph(USERS, items, table, params).save(folder / "data/graph")


def give_model(monkeypatch: pytest.MonkeyPatch, model: StandIn) -> None:
    StandIn.asked = 0
    monkeypatch.setattr(stage, "load_scorer", lambda root: model)


def outputs(workspace: Path) -> tuple[dict[str, Any], str]:
    folder = workspace / "reports"
    return json.loads((folder / "recommender.json").read_text()), (folder / "recommender.html").read_text()


def test_the_stage_writes_numbers_and_a_page(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.work(PARAMS)
    numbers, document = outputs(workspace)
    train, validation, test = split()
    ranked = top_items(noisy(test, 0.5, 9), csr_array(train + validation), 100, PARAMS.seed)
    assert numbers[MODEL]["ndcg@100"]["mean"] == pytest.approx(HELD_OUT_SETS.means(ranked, test)["ndcg@100"], abs=1e-5)
    assert list(numbers["baselines"]) == ["weak", "strong"]
    assert "Recall@20" in document
    assert f"{numbers['baselines']['strong']['recall@40']['mean']:.4f}" in document
    assert capsys.readouterr().out.strip() == verdict(numbers)
    by_user = pl.read_parquet(workspace / "data/evaluation/per_user.parquet")
    for method, mean in by_user.group_by("method").agg(pl.col("ndcg@100").mean()).iter_rows():
        told = numbers[MODEL] if method == MODEL else numbers["baselines"][method]
        assert mean == pytest.approx(told["ndcg@100"]["mean"], abs=1e-5)


def test_the_stage_writes_the_same_bytes_twice(workspace: Path) -> None:
    stage.work(PARAMS)
    first = outputs(workspace)
    stage.work(PARAMS)
    assert outputs(workspace) == first


def test_validation_items_are_dropped_only_if_asked(workspace: Path) -> None:
    train, validation, test = split()
    for mask in (True, False):
        stage.work(PARAMS.model_copy(update={"mask_validation": mask}))
        numbers, document = outputs(workspace)
        ranked = rankings_of(train, validation, test)["weak"]
        expected = HELD_OUT_SETS.means(without(ranked, validation, 100) if mask else ranked, test)
        assert numbers["baselines"]["weak"]["ndcg@100"]["mean"] == pytest.approx(expected["ndcg@100"], abs=1e-5)
        assert ("training and validation items left out" in document) is mask


def by_the_last_out_protocol(workspace: Path) -> dict[str, np.ndarray]:
    """Rankings that leave out validation items too; `strong` has a refitted one, which is better."""
    train, validation, test = split()
    seen, depth = csr_array(train + validation), ranking_depth(validation)
    write_json(workspace / "data/clean/protocol.json", {"protocol": "last_out"})
    rankings = {
        file: top_items(noisy(test, noise, 5), seen, depth, 0)
        for file, noise in (("weak/ranking", 3.0), ("strong/ranking", 0.8), ("strong/refitted", 0.2))
    }
    for file, ranked in rankings.items():
        np.save(workspace / f"data/rankings/{file}.npy", ranked)
    for name in ("weak", "strong"):
        record = {"setting": {}, "validation": dict.fromkeys(NEXT_ITEM.metrics, 0.1), "tried": [{}]}
        write_json(workspace / f"data/rankings/{name}/tuning.json", record)
    return rankings


def test_refitted_rows_stand_apart(workspace: Path) -> None:
    rankings = by_the_last_out_protocol(workspace)
    stage.work(PARAMS)
    numbers, document = outputs(workspace)
    assert list(numbers["baselines"]) == ["weak", "strong"]
    assert list(numbers["marked"]) == ["strong, refitted"]
    row = numbers["marked"]["strong, refitted"]
    for metric, mean in NEXT_ITEM.means(rankings["strong/refitted"], split()[2]).items():
        assert row[metric]["mean"] == pytest.approx(mean, abs=1e-5)
        plain = numbers["baselines"]["strong"][metric]["mean"]
        assert row["difference"][metric]["mean"] == pytest.approx(mean - plain, abs=2e-5)
        assert row["difference"][metric]["low"] > 0
    assert "strong, refitted" in document


def test_baselines_are_measured_alike_without_the_model(workspace: Path, tmp_path: Path) -> None:
    by_the_last_out_protocol(workspace)
    stage.work(PARAMS)
    folder = tmp_path / "alone"
    measure_baselines(PARAMS, folder)
    whole, alone = (pl.read_parquet(place / "per_user.parquet") for place in (workspace / "data/evaluation", folder))
    assert whole.filter(pl.col("method") != MODEL).equals(alone)
    numbers, measured = outputs(workspace)[0], json.loads((folder / "recommender.json").read_text())
    assert measured["data"] == numbers["data"]
    for name in ("weak", "strong"):
        assert measured["baselines"][name]["coverage@20"] == numbers["baselines"][name]["coverage@20"]


def test_a_graph_with_held_out_edges_makes_the_report_invalid(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, _, test = split()
    stage.work(PARAMS)
    assert "invalid" not in outputs(workspace)[0]
    write_graph(workspace, csr_array(train + test))
    stage.work(PARAMS)
    numbers, document = outputs(workspace)
    assert numbers["invalid"] == f"the graph that the model was trained with holds {test.nnz:,} held-out interactions"
    assert "INVALID: the graph" in document
    assert "INVALID" in capsys.readouterr().out


def test_a_model_that_has_learned_from_the_test_is_not_measured(workspace: Path) -> None:
    write_json(workspace / FINETUNED / "training.json", {"data": "all"})
    with pytest.raises(InputError, match="models/finetune was fitted to the held-out interactions too"):
        stage.work(PARAMS)
    assert not (workspace / RECOMMENDER_METRICS).exists()


def test_predicted_ratings_stand_beside_simple_ones(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "test"):
        file = workspace / f"data/clean/{name}.parquet"
        pl.read_parquet(file).with_columns(rating=3.0 + pl.col("item") % 2).write_parquet(file)
    model = StandIn(split()[2], 0.5)
    model.mean_rating = 3.5
    model.table = np.tile(np.where(np.arange(ITEMS) % 2, 0.5, -0.5).astype(np.float32), (USERS, 1))
    give_model(monkeypatch, model)
    stage.work(PARAMS)
    numbers, document = outputs(workspace)
    methods = numbers["ratings"]["methods"]
    assert methods[MODEL]["rmse"]["mean"] < 0.1 < methods["user and item biases"]["rmse"]["mean"] < 0.6
    assert "Predicted ratings" in document


def test_the_page_fetches_nothing(workspace: Path) -> None:
    stage.work(PARAMS)
    _, document = outputs(workspace)
    assert not re.search(r"<(script|link|img|iframe)|url\(\s*['\"]?http|src\s*=|@import", document)
    assert document.count("<figure") == 2


@pytest.mark.parametrize("file", ["data/rankings/strong/ranking.npy", "data/rankings/strong/tuning.json"])
def test_a_damaged_input_stops_the_stage_before_the_model_works(workspace: Path, file: str) -> None:
    (workspace / file).write_bytes((workspace / file).read_bytes()[:-5])
    with pytest.raises(InputError, match=file):
        stage.work(PARAMS)
    assert StandIn.asked == 0
    assert sorted(path.name for path in (workspace / "reports").iterdir()) == ["curves"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [("epoch,loss\n1,2\n", "must hold numbers"), ("step,loss\n1,high\n", "must hold numbers"), ("", "damaged")],
)
def test_a_damaged_curve_is_named(workspace: Path, content: str, fault: str) -> None:
    (workspace / "reports/curves/finetune.csv").write_text(content)
    with pytest.raises(InputError, match=rf"finetune\.csv.*{fault}"):
        stage.work(PARAMS)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (0.0, "is above strong in Recall@20, Recall@40, NDCG@100"),
        (9.0, "is below strong in Recall@20, Recall@40, NDCG"),
    ],
)
def test_the_page_says_plainly_who_is_ahead(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, noise: float, words: str
) -> None:
    give_model(monkeypatch, StandIn(split()[2], noise))
    rng = np.random.default_rng(0)
    train, validation, test = split()
    blurred = top_items(test.toarray() + 0.6 * rng.standard_normal(test.shape), train, ranking_depth(validation), 0)
    np.save(workspace / "data/rankings/strong/ranking.npy", blurred)
    stage.work(PARAMS)
    numbers, document = outputs(workspace)
    best = max([numbers[MODEL], *numbers["baselines"].values()], key=lambda method: method["recall@20"]["mean"])
    assert words in document
    assert f'<td class="best">{best["recall@20"]["mean"]:.4f}' in document


def test_a_difference_that_may_be_none_is_not_called_one(report: dict[str, Any]) -> None:
    report["difference"][MODEL]["recall@20"] = {"mean": 0.01, "low": -0.01, "high": 0.03}
    assert "not told apart from strong in Recall@20" in verdict(report)


def test_names_are_escaped(report: dict[str, Any]) -> None:
    report["difference"]["to"] = "<b>strong</b>"
    document = render(report, {}, {}, "how")
    assert "<b>" not in document
    assert "&lt;b&gt;strong" in document


@pytest.mark.parametrize("names", [([], ["sasrec"]), (["ease", "ease"], []), (["ease"], ["ease"])])
def test_baselines_are_named_once(names: tuple[list[str], list[str]]) -> None:
    baselines = {"simple": names[0], "hybrid": [], "neural": [], "sequential": names[1]}
    with pytest.raises(ValueError, match="baselines"):
        EvaluateParams.model_validate(
            {"seed": 0, "baselines": baselines, "mask_validation": True, "bootstrap_samples": 100}
        )


# ------------------------------------------------------------------- real data


@pytest.mark.data
def test_real_data_give_the_known_levels(tmp_path: Path) -> None:
    """scientific18 under the random split; the levels are those of an independent run, within 3 standard errors."""
    if not (root := os.environ.get("SYMBIOSIS_DATA_DIR")):
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    source = Path(root) / "amazon/scientific18/Industrial_and_Scientific_5.json.gz"
    with (tmp_path / "rejected.jsonl").open("w") as quarantine:
        reviews, _ = read_reviews(source, quarantine, 0.05)
    liked = interactions.first_of_pairs(interactions.positives(reviews, 4))
    params = CleanParams.model_validate(
        {
            "seed": 98765,
            "minimum_rating": 4,
            "core": 5,
            "split": "random",
            "validation_share": 0.1,
            "test_share": 0.1,
            "cold_item_share": 0.0,
            "graph_edges": "train",
            "maximum_rejected_share": 0.05,
            "require_titles": False,
        }
    )
    found = splits.split(interactions.number(interactions.core_of(liked, 5), params.seed), params)
    shape = (found.users.height, found.items.height)
    assert shape == (8317, 4344)
    parts = []
    for part in (splits.TRAIN, splits.VALIDATION, splits.TEST):
        edges = found.edges.filter(pl.col("part") == part)
        pairs = (edges["user"].to_numpy(), edges["item"].to_numpy())
        parts.append(csr_array((np.ones(len(edges), np.float32), pairs), shape=shape))
    train, _, test = parts
    for model, setting, level in (
        (Popularity, {}, 0.059),
        (ItemKNN, {"neighbours": 200, "shrinkage": 50}, 0.166),
        (EASE, {"l2": 200}, 0.177),
    ):
        fitted = model(TrainingData(train), 0)
        fitted.fit(**setting)
        ranked = top_items(fitted.scores(np.arange(shape[0])), train, 100, 0)
        assert HELD_OUT_SETS.means(ranked, test)["recall@20"] == pytest.approx(level, abs=0.0125)
