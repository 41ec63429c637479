"""Service times fitted to latencies: known ones are found again, and quantiles are those of the noise."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from symbiosis.routing.simulation.service_times import ServiceTime
from symbiosis.routing.simulation.simulator import jittered


def measured(n: int, truth: ServiceTime, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = np.rint(rng.lognormal(3.5, 0.7, n)) + 1
    mean = truth.startup_s + tokens / truth.tokens_per_s
    return tokens, jittered(mean[:, None], np.array([truth.jitter]), rng)[:, 0]


@pytest.mark.parametrize("truth", [ServiceTime(0.6, 25.0, 0.1), ServiceTime(0.2, 110.0, 0.5)])
def test_known_service_times_are_found_again(truth: ServiceTime) -> None:
    found = ServiceTime.fit(*measured(20_000, truth, 3))
    assert found.startup_s == pytest.approx(truth.startup_s, rel=0.06)
    assert found.tokens_per_s == pytest.approx(truth.tokens_per_s, rel=0.06)
    assert found.jitter == pytest.approx(truth.jitter, rel=0.03)


def test_steady_answers_have_no_jitter() -> None:
    tokens = np.arange(1.0, 200.0)
    found = ServiceTime.fit(tokens, 0.5 + tokens / 50)
    assert (found.startup_s, found.tokens_per_s) == (pytest.approx(0.5), pytest.approx(50.0))
    assert found.jitter < 1e-6


def test_quantiles_are_those_of_many_draws() -> None:
    truth, shares = ServiceTime(0.4, 60.0, 0.4), np.array([0.1, 0.5, 0.9])
    tokens, latency = measured(40_000, truth, 5)
    np.testing.assert_allclose(truth.quantiles(tokens, shares), np.quantile(latency, shares), rtol=0.02)


@pytest.mark.data
def test_measured_latencies_are_predicted_on_queries_held_out() -> None:
    if not (root := os.environ.get("SYMBIOSIS_DATA_DIR")):
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    table = pl.read_parquet(Path(root) / "routing/bfcl2024.parquet")
    shares, ratios = np.array([0.5, 0.9, 0.99]), []
    for name in ("claude-3-haiku-20240307", "gpt-4-0613", "gpt-4o-2024-05-13", "mistral-medium-2312"):
        own = table.filter(pl.col("llm") == name).drop_nulls(["response_tokens", "latency_s"]).sort("query_id")
        tokens, latency = own["response_tokens"].to_numpy().astype(float), own["latency_s"].to_numpy().astype(float)
        fit = ServiceTime.fit(tokens[::2], latency[::2])
        ratios.append(fit.quantiles(tokens[1::2], shares) / np.quantile(latency[1::2], shares))
    np.testing.assert_allclose(ratios, 1.0, atol=0.15)
