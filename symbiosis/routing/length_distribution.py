"""How long an answer may become: log-normal around its expected length, each LLM with its own spread."""

from dataclasses import dataclass

import numpy as np

from symbiosis.routing.outcomes import Llms


@dataclass(frozen=True)
class LengthDistribution:
    """Of the response tokens of each LLM, given what is expected of them.

    Attributes
    ----------
    centre, sigma
        (L,), mean and standard deviation of log(observed / expected).
    longest
        (L,), no quantile goes beyond.
    """

    centre: np.ndarray
    sigma: np.ndarray
    longest: np.ndarray

    @classmethod
    def fit(cls, expected: np.ndarray, observed: np.ndarray) -> "LengthDistribution":
        """Fit to queries that the predictor was not trained on: expected and observed response tokens, (N, L)."""
        tokens = np.maximum(observed, 1.0)
        errors = np.log(tokens) - np.log(np.maximum(expected, 1.0))
        return cls(errors.mean(axis=0), errors.std(axis=0), tokens.max(axis=0))

    def quantile(self, expected: np.ndarray, share: float) -> np.ndarray:
        """Tokens that an answer exceeds with probability 1 - `share`, (N, L), from the expected ones, (N, L)."""
        from scipy.special import ndtri

        factor = np.exp(self.centre + self.sigma * ndtri(share))
        tokens: np.ndarray = np.minimum(np.maximum(expected, 1.0) * factor, self.longest)
        return tokens

    def cost_usd(self, llms: Llms, prompt_tokens: np.ndarray, expected: np.ndarray, share: float) -> np.ndarray:
        """Dollars that an answer exceeds with probability 1 - `share`, (N, L)."""
        return llms.cost_usd(prompt_tokens, self.quantile(expected, share))

    def completion_s(self, llms: Llms, waits: np.ndarray, expected: np.ndarray, share: float) -> np.ndarray:
        """Seconds to the whole answer exceeded with probability 1 - `share`, (N, L), after known waits, (L,)."""
        return waits + llms.service_s(self.quantile(expected, share))
