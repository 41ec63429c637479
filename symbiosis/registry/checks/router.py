"""A candidate router against the champion on the same held-out queries, and the checks that it must pass by itself."""

from pathlib import Path

import numpy as np

from symbiosis.core import layout
from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.core.statistics import bounds, resample
from symbiosis.registry.checks.check import Check, not_worse
from symbiosis.registry.checks.queries import Calibration, Decided, HeldOut, ServedRouter
from symbiosis.registry.params import GateParams
from symbiosis.routing.learning.serving_state import digest_of
from symbiosis.routing.metrics.curves import Reference, summarise
from symbiosis.routing.metrics.utility import scaled_cost, utility

FEWEST = 20
"""Queries that a judgement needs at least."""
UTILITY, CALIBRATION, AIQ = "utility", "calibration", "AIQ"


def router_checks(candidate: Path, champion: Path | None, root: Path, params: GateParams) -> tuple[Check, ...]:
    """Judge a candidate on the test queries of the workspace.

    Parameters
    ----------
    candidate, champion
        Their bundles; None: there is no champion yet, and the candidate is compared with what knows averages alone.
    root
        The top of the repository.
    params
        Of the gate.

    Raises
    ------
    InputError
        Something that a judgement needs is missing or damaged.
    """
    held_out = HeldOut.read(root)
    ours = ServedRouter.read("candidate", candidate)
    theirs = None if champion is None else ServedRouter.read("champion", champion)
    held_out, fair = _fair(held_out, ours, theirs)
    trade_off = ours.serving.trade_off
    decided = ours.decide(held_out, trade_off)
    if theirs is None:
        return _by_itself(decided, held_out, trade_off, params, fair)
    return _compared(decided, theirs.decide(held_out, trade_off), held_out, (ours, theirs), params, fair)


def _fair(held_out: HeldOut, ours: ServedRouter, theirs: ServedRouter | None) -> tuple[HeldOut, list[str]]:
    """Leave out queries that one of them was trained on; say what was done.

    Raises
    ------
    InputError
        Too few are left, or nobody can tell what the candidate was trained on.
    """
    said = []
    known = ours.trained_on(held_out)
    if known is None:
        known = np.zeros(len(held_out), dtype=bool)
        workspace = held_out.root / layout.ROUTER
        if not workspace.is_dir() or digest_of(ours.folder / layout.ROUTER) != digest_of(workspace):
            raise InputError(
                "the candidate does not tell which texts it was trained on, so no query is known to be new to it: "
                "run `dvc repro router-train` and register that router"
            )
    if theirs is not None:
        seen = theirs.trained_on(held_out)
        if seen is None:
            said.append("the champion does not tell what it was trained on, which may favour it")
        else:
            known = known | seen
    rows = np.flatnonzero(~known)
    if known.any():
        said.append(f"{known.sum():,} of {len(known):,} left out, as one of the two was trained on their text")
    if len(rows) < FEWEST:
        raise InputError(
            f"{len(rows)} test queries are new to both, {FEWEST} are needed: give more data, or a larger "
            "`clean_routing.test_share`"
        )
    if held_out.outcomes.known is not None and not held_out.outcomes.known[rows].all():
        said.append("answers that nobody has given are estimated")
    return held_out.take(rows), said


def _by_itself(
    decided: Decided, held_out: HeldOut, trade_off: float, params: GateParams, fair: list[str]
) -> tuple[Check, ...]:
    """Compare with the LLM that is best on average, and hold the calibration against a limit."""
    offline = held_out.offline
    worth = utility(offline.quality, scaled_cost(offline.cost_usd, held_out.cost_scale), trade_off).mean(axis=0)
    fixed = int(worth.argmax())
    alone = np.full(len(held_out), fixed)
    difference = held_out.utilities(decided.arms, trade_off) - held_out.utilities(alone, trade_off)
    weights = resample(len(held_out), params.bootstrap_samples, params.seed)
    words = "; ".join(
        [
            f"utility on {len(held_out):,} held-out queries at trade-off {trade_off:g}, less that of always asking "
            f"{held_out.llms.names[fixed]}",
            *fair,
        ]
    )
    limit = params.router.calibration_limit
    error = rounded(Calibration.of(decided, decided, held_out.outcomes).error)
    return (
        not_worse(UTILITY, difference.mean(), weights @ difference, params.router.margin, words, by="mean"),
        Check(
            CALIBRATION,
            error <= limit,
            error,
            None,
            None,
            limit,
            f"calibration error {error:.4f}, up to {limit:g} is accepted",
        ),
    )


def _compared(
    ours: Decided,
    theirs: Decided,
    held_out: HeldOut,
    routers: tuple[ServedRouter, ServedRouter],
    params: GateParams,
    fair: list[str],
) -> tuple[Check, ...]:
    """Compare two routers query by query."""
    trade_off = routers[0].serving.trade_off
    weights = resample(len(held_out), params.bootstrap_samples, params.seed)
    difference = held_out.utilities(ours.arms, trade_off) - held_out.utilities(theirs.arms, trade_off)
    same = float((ours.arms == theirs.arms).mean())
    words = "; ".join(
        [
            f"utility on {len(held_out):,} held-out queries at trade-off {trade_off:g}, {same:.0%} decided alike",
            *fair,
            *_differences(routers, held_out),
        ]
    )
    mine = Calibration.of(ours, theirs, held_out.outcomes)
    other = Calibration.of(theirs, ours, held_out.outcomes)
    low, high = (rounded(float(bound)) for bound in bounds(mine.samples(weights) - other.samples(weights)))
    worse, margin = rounded(mine.error - other.error), params.router.calibration_margin
    singles = Reference.choose(held_out.offline).curve(held_out.outcomes)
    areas, sampled = [], []
    for one in (ours, theirs):
        areas.append(summarise(one.curve.points(), singles.points()).aiq)
        pairs = zip(one.curve.points(weights), singles.points(weights), strict=True)
        sampled.append(np.array([summarise(points, ends).aiq for points, ends in pairs]))
    return (
        not_worse(UTILITY, difference.mean(), weights @ difference, params.router.margin, words),
        Check(
            CALIBRATION,
            worse <= margin,
            worse,
            low,
            high,
            margin,
            f"calibration error {mine.error:.4f}, the champion's {other.error:.4f}: {worse:+.4f} "
            f"[{low:+.4f}, {high:+.4f}], up to {margin:g} is accepted",
        ),
        not_worse(
            AIQ,
            areas[0] - areas[1],
            sampled[0] - sampled[1],
            params.router.margin,
            f"AIQ {areas[0]:.4f}, the champion's {areas[1]:.4f}",
            decides=False,
        ),
    )


def _differences(routers: tuple[ServedRouter, ServedRouter], held_out: HeldOut) -> list[str]:
    """Say in what the two differ beside their decisions."""
    table = frozenset(held_out.llms.names)
    said = [
        f"without {', '.join(outside)} of the {one.name}, which the table does not know"
        for one in routers
        if (outside := sorted(one.llms - table))
    ]
    for one, other in (routers, routers[::-1]):
        if more := sorted(one.llms & table - other.llms):
            said.append(f"only the {one.name} knows {', '.join(more)}")
    ours, theirs = (one.serving.trade_off for one in routers)
    if ours != theirs:
        said.append(f"the champion was made for the trade-off {theirs:g}")
    return said
