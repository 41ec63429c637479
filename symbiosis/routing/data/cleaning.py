"""From a checked long table to queries, LLMs and the outcomes of each split."""

from pathlib import Path

import polars as pl

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.routing.data import gaps, prices, splits, table
from symbiosis.routing.data.params import CleanRoutingParams, QualityScale
from symbiosis.routing.data.readers import routerbench


def read(folder: Path, quality: QualityScale | None = None) -> tuple[pl.DataFrame, Path]:
    """Read the raw table that the stage `download_routing` wrote.

    Parameters
    ----------
    folder
        Its output.
    quality
        How marks become qualities; None: they are.

    Returns
    -------
    polars.DataFrame
        The long table, as `symbiosis.routing.data.table.read_table` returns it.
    Path
        The file, to be named in messages.

    Raises
    ------
    InputError
        The file is damaged, lacks a column, has a value of another type, or seems to be in other units.
    """
    manifest = read_json(folder / "manifest.json")
    path = folder / f"table.{manifest['format']}"
    wide = manifest["source"] == "routerbench"
    words = None if quality is None else quality.words
    frame = table.typed(routerbench.to_long(path), path) if wide else table.read_table(path, words)
    frame = frame if quality is None else gaps.scaled(frame, quality)
    table.require_plausible(frame, path)
    return frame, path


def clean(whole: pl.DataFrame, path: Path, params: CleanRoutingParams) -> dict[str, pl.DataFrame]:
    """Number queries and LLMs, split the queries, and describe the LLMs from offline outcomes.

    Parameters
    ----------
    whole
        As `symbiosis.routing.data.selection.complete` returns it.
    path
        Named in messages.
    params
        Of the split and of the LLMs' prices and speeds.

    Returns
    -------
    dict of polars.DataFrame
        ``queries``: query u32 (the row number, by query_id), query_id, query_text, domain, subdomain, prompt_tokens
        f32? (mean over the LLMs' tokenizers), split.
        ``llms``: `symbiosis.routing.data.prices.COLUMNS`; the row number is the arm.
        ``offline``, ``online``, ``test``: query u32, llm u32 (the arm), quality f32, prompt_tokens i32?,
        response_tokens i32?, cost_usd f64, latency_s f32?, tokens_basis?, cost_basis, and where pairs were answered
        several times answers u32, quality_variance f64?; sorted by query and llm.

    Raises
    ------
    InputError
        A split that should have queries has none, or a price or speed in `params` does not fit.
    """
    queries = (
        whole.group_by("query_id")
        .agg(
            pl.col("query_text", "domain", "subdomain").first(),
            pl.col("prompt_tokens").mean().round(3).cast(pl.Float32),
        )
        .sort("query_id")
    )
    llms = whole["llm"].n_unique()
    answers = queries.select("query_id").join(whole.group_by("query_id").len(), on="query_id", maintain_order="left")
    partial = (answers["len"] < llms).to_numpy()
    assigned = splits.assign_complete(queries, partial, params)
    queries = queries.with_columns(assigned.alias("split")).select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("query"), pl.all()
    )
    needed = [name for name in splits.SPLITS if name != "online" or params.online_share > 0]
    empty = [name for name in needed if not (queries["split"] == name).any()]
    if empty:
        distinct = queries.select(splits.normalised(pl.col("query_text")).n_unique()).item()
        raise InputError(
            f"{path}: {queries.height} queries are too few: the {empty[0]} split is empty ({distinct} different texts; "
            "equal ones share a split); give more queries, or change `clean_routing.test_share` or `.online_share`"
        )
    outcomes = gaps.filled(whole.join(queries.select("query_id", "query", "split"), on="query_id"), params)
    described = prices.describe(
        outcomes.filter(pl.col("split") == "offline").sort("query", "llm"),
        prices=params.prices,
        price_tolerance=params.price_tolerance,
        speeds=params.speeds,
        speed_classes=params.speed_classes,
    )
    arms = described.select("llm", pl.int_range(pl.len(), dtype=pl.UInt32).alias("arm"))
    numbered = outcomes.join(arms, on="llm").select(
        "split",
        "query",
        pl.col("arm").alias("llm"),
        pl.col("quality").cast(pl.Float32),
        pl.col("prompt_tokens", "response_tokens").cast(pl.Int32),
        "cost_usd",
        pl.col("latency_s").cast(pl.Float32),
        "tokens_basis",
        "cost_basis",
        *(pl.col(name) for name in gaps.NOISE if name in outcomes.columns),
    )
    parts = {
        name: numbered.filter(pl.col("split") == name).drop("split").sort("query", "llm") for name in splits.SPLITS
    }
    return {"queries": queries, "llms": described, **parts}
