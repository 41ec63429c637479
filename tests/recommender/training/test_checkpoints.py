"""Checkpoints: one complete state is left whenever a process is killed."""

from pathlib import Path

import pytest
import torch

from symbiosis.recommender.training.checkpoints import Checkpoints


def saved(folder: Path, steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, 0)
    for step in range(1, steps + 1):
        checkpoints.save({"weight": torch.full((2,), float(step))}, {"step": step})
    return checkpoints


def test_the_newest_state_alone_stays(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "run", 3)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step_000000003"]
    found = checkpoints.load()
    assert found is not None
    assert (found[0]["weight"].tolist(), found[1]) == ([3.0, 3.0], {"step": 3})
    checkpoints.clear()
    assert checkpoints.load() is None


@pytest.mark.parametrize("gone", ["state.safetensors", "progress.json"])
def test_half_a_state_is_passed_over(gone: str, tmp_path: Path) -> None:
    """As a process leaves it that is killed while it clears up."""
    checkpoints = saved(tmp_path / "run", 2)
    (tmp_path / "run/step_000000002" / gone).unlink()
    assert checkpoints.load() is None
