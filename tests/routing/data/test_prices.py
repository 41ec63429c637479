"""What an answer costs: prompt, cached prompt, response and hidden reasoning tokens."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from routing_world import LLMS, write_data

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms

TWO = Llms(
    ("plain", "thinker"),
    np.array([2.0, 4.0]),
    np.array([8.0, 16.0]),
    np.zeros(2),
    np.ones(2),
    np.array([0.5, np.nan]),
    np.array([np.nan, 20.0]),
)


def test_every_kind_of_token_has_its_price() -> None:
    cost = TWO.cost_usd(np.array([10.0, 10]), np.array([3.0, 3]), np.array([4.0, 4]), np.array([5.0, 5]))
    # plain: 6 * 2 + 4 * .5 + 3 * 8 + 5 * 8; thinker: no cached price, so 10 * 4 + 3 * 16 + 5 * 20
    assert cost.tolist() == [78.0, 188.0]


def test_prices_that_are_not_given_are_the_usual_ones() -> None:
    tokens = np.full((3, 4), 7.0)
    usual = LLMS.cost_usd(tokens, tokens)
    np.testing.assert_array_equal(LLMS.cost_usd(tokens, tokens, tokens), usual)
    np.testing.assert_allclose(LLMS.cost_usd(tokens, tokens, None, tokens), LLMS.cost_usd(tokens, 2 * tokens))


def test_prices_go_with_their_llm() -> None:
    kept = TWO.take([1])
    assert kept.names == ("thinker",)
    assert (float(kept.price_cached[0]), float(kept.price_reasoning[0])) == (4.0, 20.0)


def test_a_table_with_and_without_the_other_prices_is_read(tmp_path: Path) -> None:
    write_data(tmp_path)
    path = tmp_path / "data/routing/llms.parquet"
    plain = Llms.load(path)
    np.testing.assert_array_equal(plain.price_cached, plain.price_prompt)
    frame = pl.read_parquet(path)
    cached = pl.Series("price_cached", [1e-7, None, None, None])
    frame.with_columns(cached).write_parquet(path)
    known = Llms.load(path)
    np.testing.assert_array_equal(known.price_cached, [1e-7, *plain.price_prompt[1:]])
    np.testing.assert_array_equal(known.price_reasoning, plain.price_response)
    frame.with_columns(-cached).write_parquet(path)
    with pytest.raises(InputError, match=r"'alge-mid' has price_cached -1e-07"):
        Llms.load(path)
    frame.with_columns(pl.lit(None, pl.Float64).alias("price_response")).write_parquet(path)
    with pytest.raises(InputError, match=r"'alge-mid' has price_response None.*give `clean_routing.prices`"):
        Llms.load(path)
