"""Split queries into offline and online training queries and test queries.

All queries of the pipeline, and random splits of them for the comparison of routers.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split, load_embeddings
from symbiosis.routing.data.params import CleanRoutingParams

SPLITS = ("offline", "online", "test")


def normalised(text: pl.Expr) -> pl.Expr:
    """Return texts without what does not change a prompt: letter case, kinds and runs of blanks, width variants."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def assign(queries: pl.DataFrame, test_share: float, online_share: float, seed: int) -> pl.Series:
    """Draw the split of every query, by domain; queries with the same normalised text share a split.

    Within a domain the groups of equal texts stand in random order, and a group goes where its middle falls in
    0..1: first the test share, then the online share of the rest, then offline. So a domain's test queries miss their
    share by less than one group, and large groups are no likelier to fall into one split than small ones.

    Parameters
    ----------
    queries
        Columns ``query_text`` and ``domain``. A group of equal texts in several domains counts in the domain of its
        first query.
    test_share
        Share of all queries.
    online_share
        Share of the training queries (all that are not test queries).
    seed
        Of the random order.

    Returns
    -------
    polars.Series
        ``"offline"``, ``"online"`` or ``"test"``, aligned with `queries`.
    """
    rng = np.random.default_rng(seed)
    rows = queries.select(
        normalised(pl.col("query_text")).rank("dense").alias("group"),
        pl.col("domain"),
        pl.int_range(pl.len()).alias("row"),
    )
    groups = rows.group_by("group").agg(
        pl.col("domain").sort_by("row").first(), pl.col("row").min(), pl.len().alias("size")
    )
    groups = (
        groups.sort("row").with_columns(pl.Series("order", rng.random(groups.height))).sort("domain", "order", "row")
    )
    end = pl.col("size").cum_sum().over("domain")
    middle = (end - pl.col("size") / 2) / pl.col("size").sum().over("domain")
    online_end = test_share + online_share * (1 - test_share)
    split = (
        pl.when(middle < test_share)
        .then(pl.lit("test"))
        .when(middle < online_end)
        .then(pl.lit("online"))
        .otherwise(pl.lit("offline"))
    )
    return rows.join(groups.select("group", split.alias("split")), on="group").sort("row")["split"]


LEAST_COMPLETE = 40
MOST_OF_COMPLETE = 0.5


def untestable(queries: pl.DataFrame, partial: np.ndarray) -> np.ndarray:
    """Mark the queries of a partial matrix that should only be learned from, (N,).

    These are the queries that some LLM has not answered, and those of the same text; but none if fewer than
    `LEAST_COMPLETE` others were left, and estimates must stand for what nobody knows.

    Parameters
    ----------
    queries
        Column ``query_text``.
    partial
        (N,) bool, which lack an LLM.
    """
    text = normalised(pl.col("query_text"))
    marked = queries.select("query_text").with_columns(pl.Series("partial", partial))
    closed = marked.select(pl.col("partial").any().over(text))["partial"].to_numpy()
    return closed if (~closed).sum() >= LEAST_COMPLETE else np.zeros(len(closed), dtype=bool)


def assign_complete(queries: pl.DataFrame, partial: np.ndarray, params: CleanRoutingParams) -> pl.Series:
    """Draw the split of every query by `assign`; test and online queries are ones that every LLM has answered.

    They keep their share of all queries, but at most `MOST_OF_COMPLETE` of the complete ones.
    """
    closed = untestable(queries, partial)
    if not closed.any():
        return assign(queries, params.test_share, params.online_share, params.seed)
    rows = np.flatnonzero(~closed)
    test = min(params.test_share * len(closed) / len(rows), MOST_OF_COMPLETE)
    trained = 1 - params.test_share
    online = min(params.online_share * trained * len(closed) / (len(rows) * (1 - test)), MOST_OF_COMPLETE)
    drawn = np.full(len(closed), "offline", dtype=object)
    drawn[rows] = assign(queries[rows], test, online, params.seed).to_list()
    return pl.Series("split", drawn.tolist(), dtype=pl.String)


def learned_only(queries: pl.DataFrame, outcomes: Outcomes) -> np.ndarray | None:
    """Mark the queries that should only be learned from, see `untestable`; None if all LLMs have answered all."""
    return None if outcomes.known is None else untestable(queries, np.logical_not(outcomes.known.all(axis=1)))


FIFTHS = 5


