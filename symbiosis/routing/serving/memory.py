"""Decisions that await feedback, and those that have had it, in the process alone: bounded, and none counts twice."""

from collections import OrderedDict

from symbiosis.core.errors import InputError, quoted
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import DecisionRecord


class Memory:
    """Decisions that await feedback by id, oldest first, and the feedback that others have had.

    Parameters
    ----------
    most, lifetime_s
        At most so many of each, and decisions for so long.
    """

    def __init__(self, most: int, lifetime_s: float) -> None:
        self.most, self.lifetime_s = most, lifetime_s
        self.records: OrderedDict[str, DecisionRecord] = OrderedDict()
        self.rewarded: OrderedDict[str, Feedback] = OrderedDict()

    def remember(self, record: DecisionRecord) -> None:
        """Keep a decision; what is too old or too much goes."""
        records = self.records
        records[record.decision] = record
        too_old = record.at - self.lifetime_s
        while records:
            oldest = next(iter(records))
            if len(records) <= self.most and records[oldest].at >= too_old:
                break
            del records[oldest]

    def recall(self, key: str, told: Feedback, now: float) -> DecisionRecord | None:
        """Return the decision that feedback is for; None if it has had this very feedback.

        Raises
        ------
        InputError
            Unknown, expired or otherwise rewarded decision.
        """
        if (before := self.rewarded.get(key)) is not None:
            if before == told:
                return None
            raise InputError(f"decision {quoted(key)} has other feedback already: feedback cannot be changed")
        record = self.records.get(key)
        if record is None or now - record.at > self.lifetime_s:
            raise InputError(
                f"decision {quoted(key)} is unknown, or too old for feedback (kept: {self.lifetime_s:g} s, {self.most} "
                "decisions): use the id of a recent decision"
            )
        return record

    def reward(self, key: str, told: Feedback) -> None:
        """Take note that a decision has had its feedback."""
        self.records.pop(key, None)
        self.rewarded[key] = told
        while len(self.rewarded) > self.most:
            self.rewarded.popitem(last=False)
