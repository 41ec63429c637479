"""Params of the encoder, the tags and the query vectors."""

from typing import Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams


class LlmTaggerParams(StageParams):
    """An OpenAI-compatible endpoint; see `symbiosis.routing.queries.llm_tagger.LlmTagger`."""

    url: str
    model: str
    key_variable: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1)


class TagParams(StageParams):
    """Where the tags of offline queries come from, and how they are grouped; see `symbiosis.routing.queries.tags`."""

    source: Literal["metadata", "key_phrases", "clusters", "llm"]
    domains: int = Field(ge=2)
    minimum: int = Field(ge=1)
    phrases: int = Field(ge=1)
    llm: LlmTaggerParams


class TrainEncoderParams(StageParams):
    """The sentence encoder and its fine-tuning."""

    seed: int = Field(ge=0)
    encoder: str
    revision: str | None
    maximum_tokens: int = Field(ge=8)
    layers: int | None = Field(default=None, ge=1)
    objective: Literal["none", "tags", "quality"]
    precision: Literal["float32", "bfloat16"]
    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    temperature: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    inter_weight: float = Field(ge=0)
    tags: TagParams

    @model_validator(mode="after")
    def _layers_are_not_trained(self) -> "TrainEncoderParams":
        if self.layers is not None and self.objective != "none":
            raise ValueError(
                f"`layers` is for the objective none, and training is of all layers: set it to null, or "
                f"`objective` from {self.objective} to none"
            )
        return self


class EmbedQueriesParams(StageParams):
    """How queries are embedded."""

    shape_weight: float = Field(ge=0)
    precision: Literal["float32", "bfloat16", "int8"]
