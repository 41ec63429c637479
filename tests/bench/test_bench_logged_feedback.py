"""The bench of logged feedback: the log is the champion's, what is held out is not trained on, the page has it all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from routing_world import ROOT, train_params, write_data

from bench import logged_feedback
from bench.logged_feedback import Exploration, learned, run_of, world_of
from bench.logged_feedback_page import ALL, BASE, page
from symbiosis.core.params import read_document
from symbiosis.routing.data.splits import read_whole
from symbiosis.routing.learning.logged_feedback import trainable


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write_data(tmp_path, offline=400, online=100, test=100)
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    document |= {"router_train": train_params().model_dump(mode="json")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def test_chances_are_of_the_best_few() -> None:
    scores = np.array([[0.3, 0.2, 0.1], [0.0, 0.0, 0.4]])
    assert Exploration(0.1, 1).chances(scores).tolist() == [[1, 0, 0], [0, 0, 1]]
    two = Exploration(0.1, 2).chances(scores)
    # exp(-1) to 1
    assert two[0] == pytest.approx([0.7310586, 0.2689414, 0.0])
    assert Exploration(0.1).chances(scores).sum(axis=1) == pytest.approx([1.0, 1.0])


def test_the_log_has_the_propensities_that_it_was_drawn_with(run_folder: Path) -> None:
    whole, llms, queries = read_whole(run_folder / "data/routing", run_folder / "data/embeddings")
    world = world_of(whole, llms, queries, train_params(), 0.2, seed=1)
    exploration = Exploration(0.1)
    log = world.served(world.stream, exploration, np.random.default_rng(0))
    arm = np.array([llms.names.index(name) for name in log.frame["llm"]])
    rows = np.arange(len(arm))
    chances = exploration.chances(world.scores(world.champion, world.stream))
    assert log.frame["propensity"].to_numpy() == pytest.approx(chances[rows, arm])
    assert log.frame["quality"].to_numpy() == pytest.approx(world.stream.outcomes.quality[rows, arm])
    held_out = log.held_out(world.params.logged.holdout_share)
    assert 0 < held_out.sum() < len(log)
    assert len(trainable(log, llms, world.params.logged)) == len(log) - held_out.sum()
    # Whatever is held out, its outcomes teach nothing.
    quality = log.frame["quality"].to_numpy()
    changed = log.frame.with_columns(quality=np.where(held_out, 1 - quality, quality))
    routers, others = learned(world, log, 0), learned(world, type(log)(changed), 0)
    for name, router in routers.items():
        assert np.array_equal(router.heads.weights, others[name].heads.weights), name


def test_the_page_has_every_method_and_every_estimate(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_feedback, "EXPLORATIONS", (Exploration(0.1),))
    run = run_of(run_folder, 0.2, seeds=2, repeats=2, most=550, progress=lambda seeds: seeds)
    assert {one.method for one in run.methods} > {BASE, ALL, "log, online"}
    assert len(run.estimates) == 4
    lines = page([run], "About.", "--runs x")
    rows = [line for line in lines if line.startswith("|")]
    assert sum(BASE in line for line in rows) == 1
    for name in ("log, as noisy answers", "log, inverse propensity", "log, permuted within LLMs", "dr", "snips"):
        assert any(f"| {name} |" in line for line in rows), name
    assert not any("nan" in line for line in lines)
