"""One split of the study of feedback: continual learning, LLMs that join, and off-policy estimates."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.rounding import all_rounded, rounded
from symbiosis.core.statistics import resample
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.experiments.continual import FeedbackResult, continual, divide, gains, pooled
from symbiosis.routing.experiments.newcomers import ROUTERS, NewcomerResult, adapt
from symbiosis.routing.experiments.off_policy import EstimateCheck, certain, check_estimates
from symbiosis.routing.experiments.online import rule_of
from symbiosis.routing.experiments.params import OnlineReplayParams, StudyFeedbackParams
from symbiosis.routing.fitting.choice import choose
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.policy.objectives import Outlook, Paper, decide

ESTIMATES_OFFLINE_SHARE = 0.5  # of the training queries; the others are logged


@dataclass(frozen=True)
class StudyResult:
    """Results of one split of the study.

    Attributes
    ----------
    learned
        By offline share and kind of feedback.
    adapted
        LLMs that joined.
    estimates
        By target policy: the truth and, by estimator, the estimate with its interval.
    """

    learned: dict[float, dict[str, FeedbackResult]]
    adapted: NewcomerResult
    estimates: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write into a new folder."""
        from safetensors.numpy import save_file

        folder.mkdir()
        tensors = {
            **_flat({f"{share}/{kind}": one for share, kinds in self.learned.items() for kind, one in kinds.items()}),
            **{f"adapted/{name}": self.adapted.utility[name] for name in ROUTERS},
            "adapted/steps": self.adapted.steps,
            "adapted/queries": self.adapted.queries,
        }
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "study.safetensors")
        report = {
            "offline_shares": list(self.learned),
            "kinds": list(next(iter(self.learned.values()))),
            "withheld": list(self.adapted.withheld),
            "probe_usd": self.adapted.probe_usd,
            "estimates": self.estimates,
        }
        write_json(folder / "report.json", report)

    @classmethod
    def load(cls, folder: Path) -> "StudyResult":
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        report, tensors = read_json(folder / "report.json"), load_file(folder / "study.safetensors")
        learned = {
            share: {kind: _learned(tensors, f"{share}/{kind}") for kind in report["kinds"]}
            for share in report["offline_shares"]
        }
        adapted = NewcomerResult(
            tensors["adapted/steps"],
            tensors["adapted/queries"],
            {name: tensors[f"adapted/{name}"] for name in ROUTERS},
            tuple(report["withheld"]),
            report["probe_usd"],
        )
        return cls(learned, adapted, report["estimates"])


CURVES = ("curve", "singles")
ARRAYS = tuple(field.name for field in fields(FeedbackResult) if field.name not in CURVES)


