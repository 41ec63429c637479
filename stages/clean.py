"""Reviews to interactions, split per user, with a data quality report.  Run it:  python -m stages.clean"""

from typing import Any, TextIO

import polars as pl

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import (
    GRAPH_EDGES,
    ITEMS,
    PROTOCOL,
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
from symbiosis.reviews.records import ITEM_SCHEMA, read_csv, read_metadata, read_reviews

REVIEWS_FILE, METADATA_FILE = RAW_REVIEWS / raw.REVIEWS, RAW_REVIEWS / raw.METADATA


def work(params: CleanParams) -> None:
    """Read, filter, split, check and write."""
    if params.split == "published":  # taken as it is
        params = params.model_copy(update={"minimum_rating": 0.0, "core": 1})
    with staged(
        USERS,
        ITEMS,
        TRAIN,
        VALIDATION,
        TEST,
        GRAPH_EDGES,
        PROTOCOL,
        REJECTED,
        QUALITY / "reviews.json",
        QUALITY / "reviews.html",
    ) as (users, items, train, validation, test, graph, protocol, rejected, summary, page):
        with rejected.open("w", encoding="utf-8") as quarantine:
            reviews, rejects, per_second = _read(quarantine, params)
            liked = interactions.positives(reviews, params.minimum_rating)
            distinct = interactions.first_of_pairs(liked)
            core = interactions.core_of(distinct, params.core)
            if core.is_empty():
                raise InputError(
                    f"{RAW_REVIEWS}: no interaction is left by the rating filter and the {params.core}-core "
                    f"(of {reviews.height:,} reviews {liked.height:,} have at least {params.minimum_rating:g} stars, "
                    f"{distinct.height:,} without repeated pairs): lower `clean.core` or `clean.minimum_rating`, or "
                    "take a larger category"
                )
            found = splits.split(interactions.number(core, params.seed), params, per_second)
            described, metadata_counts = _describe(found.items, quarantine, params)
        outcomes = suites.check(reviews, described, found, params, per_second)
        counts = {
            "reviews": rejects,
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
        # A split by shares may look like one, too, on short histories, but is measured as the paper measures it.
        last_out = params.split in ("last_out", "published") and splits.is_last_out(found.edges)
        write_json(protocol, {"protocol": "last_out" if last_out else "random"})
        splits.graph_edges(found.edges, params.graph_edges).write_parquet(graph)


def _read(quarantine: TextIO, params: CleanParams) -> tuple[pl.DataFrame, dict[str, Any], int]:
    """Read the reviews, or the published rows; return what was set aside of them and the unit of their times too."""
    published = {part: RAW_REVIEWS / name for part, name in raw.SPLIT.items()}
    whole = all(path.exists() for path in published.values())
    if params.split == "published" and not whole:
        raise InputError(
            f"{RAW_REVIEWS} holds no published split, which `clean.split: published` takes: set "
            "`download.benchmark` to one, such as 5core/last_out, or `clean.split` to another"
        )
    if not whole:
        ratings = RAW_REVIEWS / raw.RATINGS
        read, path = (read_csv, ratings) if ratings.exists() else (read_reviews, REVIEWS_FILE)
        reviews, rejects = read(path, quarantine, params.maximum_rejected_share)
        return reviews, rejects.summary(), rejects.per_second
    frames, summary, lines = [], {}, 0
    for part, name in zip(splits.PARTS.values(), published, strict=True):
        frame, rejects = read_csv(published[name], quarantine, params.maximum_rejected_share)
        if frame.is_empty():
            raise InputError(f"{published[name]} holds no row: get the published split again")
        frames.append(frame.with_columns(pl.col("line") + lines, part=pl.lit(part, dtype=pl.UInt8)))
        lines = int(frames[-1]["line"].max())  # type: ignore[arg-type]  # numbered through, for equal times
        summary[name], per_second = rejects.summary(), rejects.per_second
    reviews = pl.concat(frames)
    return reviews if params.split == "published" else reviews.drop("part"), summary, per_second


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
