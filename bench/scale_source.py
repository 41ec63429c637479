"""Write raw reviews of any number in bounded memory, for `bench.scale`:  python -m bench.scale_source N FOLDER

The stage `download` draws the synthetic source in memory, with tastes that a recommender can learn. Here only the
sizes and the form are alike: users and items in the proportions of the paper's data, heavy tails on both sides, texts
of the same vocabulary, a poor rating for every four good ones, and a few repeated pairs. All of a user come together.
"""

import argparse
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.progress import tqdm
from symbiosis.reviews import vocabulary
from symbiosis.reviews.raw import METADATA, REVIEWS

PAPER = (95_421, 32_180, 834_514)
"""Users, items and interactions of the largest data set of arXiv 2402.09617."""
SEED = 18
_LEAST = 6  # good ratings of a user; a few repeated pairs leave the five that the core asks for
_POOR = 0.25  # poor ratings for every good one
_USERS_AT_ONCE = 50_000
_DAY = 86_400


def sizes(interactions: int) -> tuple[int, int]:
    """Return numbers of users and items in the proportions of the paper's data.

    Examples
    --------
    >>> sizes(8_345_140)
    (954210, 321800)
    """
    return round(interactions * PAPER[0] / PAPER[2]), round(interactions * PAPER[1] / PAPER[2])


def write(interactions: int, folder: Path, seed: int = SEED) -> int:
    """Write the review file and the metadata file; return how many reviews there are.

    Parameters
    ----------
    interactions
        Good ratings, about; nearly all of them survive the rating filter and the 5-core.
    folder
        Exists.
    seed
        Same seed, same bytes.
    """
    users, items = sizes(interactions)
    rng = np.random.default_rng(seed)
    with gzip.GzipFile(folder / METADATA, "wb", compresslevel=1, mtime=0) as file:
        for lines in _metadata(rng, items):
            file.write(lines)
    written = 0
    with gzip.GzipFile(folder / REVIEWS, "wb", compresslevel=1, mtime=0) as file:
        for start in tqdm(range(0, users, _USERS_AT_ONCE), desc="reviews", unit="block"):
            numbers = np.arange(start, min(start + _USERS_AT_ONCE, users))
            reviews = _reviews(rng, numbers, items, interactions / users - _LEAST)
            file.write(_text(_review_line(reviews)))
            written += reviews.height
    return written


def _reviews(rng: np.random.Generator, users: np.ndarray, items: int, more: float) -> pl.DataFrame:
    good = _LEAST + rng.poisson(more * rng.lognormal(-0.5, 1, len(users)))  # of mean 1
    counts = good + rng.binomial(good, _POOR)
    user = np.repeat(users, counts)
    place = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    stars = np.where(place < np.repeat(good, counts), rng.integers(4, 6, len(user)), rng.integers(1, 4, len(user)))
    # The density of item x falls as its square root: the rarest have half of the mean.
    item = (items * rng.random(len(user)) ** 2).astype(np.int64)
    day = 15_706 + rng.integers(0, 2_000, len(users)).repeat(counts) + rng.integers(0, 400, len(user))
    return pl.DataFrame({"user": user, "item": item, "stars": stars, "time": day * _DAY}).with_columns(
        pl.Series(name, rng.integers(0, len(words), len(user)).astype(np.uint8))
        for name, words in (("praise", vocabulary.PRAISE), ("regret", vocabulary.REGRET), ("style", vocabulary.STYLES))
    )


def _review_line(reviews: pl.DataFrame) -> pl.Series:
    opinion = pl.when(pl.col("stars") >= 4).then(_said(vocabulary.PRAISE, "praise"))
    return reviews.select(
        pl.format(
            '{{"overall": {}.0, "reviewerID": "A{}", "asin": "B{}", "reviewText": "{} It is {}.", "summary": "{}", '
            '"unixReviewTime": {}}}',
            "stars",
            _scattered("user", 12),
            _scattered("item", 9),
            opinion.otherwise(_said(vocabulary.REGRET, "regret")),
            _said([remark for _, _, remark in vocabulary.STYLES], "style"),
            _said(vocabulary.SUMMARIES, pl.col("stars") - 1),
            "time",
        )
    ).to_series()


def _metadata(rng: np.random.Generator, items: int) -> Iterator[bytes]:
    kinds = [(name, noun) for name, nouns in vocabulary.GOODS.items() for noun in nouns.split(", ")]
    brands = [start + end for start in vocabulary.BRAND_STARTS for end in vocabulary.BRAND_ENDS]
    words = {
        "kind": [noun for _, noun in kinds],
        "department": [name for name, _ in kinds],
        "brand": brands,
        "style": [name for name, _, _ in vocabulary.STYLES],
        "claim": [claim for _, claim, _ in vocabulary.STYLES],
    }
    for start in range(0, items, _USERS_AT_ONCE):
        numbers = np.arange(start, min(start + _USERS_AT_ONCE, items))
        drawn = {name: rng.integers(0, len(words[name]), len(numbers)) for name in ("kind", "brand", "style")}
        rows = pl.DataFrame({"item": numbers} | drawn)
        kind, brand, style = (_said(words[name], name) for name in ("kind", "brand", "style"))
        line = pl.format(
            '{{"asin": "B{}", "title": "{} {} {}", "brand": "{}", "category": ["{}", "{}", "{}"], '
            '"description": ["This {} by {} {}."], "price": "$9.99"}}',
            _scattered("item", 9),
            brand,
            style,
            kind,
            brand,
            pl.lit(vocabulary.ROOT),
            _said(words["department"], "kind"),
            kind,
            kind,
            brand,
            _said(words["claim"], "style"),
        )
        yield _text(rows.select(line).to_series())


def _said(words: Sequence[str], column: str | pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(list(words))).gather(pl.col(column) if isinstance(column, str) else column)


def _scattered(column: str, digits: int) -> pl.Expr:
    """Return ids in no order: the factor has no divisor in common with the power of ten, so that they differ."""
    return (pl.col(column) * 3**18 % 10**digits).cast(pl.String).str.zfill(digits)


def _text(lines: pl.Series) -> bytes:
    return ("\n".join(lines.to_list()) + "\n").encode()


def main() -> None:
    """Write the files; print how many reviews there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interactions", type=int, help="good ratings, about")
    parser.add_argument("folder", type=Path, help="where to write; it is created")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(write(given.interactions, given.folder))


if __name__ == "__main__":
    main()
