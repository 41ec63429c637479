"""The trained recommender to call from Python: items for a user, by history alone or with a request, and explanations.

>>> from symbiosis.recommender.inference.recommender import Recommender
>>> recommender = Recommender.open()                                       # doctest: +SKIP
>>> for item in recommender.recommend(user="A03VWRTV7PEMO", count=3):      # doctest: +SKIP
...     print(item.rank, item.title, item.score)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.errors import InputError
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.item_texts import read_items
from symbiosis.recommender.inference.requests import WEIGHT, Requests, best_items
from symbiosis.recommender.inference.scoring import Scorer

if TYPE_CHECKING:
    from symbiosis.recommender.inference.reasons import Sampling, Writer


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes
    ----------
    rank
        1 is the best.
    item, item_id, title
        Number, original id and title; the id where the item has no title.
    score
        What the items are ranked by: a log probability up to a constant, plus the weighted similarity if there is a
        request.
    similarity
        Cosine of the request and the item's text, in -1..1; None without a request.
    """

    rank: int
    item: int
    item_id: str
    title: str
    score: float
    similarity: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a user would purchase an item.

    Attributes
    ----------
    user, item, item_id, title
        Numbers of both; original id and title of the item.
    reason
        A sentence written by the pre-trained model.
    """

    user: int
    item: int
    item_id: str
    title: str
    reason: str


class Recommender:
    """What the pipeline trained, ready to answer; each part is read when it is first needed, then kept.

    Parameters
    ----------
    catalogue
        Users and items by name.
    folder
        Holds ``data/`` and ``models/`` as `dvc repro` leaves them.
    """

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self.catalogue, self.folder = catalogue, folder

    @classmethod
    def open(cls, folder: Path | str = ".") -> "Recommender":
        """Open the recommender of a folder that holds ``data/`` and ``models/``.

        Raises
        ------
        InputError
            The catalogue is missing or damaged.
        """
        return cls(Catalogue.load(Path(folder) / layout.CLEAN), Path(folder))

    def recommend(
        self, user: str | int, count: int = 10, request: str | None = None, request_weight: float = WEIGHT
    ) -> list[Recommendation]:
        """Rank the items that a user has not taken.

        The items of the test part count as not taken, since the recommender is judged by them.

        Parameters
        ----------
        user
            Original id or number.
        count
            Items at most; there are fewer if the user has taken nearly all.
        request
            Free text: rank for the user and these words.
        request_weight
            Weight of the similarity to the request beside the user's own score.

        Raises
        ------
        InputError
            The user is unknown, an argument is out of range, or a file is missing or damaged.
        """
        if count < 1:
            raise InputError(f"count {count} must be at least 1")
        if request is not None and not request.strip():
            raise InputError("the request is empty: give words, or leave it out")
        if not 0 <= request_weight < math.inf:
            raise InputError(f"request weight {request_weight} must be a number not below 0")
        number = self.catalogue.user(str(user))
        similarity = None if request is None else self.requests.similarity(request)
        scores = self._scores(np.array([number]))[0]
        items, ranked = best_items(scores, self._taken, number, count, self.scorer.seed, similarity, request_weight)
        return [
            Recommendation(
                rank,
                item,
                self.catalogue.item_id(item),
                self.catalogue.title(item),
                score,
                None if similarity is None else float(similarity[item]),
            )
            for rank, (item, score) in enumerate(zip(items.tolist(), ranked.tolist(), strict=True), start=1)
        ]

    def explain(self, user: str | int, item: str | int, sampling: "Sampling | None" = None) -> Explanation:
        """Write why a user would purchase an item.

        Parameters
        ----------
        user, item
            Original ids or numbers.
        sampling
            How the words are chosen; the most probable ones if not given.

        Raises
        ------
        InputError
            The user or the item is unknown, or the pre-trained model is missing, damaged or was trained without texts.
        """
        from symbiosis.recommender.inference.reasons import Sampling

        person, thing = self.catalogue.user(str(user)), self.catalogue.item(str(item))
        reason = self.writer.reason(person, thing, sampling or Sampling())
        return Explanation(person, thing, self.catalogue.item_id(thing), self.catalogue.title(thing), reason)

    @cached_property
    def scorer(self) -> Scorer:
        """The fine-tuned model."""
        paths = (layout.FINETUNED, layout.GRAPH, layout.DISTANCES, layout.PROPAGATION)
        return Scorer.load(*(self.folder / path for path in paths))

    @cached_property
    def writer(self) -> "Writer":
        """The pre-trained model, which writes explanations."""
        from symbiosis.recommender.inference.reasons import Writer

        return Writer.load(*(self.folder / path for path in (layout.PRETRAINED, layout.GRAPH, layout.DISTANCES)))

    @cached_property
    def requests(self) -> Requests:
        """The texts of the items, to compare requests with."""
        return Requests.load(self.folder / layout.EMBEDDINGS, read_items(self.folder / layout.ITEMS))

    @cached_property
    def _train(self) -> csr_array:
        return self._matrix(layout.TRAIN)

    @cached_property
    def _taken(self) -> csr_array:
        """Training and validation interactions."""
        return self._train + self._matrix(layout.VALIDATION)

    @cached_property
    def _scores(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.scorer.prepared(self._train)

    def _matrix(self, path: Path) -> csr_array:
        return read_matrix(self.folder / path, (len(self.catalogue.users), len(self.catalogue.items)))
