"""Tables that do not say all: what is filled in, what is averaged, what is learned from partial answers."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data import gaps, partial, splits, table
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.params import CleanRoutingParams, ListPrice, QualityScale
from symbiosis.routing.model.linear_heads import LinearHeads

ROOT = Path(__file__).resolve().parents[3]


def params(**changes: Any) -> CleanRoutingParams:
    return CleanRoutingParams.model_validate(read_document(ROOT / "params.yaml")["clean_routing"] | changes)


def answers(**columns: Any) -> pl.DataFrame:
    """Two queries answered by two LLMs, in the split offline."""
    rows = {
        "query_id": ["a", "a", "b", "b"],
        "query_text": ["12345678", "12345678", "123", "123"],
        "llm": ["x", "y", "x", "y"],
        "quality": [1.0, 0.0, 0.5, 1.0],
    }
    frame = table.typed(pl.DataFrame(rows | columns), Path("t.csv"))
    return frame.with_columns(pl.lit("offline").alias("split"))


# ---------------------------------------------------------------- what a table may call its columns


def test_other_names_are_read_and_ids_come_from_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt,model_name,score,cost\nWho?,x,good,0.1\nWho?,y,bad,0.2\nWhy?,x,0.5,0.1\n")
    frame = table.read_table(path, {"Good": 1, "bad": 0})
    assert frame["quality"].to_list() == [1.0, 0.0, 0.5]
    assert frame["cost_usd"].to_list() == [0.1, 0.2, 0.1]
    first, second, third = frame["query_id"]
    assert first == second != third
    assert frame["domain"].null_count() == 3


def test_marks_become_shares_of_the_way() -> None:
    frame = pl.DataFrame({"quality": [1.0, 5.0, 2.0, None]})
    assert gaps.scaled(frame, QualityScale(worst=1, best=5, words={}))["quality"].to_list() == [0, 1, 0.25, None]
    assert gaps.scaled(frame, QualityScale(worst=5, best=1, words={}))["quality"].to_list() == [1, 0, 0.75, None]
    with pytest.raises(ValueError, match="must differ"):
        QualityScale(worst=1, best=1, words={})


def test_repeated_answers_are_averaged() -> None:
    frame = answers(cost_usd=[0.1, 0.2, 0.3, 0.4]).drop("split")
    again = frame.with_columns(pl.lit(0.5).alias("quality"), pl.col("cost_usd") * 3)
    unmarked = frame.with_columns(pl.lit(None, pl.Float64).alias("quality"), pl.lit(9.0).alias("cost_usd"))
    averaged = gaps.averaged(pl.concat([frame, again, unmarked])).sort("query_id", "llm")
    assert averaged["quality"].to_list() == [0.75, 0.25, 0.5, 0.75]
    assert averaged["cost_usd"].to_list() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert gaps.averaged(frame) is frame


# ---------------------------------------------------------------- tokens and costs


def test_tokens_come_from_other_llms_from_the_text_or_from_the_mean() -> None:
    frame = answers(
        prompt_tokens=[5, None, None, None],
        response_tokens=[10, None, 30, None],
        tokens_basis=["tokenizer", "tokenizer", "my own", None],
    )
    filled = gaps.with_tokens(frame)
    assert filled["prompt_tokens"].to_list() == [5, 5, 1, 1]
    assert filled["response_tokens"].to_list() == [10, 20, 30, 20]
    assert filled["tokens_basis"].to_list() == ["tokenizer", "imputed_model_mean", "characters", "imputed_model_mean"]
    strange = gaps.with_tokens(answers(prompt_tokens=[5] * 4, response_tokens=[7] * 4, tokens_basis=["mine"] * 4))
    assert set(strange["tokens_basis"]) == {"unknown"}


def test_without_any_count_a_response_is_one_token() -> None:
    filled = gaps.with_tokens(answers())
    assert filled["prompt_tokens"].to_list() == [2, 2, 1, 1]
    assert filled["response_tokens"].to_list() == [1] * 4
    assert set(filled["tokens_basis"]) == {"characters"}


def test_costs_come_from_prices_or_are_left_out_of_account() -> None:
    frame = answers(prompt_tokens=[100] * 4, response_tokens=[10] * 4)
    price = ListPrice(prompt=1, response=10)
    priced = gaps.with_costs(frame, {"x": price, "y": price})
    assert priced["cost_usd"].to_list() == pytest.approx([2e-4] * 4)
    assert set(priced["cost_basis"]) == {"list_price"}
    free = gaps.with_costs(frame, {})
    assert free["cost_usd"].to_list() == [0.0] * 4
    assert set(free["cost_basis"]) == {"none"}
    with pytest.raises(InputError, match=r"LLM 'y' has neither costs nor a price .* to \[y\]"):
        gaps.with_costs(frame, {"x": price})


def test_a_missing_cost_follows_the_llms_own_prices() -> None:
    frame = answers(
        prompt_tokens=[100, 100, 200, 200], response_tokens=[10, 10, 20, 20], cost_usd=[0.1, 0.5, None, 1.0]
    )
    filled = gaps.with_costs(frame, {})
    assert filled["cost_usd"].to_list() == pytest.approx([0.1, 0.5, 0.2, 1.0])
    assert filled["cost_basis"].to_list() == ["source", "source", "estimated", "source"]


# ---------------------------------------------------------------- partial matrices


def test_gaps_are_filled_by_llm_and_query() -> None:
    nan = np.nan
    quality = np.array([[1.0, 1.0, nan], [0.0, nan, 0.0], [1.0, 0.0, 1.0], [nan, nan, nan]])
    filled = partial.estimated_quality(quality)
    known = ~np.isnan(quality)
    np.testing.assert_array_equal(filled[known], quality[known])
    assert filled[0, 2] > filled[3, 2] > filled[1, 1]  # an easy query, one nobody was asked, a hard one
    assert 0 <= filled.min() <= filled.max() <= 1
    costs = np.array([[1.0, 10.0], [2.0, nan], [nan, 40.0], [0.0, 0.0]])
    amounts = partial.estimated_amounts(costs)
    assert amounts[1, 1] > amounts[1, 0]
    assert amounts[2, 0] < amounts[2, 1]
    np.testing.assert_array_equal(partial.estimated_amounts(np.array([[0.0, nan]])), [[0.0, 0.0]])


def test_heads_learn_from_what_was_answered_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 4)), rng.standard_normal((60, 3, 2))
    known = rng.random((60, 3)) < 0.5
    known[:, 2] = False
    heads = LinearHeads.fit(x, np.where(known[:, :, None], y, 1e6), 2.0, known)
    for arm in (0, 1):
        alone = LinearHeads.fit(x[known[:, arm]], y[known[:, arm]][:, [arm]], 2.0)
        np.testing.assert_allclose(heads.predict(x)[0][:, arm], alone.predict(x)[0][:, 0], atol=1e-12)
        np.testing.assert_allclose(heads.predict(x)[1][:, arm], alone.predict(x)[1][:, 0], atol=1e-12)
    np.testing.assert_array_equal(heads.predict(x)[0][:, 2], 0)
    everyone = LinearHeads.fit(x, y, 2.0, np.ones_like(known))
    np.testing.assert_allclose(everyone.predict(x)[0], LinearHeads.fit(x, y, 2.0).predict(x)[0], atol=1e-12)


def test_outcomes_with_gaps_know_what_they_know(tmp_path: Path) -> None:
    llms = Llms(("x", "y"), *np.ones((4, 2)))
    frame = pl.DataFrame(
        {
            "query": [3, 3, 5],
            "llm": [0, 1, 1],
            "quality": [1.0, 0.0, 0.5],
            "prompt_tokens": [4.0, 4.0, 6.0],
            "response_tokens": [1.0, 2.0, 3.0],
            "cost_usd": [0.1, 0.2, 0.3],
        }
    )
    frame.write_parquet(tmp_path / "offline.parquet")
    outcomes = Outcomes.load(tmp_path / "offline.parquet", llms)
    assert outcomes.queries.tolist() == [3, 5]
    assert outcomes.known is not None
    assert outcomes.known.tolist() == [[True, True], [False, True]]
    assert outcomes.observed(outcomes.cost_usd).tolist() == [0.1, 0.2, 0.3]
    again = Outcomes.join([outcomes.take(np.array([1])), outcomes.take(np.array([0]))])
    assert again.known is not None
    assert again.known.tolist() == outcomes.known.tolist()


def test_only_queries_that_all_have_answered_are_tested() -> None:
    queries = pl.DataFrame({"query_text": [f"q{n // 2}" for n in range(400)], "domain": ["d"] * 400})
    lacking = np.zeros(400, dtype=bool)
    lacking[:200:2] = True  # the odd ones of these have the same text as one that lacks an LLM
    split = splits.assign_complete(queries, lacking, params()).to_numpy()
    assert set(split[:200]) == {"offline"}
    counts = {name: int((split == name).sum()) for name in splits.SPLITS}
    assert abs(counts["test"] - 80) <= 2
    assert abs(counts["online"] - 60) <= 2  # half of the 120 complete ones that are left, not 64
    assert not splits.untestable(queries, np.ones(400, dtype=bool)).any()  # nothing is complete: all may be tested
