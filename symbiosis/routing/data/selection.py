"""Choosing a part of the routing table, complete or with what was answered."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import polars as pl

from symbiosis.core.errors import InputError, require_name
from symbiosis.routing.data.splits import normalised
from symbiosis.routing.data.table import place


def choose(
    frame: pl.DataFrame,
    path: Path,
    *,
    domains: Collection[str] = (),
    llms: Collection[str] = (),
    exclude_llms: Collection[str] = (),
) -> pl.DataFrame:
    """Keep some domains and LLMs; an empty collection keeps all.

    Raises
    ------
    InputError
        A name is not in the table, or nothing or a single LLM is left.
    """
    for column, key, names in (
        ("domain", "domains", domains),
        ("llm", "llms", llms),
        ("llm", "exclude_llms", exclude_llms),
    ):
        known = set(frame[column].drop_nulls())
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"{path}: `clean_routing.{key}` names {unknown[0]!r}, which the table does not have; "
                f"it has {_some(sorted(known))}"
            )
    if domains:
        frame = frame.filter(pl.col("domain").is_in(list(domains)))
    if llms:
        frame = frame.filter(pl.col("llm").is_in(list(llms)))
    if exclude_llms:
        frame = frame.filter(~pl.col("llm").is_in(list(exclude_llms)))
    if frame["llm"].n_unique() < 2:
        raise InputError(
            f"{path}: routing needs at least two LLMs, but `clean_routing.domains`, `.llms` and `.exclude_llms` leave "
            f"{frame['llm'].n_unique()}: choose more"
        )
    return frame


def complete(
    frame: pl.DataFrame,
    path: Path,
    incomplete_queries: Literal["refuse", "drop", "keep"],
    missing_costs: Literal["refuse", "estimate"] = "refuse",
) -> pl.DataFrame:
    """Make sure that every query has one answer with a quality of every LLM, and one text and domain.

    Parameters
    ----------
    frame
        As `read_table` returns it.
    path
        Named in messages.
    incomplete_queries
        What to do about a query without the row, or without the quality, of some LLM. ``keep`` keeps what was answered.
    missing_costs
        What to do about answers without a cost; ``estimate`` leaves them to `symbiosis.routing.data.gaps`.

    Returns
    -------
    polars.DataFrame
        Sorted by query_id and llm.

    Raises
    ------
    InputError
        A pair of query and LLM is missing or there twice, a query has two texts or domains, or a cost is missing.
    """
    for column in ("query_id", "llm", "query_text", "domain"):
        if frame[column].null_count():
            where = place(frame, frame[column].is_null().arg_max())
            raise InputError(
                f"{path}: `{column}` is missing in {frame[column].null_count()} rows, as in {where}: give it"
            )
    frame = frame.with_columns(pl.col("subdomain").fill_null(""))
    for column, what in (("llm", "an LLM"), ("domain", "a domain"), ("subdomain", "a sub-domain")):
        for name in frame[column].unique().sort():
            if name or column != "subdomain":
                require_name(name, f"{what} (column `{column}` of {path})")
    frame = frame.sort("query_id", "llm", maintain_order=True)
    repeated = frame.group_by("query_id", "llm").len().filter(pl.col("len") > 1).sort("query_id", "llm")
    if repeated.height:
        query, llm, times = repeated.row(0)
        raise InputError(
            f"{path}: query {query!r} has {times} rows for LLM {llm!r} ({repeated.height} such pairs): keep one of them"
        )
    about = frame.group_by("query_id").agg(pl.col("query_text", "domain", "subdomain").n_unique())
    for column in ("query_text", "domain", "subdomain"):
        several = about.filter(pl.col(column) > 1)["query_id"].sort()
        if len(several):
            raise InputError(
                f"{path}: query {several[0]!r} has more than one `{column}` ({len(several)} such queries): give every "
                "query an id of its own"
            )
    answered = frame.filter(pl.col("quality").is_not_null())
    llms = frame["llm"].unique().sort()
    if incomplete_queries == "keep":
        mute = llms.filter(~llms.is_in(answered["llm"].unique().implode()))
        if len(mute):
            raise InputError(
                f"{path}: LLM {mute[0]!r} has no quality at all ({len(mute)} such LLMs): nothing can be learned of it; "
                f"give some, or set `clean_routing.exclude_llms` to [{', '.join(mute)}]"
            )
        return _priced(answered, path, missing_costs)
    counts = answered.group_by("query_id").len().filter(pl.col("len") == len(llms))
    whole = answered.filter(pl.col("query_id").is_in(counts["query_id"].implode()))
    if not whole.height or (whole.height < frame.height and incomplete_queries == "refuse"):
        broken = frame.filter(~pl.col("query_id").is_in(counts["query_id"].implode()))
        query = broken["query_id"][0]
        there = broken.filter((pl.col("query_id") == query) & pl.col("quality").is_not_null())["llm"]
        absent = llms.filter(~llms.is_in(there.implode()))[0]
        raise InputError(
            f"{path}: query {query!r} has no quality for LLM {absent!r} ({broken['query_id'].n_unique()} of "
            f"{frame['query_id'].n_unique()} queries lack some LLM): add it, choose a complete part by "
            "`clean_routing.domains`, `.llms` or `.exclude_llms`, or set `clean_routing.incomplete_queries` to `drop` "
            "or `keep`"
        )
    return _priced(whole, path, missing_costs)


def _priced(whole: pl.DataFrame, path: Path, missing_costs: str) -> pl.DataFrame:
    """Make sure that costs are there where none may be estimated.

    Raises
    ------
    InputError
        One is missing.
    """
    if missing_costs == "estimate":
        return whole
    unpriced = whole.filter(pl.col("cost_usd").is_null())["llm"].unique().sort().to_list()
    if unpriced:
        raise InputError(
            f"{path}: routing needs costs, but {whole['cost_usd'].null_count()} outcomes of {len(unpriced)} LLMs have "
            f"none: give them, set `clean_routing.missing_costs` to `estimate`, or `.exclude_llms` to "
            f"[{', '.join(unpriced)}]"
        )
    return whole


def first_of_each_text(whole: pl.DataFrame) -> pl.DataFrame:
    """Drop all but the first query, by query_id, of each normalised text.

    Parameters
    ----------
    whole
        As `complete` returns it.
    """
    first = whole.group_by(normalised(pl.col("query_text")).alias("text")).agg(pl.col("query_id").min())["query_id"]
    return whole.filter(pl.col("query_id").is_in(first.implode()))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
