"""What connects a user's history with candidates: a few terms of every item, many features of the best candidates.

A term is ``log(1 + flow / unit)`` as in `symbiosis.recommender.network.graph_terms`, and here also from the order of
items. A weighted sum of the terms proposes candidates (stage one); features describe the proposed ones for whatever
ranks them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from symbiosis.recommender.reranking.item_links import ItemContent, ItemLinks, best_cells

WEIGHTINGS = ("even", "recent", "last")
"""Weight of the items of a history: 1 each, a power of the decay by age, or 1 for the latest alone."""

_TERM_FLOWS = (
    ("walk", "even"),
    ("walk", "recent"),
    ("long walk", "even"),
    ("next", "recent"),
    ("alike", "recent"),
    ("brand", "recent"),
    ("brand", "last"),
    ("category", "recent"),
    ("text walk", "recent"),
)
_FURTHER_FLOWS = (
    ("walk", "last"),
    ("next", "even"),
    ("next", "last"),
    ("previous", "recent"),
    ("walk text", "recent"),
    ("text next", "recent"),
    ("alike", "last"),
    ("category", "last"),
)
_COMPARED = (("walk", "recent"), ("next", "recent"), ("alike", "recent"), ("category", "last"))
"""Flows that features also give as a share of the largest among the candidates."""

TERMS = (*(" ".join(flow) for flow in _TERM_FLOWS), "popularity")
"""The terms of stage one, in the order of their weights."""

FEATURES = (
    *TERMS[:-1],
    *(" ".join(flow) for flow in _FURTHER_FLOWS),
    *(f"{' '.join(flow)} share" for flow in _COMPARED),
    "text cosine recent",
    "text cosine last",
    "stage one",
    "stage one place",
    "users",
    "users of the latest",
    "lasts",
    "history",
    "brands",
    "categories",
)
"""What describes a candidate."""

_BLOCK = 64
"""Histories at once: a row of flows stays in the processor's cache."""


