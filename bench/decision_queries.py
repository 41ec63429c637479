"""Queries, and routers with random numbers in them, for `bench.decisions`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from symbiosis.core.params import read_document, validate_block
from symbiosis.routing.data import prices
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.params import CleanRoutingParams
from symbiosis.routing.model.calibration import Calibration
from symbiosis.routing.model.features import FeatureMap
from symbiosis.routing.model.linear_heads import LinearHeads
from symbiosis.routing.model.predictors import Lengths, TagPrior
from symbiosis.routing.model.router import Router


class World:
    """Queries, split into those to train on and those to route."""

    def __init__(self, title: str, texts: list[str], outcomes: Outcomes, arms: Llms, labels: Sequence[str]) -> None:
        self.title, self.texts, self.outcomes, self.llms, self.labels = title, texts, outcomes, arms, list(labels)
        self.vectors = np.zeros((0, 0), np.float32)


def real(folder: str, queries: int) -> World:
    """The development part of realroute12: every second to fifth query stays unseen."""
    from bench.embeddings import load

    data = load(Path(folder, "routing/realroute12.parquet"), queries, seed=0)
    block = validate_block(read_document(), "clean_routing", CleanRoutingParams)
    described = prices.describe(
        data.long,
        prices=block.prices,
        price_tolerance=block.price_tolerance,
        speeds=block.speeds,
        speed_classes=block.speed_classes,
    )
    columns = ("price_prompt", "price_response", "startup_s", "tokens_per_s")
    arms = Llms(tuple(described["llm"]), *(described[c].to_numpy().astype(np.float64) for c in columns))
    return World("realroute12, development part", data.texts, data.outcomes, arms, data.domains)


def synthetic(queries: int, n_llms: int = 12) -> World:
    """Random queries of 30 to 300 words in eight domains."""
    rng = np.random.default_rng(7)
    labels = rng.integers(8, size=queries)
    words = np.array([f"{stem}{number}" for stem in "abcdefgh" for number in range(40)])
    texts = [" ".join(rng.choice(words[label * 40 : label * 40 + 40], rng.integers(30, 300))) for label in labels]
    skill = rng.random((8, n_llms))
    quality = (rng.random((queries, n_llms)) < skill[labels]).astype(np.float64)
    prompt = np.repeat([[float(len(text) / 4)] for text in texts], n_llms, axis=1)
    response = np.rint(np.exp(rng.normal(4.5, 0.6, (queries, n_llms))))
    price = np.geomspace(0.1, 10, n_llms) / 1e6
    arms = Llms(tuple(f"llm{n}" for n in range(n_llms)), price, 3 * price, np.full(n_llms, 0.5), np.full(n_llms, 50.0))
    outcomes = Outcomes(np.arange(queries), quality, prompt, response, arms.cost_usd(prompt, response))
    return World("synthetic queries", texts, outcomes, arms, [f"domain{label}" for label in labels])


def router_of(n_llms: int, dimension: int) -> Router:
    """A router with random numbers in it, of a given size."""
    rng = np.random.default_rng(3)
    tags, groups = 16, 4
    components, vector = dimension - tags - groups - 1, max(384, dimension)
    feature_map = FeatureMap(
        rng.standard_normal((vector, tags)),
        np.zeros(tags),
        np.eye(groups)[np.arange(tags) % groups],
        np.zeros(vector),
        rng.standard_normal((vector, components)) / vector**0.5,
    )
    heads = LinearHeads.blank(n_llms, dimension, 2, 10.0)
    heads.weights[:, :, dimension:] = 0.1 * rng.standard_normal((n_llms, dimension, 2))
    price = np.geomspace(0.1, 10, n_llms) / 1e6
    arms = Llms(tuple(f"llm{n}" for n in range(n_llms)), price, 3 * price, np.full(n_llms, 0.5), np.full(n_llms, 50.0))
    prior = TagPrior(np.full((n_llms, tags, 2), 0.5), np.zeros((dimension, 2)))
    return Router(
        arms, feature_map, prior, heads, Calibration("none", ()), Lengths(np.ones(n_llms), np.full(n_llms, 1e4)), 0.01
    )