def labels_of(queries: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Return the domain of each query and its sub-domain, ``domain / subdomain`` or the domain where there is none."""
    pairs = queries.select("domain", pl.col("subdomain").fill_null("")).rows()
    return [domain for domain, _ in pairs], [f"{domain} / {own}" if own else domain for domain, own in pairs]


def read_split(name: str, llms: Llms, routing: Path, embeddings: Path) -> Split:
    """Read one of the pipeline's own splits.

    Parameters
    ----------
    name
        One of `SPLITS`.
    llms
        The LLMs.
    routing, embeddings
        ``data/routing`` and ``data/embeddings``.
    """
    outcomes = Outcomes.load(routing / f"{name}.parquet", llms)
    queries = read_frame(routing / "queries.parquet", ["domain", "subdomain"])[outcomes.queries]
    return Split(outcomes, load_embeddings(embeddings, outcomes.queries), *labels_of(queries))


def read_whole(routing: Path, embeddings: Path) -> tuple[Split, Llms, pl.DataFrame]:
    """Put the parts of the pipeline's own split together again.

    Parameters
    ----------
    routing, embeddings
        ``data/routing`` and ``data/embeddings``.

    Returns
    -------
    Split
        All queries.
    Llms
        The LLMs.
    polars.DataFrame
        ``queries.parquet``, a row per query.
    """
    llms = Llms.load(routing / "llms.parquet")
    queries = read_frame(routing / "queries.parquet")
    parts = [name for name in SPLITS if (queries["split"] == name).any()]
    outcomes = Outcomes.join([Outcomes.load(routing / f"{name}.parquet", llms) for name in parts])
    vectors = load_embeddings(embeddings, outcomes.queries)
    return Split(outcomes, vectors, *labels_of(queries)), llms, queries


def development(query_ids: Sequence[str], fifths: int) -> np.ndarray:
    """Mark the queries on which settings and forms of models may be chosen by hand, (N,); they are never tested.

    Parameters
    ----------
    query_ids
        N.
    fifths
        So many fifths of the queries, by the SHA-256 of their id.
    """
    digests = (hashlib.sha256(name.encode()).hexdigest() for name in query_ids)
    return np.array([int(digest, 16) % FIFTHS < fifths for digest in digests])


def draw(
    queries: pl.DataFrame,
    test_share: float,
    development_fifths: int,
    seed: int,
    equal_texts: Literal["together", "apart"] = "together",
    untested: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw training and test queries, by domain.

    Parameters
    ----------
    queries
        Columns query_id, query_text, domain.
    test_share
        Share of all queries that is tested.
    development_fifths
        See `development`.
    seed
        Of the draw.
    equal_texts
        Whether queries of equal text go together, so that every text of the test is new, or each is drawn by itself,
        as from a stream in which queries come again.
    untested
        (N,) bool, queries that are only to be learned from, see `untestable`; None: no more than those of development.

    Returns
    -------
    tuple of numpy.ndarray
        Rows of the training queries, (N,), and of the test queries, (M,), both rising.

    Raises
    ------
    InputError
        Too few queries may be tested.
    """
    open_share = 1 - development_fifths / FIFTHS
    if test_share >= open_share:
        raise InputError(
            f"params.yaml: `compare_routers.test_share` is {test_share}, but only {open_share:.0%} of the queries may "
            "be tested: lower it or `development_fifths`"
        )
    marked = queries.select("query_text", "domain").with_columns(
        pl.Series("closed", development(queries["query_id"].to_list(), development_fifths)),
        pl.int_range(pl.len()).alias("row"),
    )
    if untested is not None:
        marked = marked.with_columns(pl.col("closed") | pl.Series(untested))
    if equal_texts == "apart":
        marked = marked.with_columns(pl.col("row").cast(pl.String).alias("query_text"))
    # A query whose text was seen in development is known, too.
    marked = marked.with_columns(pl.col("closed").any().over(normalised(pl.col("query_text"))))
    candidates = marked.filter(~pl.col("closed"))
    if candidates.is_empty():
        raise InputError("there is no query left to be tested: give more queries, or lower `development_fifths`")
    share = min(test_share * len(marked) / len(candidates), 1.0)
    drawn = candidates.filter(assign(candidates, share, 0.0, seed) == "test")["row"].to_numpy()
    train = np.setdiff1d(np.arange(len(marked)), drawn)
    if not len(drawn) or not len(train):
        raise InputError(f"{len(marked)} queries are too few for a comparison: give more")
    return train, np.sort(drawn)
