"""The trained re-ranker: it puts the best candidates of a ranking into another order.

A candidate is judged by the re-ranking network and by the score that it has already; what that score weighs is chosen
on validation. The scores stay those of the ranking: what the re-ranker puts first among the candidates gets the
highest score of any of them, and so on. So items that are no candidates (those without a user yet, those that a user
has) keep their place.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.network.gpt2 import GPT2Config
from symbiosis.recommender.reranking.candidate_terms import CandidateTerms
from symbiosis.recommender.reranking.network import CandidateBatch, NetworkConfig, RerankingNetwork
from symbiosis.recommender.reranking.pairs import Connections, latest
from symbiosis.recommender.reranking.proposals import Proposals

FILE = "reranker.json"
_WEIGHTS = "network_{}.safetensors"
_BLOCK = 64
"""Histories scored at once."""


class Describer:
    """Describes candidates of histories by the links of one fit.

    Parameters
    ----------
    terms
        From these links.
    maximum_items
        Latest items of a history that are read.
    """

    def __init__(self, terms: CandidateTerms, maximum_items: int) -> None:
        self.terms, self._maximum = terms, maximum_items
        self._connections = Connections(terms)

    def __call__(
        self,
        histories: Sequence[np.ndarray],
        candidates: np.ndarray,
        scores: np.ndarray,
        chosen: np.ndarray | None = None,
    ) -> CandidateBatch:
        """Describe candidates.

        Parameters
        ----------
        histories, candidates, scores
            As `CandidateTerms.proposed` takes and returns them.
        chosen
            int (B, C), places of the candidates to keep; all if not given. Their features still compare them with all.
        """
        features, table = self.terms.features(histories, candidates, scores), latest(histories, self._maximum)
        if chosen is not None:
            features = np.take_along_axis(features, chosen[:, :, None], axis=1)
            candidates = np.take_along_axis(candidates, chosen, axis=1)
        return CandidateBatch(
            torch.from_numpy(candidates),
            torch.from_numpy(features),
            torch.from_numpy(table),
            torch.from_numpy(self._connections(table, candidates)),
        )


class Reranker:
    """Orders candidates again.

    Parameters
    ----------
    proposals
        Stage one.
    networks
        Score candidates; the mean counts.
    maximum_items
        Latest items of a history that are read.
    weight
        Of the score that a candidate has already, in the network's.
    """

    def __init__(
        self, proposals: Proposals, networks: Sequence[RerankingNetwork], maximum_items: int, weight: float = 0.0
    ) -> None:
        self.proposals, self.maximum_items, self.weight = proposals, maximum_items, weight
        self.networks = [network.eval() for network in networks]
        self._describe = Describer(proposals.terms, maximum_items)
        self.known = proposals.terms.links.users > 0

    def refitted(self, sequences: csr_array) -> "Reranker":
        """Return the same networks with links from these sequences, (U, I) in order of time."""
        return Reranker(self.proposals.refitted(sequences), self.networks, self.maximum_items, self.weight)

    def judged(self, histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Propose candidates and score them.

        Parameters
        ----------
        histories
            Item numbers of each, in order of time.

        Returns
        -------
        np.ndarray
            int64 (B, K), the candidates.
        np.ndarray
            float32 (B, K), the network's scores.
        """
        parts = [self._judged(histories[start : start + _BLOCK]) for start in range(0, len(histories), _BLOCK)]
        if not parts:
            return np.empty((0, self.proposals.count), np.int64), np.empty((0, self.proposals.count), np.float32)
        candidates, judged = zip(*parts, strict=True)
        return np.concatenate(candidates), np.concatenate(judged)

    def _judged(self, histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        scores, candidates = self.proposals.terms.proposed(histories, self.proposals.weights, self.proposals.count)
        return candidates, mean_scores(self.networks, self._describe(histories, candidates, scores))

    def reordered(self, scores: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Give the candidates their scores in another order.

        Parameters
        ----------
        scores
            float32 (B, at least I), of all items.
        histories
            Items of each, in order of time; later items than the re-ranker knows are left out.

        Returns
        -------
        float32 array of the shape of `scores`
            Items without a user and those of the history keep their score. So do all of a history without an item.
        """
        read = [history[history < len(self.known)] for history in histories]
        rows = np.flatnonzero([len(history) for history in read])
        result, chosen = scores.copy(), [read[row] for row in rows]
        result[rows] = self.moved(scores[rows], chosen, *self.judged(chosen), self.weight)
        return result

    def moved(
        self,
        scores: np.ndarray,
        histories: Sequence[np.ndarray],
        candidates: np.ndarray,
        judged: np.ndarray,
        weight: float,
    ) -> np.ndarray:
        """Give candidates their scores in the order of what the network says plus their weighted score.

        Parameters
        ----------
        scores, histories
            As in `reordered`, with an item at least in every history.
        candidates, judged
            As `judged` returns them.
        weight
            Of the score.

        Returns
        -------
        float32 array of the shape of `scores`
        """
        result = scores.copy()
        for row, history in enumerate(histories):
            order = np.argsort(-(judged[row] + weight * scores[row, candidates[row]]), kind="stable")
            ranked = candidates[row, order]
            movable = ranked[self.known[ranked] & ~np.isin(ranked, history)]
            result[row, movable] = np.sort(scores[row, movable])[::-1]
        return result

    def save(self, folder: Path) -> None:
        """Write network and stage one into an existing folder."""
        for number, network in enumerate(self.networks):
            tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
            save_file(tensors, folder / _WEIGHTS.format(number))
        config = self.networks[0].config
        described = asdict(config) | {"backbone": config.backbone.to_dict() if config.backbone else None}
        told = {"maximum_items": self.maximum_items, "weight": self.weight, "network": described}
        told["networks"] = len(self.networks)
        write_json(folder / FILE, told)
        (folder / "proposals").mkdir()
        self.proposals.save(folder / "proposals")

    @classmethod
    def load(cls, folder: Path | str) -> "Reranker | None":
        """Read what `save` wrote; None if there is no such folder, as in older versions, or if it says so.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            return None
        described = read_json(folder / FILE)
        if described.get("network", {}) is None:
            return None
        try:
            told = dict(described["network"])
            backbone = None if told["backbone"] is None else GPT2Config.from_dict(told["backbone"])
            words = {name: tuple(int(word) for word in told[name]) for name in ("before", "after")}
            config = NetworkConfig(**(told | words | {"backbone": backbone}))
            networks = []
            for number in range(int(described["networks"])):
                tensors = load_file(folder / _WEIGHTS.format(number))
                networks.append(RerankingNetwork(config, torch.zeros_like(tensors["vectors"])))
                networks[-1].load_state_dict(tensors, strict=True)
            maximum_items, weight = int(described["maximum_items"]), float(described["weight"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise InputError(f"{folder} is damaged ({error}): run `dvc repro rerank`") from None
        return cls(Proposals.load(folder / "proposals"), networks, maximum_items, weight)


def mean_scores(networks: Sequence[RerankingNetwork], batch: CandidateBatch) -> np.ndarray:
    """Score candidates by the mean of the networks: float32 (B, K)."""
    with torch.no_grad():
        total: np.ndarray = torch.stack([network(batch) for network in networks]).mean(dim=0).numpy()
    return total


def save_none(folder: Path) -> None:
    """Say in an existing folder that there is no re-ranker."""
    write_json(folder / FILE, {"network": None})
