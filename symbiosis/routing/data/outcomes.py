"""What the router learns from and is judged by: the outcome of every query with every LLM, as dense arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_array, read_frame
from symbiosis.core.errors import InputError
from symbiosis.routing.data.partial import estimated_amounts, estimated_quality

CHARACTERS_PER_TOKEN = 4
"""Of English text, where tokens were not counted."""

COUNTED_BASES = ("api_reported", "tokenizer", "synthetic")
"""Bases of token counts that were counted for the very answer, not estimated."""

OPTIONAL_PRICES = ("price_cached", "price_reasoning")


@dataclass(frozen=True)
class Llms:
    """The LLMs to choose from; position is the arm.

    Attributes
    ----------
    names
        L names.
    price_prompt, price_response
        (L,), USD per token.
    startup_s, tokens_per_s
        (L,), seconds to the first token, and response tokens per second from there.
    price_cached
        (L,), USD per prompt token that the provider still holds in its cache; if not given, or NaN, as any other.
    price_reasoning
        (L,), USD per hidden reasoning token; if not given, or NaN, as for response tokens, which is how providers bill.
    """

    names: tuple[str, ...]
    price_prompt: np.ndarray
    price_response: np.ndarray
    startup_s: np.ndarray
    tokens_per_s: np.ndarray
    price_cached: np.ndarray | None = None
    price_reasoning: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Fill in the prices that are not given."""
        for name, usual in (("price_cached", self.price_prompt), ("price_reasoning", self.price_response)):
            given = getattr(self, name)
            filled = usual if given is None else np.where(np.isnan(given), usual, given)
            object.__setattr__(self, name, filled)

    @classmethod
    def load(cls, path: Path | str) -> "Llms":
        """Read ``llms.parquet``.

        Raises
        ------
        InputError
            The file is unreadable, or an LLM has no price or speed.
        """
        columns = [field.name for field in fields(cls)][1:]
        frame = _read(path, ["llm", *columns[: -len(OPTIONAL_PRICES)]], OPTIONAL_PRICES)
        for name, *values in frame.iter_rows():
            for column, value in zip(columns, values, strict=True):
                if value is None and column in OPTIONAL_PRICES:
                    continue
                if value is None or not np.isfinite(value) or value < 0 or (column == "tokens_per_s" and value == 0):
                    raise InputError(
                        f"{path}: the LLM {name!r} has {column} {value}: give `clean_routing.prices` and `.speeds` for "
                        "it, or a table with token counts to fit them to"
                    )
        return cls(tuple(frame["llm"]), *(frame[c].to_numpy().astype(np.float64) for c in columns))

    def __len__(self) -> int:
        return len(self.names)

    def service_s(self, response_tokens: np.ndarray) -> np.ndarray:
        """Seconds that a worker of each LLM is busy with an answer.

        Parameters
        ----------
        response_tokens
            (..., L), hidden reasoning tokens included: they take as long as others.

        Returns
        -------
        numpy.ndarray
            Of the same shape.
        """
        return self.startup_s + response_tokens / self.tokens_per_s

    def cost_usd(
        self,
        prompt_tokens: np.ndarray,
        response_tokens: np.ndarray,
        cached_tokens: np.ndarray | None = None,
        reasoning_tokens: np.ndarray | None = None,
    ) -> np.ndarray:
        """Dollars for prompts and responses; Eq. 5 of MixLLM (arXiv 2502.18482), with two more kinds of tokens.

        Parameters
        ----------
        prompt_tokens, response_tokens
            (..., L).
        cached_tokens
            (..., L), those of the prompt tokens that the provider holds in its cache; None: none.
        reasoning_tokens
            (..., L), generated and billed but not part of the response tokens; None: none.
        """
        cost: np.ndarray = prompt_tokens * self.price_prompt + response_tokens * self.price_response
        if cached_tokens is not None:
            cost = cost + cached_tokens * (self.price_cached - self.price_prompt)
        if reasoning_tokens is not None:
            cost = cost + reasoning_tokens * self.price_reasoning
        return cost

    def take(self, arms: Sequence[int]) -> "Llms":
        """Return the LLMs at the given arms, in that order."""
        kept = list(arms)
        columns = [field.name for field in fields(self)][1:]
        return Llms(tuple(self.names[arm] for arm in kept), *(getattr(self, column)[kept] for column in columns))


