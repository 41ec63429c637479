"""The whole of ``params.yaml``: which block belongs to which model.  Check it:  symbiosis params check"""

from symbiosis.core.errors import InputError
from symbiosis.core.params import OLDER, PARAMS_FILE, StageParams, validate_block
from symbiosis.graph.params import BuildGraphParams, ShortestPathsParams
from symbiosis.recommender.baselines.registry import BaselinesParams
from symbiosis.recommender.evaluation.params import EvaluateParams
from symbiosis.recommender.language.params import CorpusParams, EmbedItemsParams
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.reranking.params import RerankParams
from symbiosis.recommender.training.params import FinalFitParams, FinetuneParams, PretrainParams
from symbiosis.registry.params import GateParams
from symbiosis.reviews.params import CleanParams, DownloadParams
from symbiosis.routing.data.params import CleanRoutingParams, CollectFeedbackParams, DownloadRoutingParams
from symbiosis.routing.experiments.params import CompareRoutersParams, OnlineReplayParams, StudyFeedbackParams
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.params import EmbedQueriesParams, TrainEncoderParams
from symbiosis.routing.reports.params import ReportRoutersParams

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
    "rerank": RerankParams,
    "final_fit": FinalFitParams,
    "baselines": BaselinesParams,
    "evaluate": EvaluateParams,
    "download_routing": DownloadRoutingParams,
    "clean_routing": CleanRoutingParams,
    "train_encoder": TrainEncoderParams,
    "embed_queries": EmbedQueriesParams,
    "collect_feedback": CollectFeedbackParams,
    "router_train": RouterTrainParams,
    "compare_routers": CompareRoutersParams,
    "study_feedback": StudyFeedbackParams,
    "report_routers": ReportRoutersParams,
    "online_replay": OnlineReplayParams,
    "gate": GateParams,
}


def validate(document: dict[str, object]) -> None:
    """Validate every block.

    Raises
    ------
    InputError
        Names every block that is missing and every bad key, or a block that is unknown.
    """
    unknown = sorted(set(document) - set(BLOCKS))
    if unknown:
        raise InputError(f"{PARAMS_FILE}: unknown block `{unknown[0]}`; the blocks are {', '.join(BLOCKS)}")
    faults = []
    for block, model in BLOCKS.items():
        try:
            validate_block(document, block, model)
        except InputError as error:
            faults.append(str(error).removeprefix(f"{PARAMS_FILE}: ").removesuffix(f": {OLDER}"))
    if faults:
        remedy = f": {OLDER}" if any("missing" in fault or "unknown" in fault for fault in faults) else ""
        raise InputError(f"{PARAMS_FILE}: {'; '.join(faults)}{remedy}")
