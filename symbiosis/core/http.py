"""HTTP sessions that try again, by urllib3's `Retry`."""

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

LONGEST_PAUSE = 60  # seconds, also where a server asks for more
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of answers that may be better next time."""


def retries(attempts: int, first_pause: float) -> Retry:
    """Return when to try again and how long to wait before.

    A connection that fails and a status of `PASSING` are tried again: at once, then with pauses that double. They are
    lengthened by chance, not seeded: clients that were cut off together must not come back together. A server that
    names a pause gets it.

    Parameters
    ----------
    attempts
        In all, the first included.
    first_pause
        Seconds before the third attempt.
    """
    return Retry(
        total=attempts - 1,
        allowed_methods=None,
        status_forcelist=PASSING,
        backoff_factor=first_pause / 2,
        backoff_jitter=first_pause / 2,
        backoff_max=LONGEST_PAUSE,
        retry_after_max=LONGEST_PAUSE,
        raise_on_status=False,
    )


def patient_session(attempts: int, first_pause: float) -> requests.Session:
    """Return a session that tries again as `retries` says; an answer of the last attempt is returned as it is."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries(attempts, first_pause)))
    return session
