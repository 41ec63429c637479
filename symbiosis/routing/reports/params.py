"""Params of the report on the comparison."""

from pydantic import Field

from symbiosis.core.params import StageParams


class ReportRoutersParams(StageParams):
    """The report of the comparison and of the study of feedback."""

    seed: int = Field(ge=0)
    bootstrap_samples: int = Field(ge=100)
