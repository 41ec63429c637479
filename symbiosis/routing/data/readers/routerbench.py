"""RouterBench's published wide table (Hu et al. 2024, arXiv 2403.12031), one row per query, to the long one.

Columns: ``sample_id``, ``prompt``, ``eval_name``, and per model ``<model>`` (score), ``<model>|model_response`` and
``<model>|total_cost`` (USD); ``oracle_model_to_route_to`` and others are not read. Prompts and responses are Python
lists written as text (``"['...']"``). The table has no token counts: a quarter of the characters stands for them,
with the tokens basis ``characters``.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN
from symbiosis.routing.data.readers.query_text import texts
from symbiosis.routing.data.readers.table_files import read_frame

SAMPLE, PROMPT, TASK = "sample_id", "prompt", "eval_name"
RESPONSE, COST = "|model_response", "|total_cost"


def models(columns: Sequence[str], path: Path) -> list[str]:
    """Names of the models of a wide table, in column order.

    Raises
    ------
    InputError
        A column of the layout is missing.
    """
    named = set(columns)
    found = [c.removesuffix(COST) for c in columns if c.endswith(COST)]
    needed = [SAMPLE, PROMPT, TASK, *found]
    missing = [c for c in needed if c not in named]
    if missing or not found:
        raise InputError(
            f"{path}: the column `{missing[0] if missing else '<model>' + COST}` is missing: RouterBench's table has "
            f"{SAMPLE}, {PROMPT}, {TASK} and, per model, <model>, <model>{RESPONSE} and <model>{COST}"
        )
    return found


def to_long(path: Path, wide: pl.DataFrame | None = None) -> pl.DataFrame:
    """Read a wide parquet or csv file as a long table (before typing).

    A model's score that is missing gives a missing quality. The published table has a few samples in two rows with
    two wordings, each with the scores of some models only; the second row becomes the query ``<sample_id>#2``. The
    domain is the task, but the 57 subjects of ``mmlu-...`` are sub-domains of one domain.

    Parameters
    ----------
    path
        Of the file.
    wide
        What is in it, if it is read already.

    Raises
    ------
    InputError
        The file is damaged or not of RouterBench's layout.
    """
    wide = read_frame(path) if wide is None else wide
    names = models(wide.columns, path)
    try:
        return _long(wide, names)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: a column is neither texts nor numbers ({str(error).splitlines()[0]})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _long(wide: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    told = [name for name in (PROMPT, *(model + RESPONSE for model in names)) if name in wide.columns]
    wide = wide.with_columns(texts(wide[name]) for name in told)
    sample = pl.col(SAMPLE).cast(pl.String)
    nth = sample.cum_count().over(SAMPLE)
    about = wide.select(
        pl.when(nth == 1).then(sample).otherwise(pl.format("{}#{}", sample, nth)).alias("query_id"),
        pl.col(PROMPT)
        .cast(pl.String)
        .fill_null("")
        .map_elements(unwrapped, return_dtype=pl.String)
        .alias("query_text"),
        pl.col(TASK).cast(pl.String).str.replace(r"^mmlu-.*", "mmlu").alias("domain"),
        pl.col(TASK).cast(pl.String).alias("subdomain"),
    )
    about = about.with_columns(_tokens(pl.col("query_text")).alias("prompt_tokens"))
    parts = []
    for name in names:
        has_response = name + RESPONSE in wide.columns
        response = pl.col(name + RESPONSE).cast(pl.String) if has_response else pl.lit(None, dtype=pl.String)
        outcome = wide.select(
            _number(wide[name]).alias("quality"),
            _number(wide[name + COST]).alias("cost_usd"),
            _tokens(response.map_elements(unwrapped, return_dtype=pl.String)).alias("response_tokens"),
        )
        parts.append(about.hstack(outcome).with_columns(pl.lit(name).alias("llm")))
    return pl.concat(parts, how="vertical_relaxed").with_columns(
        pl.lit("characters").alias("tokens_basis"), pl.lit("source").alias("cost_basis")
    )


def _number(column: pl.Series) -> pl.Series:
    """Turn NaN into missing; texts wait for the typing of the long table, which names what is no number."""
    return column.cast(pl.Float64).fill_nan(None) if column.dtype.is_numeric() else column.cast(pl.String)


def _tokens(text: pl.Expr) -> pl.Expr:
    return (text.str.len_chars() / CHARACTERS_PER_TOKEN).ceil().cast(pl.Int64)


def unwrapped(text: str) -> str:
    """Return the texts of a list written in Python's notation, joined; any other text as it is."""
    if not (text.startswith(("['", '["')) and text.endswith("]")):
        return text
    try:
        parts = ast.literal_eval(text)  # literals only: evaluates no names, calls or operators
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return "\n".join(parts) if all(isinstance(part, str) for part in parts) else text
