"""Logged queries that the estimates of `symbiosis.routing.experiments.logged_policy` are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.layout import ROUTER
from symbiosis.routing.data.logged import Logged
from symbiosis.routing.learning.feedback import CAUTIOUS, Satisfaction
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.router import Router
from symbiosis.routing.queries.vector_form import VectorForm

CERTAIN = 1 - 1e-9
"""Propensity from which no other LLM had a chance."""


@dataclass(frozen=True)
class Served:
    """A router with what it serves by.

    Attributes
    ----------
    router
        Decides and predicts.
    trade_off
        lambda of its decisions.
    form
        Of the vectors that it takes; None: whatever it is given.
    satisfaction
        What "satisfied" says of quality.
    """

    router: Router
    trade_off: float
    form: VectorForm | None = None
    satisfaction: Satisfaction = CAUTIOUS.satisfaction

    @classmethod
    def open(cls, bundle: Path | str) -> "Served":
        """Read ``models/router`` of a bundle.

        Raises
        ------
        InputError
            It is missing or damaged.
        """
        folder = Path(bundle) / ROUTER
        state = ServingState.load(folder)
        return cls(Router.load(folder), state.trade_off, state.vectors, state.experience.satisfaction)


@dataclass(frozen=True)
class LoggedRows:
    """Logged queries that an estimate can be made from.

    Attributes
    ----------
    vectors
        (N, d).
    llm
        N names, of those that answered.
    propensity
        (N,), above 0 and below 1.
    quality, cost_usd
        (N,), of the answer.
    texts
        How many different texts the N queries have.
    left_out
        By reason, how many rows of the log are not among them.
    assumed
        By kind, how many of the N were told by something weaker: "satisfied" for a quality, an expected cost.
    """

    vectors: np.ndarray
    llm: tuple[str, ...]
    propensity: np.ndarray
    quality: np.ndarray
    cost_usd: np.ndarray
    texts: int
    left_out: dict[str, int]
    assumed: dict[str, int]

    def __len__(self) -> int:
        return len(self.llm)

    @classmethod
    def of(cls, logged: Logged, form: VectorForm | None, served: Sequence[Served]) -> "LoggedRows":
        """Keep the rows that every one of some routers can be estimated from.

        Rows of a router that explored nothing are left out: they tell nothing of any other LLM, and whether a query is
        explored does not depend on its answer, so the others stay a fair sample of the queries that were explored.

        Parameters
        ----------
        logged
            Answers with feedback.
        form
            Of their vectors; None: that of the routers.
        served
            The routers; the first one says what "satisfied" is worth.
        """
        frame = logged.frame
        forms = {one for one in (form, *(one.form for one in served)) if one is not None}
        dimension = len(served[0].router.feature_map.mean)
        told = pl.any_horizontal(pl.col("quality", "satisfied").is_not_null())
        cost = pl.coalesce("cost_usd", "expected_cost_usd")
        left_out = {}
        for reason, sound in {
            "no router chose the LLM": pl.col("propensity").is_not_null(),
            "nothing was explored": pl.col("propensity") < CERTAIN,
            "vectors of another form": pl.lit(len(forms) < 2) & (pl.col("vector").list.len() == dimension),
            "no feedback or no cost": told & cost.is_not_null(),
        }.items():
            kept = frame.filter(sound.fill_null(False))
            if kept.height < frame.height:
                left_out[reason] = frame.height - kept.height
            frame = kept
        vectors = frame["vector"].explode().to_numpy().astype(np.float64)
        known = frame["quality"].to_numpy().astype(np.float64)
        binary = np.isnan(known)
        satisfied = frame["satisfied"].fill_null(False).to_numpy()
        quality = np.where(binary, served[0].satisfaction.quality(satisfied), known)
        assumed = {"satisfied": int(binary.sum()), "expected cost": frame["cost_usd"].null_count()}
        return cls(
            vectors[: frame.height * dimension].reshape(-1, dimension),
            tuple(frame["llm"]),
            frame["propensity"].to_numpy().astype(np.float64),
            quality,
            frame.select(cost)["cost_usd"].to_numpy().astype(np.float64),
            frame["query"].n_unique(),
            left_out,
            {kind: count for kind, count in assumed.items() if count},
        )
