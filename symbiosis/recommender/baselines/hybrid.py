"""What the hybrid baselines share: cross-fitted terms, training groups of hidden items, fitted weights of the terms."""

from typing import Annotated

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.reranking.candidate_terms import CandidateTerms
from symbiosis.recommender.reranking.item_links import ItemContent
from symbiosis.recommender.reranking.stage_one import Hidden, fit_stage_one, refitted

_TARGETS = 3
"""Groups of each user."""


class HybridParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    hidden
        What a user's training items are split into: ``share``, a random fifth is to be found from the others;
        ``latest``, each of the last three from those before it.
    decay
        Weight of an item of a history against that of the next one.
    directed
        Whether the order of two items means anything in the links. Without, steps count both ways; the weight of
        recent items stays.
    """

    hidden: list[Hidden] = Field(min_length=1)
    decay: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    directed: list[bool] = Field(min_length=1)


class Hybrid(Baseline):
    """A recommender from terms of the graph, the order and the content: `symbiosis.recommender.reranking.stage_one`."""

    refits = True
    whole: CandidateTerms

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.sequences = data.sequences()
        self.content = ItemContent.of(data, seed)

    def read(self, histories: TrainingData) -> None:
        """Read these histories, in order of time, from now on."""
        super().read(histories)
        self.sequences = histories.sequences()
        self.whole = self._learned

    def refit(self, histories: TrainingData) -> None:
        """Read these histories and fit the links on them; weights stay."""
        self.read(histories)
        self.whole = refitted(self.whole, self.sequences, self.directed, self.seed)

    def prepare(self, hidden: Hidden, decay: float, directed: bool) -> None:
        """Fit the links without each fold and with all, draw the groups, fit the weights."""
        self.directed = directed
        found = fit_stage_one(
            self.sequences,
            self.content,
            hidden=hidden,
            decay=decay,
            directed=directed,
            targets=_TARGETS,
            seed=self.seed,
        )
        self.without, self.groups, self.weights = found.without, found.groups, found.weights
        self.whole = self._learned = found.whole

    def history_of(self, user: int) -> np.ndarray:
        """Items of a user in order of time."""
        return items_of(self.sequences, user)
