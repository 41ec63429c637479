"""Measure whether pre-training helps fine-tuning.  Run it:  python -m bench.pretraining --data FOLDER --work FOLDER

`--data` holds params.yaml and data/ of a pipeline that ran up to `propagation`. Rows: not pre-trained; on the documents
that name all of a user's items behind his token, the last epoch kept; on the prompts of fine-tuning, the best epoch
kept. Each is fine-tuned with the network alone and with the graph's terms, and ranks the validation items. The stages
`pretrain` and `finetune` themselves run, in a folder for each row and seed below `--work`; what is there already is not
run again, and a killed run goes on where it was. Differences are to the row without pre-training: the mean over the
seeds, with 95 % intervals of a paired bootstrap over the users.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.children import write_report
from symbiosis.core import layout
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.inference.scoring import Scorer
from symbiosis.recommender.metrics.metrics import DEPTH, protocol_of
from symbiosis.recommender.metrics.ranking import rank_all

ROOT = Path(__file__).parents[1]
SAMPLES, SEED = 2000, 23
Blocks = dict[str, dict[str, Any]]

NONE = "none"
ROWS: dict[str, dict[str, Any]] = {
    NONE: {"content_epochs": 0, "interaction_epochs": 0},
    "documents": {"interactions": "documents", "patience": None, "text_dropout": 0.0},
    "prompts": {"interactions": "prompts"},
}
TUNED: dict[str, dict[str, Any]] = {"network alone": {"graph_term": False}, "whole model": {"graph_term": True}}


def changed(params: Blocks, pretrain: dict[str, Any], finetune: dict[str, Any], seed: int) -> Blocks:
    """Return params with other blocks of the two trainings, their seeds moved on by `seed`."""
    blocks = {"pretrain": params["pretrain"] | pretrain, "finetune": params["finetune"] | finetune}
    return params | {name: block | {"seed": block["seed"] + seed} for name, block in blocks.items()}


def run_stage(name: str, folder: Path) -> None:
    """Run a stage in a folder; exit with what it said if it fails."""
    command = [sys.executable, "-m", f"stages.{name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {name} in {folder} failed:\n{done.stderr[-2000:]}")


def prepared(folder: Path, data: Path, params: Blocks) -> None:
    """Make the folder of a run: the code, and the data of the pipeline that ran."""
    folder.mkdir(parents=True, exist_ok=True)
    for code in ("symbiosis", "stages"):  # a checkpoint belongs to the code beside it
        shutil.copytree(ROOT / code, folder / code, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    if not (folder / "data").exists():
        (folder / "data").symlink_to(data.resolve() / "data")


def measured(folder: Path) -> np.ndarray:
    """Per user that has validation items, the protocol's metrics of the network in a folder: (users, metrics)."""
    kept = folder / "metrics.npy"
    if not kept.exists():
        data = folder / layout.GRAPH, folder / layout.DISTANCES, folder / layout.PROPAGATION
        shape = read_sizes(folder)
        train, validation = (read_matrix(folder / part, shape) for part in (layout.TRAIN, layout.VALIDATION))
        scorer = Scorer.load_known(folder / layout.FINETUNED, *data)
        ranking = rank_all(scorer.prepared(train), train, DEPTH, SEED)
        metrics = protocol_of(folder / layout.CLEAN).per_user(ranking, validation)
        columns = np.stack(list(metrics.values()), axis=1)
        np.save(kept, columns[np.diff(validation.indptr) > 0])
    found: np.ndarray = np.load(kept)
    return found


def trained(data: Path, work: Path, params: Blocks, row: str, tuned: str, seed: int) -> np.ndarray:
    """Train a row with one seed unless that was done; both ways to fine-tune share what was pre-trained."""
    first, folder = work / f"{row}.{seed}", work / f"{row}.{seed}.{tuned.replace(' ', '_')}"
    blocks = changed(params, ROWS[row], TUNED[tuned], seed)
    if not (first / layout.PRETRAINED).exists():
        prepared(first, data, blocks)
        run_stage("pretrain", first)
    if not (folder / layout.FINETUNED).exists():
        prepared(folder, data, blocks)
        (folder / layout.PRETRAINED).parent.mkdir(exist_ok=True)
        if not (folder / layout.PRETRAINED).exists():
            (folder / layout.PRETRAINED).symlink_to((first / layout.PRETRAINED).resolve())
        run_stage("finetune", folder)
    return measured(folder)


def table(found: dict[tuple[str, str], np.ndarray], names: list[str]) -> list[str]:
    """Write levels and differences to the row without pre-training, as rows of Markdown.

    Parameters
    ----------
    found
        By way of fine-tuning and row, (seeds, users, metrics).
    names
        Of the metrics.
    """
    lines = [f"| | pre-trained on | {' | '.join([*names, 'sum'])} |", f"| --- | --- |{' ---: |' * (len(names) + 1)}"]
    for (tuned, row), values in found.items():
        columns = with_sum(values.mean(axis=0))
        cells = [f"{mean:.4f}" for mean in columns.mean(axis=0)]
        if row != NONE:
            apart = columns - with_sum(found[tuned, NONE].mean(axis=0))
            for number, told in enumerate(means_with_intervals(apart, SAMPLES, SEED)):
                cells[number] += f" {told['mean']:+.4f} ({told['low']:+.4f} to {told['high']:+.4f})"
        lines.append(f"| {tuned} | {row} | {' | '.join(cells)} |")
    return lines


def with_sum(columns: np.ndarray) -> np.ndarray:
    """Add the sum of the columns as the last one."""
    return np.column_stack([columns, columns.sum(axis=1)])


def main() -> None:
    """Train and measure every row that is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrain", type=yaml.safe_load, default={}, help="other settings, as YAML")
    parser.add_argument("--finetune", type=yaml.safe_load, default={}, help="other settings, as YAML")
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    params: Blocks = yaml.safe_load((options.data / "params.yaml").read_text(encoding="utf-8"))
    for block, others in (("pretrain", options.pretrain), ("finetune", options.finetune)):
        params[block] |= others
    found = {
        (tuned, row): np.stack(
            [trained(options.data, options.work, params, row, tuned, seed) for seed in range(options.seeds)]
        )
        for tuned in TUNED
        for row in ROWS
    }
    lines = table(found, list(protocol_of(options.data / layout.CLEAN).metrics))
    print("\n".join(lines))
    if options.report:
        about = (__doc__ or "").split("\n\n", 1)[1].strip()
        head = f"{options.seeds} seeds; pretrain: {options.pretrain}; finetune: {options.finetune}"
        write_report(options.report, ["# Pre-training: `python -m bench.pretraining`", "", about, "", head, "", *lines])


if __name__ == "__main__":
    main()
