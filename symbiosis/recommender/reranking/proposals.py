"""Terms of candidates as files, so that what serves proposes what was measured."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array, read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.reranking.candidate_terms import TERMS, CandidateTerms
from symbiosis.recommender.reranking.item_links import LINKS, ItemContent, ItemLinks
from symbiosis.recommender.reranking.stage_one import refitted

_PARTS = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Proposals:
    """Stage one as it recommends: terms of all users, and what they weigh.

    Attributes
    ----------
    terms
        From the links of all users.
    weights
        float64 (len(TERMS),).
    count
        Candidates of a history.
    directed, seed
        That the links were fitted with.
    """

    terms: CandidateTerms
    weights: np.ndarray
    count: int
    directed: bool
    seed: int

    def refitted(self, sequences: csr_array) -> "Proposals":
        """Fit the links again, on these sequences, (U, I) in order of time; what the terms weigh stays."""
        return replace(self, terms=refitted(self.terms, sequences, self.directed, self.seed))

    def save(self, folder: Path) -> None:
        """Write all arrays into an existing folder."""
        terms = self.terms
        for name, matrix in _matrices(terms).items():
            for part in _PARTS:
                np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))
        np.save(folder / "texts.npy", terms.content.relations.texts)
        np.save(folder / "users.npy", terms.links.users)
        np.save(folder / "lasts.npy", terms.links.lasts)
        described = {
            "weights": dict(zip(TERMS, self.weights.tolist(), strict=True)),
            "units": dict(zip(TERMS, terms.units.tolist(), strict=False)),
            "decay": terms.decay,
            "count": self.count,
            "directed": self.directed,
            "seed": self.seed,
        }
        write_json(folder / "proposals.json", described)

    @classmethod
    def load(cls, folder: Path) -> "Proposals":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        described = read_json(folder / "proposals.json")
        texts, users, lasts = (read_array(folder / f"{name}.npy") for name in ("texts", "users", "lasts"))

        def matrix(name: str) -> csr_array:
            data, indices, indptr = (read_array(folder / f"{name}.{part}.npy") for part in _PARTS)
            columns = len(texts) if name not in ("brands", "categories") else max(1, int(indices.max(initial=0)) + 1)
            try:
                made = csr_array((data, indices, indptr), shape=(len(texts), columns))
                made.check_format(full_check=True)  # a product with an index out of range would write anywhere
            except ValueError as error:
                raise InputError(f"{folder}/{name} is damaged ({error}): run `dvc repro rerank`") from None
            return made

        try:
            weights = np.array([described["weights"][name] for name in TERMS])
            units = np.array([described["units"][name] for name in TERMS[:-1]], dtype=np.float32)
            decay, count = float(described["decay"]), int(described["count"])
            directed, seed = bool(described["directed"]), int(described["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder}/proposals.json is damaged ({error}): run `dvc repro rerank`") from None
        relations = Relations(texts, matrix("brands"), matrix("categories"))
        content = ItemContent(relations, matrix("alike"))
        links = ItemLinks({name: matrix(_file(name)) for name in LINKS}, users, lasts)
        return cls(CandidateTerms(content, links, decay, units), weights, count, directed, seed)


def _matrices(terms: CandidateTerms) -> dict[str, csr_array]:
    content = terms.content
    links = {_file(name): matrix for name, matrix in terms.links.matrices.items()}
    return links | {
        "alike": content.alike,
        "brands": content.relations.brands,
        "categories": content.relations.categories,
    }


def _file(name: str) -> str:
    return name.replace(" ", "_")
