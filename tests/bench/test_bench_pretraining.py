"""The bench of pre-training: seeds of the rows, levels and paired differences."""

import numpy as np

from bench.pretraining import NONE, Blocks, changed, table


def test_rows_change_their_blocks_and_seeds_alone() -> None:
    params: Blocks = {
        "pretrain": {"seed": 3, "bias": "none"},
        "finetune": {"seed": 5, "epochs": 2},
        "clean": {"core": 5},
    }
    assert changed(params, {"patience": 1}, {"epochs": 4}, 2) == {
        "pretrain": {"seed": 5, "bias": "none", "patience": 1},
        "finetune": {"seed": 7, "epochs": 4},
        "clean": {"core": 5},
    }
    assert params["pretrain"] == {"seed": 3, "bias": "none"}


def test_differences_are_paired_over_users_and_averaged_over_seeds() -> None:
    """Users differ, every one of them gains .25 in the mean of the seeds: the interval has no width."""
    none = np.array([[[0.0], [1.0], [0.5]], [[0.5], [1.0], [0.0]]])
    gains = np.array([0.125, 0.375])[:, None, None]
    lines = table({("alone", NONE): none, ("alone", "other"): none + gains}, ["recall"])
    assert lines[2] == "| alone | none | 0.5000 | 0.5000 |"
    assert lines[3] == "| alone | other | 0.7500 +0.2500 (+0.2500 to +0.2500) | 0.7500 +0.2500 (+0.2500 to +0.2500) |"
