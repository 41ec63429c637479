"""What a recommender in service reads, each file when it is first needed, then kept."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame, read_json, sha256_of
from symbiosis.core.errors import InputError
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.item_texts import item_texts, read_items
from symbiosis.recommender.data.training_data import read_histories
from symbiosis.recommender.metrics.metrics import protocol_of

if TYPE_CHECKING:
    import polars as pl

    from symbiosis.recommender.inference.candidates import Candidates
    from symbiosis.recommender.inference.grounds import Grounds
    from symbiosis.recommender.inference.reasons import Writer
    from symbiosis.recommender.inference.requests import Requests
    from symbiosis.recommender.inference.scoring import History, Scorer

_DIGITS = 16
_VERSION = "version.json"
"""Beside a promoted bundle: which one it is."""


class Parts:
    """The files of a bundle, with new items behind those of the training.

    Parameters
    ----------
    catalogue
        Users and items by name, the new ones among them.
    folder
        Holds ``data/`` and ``models/`` as `dvc repro` leaves them.
    new_items
        Items that the model was not trained with, see `symbiosis.recommender.data.new_items`; None: there are none.
    """

    def __init__(self, catalogue: Catalogue, folder: Path, new_items: "pl.DataFrame | None" = None) -> None:
        self.catalogue, self.folder, self.new_items = catalogue, folder, new_items

    @property
    def n_old(self) -> int:
        """Number of items of the training."""
        return len(self.catalogue.items) - (0 if self.new_items is None else len(self.new_items))

    @cached_property
    def digest(self) -> str:
        """Digest of what serves: of the promoted version, else of the fine-tuned model; empty if there is neither."""
        version, model = self.folder / _VERSION, self.folder / layout.FINETUNED
        if version.is_file():
            with suppress(InputError, KeyError, TypeError):  # a damaged one stops no answer
                return str(read_json(version)["digest"])
        return sha256_of(model)[:_DIGITS] if model.is_dir() else ""

    @cached_property
    def items(self) -> "pl.DataFrame":
        """All that is known of every item, in order: the columns of ``items.parquet``, price among them if it is."""
        import polars as pl

        known = read_frame(self.folder / layout.ITEMS).sort("item")
        return known if self.new_items is None else pl.concat([known, self.new_items], how="diagonal_relaxed")

    @cached_property
    def candidates(self) -> "Candidates":
        """What the items can be filtered by."""
        from symbiosis.recommender.inference.candidates import Candidates

        return Candidates(self.items, self.catalogue.find_item)

    @cached_property
    def grounds(self) -> "Grounds":
        """What speaks for the items."""
        from symbiosis.recommender.inference.grounds import Grounds

        return Grounds(self.train, self.items, self.candidates)

    @cached_property
    def scorer(self) -> "Scorer":
        """The fine-tuned model, which knows guests and the new items.

        Raises
        ------
        InputError
            A file is missing or damaged, or belongs to another catalogue.
        """
        # Imported here: popularity and texts alone need no network.
        from symbiosis.graph.build import Graph
        from symbiosis.recommender.inference.loading import load_known_scorer
        from symbiosis.recommender.network.newcomers import NewItems

        scorer = load_known_scorer(self.folder)
        sizes = (len(self.catalogue.users), self.n_old)
        if (scorer.model.n_users, scorer.model.n_items) != sizes:
            raise InputError(
                f"{self.folder / layout.FINETUNED} was trained for {scorer.model.n_users} users and "
                f"{scorer.model.n_items} items, not {sizes[0]} and {sizes[1]}: run `dvc repro`"
            )
        if self.new_items is None:
            return scorer.extended()
        import polars as pl

        numbered = self.new_items.with_columns(item=pl.int_range(pl.len(), dtype=pl.UInt32))
        vectors = self.requests.embedded[self.n_old :]
        return scorer.extended(NewItems.of(numbered, vectors, Graph.load(self.folder / layout.GRAPH)))

    @cached_property
    def score(self) -> "Callable[[Sequence[History]], np.ndarray]":
        """Scores of all items for histories, by the model."""
        return self.scorer.prepared_for_histories()

    @cached_property
    def writer(self) -> "Writer":
        """The pre-trained model, which writes explanations."""
        from symbiosis.recommender.inference.reasons import Writer

        return Writer.load(*(self.folder / path for path in (layout.PRETRAINED, layout.GRAPH, layout.DISTANCES)))

    @cached_property
    def requests(self) -> "Requests":
        """The texts of the items, to compare requests with."""
        from symbiosis.recommender.inference.requests import Requests

        known = Requests.load(self.folder / layout.EMBEDDINGS, read_items(self.folder / layout.ITEMS))
        return known if self.new_items is None else known.extended(item_texts(self.new_items))

    @cached_property
    def train(self) -> csr_array:
        """What the model was trained with, float32 (U, I)."""
        return self._matrix(layout.TRAIN)

    @cached_property
    def taken(self) -> csr_array:
        """Training and validation interactions, (U, I): those of the test count as not taken."""
        return csr_array(self.train + self._matrix(layout.VALIDATION))

    @cached_property
    def history(self) -> csr_array:
        """What the model reads of every user, (U, I), in order of time: what it read when it was measured."""
        folder = self.folder / layout.CLEAN
        return self._resized(read_histories(folder, protocol_of(folder).history_grows))

    @cached_property
    def popularity(self) -> np.ndarray:
        """Number of users of each item in training, float32 (I,)."""
        return np.bincount(self.train.indices, minlength=self.train.shape[1]).astype(np.float32)

    def _matrix(self, path: Path) -> csr_array:
        return self._resized(read_matrix(self.folder / path, (len(self.catalogue.users), self.n_old)))

    def _resized(self, known: csr_array) -> csr_array:
        """Add a column for each new item."""
        known.resize(len(self.catalogue.users), len(self.catalogue.items))
        return known
