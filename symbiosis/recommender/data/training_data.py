"""What a baseline may learn from: training interactions, their times, and what is known of the items."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.core.layout import ITEMS, TRAIN, VALIDATION
from symbiosis.graph.attributes import item_attributes
from symbiosis.recommender.data.interactions import read_interactions, read_sizes, to_matrix
from symbiosis.recommender.data.item_texts import FIELDS, fit_tfidf, item_texts, read_items


@dataclass(frozen=True)
class TrainingData:
    """Training interactions with their times, and the items' metadata.

    Attributes
    ----------
    interactions
        float32 (U, I), 1 where the user took the item.
    times
        int64 (interactions,), in the order of the stored entries; None if unknown.
    items
        One row per item: ``title``, ``brand``, ``description`` text or null, ``categories`` list of text or null; None
        if unknown.
    """

    interactions: csr_array
    times: np.ndarray | None = None
    items: pl.DataFrame | None = None

    def sequences(self) -> csr_array:
        """Order every user's items by time, equal times by the number of the item.

        Returns
        -------
        csr_array
            Bool (U, I); the stored entries of a user stand in order of time, not of the item.

        Raises
        ------
        InputError
            The times are unknown.

        Examples
        --------
        >>> taken = csr_array(np.array([[1, 0, 1], [0, 1, 1]], dtype=np.float32))
        >>> TrainingData(taken, times=np.array([9, 3, 5, 5])).sequences().indices
        array([2, 0, 1, 2])
        """
        if self.times is None:
            raise InputError("this baseline needs the order of a user's interactions, whose times are unknown")
        users = np.repeat(np.arange(self.interactions.shape[0]), np.diff(self.interactions.indptr))
        order = np.lexsort((self.interactions.indices, self.times, users))
        indices = self.interactions.indices[order].astype(np.int64)
        return csr_array((np.ones(len(order), bool), indices, self.interactions.indptr), shape=self.interactions.shape)

    def attributes(self) -> csr_array:
        """Brands and categories that at least two items have in common.

        Returns
        -------
        csr_array
            float32 (I, A), 1 where the item has the attribute; no column, if the items are unknown.

        Examples
        --------
        >>> items = pl.DataFrame({"brand": ["x", "x", None], "categories": [["a", "b"], ["b"], ["c"]]})
        >>> TrainingData(csr_array((1, 3), dtype=np.float32), items=items).attributes().toarray()
        array([[1., 1.],
               [1., 1.],
               [0., 0.]], dtype=float32)
        """
        n_items = self.interactions.shape[1]
        if self.items is None:
            return csr_array((n_items, 0), dtype=np.float32)
        pairs = item_attributes(self.items.with_row_index("item"))
        shared = pairs.filter(pl.len().over("kind", "name") > 1)
        shared = shared.with_columns(number=pl.struct("kind", "name").rank("dense") - 1).sort("item", "number")
        n_attributes = shared["number"].n_unique()
        return csr_array(
            (np.ones(len(shared), np.float32), (shared["item"].to_numpy(), shared["number"].to_numpy())),
            shape=(n_items, n_attributes),
        )

    def text_vectors(self, dimension: int, seed: int) -> np.ndarray:
        """Vectors of the items' titles, brands, categories and descriptions.

        The principal directions (truncated singular value decomposition) of the words' TF-IDF weights, words of at
        least two items alone; rows of length 1, or of zeros where nothing is known.

        Parameters
        ----------
        dimension
            At most: fewer if there are fewer items or words.
        seed
            Of the decomposition.

        Returns
        -------
        np.ndarray
            float32 (I, dimension).
        """
        from sklearn.preprocessing import normalize

        n_items = self.interactions.shape[1]
        blank = np.zeros((n_items, 1), np.float32)
        if self.items is None:
            return blank
        tfidf = fit_tfidf(item_texts(self.items), dimension, seed, words=1, minimum_items=2)
        if tfidf is None or tfidf.decomposition is None:
            return blank
        normal: np.ndarray = normalize(tfidf.vectors).astype(np.float32)
        return normal

    def followed_by(self, later: pl.DataFrame) -> "TrainingData":
        """Append later interactions of the same users, ``user`` and ``item``, that come last in his sequence.

        A user may have one of them at most: the times of several would be equal.
        """
        shape = self.interactions.shape
        users = np.repeat(np.arange(shape[0]), np.diff(self.interactions.indptr))
        known = pl.DataFrame({"user": users, "item": self.interactions.indices, "timestamp": self.times}).cast(pl.Int64)
        last = later.select(pl.col("user", "item").cast(pl.Int64), timestamp=pl.lit(np.iinfo(np.int64).max))
        both = pl.concat([known, last]).sort("user", "item")
        return TrainingData(to_matrix(both, shape), both["timestamp"].to_numpy(), self.items)


def count_steps(sequences: csr_array, decay: float, longest: int = 20) -> csr_array:
    """Count the steps between the items of every user.

    Parameters
    ----------
    sequences
        (U, I); the stored entries of a user stand in order of time.
    decay
        A step over g places counts ``decay^(g-1)``.
    longest
        Steps over more places do not count; the decay leaves nothing of them.

    Returns
    -------
    csr_array
        float64 (I, I), row: the earlier item, column: the later one.

    Examples
    --------
    >>> taken = csr_array(np.array([[1, 1, 1]], dtype=np.float32))
    >>> count_steps(TrainingData(taken, times=np.array([5, 6, 7])).sequences(), 0.5).toarray()
    array([[0. , 1. , 0.5],
           [0. , 0. , 1. ],
           [0. , 0. , 0. ]])
    """
    n_items, taken = sequences.shape[1], sequences.indices
    users = np.repeat(np.arange(sequences.shape[0]), np.diff(sequences.indptr))
    steps = csr_array((n_items, n_items), dtype=np.float64)
    for gap in range(1, longest + 1):
        weight = decay ** (gap - 1)
        inside = np.flatnonzero(users[gap:] == users[:-gap]) if gap < len(users) else np.zeros(0, np.int64)
        if not len(inside) or not weight:
            break
        pairs = taken[inside], taken[inside + gap]
        steps = steps + csr_array((np.full(len(inside), weight), pairs), shape=(n_items, n_items))
    return csr_array(steps)


def read_histories(folder: Path | str, history_grows: bool) -> csr_array:
    """Read what the model reads of every user when it is measured and when it serves, in order of time.

    Parameters
    ----------
    folder
        What the stage `clean` wrote.
    history_grows
        Whether validation items belong to it, see `symbiosis.recommender.metrics.metrics.Protocol`.

    Returns
    -------
    csr_array
        Bool (U, I); the stored entries of a user stand in order of time; of the item, where no times are kept.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    folder = Path(folder)
    shape, others = read_sizes(folder), ["timestamp"]
    with suppress(OSError, pl.exceptions.PolarsError):  # a damaged file is told below
        # Early releases kept no times where nothing read them.
        others = [name for name in others if name in pl.read_parquet_schema(folder / TRAIN.name)]
    train = read_interactions(folder / TRAIN.name, shape, others)
    times = train["timestamp"].to_numpy() if others else np.zeros(len(train), np.int64)
    data = TrainingData(to_matrix(train, shape), times)
    if history_grows:
        data = data.followed_by(read_interactions(folder / VALIDATION.name, shape))
    return data.sequences()


def read_training_data(folder: Path | str) -> TrainingData:
    """Read what the stage `clean` wrote: ``users``, ``items`` and ``train``.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    folder = Path(folder)
    shape = read_sizes(folder)
    train = read_interactions(folder / TRAIN.name, shape, ["timestamp"])
    items = read_items(folder / ITEMS.name).select(FIELDS)
    return TrainingData(to_matrix(train, shape), train["timestamp"].to_numpy(), items)
