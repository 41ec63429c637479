"""Score every item for a user with one forward pass."""

from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from symbiosis.artifacts import read_json
from symbiosis.recommender.attention import AttentionBias
from symbiosis.recommender.interactions import items_of
from symbiosis.recommender.model import GraphGPT2
from symbiosis.recommender.prompts import Prompts
from symbiosis.recommender.propagation import Propagation
from symbiosis.recommender.tokens import Vocabulary


class Recommender:
    """A fine-tuned model and what it needs to answer.

    Parameters
    ----------
    model, prompts, bias
        The network and its inputs.
    propagation
        The graph's terms of the item logits; None leaves them out.
    seed
        Of the order of the items in a prompt, which means nothing and is drawn once per user.
    personal_gates
        Whether the gates of the graph's terms depend on the prompt.
    """

    def __init__(
        self,
        model: GraphGPT2,
        prompts: Prompts,
        bias: AttentionBias,
        propagation: Propagation | None,
        seed: int,
        *,
        personal_gates: bool = True,
    ) -> None:
        self.model, self.prompts, self.bias, self.propagation, self.seed = model, prompts, bias, propagation, seed
        self.personal_gates = personal_gates

    @classmethod
    def load(
        cls, folder: Path | str, graph: Path | str, distances: Path | str, propagation: Path | str
    ) -> "Recommender":
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
        strengths = Propagation.load(propagation) if settings["graph_term"] else None
        prompts = Prompts(vocabulary, settings["maximum_items"])
        gates = settings["personal_gates"]
        return cls(model, prompts, bias, strengths, settings["seed"], personal_gates=gates)

    @torch.no_grad()
    def scores(self, users: np.ndarray, train: csr_array, rows: int = 512) -> np.ndarray:
        """Score all items; nothing is masked.

        Parameters
        ----------
        users
            int, shape (users,).
        train
            (U, I); the stored items of a user stand in his prompt.
        rows
            Prompts in one forward pass.

        Returns
        -------
        float32 array of shape (users, I)
        """
        order = np.argsort(np.diff(train.indptr)[users], kind="stable")
        result = np.empty((len(users), self.model.n_items), dtype=np.float32)
        for start in range(0, len(users), rows):
            places = order[start : start + rows]
            block = users[places]
            items = [np.random.default_rng([self.seed, int(user)]).permutation(items_of(train, user)) for user in block]
            ids, last = self.prompts(block.tolist(), items)
            hidden = self.model(torch.from_numpy(ids), self.bias(ids), self.model.collaborative)
            states = hidden[torch.arange(len(block)), torch.from_numpy(last)]
            result[places] = self.model.item_logits(states).numpy()
            if self.propagation:
                terms = torch.from_numpy(self.propagation.terms(items))
                result[places] += self.model.graph_logits(terms, states if self.personal_gates else None).numpy()
        return result
