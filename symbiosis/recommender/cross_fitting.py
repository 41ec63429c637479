"""Item-to-item weights fitted for each fold of the users on the users of the other folds.

What a user hides in training stands in his own row of the interactions. Weights fitted on the other folds' users have
never seen that row (cross-fitting, Chernozhukov et al. 2018, Double machine learning, section 3), so the strengths
that they give are, in training, what they are for a user who comes later.
"""

import numpy as np
from scipy.sparse import csr_array
from tqdm import tqdm

from symbiosis.recommender.baselines.ease import item_weights
from symbiosis.recommender.interactions import items_of
from symbiosis.recommender.params import PropagationParams
from symbiosis.recommender.propagation import Propagation, flow

_SAMPLED_USERS = 1000


def fit_propagation(train: csr_array, params: PropagationParams) -> Propagation:
    """Draw the folds and fit the weights.

    Parameters
    ----------
    train
        float32 (U, I), 1 where the user took the item in training.
    params
        Folds, penalty and neighbours.
    """
    rng = np.random.default_rng(params.seed)
    folds = (rng.permutation(train.shape[0]) % params.folds).astype(np.uint8)
    parts = [np.flatnonzero(folds != fold) for fold in range(params.folds)]
    without = tuple(_weights(train[users], params) for users in tqdm(parts, desc="weights by fold", unit="fold"))
    parts.append(np.arange(len(folds)))
    counts = [np.bincount(train[users].indices, minlength=train.shape[1]) * len(folds) / len(users) for users in parts]
    sample = rng.permutation(len(folds))[:_SAMPLED_USERS]
    flows = [flow([items_of(train, user)], without[folds[user]]) for user in sample]
    unit = float(np.concatenate(flows).std()) or 1.0
    return Propagation(folds, without, _weights(train, params), np.stack(counts).astype(np.float32), unit)


def _weights(train: csr_array, params: PropagationParams) -> csr_array:
    """EASE, of every candidate's incoming weights the largest in size kept."""
    dense = item_weights((train.T @ train).toarray(), params.l2)
    n_items = len(dense)
    kept = min(params.neighbours, n_items)
    sources = np.argpartition(-np.abs(dense), kept - 1, axis=0)[:kept]
    candidates = np.broadcast_to(np.arange(n_items), sources.shape)
    entries = (dense[sources, candidates].ravel(), (sources.ravel(), candidates.ravel()))
    sparse = csr_array(entries, shape=dense.shape)
    sparse.eliminate_zeros()
    sparse.sort_indices()
    return sparse
