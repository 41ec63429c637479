"""The full table: seeds averaged user by user, paired differences, and a page that says what is invalid."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.evaluation.earlier_table import keep_earlier, read_earlier
from symbiosis.recommender.evaluation.evaluation import MODEL
from symbiosis.recommender.evaluation.per_user import HISTORY, columns
from symbiosis.recommender.evaluation.seeds import over_seeds
from symbiosis.recommender.evaluation.table import curves, main, read_runs, summarise
from symbiosis.recommender.evaluation.table_report import render
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, NEXT_ITEM

USERS = 90
VARIANTS = ("full", "no graph")


def write_run(folder: Path, methods: dict[str, float], seed: int, **report: object) -> None:
    """A finished run whose methods have about these levels in every metric."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    appeal = np.random.default_rng(0).random(USERS)
    frames = [
        pl.DataFrame(
            {"method": [name] * USERS, "user": range(USERS), "history": [HISTORY[u % 3] for u in range(USERS)]}
            | {column: level * appeal + 0.01 * rng.random(USERS) for column in columns(HELD_OUT_SETS)}
        )
        for name, level in methods.items()
    ]
    pl.concat(frames).write_parquet(folder / "per_user.parquet")
    cover = {"coverage@20": 0.5}
    data = {"users": USERS, "items": 30, "training interactions": 500}
    baselines = {name: cover for name in methods if name != MODEL}
    write_json(folder / "recommender.json", {MODEL: cover, "baselines": baselines, "data": data} | report)
    write_json(folder / "run.json", {"identity": "x", "commit": "abc", "seconds": {"finetune": 10.0 * seed}})
    (folder / "params.yaml").write_text(yaml.safe_dump({"clean": {"split": "random"}}))
    (folder / "finetune.csv").write_text("epoch,step,loss,recall@20,score\n1,5,3.5,0.1,0.2\n2,10,3,0.2,0.4\n")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    bias = {"buckets": ["a node with itself", "same brand: yes"], "heads": [[0.1, -0.2], [0.0, 0.3]]}
    for seed in (1, 2):
        methods = {MODEL: 0.6, "ease": 0.5, "chance": 0.1}
        write_run(tmp_path / f"toys/full/{seed}", methods, seed, bias=bias)
        write_run(tmp_path / f"toys/no graph/{seed}", {MODEL: 0.4, "chance": 0.1}, seed)
        write_run(tmp_path / f"toys/<leaky>/{seed}", {MODEL: 0.9, "chance": 0.1}, seed, invalid="leak")
    return tmp_path


def test_seeds_are_averaged_user_by_user(results: Path) -> None:
    parts = [pl.read_parquet(results / f"toys/full/{seed}/per_user.parquet") for seed in (1, 2)]
    averaged = over_seeds(read_runs(results)["toys"]["full"]).filter(method="ease")
    first, second = (part.filter(method="ease")["recall@20"].to_numpy() for part in parts)
    np.testing.assert_allclose(averaged["recall@20"].to_numpy(), (first + second) / 2)


def test_gains_and_losses_are_paired(results: Path) -> None:
    summary = summarise(results)["toys"]
    assert summary["strongest"]["name"] == "ease"
    for metric in HELD_OUT_SETS.metrics:
        ours, ease = (summary["methods"][name][metric] for name in (MODEL, "ease"))
        gain, loss = summary["gain"][metric], summary["loss"]["no graph"][metric]
        assert gain["mean"] == pytest.approx(ours["mean"] - ease["mean"], abs=2e-5)
        assert gain["relative"] == pytest.approx(gain["mean"] / ease["mean"], abs=1e-3)
        assert 0 < gain["low"] < gain["high"]
        assert loss["high"] < 0
        # What is common to both methods is not in the interval of their difference.
        assert gain["high"] - gain["low"] < 0.3 * (ours["high"] - ours["low"])
    assert summary["seconds"]["full"] == {"finetune": 15.0}
    assert summary["seeds"] == [1, 2]
    assert summary["slices"]["short history"]["users"] == USERS / 3