@dataclass(frozen=True)
class CandidateTerms:
    """Terms and features from fitted links.

    Attributes
    ----------
    content
        What items have in common.
    links
        What users did.
    decay
        Weight of an item of a history against that of the next one.
    units
        float32 (len(TERMS) - 1,), what flows are divided by.
    """

    content: ItemContent
    links: ItemLinks
    decay: float
    units: np.ndarray

    @classmethod
    def with_units(
        cls, content: ItemContent, links: ItemLinks, decay: float, sample: Sequence[np.ndarray]
    ) -> "CandidateTerms":
        """Take the standard deviations of the flows from a sample of histories as units."""
        unscaled = cls(content, links, decay, np.ones(len(TERMS) - 1, np.float32))
        weighted = _weighted(sample, links.users.size, decay)
        units = [float(_dense(unscaled._flow(*flow, weighted)).std(dtype=np.float64)) for flow in _TERM_FLOWS]
        return cls(content, links, decay, np.array([unit or 1 for unit in units], np.float32))

    def terms(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Terms of all items: float32 (len(TERMS), B, I).

        Parameters
        ----------
        histories
            Item numbers of each, in order of time; may be empty.
        """
        weighted = _weighted(histories, self.links.users.size, self.decay)
        terms = np.empty((len(TERMS), len(histories), self.links.users.size), np.float32)
        for i in range(len(_TERM_FLOWS)):
            terms[i] = _dense(self._term(i, weighted))
        terms[-1] = np.log1p(self.links.users)
        return terms

    def scores(self, histories: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        """Weighted sums of the terms, float32 (B, I); a history's own items are scored as all others.

        Parameters
        ----------
        histories
            As in `terms`.
        weights
            float (len(TERMS),).
        """
        scores = np.empty((len(histories), self.links.users.size), np.float32)
        scores[:] = np.float32(weights[-1]) * np.log1p(self.links.users)
        for start in range(0, len(histories), _BLOCK):
            rows = slice(start, start + _BLOCK)
            weighted = _weighted(histories[rows], self.links.users.size, self.decay)
            for i in range(len(_TERM_FLOWS)):
                scores[rows] += _dense(self._term(i, weighted) * np.float32(weights[i]))
        return scores

    def proposed(
        self, histories: Sequence[np.ndarray], weights: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score all items and find the best; those of the history only where no other is left.

        Parameters
        ----------
        histories, weights
            As in `scores`.
        count
            Candidates of each history, at most as many as there are items.

        Returns
        -------
        np.ndarray
            float32 (B, I), the scores.
        np.ndarray
            int64 (B, count), the candidates, best first.
        """
        scores = self.scores(histories, weights)
        ranked = scores.copy()
        for row, history in enumerate(histories):
            ranked[row, history] = -np.inf
        _, columns = best_cells(ranked, count)
        return scores, columns.reshape(len(histories), count)

    def features(self, histories: Sequence[np.ndarray], candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Describe candidates: float32 (B, K, len(FEATURES)).

        Parameters
        ----------
        histories, candidates, scores
            As `proposed` takes and returns them.
        """
        blocks = [
            self._features(histories[rows], candidates[rows], scores[rows])
            for start in range(0, len(histories), _BLOCK)
            for rows in [slice(start, start + _BLOCK)]
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, candidates.shape[1], len(FEATURES)), np.float32)

    def _features(self, histories: Sequence[np.ndarray], candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
        weighted = _weighted(histories, self.links.users.size, self.decay)
        flows = {
            flow: np.take_along_axis(_dense(self._flow(*flow, weighted)), candidates, axis=1)
            for flow in (*_TERM_FLOWS, *_FURTHER_FLOWS)
        }
        shares = [flows[flow] / np.maximum(flows[flow].max(axis=1, keepdims=True), 1e-9) for flow in _COMPARED]
        relations, users = self.content.relations, self.links.users
        texts = relations.texts[candidates]
        cosines = [
            np.einsum("bkd,bd->bk", texts, (weighted[name] @ relations.texts).astype(np.float32))
            for name in ("recent", "last")
        ]
        best = np.take_along_axis(scores, candidates, axis=1)
        latest = np.array([users[history[-1]] if len(history) else 0 for history in histories])
        lengths = np.array([len(history) for history in histories])
        groups = [np.diff(kind.indptr)[candidates] for kind in (relations.brands, relations.categories)]
        columns = [
            *flows.values(), *shares, *cosines, best, np.arange(candidates.shape[1])[None, :], users[candidates],
            latest[:, None], self.links.lasts[candidates], lengths[:, None], *groups,
        ]  # fmt: skip
        described = np.empty((*candidates.shape, len(columns)), np.float32)
        for i, column in enumerate(columns):
            described[:, :, i] = column
        return described

    def _term(self, number: int, weighted: dict[str, csr_array]) -> csr_array | np.ndarray:
        """Logarithm of one plus a flow in its unit, taken where there is a flow: most items get none."""
        flow = self._flow(*_TERM_FLOWS[number], weighted)
        strengths = flow if isinstance(flow, np.ndarray) else flow.data
        np.log1p(np.divide(strengths, self.units[number], out=strengths), out=strengths)
        return flow

    def _flow(self, link: str, weighting: str, weighted: dict[str, csr_array]) -> csr_array | np.ndarray:
        """What flows from each history to all items, (B, I)."""
        visible = weighted[weighting]
        if link in ("brand", "category"):
            groups = self.content.relations.brands if link == "brand" else self.content.relations.categories
            return np.ascontiguousarray((groups @ (visible @ groups).T.toarray()).T)
        matrix = self.content.alike if link == "alike" else self.links.matrices[link]
        return csr_array(visible @ matrix)


def _dense(flow: csr_array | np.ndarray) -> np.ndarray:
    dense: np.ndarray = flow if isinstance(flow, np.ndarray) else flow.toarray()
    return dense


def _weighted(histories: Sequence[np.ndarray], n_items: int, decay: float) -> dict[str, csr_array]:
    """Weights of the histories' items, float32 (B, I), by the name of the weighting."""
    lengths = np.array([len(history) for history in histories])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = np.concatenate([*histories, []]).astype(np.int64)
    age = np.repeat(offsets[1:], lengths) - 1 - np.arange(len(items))
    weights = {"even": np.ones(len(items)), "recent": decay ** age.astype(np.float64), "last": (age == 0) * 1.0}
    shape = (len(lengths), n_items)
    return {name: csr_array((weights[name].astype(np.float32), items, offsets), shape=shape) for name in WEIGHTINGS}
