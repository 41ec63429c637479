"""The baselines by name.

Stages load this module by name, so that a baseline's stage depends on that baseline's own module alone.
"""

from typing import Any

from pydantic import create_model

from symbiosis.core.params import StageParams
from symbiosis.recommender.baselines.base import Baseline
from symbiosis.recommender.baselines.bert4rec import BERT4Rec
from symbiosis.recommender.baselines.boosting import Boosting
from symbiosis.recommender.baselines.chance import Chance
from symbiosis.recommender.baselines.ease import EASE
from symbiosis.recommender.baselines.fdsa import FDSA
from symbiosis.recommender.baselines.gru4rec import GRU4Rec
from symbiosis.recommender.baselines.ials import IALS
from symbiosis.recommender.baselines.item_knn import ItemKNN
from symbiosis.recommender.baselines.lightgcn import LightGCN
from symbiosis.recommender.baselines.md_cvae import MDCVAE
from symbiosis.recommender.baselines.multi_vae import MultiVAE
from symbiosis.recommender.baselines.popularity import Popularity
from symbiosis.recommender.baselines.rp3beta import RP3beta
from symbiosis.recommender.baselines.s3rec import S3Rec
from symbiosis.recommender.baselines.sasrec import SASRec
from symbiosis.recommender.baselines.slim import SLIM
from symbiosis.recommender.baselines.transitions import Transitions
from symbiosis.recommender.baselines.tuned_hybrid import TunedHybrid
from symbiosis.recommender.baselines.unisrec import UniSRec

BASELINES: dict[str, type[Baseline]] = {
    "chance": Chance,
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "rp3beta": RP3beta,
    "ease": EASE,
    "slim": SLIM,
    "ials": IALS,
    "transitions": Transitions,
    "tuned_hybrid": TunedHybrid,
    "boosting": Boosting,
    "multi_vae": MultiVAE,
    "lightgcn": LightGCN,
    "md_cvae": MDCVAE,
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "bert4rec": BERT4Rec,
    "fdsa": FDSA,
    "s3rec": S3Rec,
    "unisrec": UniSRec,
}
"""A baseline's name is that of its module, its block below ``baselines`` and its folder in ``data/rankings``."""

_fields: dict[str, Any] = {name: (baseline.Params, ...) for name, baseline in BASELINES.items()}
BaselinesParams: type[StageParams] = create_model("BaselinesParams", __base__=StageParams, **_fields)
"""One block per baseline."""
