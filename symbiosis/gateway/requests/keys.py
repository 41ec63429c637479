"""API keys: hashed, each with a budget in a period and a rate; who is refused is told when to come back."""

import hmac
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal, NamedTuple

from pydantic import ValidationError

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import KeyEntry, KeysConfig

PREFIX = "sk-symbiosis-"
Period = Literal["day", "month", "total"]


class KeyRefused(InputError):  # noqa: N818
    """A request that its key does not cover, in OpenAI's form.

    Attributes
    ----------
    status
        401 for a missing or unknown key, 429 for a budget or rate that is used up.
    code
        OpenAI's word for it.
    retry_after_s
        Seconds until it may succeed; None: not to be known.
    """

    def __init__(self, message: str, status: int, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    def document(self) -> dict[str, object]:
        """Return the body of the answer."""
        kind = {"invalid_api_key": "invalid_request_error", "insufficient_quota": "insufficient_quota"}
        error = {"message": str(self), "type": kind.get(self.code, "requests"), "param": None, "code": self.code}
        return {"error": error}


class NewKey(NamedTuple):
    """A key that was made: the secret, which is shown once, and its SHA-256 for the config."""

    secret: str
    sha256: str

    def entry(self, name: str) -> str:
        """Return the entry for ``keys.entries`` of the config.

        Raises
        ------
        InputError
            It is no name for a key.
        """
        try:
            KeyEntry(name=name, sha256=self.sha256)
        except ValidationError as error:
            raise InputError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return (
            f"- {{name: {json.dumps(name)}, sha256: {self.sha256}, budget_usd: null, period: month, per_minute: null}}"
        )


def new_key() -> NewKey:
    """Make a key of 256 random bits."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return NewKey(secret, digest(secret))


def digest(secret: str) -> str:
    """Return a key's SHA-256; a slow hash is of no use for 256 random bits."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def period_of(period: Period, at: float) -> str:
    """Return the name of the period in which a time lies, in UTC.

    Examples
    --------
    >>> [period_of(period, 0.0) for period in ("day", "month", "total")]
    ['1970-01-01', '1970-01', 'total']
    """
    if period == "total":
        return "total"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d" if period == "day" else "%Y-%m")


class TokenBucket:
    """A rate with bursts: within any t seconds at most capacity + rate x t pass."""

    def __init__(self, capacity: float, per_second: float, clock: Callable[[], float]) -> None:
        """Start full.

        Parameters
        ----------
        capacity
            What may pass at once, from 1.
        per_second
            How fast it fills.
        clock
            Seconds.
        """
        self.capacity = capacity
        self.per_second = per_second
        self._clock = clock
        self._tokens, self._at = capacity, clock()

    def take(self) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now = self._clock()
        # A clock that goes backwards gives nothing.
        self._tokens = min(self.capacity, self._tokens + max(now - self._at, 0.0) * self.per_second)
        self._at = max(now, self._at)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.per_second


class Keys:
    """The keys of a config and what they have left."""

    def __init__(
        self,
        config: KeysConfig,
        spent: Callable[[str, str], float],
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start with full buckets.

        Parameters
        ----------
        config
            The block ``keys``.
        spent
            USD that a key, by name, has spent in a period; `period_of` names periods.
        workers
            Processes that share a key's rate: each lets an equal part pass, but at least one request at once.
        clock, now
            Monotonic seconds; seconds since 1970.
        """
        self.config = config
        self._spent = spent
        self._now = now
        self._digests = [(entry, entry.sha256.encode()) for entry in config.entries]
        self._buckets = {
            entry.name: TokenBucket(max(entry.per_minute / workers, 1.0), entry.per_minute / workers / 60, clock)
            for entry in config.entries
            if entry.per_minute is not None
        }

    def authenticate(self, authorization: str | None) -> KeyEntry | None:
        """Return whose key a request brings.

        Every entry is compared, each in constant time.

        Parameters
        ----------
        authorization
            The header, ``Bearer sk-symbiosis-...``.
        """
        secret = bearer(authorization)
        if secret is None:
            return None
        given, found = digest(secret).encode(), None
        for entry, expected in self._digests:
            if hmac.compare_digest(given, expected):
                found = entry
        return found

    def admit(self, authorization: str | None) -> KeyEntry | None:
        """Return whose key a request brings, if the key covers it; None: no known key, and none is required.

        What runs at the moment is not spent yet, so that a budget can be exceeded by as much.

        Raises
        ------
        KeyRefused
            A key is required and none that is known was given, or its budget or rate is used up.
        """
        entry = self.authenticate(authorization)
        if entry is None:
            if self.config.required:
                what = "the API key is not known" if bearer(authorization) else "an API key is missing"
                raise KeyRefused(f"{what}: send the header `Authorization: Bearer KEY`", 401, "invalid_api_key")
            return None
        if entry.budget_usd is not None:
            period = period_of(entry.period, self._now())
            if self._spent(entry.name, period) >= entry.budget_usd:
                during = "in total" if period == "total" else f"for {period}"
                told = f"the key {entry.name} has spent its {entry.budget_usd:g} USD {during}: ask for a higher budget"
                raise KeyRefused(told, 429, "insufficient_quota")
        bucket = self._buckets.get(entry.name)
        if bucket is not None and (wait := bucket.take()) > 0:
            told = f"the key {entry.name} may send {entry.per_minute:g} requests a minute: wait {math.ceil(wait)} s"
            raise KeyRefused(told, 429, "rate_limit_exceeded", wait)
        return entry

    def is_admin(self, authorization: str | None, environment: Mapping[str, str] | None = None) -> bool:
        """Tell whether a request brings the admin's key; never while the variable that holds it is not set."""
        expected = (os.environ if environment is None else environment).get(self.config.admin_env)
        secret = bearer(authorization)
        if not expected or secret is None:
            return False
        return hmac.compare_digest(digest(secret).encode(), digest(expected).encode())


def bearer(authorization: str | None) -> str | None:
    """Return the secret of a header ``Bearer SECRET``, None if it is another or empty."""
    scheme, _, secret = (authorization or "").strip().partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None
