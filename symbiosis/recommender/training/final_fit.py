"""The final fit: the folder that serves, with the measured model itself or one that has learned from all interactions.

With ``data: train`` everything is copied, so that what is served is what was measured. With ``data: all`` graph, walks
and fine-tuning are made again from training, validation and test interactions together, for as many epochs as the
measured model did best with and at the same learning rates. Nothing is left to choose an epoch by or to measure it on,
so the folder holds no held-out interactions and the model says that it must not be evaluated
(`symbiosis.recommender.evaluation.evaluation.check_measurable`). The pre-trained network stays as it is.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array, read_frame, read_json, sha256_of, write_json
from symbiosis.core.layout import (
    CLEAN,
    DISTANCES,
    EMBEDDINGS,
    FINETUNED,
    GRAPH,
    ITEM_VECTORS,
    ITEMS,
    PRETRAINED,
    PROPAGATION,
    PROTOCOL,
    RERANKER,
    TEST,
    TRAIN,
    USERS,
    VALIDATION,
)
from symbiosis.core.params import StageParams
from symbiosis.graph.build import Graph, build_graph, summarise
from symbiosis.graph.distance_tables import write_distance_tables
from symbiosis.graph.edges import checked_edges
from symbiosis.graph.params import BuildGraphParams, ShortestPathsParams
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.data.training_data import read_histories
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.reranking.reranker import Reranker, save_none
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.params import FinalFitParams, FinetuneParams
from symbiosis.recommender.training.process_group import ALONE, ProcessGroup
from symbiosis.recommender.training.starting import Start
from symbiosis.recommender.training.torch_setup import prepare_torch

BUNDLE = Path("bundle.json")
"""In the folder that serves: what it was made from."""
INPUTS = (
    USERS,
    ITEMS,
    TRAIN,
    VALIDATION,
    TEST,
    DISTANCES,
    GRAPH,
    EMBEDDINGS,
    PROPAGATION,
    FINETUNED,
    RERANKER,
    PRETRAINED,
)

_CROSS_FITTED = "without_*"
"""Files of the walks of each fold, which only training reads."""


class FinalFitBlocks(StageParams):
    """The block of the final fit, and those of the stages that it does again with ``data: all``."""

    final_fit: FinalFitParams
    build_graph: BuildGraphParams
    shortest_paths: ShortestPathsParams
    propagation: PropagationParams
    finetune: FinetuneParams


def describe(folder: Path, root: Path, data: str) -> None:
    """Write ``bundle.json``: what the model has learned from, and the digests of all that the folder was made from."""
    made_from = {path.as_posix(): sha256_of(root / path) for path in INPUTS}
    described = {"data": data, "held_out": made_from[TEST.as_posix()], "made_from": made_from}
    write_json(folder / BUNDLE, described)


def copy_measured(root: Path, folder: Path) -> None:
    """Copy the measured model and all it reads.

    Parameters
    ----------
    root
        Holds ``data/`` and ``models/``.
    folder
        Exists and is empty; becomes such a folder.
    """
    for path in (USERS, ITEMS, TRAIN, VALIDATION, TEST, PROTOCOL):
        _copy(root / path, folder / path)
    for path in (GRAPH, PROPAGATION, FINETUNED, RERANKER):
        _copy(root / path, folder / path)
    _copy_common(root, folder)
    if _reads_distances(root):
        _copy(root / DISTANCES, folder / DISTANCES)


def refit(
    root: Path,
    folder: Path,
    blocks: FinalFitBlocks,
    identity: str,
    checkpoints: Checkpoints,
    log: Callable[[Row, int], None],
    group: ProcessGroup = ALONE,
) -> list[Row]:
    """Fit graph, walks and fine-tuning to all interactions.

    Parameters
    ----------
    root
        Holds ``data/`` and ``models/``.
    folder
        Exists and is empty; becomes such a folder, with no interaction held out.
    blocks
        Params of all that is done again.
    identity
        Fingerprint of this fit.
    checkpoints, log
        As in `symbiosis.recommender.training.loop.fit`.
    group
        The processes that train; the first one makes graph and walks, and writes.

    Returns
    -------
    list of dict
        The curve of the training loss.

    Raises
    ------
    InputError
        A file is missing or damaged, or an interaction stands in two parts of the split.
    """
    propagation = _prepared(root, folder, blocks) if group.leads else None
    group.from_first("prepared")
    propagation = propagation or Propagation.load(folder / PROPAGATION)

    params = blocks.finetune.model_copy(update={"seed": blocks.final_fit.seed})
    prepare_torch(params.seed)
    start = Start.load(root / PRETRAINED, params)
    start.model.warm.copy_(torch.from_numpy(np.diff(Graph.load(folder / GRAPH).item_offsets) > 0))
    train, nothing = read_matrix(folder / TRAIN, start.shape), csr_array(start.shape, dtype=np.float32)
    ratings = Ratings.read(folder / TRAIN.parent, start.shape) if params.objective == "rating" else None
    task = Finetuning(
        start.model,
        start.prompts,
        start.bias(folder / GRAPH, folder / DISTANCES),
        propagation if params.graph_term else None,
        train,
        nothing,
        params,
        ratings,
        group=group,
    )
    epochs = int(read_json(root / FINETUNED / "training.json")["best"]["epoch"])
    # The measured model's rates: the schedule is that of all epochs, of which the best one was not the last.
    schedule = Schedule(params, epochs, params.epochs * len(task.batches(0)))
    curve = fit(start.model, task, schedule, checkpoints, log, "final fit")
    if not group.leads:
        return curve
    start.merge()
    (folder / FINETUNED).mkdir()
    last: Row = curve[-1] if curve else {"epoch": 0, "step": 0}
    start.save(folder / FINETUNED, identity, last, ratings.mean if ratings else None, "all")
    for file in (folder / PROPAGATION).glob(_CROSS_FITTED):
        file.unlink()
    _refit_reranker(root / RERANKER, folder)
    return curve


def _refit_reranker(measured: Path, folder: Path) -> None:
    """Write the measured re-ranker with links from all interactions; its network and its weights stay."""
    target, reranker = folder / RERANKER, Reranker.load(measured)
    target.mkdir()
    if reranker is None:
        save_none(target)
        return
    reranker.refitted(read_histories(folder / CLEAN, False)).save(target)
    write_json(target / "training.json", read_json(measured / "training.json"))


def _prepared(root: Path, folder: Path, blocks: FinalFitBlocks) -> Propagation:
    """Write all that the training reads, made from all interactions; return the walks."""
    for path in (USERS, ITEMS):
        _copy(root / path, folder / path)
    _copy_common(root, folder)
    n_users, items = len(read_frame(root / USERS, ["user"])), read_frame(root / ITEMS, ["item", "brand", "categories"])
    _write_interactions(root, folder, (n_users, len(items)))
    graph = build_graph(n_users, items, read_frame(folder / TRAIN, ["user", "item"]), blocks.build_graph)
    _write_graph(graph, folder / GRAPH)
    if _reads_distances(root):
        (folder / DISTANCES).mkdir()
        write_distance_tables(graph, folder / DISTANCES, blocks.shortest_paths)
    relations = Relations.of(graph, read_array(root / ITEM_VECTORS))
    propagation = fit_propagation(graph.interactions(), relations, blocks.propagation)
    (folder / PROPAGATION).mkdir()
    propagation.save(folder / PROPAGATION)
    return propagation


def _write_interactions(root: Path, folder: Path, shape: tuple[int, int]) -> None:
    """Write all interactions as training interactions, and none as held out."""
    parts: dict[Path, Any] = {path: read_frame(root / path) for path in (TRAIN, VALIDATION, TEST)}
    columns = parts[TEST].columns  # the reviews of training only served pre-training
    everything = pl.concat([part.select(columns) for part in parts.values()]).sort("user", "item")
    checked_edges(everything, TRAIN, *shape)
    everything.write_parquet(folder / TRAIN)
    for path in (VALIDATION, TEST):
        everything.clear().write_parquet(folder / path)


def _write_graph(graph: Graph, folder: Path) -> None:
    folder.mkdir()
    graph.save(folder)
    write_json(folder / "summary.json", summarise(graph))


def _copy_common(root: Path, folder: Path) -> None:
    """Copy what no fit to more interactions changes."""
    for path in (EMBEDDINGS, PRETRAINED):
        _copy(root / path, folder / path)


def _reads_distances(root: Path) -> bool:
    """Return whether the attention bias reads hop distances, much the largest files; the other modes do not."""
    return bool(read_json(root / PRETRAINED / "training.json")["bias"] == "paper")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(_CROSS_FITTED), copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
