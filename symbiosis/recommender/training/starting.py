"""What fine-tuning starts from and what it writes: the same for the model that is measured and for the final fit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias, BiasMode
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.adapters import adapt
from symbiosis.recommender.training.params import FinetuneParams, PromptParams


def prompts_of(vocabulary: Vocabulary, model: GraphGPT2, params: PromptParams, block: str) -> Prompts:
    """Make the prompts of a training.

    Raises
    ------
    InputError
        The longest one does not fit into the network; `block` is that of the params, for the message.
    """
    prompts = Prompts(vocabulary, params.maximum_items)
    if prompts.overhead + params.maximum_items > model.config.n_positions:
        raise InputError(
            f"params.yaml: `{block}.maximum_items` {params.maximum_items} gives prompts of "
            f"{prompts.overhead + params.maximum_items} tokens, more than `pretrain.maximum_length` "
            f"{model.config.n_positions}"
        )
    return prompts


@dataclass(frozen=True)
class Start:
    """A pre-trained network, ready to be fine-tuned.

    Attributes
    ----------
    params
        Of the fine-tuning.
    model, vocabulary, prompts
        The network, its words and the prompts that it will read.
    mode
        Of its attention bias.
    merge
        Puts adapters into the weights, once training is over.
    """

    params: FinetuneParams
    model: GraphGPT2
    vocabulary: Vocabulary
    prompts: Prompts
    mode: BiasMode
    merge: Callable[[], None]

    @classmethod
    def load(cls, pretrained: Path, params: FinetuneParams) -> "Start":
        """Read what the stage `pretrain` wrote; torch must be seeded before.

        Raises
        ------
        InputError
            A file is missing or damaged, or the longest prompt does not fit into the network.
        """
        settings = read_json(pretrained / "training.json")
        model = GraphGPT2.load(pretrained, params.dropout)
        merge = adapt(model, params.tune, params.lora)
        vocabulary = Vocabulary.load(pretrained / "tokenizer.json", model.n_users, model.n_items)
        prompts = prompts_of(vocabulary, model, params, "finetune")
        return cls(params, model, vocabulary, prompts, settings["bias"], merge)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and items."""
        return self.model.n_users, self.model.n_items

    def bias(self, graph: Path, distances: Path) -> AttentionBias:
        """Read what the attention bias asks for."""
        return AttentionBias.load(self.mode, self.model, graph, distances)

    def save(self, folder: Path, identity: str, best: dict[str, float], mean_rating: float | None, data: str) -> None:
        """Write the trained network and all that scoring needs to know of its training.

        Parameters
        ----------
        folder
            Exists and is empty.
        identity
            Fingerprint of the training.
        best
            The row of its curve that the weights belong to.
        mean_rating
            Of the ratings it learned from; None without them.
        data
            ``train``, or ``all`` if held-out interactions were learned from too: then nothing may measure it.
        """
        self.model.save(folder)
        self.vocabulary.save(folder / "tokenizer.json")
        described: dict[str, Any] = {
            "fingerprint": identity,
            "data": data,
            "bias": self.mode,
            "graph_term": self.params.graph_term,
            "language_model": self.params.language_model,
            "mean_rating": mean_rating,
            "personal_gates": self.params.personal_gates,
            "maximum_items": self.params.maximum_items,
            "seed": self.params.seed,
            "best": best,
        }
        write_json(folder / "training.json", described)
