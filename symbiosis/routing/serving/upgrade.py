"""What an earlier release has left in a state folder: its journal of decisions goes into the store, once.

That journal was a file of JSON lines, and versions said by its bytes how far they had learned. The import may be killed
at any point: what is in the store is passed over the next time, and the journal keeps its name until all is done.
"""

import shutil
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import DecisionRecord
from symbiosis.routing.serving.snapshots import FORMAT, RECORDS, STATE
from symbiosis.routing.serving.versions import DIGESTS, Versions

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

JOURNAL, DONE = "decisions.jsonl", "decisions.jsonl.imported"


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True, slots=True)
class _FeedbackLine:
    feedback: str
    quality: float | None
    response_tokens: float | None
    satisfied: bool | None


_DECISION, _FEEDBACK = TypeAdapter(DecisionRecord), TypeAdapter(_FeedbackLine)


@dataclass(frozen=True)
class _Places:
    """What stood where in the journal: the bytes after its lines, in order, and what they are in the store."""

    decision_ends: list[int]
    sequences: list[int]
    lesson_ends: list[int]
    lessons: list[int]
    by_decision: dict[str, int]

    def sequence(self, end: int) -> int:
        """Sequence of the last decision before a byte."""
        place = bisect_right(self.decision_ends, end)
        return self.sequences[place - 1] if place else 0

    def lesson(self, end: int) -> int:
        """Number of the last lesson before a byte."""
        place = bisect_right(self.lesson_ends, end)
        return self.lessons[place - 1] if place else 0


def take_over(versions: Versions, store: "Store") -> None:
    """Bring the journal of an earlier release into the store, and its versions into their present form.

    The journal's file stays, as ``decisions.jsonl.imported``. No other process may use the folder meanwhile.

    Raises
    ------
    InputError
        A line of the journal is damaged: names the byte where it begins. Nothing is changed.
    """
    journal = versions.folder / JOURNAL
    for _ in _lines(journal):  # all of it is readable, before anything is written
        pass
    store.take_in(record for record, _ in _lines(journal))
    places = _places(journal, store)
    for number in versions.numbers():
        try:
            folder = versions.open(number)
        except InputError:
            continue  # it is damaged, and refused when it is asked for
        told = read_json(folder / STATE)
        if "format" not in told:
            versions.save(lambda draft, folder=folder, told=told: _rewrite(folder, draft, told, places), number)  # type: ignore[misc]
    journal.rename(versions.folder / DONE)


def _lines(path: Path) -> Iterator[tuple[DecisionRecord | tuple[str, Feedback], int]]:
    """Give the journal's records and the bytes after them; an unfinished last line is left out."""
    at = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            end = at + len(line)
            try:
                if line.startswith(b'{"decision"'):
                    yield _DECISION.validate_json(line), end
                else:
                    told = _FEEDBACK.validate_json(line)
                    yield (told.feedback, Feedback(told.quality, told.response_tokens, told.satisfied)), end
            except ValidationError as error:
                if b'"features":' in line:  # 704cca7 and before kept the features of a router, not a query's vector
                    raise InputError(
                        f"{path} was written by a release whose lessons cannot be learned again: delete {path.parent}, "
                        "or name another folder for the state"
                    ) from None
                raise InputError(
                    f"{path}: the line from byte {at} is damaged ({error.errors()[0]['msg']}): take it out"
                ) from None
            at = end


def _places(journal: Path, store: "Store") -> _Places:
    known = store.places()
    made = _Places([], [], [], [], {})
    for record, end in _lines(journal):
        key = record.decision if isinstance(record, DecisionRecord) else record[0]
        sequence, lesson = known.get(key, (None, None))
        if isinstance(record, DecisionRecord) and sequence is not None:
            made.decision_ends.append(end)
            made.sequences.append(sequence)
        elif not isinstance(record, DecisionRecord) and lesson is not None:
            made.lesson_ends.append(end)
            made.lessons.append(lesson)
            made.by_decision[key] = lesson
    return made


def _rewrite(folder: Path, draft: Path, told: dict[str, Any], places: _Places) -> None:
    """Fill a folder with a version in its present form."""
    shutil.copytree(folder, draft, dirs_exist_ok=True)
    (draft / DIGESTS).unlink()
    (draft / RECORDS).write_bytes(b"")  # the store has them
    origin = dict(told["origin"])
    undone = sorted(places.by_decision[key] for key in origin.get("undone", ()) if key in places.by_decision)
    origin["undone"] = [(lesson - 1, lesson) for lesson in undone]
    origin["since"] = places.lesson(origin.get("since", 0))
    logged = told.get("logged")
    ends = {
        "logged": None if logged is None else places.lesson(logged),
        "position": None if logged is None else places.sequence(logged),
    }
    write_json(draft / STATE, {**told, **ends, "format": FORMAT, "origin": origin, "rewarded": []})
