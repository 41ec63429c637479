"""The policy that binary feedback trains in MixLLM (arXiv 2502.18482, Eq. 15 to 22): a perceptron of three layers.

Two hidden layers are shared, the third has weights of its own for each LLM, so that LLMs come and go without touching
the others' outputs.
"""

from collections.abc import Sequence

import numpy as np

TRUNK = ("first", "first_bias", "second", "second_bias")


class PolicyNetwork:
    """Softmax policy pi(l | x), trained by REINFORCE (Williams 1992) with a running baseline.

    Parameters
    ----------
    first, first_bias, second, second_bias
        (H, D), (H,), (H, H) and (H,), the shared layers.
    outputs
        (L, H + 1), weights and bias of each LLM.
    rate
        Step size eta_3.
    """

    MAXIMUM_WEIGHT = 10.0  # of pi / propensity, against the variance of rare actions
    BASELINE_RATE = 0.05

    def __init__(
        self,
        first: np.ndarray,
        first_bias: np.ndarray,
        second: np.ndarray,
        second_bias: np.ndarray,
        outputs: np.ndarray,
        rate: float,
    ) -> None:
        self.first, self.first_bias = first, first_bias
        self.second, self.second_bias = second, second_bias
        self.outputs = outputs
        self.rate = rate
        self.baseline = 0.0

    @classmethod
    def blank(cls, n_llms: int, dimension: int, hidden: int, rate: float, seed: int) -> "PolicyNetwork":
        """Start from the uniform policy: random shared layers (Glorot and Bengio 2010), outputs of zero."""
        rng = np.random.default_rng(seed)
        first = rng.standard_normal((hidden, dimension)) * np.sqrt(2 / (hidden + dimension))
        second = rng.standard_normal((hidden, hidden)) * np.sqrt(1 / hidden)
        return cls(first, np.zeros(hidden), second, np.zeros(hidden), np.zeros((n_llms, hidden + 1)), rate)

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return both hidden layers, the second with a constant 1, and the logits."""
        low = np.tanh(self.first @ x + self.first_bias)
        high = np.append(np.tanh(self.second @ low + self.second_bias), 1.0)
        # Not a matrix product: its rounding could depend on the number of LLMs.
        return low, high, (self.outputs * high).sum(axis=1)

    def output(self, x: np.ndarray) -> np.ndarray:
        """Return the logits s_df, (L,), for features (D,)."""
        return self._forward(x)[2]

    def policy(self, x: np.ndarray) -> np.ndarray:
        """Return pi, (L,)."""
        return _softmax(self.output(x))

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
        low, high, logits = self._forward(x)
        policy = _softmax(logits)
        weight = min(policy[arm] / propensity, self.MAXIMUM_WEIGHT)
        direction = -policy
        direction[arm] += 1.0
        direction *= self.rate * weight * (reward - self.baseline)
        to_second = (direction @ self.outputs)[:-1] * (1 - high[:-1] ** 2)
        to_first = (to_second @ self.second) * (1 - low**2)
        self.outputs += np.outer(direction, high)
        self.second += np.outer(to_second, low)
        self.second_bias += to_second
        self.first += np.outer(to_first, x)
        self.first_bias += to_first
        self.baseline += self.BASELINE_RATE * (reward - self.baseline)

    def _with_outputs(self, outputs: np.ndarray) -> "PolicyNetwork":
        first, first_bias, second, second_bias = (getattr(self, name).copy() for name in TRUNK)
        twin = PolicyNetwork(first, first_bias, second, second_bias, outputs, self.rate)
        twin.baseline = self.baseline
        return twin

    def take(self, arms: Sequence[int]) -> "PolicyNetwork":
        """Return the policy over the given LLMs only; it shares nothing with this one."""
        return self._with_outputs(self.outputs[list(arms)])

    def with_llm(self) -> "PolicyNetwork":
        """Return the policy with one LLM more, with logit 0 everywhere."""
        return self._with_outputs(np.vstack([self.outputs, np.zeros((1, self.outputs.shape[1]))]))


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    policy: np.ndarray = odds / odds.sum()
    return policy
