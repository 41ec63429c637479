"""What a simulated LLM answers: a quality that is known, and a length."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_frame
from symbiosis.core.layout import LLMS, OFFLINE, ONLINE, QUERIES, ROUTING_TEST
from symbiosis.routing.data import synthetic
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN

SYNTHETIC_QUERIES, SYNTHETIC_SEED = 800, 29
"""Of the table that is drawn where the data folder has none."""
READ_FOR_DOMAINS = 2_000
"""Queries of the table from whose words the domain of another prompt is told."""
LENGTH_SPREAD = 0.5
"""Of the logarithm of a response's length where the table does not tell it, as in the synthetic table."""
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class SimulatedAnswer:
    """The quality of an answer, 0 to 1, and tokens of the prompt's text (with what comes with it) and the response."""

    quality: float
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True)
class _Outcomes:
    """The table of queries that every LLM has answered, as dense arrays.

    Attributes
    ----------
    llms
        L names.
    texts
        N texts of queries.
    domains
        N names.
    quality, prompt_tokens, response_tokens
        (N, L).
    """

    llms: tuple[str, ...]
    texts: list[str]
    domains: np.ndarray
    quality: np.ndarray
    prompt_tokens: np.ndarray
    response_tokens: np.ndarray


class AnswerBook:
    """Answers of all LLMs to all prompts, the same for the same seed.

    A prompt that is a query of the routing table gets the table's quality and length. For any other prompt the words
    tell the domain (naive Bayes over the table's queries), and quality and length are drawn from what the LLM achieves
    in that domain; a hash of seed, LLM and prompt seeds the draw.
    """

    def __init__(self, outcomes: _Outcomes, seed: int) -> None:
        self._outcomes = outcomes
        self._seed = seed
        self._arms = {name: arm for arm, name in enumerate(outcomes.llms)}
        # Of texts that occur twice the first one counts.
        self._rows = {text: row for row, text in reversed(list(enumerate(outcomes.texts)))}
        self._domains = _Domains(outcomes.texts[:READ_FOR_DOMAINS], outcomes.domains[:READ_FOR_DOMAINS])
        self._means = {
            domain: (outcomes.quality[rows].mean(axis=0), np.maximum(outcomes.response_tokens[rows].mean(axis=0), 1))
            for domain in self._domains.names
            for rows in [outcomes.domains == domain]
        }

    @classmethod
    def open(cls, folder: Path = Path(), seed: int = 0) -> "AnswerBook":
        """Read the routing table of a data folder; without one, draw the synthetic table.

        Raises
        ------
        InputError
            The table is damaged.
        """
        return cls(_prepared(folder) if (folder / QUERIES).exists() else _drawn(), seed)

    @property
    def texts(self) -> Sequence[str]:
        """The texts of the table's queries."""
        return self._outcomes.texts

    def answer(self, llm: str, text: str) -> SimulatedAnswer:
        """Return what an LLM answers to a prompt's text."""
        row, arm = self._rows.get(text), self._arms.get(llm)
        if row is not None and arm is not None:
            known = self._outcomes
            return SimulatedAnswer(
                float(known.quality[row, arm]),
                int(known.prompt_tokens[row, arm]),
                max(1, int(known.response_tokens[row, arm])),
            )
        quality, length = self._expected(self._domains.of(text), arm)
        rng = draw(self._seed, llm, text)
        right = bool(rng.random() < quality)
        tokens = length * math.exp(LENGTH_SPREAD * rng.standard_normal() - LENGTH_SPREAD**2 / 2)
        return SimulatedAnswer(float(right), count_tokens(text), max(1, round(tokens)))

    def _expected(self, domain: str, arm: int | None) -> tuple[float, float]:
        """Return mean quality and response tokens in a domain; of an LLM not in the table, the mean of the others."""
        quality, tokens = self._means[domain]
        if arm is None:
            return float(quality.mean()), float(tokens.mean())
        return float(quality[arm]), float(tokens[arm])


def count_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def draw(seed: int, *parts: object) -> np.random.Generator:
    """Return a generator that is seeded by a hash: the same for the same seed and parts, in every process."""
    digest = hashlib.sha256("\0".join(map(str, (seed, *parts))).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class _Domains:
    """Tells the domain of a text by its words: naive Bayes with every domain as probable."""

    def __init__(self, texts: Sequence[str], domains: np.ndarray) -> None:
        counts: dict[str, Counter[str]] = {name: Counter() for name in sorted(set(domains))}
        for text, domain in zip(texts, domains, strict=True):
            counts[domain].update(_words(text))
        self.names = list(counts)
        vocabulary = set().union(*counts.values())
        self._known = {
            word: np.log(
                [(counts[name][word] + 1) / (counts[name].total() + len(vocabulary)) for name in self.names]
            )
            for word in vocabulary
        }  # fmt: skip

    def of(self, text: str) -> str:
        found = [self._known[word] for word in _words(text) if word in self._known]
        # Without any known word all are as probable, and the first is taken.
        return self.names[int(np.sum(found, axis=0).argmax())] if found else self.names[0]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold()[:20_000])


def _prepared(folder: Path) -> _Outcomes:
    queries = read_frame(folder / QUERIES, ["query", "query_text", "domain"]).sort("query")
    names = tuple(read_frame(folder / LLMS, ["llm"])["llm"])
    columns = ["query", "llm", "quality", "prompt_tokens", "response_tokens"]
    rows = pl.concat([read_frame(folder / path, columns) for path in (OFFLINE, ONLINE, ROUTING_TEST)])
    rows = rows.sort("query", "llm")
    shape = (-1, len(names))
    answered = rows["query"].to_numpy().reshape(shape)[:, 0]
    queries = queries.filter(pl.col("query").is_in(answered.tolist()))
    return _arrays(names, queries["query_text"], queries["domain"], rows)


def _drawn() -> _Outcomes:
    table = synthetic.generate(SYNTHETIC_QUERIES, SYNTHETIC_SEED).sort("query_id", "llm")
    names = tuple(table["llm"].unique().sort())
    queries = table.gather_every(len(names))
    return _arrays(names, queries["query_text"], queries["domain"], table)


def _arrays(names: tuple[str, ...], texts: pl.Series, domains: pl.Series, rows: pl.DataFrame) -> _Outcomes:
    columns = (rows[name].to_numpy() for name in ("quality", "prompt_tokens", "response_tokens"))
    return _Outcomes(
        names, texts.to_list(), domains.to_numpy(), *(column.reshape(-1, len(names)) for column in columns)
    )
