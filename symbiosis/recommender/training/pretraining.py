"""Pre-training: language modelling of the corpus' texts and of the users' item sequences, in turns.

Content documents train the words and the `content` embeddings, interaction documents the `collaborative` ones
(docs/methods.md, section 1.5); each batch pulls its side towards the other (mutual regularisation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.recommender.language.prompts import PHRASES
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import load_pretrained, scratch_config
from symbiosis.recommender.network.decoders import Decoder
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.loop import Row
from symbiosis.recommender.training.params import PretrainParams
from symbiosis.recommender.training.process_group import ALONE, ProcessGroup

LEAST_TEXT = 8  # tokens of the text that truncation always leaves


@dataclass(frozen=True)
class Document:
    """An encoded document.

    Attributes
    ----------
    prompt, text
        Token ids; the loss is on the text only.
    interactions
        Whether the text is a set of items, drawn in a new order each time.
    """

    prompt: np.ndarray
    text: np.ndarray
    interactions: bool


@dataclass(frozen=True)
class Batch:
    """Rows of one kind, filled up on the right.

    Attributes
    ----------
    ids
        int64, shape (rows, length).
    targets
        int64, shape (rows, length): the next token where it belongs to a text, else -1.
    interactions
        Whether the targets are items.
    """

    ids: np.ndarray
    targets: np.ndarray
    interactions: bool

    def rows(self, chosen: slice) -> "Batch":
        """Return some of the rows, no longer than the longest of them."""
        ids, targets = self.ids[chosen], self.targets[chosen]
        # The last token of a row is the target of the one before it.
        length = int(np.flatnonzero((targets >= 0).any(axis=0))[-1]) + 2 if len(ids) else 0
        return Batch(ids[:, :length], targets[:, :length], self.interactions)


def untrained(
    params: PretrainParams, documents: pl.DataFrame, graph: Graph, texts: Tensor | None
) -> tuple[GraphGPT2, Vocabulary]:
    """Make the model and the vocabulary that pre-training starts from.

    Either small and from scratch, with a tokenizer trained on the corpus, or published weights with new ID embeddings.
    `texts` are the embeddings of the items' texts, or None to leave them out of the item vectors.
    """
    n_users, n_items = graph.n_users, graph.n_items
    warm = torch.from_numpy(np.diff(graph.item_offsets) > 0)
    vectors = (texts, warm, params.user_scale, params.item_scale)
    if params.base_model == "scratch":
        small = params.scratch
        # Each user is asked for once: the phrases of fine-tuning count as often, so that they become few tokens.
        words_of = [*documents["prompt"], *documents["text"], *PHRASES * n_users]
        tokenizer = train_tokenizer(words_of, small.vocabulary)
        words = tokenizer.get_vocab_size()
        config = scratch_config(words, small.width, small.layers, small.heads, params.maximum_length, params.dropout)
        return GraphGPT2(config, n_users, n_items, *vectors), Vocabulary(tokenizer, n_users, n_items)
    backbone, description = load_pretrained(params.base_model, params.revision, params.dropout, params.base_layers)
    if params.maximum_length > backbone.config.n_positions:
        raise InputError(
            f"params.yaml: `pretrain.maximum_length` {params.maximum_length} is more than the "
            f"{backbone.config.n_positions} positions of {params.base_model}"
        )
    tokenizer = Tokenizer.from_str(description)
    model = GraphGPT2(backbone.config, n_users, n_items, *vectors, backbone=backbone)
    vocabulary = Vocabulary(tokenizer, n_users, n_items)
    if isinstance(backbone, Decoder):
        start_from_titles(model, vocabulary, documents)
    return model, vocabulary


@torch.no_grad()
def start_from_titles(model: GraphGPT2, vocabulary: Vocabulary, documents: pl.DataFrame) -> None:
    """Let the free vectors of items begin at the mean vector of their titles' words, so that the network can read them.

    What an item adds to that is learnt; items without a title, and all users, keep what was drawn.

    Parameters
    ----------
    model
        Its two tables of ID embeddings are changed.
    vocabulary
        Of its words.
    documents
        The corpus; those of the kind ``title`` count.
    """
    if not model.item_scale:  # no free vectors
        return
    titles = documents.filter(pl.col("kind") == "title")
    encoded = zip(vocabulary.encode(titles["prompt"]), vocabulary.encode(titles["text"]), strict=True)
    for prompt, words in encoded:
        node = int(prompt.max()) - model.n_words
        if len(words):
            start = model.backbone.wte(torch.from_numpy(words).long()).mean(dim=0) / model.item_scale
            model.content.weight[node] = start
            model.collaborative.weight[node] = start


def encode_corpus(documents: pl.DataFrame, vocabulary: Vocabulary) -> list[Document]:
    """Encode every document; a text ends with the end token.

    Parameters
    ----------
    documents
        Columns ``kind, prompt, text``.
    vocabulary
        The id space.
    """
    prompts, texts = vocabulary.encode(documents["prompt"]), vocabulary.encode(documents["text"])
    end = np.array([vocabulary.end], dtype=np.int32)
    return [
        Document(prompt, text if kind == "interactions" else np.concatenate([text, end]), kind == "interactions")
        for kind, prompt, text in zip(documents["kind"], prompts, texts, strict=True)
    ]


def fitted(prompt: np.ndarray, text: np.ndarray, maximum_length: int, n_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Shorten a document to a length without cutting its question.

    First the end of the text goes, down to `LEAST_TEXT` tokens; then the last listed users and items of the prompt.
    The words of the prompt, which say what is asked, always stay.

    Raises
    ------
    InputError
        The words of the prompt alone do not fit.
    """
    text = text[: max(maximum_length - len(prompt), min(len(text), LEAST_TEXT))]
    excess = len(prompt) + len(text) - maximum_length
    if excess > 0:
        listed = np.flatnonzero(prompt >= n_words)
        if len(listed) <= excess:
            raise InputError(
                f"params.yaml: `pretrain.maximum_length` {maximum_length} is too short for a prompt of "
                f"{len(prompt)} tokens"
            )
        prompt = np.delete(prompt, listed[-excess:])
    return prompt, text


