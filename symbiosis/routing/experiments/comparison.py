"""One split of the comparison: the router in several forms, and every baseline, on the same test queries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.core.rounding import rounded
from symbiosis.routing.baselines.base import Baseline, Predictive, Sample, Training
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.baselines.tuning import TunedBaseline, tune
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.experiments.params import CompareRoutersParams, RouterForm
from symbiosis.routing.experiments.robustness import Chooser
from symbiosis.routing.experiments.timed import SINGLES, WAITS_SEEN, TimedCurve, Traffic, spread_points
from symbiosis.routing.experiments.waits import routers_seeing_waits, with_deadline
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, summarise
from symbiosis.routing.metrics.metrics import brier, calibration_error, ratio
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.features import draw_folds
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.simulation.queues import Capacities

SEED_STEP = 1000  # between the seeds of a method, away from those of the splits


def train_form(form: RouterForm, training: Split, llms: Llms, params: RouterTrainParams, seed: int) -> Router:
    """Train the router in one of its forms.

    Parameters
    ----------
    form
        ``router``: as params say, ``auto`` included; ``router_linear``, ``router_forest``: with another predictor,
        the latter MixLLM's, see `symbiosis.routing.model.mixllm_predictor`; ``router_without_tags``,
        ``router_clusters``: without tags, or tags from k-means; ``router_without_labels``: as on a table that has
        neither domains nor sub-domains; and two controls that should not route well: ``router_shuffled``: outcomes of
        other queries; ``router_noise``: random vectors and no tags.
    training
        N queries.
    llms
        The LLMs.
    params
        Of the router.
    seed
        Of the controls.
    """
    changes: dict[str, dict[str, Any]] = {
        "router_linear": {"predictor": "linear"},
        "router_forest": {"predictor": "forest"},
        "router_without_tags": {"tags": "none"},
        "router_clusters": {"tags": "clusters"},
        "router_noise": {"tags": "none"},
    }
    params = params.model_copy(update=changes.get(form, {}))
    if form == "router_without_labels":
        training = _without_labels(training)
    vectors, outcomes = training.embeddings, training.outcomes
    rng = np.random.default_rng(seed)
    if form == "router_shuffled":
        outcomes = outcomes.take(rng.permutation(len(outcomes)))
    if form == "router_noise":
        vectors = rng.standard_normal(vectors.shape) / np.sqrt(vectors.shape[1])
    return train(Split(outcomes, vectors, training.domains, training.subdomains), llms, params)[0]


def _without_labels(training: Split) -> Split:
    one = [""] * len(training)
    return replace(training, domains=one, subdomains=one)


def predictions(router: Router, part: Split) -> tuple[np.ndarray, np.ndarray]:
    """Quality and dollars that the router expects, (N, L) each."""
    predicted = router.predict(router.feature_map(part.embeddings))
    return predicted.quality, predicted.cost_usd


def choices(quality: np.ndarray, cost: np.ndarray, cost_scale: float) -> np.ndarray:
    """Choose under every trade-off, (P, N)."""
    scaled = scaled_cost(cost, cost_scale)
    return np.stack([utility(quality, scaled, float(weight)).argmax(axis=1) for weight in TRADE_OFFS])


def trade_off_for(share: float, training: Split, llms: Llms, params: RouterTrainParams, seed: int) -> int:
    """Choose the operating point that keeps a share of the best single LLM's quality at the least cost.

    Judged on training queries that were held out of the router's training, 5 folds.

    Returns
    -------
    int
        Position among `TRADE_OFFS`; the last one if none keeps that share.
    """
    folds = draw_folds(len(training), seed)
    quality, cost = np.zeros(len(TRADE_OFFS)), np.zeros(len(TRADE_OFFS))
    for fold in np.unique(folds):
        rest, own = training.take(np.flatnonzero(folds != fold)), training.take(np.flatnonzero(folds == fold))
        router = train_form("router", rest, llms, params, seed)
        curve = Curve.of(choices(*predictions(router, own), router.cost_scale), own.outcomes)
        quality, cost = quality + curve.quality.sum(axis=1), cost + curve.cost.sum(axis=1)
    wanted = share * training.outcomes.quality.mean(axis=0).max() * len(training)
    good = np.flatnonzero(quality >= wanted)
    return int(good[cost[good].argmin()]) if len(good) else len(TRADE_OFFS) - 1


@dataclass(frozen=True)
class MethodResults:
    """Curves and numbers of every method on one split.

    Attributes
    ----------
    curves
        By method.
    report
        Numbers for JSON: settings, calibration.
    streams
        By method, and of the cheapest and the best single LLM; empty if no stream is played.
    choosers
        The router, and the baselines of `RobustnessParams.beside`.
    """

    curves: dict[str, Curve]
    report: dict[str, Any]
    streams: dict[str, TimedCurve]
    choosers: dict[str, Chooser]


def compare(
    training: Split, test: Split, llms: Llms, router_params: RouterTrainParams, params: CompareRoutersParams, seed: int
) -> MethodResults:
    """Train everything on the training queries and play the test queries once.

    Parameters
    ----------
    training, test
        The split.
    llms
        The LLMs; their prices are fitted anew, to training outcomes.
    router_params
        Of the router; what they leave to ``auto`` is chosen once, on all training queries.
    params
        Of the comparison.
    seed
        Of whatever is random.

    Raises
    ------
    InputError
        There is no such baseline, or the stream gives the capacity of an LLM that is not there.
    """
    stream = params.stream
    unknown = sorted(set(params.baselines) - set(BASELINES))
    if unknown:
        raise InputError(f"params.yaml: `compare_routers.baselines`: {unknown[0]!r} is none of {', '.join(BASELINES)}")
    beside = set(params.robustness.beside if params.robustness else ()) & set(params.baselines)
    _check_predictive(sorted(beside), params.baselines, "robustness.beside")
    if stream is not None:
        _check_predictive(stream.controls, params.baselines, "stream.controls")
        Capacities.of(stream, llms.names, "compare_routers")
    llms = priced(llms, training.outcomes)
    given, choice = router_params, choose(training, llms, router_params)
    router_params = choice.params
    choosers: dict[str, Chooser] = {}
    curves: dict[str, Curve] = {}
    streams: dict[str, TimedCurve] = {}
    traffic = None if stream is None else Traffic(test.outcomes, llms, stream, seed)
    report: dict[str, Any] = {
        "queries_training": len(training),
        "queries_test": len(test),
        "router": {"predictor": router_params.predictor, "tags": router_params.tags, **choice.report()},
        "settings": {},
        "prediction": {},
        "aiq_by_seed": {},
    }
    known = Training(Sample.of(training), training.outcomes, llms, seed)
    budget = params.tuning_queries
    rows = np.arange(len(training))
    if budget is not None and len(training) > budget:
        rows = np.sort(np.random.default_rng(seed).choice(len(training), budget, replace=False))
    small = known if len(rows) == len(training) else known.take(rows)
    singles = known.reference.curve(test.outcomes).points()
    more_seeds = [seed + SEED_STEP * number for number in range(1, params.method_seeds)]

    def record_seeds(name: str, others: list[Curve]) -> None:
        if others:
            areas = [summarise(curve.points(), singles).aiq for curve in (curves[name], *others)]
            report["aiq_by_seed"][name] = [rounded(area) for area in areas]

    for form in tqdm(params.forms, desc="routers", unit="form"):
        form_params = _labelless(given) if form == "router_without_labels" else router_params
        router = train_form(form, training, llms, form_params, seed)
        predicted = router.predict(router.feature_map(test.embeddings))
        quality, cost = predicted.quality, predicted.cost_usd
        curves[form] = Curve.of(choices(quality, cost, router.cost_scale), test.outcomes)
        report["prediction"][form] = _judge(quality, cost, test.outcomes)
        if form == "router":
            choosers[form] = _chooser(router)
            record_seeds(form, [_router_curve(training, test, llms, router_params, other) for other in more_seeds])
        if traffic is not None:
            places = spread_points(curves[form], traffic.params.points)
            streams[form] = traffic.blind(curves[form].at(places))
            if form == "router":
                ours = router, predicted
                streams |= routers_seeing_waits(traffic, router, predicted, places)
    for name in tqdm(params.baselines, desc="baselines", unit="baseline"):
        tuned = tune(BASELINES[name], BASELINES[name].Params(), known, small)
        curves[name] = tuned.baseline.play(Sample.of(test), test.outcomes)
        if (
            params.robustness is not None
            and name in params.robustness.beside
            and isinstance(tuned.baseline, Predictive)
        ):
            choosers[name] = _chooser(tuned.baseline)
        if BASELINES[name].seeded:
            record_seeds(name, [_replayed(tuned, known.with_seed(other), test) for other in more_seeds])
        if traffic is not None:
            certain = tuned.baseline.stream(Sample.of(test), test.outcomes, curves[name])
            places = spread_points(certain, traffic.params.points)
            streams[name] = traffic.blind(certain.at(places))
            if name in traffic.params.controls and isinstance(tuned.baseline, Predictive):
                # Its own quality and cost; the lengths and speeds that tell when an answer is there are the router's.
                quality, cost = tuned.baseline.predict(Sample.of(test))
                its_own = replace(ours[1], quality=quality, cost_usd=cost)
                streams[f"{name}{WAITS_SEEN}"] = with_deadline(traffic, ours[0], its_own, places)
        report["settings"][name] = {"chosen": tuned.setting, "tried": len(tuned.tried), **tuned.baseline.notes}
    point = trade_off_for(params.quality_share, training.take(rows), llms, router_params, seed)
    report["operating_point"] = {
        "share": params.quality_share,
        "trade_off": float(TRADE_OFFS[point]),
        "position": point,
    }
    if traffic is not None:
        streams[SINGLES] = traffic.blind(known.reference.curve(test.outcomes))
        report["stream"] = {"load": traffic.load(), "params": traffic.params.model_dump(mode="json")}
    return MethodResults(curves, report, streams, choosers)


def _labelless(params: RouterTrainParams) -> RouterTrainParams:
    """Return the params for a table without labels: tags that are made from them are chosen anew."""
    return params.model_copy(update={"tags": "auto"}) if params.tags in ("domain", "subdomain") else params


def _chooser(method: Router | Predictive) -> Chooser:
    if isinstance(method, Router):
        return lambda part: choices(*predictions(method, part), method.cost_scale)
    return lambda part: method.choices(Sample.of(part))


def _router_curve(training: Split, test: Split, llms: Llms, params: RouterTrainParams, seed: int) -> Curve:
    """Train the router with another seed and play the test queries."""
    router = train_form("router", training, llms, params.model_copy(update={"seed": seed}), seed)
    return Curve.of(choices(*predictions(router, test), router.cost_scale), test.outcomes)


def _replayed(tuned: TunedBaseline, training: Training, test: Split) -> Curve:
    """Fit a baseline again at its tuned setting, under the seed of `training`, and play the test queries."""
    baseline = type(tuned.baseline)(training)
    baseline.fit(**tuned.setting)
    return baseline.play(Sample.of(test), test.outcomes)


def _check_predictive(named: Sequence[str], baselines: Sequence[str], key: str) -> None:
    for name in named:
        fault = None
        if name not in baselines:
            fault = "is not among `compare_routers.baselines`"
        elif not _weighs(BASELINES[name]):
            fault = "does not weigh a predicted quality against cost, nor could it against waits"
        if fault:
            raise InputError(f"params.yaml: `compare_routers.{key}`: {name} {fault}: leave it out")


def _weighs(baseline: type[Baseline]) -> bool:
    """Whether a baseline is no more than what it predicts, weighed under every trade-off."""
    return issubclass(baseline, Predictive) and baseline.choices is Predictive.choices


def _judge(quality: np.ndarray, cost: np.ndarray, outcomes: Outcomes) -> dict[str, float]:
    return {
        "brier": rounded(brier(quality, outcomes.quality)),
        "ece": rounded(calibration_error(quality.ravel(), outcomes.quality.ravel())),
        "cost_mae_share": rounded(float(ratio(np.abs(cost - outcomes.cost_usd).sum(), outcomes.cost_usd.sum()))),
    }
