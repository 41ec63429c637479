"""Data quality of a complete routing table: suites on its queries and its outcomes."""

from dataclasses import replace

import polars as pl

from symbiosis.reporting.quality import Outcome, Rule, Suite, validate
from symbiosis.routing.data.params import CleanRoutingParams
from symbiosis.routing.data.table import COST_BASES, TOKENS_BASES

LONGEST_TEXT = 10_000_000  # characters
MOST_TOKENS = 10_000_000
MOST_DOLLARS = 1_000  # one answer
MOST_SECONDS = 86_400


def _between(text: str, column: str, low: float, high: float) -> Rule:
    return Rule(text, "ExpectColumnValuesToBeBetween", {"column": column, "min_value": low, "max_value": high})


def _given(text: str, column: str) -> Rule:
    return Rule(text, "ExpectColumnValuesToNotBeNull", {"column": column})


def _among(text: str, column: str, values: tuple[str, ...]) -> Rule:
    return Rule(text, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)})


OUTCOMES = Suite(
    "outcomes",
    (
        _given("quality is a number", "quality"),
        _between("quality lies in 0..1", "quality", 0, 1),
        _given("cost is a number", "cost_usd"),
        _between(f"cost lies in 0..{MOST_DOLLARS:,} USD", "cost_usd", 0, MOST_DOLLARS),
        _given("cost has a basis", "cost_basis"),
        _among(f"cost_basis is one of {', '.join(COST_BASES)}", "cost_basis", COST_BASES),
        _between(f"prompt tokens lie in 0..{MOST_TOKENS:,}", "prompt_tokens", 0, MOST_TOKENS),
        _between(f"response tokens lie in 0..{MOST_TOKENS:,}", "response_tokens", 0, MOST_TOKENS),
        _among("token counts have a basis", "tokens_have_basis", ("yes",)),
        _among(f"tokens_basis is one of {', '.join(TOKENS_BASES)}", "tokens_basis", TOKENS_BASES),
        _between(f"latency lies in 0..{MOST_SECONDS:,} seconds", "latency_s", 0, MOST_SECONDS),
    ),
    row="outcome",
)


def _queries(llms: int, partial: bool) -> Suite:
    answers = "every query has an answer" if partial else "every LLM answered every query once"
    return Suite(
        "queries",
        (
            Rule("query ids are unique", "ExpectColumnValuesToBeUnique", {"column": "query_id"}),
            _between(answers, "answers", 1 if partial else llms, llms),
            _between(f"texts have at most {LONGEST_TEXT:,} characters", "characters", 0, LONGEST_TEXT),
            _between("domains have a name", "domain_characters", 1, 1_000),
        ),
        row="query_id",
    )


def _settled(outcomes: pl.DataFrame, params: CleanRoutingParams) -> set[str]:
    """Name the columns whose gaps `symbiosis.routing.data.gaps.filled` will fill, where there are any."""
    columns = set()
    if params.missing_costs == "estimate":
        if outcomes["cost_usd"].null_count():
            columns.add("cost_usd")
        if not outcomes["cost_basis"].is_in(COST_BASES).fill_null(value=False).all():
            columns.add("cost_basis")
    if params.missing_tokens == "estimate":
        strange = ~outcomes["tokens_basis"].drop_nulls().is_in(TOKENS_BASES)
        if strange.any() or (outcomes["tokens_have_basis"] == "no").any():
            columns |= {"tokens_basis", "tokens_have_basis"}
    return columns


def check(whole: pl.DataFrame, params: CleanRoutingParams) -> list[Outcome]:
    """Check a table against the rules; no text of a query goes into the results.

    Parameters
    ----------
    whole
        As `symbiosis.routing.data.selection.complete` returns it.
    params
        What they leave to estimates is not asked for.

    Returns
    -------
    list of symbiosis.reporting.quality.Outcome
        For `symbiosis.reporting.quality.require`.
    """
    queries = (
        whole.group_by("query_id")
        .agg(
            pl.len().alias("answers"),
            pl.col("query_text").first().str.len_chars().alias("characters"),
            pl.col("domain").first().str.len_chars().alias("domain_characters"),
        )
        .sort("query_id")
    )
    counted = pl.col("prompt_tokens").is_not_null() | pl.col("response_tokens").is_not_null()
    nameless = counted & pl.col("tokens_basis").is_null()
    outcomes = whole.select(
        pl.format("(query {}, LLM {})", "query_id", "llm").alias("outcome"),
        pl.col("quality", "cost_usd", "latency_s", "prompt_tokens", "response_tokens", "tokens_basis", "cost_basis"),
        pl.when(nameless).then(pl.lit("no")).otherwise(pl.lit("yes")).alias("tokens_have_basis"),
    )
    llms, settled = whole["llm"].n_unique(), _settled(outcomes, params)
    rules = tuple(rule for rule in OUTCOMES.rules if rule.arguments["column"] not in settled or "lies" in rule.text)
    partial = bool((queries["answers"] != llms).any()) and params.incomplete_queries == "keep"
    return validate(queries, _queries(llms, partial)) + validate(outcomes, replace(OUTCOMES, rules=rules))
