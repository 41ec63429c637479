"""Measure signals that a router might learn from.  Run it:  python -m bench.signals --run FOLDER --cache FOLDER

Each signal gets its smallest experiment, on development queries alone: held out once per seed by a router trained on
the other four fifths of them (five folds, queries of equal text together). A signal joins the router if it gains at
least .004 of AIQ and the interval of its gain does not touch 0.

- ``noise``: the router with another seed, what a gain must be told from.
- ``prefill``: hidden states of a small real language model and the log-loss of the query's text beside the vector
  (arXiv 2603.20895; `bench.prefill`).
- ``difficulty``: item response, sigmoid(a(x) theta_l - b(x)): how far a query asks for each ability, and its
  difficulty, from its vector.
- ``encoder``: the sentence encoder fine-tuned on the quality of all LLMs' answers (arXiv 2606.07587); dear, so in two
  folds, one seed.

A run is a folder with params.yaml and data, as `make repro CONFIG=realroute12` leaves it in .runs/realroute12. The
cache keeps what the language model said.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.children import write_report
from bench.encoder_quality import FOLDS, folds_of
from bench.prefill import PARTS, prefill
from symbiosis.core.errors import InputError
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.core.progress import tqdm
from symbiosis.core.statistics import bounds, resample
from symbiosis.routing.baselines.base import Sample, Training
from symbiosis.routing.baselines.regressors import IRT
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.data.splits import development, read_whole
from symbiosis.routing.experiments.comparison import choices
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.curves import Curve, Reference, summarise
from symbiosis.routing.metrics.utility import cost_scale_of
from symbiosis.routing.model.params import RouterTrainParams

FIFTHS = 2
SAMPLES = 500
OTHER_SEED = 1000
LEAST = 0.004
FORMS = {"linear": ("linear", "none"), "linear, sub-domains": ("linear", "subdomain"), "stacked": ("stacked", "none")}
BASE = ""
DECAY = 0.5  # of the item response, as it was tuned on these queries
MAXIMUM_TOKENS = 128
SIGNALS = ("noise", "prefill", "difficulty", "encoder")

Predicted = tuple[np.ndarray, np.ndarray]
"""Quality and dollars of every LLM for the held-out queries, (n, L) each."""


@dataclass(frozen=True)
class Fold:
    """Training and held-out queries, (N,) rows each, and the LLMs at the prices of the former."""

    rows: np.ndarray
    held: np.ndarray
    llms: Llms
    seed: int


@dataclass(frozen=True)
class Gain:
    """What a signal is worth beside the same router without it.

    Attributes
    ----------
    aiq
        Of the router with it, mean over the seeds.
    gain, low, high
        Of AIQ, seeds averaged; 95 % interval of the paired bootstrap over queries.
    by_seed
        Gain under each seed.
    brier, brier_low, brier_high
        Fall of the mean squared error of predicted quality, alike.
    apart
        Of it, what concerns the differences between LLMs, which alone decide who is asked; the rest is how hard the
        query is for all of them.
    """

    aiq: float
    gain: float
    low: float
    high: float
    by_seed: list[float]
    brier: float
    brier_low: float
    brier_high: float
    apart: float

    @property
    def passes(self) -> bool:
        """Whether the signal should join the router."""
        return self.gain >= LEAST and self.low > 0


def beside(vectors: np.ndarray, block: np.ndarray, rows: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Put numbers of another kind beside query vectors of length 1, (N, d + k).

    The block, (N, k), is centred and scaled by the training rows, clipped at three deviations as the shape of a text
    is, and has about the length `weight`.
    """
    spread = block[rows].std(axis=0)
    scaled = np.clip((block - block[rows].mean(axis=0)) / np.where(spread > 0, spread, 1.0), -3, 3)
    return np.hstack([vectors, weight * scaled / np.sqrt(block.shape[1])])


def routed(whole: Split, vectors: np.ndarray, fold: Fold, params: RouterTrainParams, seed: int) -> Predicted:
    """Train a router on vectors and predict the held-out queries."""
    outcomes = whole.outcomes.take(fold.rows)
    labels = ([source[row] for row in fold.rows] for source in (whole.domains, whole.subdomains))
    seeded = params.model_copy(update={"seed": params.seed + seed})
    router = train(Split(outcomes, vectors[fold.rows], *labels), fold.llms, seeded)[0]
    predicted = router.predict(router.feature_map(vectors[fold.held]))
    return predicted.quality, predicted.cost_usd


