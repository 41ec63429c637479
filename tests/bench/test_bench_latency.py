"""The bench of predicted times: what it reads, and that its intervals hold what they should."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from routing_world import LLMS, split_of, train_params

from bench.latency import latencies, measure
from symbiosis.core.errors import InputError


def test_latencies_are_read_where_they_were_measured(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "query_id": ["a", "a", "b", "c"],
            "llm": ["bio-mid", "unknown", "bio-mid", "dear-all"],
            "latency_s": [1.5, 9.0, None, 0.0],
        }
    ).write_parquet(tmp_path / "table.parquet")
    found = latencies(tmp_path / "table.parquet", ["b", "a"], LLMS)
    assert found[1, 1] == 1.5
    assert np.isnan(found).sum() == found.size - 1


def test_nine_of_ten_latencies_lie_within() -> None:
    whole = split_of(500, 0)
    noise = np.exp(0.25 * np.random.default_rng(2).standard_normal((500, 4)) - 0.25**2 / 2)
    seconds = LLMS.service_s(whole.outcomes.response_tokens) * noise
    seconds[:, 3] = np.nan
    errors = measure(whole, LLMS, [f"query {row}" for row in range(500)], seconds, train_params())
    assert len(errors.by_tokens) == 3
    for name in ("lengths and jitter", "conformal"):
        assert (np.abs(errors.covered[name] - 0.9) < 0.09).all()
    assert (errors.covered["lengths"] < errors.covered["lengths and jitter"]).all()
    with pytest.raises(InputError, match="no LLM has enough measured latencies"):
        measure(whole, LLMS, [f"query {row}" for row in range(500)], np.full((500, 4), np.nan), train_params())