def _flat(learned: dict[str, FeedbackResult]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for prefix, one in learned.items():
        tensors |= {f"{prefix}/{name}": getattr(one, name) for name in ARRAYS}
        for name in CURVES:
            curve = getattr(one, name)
            tensors |= {
                f"{prefix}/{name}.{part}": getattr(curve, part).astype(np.float32) for part in ("quality", "cost")
            }
    return tensors


def _learned(tensors: dict[str, np.ndarray], prefix: str) -> FeedbackResult:
    curves: dict[str, Any] = {
        name: Curve(*(tensors[f"{prefix}/{name}.{part}"].astype(np.float64) for part in ("quality", "cost")))
        for name in CURVES
    }
    values: dict[str, Any] = {name: tensors[f"{prefix}/{name}"] for name in ARRAYS}
    return FeedbackResult(**values, **curves)


def study(
    training: Split,
    test: Split,
    llms: Llms,
    train_params: RouterTrainParams,
    replay: OnlineReplayParams,
    params: StudyFeedbackParams,
    seed: int,
) -> StudyResult:
    """Study one split.

    Parameters
    ----------
    training, test
        The split.
    llms
        The LLMs; their prices are fitted anew, to training outcomes.
    train_params, replay, params
        Of the router's training, of its stream, and of this study.
    seed
        Of the divisions, streams and draws.
    """
    llms = priced(llms, training.outcomes)
    # Once, on queries that are offline at every share: the larger offline parts begin with the smaller ones.
    least = min(*params.offline_shares, params.adaptability.offline_share, ESTIMATES_OFFLINE_SHARE)
    train_params = choose(divide(training, least, seed)[0], llms, train_params).params
    learned = {
        share: continual(training, test, llms, share, train_params, replay, seed) for share in params.offline_shares
    }
    joining = params.adaptability
    adapted = adapt(
        training,
        test,
        llms,
        joining.offline_share,
        train_params,
        replay,
        seed,
        withheld=joining.withheld,
        probes=joining.probes,
        queries=joining.queries,
        every=joining.every,
    )
    return StudyResult(learned, adapted, _estimates(training, llms, train_params, replay, params, seed))


def _estimates(
    training: Split,
    llms: Llms,
    train_params: RouterTrainParams,
    replay: OnlineReplayParams,
    params: StudyFeedbackParams,
    seed: int,
) -> dict[str, Any]:
    """Estimate from a logged stream what single LLMs and the greedy router earn on it."""
    offline, stream = divide(training, ESTIMATES_OFFLINE_SHARE, seed)
    router, _ = train(offline, llms, train_params)
    noise = Experience.fit(router, offline.embeddings, offline.outcomes, train_params.serving.satisfied_above).noise
    rule, n = rule_of(replay), len(stream.outcomes)
    predictions = router.predict(router.feature_map(stream.embeddings))

    greedy = decide(Paper(rule), Outlook.of(router, predictions)).choice()
    best, cheapest = offline.outcomes.quality.mean(axis=0).argmax(), offline.outcomes.cost_usd.mean(axis=0).argmin()
    targets = {
        "router": certain(greedy, len(llms)),
        "best_single": certain(np.full(n, best), len(llms)),
        "cheapest": certain(np.full(n, cheapest), len(llms)),
        "random": np.full((n, len(llms)), 1 / len(llms)),
    }
    checked = check_estimates(
        router, stream, rule, noise, targets, params.logging.kind, params.logging.amount, seed, samples=500
    )
    return {name: _estimate_numbers(one) for name, one in checked.items()}


def _estimate_numbers(one: EstimateCheck) -> dict[str, Any]:
    return {
        "truth": rounded(one.truth),
        "effective_sample_size": rounded(one.report.effective_sample_size),
        "alarms": list(one.report.alarms),
        "estimates": {
            name: {
                "value": rounded(estimate.value),
                "low": rounded(estimate.low),
                "high": rounded(estimate.high),
            }
            for name, estimate in one.report.estimates.items()
        },
    }


def summary(studies: Sequence[StudyResult], samples: int, seed: int) -> dict[str, Any]:
    """Summarise over splits; a test query counts once, with its mean over the splits that tested it."""
    learned: dict[str, Any] = {}
    for share, kinds in studies[0].learned.items():
        together = {kind: pooled([one.learned[share][kind] for one in studies]) for kind in kinds}
        weights = resample(len(together["none"].queries), samples, seed)
        learned[f"{share:g}"] = all_rounded(gains(together, weights))
    return {
        "continual": learned,
        "adaptability": {
            "withheld": [list(one.adapted.withheld) for one in studies],
            "probe_usd": rounded(float(np.mean([one.adapted.probe_usd for one in studies]))),
            "recovered": _recovered([one.adapted for one in studies], samples, seed),
        },
        "estimates": [one.estimates for one in studies],
    }


def _recovered(adapted: Sequence[NewcomerResult], samples: int, seed: int) -> list[dict[str, Any]]:
    """Pool the splits: each test query with its mean over the splits that tested it."""
    steps = adapted[0].steps[: min(len(one.steps) for one in adapted)]
    queries, place = np.unique(np.concatenate([one.queries for one in adapted]), return_inverse=True)
    counts = np.bincount(place)
    worth = {
        name: np.stack(
            [
                np.bincount(place, np.concatenate([one.utility[name][step] for one in adapted])) / counts
                for step in range(len(steps))
            ]
        )
        for name in ROUTERS
    }
    joined = NewcomerResult(steps, queries, worth, (), 0.0)
    rows = joined.recovered(resample(len(queries), samples, seed))
    return [{key: value if key == "step" else rounded(value) for key, value in row.items()} for row in rows]
