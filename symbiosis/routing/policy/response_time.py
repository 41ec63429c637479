"""How long a query will take, with an interval: what is uncertain is the answer's length and the LLM's speed."""

import numpy as np

JITTER = 0.2
"""Standard deviation of the log of a service time whose tokens are known; the median of 44 measured LLMs."""
DEVIATIONS = 1.645
"""Of a normal distribution: 90 % lie within."""


def completion_interval(
    wait_s: np.ndarray | float,
    startup_s: np.ndarray | float,
    service_s: np.ndarray,
    log_deviation: np.ndarray | float,
    jitter: np.ndarray | float = JITTER,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 90 % interval of the time to the last token, in seconds.

    The service time counts as log-normal with the expected mean. Its variance is the jitter's and, as far as the time
    depends on the answer's length, the length's; source: docs/methods.md, section 2.11.

    Parameters
    ----------
    wait_s
        Until a worker is free, taken for certain; all arrays (..., L).
    startup_s, service_s
        Expected time to the first token, and to the last from when a worker is free.
    log_deviation
        Standard deviation of the log of the response tokens.
    jitter
        Standard deviation of the log of the service time of an answer of known length.
    """
    share = np.clip(1 - startup_s / np.maximum(service_s, 1e-12), 0.0, 1.0)
    deviation = np.sqrt((share * log_deviation) ** 2 + np.square(jitter))
    middle = service_s * np.exp(-(deviation**2) / 2)
    lower: np.ndarray = wait_s + middle * np.exp(-DEVIATIONS * deviation)
    upper: np.ndarray = wait_s + middle * np.exp(DEVIATIONS * deviation)
    return lower, upper
