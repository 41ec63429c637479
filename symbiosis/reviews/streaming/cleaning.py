"""The steps of the stage `clean` on reviews of any number: rating filter, repeated pairs, k-core, numbers, split.

What comes out is, to the row, what `symbiosis.reviews.interactions` and `symbiosis.reviews.splits` make of reviews that
fit into memory. In memory are the ids of users and items, of the core's edges three or five numbers of four bytes, and
one partition; texts stay on disk. Reviews pass the disk twice: in the order of their file, and by user number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.progress import tqdm
from symbiosis.reporting.quality import Validation
from symbiosis.reviews import interactions, suites
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.splits import Splitter
from symbiosis.reviews.streaming.cores import Part, shrink_to_core
from symbiosis.reviews.streaming.spill import ROWS, Buckets, Spill


@dataclass(frozen=True)
class Removed:
    """Numbers of reviews before and after each filter."""

    reviews: int
    liked: int
    distinct: int
    core: int

    def counts(self) -> dict[str, int]:
        """Return what each filter removed."""
        return {
            "below the rating": self.reviews - self.liked,
            "repeated pairs": self.liked - self.distinct,
            "outside the core": self.distinct - self.core,
        }


class Cleaning:
    """Reviews on their way to interactions.

    Parameters
    ----------
    folder
        An empty folder for what lies on disk meanwhile.
    params
        Filters and split.
    rows
        Held in memory at once, about.
    """

    def __init__(self, folder: Path, params: CleanParams, rows: int = ROWS) -> None:
        self.folder, self.params, self.rows = folder, params, rows

    def take(self, batches: Iterable[pl.DataFrame]) -> None:
        """Put reviews on disk, which come in the order of their file, ``line`` ascending."""
        self._spill = Spill(self.folder, self.rows)
        for batch in batches:
            self._spill.add(batch)
        self._spill.flush()

    def filter(self, quality: Validation) -> Removed:
        """Filter the reviews by their rating, take the first of repeated pairs, and find the core.

        Parameters
        ----------
        quality
            Of reviews, see `symbiosis.reviews.suites`; each is shown to it once.
        """
        self._names = self._spill.items()
        self._parts: list[Part] = []
        self._users: list[pl.Series] = []
        liked = 0
        for number, reviews in enumerate(self._spill.partitions()):
            quality.add(suites.reviews_view(reviews))
            positive = interactions.positives(reviews, self.params.minimum_rating)
            liked += positive.height
            self._add_part(number, interactions.first_of_pairs(positive))
        distinct = sum(part.n_edges for part in self._parts)
        with tqdm(desc="core", unit=" edges removed", unit_scale=True) as bar:
            shrink_to_core(self._parts, self._names.height, self.params.core, bar.update)
        return Removed(self._spill.height, liked, distinct, sum(part.n_edges for part in self._parts))

    def _add_part(self, number: int, reviews: pl.DataFrame) -> None:
        ids = reviews["user_id"].unique().sort()
        users = (reviews["user_id"].rank("dense") - 1).to_numpy()
        items = reviews.join(self._names, on="item_id", how="left", maintain_order="left")["code"].to_numpy()
        path = self.folder / f"edges-{number:06d}.npy"
        self._parts.append(Part.write(path, users, items, reviews["line"].to_numpy(), len(ids)))
        self._users.append(ids)

    def number(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Number users and items of the core, see `symbiosis.reviews.interactions.number`; return both tables."""
        lines, users, items, names = [], [], [], []
        first = 0
        known = np.zeros(self._names.height, dtype=bool)
        for part, ids in zip(self._parts, self._users, strict=True):
            edges = part.edges()
            part.path.unlink()
            left = np.zeros(part.n_users, dtype=bool)
            left[edges[0]] = known[edges[1]] = True
            codes = np.cumsum(left, dtype=np.uint32) - 1 + first
            names.append(ids.filter(pl.Series(left)))
            users.append(codes[edges[0]].astype(np.uint32))
            items.append(edges[1])
            lines.append(edges[2])
            first += len(names[-1])
        self._parts, self._users = [], []
        user_ids, item_ids = pl.concat(names), self._names["item_id"].filter(pl.Series(known))
        self._n_items = len(item_ids)
        of_users = interactions.numbered(user_ids, "user", self.params.seed)
        of_items = interactions.numbered(item_ids, "item", self.params.seed)
        of_code = np.zeros(self._names.height, dtype=np.uint32)
        of_code[known] = _numbers_of(item_ids, of_items, "item")
        self._lines = np.concatenate(lines)
        order = np.argsort(self._lines)
        self._lines = self._lines[order]
        self._user = _numbers_of(user_ids, of_users, "user")[np.concatenate(users)[order]]
        self._item = of_code[np.concatenate(items)[order]]
        return of_users, of_items

    def parts(self, per_second: int) -> Iterator[pl.DataFrame]:
        """Yield the interactions with their ``part``, of some users after others, sorted by user, time and item.

        Parameters
        ----------
        per_second
            Unit of the times.

        Raises
        ------
        InputError
            See `symbiosis.reviews.splits.Splitter`.
        """
        counts = np.bincount(self._user)
        buckets = Buckets(self.folder, _starts(counts, self.rows), self.rows)
        times = []
        for reviews in self._spill.frames():
            rows = self._of_core(reviews)
            if self.params.split == "timestamp":
                times.append(rows["timestamp"].to_numpy())
            buckets.add(rows)
        del self._lines, self._user, self._item
        splitter = Splitter(self.params, self._n_items, np.concatenate([*times, np.empty(0, np.int64)]), per_second)
        for rows in buckets:
            yield splitter(interactions.ordered(rows))

    def _of_core(self, reviews: pl.DataFrame) -> pl.DataFrame:
        """Keep the reviews that are edges of the core; numbers take the place of ids."""
        lines = reviews["line"].to_numpy()
        first, last = (lines[0], lines[-1]) if len(lines) else (0, 0)
        within = slice(np.searchsorted(self._lines, first), np.searchsorted(self._lines, last, side="right"))
        rows = reviews[np.searchsorted(lines, self._lines[within])]
        numbers = [pl.Series("user", self._user[within]), pl.Series("item", self._item[within])]
        return rows.drop("user_id", "item_id").with_columns(numbers)


def _numbers_of(ids: pl.Series, table: pl.DataFrame, name: str) -> np.ndarray:
    """Return the number of each id, u32, from the table that has them all."""
    found = ids.to_frame(f"{name}_id").join(table, on=f"{name}_id", how="left", maintain_order="left")
    numbers: np.ndarray = found[name].to_numpy()
    return numbers


def _starts(counts: np.ndarray, rows: int) -> list[int]:
    """Return the first user of every range of users that have about so many rows together."""
    before = np.cumsum(counts) - counts
    return np.unique(before // rows, return_index=True)[1].tolist()
