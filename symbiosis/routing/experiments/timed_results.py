"""Numbers of the timed stream over all splits: what waits and a time limit leave of every method.

Quality and cost count as shares of what the best single LLM gets and costs without waits and limit, as in MixLLM
(arXiv 2502.18482), so that numbers with and without the limit are measured alike. Intervals resample queries; who
waited for whom is left as it happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.core.statistics import interval
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.experiments.comparison_results import SINGLES, Played, query_weights
from symbiosis.routing.experiments.timed import WAITS_SEEN, Streamed
from symbiosis.routing.experiments.waits import LEADER
from symbiosis.routing.metrics.metrics import aiq, cost_at, cost_key, hull, ratio, rounded

LIMITED_SHARES = (0.95, 0.9725)


def summary(splits: Sequence[Played], samples: int, seed: int) -> dict[str, Any]:
    """Summarise every method's stream over the splits.

    Parameters
    ----------
    splits
        Each with streams of the same methods.
    samples, seed
        Of the bootstrap.

    Returns
    -------
    dict
        ``load``: share of its workers' time that each LLM would be busy with all queries, mean over the splits;
        ``params`` of the stream; ``wanted_quality_share``; ``methods``, by name, means over splits with 95 % intervals:

        - ``aiq_idle``, ``aiq``: AIQ of the operating points that were played, without and with the limit;
        - ``cost_at_...``: share of the best single LLM's cost at which the hull under the limit reaches a share of its
          quality, null where some split never does;
        - ``kind``: the baseline's category, or router;
        - at one operating point, the cheapest that keeps ``wanted_quality_share`` of the test queries' quality without
          waits, else the best: ``quality_share_idle`` and ``cost_share_idle`` without waits, ``quality_share``,
          ``cost_share``, ``dropped``, ``failed`` (shares of the queries),
          ``p50_s``, ``p99_s`` (seconds to the answer of those answered, null if there are none);
        - ``lead_aiq``, ``lead_quality_share``: `LEADER` minus the method, paired.
    """
    weights = query_weights(splits, samples, seed)
    share = splits[0].report["operating_point"]["share"]
    references = [_Reference.of(split.streams[SINGLES], w) for split, w in zip(splits, weights, strict=True)]
    sampled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    methods: dict[str, Any] = {}
    for name in (name for name in _names(splits) if name != SINGLES):
        streams = [split.streams[name] for split in splits]
        places = [_operating_point(one, share * r.top) for one, r in zip(streams, references, strict=True)]
        areas = [r.drawn_aiq(one.timed.points(w)) for one, r, w in zip(streams, references, weights, strict=True)]
        kept = [
            ratio(w @ one.timed.quality[place], r.drawn_top)
            for one, place, r, w in zip(streams, places, references, weights, strict=True)
        ]
        sampled[name] = np.mean(areas, axis=0), np.mean(kept, axis=0)
        corners = [r.corners(one.timed.points()) for one, r in zip(streams, references, strict=True)]
        methods[name] = {
            "kind": BASELINES[own].category if (own := name.removesuffix(WAITS_SEEN)) in BASELINES else "router",
            "aiq_idle": _mean(
                [r.aiq(r.idle_corners(s.idle.points())) for s, r in zip(streams, references, strict=True)]
            ),
            "aiq": _mean([r.aiq(c) for c, r in zip(corners, references, strict=True)]),
            "aiq_95": interval(sampled[name][0]),
            **{
                cost_key(part): _mean([r.cost_at(c, part) for c, r in zip(corners, references, strict=True)])
                for part in LIMITED_SHARES
            },
            **_at(streams, places, references),
            "quality_share_95": interval(sampled[name][1]),
        }
    if LEADER in methods:
        for name, own in methods.items():
            if name != LEADER:
                for place, key in enumerate(("aiq", "quality_share")):
                    own[f"lead_{key}"] = rounded(methods[LEADER][key] - own[key])
                    own[f"lead_{key}_95"] = interval(sampled[LEADER][place] - sampled[name][place])
    loads = [split.report["stream"]["load"] for split in splits]
    return {
        "load": {llm: _mean([load[llm] for load in loads]) for llm in loads[0]},
        "params": splits[0].report["stream"]["params"],
        "wanted_quality_share": share,
        "methods": methods,
    }


def _names(splits: Sequence[Played]) -> list[str]:
    """Methods by the order of the comparison, the routers that see the waits after the router."""
    played = splits[0].streams
    known = [name for name in splits[0].curves if name in played]
    after = 1 + known.index("router") if "router" in known else 0
    return known[:after] + sorted((name for name in played if name not in known), reverse=True) + known[after:]


@dataclass(frozen=True)
class _Reference:
    """The cheapest and the best single LLM of a split.

    Attributes
    ----------
    low, high, top
        Cost of both and quality of the best, without waits.
    cheapest, cheapest_idle
        (2,), cost and quality of the cheapest with and without the limit; every method may also send all to it.
    drawn
        (B, 2, 2), (B, 2): costs and quality of both without waits, and the cheapest with the limit, of B bootstrap
        samples.
    """

    low: float
    high: float
    top: float
    cheapest: np.ndarray
    cheapest_idle: np.ndarray
    drawn: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, singles: Streamed, weights: np.ndarray) -> "_Reference":
        idle, timed = singles.idle.points(), singles.timed.points()
        drawn = singles.idle.points(weights), singles.timed.points(weights)[:, 0]
        return cls(float(idle[0, 0]), float(idle[1, 0]), float(idle[1, 1]), timed[0], idle[0], drawn)

    @property
    def drawn_top(self) -> np.ndarray:
        return self.drawn[0][:, 1, 1]

    def corners(self, points: np.ndarray) -> np.ndarray:
        return hull(*np.vstack([points, self.cheapest]).T)

    def idle_corners(self, points: np.ndarray) -> np.ndarray:
        return hull(*np.vstack([points, self.cheapest_idle]).T)

    def aiq(self, corners: np.ndarray) -> float:
        return aiq(corners, self.low, self.high)

    def drawn_aiq(self, points: np.ndarray) -> np.ndarray:
        """AIQ (B,) of points (B, M, 2) under the limit."""
        ends, cheapest = self.drawn
        return np.array(
            [
                aiq(hull(*np.vstack([own, floor]).T), float(low), float(high))
                for own, floor, (low, high) in zip(points, cheapest, ends[:, :, 0], strict=True)
            ]
        )

    def cost_at(self, corners: np.ndarray, share: float) -> float | None:
        cost = cost_at(corners, share * self.top)
        return None if cost is None or self.high <= 0 else cost / self.high


def _operating_point(stream: Streamed, wanted: float) -> int:
    cost, quality = stream.idle.points().T
    good = np.flatnonzero(quality >= wanted)
    return int(good[cost[good].argmin()]) if len(good) else int(quality.argmax())


def _at(streams: Sequence[Streamed], places: Sequence[int], references: Sequence[_Reference]) -> dict[str, Any]:
    """Means over splits at one operating point of each."""
    found: dict[str, list[float | None]] = {}
    for stream, place, reference in zip(streams, places, references, strict=True):
        took = stream.completion_s[place][~np.isnan(stream.completion_s[place])]
        numbers = {
            "quality_share_idle": float(ratio(stream.idle.quality[place].mean(), reference.top)),
            "quality_share": float(ratio(stream.timed.quality[place].mean(), reference.top)),
            "cost_share_idle": float(ratio(stream.idle.cost[place].mean(), reference.high)),
            "cost_share": float(ratio(stream.timed.cost[place].mean(), reference.high)),
            "dropped": float(stream.dropped[place].mean()),
            "failed": float(stream.failed[place].mean()),
            "p50_s": float(np.quantile(took, 0.5)) if len(took) else None,
            "p99_s": float(np.quantile(took, 0.99)) if len(took) else None,
        }
        for key, value in numbers.items():
            found.setdefault(key, []).append(value)
    return {key: _mean(values) for key, values in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(float(np.mean(known))) if len(known) == len(values) else None
