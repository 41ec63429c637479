"""Training of the re-ranker: listwise on cross-fitted candidates, the best epoch chosen on validation.

A training group is a user's visible items and the hidden ones; its candidates are proposed and described by links of
other folds' users. Groups of which stage one proposes no hidden item teach nothing and are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.metrics.metrics import DEPTH, Protocol
from symbiosis.recommender.metrics.ranking import NONE, top_items
from symbiosis.recommender.network.gpt2 import GPT2Config
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.reranking.network import CandidateBatch, NetworkConfig, RerankingNetwork
from symbiosis.recommender.reranking.params import RerankParams
from symbiosis.recommender.reranking.reranker import Describer, Reranker, mean_scores
from symbiosis.recommender.reranking.stage_one import StageOne
from symbiosis.recommender.training.loop import Row
from symbiosis.recommender.training.process_group import ALONE

PHRASES = (" has interacted with", ". Candidates:")
"""The words before the history and before the candidates."""

_BLOCK = 256
_GROUPS = 60_000
"""Groups that are learned from at most, drawn at random: bounds memory."""
_VALIDATED = 8192
"""Users whose validation items choose the epoch, drawn at random."""


def made_network(pretrained: Path, vectors: np.ndarray, params: RerankParams) -> RerankingNetwork:
    """Make a network that starts from the pre-trained one or from drawn weights; torch must be seeded before.

    Parameters
    ----------
    pretrained
        Folder of the pre-trained model.
    vectors
        float32 (I, D), embeddings of the items' texts, those that it was pre-trained with.
    params
        Say what it consists of.

    Raises
    ------
    InputError
        A file is missing or damaged, or the longest prompt does not fit.
    """
    given = torch.from_numpy(vectors.astype(np.float32))
    if not params.language_model:
        return RerankingNetwork(NetworkConfig(None, True, "none", (), (), params.dropout), given)
    model = GraphGPT2.load(pretrained)
    vocabulary = Vocabulary.load(pretrained / "tokenizer.json", model.n_users, model.n_items)
    before, after = (tuple(int(word) for word in ids) for ids in vocabulary.encode(PHRASES))
    longest = len(before) + params.maximum_items + len(after) + 1
    if longest > model.config.n_positions:
        raise InputError(
            f"params.yaml: `rerank.maximum_items` {params.maximum_items} gives prompts of {longest} positions, more "
            f"than `pretrain.maximum_length` {model.config.n_positions}"
        )
    if params.start == "random":
        drawn = params.random
        # GPT-2's .02 is meant for its 768 dimensions: in a few, everything would start too small to learn in time.
        spread = (3 * drawn.width) ** -0.5
        backbone = GPT2Config(
            vocab_size=model.n_words,
            n_positions=model.config.n_positions,
            n_embd=drawn.width,
            n_layer=drawn.layers,
            n_head=drawn.heads,
            initializer_range=spread,
        )
    elif isinstance(model.config, GPT2Config):
        backbone = model.config
    else:
        raise InputError("params.yaml: `rerank.start: pretrained` needs a GPT-2 in `pretrain.base_model`: use `random`")
    config = NetworkConfig(backbone, params.features, params.connectivity, before, after, params.dropout)
    network = RerankingNetwork(config, given)
    if params.start == "pretrained":
        network.backbone.load_state_dict(model.backbone.state_dict())
        if read_json(pretrained / "training.json").get("content", True) and model.texts.shape == given.shape:
            network.projection.weight.data.copy_(model.projection.weight.data)
    return network


class Reranking:
    """Batches, loss and validation of the re-ranker; a `symbiosis.recommender.training.loop.Task`."""

    group = ALONE

    def __init__(
        self,
        network: RerankingNetwork,
        stage_one: StageOne,
        sequences: csr_array,
        validation: csr_array,
        params: RerankParams,
        protocol: Protocol,
    ) -> None:
        self.params, self.protocol, self._sequences = params, protocol, sequences
        self.candidates = min(params.candidates, sequences.shape[1])
        self._learned, self._wanted = self._examples(stage_one)
        rng = np.random.default_rng([params.seed, 4])
        asked = np.flatnonzero(np.diff(validation.indptr))
        self._users = np.sort(rng.permutation(asked)[:_VALIDATED])
        self._held_out = csr_array(validation[self._users])
        self._judged = self._validation(stage_one, sequences)
        self.train(network, params.seed)

    def train(self, network: RerankingNetwork, seed: int) -> None:
        """Go on with another network, and with another order of the groups."""
        network.standardise(self._learned.features, self._learned.connections)
        self.network, self._seed = network, seed

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the groups of each batch."""
        order = np.random.default_rng([self._seed, 5, epoch]).permutation(len(self._wanted))
        starts = range(0, len(order), self.params.groups_per_batch)
        return [order[start : start + self.params.groups_per_batch] for start in starts]

    def loss(self, batch: np.ndarray) -> tuple[str, Tensor]:
        """Softmax cross-entropy of the hidden items among the candidates, the mean over groups."""
        rows = torch.from_numpy(batch)
        wanted = self._wanted[rows]
        logarithms = torch.log_softmax(self.network(_rows(self._learned, rows)), dim=-1)
        return "loss", -((wanted * logarithms).sum(dim=-1) / wanted.sum(dim=-1)).mean()

    def validate(self) -> Row:
        """Metrics of the validation items, were the candidates alone ranked."""
        judged = torch.cat([self.network(_rows(self._judged, rows)) for rows in self._blocks()]).numpy()
        items = self._judged.items.numpy()
        ranking = np.take_along_axis(items, np.argsort(-judged, axis=1, kind="stable"), axis=1)
        filled = np.pad(ranking, ((0, 0), (0, max(0, DEPTH - ranking.shape[1]))), constant_values=NONE)
        metrics = {name: round(value, 6) for name, value in self.protocol.means(filled, self._held_out).items()}
        return metrics | {"score": round(self.protocol.score(metrics), 6)}

    def best_weight(
        self, reranker: Reranker, scores: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[float, dict[float, float]]:
        """Choose on validation what the score of the fine-tuned model weighs.

        Parameters
        ----------
        reranker
            With the trained networks.
        scores
            Gives those of all items for some users, float32 (users, I).

        Returns
        -------
        float
            The best weight; of equal ones, the smallest.
        dict of float
            The score on validation by weight.
        """
        excluded, reached = self._sequences[self._users], {}
        given = np.concatenate([scores(self._users[rows.numpy()]) for rows in self._blocks()])
        histories = [items_of(self._sequences, user) for user in self._users]
        candidates = self._judged.items.numpy()
        judged = np.concatenate([mean_scores(reranker.networks, _rows(self._judged, rows)) for rows in self._blocks()])
        for weight in sorted(self.params.score_weights):
            moved = reranker.moved(given, histories, candidates, judged, weight)
            ranking = top_items(moved, excluded, DEPTH, self.params.seed, self._users)
            reached[weight] = round(self.protocol.score(self.protocol.means(ranking, self._held_out)), 6)
        return max(reached, key=lambda weight: reached[weight]), reached

    def _blocks(self) -> Sequence[Tensor]:
        return torch.arange(len(self._users)).split(_BLOCK)

    def _examples(self, stage_one: StageOne) -> tuple[CandidateBatch, Tensor]:
        """Candidates of the groups, and float32 (N, C): 1 where an item is hidden."""
        rng = np.random.default_rng([self.params.seed, 3])
        share = _GROUPS / max(1, sum(map(len, stage_one.groups)))
        kept = min(self.params.rivals, self.candidates)
        batches, wanted = [], []
        for terms, all_groups in zip(
            tqdm(stage_one.without, desc="candidates", unit=" folds"), stage_one.groups, strict=True
        ):
            describe = Describer(terms, self.params.maximum_items)
            groups = [group for group in all_groups if rng.random() < share]
            for start in range(0, len(groups), _BLOCK):
                part = groups[start : start + _BLOCK]
                scores, proposed = terms.proposed([one.history for one in part], stage_one.weights, self.candidates)
                hidden = np.array([np.isin(row, one.hidden) for row, one in zip(proposed, part, strict=True)])
                useful = np.flatnonzero(hidden.any(axis=1))
                # The hidden ones always, and of the others as many as have room.
                chosen = np.sort(np.argsort(rng.random(hidden[useful].shape) - hidden[useful], axis=1)[:, :kept])
                histories = [part[row].history for row in useful]
                batches.append(_stored(describe(histories, proposed[useful], scores[useful], chosen)))
                wanted.append(torch.from_numpy(np.take_along_axis(hidden[useful], chosen, axis=1)).float())
        if not sum(map(len, wanted)):
            raise InputError("params.yaml: stage one proposes no hidden item to learn from: raise `rerank.candidates`")
        return _joined(batches), torch.cat(wanted)

    def _validation(self, stage_one: StageOne, sequences: csr_array) -> CandidateBatch:
        describe, batches = Describer(stage_one.whole, self.params.maximum_items), []
        for rows in self._blocks():
            histories = [items_of(sequences, user) for user in self._users[rows.numpy()]]
            scores, proposed = stage_one.whole.proposed(histories, stage_one.weights, self.candidates)
            batches.append(_stored(describe(histories, proposed, scores)))
        return _joined(batches)


def _stored(batch: CandidateBatch) -> CandidateBatch:
    """Halve what takes the most memory."""
    return CandidateBatch(batch.items, batch.features, batch.history, batch.connections.half())


def _rows(batch: CandidateBatch, rows: Tensor) -> CandidateBatch:
    return CandidateBatch(*(getattr(batch, field.name)[rows] for field in fields(batch)))


def _joined(batches: list[CandidateBatch]) -> CandidateBatch:
    return CandidateBatch(
        *(torch.cat([getattr(one, field.name) for one in batches]) for field in fields(CandidateBatch))
    )
