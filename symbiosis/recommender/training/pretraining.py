"""Pre-training: the corpus' texts and the users' interactions, in turns (docs/methods.md, section 1.5).

Content documents train the words and the `content` embeddings, interactions the `collaborative` ones; each batch pulls
its side towards the other (mutual regularisation). Interactions are learnt from the prompts of fine-tuning, with other
items hidden in every epoch, or, as published, from the documents that name all items of a user behind his own token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.loop import Row, Schedule
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


class Plan(NamedTuple):
    """What a batch is made from.

    Attributes
    ----------
    side
        Documents of texts, documents of interactions, or prompts.
    numbers
        int (rows,), of documents or, for prompts, users.
    seed
        Of all that is drawn for it.
    """

    side: Literal["content", "documents", "prompts"]
    numbers: np.ndarray
    seed: int


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
        prompts: Finetuning | None = None,
        group: ProcessGroup = ALONE,
    ) -> None:
        if prompts is None and params.interactions == "prompts" and params.interaction_epochs:
            raise ValueError("pre-training on prompts needs the task that makes them")
        self.model, self.bias, self.params, self.end, self.prompts, self.group = (
            model,
            bias,
            params,
            end,
            prompts,
            group,
        )
        self.content = [document for document in documents if not document.interactions]
        self.interactions = [document for document in documents if document.interactions]
        self.epochs = max(params.content_epochs, params.interaction_epochs)

    def schedule(self) -> Schedule:
        """Length of the training; texts are learnt to the end, and interactions as long as the ranking improves."""
        params = self.params
        patience = params.patience if self.prompts and params.interaction_epochs else None
        steps = sum(len(self.batches(epoch)) for epoch in range(self.epochs))
        return Schedule(params, self.epochs, steps, patience, params.content_epochs)

    def batches(self, epoch: int) -> list[Plan]:
        """Return plans of batches in random order; `loss` makes them."""
        params, rng = self.params, np.random.default_rng([self.params.seed, epoch])
        plans: list[Plan] = []
        if epoch < params.content_epochs:
            plans += self._grouped("content", self.content, rng)
        if epoch < params.interaction_epochs and params.interactions == "documents":
            plans += self._grouped("documents", self.interactions, rng)
        elif epoch < params.interaction_epochs:
            assert self.prompts is not None
            plans += [Plan("prompts", users, seed) for users, seed in self.prompts.batches(epoch)]
        return [plans[number] for number in rng.permutation(len(plans))]

    def _grouped(
        self, side: Literal["content", "documents"], documents: Sequence[Document], rng: np.random.Generator
    ) -> list[Plan]:
        """Group documents of like length, at most so many tokens a batch."""
        plans: list[Plan] = []
        if not documents:
            return plans
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
            plans.append(Plan(side, order[start:stop], int(rng.integers(2**31))))
            start = stop
        return plans

    def documents(self, plan: Plan) -> Sequence[Document]:
        """Return the documents that a plan numbers."""
        return self.interactions if plan.side == "documents" else self.content

    def make(self, plan: Plan) -> Batch:
        """Make a batch of documents from its plan."""
        interactions, rng = plan.side == "documents", np.random.default_rng(plan.seed)
        documents = self.documents(plan)
        rows = []
        for number in plan.numbers:
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

    def loss(self, plan: Plan) -> tuple[str, Tensor]:
        """Loss of the hidden items or of the documents' texts, the first token included, and mutual regularisation.

        The logits are made at the text's positions only. Each process sums over the tokens of its own rows, and divides
        by those of the whole batch; the first one adds the regularisation of the whole batch.
        """
        if plan.side == "prompts":
            assert self.prompts is not None
            return "interaction_loss", self.prompts.loss((plan.numbers, plan.seed))[1]
        batch, model, device = self.make(plan), self.model, self.group.device
        learning, fixed = model.content, model.collaborative
        if batch.interactions:
            learning, fixed = fixed, learning
        name = "interaction_loss" if batch.interactions else "content_loss"
        rows = self.group.rows(len(batch.ids))
        own = batch.rows(rows)
        if not len(own.ids):
            return name, torch.zeros((), requires_grad=True)
        targets = torch.from_numpy(own.targets).to(device)
        withheld = None
        if not batch.interactions and self.params.text_dropout:
            blank = np.random.default_rng([plan.seed, 1]).random(len(batch.ids)) < self.params.text_dropout
            is_item = own.ids >= model.n_words + model.n_users
            withheld = torch.from_numpy(is_item & blank[rows, None]).to(device)
        ids = torch.from_numpy(own.ids).to(device)
        hidden = model(ids, self.bias(own.ids), learning, withheld)[targets >= 0]
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
        """Metrics of the validation items as the network alone ranks them."""
        return self.prompts.validate() if self.prompts else {}
