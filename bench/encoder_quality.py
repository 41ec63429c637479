"""How a router routes that is given the vectors of another encoder: AIQ, and how often it chooses another LLM."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from symbiosis.core.statistics import bounds, resample
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.data.splits import normalised
from symbiosis.routing.experiments.comparison import choices
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.curves import Curve, Reference, summarise
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router

FOLDS = 5
SAMPLES = 1000
TODAY = "float32"
RESEEDED = "float32, another seed of the router"
OTHER_SEED = 1000

Vectors = Callable[[np.ndarray], np.ndarray]
"""From the rows of the training queries to the vectors of all queries, (N, d)."""


@dataclass
class Routed:
    """What one variant's vectors led to: a list has an entry per seed, all queries held out once in each.

    Attributes
    ----------
    curves, swapped
        Of routers trained on the variant's vectors; of those trained on today's and served the variant's.
    flips, swapped_flips
        Share of the queries that go to another LLM than today's router sends them to, at the trained trade-off.
    """

    curves: list[Curve] = field(default_factory=list)
    swapped: list[Curve] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)
    swapped_flips: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Quality:
    """A row of the table.

    Attributes
    ----------
    aiq, spread
        Mean over the seeds, and their standard deviation.
    gain, low, high
        Of AIQ on today's encoder, with the 95 % interval of the paired bootstrap over queries, seeds averaged.
    gains
        By seed.
    swapped_gain, swapped_low, swapped_high
        Of today's router when it is served these vectors.
    flips, swapped_flips
        As in `Routed`, means over the seeds.
    """

    aiq: float
    spread: float
    gain: float
    low: float
    high: float
    gains: list[float]
    swapped_gain: float
    swapped_low: float
    swapped_high: float
    flips: float
    swapped_flips: float


def folds_of(texts: list[str], seed: int) -> np.ndarray:
    """Draw the fold of each query; queries of equal text share one."""
    groups = pl.DataFrame({"text": texts}).select(normalised(pl.col("text")).rank("dense")).to_series().to_numpy() - 1
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    folds: np.ndarray = order[groups] % FOLDS
    return folds


def judge(
    whole: Split, texts: list[str], llms: Llms, vectors: Mapping[str, Vectors], params: RouterTrainParams, seeds: int
) -> dict[str, Quality]:
    """Route all queries with every variant, each query held out once per seed.

    Parameters
    ----------
    whole
        All queries, with today's vectors.
    texts
        Theirs.
    llms
        The LLMs.
    vectors
        By variant.
    params
        Of the router; what they leave to ``auto`` is chosen once, on today's vectors of the first training fold.
    seeds
        How often the folds are drawn, and the router trained with another seed.
    """
    first = whole.take(np.flatnonzero(folds_of(texts, 0) != 0))
    params = choose(first, priced(llms, first.outcomes), params).params
    routed = {name: Routed() for name in [TODAY, RESEEDED, *vectors]}
    singles = []
    for seed in range(seeds):
        folds = folds_of(texts, seed)
        order = np.concatenate([np.flatnonzero(folds == fold) for fold in range(FOLDS)])
        back = np.argsort(order)
        parts: dict[str, list[np.ndarray]] = {}
        references = []
        for fold in range(FOLDS):
            rows, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            training = whole.take(rows)
            arms = priced(llms, training.outcomes)
            seeded = params.model_copy(update={"seed": params.seed + seed})
            references.append(Reference.choose(training.outcomes).curve(whole.outcomes.take(held)))

            def trained(
                own: np.ndarray,
                params: RouterTrainParams,
                rows: np.ndarray = rows,
                training: Split = training,
                arms: Llms = arms,
            ) -> Router:
                part = Split(training.outcomes, own[rows], training.domains, training.subdomains)
                return train(part, arms, params)[0]

            today = trained(whole.embeddings, seeded)
            parts.setdefault(TODAY, []).append(_chosen(today, whole.embeddings[held], params))
            other = trained(whole.embeddings, seeded.model_copy(update={"seed": seeded.seed + OTHER_SEED}))
            parts.setdefault(RESEEDED, []).append(_chosen(other, whole.embeddings[held], params))
            for name, make in vectors.items():
                own = make(rows)
                parts.setdefault(name, []).append(_chosen(trained(own, seeded), own[held], params))
                if own.shape[1] == whole.embeddings.shape[1]:
                    parts.setdefault(f"{name} swapped", []).append(_chosen(today, own[held], params))
        chosen = {name: np.hstack(part)[:, back] for name, part in parts.items()}
        singles.append(
            Curve(
                np.hstack([curve.quality for curve in references])[:, back],
                np.hstack([curve.cost for curve in references])[:, back],
            )
        )
        for name, row in routed.items():
            own, swapped = chosen[name], chosen.get(f"{name} swapped", chosen[TODAY])
            row.curves.append(Curve.of(own[1:], whole.outcomes))
            row.swapped.append(Curve.of(swapped[1:], whole.outcomes))
            row.flips.append(float((own[0] != chosen[TODAY][0]).mean()))
            row.swapped_flips.append(float((swapped[0] != chosen[TODAY][0]).mean()))
    return _summaries(routed, singles)


def _chosen(router: Router, vectors: np.ndarray, params: RouterTrainParams) -> np.ndarray:
    """LLMs at the trained trade-off and at every other, (1 + P, N)."""
    predicted = router.predict(router.feature_map(vectors))
    cost = scaled_cost(predicted.cost_usd, router.cost_scale)
    headline = utility(predicted.quality, cost, params.serving.trade_off).argmax(axis=1)
    return np.vstack([headline[None], choices(predicted.quality, predicted.cost_usd, router.cost_scale)])


def _summaries(routed: dict[str, Routed], singles: list[Curve]) -> dict[str, Quality]:
    weights = resample(singles[0].quality.shape[1], SAMPLES, 0)
    corners = [(single.points(), single.points(weights)) for single in singles]

    def areas(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
        """AIQ by seed, and of each bootstrap sample, averaged over the seeds."""
        found, drawn = [], []
        for curve, (point, sampled) in zip(curves, corners, strict=True):
            found.append(summarise(curve.points(), point).aiq)
            drawn.append([summarise(*pair).aiq for pair in zip(curve.points(weights), sampled, strict=True)])
        return np.array(found), np.mean(drawn, axis=0)

    today, today_drawn = areas(routed[TODAY].curves)
    rows = {}
    for name, row in routed.items():
        own, own_drawn = areas(row.curves)
        swapped, swapped_drawn = areas(row.swapped)
        low, high = bounds(own_drawn - today_drawn)
        swapped_low, swapped_high = bounds(swapped_drawn - today_drawn)
        rows[name] = Quality(
            aiq=float(own.mean()),
            spread=float(own.std(ddof=1)) if len(own) > 1 else float("nan"),
            gain=float((own - today).mean()),
            low=float(low),
            high=float(high),
            gains=[float(gain) for gain in own - today],
            swapped_gain=float((swapped - today).mean()),
            swapped_low=float(swapped_low),
            swapped_high=float(swapped_high),
            flips=float(np.mean(row.flips)),
            swapped_flips=float(np.mean(row.swapped_flips)),
        )
    return rows
