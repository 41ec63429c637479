"""Free text of the pre-trained model, token by token: the reason for a recommendation.

The prompts are those of the corpus (`symbiosis.recommender.language.corpus`), read with the `content` embeddings and
the attention bias of pre-training. Only words are candidates, never a user or an item; the text ends with the end token
or after so many words. Every step reads the whole text again: reasons are a sentence long, and the network stays the
one that was trained, without a second way through it for cached keys.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from symbiosis.core.errors import InputError
from symbiosis.recommender.inference.settings import TrainingSettings
from symbiosis.recommender.language.corpus import harmless, reason_prompt
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.model import GraphGPT2


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes
    ----------
    temperature
        0 takes the most probable token; from there on tokens are drawn, the larger, the more evenly.
    top_k
        Only so many most probable tokens are candidates; 0: all.
    maximum_words
        Longest text.
    seed
        Of the draws; the same seed gives the same text.
    """

    temperature: float = 0.0
    top_k: int = 0
    maximum_words: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled with.

        Raises
        ------
        InputError
            A value is out of range.
        """
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature} must be a number not below 0")
        least = {"top_k": 0, "maximum_words": 1, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise InputError(f"{name} {getattr(self, name)} must be at least {minimum}")
        if self.seed >= 1 << 63:
            raise InputError(f"seed {self.seed} must be below 2 to the power of 63")


class Writer:
    """A pre-trained model that goes on with prompts.

    Parameters
    ----------
    model, vocabulary, bias
        The network, its words and its attention bias.
    """

    def __init__(self, model: GraphGPT2, vocabulary: Vocabulary, bias: AttentionBias) -> None:
        self.model, self.vocabulary, self.bias = model.eval(), vocabulary, bias

    @classmethod
    def load(cls, folder: Path | str, graph: Path | str, distances: Path | str) -> "Writer":
        """Read what the stage `pretrain` wrote, and of the graph what its bias asks for.

        Raises
        ------
        InputError
            A file is missing or damaged, or the model was never trained on texts.
        """
        folder = Path(folder)
        settings = TrainingSettings.load(folder, stage="pretrain")
        if not settings.content_epochs:  # an older model does not say
            raise InputError(
                f"{folder} was pre-trained without texts and can write none: set `pretrain.content_epochs` to 3 or so "
                "in params.yaml and run `dvc repro pretrain`"
            )
        model = GraphGPT2.load(folder)
        vocabulary = Vocabulary.load(folder / "tokenizer.json", model.n_users, model.n_items)
        return cls(model, vocabulary, AttentionBias.load(settings.bias, model, graph, distances))

    def reason(self, user: int, item: int, sampling: Sampling) -> str:
        """Write why a user would purchase an item."""
        return self.write(reason_prompt(user, item), sampling)

    def write(self, prompt: str, sampling: Sampling) -> str:
        """Go on with a prompt of the corpus.

        Returns
        -------
        str
            One line; what looks like a user or item token is broken up, as in the corpus.

        Raises
        ------
        InputError
            The prompt leaves no room for a text.
        """
        (ids,) = self.vocabulary.encode([prompt])
        return self._readable(self.continuation(ids, sampling), sampling.maximum_words)

    @torch.no_grad()
    def continuation(self, prompt: np.ndarray, sampling: Sampling) -> list[int]:
        """Token ids of a text after a prompt, without the end token.

        The end token is no candidate for the first place: an empty text would say nothing.

        Parameters
        ----------
        prompt
            int, shape (length,).
        sampling
            How tokens are chosen.

        Raises
        ------
        InputError
            The prompt leaves no room for a text.
        """
        room = self.model.config.n_positions - len(prompt)
        if room < 1:
            raise InputError(
                f"a prompt of {len(prompt)} tokens leaves no room in the {self.model.config.n_positions} positions of "
                "the model: raise `pretrain.maximum_length`"
            )
        generator = torch.Generator().manual_seed(sampling.seed)
        text: list[int] = []
        while len(text) < room and len(self._decoded(text).split()) <= sampling.maximum_words:
            ids = np.concatenate([prompt, text]).astype(np.int64)[None]
            hidden = self.model(torch.from_numpy(ids), self.bias(ids), self.model.content)
            logits = self.model.word_logits(hidden[0, -1]).float()
            if not text:
                logits[self.vocabulary.end] = -torch.inf
            token = chosen(logits, sampling, generator)
            if token == self.vocabulary.end:
                break
            text.append(token)
        return text

    def _decoded(self, text: list[int]) -> str:
        return str(self.vocabulary.tokenizer.decode(text))

    def _readable(self, text: list[int], maximum_words: int) -> str:
        """Text without control characters, which bytes drawn at random may form."""
        printable = "".join(c if c.isprintable() else " " for c in self._decoded(text))
        return harmless(printable, maximum_words)


def chosen(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose a token.

    Parameters
    ----------
    logits
        float32 (W,).
    sampling
        Temperature and number of candidates.
    generator
        Of the draw; it is not used at temperature 0.

    Examples
    --------
    >>> chosen(torch.tensor([0.0, 2.0, 1.0]), Sampling(), torch.Generator())
    1
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    if 0 < sampling.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -torch.inf)
    # The largest is taken off first, so that a temperature near 0 divides no large number; float32 has no 1e300.
    temperature = min(max(sampling.temperature, 1e-30), 1e30)
    weights = torch.softmax((logits - logits.max()) / temperature, dim=0)
    return int(torch.multinomial(weights, 1, generator=generator))
