"""A small world of queries and LLMs for the tests of the router: domains are clusters of the embedding space."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.artifacts import write_json
from symbiosis.core.params import read_document
from symbiosis.routing.data.logged import OUTCOMES, Logged
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.experiments.params import CompareRoutersParams, OnlineReplayParams
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.reference import Reference
from symbiosis.routing.learning.serving_state import Lessons, ServingState
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.policy.score import Rule
from symbiosis.routing.queries.text_shape import VERSION
from symbiosis.routing.queries.vector_form import VectorForm

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = ("algebra", "biology", "cooking")
#                 algebra biology cooking, chance of a good answer
SKILL = np.array([[0.95, 0.30, 0.45], [0.40, 0.92, 0.40], [0.90, 0.88, 0.90], [0.25, 0.25, 0.85]])
LLMS = Llms(
    ("alge-mid", "bio-mid", "dear-all", "poor-cheap"),
    np.array([1.0, 1.0, 10.0, 0.1]) / 1e6,
    np.array([2.0, 2.0, 30.0, 0.2]) / 1e6,
    np.array([0.5, 0.5, 0.6, 0.3]),
    np.array([60.0, 60.0, 25.0, 110.0]),
)


FORM = VectorForm(
    weights_sha256="0" * 64, maximum_tokens=64, precision="float32", shape_weight=0.0, text_shape=VERSION, dimension=16
)


def draw(n: int, seed: int, skill: np.ndarray = SKILL) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """Outcomes, unit embeddings (n, 16) and domain numbers (n,)."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(len(DOMAINS), size=n)
    vectors = np.eye(16)[domain] + 0.25 * rng.standard_normal((n, 16))
    quality = (rng.random((n, len(skill))) < skill[:, domain].T).astype(np.float64)
    prompt = np.repeat(rng.integers(20, 200, size=(n, 1)), len(skill), axis=1).astype(np.float64)
    mean_log = np.log(np.array([60, 120, 240]))[domain][:, None] + 0.3 * np.arange(len(skill))
    response = np.rint(np.exp(mean_log + 0.4 * rng.standard_normal((n, len(skill)))))
    llms = LLMS.take(range(len(skill)))
    outcomes = Outcomes(np.arange(n), quality, prompt, response, llms.cost_usd(prompt, response))
    return outcomes, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), domain


def train_params(**changes: Any) -> RouterTrainParams:
    small = {
        "predictor": "linear",
        "tags": "subdomain",
        "dimension": 8,
        "tag_penalties": [3, 30],
        "component_penalties": [3, 100],
        "minimum_tag": 5,
        "clusters": 3,
        "forest": {"trees": 30, "minimum_leaf": 5},
        "network": {"steps": 60, "decay": 1.5},
    }
    block: Any = read_document(ROOT / "params.yaml")["router_train"]
    return RouterTrainParams.model_validate(block | small | changes)


def compare_params(**changes: Any) -> CompareRoutersParams:
    """Params of the comparison: the router alone and no stream, unless changed."""
    block: Any = read_document(ROOT / "params.yaml")["compare_routers"]
    small = {"forms": ["router"], "baselines": [], "quality_share": 0.9, "robustness": None, "stream": None}
    return CompareRoutersParams.model_validate(block | small | changes)


def replay_params(**changes: Any) -> OnlineReplayParams:
    block: Any = read_document(ROOT / "params.yaml")["online_replay"]
    merged = block | {"bootstrap_samples": 100}
    for key, value in changes.items():
        merged[key] = merged[key] | value if isinstance(value, dict) else value
    return OnlineReplayParams.model_validate(merged)


def write_data(folder: Path, seed: int = 1, offline: int = 300, online: int = 80, test: int = 120) -> None:
    """Write data/routing and data/embeddings as the stages before the router leave them."""
    sizes = {"offline": offline, "online": online, "test": test}
    outcomes, vectors, domain = draw(sum(sizes.values()), seed)
    routing = folder / "data/routing"
    routing.mkdir(parents=True)
    (folder / "data/embeddings").mkdir()
    np.save(folder / "data/embeddings/queries.npy", vectors.astype(np.float32))
    write_json(folder / "data/embeddings/manifest.json", FORM.model_dump())
    names = [DOMAINS[d] for d in domain]
    split = [name for name, size in sizes.items() for _ in range(size)]
    pl.DataFrame(
        {
            "query": np.arange(len(outcomes), dtype=np.uint32),
            "query_id": [f"q{n}" for n in range(len(outcomes))],
            "query_text": ["?" * n for n in outcomes.prompt_tokens[:, 0].astype(int)],
            "domain": names,
            "subdomain": [None] * len(outcomes),
            "split": split,
        },
        schema_overrides={"subdomain": pl.String()},
    ).write_parquet(routing / "queries.parquet")
    pl.DataFrame(
        {
            "llm": LLMS.names,
            "price_prompt": LLMS.price_prompt,
            "price_response": LLMS.price_response,
            "startup_s": LLMS.startup_s,
            "tokens_per_s": LLMS.tokens_per_s,
        }
    ).write_parquet(routing / "llms.parquet")
    write_no_log(folder)
    for name in sizes:
        rows = np.flatnonzero(np.array(split) == name)
        long_table(outcomes.take(rows)).write_parquet(routing / f"{name}.parquet")


