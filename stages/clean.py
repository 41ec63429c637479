"""Reviews to interactions, split per user, with a data quality report.  Run it:  python -m stages.clean"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from symbiosis.core.artifacts import FrameFile, scratch, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import (
    CLEAN,
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
from symbiosis.reviews import raw, splits, suites
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import ITEM_SCHEMA, batches, csv_batches, read_metadata
from symbiosis.reviews.streaming.cleaning import Cleaning

REVIEWS_FILE, METADATA_FILE = RAW_REVIEWS / raw.REVIEWS, RAW_REVIEWS / raw.METADATA


def work(params: CleanParams) -> None:
    """Read, filter, split, check and write."""
    if params.split == "published":  # taken as it is
        params = params.model_copy(update={"minimum_rating": 0.0, "core": 1})
    with (
        staged(
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
        ) as (users_file, items_file, train, validation, test, graph, protocol, rejected, summary, page),
        scratch(CLEAN / "spilled") as folder,
    ):
        with rejected.open("w", encoding="utf-8") as quarantine:
            source = _Source(quarantine, params)
            cleaning = Cleaning(folder, params)
            cleaning.take(source.reviews())
            of_reviews = quality.Validation(suites.reviews_suite(source.per_second))
            removed = cleaning.filter(of_reviews)
            if not removed.core:
                raise InputError(
                    f"{RAW_REVIEWS}: no interaction is left by the rating filter and the {params.core}-core "
                    f"(of {removed.reviews:,} reviews {removed.liked:,} have at least {params.minimum_rating:g} stars, "
                    f"{removed.distinct:,} without repeated pairs): lower `clean.core` or `clean.minimum_rating`, or "
                    "take a larger category"
                )
            users, items = cleaning.number()
            tally = suites.Tally(users.height, items.height)
            of_interactions = quality.Validation(suites.interactions_suite(users.height, items.height, params))
            paths = (train, validation, test)
            files = {name: FrameFile(path) for name, path in zip(splits.PARTS, paths, strict=True)}
            edges_of_graph = FrameFile(graph)
            for edges in cleaning.parts(source.per_second):
                of_interactions.add(suites.interactions_view(edges))
                tally.add(edges)
                for name, file in files.items():
                    part = edges.filter(pl.col("part") == splits.PARTS[name]).drop("part")
                    file.add(part if name == "train" else part.drop("review"))
                edges_of_graph.add(splits.graph_edges(edges, params.graph_edges))
            for file in (*files.values(), edges_of_graph):
                file.close()
            described, metadata_counts = _describe(items, quarantine, params)
        outcomes = [
            *of_reviews.outcomes(),
            *suites.check_items(described, tally, params),
            *suites.check_users(users, tally, params),
            *of_interactions.outcomes(),
        ]
        counts = {
            "reviews": source.summary,
            "metadata": metadata_counts,
            "removed": removed.counts(),
            **suites.sizes(described, tally),
        }
        result, html = quality.require(
            "Data quality: reviews", outcomes, QUALITY / "reviews.failed.html", suites.sections(counts)
        )
        write_json(summary, counts | result)
        page.write_text(html, encoding="utf-8")
        users.write_parquet(users_file)
        described.write_parquet(items_file)
        # A split by shares may look like one, too, on short histories, but is measured as the paper measures it.
        last_out = params.split in ("last_out", "published") and tally.is_last_out
        write_json(protocol, {"protocol": "last_out" if last_out else "random"})


class _Source:
    """The raw reviews, or the published rows.

    Attributes
    ----------
    summary
        What was set aside, once all are read.
    per_second
        The unit of their times, once all are read.
    """

    def __init__(self, quarantine: TextIO, params: CleanParams) -> None:
        self._quarantine, self._params = quarantine, params
        self.summary: dict[str, Any] = {}
        self.per_second = 1

    def reviews(self) -> Iterator[pl.DataFrame]:
        """Yield the reviews in the order of their file, or those of the published parts, one part after the other."""
        params = self._params
        published = {part: RAW_REVIEWS / name for part, name in raw.SPLIT.items()}
        whole = all(path.exists() for path in published.values())
        if params.split == "published" and not whole:
            raise InputError(
                f"{RAW_REVIEWS} holds no published split, which `clean.split: published` takes: set "
                "`download.benchmark` to one, such as 5core/last_out, or `clean.split` to another"
            )
        if whole:
            yield from self._published(published)
            return
        ratings = RAW_REVIEWS / raw.RATINGS
        rejects = raw.Rejects(self._quarantine)
        read, path = (csv_batches, ratings) if ratings.exists() else (batches, REVIEWS_FILE)
        yield from read(path, rejects, params.maximum_rejected_share)
        self.summary, self.per_second = rejects.summary(), rejects.per_second

    def _published(self, files: dict[str, Path]) -> Iterator[pl.DataFrame]:
        lines = 0
        for part, name in zip(splits.PARTS.values(), files, strict=True):
            rejects = raw.Rejects(self._quarantine)
            before = lines
            for frame in csv_batches(files[name], rejects, self._params.maximum_rejected_share):
                frame = frame.with_columns(pl.col("line") + before)  # numbered through, for equal times
                if frame.height:
                    lines = int(frame["line"][-1])
                given = pl.lit(part, dtype=pl.UInt8).alias("part")
                yield frame.with_columns(given) if self._params.split == "published" else frame
            if lines == before:
                raise InputError(f"{files[name]} holds no row: get the published split again")
            self.summary[name], self.per_second = rejects.summary(), rejects.per_second


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
