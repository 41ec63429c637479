"""The comparison's numbers over all splits, with intervals that know which queries were tested more than once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from symbiosis.core.artifacts import read_array, read_json, write_json
from symbiosis.core.rounding import rounded
from symbiosis.core.statistics import interval, resample, resampled_counts
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.experiments.timed import SINGLES, TimedCurve
from symbiosis.routing.metrics.curves import SHARES, Curve, Summary, summarise
from symbiosis.routing.metrics.metrics import cost_at, cost_key, hull, ratio
from symbiosis.routing.metrics.standard import mean_scores

ROUTER = "router"
STREAMS = "streams.safetensors"


@dataclass(frozen=True)
class SplitResult:
    """Every method's curves on one split.

    Attributes
    ----------
    rows
        (N,), the test queries among all.
    curves
        By method, `SINGLES` among them.
    report
        Settings and calibration.
    streams
        By method, `SINGLES` among them; empty if no stream was played.
    """

    rows: np.ndarray
    curves: dict[str, Curve]
    report: dict[str, Any]
    streams: dict[str, TimedCurve] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write into a new folder."""
        from safetensors.numpy import save_file

        folder.mkdir()
        np.save(folder / "rows.npy", self.rows)
        tensors = {
            f"{name}.{part}": getattr(curve, part).astype(np.float32)
            for name, curve in sorted(self.curves.items())
            for part in ("quality", "cost")
        }
        save_file(
            {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "curves.safetensors"
        )
        if self.streams:
            parts = {
                f"{name}.{part}": tensor
                for name, stream in sorted(self.streams.items())
                for part, tensor in stream.tensors().items()
            }
            save_file(parts, folder / STREAMS)
        write_json(folder / "report.json", {"methods": list(self.curves), **self.report})

    @classmethod
    def load(cls, folder: Path) -> "SplitResult":
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        report = read_json(folder / "report.json")
        tensors = load_file(folder / "curves.safetensors")
        names = report.pop("methods")
        curves = {
            name: Curve(*(tensors[f"{name}.{part}"].astype(np.float64) for part in ("quality", "cost")))
            for name in names
        }
        streams: dict[str, dict[str, np.ndarray]] = {}
        if (folder / STREAMS).is_file():
            for key, tensor in load_file(folder / STREAMS).items():
                name, part = key.rsplit(".", 1)
                streams.setdefault(name, {})[part] = tensor
        played = {name: TimedCurve.of(parts) for name, parts in streams.items()}
        return cls(read_array(folder / "rows.npy"), curves, report, played)


def query_weights(splits: Sequence[SplitResult], samples: int, seed: int) -> list[np.ndarray]:
    """Bootstrap weights of each split's test queries, (samples, N) each, rows with sum 1.

    Queries are drawn, not tests: one that several splits tested counts in all of them or in none, so its luck is not
    taken for independent evidence.
    """
    tested = np.unique(np.concatenate([split.rows for split in splits]))
    drawn = resampled_counts(len(tested), samples, seed)
    weights = []
    for split in splits:
        own = drawn[:, np.searchsorted(tested, split.rows)]
        total = own.sum(axis=1, keepdims=True)
        # A sample may hold no query of a small split, which then counts whole.
        weights.append(np.where(total > 0, own / np.maximum(total, 1), 1 / len(split.rows)))
    return weights


def summary(splits: Sequence[SplitResult], samples: int, seed: int) -> dict[str, Any]:
    """Summarise every method over the splits.

    Returns
    -------
    dict
        By method, means over splits with 95 % intervals:

        - ``aiq``, ``aiq_to_zero``; ``aiq_log``: over log cost, absent if the cheapest LLM is free; ``aiq_seeds``:
          mean, least and largest AIQ over the method's seeds, if it was run with several;
        - ``cost_at_...``: share of the best single LLM's cost at which the hull reaches a share of its quality, and
          ``cost_at_..._by_split``, null where never; ``mean_curve_...``: the same of the curve that is averaged over
          splits;
        - ``top_quality`` and ``top_cost``: the highest mean quality of a trade-off, and its share of the best single
          LLM's cost, beside ``router_cost_at_top``: what the router's hull pays for that quality, null if some split
          never reaches it, and ``router_quality_at_top``: what the router's hull has at that cost;
        - ``standard``: scores that others report, see `symbiosis.routing.metrics.standard`;
        - ``router_lead`` and ``router_lead_log``: AIQ of the router minus the method's, paired.
    """
    weights = query_weights(splits, samples, seed)
    singles = [split.curves[SINGLES] for split in splits]
    sampled_singles = [curve.points(w) for curve, w in zip(singles, weights, strict=True)]
    names = [name for name in splits[0].curves if name != SINGLES]
    sampled: dict[str, np.ndarray] = {}
    sampled_log: dict[str, np.ndarray] = {}
    results: dict[str, Any] = {}
    for name in names:
        curves = [split.curves[name] for split in splits]
        whole = [summarise(c.points(), s.points()) for c, s in zip(curves, singles, strict=True)]
        drawn = [
            [summarise(p, s) for p, s in zip(curve.points(w), single, strict=True)]
            for curve, w, single in zip(curves, weights, sampled_singles, strict=True)
        ]
        sampled[name] = _over(drawn, "aiq")
        results[name] = {
            "kind": BASELINES[name].category if name in BASELINES else "router",
            "aiq": rounded(float(np.mean([one.aiq for one in whole]))),
            "aiq_95": interval(sampled[name]),
            "aiq_to_zero": rounded(float(np.mean([one.aiq_to_zero for one in whole]))),
            "aiq_by_split": [rounded(one.aiq) for one in whole],
            **_log_axis(name, whole, drawn, sampled_log),
            **_spread([split.report.get("aiq_by_seed", {}).get(name) for split in splits]),
            **_costs(whole, drawn),
            **_mean_curve(curves, singles),
            **_top(curves, singles, weights),
            "standard": mean_scores([curve.points() for curve in curves], [single.points() for single in singles]),
        }
        if ROUTER in splits[0].curves:
            routers = [split.curves[ROUTER] for split in splits]
            results[name]["router_cost_at_top"] = _router_cost(routers, curves, singles)
            results[name]["router_quality_at_top"] = _router_quality(routers, curves, singles)
    for name in names:
        if ROUTER in sampled and name != ROUTER:
            results[name]["router_lead"] = rounded(results[ROUTER]["aiq"] - results[name]["aiq"])
            results[name]["router_lead_95"] = interval(sampled[ROUTER] - sampled[name])
            if name in sampled_log and ROUTER in sampled_log:
                results[name]["router_lead_log"] = rounded(results[ROUTER]["aiq_log"] - results[name]["aiq_log"])
                results[name]["router_lead_log_95"] = interval(sampled_log[ROUTER] - sampled_log[name])
    return results


def _log_axis(
    name: str, whole: Sequence[Summary], drawn: Sequence[Sequence[Summary]], sampled: dict[str, np.ndarray]
) -> dict[str, Any]:
    """AIQ over log cost with its interval; nothing where the cheapest LLM is free. Adds the samples to `sampled`."""
    mean, samples = float(np.mean([one.aiq_log for one in whole])), _over(drawn, "aiq_log")
    if np.isnan(mean) or np.isnan(samples).any():
        return {}
    sampled[name] = samples
    return {"aiq_log": rounded(mean), "aiq_log_95": interval(samples)}


def _spread(by_split: Sequence[Sequence[float] | None]) -> dict[str, Any]:
    """AIQ over seeds: each seed's mean over the splits, then mean, least and largest; nothing with one seed."""
    known = [areas for areas in by_split if areas is not None]
    if not known or len(known) < len(by_split):
        return {}
    seeds = np.mean(known, axis=0)
    return {
        "aiq_seeds": {
            "seeds": len(seeds),
            "mean": rounded(float(seeds.mean())),
            "low": rounded(float(seeds.min())),
            "high": rounded(float(seeds.max())),
        }
    }


def _over(drawn: Sequence[Sequence[Summary]], what: str) -> np.ndarray:
    return np.mean([[getattr(one, what) for one in per_split] for per_split in drawn], axis=0)


def _costs(whole: Sequence[Summary], drawn: Sequence[Sequence[Summary]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for share in SHARES:
        key = cost_key(share)
        by_split = [one.cost_at[share] for one in whole]
        found[f"{key}_by_split"] = [None if cost is None else rounded(cost) for cost in by_split]
        reached = [cost for cost in by_split if cost is not None]
        if len(reached) == len(by_split):
            found[key] = rounded(float(np.mean(reached)))
            samples = [[one.cost_at[share] for one in per_split] for per_split in drawn]
            # A sample in which it is never reached costs at least all of the best single LLM.
            known = np.mean([[1.0 if cost is None else cost for cost in row] for row in samples], axis=0)
            found[f"{key}_95"] = interval(known)
    return found


def shares(curve: Curve, singles: Curve, weights: np.ndarray | None = None) -> np.ndarray:
    """Cost and quality of operating points as shares of the best single LLM's, (..., P, 2)."""
    best = singles.points(weights)[..., -1:, :]
    return np.asarray(ratio(curve.points(weights), best * np.ones_like(curve.points(weights))))


def _mean_curve(curves: Sequence[Curve], singles: Sequence[Curve]) -> dict[str, Any]:
    points = np.mean([shares(c, s) for c, s in zip(curves, singles, strict=True)], axis=0)
    corners = hull(points[:, 0], points[:, 1])
    found = {}
    for share in SHARES:
        if corners[-1, 1] >= share:
            found[f"mean_curve_{cost_key(share)}"] = rounded(float(np.interp(share, corners[:, 1], corners[:, 0])))
    return found


def _top(curves: Sequence[Curve], singles: Sequence[Curve], weights: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean over splits of quality and cost where quality is highest; intervals at those same trade-offs."""
    places = [int(curve.quality.mean(axis=1).argmax()) for curve in curves]
    whole = [
        (curve.quality[place].mean(), shares(curve, single)[place, 0])
        for curve, single, place in zip(curves, singles, places, strict=True)
    ]
    sampled = [w @ curve.quality[place] for curve, place, w in zip(curves, places, weights, strict=True)]
    quality, cost = np.mean(whole, axis=0)
    return {
        "top_quality": rounded(float(quality)),
        "top_quality_95": interval(np.mean(sampled, axis=0)),
        "top_cost": rounded(float(cost)),
    }


def _router_cost(routers: Sequence[Curve], curves: Sequence[Curve], singles: Sequence[Curve]) -> float | None:
    """Share of the best single LLM's cost at which the router's hull reaches a method's highest quality; mean."""
    found = []
    for router, curve, single in zip(routers, curves, singles, strict=True):
        ends = single.points()
        reached = cost_at(summarise(router.points(), ends).corners, float(curve.quality.mean(axis=1).max()))
        if reached is None:
            return None
        found.append(float(ratio(reached, ends[-1, 0])))
    return rounded(float(np.mean(found)))


def _router_quality(routers: Sequence[Curve], curves: Sequence[Curve], singles: Sequence[Curve]) -> float:
    """Quality of the router's hull at the cost at which a method's quality is highest; mean."""
    found = []
    for router, curve, single in zip(routers, curves, singles, strict=True):
        corners = summarise(router.points(), single.points()).corners
        cost = curve.cost[int(curve.quality.mean(axis=1).argmax())].mean()
        found.append(float(np.interp(cost, corners[:, 0], corners[:, 1])))
    return rounded(float(np.mean(found)))


def operating_point(splits: Sequence[SplitResult], samples: int, seed: int) -> dict[str, Any]:
    """Shares of quality and cost at the trade-off that each split chose on its training queries."""
    weights = query_weights(splits, samples, seed)
    whole, drawn = [], []
    for split, w in zip(splits, weights, strict=True):
        position = split.report["operating_point"]["position"]
        whole.append(shares(split.curves[ROUTER], split.curves[SINGLES])[position])
        drawn.append(shares(split.curves[ROUTER], split.curves[SINGLES], w)[:, position])
    mean, sampled = np.mean(whole, axis=0), np.mean(drawn, axis=0)
    return {
        "wanted_quality_share": splits[0].report["operating_point"]["share"],
        "quality_share": rounded(mean[1]),
        "quality_share_95": interval(sampled[:, 1]),
        "cost_share": rounded(mean[0]),
        "cost_share_95": interval(sampled[:, 0]),
        "by_split": [{"cost_share": rounded(cost), "quality_share": rounded(quality)} for cost, quality in whole],
        "trade_offs": [rounded(split.report["operating_point"]["trade_off"]) for split in splits],
    }


def by_domain(curves: Mapping[str, Curve], singles: Curve, samples: int, seed: int) -> dict[str, Any]:
    """AIQ of each method with whole domains left out, and the router's lead, with intervals over queries."""
    weights = resample(singles.quality.shape[1], samples, seed)
    ends = singles.points(weights)
    whole = {name: summarise(curve.points(), singles.points()) for name, curve in curves.items()}
    drawn = {
        name: [summarise(p, s) for p, s in zip(curve.points(weights), ends, strict=True)]
        for name, curve in curves.items()
    }
    sampled = {name: np.array([one.aiq for one in ones]) for name, ones in drawn.items()}
    sampled_log: dict[str, np.ndarray] = {}
    results: dict[str, Any] = {}
    for name in curves:
        results[name] = {
            "aiq": rounded(whole[name].aiq),
            "aiq_95": interval(sampled[name]),
            **_log_axis(name, [whole[name]], [drawn[name]], sampled_log),
        }
        if name != ROUTER:
            results[name]["router_lead"] = rounded(whole[ROUTER].aiq - whole[name].aiq)
            results[name]["router_lead_95"] = interval(sampled[ROUTER] - sampled[name])
    return results