@dataclass(frozen=True)
class Outcomes:
    """Queries answered by several LLMs: by every one (full feedback), or by some where `known` tells which.

    Attributes
    ----------
    queries
        (N,), row of each query in the table of queries and in the embeddings.
    quality
        (N, L), 0..1.
    prompt_tokens, response_tokens
        (N, L).
    cost_usd
        (N, L).
    counted
        (N, L) bool, whether the tokens were counted for this very answer and not estimated; None: all were.
    known
        (N, L) bool, whether the LLM has answered the query; None: all have. What is not known holds an estimate, see
        `symbiosis.routing.data.partial`; what is fitted to one LLM leaves it out.
    """

    queries: np.ndarray
    quality: np.ndarray
    prompt_tokens: np.ndarray
    response_tokens: np.ndarray
    cost_usd: np.ndarray
    counted: np.ndarray | None = None
    known: np.ndarray | None = None

    @classmethod
    def load(cls, path: Path | str, llms: Llms) -> "Outcomes":
        """Read the outcomes of one split, ``offline.parquet`` for instance.

        Raises
        ------
        InputError
            The file is unreadable, a query repeats an LLM, or a value is missing or out of range.
        """
        columns = ["query", "llm", "quality", "prompt_tokens", "response_tokens", "cost_usd"]
        frame = _read(path, columns, keep=("tokens_basis",)).sort("query", "llm")
        if frame.is_empty():
            raise InputError(f"{path} holds no outcomes: make its share in `clean_routing` larger")
        sound = pl.col("quality").is_between(0, 1) & pl.col("llm").is_between(0, len(llms) - 1)
        for column in columns[3:]:
            sound &= pl.col(column).cast(pl.Float64).is_finite() & (pl.col(column) >= 0)
        bad = frame.filter(~sound.fill_null(False))
        if bad.height:
            row = bad.row(0, named=True)
            raise InputError(
                f"{path}: query {row['query']} with LLM {row['llm']} has {row}: quality must lie in 0..1, tokens and "
                f"cost must be known and not negative ({bad.height} such rows); correct the table"
            )
        again = frame.filter(frame.select("query", "llm").is_duplicated())
        if again.height:
            raise InputError(
                f"{path}: query {again['query'][0]} has more than one outcome with LLM {again['llm'][0]} "
                f"({again.height} such rows): run `dvc repro clean-routing`"
            )
        queries, rows = np.unique(frame["query"].to_numpy().astype(np.int64), return_inverse=True)
        places = rows, frame["llm"].to_numpy().astype(np.int64)
        values = [frame[c].to_numpy().astype(np.float64) for c in columns[2:]]
        counted = None
        if "tokens_basis" in frame.columns:
            counted = frame["tokens_basis"].is_in(COUNTED_BASES).fill_null(False).to_numpy()
        if frame.height == len(queries) * len(llms):
            shape = (-1, len(llms))
            dense = cls(queries, *(value.reshape(shape) for value in values))
            return dense if counted is None else replace(dense, counted=counted.reshape(shape))
        known = np.zeros((len(queries), len(llms)), dtype=bool)
        known[places] = True
        told = np.full((len(values), *known.shape), np.nan)
        told[:, *places] = values
        quality, *amounts = told
        all_counted = None
        if counted is not None:
            all_counted = np.zeros(known.shape, dtype=bool)
            all_counted[places] = counted
        prompt, response, cost = (estimated_amounts(amount) for amount in amounts)
        return cls(queries, estimated_quality(quality), prompt, response, cost, all_counted, known)

    @classmethod
    def join(cls, parts: "Sequence[Outcomes]") -> "Outcomes":
        """Return all queries of several parts with the same LLMs, by query."""
        order = np.argsort(np.concatenate([part.queries for part in parts]), kind="stable")
        names = [field.name for field in fields(cls) if field.name not in ("counted", "known")]
        told = [part.counted for part in parts if part.counted is not None]
        counted = np.concatenate(told)[order] if len(told) == len(parts) else None
        known = None
        if any(part.known is not None for part in parts):
            masks = [np.ones(part.quality.shape, dtype=bool) if part.known is None else part.known for part in parts]
            known = np.concatenate(masks)[order]
        joined = cls(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in names))
        return replace(joined, counted=counted, known=known)

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: np.ndarray) -> "Outcomes":
        """Return the given rows, in that order."""
        return Outcomes(
            self.queries[rows],
            self.quality[rows],
            self.prompt_tokens[rows],
            self.response_tokens[rows],
            self.cost_usd[rows],
            None if self.counted is None else self.counted[rows],
            None if self.known is None else self.known[rows],
        )

    def of_llms(self, arms: Sequence[int]) -> "Outcomes":
        """Return the outcomes of the given LLMs only, in that order."""
        kept = list(arms)
        return Outcomes(
            self.queries,
            self.quality[:, kept],
            self.prompt_tokens[:, kept],
            self.response_tokens[:, kept],
            self.cost_usd[:, kept],
            None if self.counted is None else self.counted[:, kept],
            None if self.known is None else self.known[:, kept],
        )

    def observed(self, values: np.ndarray) -> np.ndarray:
        """Return the values, of (N, L), of answers that were given; the array itself where all were."""
        return values if self.known is None else values[self.known]

    def of_arm(self, values: np.ndarray, arm: int) -> np.ndarray:
        """Return one LLM's column of values (N, L), of the queries that it has answered."""
        column = values[:, arm]
        return column if self.known is None else column[self.known[:, arm]]


