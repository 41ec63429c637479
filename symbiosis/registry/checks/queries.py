"""Held-out queries, and what a router decides and expects for them as it serves."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.outcomes import Llms, Outcomes, load_embeddings
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.metrics.curves import Curve, sweep
from symbiosis.routing.metrics.metrics import calibration_error
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Outlook, TradeOff, decide
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm

_BINS = 10


@dataclass(frozen=True)
class HeldOut:
    """The test queries of a workspace.

    Attributes
    ----------
    root
        The top of the repository.
    llms
        Those of the table.
    outcomes
        Of N queries with all of them.
    texts
        N.
    offline
        What means and the single LLMs of AIQ are taken from.
    """

    root: Path
    llms: Llms
    outcomes: Outcomes
    texts: tuple[str, ...]
    offline: Outcomes

    @classmethod
    def read(cls, root: Path) -> "HeldOut":
        """Read the test split.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        llms = Llms.load(root / layout.LLMS)
        outcomes = Outcomes.load(root / layout.ROUTING_TEST, llms)
        texts = read_frame(root / layout.QUERIES, ["query_text"])["query_text"]
        offline = Outcomes.load(root / layout.OFFLINE, llms)
        return cls(root, llms, outcomes, tuple(texts[outcomes.queries].to_list()), offline)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "HeldOut":
        """Return some of the queries."""
        texts = tuple(self.texts[row] for row in rows)
        return replace(self, outcomes=self.outcomes.take(rows), texts=texts)

    def vectors(self, form: VectorForm, encoder: Path) -> np.ndarray:
        """Return the vectors in a router's form, (N, d): the pipeline's own, or else its encoder makes them."""
        if VectorForm.read(self.root / layout.QUERY_EMBEDDINGS) == form:
            return load_embeddings(self.root / layout.QUERY_EMBEDDINGS, self.outcomes.queries)
        return np.array(QueryEncoder.load(encoder, form).many(self.texts), dtype=np.float64)

    @cached_property
    def cost_scale(self) -> float:
        """Dollars that count as 1 for both."""
        return cost_scale_of(self.offline)

    def utilities(self, arms: np.ndarray, trade_off: float) -> np.ndarray:
        """Return what each query's choice was worth, (N,) or (P, N) for so many choices."""
        rows = np.arange(len(self))
        cost = scaled_cost(self.outcomes.cost_usd[rows, arms], self.cost_scale)
        return utility(self.outcomes.quality[rows, arms], cost, trade_off)


@dataclass(frozen=True)
class ServedRouter:
    """The router of a bundle.

    Attributes
    ----------
    name
        ``candidate`` or ``champion``.
    folder
        Holds ``models/router`` and ``models/encoder``.
    router, serving
        As they are read.
    """

    name: str
    folder: Path
    router: Router
    serving: ServingState

    @classmethod
    def read(cls, name: str, folder: Path) -> "ServedRouter":
        """Read the router of a bundle.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        return cls(name, folder, Router.load(folder / layout.ROUTER), ServingState.load(folder / layout.ROUTER))

    def trained_on(self, held_out: HeldOut) -> np.ndarray | None:
        """Mark the queries whose text it was trained on, (N,); None if it does not tell."""
        seen = training_texts.load(self.folder / layout.ROUTER)
        return None if seen is None else np.isin(training_texts.digests_of(held_out.texts), seen)

    def decide(self, held_out: HeldOut, trade_off: float) -> "Decided":
        """Decide every query as it serves: for the trade-off, at idle LLMs, without exploring.

        Raises
        ------
        InputError
            It knows none of the table's LLMs.
        """
        names = self.router.llms.names
        table = [arm for arm, name in enumerate(held_out.llms.names) if name in names]
        if not table:
            raise InputError(f"the {self.name} knows none of the LLMs in {layout.LLMS}: train it on this table")
        router = self.router.take([names.index(held_out.llms.names[arm]) for arm in table])
        vectors = held_out.vectors(self.serving.vectors, self.folder / layout.ENCODER)
        outlook = Outlook.of(router, router.predict(router.feature_map(vectors)))
        places = np.array(table)
        arms = places[decide(TradeOff(trade_off), outlook).choice()]
        swept = places[sweep(lambda weight: utility(outlook.quality, outlook.cost, weight))]
        quality = np.full(held_out.outcomes.quality.shape, np.nan)
        quality[:, table] = outlook.quality
        return Decided(arms, quality, Curve.of(swept, held_out.outcomes))

    @property
    def llms(self) -> frozenset[str]:
        """Names of its LLMs."""
        return frozenset(self.router.llms.names)


@dataclass(frozen=True)
class Decided:
    """What a router decides for N queries, and what it expects.

    Attributes
    ----------
    arms
        (N,), LLMs of the table.
    quality
        (N, L), expected; NaN for LLMs of the table that the router does not know.
    curve
        Over all trade-offs.
    """

    arms: np.ndarray
    quality: np.ndarray
    curve: Curve


@dataclass(frozen=True)
class Calibration:
    """How far expected quality is from what was observed, over the answers that two routers both have expected.

    Attributes
    ----------
    error
        Expected calibration error.
    gaps
        (N, bins), sums of expected less observed quality by query.
    answers
        (N,), number of answers of each query.
    """

    error: float
    gaps: np.ndarray
    answers: np.ndarray

    @classmethod
    def of(cls, one: Decided, other: Decided, outcomes: Outcomes) -> "Calibration":
        """Compare what one router expects with the answers that were given.

        Raises
        ------
        InputError
            There is none that both have expected.
        """
        counts = ~np.isnan(one.quality) & ~np.isnan(other.quality)
        if outcomes.known is not None:
            counts &= outcomes.known
        if not counts.any():
            raise InputError("candidate and champion have no LLM in common that has answered a test query")
        rows, arms = np.nonzero(counts)
        expected, observed = one.quality[rows, arms], outcomes.quality[rows, arms]
        place = rows * _BINS + np.minimum((expected * _BINS).astype(int), _BINS - 1)
        gaps = np.bincount(place, expected - observed, minlength=len(counts) * _BINS).reshape(-1, _BINS)
        return cls(calibration_error(expected, observed, _BINS), gaps, counts.sum(axis=1))

    def samples(self, weights: np.ndarray) -> np.ndarray:
        """Return the error in bootstrap samples of the queries, (B,), for weights (B, N)."""
        errors: np.ndarray = np.abs(weights @ self.gaps).sum(axis=1) / (weights @ self.answers)
        return errors
