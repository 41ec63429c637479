"""What a table does not say: domains, tokens and costs that are missing, marks on other scales, repeated answers.

Everything that is filled in carries a basis that says so. Means and prices come from offline outcomes alone.
"""

from collections.abc import Mapping

import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN
from symbiosis.routing.data.params import CleanRoutingParams, ListPrice, QualityScale
from symbiosis.routing.data.prices import fit_prices
from symbiosis.routing.data.table import COST_BASES, TOKENS_BASES

UNLABELLED = "unlabelled"
"""The domain of queries without one."""


def scaled(frame: pl.DataFrame, scale: QualityScale) -> pl.DataFrame:
    """Turn marks into qualities from 0 to 1."""
    if (scale.worst, scale.best) == (0, 1):
        return frame
    return frame.with_columns((pl.col("quality") - scale.worst) / (scale.best - scale.worst))


def labelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Give queries without a domain the domain `UNLABELLED`."""
    return frame.with_columns(pl.col("domain").fill_null(UNLABELLED))


def averaged(frame: pl.DataFrame) -> pl.DataFrame:
    """Average several answers of one LLM to one query; answers without a quality count only if there is no other.

    Rows of one pair that differ in text, domain or sub-domain stay apart. Where any pair was answered several times,
    the columns ``answers``, their number, and ``quality_variance``, between them and null for a single one, are added.
    """
    pair = ["query_id", "llm", "query_text", "domain", "subdomain"]
    repeated = pl.struct(pair).is_duplicated()
    if not frame.select(repeated.any()).item():
        return frame
    several = frame.filter(repeated)
    known = several.filter(pl.col("quality").is_not_null() | pl.col("quality").is_null().all().over(pair))
    means = known.group_by(pair, maintain_order=True).agg(
        pl.col("quality", "cost_usd", "latency_s").mean(),
        pl.col("prompt_tokens", "response_tokens").mean().round().cast(pl.Int64),
        pl.col("tokens_basis", "cost_basis").drop_nulls().first(),
        pl.len().cast(pl.UInt32).alias("answers"),
        pl.col("quality").var().alias("quality_variance"),
    )
    single = frame.filter(~repeated).with_columns(
        pl.lit(1, dtype=pl.UInt32).alias("answers"), pl.lit(None, dtype=pl.Float64).alias("quality_variance")
    )
    return pl.concat([single, means.select(single.columns)])


NOISE = ("answers", "quality_variance")
"""Columns that `averaged` adds."""


def with_label_tokens(whole: pl.DataFrame) -> pl.DataFrame:
    """Fill in token counts where the table has none, of tasks whose answers are labels of one token.

    A quarter of the text's characters stands for the prompt, with the tokens basis ``characters``. Outcomes with one
    of the two counts, or with a basis of their own, stay as they are.

    Parameters
    ----------
    whole
        As `complete` returns it.
    """
    untold = pl.all_horizontal(pl.col("prompt_tokens", "response_tokens", "tokens_basis").is_null())
    prompt = (pl.col("query_text").str.len_chars() / CHARACTERS_PER_TOKEN).ceil()
    filled = {"prompt_tokens": prompt, "response_tokens": pl.lit(1), "tokens_basis": pl.lit("characters")}
    return whole.with_columns(
        pl.when(untold).then(value.cast(whole.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in filled.items()
    )


def gaps_of(table: pl.DataFrame, whole: pl.DataFrame) -> dict[str, int]:
    """Count what is missing, for ``reports/data_quality/routing.json``; what is not missing is not named.

    Parameters
    ----------
    table
        As it was read.
    whole
        The answers that are used.
    """
    pairs = whole["query_id"].n_unique() * whole["llm"].n_unique()
    rows = table.filter(pl.col("quality").is_not_null())
    counts = {
        "pairs_not_answered": pairs - whole.height,
        "rows_averaged": rows.height - rows.select("query_id", "llm").n_unique(),
        "rows_without_domain": table["domain"].null_count(),
        "answers_without_cost": whole["cost_usd"].null_count(),
        "answers_without_prompt_tokens": whole["prompt_tokens"].null_count(),
        "answers_without_response_tokens": whole["response_tokens"].null_count(),
    }
    return {name: count for name, count in counts.items() if count}


def unpriced(frame: pl.DataFrame, prices: Mapping[str, ListPrice]) -> list[str]:
    """Return the LLMs with neither a cost nor a price, where others have one; they cannot be compared with those."""
    known = frame.group_by("llm").agg(pl.col("cost_usd").is_not_null().any().alias("has_cost"))
    lacking = known.filter(~pl.col("has_cost") & ~pl.col("llm").is_in(list(prices)))["llm"].sort().to_list()
    return lacking if len(lacking) < known.height else []


def filled(outcomes: pl.DataFrame, params: CleanRoutingParams) -> pl.DataFrame:
    """Fill in tokens and costs as `params` say.

    Parameters
    ----------
    outcomes
        Answers with a quality; ``split`` tells the offline ones.
    params
        Of the stage.

    Raises
    ------
    InputError
        Costs are known of some LLMs, and of others neither costs nor prices.
    """
    if params.missing_tokens == "estimate":
        outcomes = with_tokens(outcomes)
    return with_costs(outcomes, params.prices) if params.missing_costs == "estimate" else outcomes


def with_tokens(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Fill in token counts.

    A prompt has what the other LLMs' tokenizers counted, else a quarter of its characters (basis ``characters``). A
    response has the LLM's mean, else that of all LLMs (``imputed_model_mean``), or one token if none was ever counted.
    A basis that is not one of `symbiosis.routing.data.table.TOKENS_BASES`, or is missing, becomes ``unknown``.
    """
    offline = outcomes.filter(pl.col("split") == "offline")
    means = offline.group_by("llm").agg(pl.col("response_tokens").mean().alias("usual"))
    overall = offline["response_tokens"].mean()
    prompt, response = pl.col("prompt_tokens"), pl.col("response_tokens")
    told = prompt.mean().over("query_id")
    characters = (pl.col("query_text").str.len_chars() / CHARACTERS_PER_TOKEN).ceil()
    basis = (
        pl.when(response.is_null())
        .then(pl.lit("characters" if overall is None else "imputed_model_mean"))
        .when(prompt.is_null())
        .then(pl.lit("characters"))
        .when(pl.col("tokens_basis").is_in(TOKENS_BASES).fill_null(value=False))
        .then(pl.col("tokens_basis"))
        .otherwise(pl.lit("unknown"))
    )
    usual = pl.col("usual").fill_null(overall if isinstance(overall, float) else 1.0)
    return (
        outcomes.join(means, on="llm", how="left", maintain_order="left")
        .with_columns(
            basis.alias("tokens_basis"),
            prompt.fill_null(told.fill_null(characters).clip(1).round().cast(pl.Int64)),
            response.fill_null(usual.clip(1).round().cast(pl.Int64)),
        )
        .drop("usual")
    )


