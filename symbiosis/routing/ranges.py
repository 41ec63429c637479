"""How far outcomes lie from what a router predicts: intervals of quality and distributions of length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symbiosis.routing.conformal import Intervals, spread
from symbiosis.routing.length_distribution import LengthDistribution


@dataclass(frozen=True)
class Ranges:
    """Fitted to predictions for queries that the predictor was not trained on.

    Attributes
    ----------
    intervals
        Of quality, in units of `symbiosis.routing.conformal.spread`.
    lengths
        Of response tokens.
    """

    intervals: Intervals
    lengths: LengthDistribution

    @classmethod
    def fit(
        cls, quality: np.ndarray, tokens: np.ndarray, observed_quality: np.ndarray, observed_tokens: np.ndarray
    ) -> "Ranges":
        """Fit to predicted and observed quality and response tokens, (N, L) each."""
        return cls(
            Intervals.fit(quality, observed_quality, spread(quality)), LengthDistribution.fit(tokens, observed_tokens)
        )

    def quality(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 90 % interval of quality, (N, L) each, for predictions, (N, L)."""
        return self.intervals(predicted, spread(predicted))

    def take(self, arms: Sequence[int]) -> "Ranges":
        """Return the ranges of the given LLMs, in that order."""
        kept = list(arms)
        own = self.lengths
        return Ranges(
            Intervals(self.intervals.factor[kept]),
            LengthDistribution(own.centre[kept], own.sigma[kept], own.longest[kept]),
        )

    def with_widest(self) -> "Ranges":
        """Return these ranges and, for one LLM more of which nothing is known, the widest."""
        factor, own = self.intervals.factor, self.lengths
        return Ranges(
            Intervals(np.vstack([factor, np.full((1, factor.shape[1]), np.inf)])),
            LengthDistribution(
                np.append(own.centre, own.centre.mean()),
                np.append(own.sigma, own.sigma.max()),
                np.append(own.longest, own.longest.max()),
            ),
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by name."""
        own = self.lengths
        return {
            "factor": self.intervals.factor,
            "centre": own.centre,
            "sigma": own.sigma,
            "longest": own.longest,
        }

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> "Ranges":
        """Return what `tensors` gave."""
        return cls(
            Intervals(tensors["factor"]),
            LengthDistribution(tensors["centre"], tensors["sigma"], tensors["longest"]),
        )
