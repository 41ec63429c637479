"""Fine-tuning: from a user and a part of his training items, predict the hidden part.

Multinomial likelihood over all items (docs/methods.md, sections 1.6 and 1.11, F5). The targets are the hidden items
only: the published code also rewards copying the items in the prompt, which are masked at test; here they are left out
of the softmax as they are left out of the ranking. So are items without any training interaction: they are never a
target, and training on them as negatives would teach the model that nobody wants their texts.

The talk mentions rating prediction, which its code does not do. Given ratings, the loss is the squared error of those
of the hidden items, predicted as the mean rating plus the item's logit; the best epoch is then that of the least error.

The graph term's strengths are cross-fitted: see `symbiosis.recommender.network.graph_terms`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.inference.scoring import Scorer
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.metrics.metrics import DEPTH, HELD_OUT_SETS, Protocol
from symbiosis.recommender.metrics.ranking import rank_all
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.loop import Row
from symbiosis.recommender.training.params import FinetuneParams
from symbiosis.recommender.training.process_group import ALONE, ProcessGroup

_ROWS = 64
"""Prompts in one forward pass of training."""


class Finetuning:
    """The batches, the loss and the validation of fine-tuning; a `symbiosis.recommender.training.loop.Task`."""

    def __init__(
        self,
        model: GraphGPT2,
        prompts: Prompts,
        bias: AttentionBias,
        propagation: Propagation | None,
        train: csr_array,
        validation: csr_array,
        params: FinetuneParams,
        ratings: Ratings | None = None,
        protocol: Protocol = HELD_OUT_SETS,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.model, self.prompts, self.bias, self.propagation = model, prompts, bias, propagation
        self.train, self.validation, self.params, self.ratings = train, validation, params, ratings
        self.protocol, self.group = protocol, group
        self.cold = torch.from_numpy(np.bincount(train.indices, minlength=train.shape[1]) == 0).to(group.device)

    def batches(self, epoch: int) -> Sequence[tuple[np.ndarray, int]]:
        """Return (users, seed of the hidden items) of each batch."""
        rng = np.random.default_rng([self.params.seed, epoch])
        users = rng.permutation(np.flatnonzero(np.diff(self.train.indptr) > 0))
        starts = range(0, len(users), self.params.users_per_batch)
        return [(users[start : start + self.params.users_per_batch], int(rng.integers(2**31))) for start in starts]

    def hide(self, users: np.ndarray, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Part each user's training items at random into visible and hidden ones.

        At least one is hidden, ``floor(hidden_share * n)`` of them otherwise.
        """
        rng = np.random.default_rng(seed)
        visible, hidden = [], []
        for user in users:
            items = rng.permutation(items_of(self.train, user))
            count = max(1, int(self.params.hidden_share * len(items)))
            hidden.append(items[:count])
            visible.append(items[count:])
        return visible, hidden

    def loss(self, batch: tuple[np.ndarray, int]) -> tuple[str, Tensor]:
        """Loss of the hidden items, the mean per user and then over users, plus the mutual regularisation.

        Each process scores its own users, and divides by all of the batch; the first one adds the regularisation of the
        whole batch.
        """
        users, seed = batch
        all_visible, all_hidden = self.hide(users, seed)
        unknown = np.random.default_rng([seed, 1]).random(len(users)) < self.params.user_dropout
        rows = self.group.rows(len(users))
        visible, hidden = all_visible[rows], all_hidden[rows]
        if not hidden:
            return "loss", torch.zeros((), requires_grad=True)
        loss = self._likelihood_or_error(users[rows], visible, hidden, unknown[rows], len(users))
        if self.group.leads and self.params.language_model:
            loss = loss + self.params.regularisation * self._disagreement(users, all_visible, all_hidden)
        return "loss", loss

    def _likelihood_or_error(
        self,
        users: np.ndarray,
        visible: list[np.ndarray],
        hidden: list[np.ndarray],
        unknown: np.ndarray,
        all_users: int,
    ) -> Tensor:
        """Sum of the users' mean losses, divided by all users of the batch."""
        model, device = self.model, self.group.device
        states = self._read_out(users, visible, unknown) if self.params.language_model else None
        terms = torch.from_numpy(self.propagation.cross_fitted(users, visible)).to(device) if self.propagation else None
        logits = model.scores(states, terms, self.params.personal_gates)
        counts = np.array([len(items) for items in hidden])
        rows, wanted = (index.to(device) for index in _flat(hidden))
        weights = 1 / torch.tensor(counts, dtype=torch.float32, device=device)[rows] / all_users
        if self.ratings:
            given = torch.from_numpy(self.ratings.of(np.repeat(users, counts), np.concatenate(hidden))).to(device)
            losses = (self.ratings.mean + logits[rows, wanted] - given).square()
        else:
            shown = tuple(index.to(device) for index in _flat(visible))
            nothing = torch.tensor(-torch.inf, device=device)
            logits = logits.index_put(shown, nothing).masked_fill(self.cold, -torch.inf)
            losses = -torch.log_softmax(logits, dim=-1)[rows, wanted]
        return (losses * weights).sum()

    def _disagreement(self, users: np.ndarray, visible: list[np.ndarray], hidden: list[np.ndarray]) -> Tensor:
        """Mutual regularisation of the ID tokens that a batch reads or predicts."""
        model = self.model
        items = np.concatenate([*(row[: self.prompts.maximum_items] for row in visible), *hidden]).astype(np.int64)
        ids = torch.from_numpy(np.concatenate([users, model.n_users + items]) + model.n_words)
        return model.disagreement(ids.to(self.group.device), model.collaborative, model.content)

    def _read_out(self, users: np.ndarray, items: list[np.ndarray], unknown: np.ndarray) -> Tensor:
        """Hidden states of the read-out positions, (B, width); prompts of like length go together."""
        model = self.model
        order, device = np.argsort([len(row) for row in items], kind="stable"), self.group.device
        states = []
        for rows in np.array_split(order, math.ceil(len(order) / _ROWS)):
            ids, last = self.prompts(users[rows].tolist(), [items[row] for row in rows])
            is_user = (ids >= model.n_words) & (ids < model.n_words + model.n_users)
            withheld = torch.from_numpy(is_user & unknown[rows, None]).to(device) if unknown.any() else None
            given = torch.from_numpy(ids).to(device), self.bias(ids), model.collaborative
            states.append(model.read_out(*given, torch.from_numpy(last), withheld))
        return torch.cat(states)[torch.from_numpy(np.argsort(order))]

    def validate(self) -> Row:
        """Metrics of the validation items, and the score that the epoch is chosen by: see `Protocol.score`.

        With ratings, the root mean squared error is reported too, and chooses the epoch.
        """
        scores = Scorer(
            self.model,
            self.prompts,
            self.bias,
            self.propagation,
            self.params.seed,
            language_model=self.params.language_model,
            personal_gates=self.params.personal_gates,
        ).prepared(self.train)
        ranking = rank_all(scores, self.train, DEPTH, self.params.seed, label="validation")
        metrics = {name: round(value, 6) for name, value in self.protocol.means(ranking, self.validation).items()}
        if self.ratings:
            error = round(self.ratings.root_mean_squared_error(scores), 6)
            return metrics | {"rmse": error, "score": -error}
        return metrics | {"score": round(self.protocol.score(metrics), 6)}


def _flat(items: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Row numbers and items of ragged rows, as index tensors."""
    rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(items).astype(np.int64))