def with_costs(outcomes: pl.DataFrame, prices: Mapping[str, ListPrice]) -> pl.DataFrame:
    """Fill in costs: tokens times the list price, or times prices fitted to what is known of the LLM.

    Where no LLM has a cost or a price, all are free, with the basis ``none``: quality alone decides. Costs without a
    basis, or with one that is not among `symbiosis.routing.data.table.COST_BASES`, count as the ``source``'s.

    Raises
    ------
    InputError
        Some LLMs have costs or prices, and others neither.
    """
    outcomes = outcomes.with_columns(
        pl.when(pl.col("cost_usd").is_null())
        .then(None)
        .when(pl.col("cost_basis").is_in(COST_BASES).fill_null(value=False))
        .then(pl.col("cost_basis"))
        .otherwise(pl.lit("source"))
        .alias("cost_basis")
    )
    unpriced = outcomes.filter(pl.col("cost_usd").is_null())["llm"].unique().sort().to_list()
    if not unpriced:
        return outcomes
    known = outcomes.filter(pl.col("split") == "offline").drop_nulls(["cost_usd", "prompt_tokens", "response_tokens"])
    rates = {}
    for llm in unpriced:
        if llm in prices:
            rates[llm] = (prices[llm].prompt / 1e6, prices[llm].response / 1e6, "list_price")
            continue
        own = known.filter(pl.col("llm") == llm)
        tokens = own.select("prompt_tokens", "response_tokens").to_numpy().astype(float)
        if tokens.sum() > 0:
            of_prompt, of_response = fit_prices(tokens, own["cost_usd"].to_numpy()).tolist()
            rates[llm] = (of_prompt, of_response, "estimated")
    lacking = [llm for llm in unpriced if llm not in rates]
    if lacking and (rates or outcomes["cost_usd"].is_not_null().any()):
        raise InputError(
            f"LLM {lacking[0]!r} has neither costs nor a price ({len(lacking)} such LLMs), but others have: give "
            f"`clean_routing.prices` for it, or set `clean_routing.exclude_llms` to [{', '.join(lacking)}]"
        )
    for llm in lacking:
        rates[llm] = (0.0, 0.0, "none")
    table = pl.DataFrame(
        [(llm, *rate) for llm, rate in rates.items()],
        schema={"llm": pl.String, "of_prompt": pl.Float64, "of_response": pl.Float64, "rate_basis": pl.String},
        orient="row",
    )
    product = pl.col("prompt_tokens") * pl.col("of_prompt") + pl.col("response_tokens") * pl.col("of_response")
    return (
        outcomes.join(table, on="llm", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("cost_usd").is_null())
            .then(pl.col("rate_basis"))
            .otherwise("cost_basis")
            .alias("cost_basis"),
            pl.col("cost_usd").fill_null(pl.when(pl.col("rate_basis") == "none").then(0.0).otherwise(product)),
        )
        .drop("of_prompt", "of_response", "rate_basis")
    )
