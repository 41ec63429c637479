"""Off-policy estimates agree with Open Bandit Pipeline's on its own small log; made by bench/library_policies.py.

The log is from the Open Bandit Dataset (Saito et al., arXiv 2008.07146, CC BY 4.0).
"""

import json
from pathlib import Path

import numpy as np
import pytest

from symbiosis.routing.learning.off_policy import ESTIMATORS, Logged, evaluate_policy

FILE = Path(__file__).with_name("open_bandit.json")


def test_all_estimators_agree_with_the_library() -> None:
    made = json.loads(FILE.read_text(encoding="utf-8"))
    rounds, actions = len(made["action"]), made["actions"]
    reward = np.zeros(rounds)
    reward[made["rewarded"]] = 1.0
    target = 1 / (1 + np.arange(actions))
    logged = Logged(np.array(made["action"]), np.full(rounds, made["propensity"]), reward)
    report = evaluate_policy(
        logged,
        np.tile(target / target.sum(), (rounds, 1)),
        np.tile(made["expected"], (rounds, 1)),
        clip=1e9,
        switch=made["switch"],
        samples=100,
    )
    for name in ESTIMATORS:
        assert report.estimates[name].value == pytest.approx(made["estimates"][name], rel=1e-9), name
    # Weights above the switch occur in this log, so that the two differ.
    assert made["estimates"]["switch"] != pytest.approx(made["estimates"]["dr"], rel=1e-3)
