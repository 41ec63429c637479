"""Params of the stages `download` and `clean`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams


class RemoteFile(StageParams):
    """What is known of a file before it is fetched; a mismatch stops the download."""

    url: str | None = None
    size: int | None = Field(None, ge=1)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class SyntheticReviews(StageParams):
    """Size and shape of the synthetic review source; see `symbiosis.reviews.synthetic`."""

    users: int = Field(ge=10)
    items: int = Field(ge=10)
    interactions: int  # good ratings; what the rating filter and the 5-core leave
    drift: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> "SyntheticReviews":
        least, most = 6 * max(self.users, self.items), self.users * self.items // 3
        if not least <= self.interactions <= most:
            raise ValueError(
                f"interactions must lie from {least:,} (6 of each user and item) to {most:,} (a third of all pairs)"
            )
        return self


class DownloadParams(StageParams):
    """Where the reviews and the item metadata come from."""

    seed: int = Field(ge=0)
    source: Literal["synthetic", "amazon2014", "amazon2018", "local"]
    category: str = Field(pattern="^[A-Za-z0-9_]+$")
    folder: str
    reviews: RemoteFile
    metadata: RemoteFile
    synthetic: SyntheticReviews


class CleanParams(StageParams):
    """How reviews become interactions and how these are split."""

    seed: int = Field(ge=0)
    minimum_rating: float = Field(ge=0, le=5)
    core: int = Field(ge=3)  # each user needs one interaction for training, one for validation and one for test
    split: Literal["random", "temporal"]
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)
    cold_item_share: float = Field(ge=0, lt=0.5)
    graph_edges: Literal["train", "all"]
    maximum_rejected_share: float = Field(ge=0, le=1)
    require_titles: bool
