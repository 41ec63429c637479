"""Where the pipeline keeps everything, relative to the top of the repository or of a data folder: each path once."""

from pathlib import Path

# Reviews, interactions and graph
RAW_REVIEWS = Path("data/raw/reviews")
CLEAN = Path("data/clean")
USERS = CLEAN / "users.parquet"
ITEMS = CLEAN / "items.parquet"
TRAIN = CLEAN / "train.parquet"
VALIDATION = CLEAN / "validation.parquet"
TEST = CLEAN / "test.parquet"
PROTOCOL = CLEAN / "protocol.json"
"""How the split is evaluated: see `symbiosis.recommender.metrics.metrics.protocol_of`."""
GRAPH_EDGES = CLEAN / "graph.parquet"
REJECTED = CLEAN / "rejected.jsonl"
GRAPH = Path("data/graph")
DISTANCES = Path("data/distances")

# The recommender
CORPUS = Path("data/corpus")
DOCUMENTS = CORPUS / "documents.parquet"
EMBEDDINGS = Path("data/item_embeddings")
ITEM_VECTORS = EMBEDDINGS / "vectors.npy"
PROPAGATION = Path("data/propagation")
PRETRAINED = Path("models/pretrain")
FINETUNED = Path("models/finetune")
RERANKER = Path("models/reranker")
RECOMMENDER = Path("models/recommender")
"""What serves: a folder with its own ``data/`` and ``models/``, laid out as here."""
RANKINGS = Path("data/rankings")
EVALUATION = Path("data/evaluation")
PER_USER = EVALUATION / "per_user.parquet"

# The router
RAW_ROUTING = Path("data/raw/routing")
ROUTING = Path("data/routing")
QUERY_EMBEDDINGS = Path("data/embeddings")
ENCODER = Path("models/encoder")
ROUTER = Path("models/router")
LLMS = ROUTING / "llms.parquet"
QUERIES = ROUTING / "queries.parquet"
OFFLINE = ROUTING / "offline.parquet"
ONLINE = ROUTING / "online.parquet"
ROUTING_TEST = ROUTING / "test.parquet"
COMPARISON = Path("data/comparison")
FEEDBACK = Path("data/feedback")
EXPORTS = Path("data/local/feedback")
"""Frozen exports of the store of decisions, which the next training reads."""
LOGGED = Path("data/logged")
LOGGED_OUTCOMES = LOGGED / "outcomes.parquet"

# Reports
REPORTS = Path("reports")
QUALITY = REPORTS / "data_quality"
CURVES = REPORTS / "curves"
PRETRAIN_CURVE = CURVES / "pretrain.csv"
FINETUNE_CURVE = CURVES / "finetune.csv"
RERANK_CURVE = CURVES / "rerank.csv"
RECOMMENDER_METRICS = REPORTS / "recommender.json"
RECOMMENDER_PAGE = REPORTS / "recommender.html"
RECOMMENDER_TABLE = REPORTS / "recommender_table"
COLLECT_METRICS = REPORTS / "collect_feedback.json"
ROUTER_TRAIN_METRICS = REPORTS / "router_train.json"
ROUTER_METRICS = REPORTS / "router.json"
ROUTER_PAGE = REPORTS / "router.html"
QUALITY_COST_CURVE = CURVES / "quality_cost.csv"
REGRET_CURVE = CURVES / "regret.csv"
ROUTER_STUDY_METRICS = REPORTS / "router_study.json"
ROUTER_STUDY_PAGE = REPORTS / "router_study.html"

# What was promoted: the folder that the link `current` names serves, with its own data/ and models/
CHAMPIONS = Path(".champions")
CHAMPION_ROUTER = CHAMPIONS / "router" / "current"
CHAMPION_RECOMMENDER = CHAMPIONS / "recommender" / "current"
LAST_RUN = CHAMPIONS / "last_run.json"
"""Of the scheduled flows: flow, began, seconds, words, stages."""

CHECKPOINTS = Path(".checkpoints")
"""What a stopped download or training resumes from; no output of a stage, since DVC deletes these before every run."""