def write_no_log(folder: Path) -> None:
    """Write data/logged as the stage collect-feedback leaves it without exports."""
    (folder / "data/logged").mkdir(parents=True)
    pl.DataFrame(schema=OUTCOMES).write_parquet(folder / "data/logged/outcomes.parquet")


def long_table(outcomes: Outcomes) -> pl.DataFrame:
    """One row per query and LLM, as `clean_routing` writes them."""
    n, n_llms = outcomes.quality.shape
    return pl.DataFrame(
        {
            "query": np.repeat(outcomes.queries, n_llms).astype(np.uint32),
            "llm": np.tile(np.arange(n_llms, dtype=np.uint32), n),
            "quality": outcomes.quality.ravel().astype(np.float32),
            "prompt_tokens": outcomes.prompt_tokens.ravel().astype(np.int32),
            "response_tokens": outcomes.response_tokens.ravel().astype(np.int32),
            "cost_usd": outcomes.cost_usd.ravel(),
        }
    )


RULE = Rule(
    trade_off=1.4,
    weighting="convex",
    exploration=0.01,
    root=True,
    waiting=0.1,
    growth_per_s=0.1,
    onset=0.5,
    limit_s=30.0,
)


def write_router(folder: Path, seed: int = 0, trained_on: Lessons | None = None, **params: Any) -> Path:
    """Write models/router as the stage router-train does, and return its folder."""
    chosen = train_params(**params)
    split = split_of(300, seed)
    router, report = train(split, LLMS, chosen)
    router.save(folder)
    known = trained_on or Lessons()
    ServingState.fit(folder, router, FORM, split.embeddings, split.outcomes, chosen.serving, known).save(folder)
    Reference.fit(router.feature_map, split, split.embeddings[:0], report, chosen.seed).save(folder)
    return folder


def split_of(n: int, seed: int, skill: np.ndarray = SKILL) -> Split:
    """Draw queries with the names of their domains."""
    outcomes, vectors, domain = draw(n, seed, skill)
    names = [DOMAINS[d] for d in domain]
    return Split(outcomes, vectors, names, names)


def logged_of(split: Split, arms: np.ndarray, propensity: float | np.ndarray = 0.25, store: str = "a" * 16) -> Logged:
    """Return the log of a stream in which one LLM answered each query and its quality and length were told."""
    rows, n = np.arange(len(split)), len(split)
    own = {name: getattr(split.outcomes, name)[rows, arms] for name in ("quality", "response_tokens", "cost_usd")}
    values = {
        "query": [hashlib.sha256(vector.tobytes()).hexdigest() for vector in split.embeddings],
        "split": [None] * n,
        "store": [store] * n,
        "lesson": rows + 1,
        "decision": [f"{store[:4]}-{row}" for row in rows],
        "at": rows.astype(float),
        "source": ["user"] * n,
        "mode": ["apply"] * n,
        "policy": ["auto"] * n,
        "router": ["abc"] * n,
        "version": [0] * n,
        "chosen": [LLMS.names[arm] for arm in arms],
        "llm": [LLMS.names[arm] for arm in arms],
        "propensity": np.broadcast_to(propensity, n).astype(float),
        **own,
        "satisfied": [None] * n,
        "prompt_tokens": split.outcomes.prompt_tokens[rows, arms],
        "expected_quality": np.zeros(n),
        "expected_prompt_tokens": np.zeros(n),
        "expected_cost_usd": np.zeros(n),
        "vector": split.embeddings.astype(np.float32).tolist(),
    }
    return Logged(pl.DataFrame([pl.Series(name, values[name], dtype=kind) for name, kind in OUTCOMES.items()]))
