"""Params of the graph terms."""

from pydantic import Field

from symbiosis.core.params import StageParams


class PropagationParams(StageParams):
    """Walks between items that carry strength from a user's items to the candidates."""

    seed: int = Field(ge=0)
    folds: int = Field(ge=2, le=255)
    alpha: float = Field(ge=0)
    neighbours: int = Field(ge=1)
