"""The whole of ``params.yaml``: which block belongs to which model.  Check it:  python -m symbiosis.params"""

import sys

from symbiosis.amazon.params import CleanParams, DownloadParams
from symbiosis.errors import InputError
from symbiosis.graph.params import BuildGraphParams, ShortestPathsParams
from symbiosis.recommender.baselines.registry import BaselinesParams
from symbiosis.recommender.params import (
    CorpusParams,
    EmbedItemsParams,
    EvaluateParams,
    FinetuneParams,
    PretrainParams,
    PropagationParams,
)
from symbiosis.routing.params import (
    CleanRoutingParams,
    CompareRoutersParams,
    DownloadRoutingParams,
    EmbedQueriesParams,
    OnlineReplayParams,
    ReportRoutersParams,
    RouterTrainParams,
    StudyFeedbackParams,
    TrainEncoderParams,
)
from symbiosis.stage import PARAMS_FILE, StageParams, read_document, validate_block

BLOCKS: dict[str, type[StageParams]] = {
    "download": DownloadParams,
    "clean": CleanParams,
    "build_graph": BuildGraphParams,
    "shortest_paths": ShortestPathsParams,
    "corpus": CorpusParams,
    "embed_items": EmbedItemsParams,
    "propagation": PropagationParams,
    "pretrain": PretrainParams,
    "finetune": FinetuneParams,
    "baselines": BaselinesParams,
    "evaluate": EvaluateParams,
    "download_routing": DownloadRoutingParams,
    "clean_routing": CleanRoutingParams,
    "train_encoder": TrainEncoderParams,
    "embed_queries": EmbedQueriesParams,
    "router_train": RouterTrainParams,
    "compare_routers": CompareRoutersParams,
    "study_feedback": StudyFeedbackParams,
    "report_routers": ReportRoutersParams,
    "online_replay": OnlineReplayParams,
}


def validate(document: dict[str, object]) -> None:
    """Validate every block.

    Raises
    ------
    InputError
        A block is unknown, missing or has a bad key.
    """
    unknown = sorted(set(document) - set(BLOCKS))
    if unknown:
        raise InputError(f"{PARAMS_FILE}: unknown block `{unknown[0]}`; the blocks are {', '.join(BLOCKS)}")
    for block, model in BLOCKS.items():
        validate_block(document, block, model)


if __name__ == "__main__":
    try:
        validate(read_document())
    except InputError as error:
        sys.exit(f"error: {error}")
