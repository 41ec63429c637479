"""Params of the stages `download` and `clean`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams

Benchmark = Literal[
    "0core/rating_only", "0core/last_out", "0core/last_out_w_his", "0core/timestamp", "0core/timestamp_w_his",
    "5core/rating_only", "5core/last_out", "5core/last_out_w_his", "5core/timestamp", "5core/timestamp_w_his",
]  # fmt: skip
"""Published with Amazon Reviews 2023: core and split; ``_w_his`` repeats the user's history in every row."""


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
    release: Literal[2018, 2023] = 2018  # whose form the files have

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
    source: Literal["synthetic", "amazon2014", "amazon2018", "amazon2023", "local"]
    category: str = Field(pattern="^[A-Za-z0-9_]+$")
    folder: str
    benchmark: Benchmark | None = None  # amazon2023: a published benchmark instead of the raw reviews
    reviews: RemoteFile
    metadata: RemoteFile
    synthetic: SyntheticReviews

    @model_validator(mode="after")
    def _of_2023(self) -> "DownloadParams":
        if self.benchmark is None:
            return self
        if self.source != "amazon2023" and not (self.source == "synthetic" and self.synthetic.release == 2023):
            raise ValueError("benchmark needs source: amazon2023, or synthetic with synthetic.release: 2023")
        if not self.benchmark.endswith("/rating_only") and any(self.reviews.model_dump().values()):
            raise ValueError("reviews.url, size and sha256 tell of one file, but a published split has three")
        return self


class CleanParams(StageParams):
    """How reviews become interactions and how these are split."""

    seed: int = Field(ge=0)
    minimum_rating: float = Field(ge=0, le=5)
    core: int = Field(ge=3)  # each user needs one interaction for training, one for validation and one for test
    split: Literal["random", "temporal", "last_out", "timestamp", "published"]
    times: Literal["published", "shares"] | tuple[int, int] = "published"
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)
    cold_item_share: float = Field(ge=0, lt=0.5)
    graph_edges: Literal["train", "all"]
    maximum_rejected_share: float = Field(ge=0, le=1)
    require_titles: bool

    @model_validator(mode="after")
    def _possible(self) -> "CleanParams":
        if isinstance(self.times, tuple) and not 0 < self.times[0] < self.times[1]:
            raise ValueError("times must be two times in milliseconds, the first of validation, then that of test")
        if self.split in ("published", "last_out") and self.cold_item_share:
            raise ValueError(f"cold_item_share must be 0 with split: {self.split}, whose parts are given")
        return self
