"""How the settings of all baselines are chosen: by the same cross-validation on the training queries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.core.progress import tqdm
from symbiosis.routing.baselines.base import Baseline, BaselineParams, Training
from symbiosis.routing.metrics.curves import Curve, summarise


@dataclass(frozen=True)
class TunedBaseline:
    """A fitted baseline.

    Attributes
    ----------
    baseline
        Fitted to all training queries.
    setting
        The chosen one.
    tried
        Each setting with the area under its quality-cost curve of held-out training queries; empty if there was
        nothing to choose.
    """

    baseline: Baseline
    setting: dict[str, Any]
    tried: list[dict[str, Any]]


def tune(
    kind: type[Baseline], params: BaselineParams, training: Training, small: Training | None = None
) -> TunedBaseline:
    """Try every setting by 5-fold cross-validation and fit the best one to all training queries.

    The criterion is AIQ, the area under the quality-cost curve, over the held-out queries of all folds together; of
    equal settings the first wins.

    Parameters
    ----------
    kind
        The baseline.
    params
        The settings to be tried.
    training
        Reuse the same object for all baselines: folds, features and costs are then computed once.
    small
        Some of the training queries, for the cross-validation alone, where all would take too long.
    """
    small = training if small is None else small
    settings = list(params.settings())
    tried: list[dict[str, Any]] = []
    if len(settings) > 1:
        played: list[list[Curve]] = [[] for _ in settings]
        for rest, own in tqdm(small.folds, desc=f"tuning {kind.__name__}", unit="fold", leave=False):
            baseline, sample, outcomes = kind(rest), small.sample.take(own), small.outcomes.take(own)
            for setting, curves in zip(settings, played, strict=True):
                baseline.fit(**setting)
                curves.append(baseline.play(sample, outcomes))
        order = np.concatenate([own for _, own in small.folds])
        singles = small.reference.curve(small.outcomes.take(order)).points()
        for setting, curves in zip(settings, played, strict=True):
            whole = Curve(*(np.hstack([getattr(c, part) for c in curves]) for part in ("quality", "cost")))
            tried.append({"setting": setting, "aiq": summarise(whole.points(), singles).aiq})
    chosen = max(tried, key=lambda trial: trial["aiq"])["setting"] if tried else settings[0]
    baseline = kind(training)
    baseline.fit(**chosen)
    return TunedBaseline(baseline, chosen, tried)
