"""The trained recommender to call from Python: items for a user, by history alone or with a request, and explanations.

>>> from symbiosis.recommender.inference.asking import RecommendationRequest
>>> from symbiosis.recommender.inference.recommender import Recommender
>>> recommender = Recommender.open()                                       # doctest: +SKIP
>>> answer = recommender.recommend(RecommendationRequest(user="A03VWRTV7PEMO", count=3))    # doctest: +SKIP
>>> for item in answer.items:                                              # doctest: +SKIP
...     print(item.rank, item.title, item.score)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import read_json, sha256_of
from symbiosis.core.errors import InputError
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.data.interactions import items_of, read_matrix
from symbiosis.recommender.data.item_texts import read_items
from symbiosis.recommender.inference.asking import Recommendation, RecommendationRequest, Recommendations
from symbiosis.recommender.inference.requests import Requests, best_items
from symbiosis.recommender.inference.scoring import Scorer

if TYPE_CHECKING:
    from symbiosis.recommender.inference.reasons import Sampling, Writer


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
    def open(cls, folder: Path | str | None = None) -> "Recommender":
        """Open the recommender of a folder that holds ``data/`` and ``models/``.

        Parameters
        ----------
        folder
            None: what serves here, see `serving_folder`.

        Raises
        ------
        InputError
            The catalogue is missing or damaged.
        """
        root = serving_folder() if folder is None else Path(folder)
        return cls(Catalogue.load(root / layout.CLEAN), root)

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Rank the candidates of a request.

        The items of the test part count as not taken, since the recommender is judged by them.

        Raises
        ------
        InputError
            The user is unknown, the text has no known word, or a file is missing or damaged.
        """
        if request.user is None:
            raise InputError("guests cannot be answered yet: give a user")
        number = self.catalogue.user(str(request.user))
        similarity = None if request.text is None else self.requests.similarity(request.text)
        scores = self._scores(np.array([number]))[0]
        candidates = np.ones(len(scores), dtype=bool)
        if not request.repeat_purchases:
            candidates[items_of(self._taken, number)] = False
        items, ranked = best_items(
            scores, candidates, number, request.count, self.scorer.seed, similarity, request.text_weight
        )
        found = [
            self._described(rank, item, score, similarity)
            for rank, (item, score) in enumerate(zip(items.tolist(), ranked.tolist(), strict=True), start=1)
        ]
        return Recommendations(tuple(found), "model", model=self.digest)

    def _described(self, rank: int, item: int, score: float, similarity: np.ndarray | None) -> Recommendation:
        names = self.catalogue
        return Recommendation(
            rank,
            item,
            names.item_id(item),
            names.title(item),
            score,
            names.brand(item),
            names.price(item),
            None if similarity is None else float(similarity[item]),
        )

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
    def digest(self) -> str:
        """Digest of what serves: that of the promoted version, else of the fine-tuned model."""
        version = self.folder / "version.json"
        return str(read_json(version)["digest"]) if version.is_file() else sha256_of(self.folder / layout.FINETUNED)

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


def serving_folder(root: Path | str = ".") -> Path:
    """Return the folder that serves: the champion's, else that of the final fit, else the workspace itself."""
    for place in (layout.CHAMPION_RECOMMENDER, layout.RECOMMENDER):
        if (Path(root) / place).is_dir():
            return Path(root) / place
    return Path(root)
