"""Params of the re-ranker."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams
from symbiosis.recommender.reranking.stage_one import Hidden

Connectivity = Literal["none", "ones", "paper", "learned"]
"""R between candidates and history: none; 1 between any two; by hop distance as published; a learned matrix a layer."""


class BackboneSizes(StageParams):
    """Sizes of a GPT-2 that starts from random weights."""

    width: int = Field(ge=8, multiple_of=4)
    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1)


class RerankParams(StageParams):
    """The second look at the best candidates.

    Attributes
    ----------
    seed
        Of folds, hidden items, initial weights, batches and dropout.
    candidates
        That stage one proposes for every user and the re-ranker orders; 0: there is no re-ranker.
    hidden, decay, directed, targets
        See `symbiosis.recommender.reranking.stage_one.fit_stage_one`.
    rivals
        Candidates of a training group that are learned from, the hidden ones among them.
    features
        Whether a small network scores the features of each candidate: a graph head that is not linear.
    language_model
        Whether GPT-2 reads history and candidates.
    start
        ``pretrained``: sizes and weights are those of the pre-trained model; ``random``: those of `random`, drawn.
    random
        Sizes of a GPT-2 that is not pre-trained.
    connectivity
        See `Connectivity`.
    maximum_items
        Latest items of a history that are read.
    networks
        Are trained, each from another seed; their scores are averaged.
    score_weights
        Tried on validation: what the score weighs that the fine-tuned model gave a candidate.
    epochs, patience
        At most; stop after so many without a better score on validation.
    groups_per_batch
        Histories in one step.
    learning_rate, connectivity_rate
        Peak rates, of R's matrices and of all else.
    weight_decay, dropout, warmup_share
        As in fine-tuning.
    checkpoint_seconds
        How often a state to resume from is due.
    """

    seed: int = Field(ge=0)
    candidates: int = Field(ge=0)
    hidden: Hidden
    decay: float = Field(gt=0, le=1)
    directed: bool
    targets: int = Field(ge=1)
    rivals: int = Field(ge=2)
    features: bool
    language_model: bool
    start: Literal["pretrained", "random"]
    random: BackboneSizes
    connectivity: Connectivity
    maximum_items: int = Field(ge=1)
    networks: int = Field(ge=1)
    score_weights: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    groups_per_batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    connectivity_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    warmup_share: float = Field(ge=0, lt=1)
    checkpoint_seconds: float = Field(ge=0)

    @property
    def precision(self) -> str:
        """Of the forward pass."""
        return "float32"

    @model_validator(mode="after")
    def _something_orders(self) -> "RerankParams":
        if self.candidates and not (self.features or self.language_model):
            raise ValueError("without `features` and without `language_model` nothing orders the candidates")
        return self
