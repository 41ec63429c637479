"""What users tell after an answer, and how the router learns from it while it runs.

Refined feedback is the answer's quality and length: `Router.learn`. Binary feedback is satisfied or not: a head of its
own, whose output joins the score (MixLLM, arXiv 2502.18482, Eq. 15 to 22). Where the printed equations would not
learn, this differs from them:

- Eq. 20 descends on log pi * r, so that a reward makes the rewarded LLM rarer: the sign is turned.
- Actions come from argmax s', not from the softmax that is differentiated: either a known share of the actions is
  drawn from the softmax and weighted by its propensity (``policy_gradient``), or the head is a predictor of
  satisfaction, which may be trained on any actions (``supervised``).
- kappa, an inverse variance, is unbounded for a head that knows nothing: it is bounded, and 0 during a warm-up.
- One output layer for all LLMs would have to be rebuilt for a new one: each LLM has its own weights.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from symbiosis.routing.heads import LinearHeads


class SupervisedHead:
    """Ridge regression, per LLM, of satisfaction minus predicted quality; knows nothing at first.

    Parameters
    ----------
    heads
        One target per LLM. Their A_l says how much the router has seen already, so that a few clicks do not outweigh
        the offline data.
    """

    def __init__(self, heads: LinearHeads) -> None:
        self.heads = heads

    @classmethod
    def blank(cls, precision: np.ndarray) -> "SupervisedHead":
        """Start from A_l, (L, D, D), and no opinion."""
        return cls(LinearHeads(precision.copy(), np.zeros((*precision.shape[:2], 1))))

    def output(self, x: np.ndarray) -> np.ndarray:
        """Return the expected surplus of satisfaction over predicted quality, (L,)."""
        return self.heads.predict(x[None])[0][0, :, 0]

    def learn(self, arm: int, x: np.ndarray, satisfied: bool, expected: float) -> None:
        """Learn whether an answer satisfied of which quality `expected` was predicted."""
        self.heads.update(arm, x, np.array([float(satisfied) - expected]))

    def take(self, arms: Sequence[int]) -> "SupervisedHead":
        """Return the head of the given LLMs only."""
        return SupervisedHead(self.heads.take(arms))

    def with_llm(self) -> "SupervisedHead":
        """Return the head with one LLM more, of which nothing has been seen."""
        penalty = float(np.linalg.eigvalsh(self.heads.precision[0])[0])
        return SupervisedHead(self.heads.extend(LinearHeads.blank(1, self.heads.dimension, 1, penalty)))


class PolicyHead:
    """Softmax policy pi(l | x) with linear logits, trained by REINFORCE (Williams 1992) with a running baseline.

    Parameters
    ----------
    weights
        (L, D).
    rate
        Step size eta_3.
    """

    MAXIMUM_WEIGHT = 10.0  # of pi / propensity, against the variance of rare actions
    BASELINE_RATE = 0.05

    def __init__(self, weights: np.ndarray, rate: float) -> None:
        self.weights = weights
        self.rate = rate
        self.baseline = 0.0

    @classmethod
    def blank(cls, n_llms: int, dimension: int, rate: float) -> "PolicyHead":
        """Start from the uniform policy."""
        return cls(np.zeros((n_llms, dimension)), rate)

    def output(self, x: np.ndarray) -> np.ndarray:
        """Return the logits, (L,), with mean 0: a constant would change kappa and nothing else."""
        logits: np.ndarray = (self.weights * x).sum(axis=1)
        return logits - logits.mean()

    def policy(self, x: np.ndarray) -> np.ndarray:
        """Return pi, (L,)."""
        odds = np.exp(self.output(x) - self.output(x).max())
        return odds / odds.sum()

    def learn(self, arm: int, x: np.ndarray, reward: float, propensity: float) -> None:
        """Ascend along advantage * grad log pi(arm | x), weighted by pi over the propensity of the action.

        Parameters
        ----------
        arm
            The LLM that answered.
        x
            (D,).
        reward
            +1 or -1.
        propensity
            Probability with which the arm was chosen, above zero.
        """
        policy = self.policy(x)
        weight = min(policy[arm] / propensity, self.MAXIMUM_WEIGHT)
        direction = -policy
        direction[arm] += 1.0
        self.weights += self.rate * weight * (reward - self.baseline) * direction[:, None] * x
        self.baseline += self.BASELINE_RATE * (reward - self.baseline)

    def take(self, arms: Sequence[int]) -> "PolicyHead":
        """Return the head of the given LLMs only."""
        part = PolicyHead(self.weights[list(arms)], self.rate)
        part.baseline = self.baseline
        return part

    def with_llm(self) -> "PolicyHead":
        """Return the head with one LLM more, with logit 0."""
        more = PolicyHead(np.vstack([self.weights, np.zeros((1, self.weights.shape[1]))]), self.rate)
        more.baseline = self.baseline
        return more


class Confidence:
    """kappa: how much the satisfaction head counts, by LLM; Eq. 17 over a window, bounded, after a warm-up.

    Parameters
    ----------
    maximum
        Upper bound.
    warm_up
        Answers with feedback before kappa leaves 0.
    window
        Queries over which the variance of each LLM's output is taken.
    epsilon
        Added to the variance.
    """

    def __init__(self, maximum: float, warm_up: int, window: int = 512, epsilon: float = 1e-3) -> None:
        self.maximum, self.warm_up, self.epsilon = maximum, warm_up, epsilon
        self.outputs: deque[np.ndarray] = deque(maxlen=window)
        self.feedback = 0
        self._sum: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def observe(self, output: np.ndarray) -> None:
        """Take note of the head's output (L,) for one query."""
        if len(self.outputs) == self.outputs.maxlen:
            oldest = self.outputs[0]
            self._sum, self._squares = self._sum - oldest, self._squares - oldest**2
        self.outputs.append(output)
        self._sum, self._squares = self._sum + output, self._squares + output**2

    def rewarded(self) -> None:
        """Take note of one more feedback."""
        self.feedback += 1

    def kappa(self) -> np.ndarray | float:
        """Return kappa, (L,), in 0..maximum; 0 before warm-up."""
        if self.feedback < self.warm_up or not self.outputs:
            return 0.0
        n = len(self.outputs)
        variance = np.maximum(self._squares / n - (self._sum / n) ** 2, 0.0)
        return np.minimum(1 / (variance + self.epsilon), self.maximum)
