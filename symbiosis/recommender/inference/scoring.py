"""Score every item for known users, guests and users with newer items, with one forward pass.

A guest has no vector of his own: the mean of the users' vectors stands in, as one more user, whom no edge of the graph
names. Items that came after the training have their text, brand and categories, and no free vector.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.newcomers import NewItems

_ROWS, _CELLS = (32, 64), 1 << 16
"""Users scored at once: between these, and as many as have so many scores."""


def _nothing() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class History:
    """What is known of somebody who wants items.

    Attributes
    ----------
    items
        int (items,), those that the user took in the training data, in order of time as far as it is known; none of a
        guest.
    user
        Number of the user; None for a guest.
    newer
        int (items,), those taken later, oldest first; all of a guest's. What is among `items`, too, changes nothing.
    """

    items: np.ndarray = field(default_factory=_nothing)
    user: int | None = None
    newer: np.ndarray = field(default_factory=_nothing)


class Reordering(Protocol):
    """What puts the best candidates into another order, see `symbiosis.recommender.reranking.reranker.Reranker`."""

    def reordered(self, scores: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Give candidates their scores, float32 (B, I), in another order; histories stand in order of time."""

    def refitted(self, sequences: csr_array) -> "Reordering":
        """Return one whose links come from these sequences, (U, I) in order of time."""


def _in_order(history: History) -> np.ndarray:
    """All items once, in order of time: what was taken again counts as taken then."""
    items = np.concatenate([history.items, history.newer]).astype(np.int64)
    _, last = np.unique(items[::-1], return_index=True)
    return items[np.sort(len(items) - 1 - last)]


class Scorer:
    """A fine-tuned model with the inputs that it scores items from.

    Parameters
    ----------
    model, prompts, bias
        The network and its inputs.
    propagation
        The graph's terms of the item logits; None leaves them out.
    seed
        Seed of the order of the items in a prompt, which means nothing and is drawn once per user.
    language_model
        Whether the network scores the items; if not, the graph's terms do it alone.
    personal_gates
        Whether the gates of the graph's terms depend on the prompt.
    mean_rating
        Added to a score it gives a predicted rating; None if the model was not trained on ratings.
    guest
        Number of the user who stands in for guests; None if the model has no such user, see `extended`.
    reranker
        Orders the best candidates again; None leaves them as they are.
    """

    def __init__(
        self,
        model: GraphGPT2,
        prompts: Prompts,
        bias: AttentionBias,
        propagation: Propagation | None,
        seed: int,
        *,
        language_model: bool = True,
        personal_gates: bool = True,
        mean_rating: float | None = None,
        guest: int | None = None,
        reranker: Reordering | None = None,
    ) -> None:
        self.model, self.prompts, self.bias, self.propagation, self.seed = model, prompts, bias, propagation, seed
        self.language_model, self.personal_gates, self.mean_rating = language_model, personal_gates, mean_rating
        self.guest, self.reranker = guest, reranker

    def extended(self, new: NewItems | None = None) -> "Scorer":
        """Return a scorer that knows guests, and new items if given.

        Raises
        ------
        ValueError
            It was extended before.
        """
        if self.guest is not None:
            raise ValueError("a scorer is extended once")
        model, vocabulary = self.model, self.prompts.vocabulary
        new = new or NewItems.none(model.texts.shape[1])
        # A model that was trained without texts has a column of zeros for them.
        texts = new.texts if new.texts.shape[1] == model.texts.shape[1] else np.zeros((len(new), 1), np.float32)
        with torch.no_grad():
            guest = model.collaborative.weight[: model.n_users].mean(dim=0, keepdim=True)
            more = model.extended(guest, torch.from_numpy(texts))
        words = Vocabulary(vocabulary.tokenizer, more.n_users, more.n_items)
        return Scorer(
            more,
            Prompts(words, self.prompts.maximum_items),
            self.bias.extended(1, new),
            self.propagation.extended(new) if self.propagation else None,
            self.seed,
            language_model=self.language_model,
            personal_gates=self.personal_gates,
            mean_rating=self.mean_rating,
            guest=model.n_users,
            reranker=self.reranker,
        )

    def reranked_by(self, reranker: Reordering | None) -> "Scorer":
        """Return the same scorer with another re-ranker, or without one."""
        other = copy(self)
        other.reranker = reranker
        return other

    def scores(self, users: np.ndarray, train: csr_array, rows: int | None = None) -> np.ndarray:
        """Score all items; nothing is masked.

        Parameters
        ----------
        users
            int, shape (users,).
        train
            (U, I); the stored items of a user stand in his prompt.
        rows
            Users scored at once, by default by the number of items: with more the graph's terms leave the processor's
            cache.

        Returns
        -------
        float32 array of shape (users, I)
        """
        return self.prepared(train, rows)(users)

    def prepared(self, train: csr_array, rows: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
        """Return `scores` as a function of the users alone, for many calls.

        The item vectors are computed once, so the model must not learn between two calls.
        """
        score = self.prepared_for_histories(rows)
        return lambda users: score([History(items_of(train, user), int(user)) for user in users])

    def prepared_for_histories(self, rows: int | None = None) -> Callable[[Sequence[History]], np.ndarray]:
        """Return a function that scores all items for histories, float32 (histories, I); see `prepared`."""
        with torch.no_grad():
            vectors = self.model.item_vectors() if self.language_model else None
        step = rows or int(np.clip(_CELLS // self.model.n_items, *_ROWS))

        @torch.no_grad()
        def scores(histories: Sequence[History]) -> np.ndarray:
            lengths = [len(history.items) + len(history.newer) for history in histories]
            order = np.argsort(lengths, kind="stable")
            result = np.empty((len(histories), self.model.n_items), dtype=np.float32)
            for start in range(0, len(histories), step):
                places = order[start : start + step]
                result[places] = self._block([histories[place] for place in places], vectors).numpy()
            if self.reranker is None:
                return result
            return self.reranker.reordered(result, [_in_order(history) for history in histories])

        return scores

    def _block(self, histories: Sequence[History], vectors: Tensor | None) -> Tensor:
        users = [self._user(history) for history in histories]
        items = [self._listed(history, user) for history, user in zip(histories, users, strict=True)]
        states = self._read_out(users, items) if self.language_model else None
        terms = torch.from_numpy(self.propagation.terms(items)) if self.propagation else None
        return self.model.scores(states, terms, self.personal_gates, vectors)

    def _user(self, history: History) -> int:
        if history.user is not None:
            return history.user
        if self.guest is None:
            raise ValueError("only an extended scorer knows guests")
        return self.guest

    def _listed(self, history: History, user: int) -> np.ndarray:
        """All items in the order of the prompt, of which the first count: the newest, then those of training."""
        known = np.random.default_rng([self.seed, user]).permutation(np.sort(history.items))
        if not len(history.newer):
            return known
        newest, first = np.unique(history.newer[::-1], return_index=True)
        newest = newest[np.argsort(first)]
        return np.concatenate([newest[~np.isin(newest, known)], known])

    def _read_out(self, users: list[int], items: list[np.ndarray]) -> Tensor:
        """Hidden states of the read-out positions, (B, width)."""
        ids, last = self.prompts(users, items)
        rows = torch.from_numpy(ids)
        return self.model.read_out(rows, self.bias(ids), self.model.collaborative, torch.from_numpy(last))
