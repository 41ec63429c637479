"""What the gate says of a candidate: its checks, each with a number and its limit, and one sentence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from symbiosis.core.serving import Kind
from symbiosis.registry.checks.check import Check

KINDS: tuple[Kind, ...] = ("router", "recommender")
Standing = Literal["passed", "refused", "unchanged"]
"""``unchanged``: the candidate is what serves already."""


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
        In the order they were done; none where nothing had to be judged.
    words
        One sentence: what was decided, and why.
    candidate, champion
        The versions, such as ``version 3 (1a2b3c4d5e6f)``; None: there is no champion yet.
    """

    kind: Kind
    standing: Standing
    checks: tuple[Check, ...]
    words: str
    candidate: str
    champion: str | None

    @property
    def passed(self) -> bool:
        """Whether the candidate is to be promoted."""
        return self.standing == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "passed": self.passed}


def standing_of(checks: Sequence[Check]) -> Standing:
    """Return what follows of checks: a candidate passes if there is one that decides, and all of those pass."""
    deciding = [check.passed for check in checks if check.decides]
    return "passed" if deciding and all(deciding) else "refused"


def sentence(kind: Kind, checks: Sequence[Check], candidate: str, champion: str | None) -> str:
    """Return what was decided in one sentence, with the reasons."""
    against = f" against {champion}" if champion else ", the first of its kind"
    failed = [check.words for check in checks if check.decides and not check.passed]
    if standing_of(checks) == "passed":
        main = next((check.words for check in checks if check.low is not None), "all checks passed")
        return f"{kind} {candidate} passes{against}: {main}"
    return f"{kind} {candidate} is refused{against}: {'; '.join(failed) or 'nothing could be checked'}"
