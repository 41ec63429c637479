"""A small neural network that all LLMs share: what makes queries alike is learned from the answers of all of them.

Trained by gradient descent with torch; stored as plain arrays and evaluated without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

CHUNK = 512  # queries at a time: bounds memory
WIDTH = 100  # units of the hidden layer of each member
BATCH, RATE = 256, 3e-3
PASSES = 10  # over the queries, at least
LENGTH_WEIGHT = 0.3  # of the spread of log lengths beside that of quality, as in the shared forest: quality decides


@dataclass(frozen=True)
class SharedNetwork:
    """Networks with one hidden layer of rectified units, and quality and log length of every LLM as their outputs.

    As RouterBench's MLP router (arXiv 2403.12031): the log odds of a good answer are the LLM's overall ones and what
    the network adds for the query. A member is trained without one fold of the queries each, so that all queries have
    predictions by a member that has not seen them; new queries get the mean of the members' log odds, and of their log
    lengths.

    Attributes
    ----------
    hidden, bias
        (D, U) and (U,), the units of all members side by side.
    output
        (L, 2, U), from the units to the log odds of quality and to log length, divided by the number of members.
    level
        (L, 2), of both where no unit is active.
    """

    hidden: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    level: np.ndarray

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        components: int,
        targets: np.ndarray,
        folds: np.ndarray,
        steps: int,
        decay: float,
        seed: int,
        known: np.ndarray | None = None,
    ) -> tuple["SharedNetwork", np.ndarray]:
        """Train a member for each fold, on the queries of the others.

        Parameters
        ----------
        features
            (N, D).
        components
            So many of the features, the last ones, are principal components; their scale is adapted.
        targets
            (N, L, 2), quality and log length.
        folds
            (N,), the fold of each query; two or more.
        steps
            Least number of training steps; large tables get `PASSES` over their queries.
        decay
            Weight decay.
        seed
            Of the first weights and of the order of the queries.
        known
            (N, L) bool, which answers to learn from; None: all.

        Returns
        -------
        SharedNetwork
        numpy.ndarray
            (N, L, 2), predictions for each query by the member that has not seen it.
        """
        mean, scale = features.mean(axis=0), np.ones(features.shape[1])
        if components:
            scale[-components:] /= np.sqrt(features[:, -components:].var(axis=0).mean()) or 1.0
        quality = np.clip(targets[:, :, 0].mean(axis=0), 0.01, 0.99)
        odds = np.log(quality / (1 - quality))
        length, spread = targets[:, :, 1].mean(axis=0), targets[:, :, 1].std(axis=0).mean() or 1.0
        scaled = np.stack([targets[:, :, 0], (targets[:, :, 1] - length) / spread], axis=1)
        names, rows = np.unique(folds), (features - mean) * scale
        members = _trained(rows, scaled, odds, [folds != fold for fold in names], steps, decay, seed, known)
        hidden, bias, output = (np.asarray(part.detach().numpy(), dtype=np.float64) for part in members)
        output = output.reshape(*output.shape[:2], 2, -1).transpose(0, 3, 2, 1)  # (M, L, 2, width)
        output[:, :, 1] *= spread
        hidden = hidden * scale[:, None]
        bias = bias - (mean[None, None] @ hidden)
        level = np.column_stack([odds, length])
        held_out = np.empty_like(targets)
        for member, fold in enumerate(names):
            own = folds == fold
            held_out[own] = cls(hidden[member], bias[member, 0], output[member], level)(features[own])
        whole = cls(
            np.ascontiguousarray(np.concatenate(list(hidden), axis=1)),
            np.concatenate(list(bias[:, 0])),
            np.ascontiguousarray(np.concatenate(list(output), axis=2)) / len(names),
            level,
        )
        return whole, held_out

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, L, 2) for features (N, D)."""
        result = np.empty((len(features), *self.level.shape))
        turned = self.output.swapaxes(1, 2)
        for start in range(0, len(features), CHUNK):
            units = np.maximum(features[start : start + CHUNK] @ self.hidden + self.bias, 0.0)
            result[start : start + CHUNK] = np.matmul(units, turned).swapaxes(0, 1)
        return self._probable(result)

    def single(self, x: np.ndarray) -> np.ndarray:
        """Return (L, 2) for the features (D,) of one query."""
        units = np.maximum(np.dot(x, self.hidden) + self.bias, 0.0)
        return self._probable(np.matmul(self.output, units))

    def _probable(self, added: np.ndarray) -> np.ndarray:
        """Turn what is added to the level, (..., L, 2), into quality and log length, in place."""
        added += self.level
        odds = added[..., 0]
        odds[...] = 1 / (1 + np.exp(-odds))
        return added

    def take(self, arms: Sequence[int]) -> "SharedNetwork":
        """Return the network with the outputs of the given LLMs, in that order."""
        kept = list(arms)
        return replace(self, output=self.output[kept], level=self.level[kept])

    def with_average(self) -> "SharedNetwork":
        """Return this network with, for one LLM more, the mean of the others' log odds and log lengths."""
        output, level = (np.concatenate([part, part.mean(axis=0, keepdims=True)]) for part in (self.output, self.level))
        return replace(self, output=output, level=level)


