"""Score every item for a user with one forward pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from symbiosis.core.artifacts import read_json
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2

_ROWS, _CELLS = (32, 64), 1 << 16
"""Users scored at once: between these, and as many as have so many scores."""


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
    ) -> None:
        self.model, self.prompts, self.bias, self.propagation, self.seed = model, prompts, bias, propagation, seed
        self.language_model, self.personal_gates, self.mean_rating = language_model, personal_gates, mean_rating

    @classmethod
    def load(cls, folder: Path | str, graph: Path | str, distances: Path | str, propagation: Path | str) -> "Scorer":
        """Read what the stage `finetune` wrote, and of the graph what its settings ask for.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        folder = Path(folder)
        settings = read_json(folder / "training.json")
        model = GraphGPT2.load(folder).eval()
        vocabulary = Vocabulary.load(folder / "tokenizer.json", model.n_users, model.n_items)
        bias = AttentionBias.load(settings["bias"], model, graph, distances)
        strengths = Propagation.load(propagation, cross_fitted=False) if settings["graph_term"] else None
        prompts = Prompts(vocabulary, settings["maximum_items"])
        others = {name: settings[name] for name in ("language_model", "personal_gates", "mean_rating")}
        return cls(model, prompts, bias, strengths, settings["seed"], **others)

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
        with torch.no_grad():
            vectors = self.model.item_vectors() if self.language_model else None
        step = rows or int(np.clip(_CELLS // self.model.n_items, *_ROWS))

        @torch.no_grad()
        def scores(users: np.ndarray) -> np.ndarray:
            order = np.argsort(np.diff(train.indptr)[users], kind="stable")
            result = np.empty((len(users), self.model.n_items), dtype=np.float32)
            for start in range(0, len(users), step):
                places = order[start : start + step]
                result[places] = self._block(users[places], train, vectors).numpy()
            return result

        return scores

    def _block(self, users: np.ndarray, train: csr_array, vectors: Tensor | None) -> Tensor:
        items = [
            np.random.default_rng([self.seed, int(user)]).permutation(items_of(train, user).copy()) for user in users
        ]
        states = self._read_out(users, items) if self.language_model else None
        terms = torch.from_numpy(self.propagation.terms(items)) if self.propagation else None
        return self.model.scores(states, terms, self.personal_gates, vectors)

    def _read_out(self, users: np.ndarray, items: list[np.ndarray]) -> Tensor:
        """Hidden states of the read-out positions, (B, width)."""
        ids, last = self.prompts(users.tolist(), items)
        rows = torch.from_numpy(ids)
        return self.model.read_out(rows, self.bias(ids), self.model.collaborative, torch.from_numpy(last))