def test_the_page_marks_what_leaks_and_fetches_nothing(results: Path) -> None:
    summary = summarise(results)
    assert summary["toys"]["invalid"] == ["<leaky>"]
    document = render(summary, curves(results), 2000)
    assert "INVALID: &lt;leaky&gt;" in document
    assert "<leaky>" not in document
    assert "hurts the sequential ones" in document
    assert document.count("<figure") == 4
    assert '<td class="best">' in document
    assert "http" not in document.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert render(summary, curves(results), 2000) == document


def test_a_variant_is_compared_with_the_full_model_of_its_seeds(results: Path) -> None:
    shutil.rmtree(results / "toys/no graph/2")
    first = [pl.read_parquet(results / f"toys/{name}/1/per_user.parquet").filter(method=MODEL) for name in VARIANTS]
    summary = summarise(results)["toys"]
    assert summary["variant seeds"]["no graph"] == [1]
    difference = first[1]["ndcg@100"].mean() - first[0]["ndcg@100"].mean()  # type: ignore[operator]
    assert summary["loss"]["no graph"]["ndcg@100"]["mean"] == pytest.approx(difference, abs=1e-5)
    shutil.rmtree(results / "toys/full/1")
    with pytest.raises(InputError, match="has a seed that `full` lacks"):
        summarise(results)


def test_other_users_are_refused(results: Path) -> None:
    file = results / "toys/no graph/1/per_user.parquet"
    for path in (file, results / "toys/no graph/2/per_user.parquet"):
        pl.read_parquet(path).filter(pl.col("user") > 3).write_parquet(path)
    with pytest.raises(InputError, match="other users"):
        summarise(results)


def test_without_runs_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make table"):
        read_runs(tmp_path)


def test_rows_of_an_earlier_table_are_kept(results: Path) -> None:
    """New rows replace and join; the baselines and what belongs to them stay, for the new runs have not all of them."""
    earlier = summarise(results)
    for seed in (1, 2):
        shutil.rmtree(results / f"toys/no graph/{seed}")
        shutil.rmtree(results / f"toys/full/{seed}")
        write_run(results / f"toys/full/{seed}", {MODEL: 0.61, "chance": 0.1}, seed)
        shutil.rmtree(results / f"toys/<leaky>/{seed}")
        write_run(results / f"toys/<leaky>/{seed}", {MODEL: 0.3, "chance": 0.1}, seed)
        write_json(results / f"toys/<leaky>/{seed}/run.json", {"commit": "def", "seconds": {}})
        write_run(results / f"toys/third/{seed}", {MODEL: 0.2, "chance": 0.1}, seed)
    new = summarise(results)
    merged = keep_earlier(earlier, new | {"others": new["toys"]})
    assert merged["others"] == new["toys"]
    toys = merged["toys"]
    for key in ("methods", "gain", "strongest", "slices", "spread"):
        assert toys[key] == earlier["toys"][key]
    assert toys["variants"]["no graph"] == earlier["toys"]["variants"]["no graph"]
    for key in ("variants", "loss"):
        for name in ("<leaky>", "third"):
            assert toys[key][name] == new["toys"][key][name]
    assert merged["toys"]["marked"].keys() == earlier["toys"]["marked"].keys() | new["toys"]["marked"].keys()
    assert toys["over seeds"][MODEL] == earlier["toys"]["over seeds"][MODEL]
    assert toys["invalid"] == []  # the new run of that name does not leak
    assert toys["commits"] == {"full": ["abc"], "no graph": ["abc"], "third": ["abc"], "<leaky>": ["def"]}
    document = render(merged, curves(results), 2000)
    assert "toys: commit def: &lt;leaky&gt;." in document

    for seed in (1, 2):
        shutil.rmtree(results / f"toys/full/{seed}")
        write_run(results / f"toys/full/{seed}", {MODEL: 0.61, "ease": 0.5, "chance": 0.1}, seed)
    assert keep_earlier(earlier, summarise(results))["toys"]["methods"] == summarise(results)["toys"]["methods"]


