"""What a routing table holds, what it lacks, and how much can be learned from it, before any stage has run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.routing.data import gaps, table
from symbiosis.routing.data.partial import estimated_quality
from symbiosis.routing.data.readers import routerbench, table_files
from symbiosis.routing.model.features import draw_folds

DIMENSION = 64  # of the texts' latent semantic analysis
PENALTY = 30.0
SAMPLES = 1000
MOST_QUERIES = 3000  # drawn at random, so that a large table is inspected in seconds
POWER = 1.96 + 0.84  # normal quantiles: 5 % two-sided, 80 % power


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
    """

    best_single: float
    chosen: float
    low: float
    high: float
    oracle: float


def inspect(path: Path, seed: int = 0) -> dict[str, Any]:
    """Read a table and tell what is in it.

    Parameters
    ----------
    path
        A long table (parquet, csv, jsonl) or RouterBench's wide one.
    seed
        Of folds and bootstrap.

    Returns
    -------
    dict
        For JSON: ``read``, ``missing``, ``llms``, ``noise_share``, ``gain`` and ``params``.

    Raises
    ------
    InputError
        The table cannot be read, or holds no two LLMs with qualities.
    """
    wide = path.suffix in (".parquet", ".csv") and any(
        name.endswith(routerbench.COST) for name in table_files.column_names(path)
    )
    frame = table.typed(routerbench.to_long(path), path) if wide else table.read_table(path)
    marks = frame["quality"].drop_nulls()
    values = marks.to_numpy()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    outside = low < 0 or high > 1
    if outside and high > low:
        frame = frame.with_columns((pl.col("quality") - low) / (high - low))
    known = frame.filter(pl.col("quality").is_not_null())
    once = gaps.averaged(gaps.labelled(known))
    if once["llm"].n_unique() < 2:
        raise InputError(
            f"{path}: routing needs at least two LLMs with qualities: give more than {once['llm'].n_unique()}"
        )
    counts = gaps.gaps_of(frame, once)
    pairs = once["query_id"].n_unique() * once["llm"].n_unique()
    described: dict[str, Any] = {
        "read": {
            "layout": "routerbench" if wide else "table",
            "rows": frame.height,
            "queries": once["query_id"].n_unique(),
            "llms": once["llm"].n_unique(),
            "domains": once["domain"].n_unique(),
            "quality": "right or wrong" if set(marks.unique()) <= {low, high} else "graded",
            "marks": [low, high],
        },
        "missing": counts | {"share_answered": rounded(once.height / pairs)},
        "noise_share": noise_share(known),
    }
    gain = learnable(once, seed)
    described["llms"] = _llms(once)
    described["gain"] = {name: rounded(value) for name, value in vars(gain).items()}
    described["params"] = _suggested(
        path, wide, counts, (low, high) if outside else None, described["noise_share"], gain
    )
    return described


def noise_share(known: pl.DataFrame) -> float | None:
    """Share of an LLM's variance of quality that lies between answers to the same query; None without repeated answers.

    Parameters
    ----------
    known
        Rows with a quality.
    """
    pairs = known.group_by("query_id", "llm").agg(pl.col("quality").var().alias("own"), pl.len())
    repeated = pairs.filter(pl.col("len") > 1)
    whole = known.group_by("llm").agg(pl.col("quality").var().alias("all"))["all"].to_numpy().mean()
    if repeated.is_empty() or not whole > 0:
        return None
    return rounded(min(float(np.average(repeated["own"], weights=repeated["len"] - 1) / whole), 1.0))


