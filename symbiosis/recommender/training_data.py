"""What a baseline may learn from: training interactions, their times, and what is known of the items."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.errors import InputError
from symbiosis.recommender.interactions import read_matrix, read_sizes

_ITEM_COLUMNS = ["title", "brand", "categories", "description"]


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


def read_training_data(folder: Path | str) -> TrainingData:
    """Read what the stage `clean` wrote: ``users``, ``items`` and ``train``.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    folder = Path(folder)
    interactions = read_matrix(folder / "train.parquet", read_sizes(folder))
    try:
        train = pl.read_parquet(folder / "train.parquet", columns=["user", "item", "timestamp"])
        items = pl.read_parquet(folder / "items.parquet", columns=["item", *_ITEM_COLUMNS]).sort("item")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder}: train.parquet or items.parquet lacks a column ({reason}): run `dvc repro`"
        ) from None
    times = train.sort("user", "item")["timestamp"].to_numpy()
    return TrainingData(interactions, times, items.select(_ITEM_COLUMNS))
