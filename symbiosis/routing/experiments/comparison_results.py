"""The comparison's numbers over all splits, with intervals that know which queries were tested more than once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from symbiosis.core.artifacts import read_array, read_json, write_json
from symbiosis.core.statistics import interval, resample
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.experiments.timed import SINGLES, Streamed
from symbiosis.routing.metrics.curves import SHARES, Curve, Summary, summarise
from symbiosis.routing.metrics.metrics import cost_at, cost_key, hull, ratio, rounded

ROUTER = "router"
STREAMS = "streams.safetensors"


@dataclass(frozen=True)
class Played:
    """One split as it was played.

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
    streams: dict[str, Streamed] = field(default_factory=dict)

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
    def load(cls, folder: Path) -> "Played":
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
        played = {name: Streamed.of(parts) for name, parts in streams.items()}
        return cls(read_array(folder / "rows.npy"), curves, report, played)


def query_weights(splits: Sequence[Played], samples: int, seed: int) -> list[np.ndarray]:
    """Bootstrap weights of each split's test queries, (samples, N) each, rows with sum 1.

    Queries are drawn, not tests: one that several splits tested counts in all of them or in none, so its luck is not
    taken for independent evidence.
    """
    tested = np.unique(np.concatenate([split.rows for split in splits]))
    drawn = resample(len(tested), samples, seed)
    weights = []
    for split in splits:
        own = drawn[:, np.searchsorted(tested, split.rows)]
        weights.append(own / own.sum(axis=1, keepdims=True))
    return weights


def summary(splits: Sequence[Played], samples: int, seed: int) -> dict[str, Any]:
    """Summarise every method over the splits.

    Returns
    -------
    dict
        By method: ``aiq``, ``aiq_to_zero``: means over splits with 95 % interval; ``cost_at_...``: mean share of the
        best single LLM's cost at which the hull reaches a share of its quality, and ``cost_at_..._by_split``, null
        where never; ``mean_curve_...``: the same of the curve that is averaged over splits; ``top_quality`` and
        ``top_cost``: the highest mean quality of a trade-off, and its share of the best single LLM's cost, beside
        ``router_cost_at_top``: what the router's hull pays for that quality, null if some split never reaches it;
        ``router_lead`` with paired interval: AIQ of the router minus the method's.
    """
    weights = query_weights(splits, samples, seed)
    singles = [split.curves[SINGLES] for split in splits]
    sampled_singles = [curve.points(w) for curve, w in zip(singles, weights, strict=True)]
    names = [name for name in splits[0].curves if name != SINGLES]
    sampled: dict[str, np.ndarray] = {}
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
            **_costs(whole, drawn),
            **_mean_curve(curves, singles),
            **_top(curves, singles, weights),
        }
        if ROUTER in splits[0].curves:
            results[name]["router_cost_at_top"] = _router_cost(
                [split.curves[ROUTER] for split in splits], curves, singles
            )
    for name in names:
        if ROUTER in sampled and name != ROUTER:
            results[name]["router_lead"] = rounded(results[ROUTER]["aiq"] - results[name]["aiq"])
            results[name]["router_lead_95"] = interval(sampled[ROUTER] - sampled[name])
    return results


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
        found.append(reached / ends[-1, 0])
    return rounded(float(np.mean(found)))


def operating_point(splits: Sequence[Played], samples: int, seed: int) -> dict[str, Any]:
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
    drawn = singles.points(weights)
    sampled = {
        name: np.array([summarise(p, s).aiq for p, s in zip(curve.points(weights), drawn, strict=True)])
        for name, curve in curves.items()
    }
    results: dict[str, Any] = {}
    for name, curve in curves.items():
        results[name] = {
            "aiq": rounded(summarise(curve.points(), singles.points()).aiq),
            "aiq_95": interval(sampled[name]),
        }
        if name != ROUTER:
            results[name]["router_lead_95"] = interval(sampled[ROUTER] - sampled[name])
    return results
