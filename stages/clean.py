"""Reviews to interactions, split per user, with a data quality report.  Run it:  python -m stages.clean"""

from typing import Any, TextIO

import polars as pl

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import (
    GRAPH_EDGES,
    ITEMS,
    QUALITY,
    RAW_REVIEWS,
    REJECTED,
    TEST,
    TRAIN,
    USERS,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.reporting import quality
from symbiosis.reviews import interactions, raw, splits, suites
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import ITEM_SCHEMA, read_metadata, read_reviews

REVIEWS_FILE, METADATA_FILE = RAW_REVIEWS / raw.REVIEWS, RAW_REVIEWS / raw.METADATA


def work(params: CleanParams) -> None:
    """Read, filter, split, check and write."""
    with staged(
        USERS,
        ITEMS,
        TRAIN,
        VALIDATION,
        TEST,
        GRAPH_EDGES,
        REJECTED,
        QUALITY / "reviews.json",
        QUALITY / "reviews.html",
    ) as (users, items, train, validation, test, graph, rejected, summary, page):
        with rejected.open("w", encoding="utf-8") as quarantine:
            reviews, rejects = read_reviews(REVIEWS_FILE, quarantine, params.maximum_rejected_share)
            liked = interactions.positives(reviews, params.minimum_rating)
            distinct = interactions.first_of_pairs(liked)
            core = interactions.core_of(distinct, params.core)
            if core.is_empty():
                raise InputError(
                    f"{REVIEWS_FILE}: no interaction is left by the rating filter and the {params.core}-core "
                    f"(of {reviews.height:,} reviews {liked.height:,} have at least {params.minimum_rating:g} stars, "
                    f"{distinct.height:,} without repeated pairs): lower `clean.core` or `clean.minimum_rating`, or "
                    "take a larger category"
                )
            found = splits.split(interactions.number(core, params.seed), params)
            described, metadata_counts = _describe(found.items, quarantine, params)
        outcomes = suites.check(reviews, described, found, params)
        counts = {
            "reviews": rejects.summary(),
            "metadata": metadata_counts,
            "removed": {
                "below the rating": reviews.height - liked.height,
                "repeated pairs": liked.height - distinct.height,
                "outside the core": distinct.height - core.height,
            },
            **suites.sizes(described, found),
        }
        result, html = quality.require(
            "Data quality: reviews", outcomes, QUALITY / "reviews.failed.html", suites.sections(counts)
        )
        write_json(summary, counts | result)
        page.write_text(html, encoding="utf-8")
        found.users.write_parquet(users)
        described.write_parquet(items)
        for path, (name, part) in zip((train, validation, test), splits.PARTS.items(), strict=True):
            edges = found.edges.filter(pl.col("part") == part).drop("part")
            (edges if name == "train" else edges.drop("review")).write_parquet(path)
        splits.graph_edges(found.edges, params.graph_edges).write_parquet(graph)


def _describe(items: pl.DataFrame, quarantine: TextIO, params: CleanParams) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Join the metadata, if the source has any, to the items."""
    path = METADATA_FILE
    if path.exists():
        wanted = frozenset(items["item_id"])
        metadata, rejects, counts = read_metadata(path, quarantine, params.maximum_rejected_share, wanted)
        if not counts["titles"] and params.require_titles:
            raise InputError(
                f"{path}: none of its {rejects.lines:,} records has a usable title: check that it is the metadata of "
                "these reviews, or set `clean.require_titles` to false to go on without titles"
            )
        summary = rejects.summary() | counts
    else:
        metadata, summary = pl.DataFrame(schema=ITEM_SCHEMA), {"lines": 0}
    empty = pl.lit([], dtype=pl.List(pl.String))
    described = items.join(metadata, on="item_id", how="left").with_columns(pl.col("categories").fill_null(empty))
    return described.sort("item"), summary


if __name__ == "__main__":
    run("clean", CleanParams, work)
