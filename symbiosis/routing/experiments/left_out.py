"""Whole domains left out: every query is answered by methods that never saw its domain."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symbiosis.core.progress import tqdm
from symbiosis.routing.baselines.base import Sample, Training
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.baselines.tuning import tune
from symbiosis.routing.data.outcomes import Llms, Split
from symbiosis.routing.data.prices import priced
from symbiosis.routing.experiments.comparison import choices, predictions, train_form
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.model.params import RouterTrainParams


def leave_one_domain_out(
    whole: Split, llms: Llms, params: RouterTrainParams, baselines: Sequence[str], seed: int
) -> tuple[dict[str, Curve], dict[str, Any]]:
    """Answer every query with methods trained and tuned on the other domains alone.

    Every method chooses its settings by the same kind of 5-fold cross-validation on the other domains' queries; none
    of them sees a query of the domain left out.

    Returns
    -------
    dict of Curve
        By method, over all N queries in their order.
    dict
        By domain and baseline: the chosen setting and how many were tried.
    """
    domains = np.array(whole.domains, dtype=object)
    parts: dict[str, list[Curve]] = {name: [] for name in ("router", *baselines)}
    settings: dict[str, Any] = {}
    order = []
    for domain in tqdm(sorted(set(whole.domains)), desc="leaving out", unit="domain"):
        rest, own = whole.take(np.flatnonzero(domains != domain)), whole.take(np.flatnonzero(domains == domain))
        order.append(np.flatnonzero(domains == domain))
        fitted = priced(llms, rest.outcomes)
        router = train_form("router", rest, fitted, params, seed)
        parts["router"].append(Curve.of(choices(*predictions(router, own), router.cost_scale), own.outcomes))
        known = Training(Sample.of(rest), rest.outcomes, fitted, seed)
        for name in baselines:
            tuned = tune(BASELINES[name], BASELINES[name].Params(), known)
            parts[name].append(tuned.baseline.play(Sample.of(own), own.outcomes))
            settings.setdefault(domain, {})[name] = {"chosen": tuned.setting, "tried": len(tuned.tried)}
    back = np.argsort(np.concatenate(order))
    return {
        name: Curve(*(np.hstack([getattr(c, what) for c in curves])[:, back] for what in ("quality", "cost")))
        for name, curves in parts.items()
    }, settings
