"""What a trained router needs to serve as it was measured, kept beside it in ``models/router/serving.json``."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.learning.feedback import Experience, Noise, Satisfaction
from symbiosis.routing.model.params import ServingParams
from symbiosis.routing.model.router import MANIFEST, Router
from symbiosis.routing.queries.vector_form import VectorForm

FILE = "serving.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoiseState(_Strict):
    """See `symbiosis.routing.learning.feedback.Noise`."""

    own: float = Field(gt=0)
    common: float = Field(ge=0)


class SatisfactionState(_Strict):
    """See `symbiosis.routing.learning.feedback.Satisfaction`, and the bar of quality that it was fitted to."""

    above: float = Field(ge=0, lt=1)
    satisfied: float
    dissatisfied: float
    variance: float = Field(ge=0)


class Lessons(_Strict):
    """Lessons of stores, by the key of each store and their number there.

    Attributes
    ----------
    stores
        By store: one bit for each number from 1 on, the first in the lowest bit of the first byte, in base64.
    """

    stores: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, stores: Iterable[str], numbers: Iterable[int]) -> "Lessons":
        """Return the lessons of stores (N,) with numbers (N,) from 1 on."""
        found: dict[str, list[int]] = defaultdict(list)
        for store, number in zip(stores, numbers, strict=True):
            found[store].append(number - 1)
        packed = {}
        for store, places in sorted(found.items()):
            bits = np.zeros(max(places) + 1, dtype=bool)
            bits[places] = True
            packed[store] = base64.b64encode(np.packbits(bits, bitorder="little").tobytes()).decode()
        return cls(stores=packed)

    def of_store(self, store: str) -> np.ndarray:
        """Return bits, (M,) bool, that say of each number of one store, from 0 on, whether it is there."""
        packed = np.frombuffer(base64.b64decode(self.stores.get(store, "")), dtype=np.uint8)
        return np.concatenate([[False], np.unpackbits(packed, bitorder="little").astype(bool)])


class ServingState(_Strict):
    """What serving needs beside the router.

    Attributes
    ----------
    router_sha256
        Of the router's manifest, which holds the digest of its tensors.
    vectors
        Form of the vectors that it was trained with.
    noise, satisfaction
        What offline data say of feedback.
    trade_off
        The operating point where no objective is given.
    trained_on
        Lessons that the router was trained on: it need not learn them while it serves.
    """

    format: Literal[1] = 1
    router_sha256: str
    vectors: VectorForm
    noise: NoiseState
    satisfaction: SatisfactionState
    trade_off: float = Field(ge=0)
    trained_on: Lessons = Lessons()

    @property
    def experience(self) -> Experience:
        """What offline data say of feedback."""
        own = self.satisfaction
        return Experience(
            Noise(self.noise.own, self.noise.common), Satisfaction(own.satisfied, own.dissatisfied, own.variance)
        )

    @classmethod
    def fit(
        cls,
        folder: Path,
        router: Router,
        vectors: VectorForm,
        embeddings: np.ndarray,
        outcomes: Outcomes,
        params: ServingParams,
        trained_on: Lessons = Lessons(),  # noqa: B008  it cannot be changed
    ) -> "ServingState":
        """Fit to the offline queries that the router was trained on.

        Parameters
        ----------
        folder
            Where the router was saved.
        router
            The router.
        vectors
            Form of the vectors.
        embeddings, outcomes
            (N, d), and of the same N queries.
        params
            What serving goes by.
        trained_on
            Lessons that the router was trained on beside these queries.
        """
        known = Experience.fit(router, embeddings, outcomes, params.satisfied_above)
        return cls(
            router_sha256=sha256_of(folder / MANIFEST),
            vectors=vectors,
            noise=NoiseState(own=known.noise.own, common=known.noise.common),
            satisfaction=SatisfactionState(
                above=params.satisfied_above,
                satisfied=known.satisfaction.satisfied,
                dissatisfied=known.satisfaction.dissatisfied,
                variance=known.satisfaction.variance,
            ),
            trade_off=params.trade_off,
            trained_on=trained_on,
        )

    def save(self, folder: Path) -> None:
        """Write it beside the router."""
        write_json(folder / FILE, self.model_dump(exclude=None if self.trained_on.stores else {"trained_on"}))

    @classmethod
    def load(cls, folder: Path | str) -> "ServingState":
        """Read it, and make sure that it belongs to the router beside it.

        Raises
        ------
        InputError
            The file is missing, damaged, or belongs to another router.
        """
        path = Path(folder) / FILE
        remedy = f"delete {folder} and run `dvc repro router-train`"
        if not path.is_file():
            raise InputError(f"{path} is missing: {remedy}")
        try:
            state = cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}; {remedy}") from None
        if sha256_of(path.parent / MANIFEST) != state.router_sha256:
            raise InputError(f"{path} does not belong to {MANIFEST} beside it: {remedy}")
        return state


def digest_of(folder: Path | str) -> str:
    """Digest of a trained router with its serving state, 12 hexadecimal digits: how a version names its origin."""
    whole = hashlib.sha256()
    for name in (MANIFEST, FILE):
        whole.update((Path(folder) / name).read_bytes())
    return whole.hexdigest()[:12]
