"""Params of the gate between a candidate and what serves."""

from pydantic import Field

from symbiosis.core.params import StageParams


class RouterGateParams(StageParams):
    """How much worse a router may be.

    Attributes
    ----------
    margin
        In utility per query at the serving trade-off.
    calibration_margin
        In calibration error, 0..1.
    calibration_limit
        Largest calibration error of a first champion, which there is nothing to compare with.
    """

    margin: float = Field(ge=0)
    calibration_margin: float = Field(ge=0)
    calibration_limit: float = Field(gt=0, le=1)


class RecommenderGateParams(StageParams):
    """How much worse a recommender may be.

    Attributes
    ----------
    margin
        In Recall@20, or NDCG@10 where the last item is held out.
    """

    margin: float = Field(ge=0)


class GateParams(StageParams):
    """Candidate against champion, before it serves; no stage reads this block.

    Attributes
    ----------
    seed, bootstrap_samples
        Of the paired intervals.
    """

    seed: int = Field(ge=0)
    bootstrap_samples: int = Field(ge=100)
    router: RouterGateParams
    recommender: RecommenderGateParams