def tuned(whole: Split, texts: list[str], rows: np.ndarray, seed: int) -> np.ndarray:
    """Fine-tune the sentence encoder on the quality of the given rows; return the vectors of all queries, (N, d)."""
    from symbiosis.routing.queries.finetuning import QualityObjective, fine_tune, with_mean_pooling
    from symbiosis.routing.queries.params import EmbedQueriesParams, TrainEncoderParams
    from symbiosis.routing.queries.text_shape import query_vectors
    from symbiosis.text import encoder
    from symbiosis.text.library import LibraryEncoder

    document = read_document()
    params = validate_block(document, "train_encoder", TrainEncoderParams).model_copy(
        update={"seed": seed, "precision": "bfloat16", "maximum_tokens": MAXIMUM_TOKENS}
    )
    model = with_mean_pooling(encoder.load_trainable(params.encoder, params.maximum_tokens, params.revision))
    fine_tune(model, [texts[row] for row in rows], QualityObjective(whole.outcomes.quality[rows]), params)
    embeddings = encoder.embed(LibraryEncoder(model), texts, "bfloat16")
    return query_vectors(embeddings, texts, validate_block(document, "embed_queries", EmbedQueriesParams).shape_weight)


def experiments(
    whole: Split, texts: list[str], said: dict[str, np.ndarray], wanted: Sequence[str], params: RouterTrainParams
) -> dict[str, Callable[[Fold, Predicted], Predicted]]:
    """Return what each signal makes of a fold, given what the router predicts without it.

    Parameters
    ----------
    whole, texts
        The queries.
    said
        See `bench.prefill.prefill`; empty if it is not wanted.
    wanted
        Of `SIGNALS`.
    params
        Of the router.
    """
    vectors = whole.embeddings
    # Both blocks of components are kept: those of the vectors are not pushed out by the others.
    wide = params.model_copy(update={"dimension": 2 * params.dimension})
    found: dict[str, Callable[[Fold, Predicted], Predicted]] = {}
    if "noise" in wanted:
        found["noise: another seed of the router"] = lambda fold, _: routed(whole, vectors, fold, params, OTHER_SEED)
        found["noise: twice the components"] = lambda fold, _: routed(whole, vectors, fold, wide, 0)

    def with_block(block: np.ndarray, own: RouterTrainParams) -> Callable[[Fold, Predicted], Predicted]:
        return lambda fold, _: routed(whole, beside(vectors, block, fold.rows), fold, own, 0)

    if said:
        found["prefill: log-loss"] = with_block(said["loss"], params)
        for part in ("mean", "last"):
            found[f"prefill: {part} of the middle layer"] = with_block(said[part], wide)

    def response(fold: Fold, base: Predicted, share: float) -> Predicted:
        training = whole.take(fold.rows)
        model = IRT(Training(Sample.of(training), training.outcomes, fold.llms, fold.seed))
        model.fit(decay=DECAY)
        quality = model.predict(Sample.of(whole.take(fold.held)))[0]
        return share * quality + (1 - share) * base[0], base[1]

    if "difficulty" in wanted:
        found["difficulty: item response"] = lambda fold, base: response(fold, base, 1.0)
        found["difficulty: mean of it and the router"] = lambda fold, base: response(fold, base, 0.5)
    if "encoder" in wanted:
        kept: dict[bytes, np.ndarray] = {}

        def fine(fold: Fold, _: Predicted) -> Predicted:
            key = fold.rows.tobytes()
            if key not in kept:
                kept[key] = tuned(whole, texts, fold.rows, fold.seed)
            return routed(whole, kept[key], fold, params, 0)

        found["encoder: fine-tuned on quality"] = fine
    return found


