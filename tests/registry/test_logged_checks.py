"""What logged feedback says of two routers is shown; it neither opens nor shuts the gate."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from gate_world import PARAMS, write_router, write_workspace
from routing_world import LLMS, logged_of, split_of

from symbiosis.core import layout
from symbiosis.registry.checks.logged import logged_checks
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.logged import Logged

ROWS = 900


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a good router and a log in which every LLM was asked alike."""
    folder = write_workspace(tmp_path_factory.mktemp("logged") / "work")
    write_router(folder, folder)
    shutil.copy(ROOT / "params.yaml", folder)
    write_log(folder)
    return folder


@pytest.fixture(scope="module")
def poor(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a router trained on outcomes of other queries."""
    return write_router(root, tmp_path_factory.mktemp("poor"), shuffled=True)


def write_log(folder: Path, rows: int = ROWS) -> Logged:
    (folder / layout.LOGGED).mkdir(parents=True, exist_ok=True)
    arms = np.random.default_rng(3).integers(len(LLMS), size=rows)
    logged = logged_of(split_of(rows, seed=9), arms)
    logged.frame.write_parquet(folder / layout.LOGGED_OUTCOMES)
    return logged


def test_estimates_are_shown_and_decide_nothing(root: Path, poor: Path) -> None:
    """Of the rows that nobody was trained on, paired: turned round, the sign turns."""
    worse, better = logged_checks(poor, root, root, PARAMS), logged_checks(root, poor, root, PARAMS)
    assert [check.name for check in worse] == ["logged feedback, doubly robust", "logged feedback, self-normalised"]
    assert not any(check.decides for check in (*worse, *better))
    assert worse[0].high is not None
    assert worse[0].high < 0
    assert not worse[0].passed
    assert better[0].passed
    logged = Logged.load(root / layout.LOGGED_OUTCOMES)
    held = int(logged.held_out(0.2).sum())
    assert 100 < held < 260
    assert f"utility on {held} logged queries, doubly robust: -" in worse[0].words


def test_rows_that_one_was_trained_on_are_left_out(root: Path, poor: Path, tmp_path: Path) -> None:
    logged = Logged.load(root / layout.LOGGED_OUTCOMES)
    held = logged.take(logged.held_out(0.2)).frame["query"]
    champion = tmp_path / "champion"
    shutil.copytree(poor, champion)
    training_texts.save(champion / layout.ROUTER, [], held[:50])
    assert f"utility on {len(held) - 50} logged queries" in logged_checks(root, champion, root, PARAMS)[0].words
    training_texts.save(champion / layout.ROUTER, [], held[:-5])
    (check,) = logged_checks(root, champion, root, PARAMS)
    assert check.words.startswith("logged feedback; not to be trusted: ")
    assert "5 rows, fewer than 30" in check.words
    training_texts.save(champion / layout.ROUTER, [], held)
    assert logged_checks(root, champion, root, PARAMS) == ()


def test_no_log_no_champion_or_a_damaged_log(root: Path, poor: Path, tmp_path: Path) -> None:
    """The first two say nothing, the last one is told and refuses nobody."""
    assert logged_checks(poor, None, root, PARAMS) == ()
    assert logged_checks(poor, root, tmp_path, PARAMS) == ()
    (tmp_path / layout.LOGGED).mkdir(parents=True)
    (tmp_path / layout.LOGGED_OUTCOMES).write_bytes(b"PAR1")
    (check,) = logged_checks(poor, root, tmp_path, PARAMS)
    assert (check.passed, check.decides) == (False, False)
    assert "outcomes.parquet is damaged" in check.words
