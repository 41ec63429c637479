"""Held-out users, and what a recommender reaches for them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame, read_json, staged
from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.training_data import read_histories
from symbiosis.recommender.inference.loading import load_scorer
from symbiosis.recommender.metrics.metrics import DEPTH, Protocol, protocol_of, protocol_with
from symbiosis.recommender.metrics.ranking import rank_all

BUNDLE = "bundle.json"
SPLIT = (layout.USERS, layout.ITEMS, layout.TRAIN, layout.VALIDATION, layout.TEST)
MODEL = (layout.FINETUNED, layout.GRAPH, layout.PROPAGATION)

Scores = Callable[[np.ndarray], np.ndarray]
"""From user numbers (B,) to the scores of all items, float32 (B, I)."""


class Origin(BaseModel):
    """What ``bundle.json`` says.

    Attributes
    ----------
    data
        What the model has learned from.
    made_from
        SHA-256 of everything that the bundle was made from, by path.
    """

    model_config = ConfigDict(frozen=True)

    data: Literal["train", "all"]
    made_from: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Origin":
        """Read it.

        Raises
        ------
        InputError
            It is missing or damaged.
        """
        try:
            return cls.model_validate(read_json(folder / BUNDLE))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{folder / BUNDLE}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None

    @property
    def split(self) -> str:
        """Digest of users, items and the split."""
        return _digest(*(self.made_from.get(path.as_posix(), "") for path in SPLIT))

    @property
    def twin(self) -> str:
        """Digest of the measured model and of the split that it was measured on."""
        return _digest(self.split, *(self.made_from.get(path.as_posix(), "") for path in MODEL))


def _digest(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


class Part:
    """Users, items and the split of one folder, by number.

    Parameters
    ----------
    folder
        Holds ``data/clean``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = read_frame(folder / layout.USERS, ["user", "user_id"]).sort("user")["user_id"].to_list()
        self.items = read_frame(folder / layout.ITEMS, ["item", "item_id"]).sort("item")["item_id"].to_list()

    @cached_property
    def train(self) -> csr_array:
        """Training interactions, (U, I)."""
        return self._matrix(layout.TRAIN)

    @cached_property
    def taken(self) -> csr_array:
        """Training and validation interactions, (U, I): no user is recommended these."""
        return self.train + self._matrix(layout.VALIDATION)

    @cached_property
    def test(self) -> csr_array:
        """Held-out interactions, (U, I)."""
        return self._matrix(layout.TEST)

    @cached_property
    def graph(self) -> csr_array:
        """Interactions in the graph that the model was trained with, (U, I)."""
        return Graph.load(self.folder / layout.GRAPH).interactions()

    @cached_property
    def learned_from(self) -> csr_array:
        """Interactions that the model may know, (U, I)."""
        return self.taken + self.graph

    @cached_property
    def protocol(self) -> Protocol:
        """How the split is evaluated."""
        return protocol_of(self.folder / layout.CLEAN)

    def scores(self) -> Scores:
        """Return what scores all items for some users, from what was read of them when the model was measured."""
        read = read_histories(self.folder / layout.CLEAN, self.protocol.history_grows)
        return load_scorer(self.folder).prepared(read)

    def _matrix(self, path: Path) -> csr_array:
        return read_matrix(self.folder / path, (len(self.users), len(self.items)))


@dataclass(frozen=True)
class Measured:
    """What a model reached.

    Attributes
    ----------
    users
        Original ids of those with held-out items.
    metrics
        Of each of them, float64 (U,) each.
    """

    users: list[str]
    metrics: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, scores: Scores, taken: csr_array, test: csr_array, users: list[str], seed: int, protocol: Protocol
    ) -> "Measured":
        """Rank all items but those taken for every user with held-out ones.

        Parameters
        ----------
        scores
            For user numbers (B,), float32 (B, I).
        taken, test
            (U, I), disjoint.
        users
            U original ids.
        seed
            Of the order of ties.
        protocol
            Whose metrics are computed.
        """
        rows = np.flatnonzero(np.diff(test.indptr))
        ranking = rank_all(scores, taken, DEPTH, seed, rows)
        return cls([users[row] for row in rows], protocol.per_user(ranking, test[rows]))

    def keep(self, file: Path) -> None:
        """Write it."""
        with staged(file) as (target,):
            pl.DataFrame({"user_id": self.users, **self.metrics}).write_parquet(target)

    @classmethod
    def kept(cls, file: Path) -> "Measured":
        """Read what was kept.

        Raises
        ------
        InputError
            It is missing or damaged.
        """
        frame = read_frame(file)
        metrics = protocol_with(frame.columns).metrics
        return cls(frame["user_id"].to_list(), {name: frame[name].to_numpy() for name in metrics})