def test_keeping_rows_from_the_command_line(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["table", str(results), str(results / "page"), "--keep-earlier"]
    monkeypatch.setattr("sys.argv", asked[:-1])
    main()
    first = read_json(results / "page.json")
    shutil.rmtree(results / "toys/no graph")
    monkeypatch.setattr("sys.argv", asked)
    main()
    assert read_json(results / "page.json") == first


def write_alone(folder: Path, methods: dict[str, float], seed: int) -> None:
    """A finished run of baselines alone by the last-out protocol, on the population of published rows."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frames = [
        pl.DataFrame(
            {"method": [name] * USERS, "user": range(USERS), "history": [HISTORY[u % 3] for u in range(USERS)]}
            | {column: level + 0.1 * rng.random(USERS) * (name != "ease") for column in columns(NEXT_ITEM)}
        )
        for name, level in methods.items()
    ]
    pl.concat(frames).write_parquet(folder / "per_user.parquet")
    data = {"users": 22363, "items": 12101, "training interactions": 500}
    write_json(
        folder / "recommender.json", {"baselines": {name: {"coverage@20": 0.5} for name in methods}, "data": data}
    )
    write_json(folder / "run.json", {"identity": "x", "commit": "abc", "seconds": {}})
    (folder / "params.yaml").write_text(yaml.safe_dump({"clean": {"split": "last_out"}}))


def test_baselines_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        methods = {"boosting": 0.5, "boosting_refitted": 0.7, "ease": 0.3}
        write_alone(tmp_path / f"toys/full/{seed}", methods, seed)
    write_alone(tmp_path / "toys/blind/1", {"boosting": 0.4, "boosting_refitted": 0.6, "ease": 0.3}, 1)
    monkeypatch.setattr("sys.argv", ["table", str(tmp_path), str(tmp_path / "page")])
    main()
    assert "toys: the best baseline is Boosting on the terms" in capsys.readouterr().out
    toys = read_json(tmp_path / "page.json")["toys"]
    assert list(toys["methods"]) == ["boosting", "ease"]
    assert toys["strongest"] == {"name": "boosting"}  # not the marked row, which knows more
    assert toys["gain"] == toys["loss"] == toys["spread"] == {}
    # What the variant did not move is no row of its own.
    assert list(toys["marked"]) == ["boosting, refitted", "boosting, blind", "boosting, blind, refitted"]
    frames = {
        (variant, seed): pl.read_parquet(tmp_path / f"toys/{variant}/{seed}/per_user.parquet")
        for variant, seed in (("full", 1), ("full", 2), ("blind", 1))
    }
    levels = {
        (variant, seed, method): frame.filter(method=method)["ndcg@10"].mean()
        for (variant, seed), frame in frames.items()
        for method in ("boosting", "boosting_refitted")
    }
    expected = {
        "boosting, refitted": np.mean(
            [levels["full", s, "boosting_refitted"] - levels["full", s, "boosting"] for s in (1, 2)]
        ),
        "boosting, blind": levels["blind", 1, "boosting"] - levels["full", 1, "boosting"],
        "boosting, blind, refitted": levels["blind", 1, "boosting_refitted"] - levels["full", 1, "boosting_refitted"],
    }
    for name, difference in expected.items():
        assert toys["marked"][name]["difference"]["ndcg@10"]["mean"] == pytest.approx(difference, abs=2e-5)
    over = toys["over seeds"]["boosting"]["ndcg@10"]
    both = [levels["full", seed, "boosting"] for seed in (1, 2)]
    assert (over["low"], over["high"]) == pytest.approx((min(both), max(both)), abs=1e-5)
    assert over["deviation"] == pytest.approx(np.std(both, ddof=1), abs=1e-5)
    assert "ease" not in toys["over seeds"]
    assert toys["published"]["rows"]
    document = (tmp_path / "page.html").read_text()
    for words in ("NOT RUN BY US", "the model was not run", "Boosting on the terms, blind", "±", "refitted: at test"):
        assert words.lower() in document.lower()


def test_other_data_are_not_merged(results: Path) -> None:
    summary = summarise(results)
    other = {"toys": summary["toys"] | {"split": "temporal"}}
    with pytest.raises(InputError, match="toys is not the data of the earlier table"):
        keep_earlier(summary, other)
    write_json(results / "page.json", {"toys": {"variants": {}}})
    with pytest.raises(InputError, match="page.json: `toys` lacks `loss`"):
        read_earlier(results / "page.json")
