"""New items by their texts, against a model that was trained with them in its catalogue; a part of `bench.guests`.

The cold items of a folder, which nobody took in training, are taken out of the catalogue. All is trained anew without
them, their texts included, and they come back by `Recommender.with_items`. Both are compared by the AUC among the cold
items, see `symbiosis.recommender.evaluation.cold_items`, and by what the cold items do to the lists of all items: how
many places they take, and what the other test items lose by them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import read_array, read_frame
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.data.interactions import items_of, read_matrix, read_sizes
from symbiosis.recommender.data.new_items import COLUMNS
from symbiosis.recommender.evaluation.cold_items import Scores, auc, cold_items, content_scores
from symbiosis.recommender.evaluation.evaluation import restricted
from symbiosis.recommender.inference.recommender import Recommender
from symbiosis.recommender.inference.scoring import History
from symbiosis.recommender.metrics.metrics import DEPTH, HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import rank_all

STAGES = ("build_graph", "shortest_paths", "corpus", "embed_items", "propagation", "pretrain", "finetune")


def cold_of(root: Path) -> np.ndarray:
    """Return the items of a folder that have no training interaction, ascending."""
    train = read_matrix(root / layout.TRAIN, read_sizes(root / layout.CLEAN))
    return np.flatnonzero(np.bincount(train.indices, minlength=train.shape[1]) == 0).astype(np.uint32)


def write_without(root: Path, folder: Path) -> None:
    """Write the clean data of a folder without its cold items, and code and params to train with."""
    items = read_frame(root / layout.ITEMS).sort("item")
    kept = items.filter(~pl.col("item").is_in(cold_of(root)))
    numbers = pl.DataFrame({"item": kept["item"], "new": np.arange(len(kept), dtype=np.uint32)})
    (folder / layout.CLEAN).mkdir(parents=True)
    kept.with_columns(item=numbers["new"]).write_parquet(folder / layout.ITEMS)
    shutil.copyfile(root / layout.USERS, folder / layout.USERS)
    for part in (layout.TRAIN, layout.VALIDATION, layout.TEST, layout.GRAPH_EDGES):
        frame = read_frame(root / part).join(numbers, on="item", maintain_order="left")
        frame.with_columns(item=pl.col("new")).drop("new").write_parquet(folder / part)
    for code in ("symbiosis", "stages"):
        shutil.copytree(code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(root / "params.yaml", folder / "params.yaml")


def train_without(root: Path, folder: Path) -> None:
    """Train in a folder without the cold items; what an earlier call has finished is kept."""
    if not (folder / layout.CLEAN).is_dir():
        write_without(root, folder)
    if not (folder / layout.FINETUNED).is_dir():
        for stage in STAGES:
            subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, check=True)


def scores_of(recommender: Recommender, order: np.ndarray) -> Scores:
    """Return the scores of known users for all items, in an order of the items."""

    def scores(users: np.ndarray) -> np.ndarray:
        histories = [History(items_of(recommender.parts.train, user), int(user)) for user in users]
        found: np.ndarray = recommender.parts.score(histories)[:, order]
        return found

    return scores


def places_taken(method: str, scores: Scores, taken: csr_array, test: csr_array, cold: np.ndarray, seed: int) -> str:
    """Return the share of cold items in the lists of all users, and the NDCG of the others with and without them."""
    is_cold = np.zeros(test.shape[1], dtype=bool)
    is_cold[cold] = True
    others = restricted(test, None, ~is_cold)
    ranking = rank_all(scores, taken, DEPTH, seed, label=method)

    def warm(users: np.ndarray) -> np.ndarray:
        return np.where(is_cold, np.float32(-np.inf), scores(users))

    alone = rank_all(warm, taken, DEPTH, seed, label=f"{method}, others only")
    shares = (f"{np.isin(ranking[:, :depth], cold).mean():.1%}" for depth in (20, DEPTH))
    metrics = (f"{HELD_OUT_SETS.means(order, others)['ndcg@100']:.4f}" for order in (ranking, alone))
    return f"| {method} | " + " | ".join([*shares, *metrics]) + " |"


def measure_new_items(root: Path, folder: Path, samples: int, seed: int) -> list[str]:
    """Compare cold items in the catalogue of the training with the same items added after it.

    Parameters
    ----------
    root
        Holds data/, models/ and params.yaml, with cold items.
    folder
        Where all is trained without them.
    samples, seed
        Of the bootstrap over the users.
    """
    train_without(root, folder)
    shape, cold = read_sizes(root / layout.CLEAN), cold_of(root)
    train, test = (read_matrix(root / part, shape) for part in (layout.TRAIN, layout.TEST))
    items = read_frame(root / layout.ITEMS).sort("item")
    described = items.filter(pl.col("item").is_in(cold)).select(name for name in COLUMNS if name in items.columns)
    every = np.arange(shape[1])
    # The added ones stand last: back to the numbers of the folder.
    order = np.argsort(np.concatenate([np.setdiff1d(every, cold), cold]))
    methods = {
        "in the catalogue of the training": scores_of(Recommender.open(root), every),
        "added by text, not trained": scores_of(Recommender.open(folder).with_items(described), order),
        "content alone": content_scores(read_array(root / layout.ITEM_VECTORS), train),
    }
    found = cold_items(methods, train, test, samples, seed)
    measures = list(found["chance"])
    lines = [
        f"{found['users']:,} users took some of the {found['candidates']} items.",
        "",
        "| | " + " | ".join(measures) + " |",
        "| --- |" + " ---: |" * len(measures),
        "| chance | " + " | ".join(f"{found['chance'][name]:.4f}" for name in measures) + " |",
    ]
    for method, values in found["methods"].items():
        cells = [f"{cell['mean']:.4f} [{cell['low']:.4f}, {cell['high']:.4f}]" for cell in values.values()]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    taken = csr_array(train + read_matrix(root / layout.VALIDATION, shape))
    del methods["content alone"]
    lines += ["", "Places in all lists, and NDCG@100 of the other test items:", ""]
    lines += ["| | cold among the first 20 | cold among the first 100 | with cold candidates | without |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    lines += [places_taken(method, scores, taken, test, cold, seed) for method, scores in methods.items()]
    wanted = csr_array(test[:, cold])
    users = np.flatnonzero((np.diff(wanted.indptr) > 0) & (np.diff(wanted.indptr) < len(cold)))
    trained, added = (auc(scores(users)[:, cold], csr_array(wanted[users])) for scores in methods.values())
    (difference,) = means_with_intervals((added - trained)[:, None], samples, seed)
    cell = f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
    return [*lines, "", f"AUC of added minus trained, user by user: {cell}."]
