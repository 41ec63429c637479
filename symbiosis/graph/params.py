"""Params of the stages `build-graph` and `shortest-paths`."""

from pydantic import Field

from symbiosis.core.params import StageParams


class BuildGraphParams(StageParams):
    """Which relations between items are kept beside the interactions."""

    minimum_group: int = Field(ge=2)
    maximum_group_share: float = Field(gt=0, le=1)


class ShortestPathsParams(StageParams):
    """The search and the score: R of the paper (equation 4) and of its released code.

    Attributes
    ----------
    matrices
        Whether distances are searched and stored. Only ``pretrain.bias: paper`` reads them, and they take
        ``(users + items) * items`` bytes of disk.
    """

    matrices: bool = True
    block: int = Field(ge=64, multiple_of=64)
    threads: int = Field(ge=1)
    clip: int = Field(ge=2)
    damping: float = Field(gt=0, le=1)
