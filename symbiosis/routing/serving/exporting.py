"""Freeze what was told of answers: files that are never changed, only added, for the next training to read.

Feedback is numbered as a learner would number it, so that a file says for good which lessons it holds: what a user says
does not replace what a check said once that is frozen.
"""

import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.artifacts import staged
from symbiosis.core.layout import EXPORTS
from symbiosis.routing.data.readers.exports import EXPORT, highest, name_of
from symbiosis.routing.serving.records import Answer
from symbiosis.routing.serving.storage.database import alone_in
from symbiosis.routing.serving.store import Store

MOST = 50_000
"""Lessons of one file."""


def freeze(store: Store, folder: Path | str = EXPORTS, most: int = MOST) -> Path | None:
    """Write the feedback that is new since the last export of this store, each file whole or not at all.

    Several processes may do so at once: they take turns, and nothing is written twice.

    Parameters
    ----------
    store
        With the decisions and their feedback.
    folder
        Of the exports, made if it is not there.
    most
        Lessons of one file; with more, several are written.

    Returns
    -------
    pathlib.Path or None
        The newest file; None: there was nothing new, and nothing was written.

    Raises
    ------
    InputError
        The folder cannot be written to. `StoreUnavailable` where the store cannot be reached.
    """
    store.number_lessons()
    key, forms, path = store.key, store.forms(), None
    folder = Path(folder)
    with alone_in(folder, "freezing feedback"):
        for left in folder.glob(".decisions-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for answers in _parts(store.answers(highest(folder, key)), most):
            path = folder / name_of(key, answers[0].lesson.number, answers[-1].lesson.number)
            with staged(path) as (draft,):
                frame(answers, key, forms).write_parquet(draft)
    return path


def frame(answers: list[Answer], store: str, forms: Mapping[str, str]) -> pl.DataFrame:
    """Return answers with feedback as rows of an export, the columns of `EXPORT`.

    Parameters
    ----------
    answers
        As `Store.answers` gives them.
    store
        The store's key.
    forms
        As `Store.forms` gives them.
    """
    return pl.DataFrame([_row(answer, store, forms) for answer in answers], schema=EXPORT, orient="row")


def _row(answer: Answer, store: str, forms: Mapping[str, str]) -> dict[str, Any]:
    lesson, record = answer.lesson, answer.lesson.record
    named = {name: getattr(answer, name) for name in EXPORT if hasattr(answer, name)}
    return named | {
        "store": store,
        "lesson": lesson.number,
        "sequence": lesson.sequence,
        "decision": record.decision,
        "at": record.at,
        "told_at": lesson.at,
        "llm": record.llm,
        "quality": lesson.told.quality,
        "satisfied": lesson.told.satisfied,
        "response_tokens": lesson.told.response_tokens,
        "expected_quality": record.quality,
        "expected_prompt_tokens": record.prompt_tokens,
        "expected_cost_usd": record.cost_usd if record.llm == answer.chosen else None,
        "form": forms.get(answer.router, ""),
        "vector": record.vector.astype(np.float32),
    }


def _parts(answers: Iterator[Answer], most: int) -> Iterator[list[Answer]]:
    while part := list(islice(answers, most)):
        yield part