def _trained(
    rows: np.ndarray,
    targets: np.ndarray,
    odds: np.ndarray,
    seen: Sequence[np.ndarray],
    steps: int,
    decay: float,
    seed: int,
    known: np.ndarray | None,
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Train members by AdamW, with a rate that falls to zero, all at once.

    Parameters
    ----------
    rows
        (N, D), features.
    targets
        (N, 2, L), quality and scaled log length.
    odds
        (L,), where the log odds of quality start.
    seen
        For each of M members, (N,) bool: its queries.
    steps, decay, seed, known
        See `SharedNetwork.fit`.

    Returns
    -------
    tuple of torch.Tensor
        Weights (M, D, U) and bias (M, 1, U) of the hidden layer, and those of the outputs, (M, U, 2 L).
    """
    import torch

    rng = np.random.default_rng(seed)
    members, dimension, n_llms = len(seen), rows.shape[1], len(odds)
    own = [np.flatnonzero(mask) for mask in seen]
    batch = min(BATCH, *map(len, own))
    steps = max(steps, PASSES * len(rows) // BATCH)
    drawn = rng.standard_normal((members, dimension + 1, WIDTH)) / np.sqrt(dimension)
    first = torch.tensor(drawn, dtype=torch.float32)
    hidden, bias = first[:, :-1].clone().requires_grad_(), first[:, -1:].clone().requires_grad_()
    # What belongs to one LLM starts from zero, so that their order does not matter.
    output = torch.zeros((members, WIDTH, 2 * n_llms), requires_grad=True)
    features, told = torch.tensor(rows, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)
    counted = None if known is None else torch.tensor(known, dtype=torch.float32)
    start = torch.tensor(odds, dtype=torch.float32)
    optimiser = torch.optim.AdamW([hidden, bias, output], lr=RATE, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    orders = [np.empty(0, dtype=np.int64)] * members
    for _ in range(steps):
        orders = [
            order if len(order) >= batch else rng.permutation(mine) for order, mine in zip(orders, own, strict=True)
        ]
        picked = torch.from_numpy(np.stack([order[:batch] for order in orders]))
        orders = [order[batch:] for order in orders]
        units = torch.baddbmm(bias, features[picked], hidden).relu()
        made, wanted = torch.bmm(units, output), told[picked]
        quality = torch.nn.functional.binary_cross_entropy_with_logits(
            made[:, :, :n_llms] + start, wanted[:, :, 0], reduction="none"
        )
        loss = quality + LENGTH_WEIGHT**2 * (made[:, :, n_llms:] - wanted[:, :, 1]) ** 2
        if counted is not None:
            loss = loss * counted[picked] / counted.mean()
        optimiser.zero_grad()
        loss.mean(dim=(1, 2)).sum().backward()
        optimiser.step()
        schedule.step()
    return hidden, bias, output
