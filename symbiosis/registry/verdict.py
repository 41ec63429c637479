"""What the gate says of a candidate: its checks, each with a number and its limit, and one sentence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from symbiosis.core.serving import Kind
from symbiosis.registry.checks.check import Check
from symbiosis.registry.versions import RegisteredVersion

Standing = Literal["passed", "refused", "unchanged"]
"""``unchanged``: the candidate is what serves already."""


@dataclass(frozen=True)
class Judged:
    """A version, as a verdict names it.

    Attributes
    ----------
    version, digest
        Number and digest of its bundle.
    """

    version: int
    digest: str

    @classmethod
    def of(cls, registered: RegisteredVersion) -> "Judged":
        """Name a registered version."""
        return cls(registered.version, registered.digest)

    def __str__(self) -> str:
        return f"version {self.version} ({self.digest})"


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may serve.

    Attributes
    ----------
    kind
        Which model.
    standing
        What follows.
    checks
        In the order they were done; none where there is nothing to judge.
    words
        One sentence: what was decided, and why.
    candidate, champion
        The versions; None: there is no champion yet.
    at
        UTC, ISO 8601.
    """

    kind: Kind
    standing: Standing
    checks: tuple[Check, ...]
    words: str
    candidate: Judged
    champion: Judged | None
    at: str

    @classmethod
    def of(cls, kind: Kind, checks: Sequence[Check], candidate: Judged, champion: Judged | None, at: str) -> "Verdict":
        """Decide by checks: a candidate passes if at least one of them decides, and all of those pass."""
        deciding = [check for check in checks if check.decides]
        failed = [check.words for check in deciding if not check.passed]
        against = f" against the champion, {champion}" if champion else ", the first of its kind"
        if deciding and not failed:
            reason = next((check.words for check in deciding if check.low is not None), "all checks passed")
            words = f"{kind} {candidate} passes{against}: {reason}"
            return cls(kind, "passed", tuple(checks), words, candidate, champion, at)
        words = f"{kind} {candidate} is refused: {'; '.join(failed) or 'nothing could be checked'}"
        return cls(kind, "refused", tuple(checks), words, candidate, champion, at)

    @property
    def passed(self) -> bool:
        """Whether the candidate is to be promoted."""
        return self.standing == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "passed": self.passed}
