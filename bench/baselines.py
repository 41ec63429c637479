"""Time the training and ranking of each baseline.  Run it:  python bench/baselines.py

Reads the pipeline's clean interactions, and the tuned setting and best epoch of each baseline if there is one;
otherwise it uses the first setting of params.yaml and `--epochs` epochs. The pipeline itself records no times, so that
its outputs are the same to the byte in every run.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from symbiosis.core.artifacts import read_json
from symbiosis.core.params import read_document, validate_block
from symbiosis.recommender.baselines.base import IterativeParams, learn
from symbiosis.recommender.baselines.registry import BASELINES
from symbiosis.recommender.data.training_data import read_training_data
from symbiosis.recommender.metrics.metrics import DEPTH
from symbiosis.recommender.metrics.ranking import rank_all


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(BASELINES), help="baselines; all if none is named")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with clean/ and, if tuned, rankings/")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BASELINES):
        parser.error(f"{min(unknown)} is no baseline; they are {', '.join(BASELINES)}")
    data = read_training_data(arguments.data / "clean")
    n_users, n_items = data.interactions.shape
    print(f"{n_users:,} users, {n_items:,} items, {data.interactions.nnz:,} training interactions")
    print(f"{'':12}{'prepare, s':>12}{'learn, s':>12}{'epochs':>8}{'rank all, s':>13}{'users/s':>10}  setting")
    for name in arguments.names:
        params = validate_block(read_document(), f"baselines.{name}", BASELINES[name].Params)
        setting, epochs = next(params.settings()), arguments.epochs
        tuned = arguments.data / "rankings" / name / "tuning.json"
        if tuned.is_file():
            record = read_json(tuned)
            setting, epochs = record["setting"], record.get("epoch", 1)
        start = time.perf_counter()
        baseline = BASELINES[name](data, params.seed)
        prepared = time.perf_counter()
        iterative = isinstance(params, IterativeParams)
        if isinstance(params, IterativeParams):
            params = params.model_copy(update={"epochs": epochs})
        for _ in learn(baseline, params, setting):
            pass
        learned = time.perf_counter()
        rank_all(baseline.scores, data.interactions, min(DEPTH, n_items), params.seed)
        ranked = time.perf_counter()
        described = ", ".join(f"{key} {value:g}" for key, value in setting.items())
        print(
            f"{name:12}{prepared - start:>12.2f}{learned - prepared:>12.2f}{epochs if iterative else '-':>8}"
            f"{ranked - learned:>13.2f}{n_users / (ranked - learned):>10,.0f}  {described}",
            flush=True,
        )


if __name__ == "__main__":
    main()
