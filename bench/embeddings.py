"""Compare raw, tag-enhanced and quality-supervised embeddings by the AIQ of a router that uses them.

    python bench/embeddings.py $SYMBIOSIS_DATA_DIR/routing/realroute12.parquet --queries 1200 --folds 3 \\
        --report reports/bench/embeddings.md

Only the development part of a table is used: queries whose digest of query_id, modulo 5, is 0 or 1. It is split into
folds; encoder, tags, predictors and prices are fitted on the other folds, the router is tested on the held-out fold.
With `--unseen-domains` every fold holds out whole domains. Differences to the raw embeddings have 95 % intervals of a
paired bootstrap over queries; these do not cover the spread over training seeds. The report is rewritten after each
fold.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.children import write_report
from symbiosis.core.params import read_document, validate_block
from symbiosis.core.statistics import interval, resample
from symbiosis.routing.data import table
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.data.params import CleanRoutingParams
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.curves import Curve, Reference, summarise, sweep
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.finetuning import QualityObjective, TagObjective, fine_tune, with_mean_pooling
from symbiosis.routing.queries.params import EmbedQueriesParams, TrainEncoderParams
from symbiosis.routing.queries.tagging import tag
from symbiosis.routing.queries.text_shape import query_vectors
from symbiosis.text import encoder
from symbiosis.text.cache import embed_cached
from symbiosis.text.library import LibraryEncoder

SHARE = 0.9725
METHODS = (
    "random",
    "tfidf",
    "raw",
    "raw_bfloat16",
    "tags",
    "quality",
    "tags_shuffled",
    "quality_shuffled",
    "clusters",
    "key_phrases",
)


@dataclass(frozen=True)
class Queries:
    """The development part of a table."""

    long: pl.DataFrame
    names: list[str]
    texts: list[str]
    domains: list[str]
    subdomains: list[str | None]
    outcomes: Outcomes


def load(path: Path, queries: int, seed: int) -> Queries:
    """Read the development part, or a random sample of it."""
    frame = table.read_table(path)
    ids = frame["query_id"].unique().sort().to_list()
    ids = [name for name in ids if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 < 2]
    if len(ids) > queries:
        ids = sorted(np.random.default_rng(seed).choice(ids, queries, replace=False).tolist())
    frame = frame.filter(pl.col("query_id").is_in(ids)).sort("query_id", "llm")
    names = frame["llm"].unique().sort().to_list()
    columns = ("quality", "prompt_tokens", "response_tokens", "cost_usd")
    values = (frame[column].to_numpy().astype(np.float64).reshape(-1, len(names)) for column in columns)
    heads = frame[:: len(names)]
    assert heads["query_id"].to_list() == ids
    return Queries(
        frame,
        names,
        heads["query_text"].to_list(),
        heads["domain"].to_list(),
        heads["subdomain"].to_list(),
        Outcomes(np.arange(len(ids)), *values),
    )


def folds_of(queries: Queries, folds: int, unseen_domains: bool, rng: np.random.Generator) -> np.ndarray:
    """Assign queries to folds of equal size; or whole domains, largest first, each to the smallest fold."""
    if not unseen_domains:
        return rng.permutation(np.arange(len(queries.texts)) % folds)
    values, inverse, counts = np.unique(queries.domains, return_inverse=True, return_counts=True)
    home, size = np.empty(len(values), dtype=int), np.zeros(folds)
    for value in np.argsort(-counts, kind="stable"):
        home[value] = size.argmin()
        size[home[value]] += counts[value]
    return home[inverse]


def embeddings(method: str, queries: Queries, rows: np.ndarray, params: TrainEncoderParams) -> np.ndarray:
    """Embed all queries with an encoder trained on the given ones."""
    rng = np.random.default_rng(params.seed)
    if method == "random":
        vectors = rng.standard_normal((len(queries.texts), 384))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if method == "tfidf":
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer

        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, min_df=2), TruncatedSVD(128, random_state=params.seed), Normalizer()
        )
        texts = [text[-700:] for text in queries.texts]
        return np.asarray(model.fit([texts[row] for row in rows]).transform(texts))

    def embed(model: encoder.Encoder, precision: encoder.Precision = "float32") -> np.ndarray:
        identity = encoder.identity(model, precision)
        return embed_cached(queries.texts, identity, lambda part: encoder.embed(model, part, precision))

    model = encoder.load(params.encoder, params.maximum_tokens, params.revision)
    if method.startswith("raw"):
        return embed(model, "bfloat16" if method == "raw_bfloat16" else "float32")
    texts = [queries.texts[row] for row in rows]
    objective: TagObjective | QualityObjective
    if method.startswith("quality"):
        quality = queries.outcomes.quality[rows]
        objective = QualityObjective(quality[rng.permutation(len(rows))] if method.endswith("shuffled") else quality)
    else:
        labels, _ = tag(
            texts,
            [queries.domains[row] for row in rows],
            [queries.subdomains[row] for row in rows],
            embed(model)[rows],
            params.model_copy(
                update={
                    "tags": params.tags.model_copy(
                        update={"source": "metadata" if method.startswith("tags") else method}
                    )
                }
            ),
        )
        if method.endswith("shuffled"):
            labels = labels[rng.permutation(len(rows))]
        objective = TagObjective(labels, params.temperature, params.inter_weight, params.momentum)
    trained = with_mean_pooling(encoder.load_trainable(params.encoder, params.maximum_tokens, params.revision))
    trained.max_seq_length = params.maximum_tokens
    fine_tune(trained, texts, objective, params)
    return embed(LibraryEncoder(trained))


def route(
    vectors: np.ndarray, queries: Queries, rows: np.ndarray, held: np.ndarray, params: RouterTrainParams
) -> Curve:
    """Train the predictors on some queries and route others."""
    prices = clean_params()
    described = prices.describe(
        queries.long.with_columns(
            pl.Series("row", np.repeat(np.arange(len(queries.texts)), len(queries.names)))
        ).filter(pl.col("row").is_in(rows.tolist())),
        prices=prices.prices,
        price_tolerance=prices.price_tolerance,
        speeds=prices.speeds,
        speed_classes=prices.speed_classes,
    )
    columns = ("price_prompt", "price_response", "startup_s", "tokens_per_s")
    arms = Llms(tuple(described["llm"]), *(described[c].to_numpy().astype(np.float64) for c in columns))
    outcomes = queries.outcomes.take(rows)
    domains, subdomains = [queries.domains[row] for row in rows], [queries.subdomains[row] for row in rows]
    router, _ = train(Split(outcomes, vectors[rows], domains, subdomains), arms, params)
    outcomes = queries.outcomes.take(held)
    predicted = router.predict(router.feature_map(vectors[held]))
    cost = scaled_cost(predicted.cost_usd, router.cost_scale)
    return Curve.of(sweep(lambda trade_off: utility(predicted.quality, cost, trade_off)), outcomes)


def clean_params() -> CleanRoutingParams:
    """Return the params block that defines prices."""
    return validate_block(read_document(), "clean_routing", CleanRoutingParams)


def report(parts: dict[str, list[Curve]], singles: list[Curve], seed: int, samples: int) -> list[str]:
    """Return a table of AIQ, cost at a share of the best single LLM's quality, and gain on raw embeddings.

    Parameters
    ----------
    parts
        One curve per fold, by method.
    singles
        One curve per fold, of the best single LLM.
    seed, samples
        Seed and samples of the bootstrap.

    Returns
    -------
    list of str
        Lines of a table in Markdown.
    """

    def joined(curves: list[Curve]) -> Curve:
        return Curve(np.hstack([c.quality for c in curves]), np.hstack([c.cost for c in curves]))

    done = min(map(len, parts.values()))
    single = joined(singles[:done])
    weights = resample(single.quality.shape[1], samples, seed)
    corners, drawn = single.points(), single.points(weights)
    found, by_fold, sampled = {}, {}, {}
    for name, curves in parts.items():
        curve = joined(curves[:done])
        found[name] = summarise(curve.points(), corners)
        by_fold[name] = [
            summarise(own.points(), best.points()).aiq for own, best in zip(curves[:done], singles[:done], strict=True)
        ]
        sampled[name] = np.array(
            [
                (summary.aiq, np.nan if (cost := summary.cost_at[SHARE]) is None else cost)
                for summary in (summarise(p, s) for p, s in zip(curve.points(weights), drawn, strict=True))
            ]
        )
    lines = [
        f"{single.quality.shape[1]:,} queries of {done} fold{'s' * (done > 1)} held out.",
        "",
        "| embedding | AIQ | gain on raw [95 %] | gain in each fold "
        f"| cost at {100 * SHARE:g} % | more than raw [95 %] |",
        "| --- " * 6 + "|",
    ]
    for name, summary in found.items():
        cost = summary.cost_at[SHARE]
        cells = [name, f"{summary.aiq:.4f}", *["as raw"] * 2, "never" if cost is None else f"{100 * cost:.1f} %", ""]
        if name != "raw":
            gain = sampled[name] - sampled["raw"]
            low, high = interval(gain[:, 0]).values()
            cells[2] = f"{summary.aiq - found['raw'].aiq:+.4f} [{low:+.4f}, {high:+.4f}]"
            each = zip(by_fold[name], by_fold["raw"], strict=True)
            cells[3] = ", ".join(f"{own - raw:+.4f}" for own, raw in each)
            reached = gain[np.isfinite(gain[:, 1]), 1]
            if len(reached):
                low, high = interval(reached).values()
                cells[5] = f"[{100 * low:+.1f} %, {100 * high:+.1f} %]"
            if len(reached) < len(gain):
                cells[5] += f" (both reach it in {100 * len(reached) / len(gain):.0f} % of samples)"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure and print after each fold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--queries", type=int, default=1_000_000, help="maximum number of queries")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, help="run only this many folds")
    parser.add_argument("--unseen-domains", action="store_true")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS[:6])
    parser.add_argument("--tags", nargs="+", choices=("none", "subdomain"), default=("none", "subdomain"),
                        help="tags that the predictors use")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--maximum-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--training-precision", choices=("float32", "bfloat16"),
                        help="of the encoder's training; else as params.yaml says")  # fmt: skip
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    document = read_document()
    block = validate_block(document, "train_encoder", TrainEncoderParams)
    params = block.model_copy(
        update={
            "precision": arguments.training_precision or block.precision,
            "seed": arguments.seed,
            "epochs": arguments.epochs,
            "learning_rate": arguments.learning_rate,
            "maximum_tokens": arguments.maximum_tokens,
        }
    )
    router = validate_block(document, "router_train", RouterTrainParams)
    methods = list(dict.fromkeys(["raw", *arguments.methods]))
    queries = load(arguments.table, arguments.queries, arguments.seed)
    # The form of a text joins every embedding, as in the pipeline.
    weight = validate_block(document, "embed_queries", EmbedQueriesParams).shape_weight
    folds = folds_of(queries, arguments.folds, arguments.unseen_domains, np.random.default_rng(arguments.seed))
    parts: dict[str, dict[str, list[Curve]]] = {tags: {name: [] for name in methods} for tags in arguments.tags}
    singles: list[Curve] = []
    for fold in range(min(arguments.only or arguments.folds, arguments.folds)):
        rows, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        singles.append(Reference.choose(queries.outcomes.take(rows)).curve(queries.outcomes.take(held)))
        for method in methods:
            start = time.perf_counter()
            vectors = query_vectors(embeddings(method, queries, rows, params), queries.texts, weight).astype(np.float64)
            for tags in arguments.tags:
                own = router.model_copy(update={"tags": tags})
                parts[tags][method].append(route(vectors, queries, rows, held, own))
            print(f"fold {fold}, {method}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        lines = [
            "# Embeddings of queries: `python bench/embeddings.py`",
            "",
            f"{arguments.table.name}, development part: {len(queries.texts):,} queries, {len(queries.names)} LLMs, "
            f"{arguments.folds} folds{' of whole domains' if arguments.unseen_domains else ''}, seed {arguments.seed}; "
            f"{params.encoder}, at most {params.maximum_tokens} tokens; trained {params.epochs} epochs in "
            f"{params.precision}, learning rate {params.learning_rate:g}; {arguments.samples:,} bootstrap samples.",
        ]
        for tags in arguments.tags:
            lines += ["", f"## Predictors with tags: {tags}", ""]
            lines += report(parts[tags], singles, arguments.seed, arguments.samples)
        lines += [
            "",
            "AIQ: mean quality over all trade-offs. Cost: as a share of the best single LLM's, where the same share of "
            "its quality is reached. A gain's interval is that of a paired bootstrap over the held-out queries, the "
            "folds pooled; it does not cover the spread over training seeds. The form of the text stands "
            "beside every embedding; `random` is noise beside it. `_shuffled`: trained on tags or qualities of other "
            "queries, a control.",
        ]
        print("\n" + "\n".join(lines), flush=True)
        if arguments.report:
            write_report(arguments.report, lines)


if __name__ == "__main__":
    main()
