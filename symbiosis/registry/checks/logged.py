"""What users told of answers, as shown checks: off-policy estimates of candidate and champion on held-out queries.

They decide nothing: a log says little of LLMs that it hardly ever asked, and its queries are those that were served.
"""

from pathlib import Path

import numpy as np

from symbiosis.core import layout
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.core.rounding import rounded
from symbiosis.registry.checks.check import Check
from symbiosis.registry.params import GateParams
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.logged import Logged
from symbiosis.routing.experiments.logged_policy import SHOWN, Comparison, compare
from symbiosis.routing.experiments.logged_rows import Served
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.vector_form import VectorForm

NAME = "logged feedback"
_LABELS = {"dr": "doubly robust", "snips": "self-normalised"}


def logged_checks(candidate: Path, champion: Path | None, root: Path, params: GateParams) -> tuple[Check, ...]:
    """Estimate both on logged feedback that neither was trained on; none without such feedback.

    Whatever fails here refuses no candidate: it is told instead.

    Parameters
    ----------
    candidate, champion
        Their bundles; None: there is no champion yet, and nothing to compare with.
    root
        The top of the repository.
    params
        Of the gate.
    """
    if champion is None or not (root / layout.LOGGED_OUTCOMES).is_file():
        return ()
    try:
        rows = _held_out(root, (candidate, champion))
        if not len(rows):
            return ()
        form = VectorForm.read(root / layout.QUERY_EMBEDDINGS)
        found = compare(
            Served.open(candidate), Served.open(champion), rows,
            form=form, samples=params.bootstrap_samples, seed=params.seed,
        )  # fmt: skip
    except Exception as error:  # shown beside checks that decide, so it must not stand in their way
        return (Check(NAME, False, None, None, None, None, f"logged feedback: {error}", decides=False),)
    return _shown(found, params.router.margin)


def _held_out(root: Path, bundles: tuple[Path, Path]) -> Logged:
    """Return the rows of the log that no router is trained on, and none of these two was."""
    logged = Logged.load(root / layout.LOGGED_OUTCOMES)
    if not len(logged):
        return logged
    share = validate_block(read_document(root / PARAMS_FILE), "router_train", RouterTrainParams).logged.holdout_share
    kept = logged.held_out(share)
    digests = training_texts.of_logged(logged.frame["query"])
    for bundle in bundles:
        seen = training_texts.load(bundle / layout.ROUTER)
        if seen is not None:
            kept &= ~np.isin(digests, seen)
    return logged.take(kept)


def _shown(found: Comparison, margin: float) -> tuple[Check, ...]:
    doubts = f"; not to be trusted: {'; '.join(found.alarms)}" if found.alarms else ""
    if found.difference is None:
        return (Check(NAME, True, None, None, None, None, f"logged feedback{doubts}", decides=False),)
    checks = []
    for name in SHOWN:
        one = found.difference[name]
        value, low, high = (rounded(number) for number in (one.value, one.low, one.high))
        words = (
            f"utility on {len(found.rows):,} logged queries, {_LABELS[name]}: {value:+.4f} [{low:+.4f}, {high:+.4f}]"
            f"{doubts}"
        )
        checks.append(Check(f"{NAME}, {_LABELS[name]}", low > -margin, value, low, high, -margin, words, decides=False))
    return tuple(checks)
