"""The trained recommender to call from Python: items for users, guests and words, and explanations.

>>> from symbiosis.recommender.inference.asking import RecommendationRequest
>>> from symbiosis.recommender.inference.recommender import Recommender
>>> recommender = Recommender.open()                                                        # doctest: +SKIP
>>> answer = recommender.recommend(RecommendationRequest(user="A03VWRTV7PEMO", count=3))    # doctest: +SKIP
>>> for item in answer.items:                                                               # doctest: +SKIP
...     print(item.rank, item.title, item.score)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.errors import InputError, one_line, quoted
from symbiosis.core.serving import serving_folder
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.data.new_items import checked_new_items
from symbiosis.recommender.inference.asking import Method, Recommendation, RecommendationRequest, Recommendations
from symbiosis.recommender.inference.parts import Parts
from symbiosis.recommender.metrics.ranking import NONE, top_items

if TYPE_CHECKING:
    from symbiosis.recommender.inference.reasons import Sampling

_CELLS = 1 << 20
"""Scores of a block of users: 4 MiB."""
_TIES = 0
"""Seed of the order of ties."""


@dataclass(frozen=True)
class Person:
    """Who asks, as far as the catalogue knows.

    Attributes
    ----------
    user
        Number; None for a guest.
    known
        int (items,), what the model reads of the user.
    newer
        int (items,), the known items of the session, oldest first.
    taken
        int (items,), all of these and the user's validation items: no candidates, unless repeated purchases are wanted.
    notes
        What of the request is not known, one line each.
    """

    user: int | None
    known: np.ndarray
    newer: np.ndarray
    taken: np.ndarray
    notes: tuple[str, ...]

    @property
    def has_history(self) -> bool:
        """Whether the model has anything to go by."""
        return self.user is not None or len(self.newer) > 0


@dataclass(frozen=True)
class RankedUsers:
    """The best items of a block of users.

    Attributes
    ----------
    users
        int64 (B,), their numbers.
    items
        int32 (B, count), best first, padded with -1.
    scores
        float32 (B, count), what they are ranked by; NaN where padded.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray


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
    parts
        The files and what is made of them.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self.catalogue = parts, parts.catalogue

    @classmethod
    def open(cls, folder: Path | str | None = None) -> "Recommender":
        """Open the recommender of a folder that holds ``data/`` and ``models/``.

        Parameters
        ----------
        folder
            None: what serves here, see `symbiosis.core.serving.serving_folder`.

        Raises
        ------
        InputError
            The catalogue is missing or damaged.
        """
        root = serving_folder("recommender") if folder is None else Path(folder)
        return cls(Parts(Catalogue.load(root / layout.CLEAN), root))

    def with_items(self, frame: pl.DataFrame) -> "Recommender":
        """Return a recommender that knows more items, by their texts, brands and categories; nothing is trained.

        What it says of the other items stays as it is.

        Parameters
        ----------
        frame
            Columns ``item_id`` and, where known, ``title, brand, categories, description, price``.

        Raises
        ------
        InputError
            An item is not described in this form, or its id is known; the message names the row.
        """
        names = set(self.catalogue.items["item_id"])
        if not len(frame):
            return self
        added = checked_new_items(frame, names, len(names))
        earlier = self.parts.new_items
        new = added if earlier is None else pl.concat([earlier, added])
        return Recommender(Parts(self.catalogue.with_items(added), self.parts.folder, new))

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Rank the candidates of a request.

        The items of the test part count as not taken, since the recommender is judged by them. Where the model cannot
        answer, the words do, and without words popularity; the answer says so.

        Raises
        ------
        InputError
            The text has no known word, or the catalogue's files are missing or damaged.
        """
        person = self._person(request)
        notes = list(person.notes)
        similarity = self._similarity(request, notes)
        scores, method = self._scores(person, similarity is not None, notes)
        if similarity is not None:
            scores = (scores + np.float32(request.text_weight) * similarity).astype(np.float32)
        filters = self.parts.candidates
        candidates = filters.of(request, person.taken)
        notes += filters.unknown(request)
        number = len(self.catalogue.users) if person.user is None else person.user
        # A limit of a brand may leave out any of the best.
        depth = len(scores) if request.per_brand_limit is not None else min(request.count, len(scores))
        ranked = top_items(scores[None], csr_array(~candidates[None]), depth, _TIES, np.array([number]))[0]
        ranked = ranked[ranked != NONE]
        listed = ranked[filters.limited(ranked, request.per_brand_limit, request.count)].tolist()
        own = [*np.setdiff1d(person.taken, person.newer).tolist(), *person.newer.tolist()]
        words = None if similarity is None else request.text
        reasons = self.parts.grounds.reasons(listed, own, person.user, words)
        found = [
            self._described(rank, item, float(scores[item]), similarity, reason)
            for rank, (item, reason) in enumerate(zip(listed, reasons, strict=True), start=1)
        ]
        note = one_line("; ".join(notes)) if notes else None
        return Recommendations(tuple(found), method, note, self.parts.digest)

    def recommend_many(
        self,
        users: np.ndarray | None = None,
        count: int = 10,
        *,
        candidates: np.ndarray | None = None,
        repeat_purchases: bool = False,
    ) -> Iterator[RankedUsers]:
        """Rank for many known users, a block of them at a time, so that memory does not grow with their number.

        The result is that of `recommend` for each.

        Parameters
        ----------
        users
            int (users,), their numbers; all if not given.
        count
            Items of each at most.
        candidates
            bool (I,); all items if not given.
        repeat_purchases
            Whether what a user already took is a candidate too.

        Raises
        ------
        InputError
            The count is out of range, or the model is missing or damaged.
        """
        if count < 1:
            raise InputError(f"count {count} must be at least 1")
        users = np.arange(len(self.catalogue.users)) if users is None else np.asarray(users)
        _ = self.parts.score, self.parts.taken  # what is missing is told before the first block
        return self._blocks(users, min(count, len(self.catalogue.items)), candidates, repeat_purchases)

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
            The user or the item is unknown or new, or the pre-trained model is missing, damaged or was trained without
            texts.
        """
        from symbiosis.recommender.inference.reasons import Sampling

        person, thing = self.catalogue.user(str(user)), self.catalogue.item(str(item))
        if thing >= self.parts.n_old:
            raise InputError(f"item {quoted(str(item))} is new: reasons are written about items of the training alone")
        reason = self.parts.writer.reason(person, thing, sampling or Sampling())
        return Explanation(person, thing, self.catalogue.item_id(thing), self.catalogue.title(thing), reason)

    def written(self, found: Recommendations, user: str | int | None) -> tuple[dict[int, str], str]:
        """Write why a user would purchase each item of an answer.

        Returns
        -------
        reasons
            By item; without those that the model cannot write.
        note
            Why it cannot, one line; empty if it can.
        """
        if user is None:
            return {}, "no reasons are written for a guest: the model writes for the users that it knows"
        reasons, note = {}, ""
        for one in found.items:
            try:
                reasons[one.item] = self.explain(user, one.item_id).reason
            except InputError as error:
                note = f"not every reason is written: {error}"
        return reasons, note

    def _person(self, request: RecommendationRequest) -> Person:
        """Look up who asks; what is unknown is noted."""
        notes = []
        user = None if request.user is None else self.catalogue.find_user(str(request.user))
        if request.user is not None and user is None:
            notes.append(f"user {quoted(str(request.user))} is unknown")
        found = [self.catalogue.find_item(name) for name in request.session]
        newer = np.array([item for item in found if item is not None], dtype=np.int64)
        if unknown := len(found) - len(newer):
            first = quoted(request.session[found.index(None)])
            what = f"the item {first} of the session is" if unknown == 1 else f"{unknown} items of the session are"
            notes.append(f"{what} unknown and left out" + (f", {first} among them" if unknown > 1 else ""))
        if user is None and request.user is not None and len(newer):
            notes.append("answered as to a guest")
        known = taken = newer[:0]
        if user is not None:
            known, taken = items_of(self.parts.history, user), items_of(self.parts.taken, user)
        return Person(user, known, newer, np.union1d(taken, newer).astype(np.int64), tuple(notes))

    def _similarity(self, request: RecommendationRequest, notes: list[str]) -> np.ndarray | None:
        """Compare the request's text with the items'; None without one, or if the items' texts cannot be read."""
        if request.text is None:
            return None
        try:
            requests = self.parts.requests
        except InputError as error:
            notes.append(f"the text is left out ({error})")
            return None
        return requests.similarity(request.text)

    def _scores(self, person: Person, has_text: bool, notes: list[str]) -> tuple[np.ndarray, Method]:
        """Score all items by the best method that there is, float32 (I,)."""
        if person.has_history:
            try:
                return self._by_model(person), "model"
            except InputError as error:
                notes.append(f"the model cannot answer ({error})")
        if has_text:
            return np.log1p(self.parts.popularity), "text"
        notes.append("these are the most popular items")
        return self.parts.popularity, "popularity"

    def _by_model(self, person: Person) -> np.ndarray:
        from symbiosis.recommender.inference.scoring import History

        scores: np.ndarray = self.parts.score([History(person.known, person.user, person.newer)])[0]
        if np.isnan(scores).any():
            raise InputError("its scores are no numbers: it has diverged in training")
        return scores

    def _blocks(
        self, users: np.ndarray, count: int, candidates: np.ndarray | None, repeat_purchases: bool
    ) -> Iterator[RankedUsers]:
        from symbiosis.recommender.inference.scoring import History

        parts = self.parts
        block = max(1, _CELLS // len(self.catalogue.items))
        for start in range(0, len(users), block):
            chosen = users[start : start + block]
            scores = parts.score([History(items_of(parts.history, user), int(user)) for user in chosen])
            if candidates is not None:
                scores[:, ~candidates] = -np.inf
            excluded = csr_array(scores.shape, dtype=np.float32) if repeat_purchases else parts.taken[chosen]
            ranked = top_items(scores, excluded, count, _TIES, chosen)
            found = np.take_along_axis(scores, np.maximum(ranked, 0), axis=1)
            missing = (ranked == NONE) | np.isneginf(found)
            yield RankedUsers(chosen, np.where(missing, NONE, ranked), np.where(missing, np.nan, found))

    def _described(
        self, rank: int, item: int, score: float, similarity: np.ndarray | None, reason: str
    ) -> Recommendation:
        known, items = self.catalogue, self.parts.items
        return Recommendation(
            rank,
            item,
            known.item_id(item),
            known.title(item),
            score,
            items["brand"][item] or None,
            items["price"][item] if "price" in items.columns else None,
            None if similarity is None else float(similarity[item]),
            reason,
        )
