"""Params of pre-training and fine-tuning."""

from typing import Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams

Tune = Literal["full", "frozen", "lora"]
"""What is trained of the backbone, see `symbiosis.recommender.training.adapters`."""


class ScratchModel(StageParams):
    """The small GPT-2 that is trained from scratch when `base_model` is `scratch`."""

    vocabulary: int = Field(ge=300, le=60_000)
    width: int = Field(ge=8, multiple_of=4)
    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1)


class LoraParams(StageParams):
    """Low-rank adapters: ``W + alpha / rank * B A``; read where `tune` is `lora`."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)


class TrainingParams(StageParams):
    """What pre-training and fine-tuning have in common: the network's start, the optimiser, checkpoints.

    Attributes
    ----------
    seed
        Of initial weights, batches and dropout.
    tune, lora
        Which weights of the backbone are trained.
    learning_rate, id_learning_rate
        Peak rates of the backbone and of the ID embeddings.
    weight_decay
        Decoupled decay of matrices; vectors (biases, norms) have none.
    dropout
        Of the backbone.
    warmup_share
        Share of the steps spent warming up.
    regularisation
        Weight of the mutual regularisation of the two ID embeddings.
    precision
        Of the forward pass.
    checkpoint_seconds
        How often a state to resume from is due.
    processes
        That share every batch.
    launcher
        What starts them, if there are several, see `symbiosis.recommender.training.launching`.

    The last two are left out where params are written as JSON, and so out of the fingerprint: a training that was
    killed may go on with others.
    """

    seed: int = Field(ge=0)
    tune: Tune
    lora: LoraParams
    learning_rate: float = Field(gt=0)
    id_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    warmup_share: float = Field(ge=0, lt=1)
    regularisation: float = Field(ge=0)
    precision: Literal["float32", "bfloat16"]
    checkpoint_seconds: float = Field(ge=0)
    processes: int = Field(ge=1, exclude=True)
    launcher: Literal["torchrun", "ray"] = Field(exclude=True)


class PromptParams(TrainingParams):
    """Training on personalised prompts, which hide a part of a user's training items and ask for it.

    Attributes
    ----------
    users_per_batch
        Prompts of a batch.
    hidden_share
        Share of a user's items that is hidden, drawn anew in every epoch.
    maximum_items
        That a prompt names at most.
    user_dropout
        Share of the prompts whose user has no vector of his own, so that the items alone must do (Volkovs et al. 2017,
        DropoutNet).
    """

    users_per_batch: int = Field(ge=1)
    hidden_share: float = Field(gt=0, lt=1)
    maximum_items: int = Field(ge=1)
    user_dropout: float = Field(ge=0, le=1)


class PretrainParams(PromptParams):
    """The language model and its training on texts and interactions.

    Attributes
    ----------
    interactions
        ``prompts``: those of fine-tuning; ``documents``: item after item of the corpus, behind the user's own token.
    patience
        Epochs without a better ranking of the validation items after which training stops and the best one is kept;
        None: nothing is validated, and the last one is kept.
    text_dropout
        Share of the content documents whose items have no vector of their text, which is what they have to write.
    """

    base_model: str
    base_layers: int | None = Field(ge=1)
    revision: str | None
    scratch: ScratchModel
    bias: Literal["none", "ones", "paper", "learned"]
    content: bool
    user_scale: float = Field(ge=0)
    item_scale: float = Field(ge=0)
    maximum_length: int = Field(ge=16, le=1024)
    content_epochs: int = Field(ge=0)
    interaction_epochs: int = Field(ge=0)
    interactions: Literal["prompts", "documents"]
    patience: int | None = Field(ge=1)
    text_dropout: float = Field(ge=0, le=1)
    tokens_per_batch: int = Field(ge=64)

    @model_validator(mode="after")
    def _something_to_start_from(self) -> "PretrainParams":
        if self.base_model == "scratch" and self.tune != "full":
            raise ValueError(f"`tune: {self.tune}` would leave the scratch network as it was drawn: use `tune: full`")
        return self

    def of_prompts(self) -> "FinetuneParams":
        """Return the params of fine-tuning's task for prompts that the network alone answers."""
        return FinetuneParams(
            **{name: getattr(self, name) for name in PromptParams.model_fields},
            objective="likelihood",
            epochs=self.interaction_epochs,
            patience=self.patience or 1,
            language_model=True,
            graph_term=False,
            personal_gates=False,
        )


class FinetuneParams(PromptParams):
    """Training on personalised prompts: hidden items are predicted from the user and the visible ones."""

    objective: Literal["likelihood", "rating"]
    epochs: int = Field(ge=0)
    patience: int = Field(ge=1)
    language_model: bool
    graph_term: bool
    personal_gates: bool

    @model_validator(mode="after")
    def _something_scores(self) -> "FinetuneParams":
        if not (self.language_model or self.graph_term):
            raise ValueError("without `language_model` and without `graph_term` nothing scores the items")
        return self


class FinalFitParams(StageParams):
    """What the recommender that serves has learned from.

    Attributes
    ----------
    seed
        Of the order of the batches and of dropout, where it is trained again.
    data
        ``train``: it is the model that was measured, to the byte; ``all``: trained once more, on validation and test
        interactions too, as long as the measured one; nobody can tell how good it is.
    """

    seed: int = Field(ge=0)
    data: Literal["train", "all"]
