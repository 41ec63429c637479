"""How much can be learned from a table: by a simple router, cross-validated, and by any that knew more."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from symbiosis.routing.data.partial import estimated_quality
from symbiosis.routing.metrics.latent_classes import LatentClasses, choose_classes
from symbiosis.routing.model.features import draw_folds

DIMENSION = 64  # of the texts' latent semantic analysis
PENALTY = 30.0
SAMPLES = 1000
MOST_QUERIES = 3000  # drawn at random, so that a large table is inspected in seconds
LEAST_ANSWERED = 0.5  # share of pairs from which the LLMs' answers to a query say how hard it is
HALVES = 20  # random halves of repeated answers


@dataclass(frozen=True)
class Gain:
    """Quality of choosing by a text's words and domain, above that of the best single LLM, for held-out queries.

    Attributes
    ----------
    best_single, chosen
        Mean quality of either.
    low, high
        95 % bootstrap interval of the difference, over queries.
    oracle
        Mean quality of the best answer to each query; luck included.
    ceiling
        What a router could reach if it knew of each query how hard it is, luck apart; None where that cannot be told.
    ceiling_from
        ``repeated answers``: one half of the answers chose, the other was counted; ``latent classes``: see
        `symbiosis.routing.metrics.latent_classes`; ``words and domain``: these reach more than that.
    """

    best_single: float
    chosen: float
    low: float
    high: float
    oracle: float
    ceiling: float | None
    ceiling_from: str | None


@dataclass(frozen=True)
class Matrix:
    """Some queries of a table.

    Attributes
    ----------
    quality
        (N, L), estimates where an LLM did not answer.
    answered
        (N, L) bool.
    features
        (N, D), of words and domains, a one first.
    folds
        (N,).
    """

    quality: np.ndarray
    answered: np.ndarray
    features: np.ndarray
    folds: np.ndarray

    @classmethod
    def of(cls, once: pl.DataFrame, seed: int) -> "Matrix":
        """Lay out a table with one row per answered pair."""
        rng = np.random.default_rng(seed)
        queries = once.group_by("query_id").agg(pl.col("query_text", "domain").first()).sort("query_id")
        if queries.height > MOST_QUERIES:
            queries = queries[np.sort(rng.choice(queries.height, MOST_QUERIES, replace=False)).tolist()]
        llms = once["llm"].unique().sort().to_list()
        cells = once.join(queries.with_row_index("row").select("query_id", "row"), on="query_id")
        quality = np.full((queries.height, len(llms)), np.nan)
        arms = cells["llm"].replace_strict({name: arm for arm, name in enumerate(llms)}, return_dtype=pl.Int64)
        quality[cells["row"].to_numpy(), arms.to_numpy()] = cells["quality"].to_numpy()
        answered = ~np.isnan(quality)
        domains = queries["domain"].to_dummies().to_numpy().astype(float)
        ones = np.ones((len(quality), 1))
        features = np.hstack([ones, domains, _words(queries["query_text"].to_list(), seed)])
        return cls(estimated_quality(quality), answered, features, draw_folds(len(quality), seed))

    def predicted(self) -> np.ndarray:
        """Predict each query's qualities, (N, L), by ridges that were fitted without its fold."""
        predicted = np.empty(self.quality.shape)
        penalty = np.diag([1e-6, *np.full(self.features.shape[1] - 1, PENALTY)])
        for fold in np.unique(self.folds):
            for arm in range(self.quality.shape[1]):
                rows = (self.folds != fold) & self.answered[:, arm]
                seen = self.features[rows]
                weights = np.linalg.solve(seen.T @ seen + penalty, seen.T @ self.quality[rows, arm])
                predicted[self.folds == fold, arm] = self.features[self.folds == fold] @ weights
        return predicted

    def best_single(self) -> np.ndarray:
        """Return the LLM that is best on the other folds, (N,)."""
        single = np.zeros(len(self.quality), dtype=np.int64)
        for fold in np.unique(self.folds):
            single[self.folds == fold] = self.quality[self.folds != fold].mean(axis=0).argmax()
        return single