@dataclass(frozen=True)
class Split:
    """The queries of one split.

    Attributes
    ----------
    outcomes
        Of N queries.
    embeddings
        (N, d).
    domains, subdomains
        N labels each; a sub-domain's label holds its domain's, see `symbiosis.routing.data.splits.labels_of`.
    """

    outcomes: Outcomes
    embeddings: np.ndarray
    domains: list[str]
    subdomains: list[str]

    def __len__(self) -> int:
        return len(self.outcomes)

    def take(self, rows: np.ndarray) -> "Split":
        """Return the given rows, in that order."""
        return Split(
            self.outcomes.take(rows),
            self.embeddings[rows],
            [self.domains[row] for row in rows],
            [self.subdomains[row] for row in rows],
        )


def _read(path: Path | str, columns: list[str], optional: Sequence[str] = (), keep: Sequence[str] = ()) -> pl.DataFrame:
    """Read columns that must be there, optional ones as nulls if they are not, and others only if they are there."""
    frame = read_frame(path)
    columns = [*columns, *(name for name in keep if name in frame.columns)]
    present = [name for name in optional if name in frame.columns]
    lacking = [name for name in optional if name not in present]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path} is damaged (it has no column {missing[0]}): delete it and run `dvc repro`")
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking).select(*columns, *optional)


def load_embeddings(folder: Path | str, queries: np.ndarray) -> np.ndarray:
    """Read the embeddings of some queries.

    Parameters
    ----------
    folder
        ``data/embeddings``.
    queries
        (N,), rows.

    Returns
    -------
    numpy.ndarray
        (N, d) float64.

    Raises
    ------
    InputError
        The file is missing or damaged, has too few rows or a value that is not finite.
    """
    path = Path(folder) / "queries.npy"
    vectors = read_array(path)
    if vectors.ndim != 2 or len(vectors) <= queries.max():
        raise InputError(
            f"{path} has shape {vectors.shape}, but query {queries.max()} must have a row: "
            "run `dvc repro embed-queries`"
        )
    chosen = vectors[queries].astype(np.float64)
    if not np.isfinite(chosen).all():
        raise InputError(f"{path} holds values that are not finite: run `dvc repro embed-queries`")
    return chosen