class Pretraining:
    """The batches and the loss of pre-training; a `symbiosis.recommender.training.loop.Task`."""

    def __init__(
        self,
        model: GraphGPT2,
        documents: Sequence[Document],
        bias: AttentionBias,
        params: PretrainParams,
        end: int,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.model, self.bias, self.params, self.end, self.group = model, bias, params, end, group
        self.sides = {
            False: ([d for d in documents if not d.interactions], params.content_epochs),
            True: ([d for d in documents if d.interactions], params.interaction_epochs),
        }
        self.epochs = max(params.content_epochs, params.interaction_epochs)

    def steps(self) -> int:
        """Steps of all epochs."""
        return sum(len(self._plan(epoch)) for epoch in range(self.epochs))

    def batches(self, epoch: int) -> Sequence[tuple[bool, np.ndarray, int]]:
        """Return plans of batches (side, document numbers, seed of the item order); `loss` makes them."""
        return self._plan(epoch)

    def _plan(self, epoch: int) -> list[tuple[bool, np.ndarray, int]]:
        """Group documents of like length, at most so many tokens a batch, in random order."""
        rng = np.random.default_rng([self.params.seed, epoch])
        plan: list[tuple[bool, np.ndarray, int]] = []
        for interactions, (documents, epochs) in self.sides.items():
            if epoch >= epochs or not documents:
                continue
            lengths = np.minimum([len(d.prompt) + len(d.text) for d in documents], self.params.maximum_length)
            # A little noise mixes documents of neighbouring lengths anew each epoch.
            order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
            start = 0
            while start < len(order):
                stop, longest = start, 0
                while stop < len(order):
                    longest = max(longest, int(lengths[order[stop]]))
                    if stop > start and longest * (stop + 1 - start) > self.params.tokens_per_batch:
                        break
                    stop += 1
                plan.append((interactions, order[start:stop], int(rng.integers(2**31))))
                start = stop
        return [plan[number] for number in rng.permutation(len(plan))]

    def make(self, plan: tuple[bool, np.ndarray, int]) -> Batch:
        """Make a batch from its plan."""
        interactions, numbers, seed = plan
        documents, rng = self.sides[interactions][0], np.random.default_rng(seed)
        rows = []
        for number in numbers:
            document = documents[number]
            text = rng.permutation(document.text) if interactions else document.text
            rows.append(fitted(document.prompt, text, self.params.maximum_length, self.model.n_words))
        length = max(len(prompt) + len(text) for prompt, text in rows)
        ids = np.full((len(rows), length), self.end, dtype=np.int64)
        targets = np.full((len(rows), length), -1, dtype=np.int64)
        for row, (prompt, text) in enumerate(rows):
            stop = len(prompt) + len(text)
            ids[row, :stop] = np.concatenate([prompt, text])
            targets[row, len(prompt) - 1 : stop - 1] = text
        return Batch(ids, targets, interactions)

    def loss(self, plan: tuple[bool, np.ndarray, int]) -> tuple[str, Tensor]:
        """Cross-entropy of the texts' tokens, the first one included, plus the mutual regularisation.

        The logits are made at the text's positions only. Each process sums over the tokens of its own rows, and divides
        by those of the whole batch; the first one adds the regularisation of the whole batch.
        """
        batch, model, device = self.make(plan), self.model, self.group.device
        learning, fixed = model.content, model.collaborative
        if batch.interactions:
            learning, fixed = fixed, learning
        name = "interaction_loss" if batch.interactions else "content_loss"
        own = batch.rows(self.group.rows(len(batch.ids)))
        if not len(own.ids):
            return name, torch.zeros((), requires_grad=True)
        targets = torch.from_numpy(own.targets).to(device)
        hidden = model(torch.from_numpy(own.ids).to(device), self.bias(own.ids), learning)[targets >= 0]
        wanted = targets[targets >= 0]
        if batch.interactions:
            logits, wanted = model.item_logits(hidden), wanted - model.n_words - model.n_users
        else:
            logits = model.word_logits(hidden)
        loss = F.cross_entropy(logits.float(), wanted, reduction="sum") / int((batch.targets >= 0).sum())
        if self.group.leads:
            ids = torch.from_numpy(batch.ids).to(device)
            loss = loss + self.params.regularisation * model.disagreement(ids, learning, fixed)
        return name, loss

    def validate(self) -> Row:
        """Nothing is chosen in pre-training."""
        return {}
