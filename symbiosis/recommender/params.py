"""Params of the language model's stages and of `evaluate`; a baseline's stand in its own module."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from symbiosis.stage import StageParams

Tune = Literal["full", "frozen", "lora"]
"""What is trained of the backbone, see `symbiosis.recommender.tuning`."""


class CorpusParams(StageParams):
    """Which documents are written and how long their parts may be."""

    seed: int = Field(ge=0)
    reviews: bool
    second_order: bool
    items_per_list: int = Field(ge=2, le=256)
    lists_per_group: int = Field(ge=1)
    maximum_words: int = Field(ge=1)


class EmbedItemsParams(StageParams):
    """How the items' texts are embedded: `tfidf_svd`, or a sentence encoder by name."""

    seed: int = Field(ge=0)
    encoder: str = Field(min_length=1)
    revision: str | None
    dimensions: int = Field(ge=1)
    maximum_tokens: int = Field(ge=8)


class PropagationParams(StageParams):
    """Walks between items that carry strength from a user's items to the candidates."""

    seed: int = Field(ge=0)
    folds: int = Field(ge=2, le=255)
    alpha: float = Field(ge=0)
    neighbours: int = Field(ge=1)


class ScratchModel(StageParams):
    """The small GPT-2 that is trained from nothing when `base_model` is `scratch`."""

    vocabulary: int = Field(ge=300, le=60_000)
    width: int = Field(ge=8, multiple_of=4)
    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1)


class LoraParams(StageParams):
    """Low-rank adapters: ``W + alpha / rank * B A``; read where `tune` is `lora`."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)


class PretrainParams(StageParams):
    """The language model and its training on the corpus."""

    seed: int = Field(ge=0)
    base_model: str
    revision: str | None
    scratch: ScratchModel
    tune: Tune
    lora: LoraParams
    bias: Literal["none", "ones", "paper", "learned"]
    content: bool
    user_scale: float = Field(ge=0)
    item_scale: float = Field(ge=0)
    maximum_length: int = Field(ge=16, le=1024)
    content_epochs: int = Field(ge=0)
    interaction_epochs: int = Field(ge=0)
    tokens_per_batch: int = Field(ge=64)
    learning_rate: float = Field(gt=0)
    id_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    warmup_share: float = Field(ge=0, lt=1)
    regularisation: float = Field(ge=0)
    precision: Literal["float32", "bfloat16"]
    checkpoint_seconds: float = Field(ge=0)

    @model_validator(mode="after")
    def _something_to_start_from(self) -> "PretrainParams":
        if self.base_model == "scratch" and self.tune != "full":
            raise ValueError(f"`tune: {self.tune}` would leave the scratch network as it was drawn: use `tune: full`")
        return self


class FinetuneParams(StageParams):
    """Training on personalised prompts: hidden items are predicted from the user and the visible ones."""

    seed: int = Field(ge=0)
    objective: Literal["likelihood", "rating"]
    epochs: int = Field(ge=0)
    patience: int = Field(ge=1)
    users_per_batch: int = Field(ge=1)
    hidden_share: float = Field(gt=0, lt=1)
    language_model: bool
    graph_term: bool
    personal_gates: bool
    maximum_items: int = Field(ge=1)
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

    @model_validator(mode="after")
    def _something_scores(self) -> "FinetuneParams":
        if not (self.language_model or self.graph_term):
            raise ValueError("without `language_model` and without `graph_term` nothing scores the items")
        return self


class BaselineNames(StageParams):
    """The baselines of the table by what they share: each kind is one stage of the pipeline."""

    simple: list[str] = Field(min_length=1)
    neural: list[str]
    sequential: list[str]

    def all(self) -> list[str]:
        """Every name, in the order of the table."""
        return [*self.simple, *self.neural, *self.sequential]


class EvaluateParams(StageParams):
    """Which baselines stand in the table and how the intervals are made."""

    seed: int = Field(ge=0)
    baselines: BaselineNames
    mask_validation: bool
    bootstrap_samples: int = Field(ge=100)

    @field_validator("baselines")
    @classmethod
    def _each_once(cls, names: BaselineNames) -> BaselineNames:
        if len(set(names.all())) < len(names.all()):
            raise ValueError("names a baseline twice")
        return names
