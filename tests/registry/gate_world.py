"""Routers of known worth in a small workspace: good ones, poor ones, and one that was sabotaged."""

import shutil
from pathlib import Path

import numpy as np
from routing_world import DOMAINS, FORM, LLMS, long_table, train_params, write_data

from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame, write_json
from symbiosis.registry.params import GateParams, RecommenderGateParams, RouterGateParams
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.splits import read_split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.serving_state import ServingState

PARAMS = GateParams(
    seed=1,
    bootstrap_samples=200,
    router=RouterGateParams(margin=0.01, calibration_margin=0.05, calibration_limit=0.2),
    recommender=RecommenderGateParams(margin=0.01),
)


def write_workspace(root: Path, **sizes: int) -> Path:
    """Write the data of a workspace, every query with a text of its own, and the report on their quality."""
    write_data(root, **sizes)
    queries = read_frame(root / layout.QUERIES)
    names = queries["domain"].str.to_uppercase() + " question  " + queries["query_id"]
    queries.with_columns(names.alias("query_text")).write_parquet(root / layout.QUERIES)
    write_quality(root, "routing")
    return root


def write_quality(root: Path, name: str, *, passed: bool = True) -> None:
    """Write what the stage that cleans says of the data."""
    (root / layout.QUALITY).mkdir(parents=True, exist_ok=True)
    write_json(root / layout.QUALITY / f"{name}.json", {"passed": passed, "rules": 15, "broken": 0 if passed else 2})


def texts_of(root: Path, split: str) -> list[str]:
    queries = read_frame(root / layout.QUERIES)
    return queries.filter(queries["split"] == split)["query_text"].to_list()


def write_router(
    root: Path,
    folder: Path,
    *,
    queries: int | None = None,
    shuffled: bool = False,
    names: tuple[str, ...] = LLMS.names,
    texts: list[str] | None = None,
    seed: int = 0,
) -> Path:
    """Train a router on the offline split, and write it and an encoder below a folder.

    `queries`: the first so many only; `shuffled`: with outcomes of other queries; `names`: what it calls the LLMs;
    `texts`: what it says that it was trained on.
    """
    part = read_split("offline", LLMS, root / layout.ROUTING, root / layout.QUERY_EMBEDDINGS)
    part = part.take(np.arange(len(part) if queries is None else queries))
    if shuffled:
        order = np.random.default_rng(seed).permutation(len(part))
        part = type(part)(part.outcomes.take(order), part.embeddings, part.domains, part.subdomains)
    llms = type(LLMS)(names, *(getattr(LLMS, name) for name in list(LLMS.__dataclass_fields__)[1:]))
    params = train_params(seed=seed, tags="none")
    router, _ = train(part, llms, params)
    for name in (layout.ROUTER, layout.ENCODER):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / layout.ENCODER).mkdir(parents=True)
    write_json(folder / layout.ENCODER / "encoder.json", {"encoder": "none"})
    router.save(folder / layout.ROUTER)
    state = ServingState.fit(folder / layout.ROUTER, router, FORM, part.embeddings, part.outcomes, params.serving)
    state.save(folder / layout.ROUTER)
    training_texts.save(folder / layout.ROUTER, texts_of(root, "offline") if texts is None else texts)
    return folder


__all__ = ["DOMAINS", "PARAMS", "long_table", "texts_of", "write_quality", "write_router", "write_workspace"]
