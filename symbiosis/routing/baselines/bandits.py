"""Bandits: they see the outcome of the LLM that they called, and of no other."""

from abc import abstractmethod

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import Baseline, BaselineParams, Predictive, Sample
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.linear_heads import LinearHeads

WARM_UP = 20  # rounds per LLM in which any is called, with the same chance
PLAYED = (0.01, 100.0)  # trade-offs drawn while learning; beyond them the cheapest or the best LLM gets everything
KILO = 1000.0  # response tokens are learned in thousands, to be of the size of quality


class BanditParams(BaselineParams):
    """Settings to be tried.

    Attributes
    ----------
    penalty
        Ridge penalty on the features; on the level it is 1.
    exploration
        Weight of the uncertainty x A^-1 x^T, its root taken.
    """

    penalty: tuple[float, ...] = Field(default=(300.0, 3000.0), min_length=1)
    exploration: tuple[float, ...] = Field(default=(0.3, 1.0, 3.0), min_length=1)


class Bandit(Baseline):
    """Linear heads, fed with one outcome per training query in a stream of random order."""

    category = "bandit"
    seeded = True
    Params = BanditParams

    def fit(self, penalty: float, exploration: float) -> None:
        """Play the training queries."""
        self.penalty, self.exploration = penalty, exploration
        training = self.training
        n = len(training.sample)
        self.order = np.random.default_rng(training.seed).permutation(n)
        self.features = self.prepare(training.sample)
        # Each LLM has its own random numbers, so that the order of the LLMs does not matter.
        self.noise = np.stack([own.standard_normal(n) for own in training.generators()], axis=1)
        self.learn()

    @abstractmethod
    def learn(self) -> None:
        """Play the stream."""

    def prepare(self, sample: Sample) -> np.ndarray:
        """Features for heads with penalty 1: all but the constant scaled down by the root of the penalty."""
        features = self.training.projection(sample.embeddings)
        features[:, :-1] /= np.sqrt(self.penalty)
        return features

    def warms_up(self, place: int) -> bool:
        """Say whether the round is one of the first."""
        return place < WARM_UP * len(self.training.llms)


class LinUCB(Bandit, Predictive):
    """Optimism: expected quality and its uncertainty (Li et al. 2010, arXiv 1003.0146).

    One stream serves the whole sweep: each round has a trade-off drawn at random, and quality and response length are
    learned apart. Afterwards nothing is explored.
    """

    def learn(self) -> None:
        """Play the stream, each round under its own trade-off."""
        training, outcomes = self.training, self.training.outcomes
        low, high = np.log(PLAYED)
        trade_offs = np.exp(np.random.default_rng([training.seed, 1]).uniform(low, high, len(self.order)))
        self.heads = LinearHeads.blank(len(training.llms), self.features.shape[1], 2, 1.0)
        for place, query in enumerate(self.order.tolist()):
            means, variances = self.heads.predict(self.features[query : query + 1])
            if self.warms_up(place):
                arm = int(self.noise[query].argmax())
            else:
                hoped = means[0, :, 0] + self.exploration * self.spread(variances[0], query)
                cost = scaled_cost(self.dollars(means[:, :, 1], training.sample.prompt_tokens[query]), self.scale)
                arm = int(utility(hoped, cost[0], trade_offs[place]).argmax())
            seen = np.array([outcomes.quality[query, arm], outcomes.response_tokens[query, arm] / KILO])
            self.heads.update(arm, self.features[query], seen)

    def spread(self, variances: np.ndarray, query: int) -> np.ndarray:
        """Weigh the uncertainty, (L,)."""
        return np.sqrt(variances)

    @property
    def scale(self) -> float:
        """Dollars that count as 1."""
        return self.training.cost_scale

    def dollars(self, kilotokens: np.ndarray, prompt_tokens: np.ndarray) -> np.ndarray:
        """Cost of predicted response lengths, (N, L)."""
        return self.training.llms.cost_usd(prompt_tokens, np.maximum(kilotokens, 0.0) * KILO)

    def predict(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Predict quality and dollars, (N, L) each."""
        means = self.heads.predict(self.prepare(sample))[0]
        return means[:, :, 0], self.dollars(means[:, :, 1], sample.prompt_tokens)

    def quality(self, sample: Sample) -> np.ndarray:
        """Predict quality, (N, L)."""
        return self.predict(sample)[0]


class Thompson(LinUCB):
    """Play what is best in a draw from the posterior (Agrawal and Goyal 2013, arXiv 1209.3352); otherwise LinUCB."""

    def spread(self, variances: np.ndarray, query: int) -> np.ndarray:
        """Draw each LLM's deviation; its expected quality is normal, so that no weights need to be drawn."""
        return np.sqrt(variances) * self.noise[query]


class MetaLLMParams(BanditParams):
    """Fewer settings: every one is as many bandits as there are trade-offs."""

    exploration: tuple[float, ...] = Field(default=(0.3, 1.0), min_length=1)


class MetaLLM(Bandit):
    """A linear bandit on one reward, quality less weighted cost (MetaLLM, arXiv 2407.10834).

    The reward holds the trade-off, so every operating point is a bandit of its own, with its own stream: fewer points
    than others have. What is spent on learning is seen only through the outcomes of the LLMs called.
    """

    Params = MetaLLMParams
    trade_offs = np.logspace(-1, 1.5, 7)

    def learn(self) -> None:
        """Play one stream per trade-off, all at once: the bandits are as many blocks of heads."""
        training, outcomes = self.training, self.training.outcomes
        n_llms, points = len(training.llms), len(self.trade_offs)
        cost = scaled_cost(outcomes.cost_usd, training.cost_scale)
        self.heads = LinearHeads.blank(points * n_llms, self.features.shape[1], 1, 1.0)
        for place, query in enumerate(self.order.tolist()):
            means, variances = self.heads.predict(self.features[query : query + 1])
            hoped = (means[0, :, 0] + self.exploration * np.sqrt(variances[0])).reshape(points, n_llms)
            arms = hoped.argmax(axis=1)
            if self.warms_up(place):
                arms[:] = self.noise[query].argmax()
            for point, arm in enumerate(arms.tolist()):
                reward = utility(outcomes.quality[query, arm], cost[query, arm], self.trade_offs[point])
                self.heads.update(point * n_llms + arm, self.features[query], np.array([reward]))

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Call the LLM with the highest expected reward."""
        means = self.heads.predict(self.prepare(sample))[0][:, :, 0]
        choices = means.reshape(len(sample), len(self.trade_offs), -1).argmax(axis=2).T
        return Curve.of(choices, outcomes)