def gain_of(once: pl.DataFrame, known: pl.DataFrame, seed: int) -> Gain:
    """Cross-validate a ridge regression per LLM on words and domains, and tell what more knowledge would reach.

    Parameters
    ----------
    once
        One row per answered pair; what was not answered counts as `symbiosis.routing.data.partial` estimates it.
    known
        Every answer with a quality.
    seed
        Of folds, bootstrap, and of the queries that are drawn if there are many.
    """
    matrix = Matrix.of(once, seed)
    quality, rows = matrix.quality, np.arange(len(matrix.quality))
    ours, best = quality[rows, matrix.predicted().argmax(axis=1)], quality[rows, matrix.best_single()]
    draws = np.random.default_rng(seed).integers(len(quality), size=(SAMPLES, len(quality)))
    low, high = np.quantile((ours - best)[draws].mean(axis=1), [0.025, 0.975]).tolist()
    ceiling, source = ceiling_of_repeats(known, seed), "repeated answers"
    if ceiling is None and matrix.answered.mean() >= LEAST_ANSWERED:
        cells = np.where(matrix.answered, quality, np.nan)
        model = LatentClasses.fit(cells, choose_classes(cells, seed)[0], seed)
        ceiling, source = float(model.share @ model.rate.max(axis=1)), "latent classes"
    if ceiling is not None and ceiling < ours.mean():
        ceiling, source = float(ours.mean()), "words and domain"
    oracle = float(quality.max(axis=1).mean())
    told = None if ceiling is None else source
    return Gain(float(best.mean()), float(ours.mean()), low, high, oracle, ceiling, told)


def ceiling_of_repeats(known: pl.DataFrame, seed: int) -> float | None:
    """Let one half of the repeated answers choose an LLM for each query, and count the other half.

    Returns
    -------
    float or None
        Mean over queries and halves; None where fewer than 30 queries have two LLMs that answered twice.
    """
    pairs = known.group_by("query_id", "llm").agg(pl.col("quality")).filter(pl.col("quality").list.len() > 1)
    pairs = pairs.filter(pl.col("llm").count().over("query_id") > 1).sort("query_id", "llm")
    if pairs["query_id"].n_unique() < 30:
        return None
    rng = np.random.default_rng(seed)
    codes = pairs["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
    answers = [np.asarray(marks, dtype=float) for marks in pairs["quality"]]
    reached = []
    for _ in range(HALVES):
        shuffled = [rng.permutation(marks) for marks in answers]
        first = np.array([marks[: len(marks) // 2].mean() for marks in shuffled])
        second = np.array([marks[len(marks) // 2 :].mean() for marks in shuffled])
        order = np.lexsort((rng.random(len(first)), first, codes))
        chosen = order[np.append(codes[order][1:] != codes[order][:-1], True)]  # the best of each query
        reached.append(second[chosen].mean())
    return float(np.mean(reached))


def noise_of(known: pl.DataFrame) -> dict[str, float] | None:
    """Tell how answers to the same query differ; None without repeated answers.

    Parameters
    ----------
    known
        Every answer with a quality.

    Returns
    -------
    dict or None
        ``pairs_repeated``, ``answers_each``; ``deviation``, the standard deviation of one answer; ``share``, its
        variance's share of an LLM's variance over all its answers.
    """
    pairs = known.group_by("query_id", "llm").agg(pl.col("quality").var().alias("own"), pl.len())
    repeated = pairs.filter(pl.col("len") > 1)
    if repeated.is_empty():
        return None
    within = float(np.average(repeated["own"].to_numpy(), weights=repeated["len"].to_numpy() - 1))
    whole = known.group_by("llm").agg(pl.col("quality").var().alias("all"))["all"].to_numpy().mean()
    return {
        "pairs_repeated": repeated.height,
        "answers_each": float(repeated["len"].to_numpy().mean()),
        "deviation": within**0.5,
        "share": min(within / whole, 1.0) if whole > 0 else 0.0,
    }


def _words(texts: list[str], seed: int) -> np.ndarray:
    """Latent semantic analysis of texts, scaled as the domains are, (N, d)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        words = r"\S+"
        matrix = TfidfVectorizer(sublinear_tf=True, max_features=20_000, token_pattern=words).fit_transform(texts)
    except ValueError:  # no text has a word
        return np.zeros((len(texts), 1))
    size = min(DIMENSION, min(matrix.shape) - 1)
    if size <= 0:
        return np.zeros((len(texts), 1))
    reduced: np.ndarray = TruncatedSVD(size, random_state=seed).fit_transform(matrix) * np.sqrt(size)
    return reduced
