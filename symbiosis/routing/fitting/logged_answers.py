"""Answers that were given while a router served, beside the queries of the table: one LLM's outcome of each.

Tags and what all LLMs have in common come from the table alone; each LLM's own part learns from both.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.fitting.fitting import Offline
from symbiosis.routing.model.features import FOLDS

if TYPE_CHECKING:
    from symbiosis.routing.model.router import Router


@dataclass(frozen=True)
class LoggedAnswers:
    """What M answers were like.

    Attributes
    ----------
    vectors
        (M, d), of the queries.
    arm
        (M,), the LLM that answered.
    quality
        (M,), 0..1.
    response_tokens
        (M,), NaN where they are not known.
    weight
        (M,), how many answers of the table each is worth.
    query
        (M,), a number that answers to the same query share.
    """

    vectors: np.ndarray
    arm: np.ndarray
    quality: np.ndarray
    response_tokens: np.ndarray
    weight: np.ndarray
    query: np.ndarray

    def __len__(self) -> int:
        return len(self.arm)


def with_answers(offline: Offline, answers: LoggedAnswers, router: "Router") -> Offline:
    """Return the training queries with the logged ones behind them.

    Parameters
    ----------
    offline
        Of the table.
    answers
        At least one.
    router
        Trained on the table alone: what it expects stands for what is not known.
    """
    features = offline.feature_map(answers.vectors)
    expected = router.predict(features)
    rows = np.arange(len(answers)), answers.arm
    counted = np.zeros(expected.quality.shape, dtype=bool)
    counted[rows] = ~np.isnan(answers.response_tokens)
    known = np.zeros(expected.quality.shape, dtype=bool)
    known[rows] = True
    quality, tokens = expected.quality.copy(), expected.response_tokens.copy()
    quality[rows] = answers.quality
    tokens[counted] = answers.response_tokens[counted[rows]]
    prompts = router.prompt_tokens(features)
    outcomes = offline.outcomes
    table_known = np.ones(outcomes.quality.shape, dtype=bool) if outcomes.known is None else outcomes.known
    table_counted = np.ones(outcomes.quality.shape, dtype=bool) if outcomes.counted is None else outcomes.counted
    joint = Outcomes(
        np.concatenate([outcomes.queries, np.full(len(answers), -1)]),  # they stand in no table
        np.concatenate([outcomes.quality, quality]),
        np.concatenate([outcomes.prompt_tokens, prompts]),
        np.concatenate([outcomes.response_tokens, tokens]),
        np.concatenate([outcomes.cost_usd, expected.cost_usd]),
        np.concatenate([table_counted, counted]),
        np.concatenate([table_known, known]),
    )
    return replace(
        offline,
        crossed=np.concatenate([offline.crossed, features]),
        told=np.concatenate([offline.told, features]),
        tags=np.concatenate([offline.tags, features[:, : offline.feature_map.n_tags].argmax(axis=1)]),
        folds=np.concatenate([offline.folds, answers.query % FOLDS]),
        outcomes=joint,
        logged=len(answers),
        weight=np.concatenate([np.ones(len(outcomes)), answers.weight]),
        told_lengths=np.concatenate([table_known, counted]),
    )
