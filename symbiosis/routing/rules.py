"""Data quality of the routing table."""

import polars as pl

from symbiosis.quality import Outcome, Rule, Suite, validate
from symbiosis.routing.table import COST_BASES, TOKENS_BASES

RULES = Suite(
    "outcomes",
    (
        Rule(
            "quality lies in 0..1",
            "ExpectColumnValuesToBeBetween",
            {"column": "quality", "min_value": 0, "max_value": 1},
        ),
        Rule("quality is a number", "ExpectColumnValuesToNotBeNull", {"column": "quality"}),
        Rule(
            "every outcome has a cost; leave an LLM without costs out by clean_routing.exclude_llms",
            "ExpectColumnValuesToNotBeNull",
            {"column": "cost_usd"},
        ),
        Rule(
            "a cost is 0 to 1000 USD",
            "ExpectColumnValuesToBeBetween",
            {"column": "cost_usd", "min_value": 0, "max_value": 1000},
        ),
        Rule(
            f"cost_basis is {' or '.join(COST_BASES)}",
            "ExpectColumnValuesToBeInSet",
            {"column": "cost_basis", "value_set": list(COST_BASES)},
        ),
        Rule("every cost has a cost_basis", "ExpectColumnValuesToNotBeNull", {"column": "cost_basis"}),
        Rule(
            "a prompt has 0 to 10,000,000 tokens",
            "ExpectColumnValuesToBeBetween",
            {"column": "prompt_tokens", "min_value": 0, "max_value": 10_000_000},
        ),
        Rule(
            "a response has 0 to 10,000,000 tokens",
            "ExpectColumnValuesToBeBetween",
            {"column": "response_tokens", "min_value": 0, "max_value": 10_000_000},
        ),
        Rule(
            f"tokens_basis is one of {', '.join(TOKENS_BASES)}",
            "ExpectColumnValuesToBeInSet",
            {"column": "tokens_basis", "value_set": list(TOKENS_BASES)},
        ),
        Rule(
            "token counts have a tokens_basis",
            "ExpectColumnValuesToBeInSet",
            {"column": "tokens_have_basis", "value_set": ["yes"]},
        ),
        Rule(
            "a latency is 0 seconds to a day",
            "ExpectColumnValuesToBeBetween",
            {"column": "latency_s", "min_value": 0, "max_value": 86_400},
        ),
    ),
    row="cell",
)


def check(frame: pl.DataFrame) -> list[Outcome]:
    """Check the outcomes of a complete table against `RULES`; the texts stay out of it."""
    counted = pl.col("prompt_tokens").is_not_null() | pl.col("response_tokens").is_not_null()
    narrow = frame.select(
        pl.format("query {}, LLM {}", "query_id", "llm").alias("cell"),
        # The engine takes NaN for missing and passes over it in a range: tell them apart here.
        *(pl.col(c).fill_nan(None) for c in ("quality", "cost_usd", "latency_s")),
        "prompt_tokens",
        "response_tokens",
        "tokens_basis",
        "cost_basis",
        pl.when(counted & pl.col("tokens_basis").is_null())
        .then(pl.lit("no"))
        .otherwise(pl.lit("yes"))
        .alias("tokens_have_basis"),
    )
    return validate(narrow, RULES)
