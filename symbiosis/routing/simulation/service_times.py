"""How long an LLM takes, fitted to measured latencies: a line in the response tokens times log-normal noise."""

from dataclasses import dataclass

import numpy as np

from symbiosis.core.rounding import rounded


@dataclass(frozen=True)
class ServiceTime:
    """Service time = (start-up + tokens / rate) x noise; the noise is log-normal with mean 1.

    Attributes
    ----------
    startup_s, tokens_per_s
        Of the expectation.
    jitter
        Standard deviation of the noise's logarithm.
    """

    startup_s: float
    tokens_per_s: float
    jitter: float

    @classmethod
    def fit(cls, tokens: np.ndarray, latency: np.ndarray) -> "ServiceTime":
        """Fit by least squares of the logarithm, which is maximum likelihood.

        The noise is relative, so that the slow answers do not decide the fit.

        Parameters
        ----------
        tokens, latency
            (rows,), response tokens, and seconds above 0.
        """
        from scipy.optimize import least_squares

        observed, typical = np.log(latency), max(float(np.median(tokens)), 1.0)
        middle = float(np.median(latency))

        def error(x: np.ndarray) -> np.ndarray:
            return np.log(x[0] + x[1] * tokens / typical) - observed

        found = least_squares(error, np.full(2, middle / 2), bounds=(1e-6 * middle, np.inf), x_scale=middle)
        sigma = float(error(found.x).std())
        startup, slope = found.x * np.exp(sigma**2 / 2)  # from the median to the mean
        return cls(rounded(startup, 4), rounded(typical / slope, 4), rounded(sigma, 4))

    def quantiles(self, tokens: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Quantiles of the latency over answers with these tokens, (len(shares),).

        The noise of an answer is taken at 99 evenly spread places of its distribution instead of being drawn.
        """
        from scipy.special import ndtri

        noise = np.exp(self.jitter * ndtri((np.arange(99) + 0.5) / 99) - self.jitter**2 / 2)
        expected = self.startup_s + tokens / self.tokens_per_s
        return np.asarray(np.quantile(np.outer(expected, noise), shares))