def learnable(once: pl.DataFrame, seed: int) -> Gain:
    """Cross-validate a ridge regression per LLM on words and domains.

    Parameters
    ----------
    once
        One row per answered pair; what was not answered counts as `symbiosis.routing.data.partial` estimates it.
    seed
        Of folds, bootstrap, and of the queries that are drawn if there are many.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(seed)
    queries = once.group_by("query_id").agg(pl.col("query_text", "domain").first()).sort("query_id")
    if queries.height > MOST_QUERIES:
        queries = queries[np.sort(rng.choice(queries.height, MOST_QUERIES, replace=False)).tolist()]
    llms = once["llm"].unique().sort().to_list()
    cells = once.join(queries.with_row_index("row").select("query_id", "row"), on="query_id")
    quality = np.full((queries.height, len(llms)), np.nan)
    quality[cells["row"].to_numpy(), [llms.index(name) for name in cells["llm"]]] = cells["quality"].to_numpy()
    answered = ~np.isnan(quality)
    quality = estimated_quality(quality)
    words = TfidfVectorizer(sublinear_tf=True, max_features=20_000, token_pattern=r"\S+")
    try:
        matrix = words.fit_transform(queries["query_text"].to_list())
        size = min(DIMENSION, min(matrix.shape) - 1)
        texts = TruncatedSVD(size, random_state=seed).fit_transform(matrix) if size > 0 else np.zeros((len(quality), 1))
    except ValueError:  # no text has a word
        texts = np.zeros((len(quality), 1))
    domains = queries["domain"].to_dummies().to_numpy().astype(float)
    features = np.hstack([np.ones((len(texts), 1)), domains, texts * np.sqrt(texts.shape[1])])
    penalty = np.diag([1e-6, *np.full(features.shape[1] - 1, PENALTY)])
    folds = draw_folds(len(quality), seed)
    chosen, single = np.zeros(len(quality), dtype=np.int64), np.zeros(len(quality), dtype=np.int64)
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        predicted = np.empty((int(own.sum()), len(llms)))
        for arm in range(len(llms)):
            rows = rest & answered[:, arm]
            seen = features[rows]
            weights = np.linalg.solve(seen.T @ seen + penalty, seen.T @ quality[rows, arm])
            predicted[:, arm] = features[own] @ weights
        chosen[own], single[own] = predicted.argmax(axis=1), quality[rest].mean(axis=0).argmax()
    rows = np.arange(len(quality))
    ours, best = quality[rows, chosen], quality[rows, single]
    draws = rng.integers(len(quality), size=(SAMPLES, len(quality)))
    low, high = np.quantile((ours - best)[draws].mean(axis=1), [0.025, 0.975]).tolist()
    return Gain(float(best.mean()), float(ours.mean()), low, high, float(quality.max(axis=1).mean()))


def _llms(once: pl.DataFrame) -> list[dict[str, Any]]:
    """Answers, quality and cost of each LLM, and how many answers tell it from the best one."""
    rows = (
        once.group_by("llm")
        .agg(
            pl.len().alias("answers"),
            pl.col("quality").mean(),
            pl.col("quality").var().fill_null(0.0).alias("variance"),
            pl.col("cost_usd").mean(),
        )
        .sort("quality", "llm", descending=[True, False])
        .to_dicts()
    )
    best = rows[0]
    for row in rows:
        apart = best["quality"] - row["quality"]
        spread = best["variance"] + row.pop("variance") if row is not best else 0.0
        row["answers_needed"] = int(np.ceil(POWER**2 * spread / apart**2)) if apart > 0 else None
        row["quality"] = rounded(row["quality"])
        row["cost_usd"] = None if row["cost_usd"] is None else rounded(row["cost_usd"])
    best.pop("variance")
    return rows


def _suggested(
    path: Path,
    wide: bool,
    counts: dict[str, int],
    marks: tuple[float, float] | None,
    noise: float | None,
    gain: Gain,
) -> dict[str, Any]:
    """Return the blocks of params.yaml that the table asks for."""
    clean: dict[str, Any] = {}
    if "pairs_not_answered" in counts:
        clean["incomplete_queries"] = "keep"
    if {"answers_without_prompt_tokens", "answers_without_response_tokens"} & set(counts):
        clean["missing_tokens"] = "estimate"
    if "answers_without_cost" in counts:
        clean["missing_costs"] = "estimate"
    if marks is not None:
        clean["quality"] = {"worst": marks[0], "best": marks[1], "words": {}}
    train: dict[str, Any] = {"tags": "none"} if "rows_without_domain" in counts else {}
    if gain.low <= 0 or (noise or 0) > 0.5:  # little to learn: the simplest
        train["predictor"] = "linear"
    return {
        "download_routing": {"source": "routerbench" if wide else "table", "path": str(path)},
        **({"clean_routing": clean} if clean else {}),
        **({"router_train": train} if train else {}),
    }
