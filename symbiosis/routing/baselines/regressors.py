"""Small neural networks that predict the quality of every LLM, trained by gradient descent.

Ridge regression of quality on the embedding.

Random forests.

LLMs and queries as vectors in one space.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample

if TYPE_CHECKING:
    import torch

BATCH = 256
RATE = 3e-3
STEPS = 500  # 20 passes over 6,400 queries


def descend(
    loss: Callable[["torch.Tensor"], "torch.Tensor"],
    weights: dict[str, "torch.Tensor"],
    rows: int,
    decay: float,
    seed: int,
) -> None:
    """Minimise a loss over mini-batches by AdamW, with a rate that falls to zero.

    Parameters
    ----------
    loss
        From row numbers (n,) to their mean loss.
    weights
        Changed in place.
    rows
        Number of rows.
    decay
        Weight decay.
    seed
        Of the order of the rows.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(weights.values(), lr=RATE, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
    batches: list[torch.Tensor] = []
    for _ in range(STEPS):
        batches = batches or list(torch.randperm(rows, generator=generator).split(BATCH))
        optimiser.zero_grad()
        loss(batches.pop()).backward()
        optimiser.step()
        schedule.step()


class NetworkParams(BaselineParams):
    """Weight decays to be tried."""

    decay: tuple[float, ...] = Field(default=(0.5, 1.5, 4.0), min_length=1)


class Network(Predictive):
    """The log odds of a good answer are the LLM's overall ones and what the network adds for the query.

    A subclass names its weights and says what it adds; what belongs to one LLM starts from the LLM's own random
    stream, or from zero, so that the order of the LLMs does not matter.
    """

    seeded = True

    Params = NetworkParams

    @abstractmethod
    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the weights."""

    @abstractmethod
    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added for queries (n, D), (n, L)."""

    def loss(self, logits: "torch.Tensor", quality: "torch.Tensor") -> "torch.Tensor":
        """Cross-entropy of quality, (n, L) each; quality may lie between 0 and 1."""
        import torch

        return torch.nn.functional.binary_cross_entropy_with_logits(logits, quality)

    def targets(self) -> np.ndarray:
        """What is to be predicted of the training queries, (N, L)."""
        return self.training.outcomes.quality

    def levels(self) -> np.ndarray:
        """Log odds of each LLM overall, (L,)."""
        mean = np.clip(self.training.outcomes.quality.mean(axis=0), 0.01, 0.99)
        return np.log(mean / (1 - mean))

    def fit(self, decay: float) -> None:
        """Train from the start."""
        import torch

        training = self.training
        drawn = self.start(np.random.default_rng(training.seed))
        self.weights = {name: torch.tensor(value, requires_grad=True) for name, value in drawn.items()}
        self.level = torch.tensor(self.levels())
        features = torch.tensor(training.projection(training.sample.embeddings))
        targets = torch.tensor(self.targets())
        descend(
            lambda rows: self.loss(self.level + self.added(features[rows]), targets[rows]),
            self.weights,
            len(features),
            decay,
            training.seed,
        )

    def logits(self, sample: Sample) -> np.ndarray:
        """Log odds, (N, L)."""
        import torch

        with torch.no_grad():
            features = torch.tensor(self.training.projection(sample.embeddings))
            return np.asarray((self.level + self.added(features)).numpy())

    def quality(self, sample: Sample) -> np.ndarray:
        """Probability of a good answer, (N, L)."""
        probability: np.ndarray = 1 / (1 + np.exp(-self.logits(sample)))
        return probability


HIDDEN = 100


class MLP(Network):
    """One hidden layer and one output per LLM, as RouterBench's MLP router (arXiv 2403.12031)."""

    category = "predictor"

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the hidden layer; the outputs start at zero."""
        features = self.training.projection.dimension
        return {
            "hidden": generator.standard_normal((features, HIDDEN)) / np.sqrt(features),
            "output": np.zeros((HIDDEN, len(self.training.llms))),
        }

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        return (features @ self.weights["hidden"]).relu() @ self.weights["output"]


class FORC(Network):
    """One model of pairs of query and LLM, the LLM being part of the input (FORC, arXiv 2310.14477).

    The LLM enters by its number, as a learned vector, and by the logarithms of its prices.
    """

    category = "predictor"

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the layers; the LLMs' vectors start at zero."""
        features, llms = self.training.projection.dimension, self.training.llms
        prices = np.log(np.column_stack([llms.price_prompt, llms.price_response]) + 1e-9)
        spread = prices.std(axis=0)
        self.prices = (prices - prices.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        return {
            "query": generator.standard_normal((features, HIDDEN)) / np.sqrt(features),
            "price": generator.standard_normal((2, HIDDEN)) / np.sqrt(2),
            "llm": np.zeros((len(llms), HIDDEN)),
            "output": np.zeros(HIDDEN),
        }

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        import torch

        llms = torch.tensor(self.prices) @ self.weights["price"] + self.weights["llm"]
        hidden = ((features @ self.weights["query"])[:, None, :] + llms).relu()
        return hidden @ self.weights["output"]


RANK = 16


class EmbedLLM(Network):
    """Matrix factorisation of who answers what: v_l · (W x) for the LLM's vector v_l (EmbedLLM, arXiv 2410.02223)."""

    category = "factorisation"

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw both factors."""
        features = self.training.projection.dimension
        return {
            "query": generator.standard_normal((features, RANK)) / np.sqrt(features),
            "llm": np.stack([own.standard_normal(RANK) for own in self.training.generators()]) / np.sqrt(RANK),
        }

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        return (features @ self.weights["query"]) @ self.weights["llm"].T


class IRT(EmbedLLM):
    """Multidimensional item response theory on embeddings (IRT-Router, arXiv 2506.01048).

    The log odds are a(x) · theta_l - b(x): abilities theta_l of the LLM, how far the query asks for each of them
    (discrimination a, 0..1), and its difficulty b.
    """

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw discriminations and abilities; all queries start equally difficult."""
        return super().start(generator) | {"difficulty": np.zeros(self.training.projection.dimension)}

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        discrimination = (features @ self.weights["query"]).sigmoid()
        return discrimination @ self.weights["llm"].T - (features @ self.weights["difficulty"])[:, None]


TREES = 60


SHARE = 0.5  # of the queries, drawn for each tree


class RandomForestParams(BaselineParams):
    """Least numbers of queries in a leaf to be tried."""

    minimum_leaf: tuple[int, ...] = Field(default=(5, 20), min_length=1)


class RandomForest(Predictive):
    """One forest per LLM, the quality predictor of MixLLM (arXiv 2502.18482); Breiman 2001."""

    category = "predictor"
    seeded = True
    Params = RandomForestParams

    def fit(self, minimum_leaf: int) -> None:
        """Grow the forests."""
        from sklearn.ensemble import RandomForestRegressor

        training = self.training
        features = training.projection(training.sample.embeddings).astype(np.float32)
        self.forests = [
            RandomForestRegressor(
                TREES,
                min_samples_leaf=minimum_leaf,
                max_features="sqrt",
                max_samples=SHARE,
                random_state=(training.seed + number) % 2**32,
            ).fit(features, quality)
            for number, quality in zip(training.numbers(), training.outcomes.quality.T, strict=True)
        ]

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the trees, (N, L)."""
        features = self.training.projection(sample.embeddings).astype(np.float32)
        return np.column_stack([forest.predict(features) for forest in self.forests])


class RidgeParams(BaselineParams):
    """Ridge penalties to be tried."""

    penalty: tuple[float, ...] = Field(default=(3.0, 10.0, 30.0, 100.0, 300.0), min_length=1)


class Ridge(Predictive):
    """One linear model per LLM, squared loss."""

    category = "predictor"
    Params = RidgeParams

    def fit(self, penalty: float) -> None:
        """Solve for the weights."""
        from sklearn.linear_model import Ridge as Model

        self.model = Model(penalty).fit(self.training.sample.embeddings, self.training.outcomes.quality)

    def quality(self, sample: Sample) -> np.ndarray:
        """Linear in the embedding, (N, L)."""
        return np.asarray(self.model.predict(sample.embeddings))