def climb(
    whole: Split,
    texts: list[str],
    llms: Llms,
    signals: Mapping[str, Callable[[Fold, Predicted], Predicted]],
    params: RouterTrainParams,
    seeds: int,
    folds: int,
) -> tuple[float, dict[str, Gain]]:
    """Hold out every query once per seed.

    Returns
    -------
    float
        AIQ of the router without any signal, mean over the seeds.
    dict of Gain
        By signal.
    """
    weights = resample(len(whole), SAMPLES, 0)
    areas: dict[str, list[tuple[float, np.ndarray]]] = {}
    errors: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        drawn = folds_of(texts, seed) % folds
        parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        singles = []
        for fold in range(folds):
            rows, held = np.flatnonzero(drawn != fold), np.flatnonzero(drawn == fold)
            training, test = whole.outcomes.take(rows), whole.outcomes.take(held)
            own = Fold(rows, held, priced(llms, training), seed)
            singles.append(Reference.choose(training).curve(test))
            base = routed(whole, whole.embeddings, own, params, 0)
            for name, make in {BASE: lambda _, given: given, **signals}.items():
                quality, cost = make(own, base)
                curve = Curve.of(choices(quality, cost, cost_scale_of(training)), test)
                missed = quality - test.quality
                error = np.column_stack([(missed**2).mean(axis=1), missed.var(axis=1)])
                parts.setdefault(name, []).append((curve.quality, curve.cost, error))
        back = np.argsort(np.concatenate([np.flatnonzero(drawn == fold) for fold in range(folds)]))
        corners = Curve(*(np.hstack([getattr(c, what) for c in singles])[:, back] for what in ("quality", "cost")))
        point, sampled = corners.points(), corners.points(weights)
        for name, found in parts.items():
            curve = Curve(*(np.hstack([part[place] for part in found])[:, back] for place in (0, 1)))
            resampled = [summarise(*pair).aiq for pair in zip(curve.points(weights), sampled, strict=True)]
            areas.setdefault(name, []).append((summarise(curve.points(), point).aiq, np.array(resampled)))
            errors.setdefault(name, []).append(np.concatenate([part[2] for part in found])[back])

    def gain(name: str) -> Gain:
        by_seed = [own[0] - base[0] for own, base in zip(areas[name], areas[BASE], strict=True)]
        low, high = bounds(np.mean([own[1] - base[1] for own, base in zip(areas[name], areas[BASE], strict=True)], 0))
        fall = np.mean(errors[BASE], axis=0) - np.mean(errors[name], axis=0)
        brier_low, brier_high = bounds(weights @ fall[:, 0])
        return Gain(
            float(np.mean([own[0] for own in areas[name]])),
            float(np.mean(by_seed)),
            float(low),
            float(high),
            by_seed,
            float(fall[:, 0].mean()),
            float(brier_low),
            float(brier_high),
            float(fall[:, 1].mean()),
        )

    return float(np.mean([area[0] for area in areas[BASE]])), {name: gain(name) for name in signals}


def said_of(queries: Sequence[str], texts: list[str], cache: Path) -> dict[str, np.ndarray]:
    """Return `bench.prefill.prefill` of texts, read from the cache if it holds these very queries."""
    file = cache / "prefill.npz"
    if file.exists():
        with np.load(file) as kept:
            if kept["queries"].tolist() == list(queries):
                return {part: kept[part] for part in PARTS}
    said = prefill(texts, cache / "smollm2", MAXIMUM_TOKENS)
    np.savez(file, queries=np.array(queries), **said)
    return said


def main() -> None:
    """Print the ladder and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a pipeline that ran")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what the language model said")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=list(SIGNALS[:-1]))
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--queries", type=int, default=2000, help="development queries, drawn at random")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    whole, llms, queries = read_whole(options.run / "data/routing", options.run / "data/embeddings")
    rows = np.flatnonzero(development(queries["query_id"].to_list(), FIFTHS))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: options.queries])
    if len(rows) < 100:
        raise InputError(f"{options.run}: {len(rows)} development queries are too few")
    whole, texts = whole.take(rows), queries["query_text"].gather(rows).to_list()
    params = validate_block(read_document(options.run / PARAMS_FILE), "router_train", RouterTrainParams)
    options.cache.mkdir(parents=True, exist_ok=True)
    said = {}
    if "prefill" in options.signals:
        said = said_of(queries["query_id"].gather(rows).to_list(), texts, options.cache)
    lines = [
        "# Signals that a router might learn from: `python -m bench.signals`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{len(rows):,} development queries, {len(llms)} LLMs, {options.folds} folds, {options.seeds} seeds. Gains of "
        "AIQ and falls of the mean squared error of quality, with 95 % intervals of the paired bootstrap over queries.",
        "",
        "| router | signal | AIQ | gain | by seed | error falls by | between LLMs by | joins |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | --- |",
    ]
    print("\n".join(lines[-2:]), flush=True)
    for form in tqdm(options.forms, unit="form"):
        predictor, tags = FORMS[form]
        own = params.model_copy(update={"predictor": predictor, "tags": tags})
        signals = experiments(whole, texts, said, options.signals, own)
        aiq, gains = climb(whole, texts, llms, signals, own, options.seeds, options.folds)
        rows_of = [f"| {form} | | {aiq:.4f} | | | | | |"]
        for name, gain in gains.items():
            seeds = ", ".join(f"{one:+.4f}" for one in gain.by_seed)
            rows_of.append(
                f"| {form} | {name} | {gain.aiq:.4f} | {gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] | {seeds} "
                f"| {gain.brier:+.5f} [{gain.brier_low:+.5f}, {gain.brier_high:+.5f}] | {gain.apart:+.5f} "
                f"| {'yes' if gain.passes else 'no'} |"
            )
        print("\n".join(rows_of), flush=True)
        lines += rows_of
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
