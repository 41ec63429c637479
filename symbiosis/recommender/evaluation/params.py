"""Params of the evaluation; those of a baseline stand in its own module."""

from pydantic import Field, field_validator

from symbiosis.core.params import StageParams


class BaselineNames(StageParams):
    """The baselines of the table by what they share: each kind is one stage of the pipeline."""

    simple: list[str] = Field(min_length=1)
    hybrid: list[str]
    neural: list[str]
    sequential: list[str]

    def all(self) -> list[str]:
        """Every name, in the order of the table."""
        return [*self.simple, *self.hybrid, *self.neural, *self.sequential]


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
