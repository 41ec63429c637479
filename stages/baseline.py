"""Tune one baseline on validation and rank all items for every user.  Run it:  python -m stages.baseline ease"""

import argparse
import importlib
import time

import numpy as np

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.layout import CLEAN, RANKINGS, VALIDATION
from symbiosis.core.stage import run
from symbiosis.recommender.baselines.base import Baseline, BaselineParams, tune
from symbiosis.recommender.data.interactions import read_interactions, to_matrix
from symbiosis.recommender.data.training_data import read_training_data
from symbiosis.recommender.metrics.metrics import protocol_of, ranking_depth

# Loaded by name: the registry imports every baseline, this stage depends only on the one that it runs.
BASELINES: dict[str, type[Baseline]] = importlib.import_module("symbiosis.recommender.baselines.registry").BASELINES


def work(name: str, params: BaselineParams) -> None:
    """Read training and validation interactions; write the ranking and what was tried."""
    data, protocol = read_training_data(CLEAN), protocol_of(CLEAN)
    later = read_interactions(VALIDATION, data.interactions.shape)
    validation = to_matrix(later, data.interactions.shape)
    at_test = data.followed_by(later) if protocol.history_grows else None
    start = time.monotonic()
    baseline = BASELINES[name](data, params.seed)
    ranking, tuning, refitted = tune(baseline, params, validation, ranking_depth(validation), protocol, at_test)
    seconds = time.monotonic() - start  # printed, never stored: outputs are the same in every run
    with staged(RANKINGS / name) as (folder,):
        folder.mkdir()
        np.save(folder / "ranking.npy", ranking)
        if refitted is not None:
            np.save(folder / "refitted.npy", refitted)
        write_json(folder / "tuning.json", tuning)
    metrics = ", ".join(f"{k} {v:.4f}" for k, v in tuning["validation"].items())
    print(f"{name}: {tuning['setting']} {metrics}; {len(tuning['tried'])} settings in {seconds:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.baseline", description=__doc__)
    parser.add_argument("name", choices=BASELINES)
    chosen = parser.parse_args().name
    run(f"baselines.{chosen}", BASELINES[chosen].Params, lambda params: work(chosen, params))
