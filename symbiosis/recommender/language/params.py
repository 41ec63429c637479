"""Params of the corpus and of the item texts."""

from pydantic import Field

from symbiosis.core.params import StageParams


class CorpusParams(StageParams):
    """Which documents are written and how long their parts may be."""

    seed: int = Field(ge=0)
    reviews: bool
    second_order: bool
    items_per_list: int = Field(ge=2, le=256)
    lists_per_group: int = Field(ge=1)
    maximum_words: int = Field(ge=1)


class EmbedItemsParams(StageParams):
    """How the items' texts are embedded: `tfidf_svd`, `smollm2-135m`, or a sentence encoder by name."""

    seed: int = Field(ge=0)
    encoder: str = Field(min_length=1)
    revision: str | None
    dimensions: int = Field(ge=1)
    maximum_tokens: int = Field(ge=8)
