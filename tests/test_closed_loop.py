"""The loop closed, through the commands of a user:  pytest -m slow -s tests/test_closed_loop.py"""

from pathlib import Path

import pytest

from bench.closed_loop import run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_feedback_makes_a_champion_and_shuffled_labels_do_not(tmp_path: Path) -> None:
    loop = run(tmp_path / "clone", 500)
    assert loop.served > 490  # a text that was drawn twice is asked once
    assert (loop.requests > 0, loop.failed) == (True, 0)

    assert loop.verdicts["trained on feedback"]["standing"] == "passed"
    assert loop.champions["trained on feedback"] != loop.champions["first champion"]
    assert loop.gains["trained on feedback"][1] > 0

    assert loop.verdicts["shuffled labels"]["standing"] == "refused"
    assert loop.champions["shuffled labels"] == loop.champions["trained on feedback"]
    assert loop.champions["rollback"] == loop.champions["first champion"]
