"""What users told of answers while the router served, cleaned for training: one LLM's outcome for each query.

Exports come from any number of stores and over a long time: routers, encoders and LLMs may have changed meanwhile.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError
from symbiosis.routing.data.params import CollectFeedbackParams
from symbiosis.routing.data.readers.exports import EXPORT
from symbiosis.routing.data.splits import SPLITS, normalised

DAY_S = 86_400.0
_TAKEN = (
    "store", "lesson", "decision", "at", "source", "mode", "policy", "router", "version", "chosen", "llm", "propensity",
    "quality", "satisfied", "response_tokens", "prompt_tokens", "cost_usd", "expected_quality",
    "expected_prompt_tokens", "expected_cost_usd", "vector",
)  # fmt: skip
OUTCOMES: dict[str, pl.DataType] = {
    "query": pl.String(),
    "split": pl.String(),
    **{name: EXPORT[name] for name in _TAKEN},
}
"""Columns of ``data/logged/outcomes.parquet``, one row per answer with feedback, by store and lesson:

- ``query``: SHA-256 of the query's normalised text, see `symbiosis.routing.data.splits.normalised`; of the text as it
  was where the export holds no text, and of the vector where there was no text at all
- ``split``: where the routing table has the same query; null where it does not
- all others: see `symbiosis.routing.data.readers.exports.EXPORT`; ``vector`` has the form that is trained with
"""


@dataclass(frozen=True)
class Logged:
    """Answers with feedback.

    Attributes
    ----------
    frame
        N rows, the columns of `OUTCOMES`.
    """

    frame: pl.DataFrame

    @classmethod
    def load(cls, path: Path | str) -> "Logged":
        """Read ``outcomes.parquet``.

        Raises
        ------
        InputError
            It is missing or damaged.
        """
        frame = read_frame(path)
        if dict(frame.schema) != OUTCOMES:
            raise InputError(f"{path} was written by another version: run `dvc repro collect-feedback`")
        return cls(frame)

    def __len__(self) -> int:
        return self.frame.height

    def take(self, kept: np.ndarray) -> "Logged":
        """Return the rows that are kept, (N,) bool."""
        return Logged(self.frame.filter(pl.Series(kept, dtype=pl.Boolean)))

    @property
    def vectors(self) -> np.ndarray:
        """Vectors of the queries, (N, d) float64; (0, 0) without any."""
        if not len(self):
            return np.zeros((0, 0))
        return np.array(self.frame["vector"].to_list(), dtype=np.float64)

    def quality(self, satisfied: float, dissatisfied: float) -> np.ndarray:
        """Return the quality of each answer, (N,), 0..1.

        Parameters
        ----------
        satisfied, dissatisfied
            What stands for binary feedback, see `symbiosis.routing.learning.feedback.Satisfaction`.
        """
        meant = pl.when(pl.col("satisfied")).then(satisfied).otherwise(dissatisfied)
        return self.frame.select(pl.coalesce("quality", meant))["quality"].to_numpy().astype(np.float64)

    def held_out(self, share: float) -> np.ndarray:
        """Mark the rows that no router is ever trained on, (N,) bool.

        These are a share of the queries, the same ones at all times as a query's digest decides, and all whose query
        the routing table holds for the online or the test split.
        """
        drawn = np.array([int(query[-13:], 16) / 16**13 < share for query in self.frame["query"]], dtype=bool)
        kept_back = self.frame["split"].is_in(["online", "test"]).fill_null(False).to_numpy()
        held: np.ndarray = drawn | kept_back
        return held


@dataclass(frozen=True)
class Known:
    """What the pipeline knows, which exports are compared with.

    Attributes
    ----------
    llms
        Names of the LLMs.
    form
        Of the vectors, `symbiosis.routing.queries.vector_form.VectorForm` as plain values.
    queries
        Of the routing table: columns ``query_text`` and ``split``.
    vectors
        (M, d) float32, of the same M queries.
    encode
        Makes vectors (d,) of texts.
    """

    llms: Sequence[str]
    form: Mapping[str, Any]
    queries: pl.DataFrame
    vectors: np.ndarray
    encode: Callable[[Sequence[str]], Sequence[np.ndarray]]


def collect(exports: pl.DataFrame, known: Known, params: CollectFeedbackParams) -> tuple[Logged, dict[str, Any]]:
    """Clean exports for training.

    Parameters
    ----------
    exports
        The columns of `symbiosis.routing.data.readers.exports.EXPORT`.
    known
        What they are compared with.
    params
        How much is kept.

    Returns
    -------
    Logged
    dict
        For ``reports/collect_feedback.json``: how many rows there were, were left out and why, and are kept.
    """
    counts: dict[str, Any] = {"exported": exports.height}

    def without(frame: pl.DataFrame, kept: pl.Expr, reason: str) -> pl.DataFrame:
        left = frame.filter(kept)
        counts[reason] = frame.height - left.height
        return left

    frame = without(exports, pl.col("decision").is_first_distinct(), "duplicates")
    frame = without(frame, pl.col("llm").is_in(list(known.llms)), "of_unknown_llms")
    newest = frame["told_at"].max()
    if params.maximum_age_days is not None and isinstance(newest, float):
        frame = without(frame, pl.col("told_at") >= newest - params.maximum_age_days * DAY_S, "too_old")
    if params.maximum_rows is not None:
        order = pl.struct("told_at", "store", "lesson").rank("ordinal", descending=True)
        frame = without(frame, order <= params.maximum_rows, "beyond_maximum_rows")
    frame, counts["encoded_anew"] = _of_one_form(frame, known)
    frame = without(frame, pl.col("vector").is_not_null(), "of_other_vectors")
    logged = Logged(_placed(frame, known).select(*OUTCOMES))
    counts["kept"] = len(logged)
    for column in ("llm", "mode", "split"):
        values = logged.frame[column].drop_nulls().value_counts().sort(column).rows()
        counts[f"by_{column}"] = {str(value): int(count) for value, count in values}
    counts["with_propensity"] = logged.frame["propensity"].count()
    counts["binary"] = int(logged.frame["quality"].is_null().sum())
    return logged, counts


def _of_one_form(frame: pl.DataFrame, known: Known) -> tuple[pl.DataFrame, int]:
    """Encode anew the texts whose vectors have another form; without a text the vector is null. How many were."""
    dimension = known.form["dimension"]
    same = {form for form in frame["form"].unique() if form and _read_form(form) == dict(known.form)}
    fits = frame["form"].is_in(list(same)) & (frame["vector"].list.len() == dimension)
    if fits.all():
        return frame, 0
    vectors = frame["vector"].set(~fits, None).to_list()
    again = (~fits & frame["text"].is_not_null()).arg_true().to_list()
    if again:
        made = known.encode(frame["text"][again].to_list())
        for row, vector in zip(again, made, strict=True):
            vectors[row] = np.asarray(vector, dtype=np.float32).tolist()
    return frame.with_columns(pl.Series("vector", vectors, dtype=EXPORT["vector"])), len(again)


def _read_form(form: str) -> object:
    """Return the form of vectors as plain values, None if it cannot be read: such vectors are of another form."""
    try:
        return json.loads(form)
    except (ValueError, RecursionError):
        return None


def _placed(frame: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Add ``query`` and ``split``."""
    table = known.queries.select(
        "split", digest=_digests(normalised(pl.col("query_text"))), raw=_digests(pl.col("query_text"))
    ).with_columns(vector_digest=_vector_digests(list(known.vectors)))
    text = pl.when(pl.col("text").is_not_null()).then(normalised(pl.col("text")))
    frame = frame.with_columns(
        digest=_digests(text),
        raw=pl.when(pl.col("text_sha256") != "").then(pl.col("text_sha256")),
        vector_digest=_vector_digests([np.array(vector, dtype=np.float32) for vector in frame["vector"].to_list()]),
    )
    # One row may hold the text that another row has only the digest of; so may the routing table.
    texts = pl.concat([table.select("raw", "digest"), frame.select("raw", "digest")]).drop_nulls().unique("raw")
    frame = frame.join(texts.rename({"digest": "told"}), on="raw", how="left", maintain_order="left")
    found = []
    for column in ("digest", "raw", "vector_digest"):
        place = pl.col("split").replace_strict(_PLACES, return_dtype=pl.Int8)
        strictest = table.group_by(column).agg(place.max().alias(f"in_{column}")).drop_nulls(column)
        frame = frame.join(strictest, on=column, how="left", maintain_order="left")
        found.append(f"in_{column}")
    names = {place: split for split, place in _PLACES.items()}
    return frame.with_columns(
        query=pl.coalesce("digest", "told", "raw", "vector_digest"),
        split=pl.max_horizontal(found).replace_strict(names, default=None, return_dtype=pl.String),
    )


_PLACES = {split: place for place, split in enumerate(SPLITS)}
"""A query that is in two splits counts as one of the stricter one: offline, online, test."""


def _digests(text: pl.Expr) -> pl.Expr:
    return text.map_elements(lambda one: hashlib.sha256(one.encode("utf-8", "replace")).hexdigest(), pl.String)


def _vector_digests(vectors: Sequence[np.ndarray]) -> pl.Series:
    digests = [hashlib.sha256(np.ascontiguousarray(one, dtype="<f4").tobytes()).hexdigest() for one in vectors]
    return pl.Series(digests, dtype=pl.String)
